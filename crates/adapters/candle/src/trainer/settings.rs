//! What a trainer is made with: its model, its precision, its mean, its kernels, and the bug that it has.

use crate::Bug;
use candle_core::DType;

/// Which model is trained. Both have two blocks, a residual stream of width 8, 20 tokens and 24 positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// GPT-2: learned positions, layer norms, GELU by its tanh formula, the head tied to the embedding.
    Gpt2,
    /// Llama: rotary positions, RMS norms, `SwiGLU`, two query heads to each key head, a head of its own.
    Llama,
}

/// In which everything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    Single,
    /// f64.
    Double,
}

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Single => DType::F32,
            Self::Double => DType::F64,
        }
    }
}

/// The one loss of a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// Over all tokens of a window that are not ignored.
    OfTokens,
    /// Over the micro-batches of a window, of each one's mean over its tokens. One without a token has a mean
    /// of zero, and
    /// counts.
    OfMicroBatches,
}

/// Which of candle's own operations stand in place of the same formula in elementary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// None: sums, products and powers, whose gradients candle-core knows.
    Elementary,
    /// `candle_nn::ops::layer_norm` and `rms_norm`.
    FusedNorm,
    /// `candle_nn::ops::softmax_last_dim`.
    FusedSoftmax,
    /// `candle_nn::rotary_emb::rope`; of a GPT-2 nothing changes.
    FusedRotary,
    /// `Tensor::gelu`, whose gradient candle-core has in six digits; of a Llama nothing changes.
    Gelu,
}

/// What a trainer is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The model.
    pub architecture: Architecture,
    /// In which it computes.
    pub precision: Precision,
    /// Its loss.
    pub mean: Mean,
    /// Its operations.
    pub kernel: Kernel,
    /// What is wrong with it, if anything.
    pub bug: Option<Bug>,
    /// Fixes the initial parameters.
    pub seed: u64,
}

impl Settings {
    /// An honest trainer of elementary operations in f32.
    #[must_use]
    pub const fn new(architecture: Architecture, mean: Mean) -> Self {
        let (precision, kernel) = (Precision::Single, Kernel::Elementary);
        Self { architecture, precision, mean, kernel, bug: None, seed: 0 }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}
