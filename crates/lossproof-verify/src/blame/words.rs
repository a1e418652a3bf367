//! Why somebody is blamed, in words.

use super::blamed::{BlamedPart, Suspect};
use crate::{
    semantics::SUM,
    statement::{Statement, StatementRow},
};
use std::collections::BTreeSet;

/// How it follows from the rows that a suspect is wrong, `blamed` being everybody who is.
pub(super) fn because(suspect: Suspect<'_>, blamed: &BTreeSet<Suspect<'_>>, rows: &[StatementRow]) -> String {
    let (subject, part) = suspect;
    let fails = |statements: &[Statement], semantics: Option<&str>| {
        rows.iter().any(|row| {
            row.failed()
                && row.subject == subject
                && statements.contains(&row.statement)
                && (semantics.is_none() || row.semantics == semantics)
        })
    };
    let also = |part| blamed.contains(&(subject, part));
    let text = match part {
        BlamedPart::Forward if fails(&[Statement::ThirdForwardLosses], None) => {
            "its token losses differ from the third forward's"
        }
        BlamedPart::Forward if fails(&[Statement::TruthTokenLosses], None) => {
            "its token losses differ from the f64 truth's"
        }
        BlamedPart::Forward if fails(&[Statement::PrecisionTokenLosses], None) => {
            "its token losses differ from its own in f64"
        }
        BlamedPart::Forward if fails(&[Statement::LossCalculus, Statement::ReportedTokenLosses], None) => {
            "the losses it trains with differ from those it evaluates, which are right"
        }
        BlamedPart::Forward => "nothing else explains by itself that losses and gradients differ from it",
        BlamedPart::Evaluation => return evaluation(&also),
        BlamedPart::Backward
            if fails(&[Statement::FiniteDifferences], Some(SUM)) && !also(BlamedPart::Evaluation) =>
        {
            "its gradient of the sum differs from finite differences of its own forward pass"
        }
        BlamedPart::Backward if also(BlamedPart::Evaluation) || also(BlamedPart::Forward) => {
            "its gradient is wrong, and that does not follow from what else is wrong with it"
        }
        BlamedPart::Backward => {
            "its gradient is wrong while its token losses and the ratios of its gradients are right"
        }
        BlamedPart::Reduction if fails(LOSSES, None) => {
            "its loss is not the weighted sum of its own token losses that the semantics demands"
        }
        BlamedPart::Reduction => {
            "its gradient is not the weighted sum of its own token gradients that the semantics demands"
        }
        BlamedPart::Report => {
            "the token losses it reports beside its gradient are not those it evaluates and trains with, \
             which are right"
        }
        BlamedPart::Undecided => "they disagree",
    };
    text.to_owned()
}

/// The statements on the loss under a semantics.
const LOSSES: &[Statement] = &[
    Statement::ThirdForwardLoss,
    Statement::TruthLoss,
    Statement::PrecisionLoss,
    Statement::Loss,
    Statement::LossCalculus,
];

/// What is right beside a wrong evaluation.
fn evaluation(also: &dyn Fn(BlamedPart) -> bool) -> String {
    let wrong = "its evaluated token losses are wrong";
    let trained = |part| also(BlamedPart::Forward) || also(part);
    match (trained(BlamedPart::Reduction), trained(BlamedPart::Backward) || also(BlamedPart::Reduction)) {
        (false, false) => format!("{wrong}: the losses and gradients it trains with are right"),
        (false, true) => format!("{wrong}: the losses it trains with are right"),
        (true, _) => format!("{wrong}, and that does not follow from what else is wrong with it"),
    }
}

/// Why it is undecided between so many subjects, and these parts.
pub(super) fn undecided(subjects: usize, parts: impl Iterator<Item = BlamedPart>) -> String {
    if subjects > 1 {
        return "they disagree, and nothing else that was checked tells them apart".to_owned();
    }
    let parts: BTreeSet<_> = parts.map(|part| part.to_string()).collect();
    let parts: Vec<_> = parts.into_iter().collect();
    format!("its {} explain equally well what failed", parts.join(" and its "))
}
