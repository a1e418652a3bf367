//! femto-gpt 0.2.0 (<https://crates.io/crates/femto-gpt>), unmodified, as a [`Subject`].
//!
//! The released training loop runs, `GPT::train_cpu`. The graph it computes on is a type parameter, and the
//! one given here forwards every call to femto-gpt's own `CpuGraph` but for three: samples come from the
//! batch and not from a random place in a text, the gradient that the optimizer is called with goes to the
//! sink and no step is taken, and dropout is off. (At rate 0 femto-gpt's dropout drops an element with
//! probability 2⁻²³ while training: `docs/bugs.md`.) The loop prints one line per step to the standard output.
//!
//! # What it computes
//! Every sample has the same number of tokens, all of them supervised; each sample's token losses are averaged, and the
//! samples' losses and gradients are averaged. With equal lengths that is the per-token mean and the
//! per-sequence mean, in whatever scope and combination, because there is one rank with one micro-batch.
//! Everything else is refused as
//! [`Unsupported`](lossproof_subject::Unsupported).
//!
//! The loop prints its loss and returns nothing. The loss reported here is made by the adapter, which
//! averages the samples' losses as the loop does; the law `reported-loss` judges the adapter there, not femto-gpt.
//!
//! # How it differs from GPT-2
//! - Both residual branches start from the *normalised* input: `n = ln_1(x)`, `m = ln_2(n + attn(n))`, `x′ = m + mlp(m)`.
//! - Positions are fixed sines and cosines and no parameter: there is no `wpe.weight`.
//! - Query, key and value have no bias: there is no `attn.c_attn.bias`.
//! - The head is a matrix of its own, with a bias ([`Head::Own`]).
//!
//! # Names of parameters
//!
//! | Hugging Face's | femto-gpt's, for layer `l` and attention head `h` |
//! |---|---|
//! | `h.l.ln_1.{weight,bias}` | `norm_l_{coeff,bias}` |
//! | `h.l.attn.c_attn.weight` | beside each other `head_l_h_k` of all h, `head_l_h_q` of all h, `head_l_h_v` of all h |
//! | `h.l.attn.c_proj.{weight,bias}` | `proj_l_{weights,bias}` |
//! | `h.l.ln_2.{weight,bias}` | `atten_norm_l_{coeff,bias}` |
//! | `h.l.mlp.c_fc.{weight,bias}` | `feedforward1_l_{weights,bias}` |
//! | `h.l.mlp.c_proj.{weight,bias}` | `feedforward2_l_{weights,bias}` |
//! | `ln_f.{weight,bias}` | `head_norm_{coeff,bias}` |
//! | `lm_head.weight` | `head_map_weights`, transposed |
//! | `lm_head.bias` | `head_map_bias` |
//!
//! femto-gpt's scores are `k·qᵀ`, with one row per k: what it calls the key is the query of everybody else. The token
//! embedding keeps its own name, `token_embedding`: by `wte.weight` the laws mean a matrix that is also the head.
//!
//! # What the laws say
//! `lossproof.toml` lists the laws that decide, and `tests/conformance.rs` holds femto-gpt to them. Most of
//! group 2 is out of reach, because it is built on the sum, which femto-gpt does not have, and so is what
//! needs ignored labels, padding or optimizer steps of one's choice. One law fails: a large constant on all
//! logits overflows the loss (`docs/bugs.md`), which shows where the head is the embedding. Where
//! [`Head::Tied`] puts 90 on all logits, every law that compares a loss fails (`tests/laws.rs`).

mod names;
mod subject;
mod tap;
mod trainer;

use lossproof_subject::{Subject, SubjectError};

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Predictions per sample. A sequence has one position more, whose token is a label only.
    pub predictions: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width of an attention head.
    pub head_size: usize,
}

impl Config {
    /// As small as shows everything: two layers, two heads, 2 052 parameters.
    pub const PICO: Self =
        Self { vocabulary: 20, width: 8, predictions: 6, layers: 2, heads: 2, head_size: 4 };
}

/// Which parameters the model is seen through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// All parameters of femto-gpt.
    Own,
    /// The part of its parameters at which the head is the token embedding: one parameter, `wte.weight`,
    /// whose values are loaded into both matrices and whose gradient is, by the chain rule, the sum of both
    /// gradients. There the laws that know the logits apply to the same code.
    Tied {
        /// Every element of femto-gpt's head bias, which is no parameter here. It is added to all logits alike, so that
        /// no probability, no loss and no gradient depends on it.
        bias: f32,
    },
}

/// femto-gpt with these sizes, in f32 on the processor, at its own initial parameters.
///
/// # Errors
/// When femto-gpt cannot make such a model, or there is no thread to run it on.
pub fn femto_gpt(config: Config, head: Head) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(subject::FemtoGpt::new(config, head)?))
}

/// As reports name it.
const NAME: &str = "femto-gpt";

/// The error of a trainer that failed.
fn failed(error: impl std::fmt::Display) -> SubjectError {
    SubjectError::failed(NAME, error)
}
