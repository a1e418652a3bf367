//! What a verification says: rows of statements, each with its error, bound and power.

use serde::Serialize;
use std::fmt;

/// Everything a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Who took part: name, version, framework, dtype and device of each.
    pub participants: Vec<String>,
    /// One row per statement, in the order they were checked.
    pub rows: Vec<Row>,
    /// Which side is wrong, when something disagrees.
    pub blames: Vec<super::Blame>,
    /// What two identical calls differed by, relative to the gradient's scale; it enters every bound on gradients.
    pub noise_floor: f64,
    /// How far apart two judged implementations are, where gradients were sketched.
    pub growth: Option<super::Growth>,
}

impl Report {
    /// Number of rows with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

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
    #[serde(serialize_with = "super::report::finite_or_text")]
    pub error: f64,
    /// What it was held to.
    #[serde(serialize_with = "super::report::finite_or_text")]
    pub bound: f64,
}

/// JSON has no infinities and no NaN: those are written as text.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
pub(crate) fn finite_or_text<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.collect_str(value) }
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
