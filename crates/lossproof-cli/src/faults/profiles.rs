//! Every fault behind one claim, seen through a profile: what the laws find of a trainer that shows little.

use crate::table::{Align, Table};
use lossproof_faults::{Fault, Profile};
use lossproof_laws::{Campaign, LAWS, Law, Verdict};
use lossproof_spec::{Level, LossSpec};
use lossproof_subject::Subject;
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::fmt::Write;

/// What became of a fault.
pub(super) struct Seen {
    pub(super) fault: &'static Fault,
    /// The first law of a MUST clause that failed, and how many laws decided before it.
    pub(super) killed_by: Option<&'static Law>,
}

/// Holds every fault to the laws, each injected into a trainer that `make` makes.
///
/// # Errors
/// When a trainer cannot be made or does not have the claim.
pub(super) fn results(
    faults: &[&'static Fault],
    campaign: &Campaign,
    profile: Profile,
    claim: &LossSpec,
    make: &(dyn Fn() -> miette::Result<Box<dyn Subject>> + Sync),
) -> miette::Result<Vec<Seen>> {
    let one = |fault: &&'static Fault| -> miette::Result<Seen> {
        let mut subject = profile.of(fault.inject(make()?), claim).into_diagnostic()?;
        let mut laws: Vec<&'static Law> = LAWS.iter().filter(|law| is_binding(law)).collect();
        laws.sort_by_key(|law| !law.clauses().any(|clause| fault.bug.clauses.contains(&clause.id)));
        for law in laws {
            let report = campaign.run(law, &mut *subject).into_diagnostic()?;
            if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                return Ok(Seen { fault, killed_by: Some(law) });
            }
        }
        Ok(Seen { fault, killed_by: None })
    };
    faults.par_iter().map(one).collect()
}

/// Whether no trainer may break the law.
fn is_binding(law: &Law) -> bool {
    law.clauses().any(|clause| clause.level == Level::Must)
}

/// The table, and how many were killed.
pub(super) fn text(rows: &[Seen], summary: bool) -> String {
    let mut table = Table::new([("fault", Align::Left), ("family", Align::Left), ("killed by", Align::Left)]);
    for row in rows {
        let killed_by = row.killed_by.map_or("", Law::id).to_owned();
        table.row([row.fault.bug.id.to_owned(), row.fault.bug.family.to_string(), killed_by]);
    }
    let mut text = if summary { String::new() } else { format!("{}\n", table.render()) };
    let killed = rows.iter().filter(|row| row.killed_by.is_some()).count();
    let _ = writeln!(text, "killed {killed} of {}", rows.len());
    text
}
