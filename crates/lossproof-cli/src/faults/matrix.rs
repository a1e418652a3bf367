//! Laws × faults: what kills each fault, and what it is taken for.

use super::{
    alone::{Alone, Baselines},
    reference,
};
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::Fault;
use lossproof_laws::{Campaign, LAWS, Law, Verdict};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::time::Instant;

/// A law that fails under a fault.
pub(super) struct Kill {
    pub(super) law: &'static Law,
    /// Random cases up to the one that fails.
    pub(super) cases: usize,
}

/// What became of a fault.
pub(super) struct FaultResult {
    pub(super) fault: &'static Fault,
    /// The laws that fail under it, those of the clauses that it violates first; one where the search ends
    /// with the first.
    pub(super) kills: Vec<Kill>,
    /// Seconds until the first.
    pub(super) seconds: f64,
    pub(super) diagnosis: Diagnosis,
    pub(super) alone: Alone,
}

impl FaultResult {
    /// Whether a law of a MUST clause fails.
    pub(super) fn is_killed(&self) -> bool {
        killed_by_must(&self.kills)
    }

    /// Where the fault stands among the candidates of its diagnosis.
    pub(super) fn place(&self) -> Option<usize> {
        self.diagnosis.place(self.fault.bug.id)
    }
}

fn killed_by_must(kills: &[Kill]) -> bool {
    kills.iter().any(|kill| kill.law.is_binding())
}

/// Runs every fault.
///
/// # Errors
/// When a trainer cannot be made or the reference fails.
pub(super) fn results(
    faults: &[&'static Fault],
    campaign: &Campaign,
    full: bool,
) -> miette::Result<Vec<FaultResult>> {
    let baselines = Baselines::new()?;
    faults.par_iter().map(|fault| result(fault, campaign, full, &baselines)).collect()
}

fn result(
    fault: &'static Fault,
    campaign: &Campaign,
    full: bool,
    baselines: &Baselines,
) -> miette::Result<FaultResult> {
    let mut subject = fault.inject(reference()?);
    // The laws of clauses that the fault violates first, of those the ones that no trainer may break.
    let place =
        |law: &&Law| (!law.clauses().any(|clause| fault.bug.clauses.contains(&clause.id)), !law.is_binding());
    let mut laws: Vec<&'static Law> = LAWS.iter().collect();
    laws.sort_by_key(place);
    let started = Instant::now();
    let (mut kills, mut seconds) = (Vec::new(), f64::NAN);
    for law in laws {
        let report = campaign.run(law, &mut *subject).into_diagnostic()?;
        if report.verdict == Verdict::Fail {
            if kills.is_empty() {
                seconds = started.elapsed().as_secs_f64();
            }
            kills.push(Kill { law, cases: report.cases + 1 });
            // A kill by a SHOULD alone is none.
            if !full && killed_by_must(&kills) {
                break;
            }
        }
    }
    let mut truth = reference()?;
    let diagnosis = Diagnosis::of(&mut *fault.inject(reference()?), Some(&mut *truth)).into_diagnostic()?;
    let alone = baselines.of(fault)?;
    Ok(FaultResult { fault, kills, seconds, diagnosis, alone })
}
