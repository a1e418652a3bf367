//! Token-weight tomography: the weight that every token had in a loss, recovered from the gradient it
//! produced.
//!
//! Every reduction of token losses is `L = Σ_t w_t·ℓ_t`, so `∇L = Σ_t w_t·∇ℓ_t`. Given the `∇ℓ_t` (a
//! [`Basis`]) the weights follow from the gradient by linear least squares: as many equations as the model
//! has parameters, as many unknowns as the batch has predictions. [`recover`] solves them; nothing of the
//! trainer's inside is looked at.
//!
//! | from | needs | function |
//! |---|---|---|
//! | the gradient, the reference's `∇ℓ_t` | parameters can be loaded into the subject | [`Basis::of_reference`], [`recover`] |
//! | the gradient, the subject's own `∇ℓ_t` | ignored labels | [`Basis::self_calibrated`], [`recover`] |
//! | differences of gradients | labels apart from inputs | [`label_swaps`] |
//! | the reported loss | token losses, of anybody | [`ReportedLosses`] |
//!
//! The gradient that a plain SGD step applies shows in the parameters before and after it. A reported loss is
//! held to the log policy that the trainer declares ([`Tomogram::policy`], [`disagreement`]).
//!
//! [`Scan::of`] does all of that to a trainer, by the instruments that its card allows.
//!
//! What no weighting explains stays as the residual, block by block: an error of the backward pass, or
//! another basis than was supposed. What a basis cannot tell is in [`Tomogram::undetermined`], in words.

mod basis;
mod calibration;
mod decimal_places;
mod difference;
mod disagreement;
mod evaluated;
mod part_equations;
pub(crate) mod precision;
mod reading;
mod recover;
mod regions;
mod reported;
mod robust;
mod scan;
mod step;
mod swaps;
mod tomogram;
#[cfg(test)]
mod toy;
mod words;

pub use basis::{Basis, token_gradients};
pub use disagreement::{Differing, Disagreement, disagreement};
pub use precision::{Observed, Precision};
pub use reading::{Agreement, DeviatingRegion, GradientReading, Instrument, LogReading};
pub use recover::recover;
pub use regions::{Region, recover_by_region};
pub use reported::ReportedLosses;
pub use scan::{Scan, ScanSetup};
pub use swaps::label_swaps;
pub use tomogram::{ReportedPolicy, Tomogram, Unexplained, Weight, WeightGroup, WeightSource};

use crate::inference::InferenceError;
use lossproof_numerics::LeastSquaresError;
use lossproof_spec::BatchError;
use lossproof_subject::{SubjectError, Unsupported};

/// Why there is no tomogram.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TomographyError {
    /// The subject failed.
    #[error("the subject did not answer")]
    Subject(#[from] SubjectError),
    /// The subject has no such semantics.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A subject without a capability that is needed.
    #[error("{subject} cannot {capability}: {remedy}")]
    Lacks {
        /// Name of the subject.
        subject: String,
        /// What it cannot do.
        capability: &'static str,
        /// What to use instead.
        remedy: &'static str,
    },
    /// A tensor that should be there.
    #[error("{of} has no tensor `{parameter}` of shape {shape:?}: every gradient needs the same tensors")]
    Tensor {
        /// Whose gradient it is.
        of: String,
        /// The tensor.
        parameter: String,
        /// The shape it should have.
        shape: Vec<usize>,
    },
    /// A gradient that is no number.
    #[error("{of} is not finite in `{parameter}`: no weights explain it")]
    NotFinite {
        /// Whose gradient it is.
        of: String,
        /// The tensor.
        parameter: String,
    },
    /// Nothing to recover.
    #[error("there is no {what}: {remedy}")]
    Nothing {
        /// What is missing.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Not one gradient for each prediction.
    #[error("{found} token gradients for {expected} predictions: there must be one for each, in order")]
    TokenGradients {
        /// Gradients given.
        found: usize,
        /// Predictions of the batch that have one.
        expected: usize,
    },
    /// A factor that could not be calibrated.
    #[error("{subject}: {problem}")]
    Calibration {
        /// Name of the subject.
        subject: String,
        /// Why not, and the remedy.
        problem: String,
    },
    /// A probe that is no batch.
    #[error("the probe is no batch")]
    Batch(#[from] BatchError),
    /// The equations have no solution.
    #[error("the equations could not be solved")]
    LeastSquares(#[from] LeastSquaresError),
    /// The weights cannot be read.
    #[error("the weights could not be read")]
    Inference(#[from] InferenceError),
}
