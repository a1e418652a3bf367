//! What the trainer asks of an architecture, answered for Llama.

use super::model::Llama;
use super::{Adapters, LlamaConfig};
use crate::architecture::{Architecture, Declared, Initial, Model, too_large};
use lossproof_subject::ModelInfo;
use tch::Tensor;

/// Standard deviation of the initial weights, Hugging Face's `initializer_range`.
const DEVIATION: f64 = 0.02;

impl Architecture for LlamaConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn layout(&self) -> &'static str {
        "Linear weights are [out, in]"
    }

    fn problem(&self) -> Option<String> {
        let sizes = [self.vocabulary, self.positions, self.width, self.heads, self.key_value_heads];
        let positive = |number: f64| number.is_finite() && number > 0.0;
        if sizes.contains(&0) || [self.head_size, self.feed_forward].contains(&0) {
            Some("every size but the number of layers must be positive".to_owned())
        } else if !self.heads.is_multiple_of(self.key_value_heads) {
            let (heads, keys) = (self.heads, self.key_value_heads);
            Some(format!(
                "{heads} heads are not a multiple of {keys} key and value heads: change one of them"
            ))
        } else if !self.head_size.is_multiple_of(2) {
            Some(format!("a head of {} features has no pairs to turn: take an even size", self.head_size))
        } else if !positive(self.rms_epsilon) {
            Some(format!("the ε {} of the RMS norms is not a positive number", self.rms_epsilon))
        } else if !positive(self.rotary_base) {
            Some(format!("the rotary base {} is not a positive number", self.rotary_base))
        } else if !positive(self.embedding_scale) {
            Some(format!("the scale {} of the embedding is not a positive number", self.embedding_scale))
        } else if !positive(self.logit_scale) {
            Some(format!("the scale {} of the logits is not a positive number", self.logit_scale))
        } else if let Some(cap) = self.logit_cap.filter(|&cap| !positive(cap)) {
            Some(format!("the cap {cap} of the logits is not a positive number"))
        } else if self.adapters.is_some_and(|adapters| adapters.rank == 0 || !positive(adapters.alpha)) {
            Some("adapters need a positive rank and a positive α".to_owned())
        } else {
            too_large(self.elements())
        }
    }

    /// They start as Hugging Face's do: normal weights, gains one. Adapters come last, and where there are some
    /// the rest is frozen.
    fn parameters(&self) -> Vec<Declared> {
        let (width, hidden) = (self.width, self.feed_forward);
        let (queries, keys) = (self.heads * self.head_size, self.key_value_heads * self.head_size);
        let weight = |name: String, shape: [usize; 2]| Declared::new(name, shape, Initial::Normal(DEVIATION));
        let gain = |name: String| Declared::new(name, [width], Initial::Constant(1.0));
        let mut parameters = Vec::with_capacity(3 + 9 * self.layers);
        parameters.push(weight("embed_tokens.weight".to_owned(), [self.vocabulary, width]));
        for block in 0..self.layers {
            let linear = [
                ("self_attn.q_proj", [queries, width]),
                ("self_attn.k_proj", [keys, width]),
                ("self_attn.v_proj", [keys, width]),
                ("self_attn.o_proj", [width, queries]),
                ("mlp.gate_proj", [hidden, width]),
                ("mlp.up_proj", [hidden, width]),
                ("mlp.down_proj", [width, hidden]),
            ];
            for (name, shape) in linear {
                parameters.push(weight(format!("layers.{block}.{name}.weight"), shape));
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                parameters.push(gain(format!("layers.{block}.{name}.weight")));
            }
        }
        parameters.push(gain("norm.weight".to_owned()));
        parameters.push(weight("lm_head.weight".to_owned(), [self.vocabulary, width]));
        let Some(Adapters { rank, .. }) = self.adapters else { return parameters };
        for base in &mut parameters {
            base.trained = false;
        }
        let first = Initial::Uniform(1.0 / (width as f64).sqrt());
        for block in 0..self.layers {
            for (part, outputs) in [("q", queries), ("v", keys)] {
                let name = format!("layers.{block}.self_attn.{part}_proj");
                parameters.push(Declared::new(format!("{name}.lora_A.weight"), [rank, width], first));
                let zero = Initial::Constant(0.0);
                parameters.push(Declared::new(format!("{name}.lora_B.weight"), [outputs, rank], zero));
            }
        }
        parameters
    }

    fn facts(&self) -> ModelInfo {
        ModelInfo {
            frozen: Vec::new(),
            embedding_scale: self.embedding_scale,
            logit_scale: self.logit_scale,
            logit_cap: self.logit_cap,
        }
    }

    fn model(&self, tensors: &[Tensor]) -> Box<dyn Model> {
        Box::new(Llama::new(self, tensors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_parameters_is_that_of_the_list() {
        let size = |config: LlamaConfig| {
            let listed = config.parameters().iter().map(|one| one.shape.iter().product::<usize>()).sum();
            assert_eq!(config.elements(), Some(listed), "{}", config.name);
            listed
        };
        assert_eq!([LlamaConfig::PICO, LlamaConfig::NANO].map(size), [1_720, 39_648]);
        // A of queries and of values, 2·3·8; B of queries, 16·3, and of values, 8·3.
        let adapters = Some(Adapters { rank: 3, alpha: 6.0 });
        assert_eq!(size(LlamaConfig { adapters, ..LlamaConfig::PICO }), 1_720 + 48 + 48 + 24);
        // The first Llama, which its paper calls 6.7B; and Llama 3's 8B, whose heads share keys.
        let first = LlamaConfig::new("llama-7b", [32_000, 2_048, 4_096, 32, 32, 128, 11_008, 32], 1e-6, 1e4);
        let third =
            LlamaConfig::new("llama-3-8b", [128_256, 8_192, 4_096, 32, 8, 128, 14_336, 32], 1e-5, 5e5);
        assert_eq!([first, third].map(size), [6_738_415_616, 8_030_261_248]);
    }
}
