//! Who is blamed for what.

use super::cause::Part;
use serde::Serialize;
use std::fmt;

/// A side that is wrong, and in which part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// Name of the subject, or of several when it cannot be decided.
    pub subject: String,
    /// The part of it.
    pub part: BlamedPart,
    /// How it follows from the rows.
    pub because: String,
}

/// The parts of a trainer that can be blamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlamedPart {
    /// The model's forward pass: the losses it trains with.
    Forward,
    /// The evaluation of token losses without a backward pass.
    Evaluation,
    /// The backward pass: it is not the derivative of the losses it trains with.
    Backward,
    /// The reduction: how token losses, or their gradients, are put together.
    Reduction,
    /// The report: the token losses it says it trained with.
    Report,
    /// Something is wrong, and nothing that was checked tells apart what.
    Undecided,
}

impl fmt::Display for BlamedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward pass",
            Self::Evaluation => "evaluation",
            Self::Backward => "backward pass",
            Self::Reduction => "reduction",
            Self::Report => "reported token losses",
            Self::Undecided => "disagreement (undecided)",
        })
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, because {}", self.subject, self.part, self.because)
    }
}

impl From<Part> for BlamedPart {
    fn from(part: Part) -> Self {
        match part {
            Part::Model | Part::Training => Self::Forward,
            Part::Evaluation => Self::Evaluation,
            Part::Backward => Self::Backward,
            Part::LossReduction(_) | Part::GradientReduction(_) => Self::Reduction,
            Part::Report => Self::Report,
        }
    }
}

/// Somebody's part that may be to blame.
pub(super) type Suspect<'a> = (&'a str, BlamedPart);
