//! The smallest set of parts that explains every row that failed.

use super::{
    blamed::{Blame, BlamedPart, Suspect},
    cause::{Cause, Outcome, Part, Parties, Place, causes},
    words,
};
use crate::{
    semantics::SUM,
    statement::{Statement, StatementRow, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

/// How much smaller the error of a sum of losses may be than that of its terms, and of their gradients: what
/// is wrong with the model makes some token losses larger and others smaller, and N errors of random signs
/// add up to √N of them. This is √N of the largest batches that are verified, of some thousand predictions.
/// Where that leaves two explanations nobody is named for certain.
const CANCELLATION: f64 = 64.0;

/// A part that may be wrong at a place.
type Candidate<'a> = (Place<'a>, BlamedPart);

/// The candidates of one failed row, one of which is wrong.
type Conflict<'a> = BTreeSet<Candidate<'a>>;

/// Whom the rows blame, and for what. Nobody where no row failed.
pub(crate) fn blames<'a>(rows: &[StatementRow], parties: &Parties<'a>) -> Vec<Blame> {
    let conflicts = conflicts(rows, parties);
    let named = |explanation: &BTreeSet<Candidate<'a>>| -> BTreeSet<Suspect<'a>> {
        explanation.iter().map(|(place, part)| (parties.name(*place), *part)).collect()
    };
    let smallest: Vec<_> = smallest_explanations(&conflicts).iter().map(named).collect();
    let certain: BTreeSet<_> = smallest
        .iter()
        .cloned()
        .reduce(|common, other| common.intersection(&other).copied().collect())
        .unwrap_or_default();
    let mut blames: Vec<_> = certain
        .iter()
        .map(|&(subject, part)| Blame {
            subject: subject.to_owned(),
            part,
            because: words::because((subject, part), &certain, rows),
        })
        .collect();
    let open: BTreeSet<_> = smallest.iter().flatten().filter(|suspect| !certain.contains(suspect)).collect();
    if !open.is_empty() {
        let order = parties.sides.iter().chain(&parties.truth).map(|party| party.name);
        let mut names: Vec<_> = order.filter(|name| open.iter().any(|suspect| suspect.0 == *name)).collect();
        names.extend(open.iter().map(|suspect| suspect.0));
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        blames.push(Blame {
            subject: names.join(" or "),
            part: BlamedPart::Undecided,
            because: words::undecided(names.len(), open.iter().map(|suspect| suspect.1)),
        });
    }
    blames
}

/// The candidates of every failed row.
fn conflicts<'a>(rows: &[StatementRow], parties: &Parties<'a>) -> Vec<Conflict<'a>> {
    // The smallest error that would have shown a cause, were it one.
    let mut cleared: BTreeMap<Cause<'a>, f64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.verdict == Verdict::Pass) {
        let power = row.power.unwrap_or(f64::INFINITY);
        let is_loss = matches!(
            row.statement,
            Statement::Loss | Statement::TruthLoss | Statement::PrecisionLoss | Statement::ThirdForwardLoss
        );
        for cause in causes(row, parties, Outcome::Held) {
            let power = if is_loss && cause.1 == Part::Model { CANCELLATION * power } else { power };
            cleared.entry(cause).and_modify(|known| *known = known.min(power)).or_insert(power);
        }
    }
    let is_open = |cause: &Cause<'a>, error: f64| match cleared.get(cause) {
        Some(&power) => error.is_finite() && power >= error,
        None => true,
    };
    let mut failed = Vec::new();
    for row in rows.iter().filter(|row| row.failed()) {
        let all = causes(row, parties, Outcome::Failed);
        let open: Vec<_> = all.iter().copied().filter(|cause| is_open(cause, row.worst.error)).collect();
        // Where everything is cleared, something that was cleared is wrong after all.
        failed.push(if open.is_empty() { all } else { open });
    }
    // The sum divides by nothing: its gradient is put together wrongly only where its loss is, too.
    let wrong_sums: BTreeSet<_> = failed
        .iter()
        .flatten()
        .filter(|(_, part)| *part == Part::LossReduction(SUM))
        .map(|(place, _)| *place)
        .collect();
    let mut conflicts = BTreeSet::new();
    for causes in failed {
        let suspected = causes.iter().filter(|(place, part)| {
            *part != Part::GradientReduction(SUM) || causes.len() == 1 || wrong_sums.contains(place)
        });
        let candidate = |(place, part): &Cause<'a>| (*place, BlamedPart::from(*part));
        conflicts.insert(suspected.map(candidate).collect::<Conflict<'a>>());
    }
    conflicts.into_iter().filter(|conflict| !conflict.is_empty()).collect()
}

/// Every smallest set of candidates that has one of each conflict.
fn smallest_explanations<'a>(conflicts: &[Conflict<'a>]) -> BTreeSet<BTreeSet<Candidate<'a>>> {
    let mut found = BTreeSet::new();
    for size in 1..=conflicts.len() {
        explain(conflicts, size, &mut BTreeSet::new(), &mut found);
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// Adds to `chosen` up to `more` candidates, and keeps what explains every conflict.
fn explain<'a>(
    conflicts: &[Conflict<'a>],
    more: usize,
    chosen: &mut BTreeSet<Candidate<'a>>,
    found: &mut BTreeSet<BTreeSet<Candidate<'a>>>,
) {
    let Some(open) = conflicts.iter().find(|conflict| conflict.is_disjoint(chosen)) else {
        found.insert(chosen.clone());
        return;
    };
    if more == 0 {
        return;
    }
    for candidate in open {
        chosen.insert(*candidate);
        explain(conflicts, more - 1, chosen, found);
        chosen.remove(candidate);
    }
}
