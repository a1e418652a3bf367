//! One statement of a verification, and how it fared.

use crate::json::finite_or_text;
use serde::Serialize;
use std::fmt;

/// One statement and how it fared.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is compared with what.
    pub statement: Statement,
    /// The loss semantics under which, where the statement depends on it.
    pub semantics: Option<&'static str>,
    /// The subject that is judged.
    pub subject: String,
    /// The statement in words.
    pub text: String,
    /// The comparison that came closest to its bound, or exceeded it most.
    pub worst: Comparison,
    /// Where the bound comes from.
    pub bound_from: BoundFrom,
    /// Number of comparisons.
    pub compared: usize,
    /// The smallest relative error, of whichever tensor, that this row is certain to catch.
    pub power: f64,
    /// Whether each thing compared, scaled by 1 + 4 × its power, would have failed this row.
    pub control_caught: bool,
    /// How it fared.
    pub verdict: Verdict,
}

/// One number held to one bound.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared: a parameter, a block of one, a token.
    pub at: String,
    /// The error, relative to the scale the row's bound is relative to.
    #[serde(serialize_with = "finite_or_text")]
    pub error: f64,
    /// What it was held to.
    #[serde(serialize_with = "finite_or_text")]
    pub bound: f64,
}

/// Where a bound comes from; each is derived in `docs/tolerances.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundFrom {
    /// The rounding model for the shape and dtype.
    Rounding,
    /// Where finite differences plateau: 1e-9 of the typical directional derivative.
    Plateau,
    /// Four times as far from the f64 truth as the other implementation, or the error the rounding model expects.
    OtherDistance,
    /// The growth law, fitted on sizes for which there is an f64 truth.
    Extrapolated,
}

impl fmt::Display for BoundFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rounding => "rounding",
            Self::Plateau => "plateau",
            Self::OtherDistance => "4 × other",
            Self::Extrapolated => "extrapolated",
        })
    }
}

/// The kinds of statement a verification makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statement {
    /// Token losses equal those of the third forward.
    ThirdForwardLosses,
    /// The per-token mean equals that of the third forward.
    ThirdForwardLoss,
    /// The gradient of the per-token mean equals that of the third forward.
    ThirdForwardGradient,
    /// Token losses of two implementations agree.
    TokenLosses,
    /// Token losses agree with the f64 truth.
    TruthTokenLosses,
    /// The loss agrees with the f64 truth.
    TruthLoss,
    /// The gradient agrees with the f64 truth.
    TruthGradient,
    /// Losses of two implementations agree.
    Loss,
    /// The loss is the weighted sum of the token losses that the calculus predicts.
    LossCalculus,
    /// Gradients of two implementations agree.
    Gradient,
    /// The gradient stands in the exact ratio to other gradients that the calculus predicts.
    GradientCalculus,
    /// The gradient agrees with finite differences of the same implementation's forward pass.
    FiniteDifferences,
}

/// How a row fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was compared and within its bound.
    Pass,
    /// Something exceeded its bound.
    Fail,
    /// Something was not compared, or its effect lies below what the bound can see.
    Unchecked,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Unchecked => "unchecked",
        })
    }
}
