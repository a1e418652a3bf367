//! One statement of a verification: its error, its bound, its power and its verdict.

use super::json::finite_or_text;
use serde::Serialize;
use std::fmt;

/// One statement and how it fared.
#[derive(Clone, Debug, Serialize)]
pub struct StatementRow {
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
    /// The smallest relative error, of whichever unit (a parameter's gradient, a loss, a token loss), that
    /// this row is certain to catch; none where nothing was certified.
    pub power: Option<f64>,
    /// Whether the row failed each time when one answer of the judged implementation was altered by four
    /// times the power: once for every unit, and never when nothing was certified.
    pub control_caught: bool,
    /// How it fared.
    pub verdict: Verdict,
    /// Why the row is unchecked, where it is.
    pub unchecked: Option<String>,
}

impl StatementRow {
    /// Whether something exceeded its bound.
    pub(crate) fn failed(&self) -> bool {
        self.verdict == Verdict::Fail
    }
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
    /// Four times as far from the f64 truth as the other implementation, or the error the rounding model
    /// expects.
    OtherDistance,
    /// The law of rounding distances, fitted on sizes for which there is an f64 truth.
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
    /// Evaluated token losses equal those of the third forward.
    ThirdForwardLosses,
    /// The per-token mean equals that of the third forward.
    ThirdForwardLoss,
    /// The gradient of the per-token mean equals that of the third forward.
    ThirdForwardGradient,
    /// Evaluated token losses of trainer and reference agree.
    TokenLosses,
    /// Evaluated token losses agree with those of the f64 truth, which is another implementation.
    TruthTokenLosses,
    /// The loss agrees with that of the f64 truth, which is another implementation.
    TruthLoss,
    /// The gradient agrees with that of the f64 truth, which is another implementation.
    TruthGradient,
    /// Evaluated token losses agree with those of the same implementation in f64.
    PrecisionTokenLosses,
    /// The loss agrees with that of the same implementation in f64.
    PrecisionLoss,
    /// The gradient agrees with that of the same implementation in f64.
    PrecisionGradient,
    /// Losses of trainer and reference agree.
    Loss,
    /// The loss is the weighted sum of the evaluated token losses that the calculus predicts.
    LossCalculus,
    /// The token losses reported beside a gradient are the evaluated ones.
    ReportedTokenLosses,
    /// Gradients of trainer and reference agree.
    Gradient,
    /// The gradient stands in the exact ratio to other gradients that the calculus predicts.
    GradientCalculus,
    /// The gradient agrees with finite differences of the same implementation's evaluated token losses.
    FiniteDifferences,
}

/// How a row fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was compared and within its bound, and the negative control was caught.
    Pass,
    /// Something exceeded its bound.
    Fail,
    /// Something was not compared, its effect lies below what the bound can see, or an altered answer went
    /// unnoticed.
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
