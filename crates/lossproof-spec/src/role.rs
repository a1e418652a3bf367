//! What a parameter does in a model: what its initial values, its structural zeros and its scale follow from.

use serde::{Deserialize, Serialize};

/// What a parameter does in a transformer with normalisation in front of its blocks.
///
/// Hugging Face's names of GPT-2 and Llama imply their roles ([`of_name`](Self::of_name)); a trainer with
/// other names declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// One row for each token, which the residual stream begins with.
    TokenEmbedding,
    /// What the rows of the token embedding are multiplied by: 1 changes nothing.
    EmbeddingScale,
    /// One row for each position, which is added to it.
    PositionEmbedding,
    /// What normalised activations are multiplied by: 1 changes nothing.
    NormGain,
    /// The same where 0 changes nothing: activations are multiplied by `1 + g`.
    NormGainFromZero,
    /// What is added to them.
    NormBias,
    /// A [gain](Self::NormGain) of the norm in front of the head.
    FinalNormGain,
    /// What is added behind that gain: where the gain is zero, the head sees nothing else.
    FinalNormBias,
    /// Weights of queries, keys and values side by side, each a third of the last dimension.
    QueryKeyValue,
    /// Biases of queries, keys and values, each a third.
    QueryKeyValueBias,
    /// Weights of the queries.
    Query,
    /// Weights of the keys.
    Key,
    /// Biases of the queries.
    QueryBias,
    /// Biases of the keys.
    KeyBias,
    /// Biases of the values.
    ValueBias,
    /// Weights whose products are added to the residual stream.
    BlockOutput,
    /// Biases that are added to the residual stream.
    BlockOutputBias,
    /// Weights that make logits of the last activations, where they are not the token embedding.
    Head,
    /// What is added to the logits.
    HeadBias,
    /// What the logits are multiplied by: 1 changes nothing.
    LogitScale,
    /// The first factor A of a low-rank change B·A of a weight: what its input is multiplied by.
    LowRankIn,
    /// The second factor B of a low-rank change of a weight: the weight stays as it is where B is zero, as it
    /// is in the beginning.
    LowRankOut,
    /// Any other bias.
    Bias,
    /// Any other weight.
    Weight,
}

impl Role {
    /// The role that a name implies: those of Hugging Face's GPT-2, with the prefix `transformer.` or without, and
    /// of its Llama, with `model.` or without, with the biases that its kin have, and peft's of low-rank adapters.
    /// Of other names, that they end in `bias`.
    ///
    /// ```
    /// use lossproof_spec::Role;
    ///
    /// assert_eq!(Role::of_name("h.0.ln_1.weight"), Role::NormGain);
    /// assert_eq!(Role::of_name("model.layers.3.self_attn.o_proj.weight"), Role::BlockOutput);
    /// assert_eq!(Role::of_name("blocks.0.gate.bias"), Role::Bias);
    /// ```
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let name = without_prefix(name);
        // Not within a layer: there, a norm of this name is one of many.
        match name {
            "ln_f.weight" | "norm.weight" => return Self::FinalNormGain,
            "ln_f.bias" => return Self::FinalNormBias,
            _ => {}
        }
        let known = match in_block(name).map_or(name, |(_, rest)| rest) {
            "wte.weight" | "embed_tokens.weight" => Some(Self::TokenEmbedding),
            "wpe.weight" => Some(Self::PositionEmbedding),
            "ln_1.weight" | "ln_2.weight" | "input_layernorm.weight" | "post_attention_layernorm.weight" => {
                Some(Self::NormGain)
            }
            "ln_1.bias" | "ln_2.bias" => Some(Self::NormBias),
            "attn.c_attn.weight" => Some(Self::QueryKeyValue),
            "attn.c_attn.bias" => Some(Self::QueryKeyValueBias),
            "self_attn.q_proj.weight" => Some(Self::Query),
            "self_attn.k_proj.weight" => Some(Self::Key),
            "self_attn.q_proj.bias" => Some(Self::QueryBias),
            "self_attn.k_proj.bias" => Some(Self::KeyBias),
            "self_attn.v_proj.bias" => Some(Self::ValueBias),
            "attn.c_proj.weight"
            | "mlp.c_proj.weight"
            | "self_attn.o_proj.weight"
            | "mlp.down_proj.weight" => Some(Self::BlockOutput),
            "attn.c_proj.bias" | "mlp.c_proj.bias" | "self_attn.o_proj.bias" | "mlp.down_proj.bias" => {
                Some(Self::BlockOutputBias)
            }
            "lm_head.weight" => Some(Self::Head),
            "lm_head.bias" => Some(Self::HeadBias),
            adapter if adapter.ends_with(".lora_A.weight") => Some(Self::LowRankIn),
            adapter if adapter.ends_with(".lora_B.weight") => Some(Self::LowRankOut),
            _ => None,
        };
        known.unwrap_or_else(|| if name.ends_with("bias") { Self::Bias } else { Self::Weight })
    }

    /// The number of the block that a name of those implies, counted from 0; `None` outside the blocks.
    ///
    /// ```
    /// use lossproof_spec::Role;
    ///
    /// assert_eq!(Role::block_of_name("layers.3.self_attn.o_proj.weight"), Some(3));
    /// assert_eq!(Role::block_of_name("ln_f.weight"), None);
    /// ```
    #[must_use]
    pub fn block_of_name(name: &str) -> Option<usize> {
        in_block(without_prefix(name)).map(|(block, _)| block)
    }

    /// Whether it is what normalised activations are multiplied by.
    #[must_use]
    pub fn is_gain(self) -> bool {
        matches!(self, Self::NormGain | Self::NormGainFromZero | Self::FinalNormGain)
    }

    /// Whether it is what is added to normalised activations.
    #[must_use]
    pub fn is_norm_bias(self) -> bool {
        matches!(self, Self::NormBias | Self::FinalNormBias)
    }

    /// Whether it is one factor on everything there: 1 changes nothing.
    #[must_use]
    pub fn is_scale(self) -> bool {
        matches!(self, Self::EmbeddingScale | Self::LogitScale)
    }

    /// Whether it is added to activations.
    #[must_use]
    pub fn is_bias(self) -> bool {
        matches!(
            self,
            Self::NormBias
                | Self::FinalNormBias
                | Self::QueryKeyValueBias
                | Self::QueryBias
                | Self::KeyBias
                | Self::ValueBias
                | Self::BlockOutputBias
                | Self::HeadBias
                | Self::Bias
        )
    }
}

/// The number of the block that a name begins with, and the rest of the name.
fn in_block(name: &str) -> Option<(usize, &str)> {
    let (block, rest) = name.strip_prefix("h.").or_else(|| name.strip_prefix("layers."))?.split_once('.')?;
    let digits = block.bytes().all(|byte| byte.is_ascii_digit());
    Some((block.parse().ok().filter(|_| digits)?, rest))
}

/// The name inside of the model that has the head.
fn without_prefix(name: &str) -> &str {
    name.strip_prefix("transformer.").or_else(|| name.strip_prefix("model.")).unwrap_or(name)
}
