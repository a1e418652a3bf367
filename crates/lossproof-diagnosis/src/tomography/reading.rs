//! What was read of a trainer's weights, and whether they are those that were asked for.

use super::{Disagreement, Region, Tomogram, TomographyError, tomogram::measurements};
use crate::inference::{EmptyMean, Inference, Measurement, WeightComparison, infer, infer_empty_mean};
use lossproof_spec::{GlobalBatch, LossSpec};
use std::fmt;

/// How the gradients of token losses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// A reference differentiates each token loss at the same parameters.
    Reference {
        /// Its name.
        name: String,
    },
    /// The trainer does so itself, on batches with one label that is not ignored.
    Own,
    /// They are not: labels are swapped, and differences of gradients compared.
    LabelSwaps,
}

impl fmt::Display for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference { name } => {
                write!(f, "least squares over the token gradients of {name} at the same parameters")
            }
            Self::Own => f.write_str("least squares over the trainer's own gradients of one token at a time"),
            Self::LabelSwaps => f.write_str("label swaps: what one label changes in the gradient"),
        }
    }
}

/// Whether weights are those of the semantics that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They are, and no other semantics with other weights on this batch is within the errors.
    Agrees,
    /// They are not, or no weights explain what was measured.
    Disagrees,
    /// They may be, and may be those of another one.
    Undecided,
}

/// The weights that a gradient shows.
#[derive(Clone, Debug)]
pub struct GradientReading {
    /// The weights; `None` where a mean over nothing leaves none.
    pub tomogram: Option<Tomogram>,
    /// One for each prediction of the batch, with an infinite error where it is not known.
    pub measured: Vec<Measurement>,
    /// What they say of the loss; `None` where no weights explain the gradient.
    pub inference: Option<Inference>,
    /// What they are beside those that are declared.
    pub comparison: Option<WeightComparison>,
}

/// The weights that the reported loss shows.
#[derive(Clone, Debug)]
pub struct LogReading {
    /// The weights.
    pub tomogram: Tomogram,
    /// One for each prediction of the batch.
    pub measured: Vec<Measurement>,
    /// What each prediction weighs by the log policy that is declared.
    pub due: Vec<Measurement>,
    /// What semantics has these weights, where they are not those of the log policy that is declared.
    pub inference: Option<Inference>,
    /// How they differ from what is due.
    pub disagreement: Option<Disagreement>,
}

/// Parameters whose gradient has weights of its own.
#[derive(Clone, Debug)]
pub struct DeviatingRegion {
    /// The parameters and their weights.
    pub region: Region,
    /// What these are beside those that are declared.
    pub comparison: WeightComparison,
}

impl GradientReading {
    /// Whether the weights are those that are declared.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let explained = self.tomogram.as_ref().is_none_or(Tomogram::is_explained);
        let (Some(inference), Some(comparison)) = (&self.inference, &self.comparison) else {
            return Agreement::Disagrees;
        };
        if !explained || !comparison.agrees {
            Agreement::Disagrees
        } else if inference.matches().len() > 1 || self.says_nothing() || self.is_open() {
            Agreement::Undecided
        } else {
            Agreement::Agrees
        }
    }

    /// Whether only weights that nothing determines explain it.
    fn is_open(&self) -> bool {
        self.tomogram.as_ref().is_some_and(|tomogram| tomogram.is_open)
    }

    /// Whether there are predictions, and of none of them the weight is known.
    fn says_nothing(&self) -> bool {
        !self.measured.is_empty() && self.measured.iter().all(|measured| measured.error.is_infinite())
    }

    pub(super) fn of_empty_mean(batch: &GlobalBatch, empty_mean: EmptyMean, declared: &LossSpec) -> Self {
        let inference = infer_empty_mean(batch, empty_mean);
        let comparison = Some(inference.against(declared));
        Self { tomogram: None, measured: Vec::new(), inference: Some(inference), comparison }
    }

    pub(super) fn of_weights(
        batch: &GlobalBatch,
        places: &[usize],
        tomogram: Tomogram,
        declared: &LossSpec,
    ) -> Result<Self, TomographyError> {
        let measured = measurements(batch, places, &tomogram.weights);
        // Weights that explain nothing are nobody's.
        let inference = if tomogram.is_fit { None } else { Some(infer(batch, &measured)?) };
        let comparison = inference.as_ref().map(|inference| inference.against(declared));
        Ok(Self { tomogram: Some(tomogram), measured, inference, comparison })
    }
}

impl LogReading {
    /// Whether the weights are those of the log policy that is declared.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let by_policy = self.tomogram.policy.as_ref().is_some_and(|policy| policy.comparison.agrees());
        self.tomogram.is_explained() && by_policy
    }
}
