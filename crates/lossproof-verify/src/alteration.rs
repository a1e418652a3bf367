//! One answer of an implementation, altered: what a negative control lets a row see.

use lossproof_numerics::{Block, CONTROL};
use lossproof_subject::SubjectInfo;

/// Which implementation computed something. Two subjects with the same identity are one implementation: what
/// is wrong with one is wrong with the other, so a comparison of the two certifies neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    name: String,
    version: String,
    framework: String,
}

impl Identity {
    pub(crate) fn of(info: &SubjectInfo) -> Self {
        Self { name: info.name.clone(), version: info.version.clone(), framework: info.framework.clone() }
    }
}

/// One answer of an implementation to one question, in whichever subject of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer<'a> {
    /// The evaluated loss of one prediction.
    TokenLoss(usize),
    /// The token loss reported beside the gradient under a semantics, by its place among the supervised
    /// tokens.
    ReportedTokenLoss(usize, usize),
    /// The loss reported under a semantics.
    Loss(usize),
    /// One block of the gradient under a semantics.
    Gradient(usize, &'a Block),
    /// All of the gradient under a semantics.
    WholeGradient(usize),
}

/// What becomes of an altered answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// All of it is multiplied by this.
    Factor(f64),
    /// To its element at this row-major index of the parameter, this is added.
    Element(usize, f64),
}

/// One answer and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alteration<'a> {
    pub(crate) answer: Answer<'a>,
    pub(crate) change: Change,
}

impl<'a> Alteration<'a> {
    /// An answer larger by four times the power.
    pub(crate) fn scaled(answer: Answer<'a>, power: f64) -> Self {
        Self { answer, change: Change::Factor(1.0 + CONTROL * power) }
    }

    /// One element of a gradient's block off by four times the power, relative to the norm of the block.
    /// `choice` chooses the element: any number does.
    pub(crate) fn element(semantics: usize, block: &'a Block, norm: f64, power: f64, choice: usize) -> Self {
        let within = choice % block.len().max(1);
        let columns = block.columns.len().max(1);
        let (row, column) = (block.rows.start + within / columns, block.columns.start + within % columns);
        let change = Change::Element(row * block.width + column, CONTROL * power * norm);
        Self { answer: Answer::Gradient(semantics, block), change }
    }
}

/// A number as it is seen: itself, or what an alteration makes of it where it is the altered answer.
pub(crate) fn seen(alteration: Option<&Alteration<'_>>, answer: Answer<'_>, value: f64) -> f64 {
    match alteration {
        Some(Alteration { answer: altered, change: Change::Factor(factor) }) if *altered == answer => {
            factor * value
        }
        _ => value,
    }
}
