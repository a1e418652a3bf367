//! Who is wrong: from the rows that failed to the side and the part of it.

use super::statement::{Row, Statement, Verdict};
use serde::Serialize;
use std::fmt;

/// A side that is wrong, and in which part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// Name of the subject, or of both when it cannot be decided.
    pub subject: String,
    /// The part of it.
    pub part: Part,
    /// How it follows from the rows.
    pub because: String,
}

/// The parts of a trainer that can be wrong by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The model's forward pass: token losses.
    Forward,
    /// The backward pass: it is not the derivative of its own forward pass.
    Backward,
    /// The reduction: how token losses, or their gradients, are put together.
    Reduction,
    /// Two sides disagree and nothing tells them apart.
    Undecided,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Forward => "forward pass",
            Part::Backward => "backward pass",
            Part::Reduction => "reduction",
            Part::Undecided => "disagreement (undecided)",
        };
        write!(f, "{}: {part}, because {}", self.subject, self.because)
    }
}

/// The subject that served as truth, and the implementation it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Truth<'a> {
    pub(crate) name: &'a str,
    pub(crate) implementation: &'a str,
}

/// The rule: per-token losses first, where the third forward breaks a tie; then each side's gradient against finite
/// differences of its own forward pass and against its own other gradients. A wrong forward pass makes its finite
/// differences wrong with it, so agreement with them says nothing about the forward pass.
///
/// A truth that is itself refuted, by its finite differences or (for the implementation it belongs to) by the third
/// forward, convicts nobody.
pub(crate) fn blames(rows: &[Row], sides: &[&str], truth: Option<Truth<'_>>) -> Vec<Blame> {
    let refuted = |subject: &str, statement| {
        rows.iter().any(|row| row.subject == subject && row.statement == statement && failed(row))
    };
    let trusted = truth.is_none_or(|truth| {
        !refuted(truth.name, Statement::FiniteDifferences)
            && !refuted(truth.implementation, Statement::ThirdForwardLosses)
    });
    let mut blames = Vec::new();
    for side in sides {
        let own: Vec<_> = rows.iter().filter(|row| row.subject == *side).collect();
        let failed = |statement| own.iter().filter(move |row| row.statement == statement && failed(row));
        let fails = |statement| failed(statement).next().is_some();
        let sum_of = |statement| failed(statement).any(|row| row.semantics == Some("sum"));
        let mut blame = |part, because: &str| {
            blames.push(Blame { subject: (*side).to_owned(), part, because: because.to_owned() });
        };
        if fails(Statement::ThirdForwardLosses) {
            blame(Part::Forward, "its token losses differ from the third forward's");
        } else if trusted && fails(Statement::TruthTokenLosses) {
            blame(Part::Forward, "its token losses differ from the f64 truth's");
        }
        let forward = fails(Statement::ThirdForwardLosses) || fails(Statement::TruthTokenLosses);
        // The sum divides by nothing, so where it is wrong no reduction is to blame.
        let backward = sum_of(Statement::FiniteDifferences);
        let loss = fails(Statement::LossCalculus) || (fails(Statement::ThirdForwardLoss) && !forward);
        let ratios = !backward && (fails(Statement::FiniteDifferences) || fails(Statement::GradientCalculus));
        let elsewhere =
            fails(Statement::ThirdForwardGradient) || (trusted && fails(Statement::TruthGradient));
        if backward {
            blame(
                Part::Backward,
                "its gradient of the sum differs from finite differences of its own forward pass",
            );
        } else if elsewhere && !forward && !loss && !ratios {
            blame(
                Part::Backward,
                "its gradient is wrong while its token losses and the ratios of its gradients are right",
            );
        }
        if loss {
            blame(
                Part::Reduction,
                "its loss is not the weighted sum of its own token losses that the semantics demands",
            );
        } else if ratios {
            blame(
                Part::Reduction,
                "its gradient is not the weighted sum of its own token gradients that the semantics demands",
            );
        }
    }
    let disagreement = rows.iter().any(failed);
    if disagreement && blames.is_empty() {
        blames.push(Blame {
            subject: sides.join(" or "),
            part: Part::Undecided,
            because: "they disagree, and nothing else that was checked tells them apart".to_owned(),
        });
    }
    blames
}

fn failed(row: &Row) -> bool {
    row.verdict == Verdict::Fail
}
