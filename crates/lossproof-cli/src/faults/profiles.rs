//! Every fault behind one claim, seen through a profile: what the laws find of a trainer that shows little.

use super::ClaimName;
use crate::{
    subjects,
    table::{Align, Table},
};
use clap::ValueEnum as _;
use lossproof_diagnosis::Family;
use lossproof_faults::{Fault, Profile, differs, without_fault};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Verdict};
use lossproof_spec::{Dtype, Level};
use lossproof_subject::{Count, Device, Subject};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write};

/// What became of a fault.
pub(super) struct Seen {
    pub(super) fault: &'static Fault,
    /// The first law of a MUST clause that failed.
    pub(super) killed_by: Option<&'static Law>,
    /// Whether it changes an answer on some witness batch.
    pub(super) changed: bool,
}

impl Seen {
    /// Whether there is something to be seen of it.
    fn is_changed(&self) -> bool {
        self.changed || self.killed_by.is_some()
    }
}

/// How the trainers are seen that faults are injected into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyhole {
    pub(super) profile: Profile,
    pub(super) claim: ClaimName,
    pub(super) dtype: Dtype,
    pub(super) config: Config,
    /// As many as they take.
    pub(super) micro_batches: Count,
}

impl Keyhole {
    fn honest(&self) -> miette::Result<Box<dyn Subject>> {
        subjects::ours(self.config, self.dtype, Device::Cpu)
    }

    fn of(&self, subject: Box<dyn Subject>) -> miette::Result<Box<dyn Subject>> {
        self.profile.of(subject, &self.claim.spec(), self.micro_batches).into_diagnostic()
    }

    /// Holds every fault to the laws.
    ///
    /// # Errors
    /// When a trainer cannot be made or does not have the claim.
    pub(super) fn results(
        &self,
        faults: &[&'static Fault],
        campaign: &Campaign,
    ) -> miette::Result<Vec<Seen>> {
        faults.par_iter().map(|fault| self.result(fault, campaign)).collect()
    }

    fn result(&self, fault: &'static Fault, campaign: &Campaign) -> miette::Result<Seen> {
        let mut honest = self.of(without_fault(self.honest()?))?;
        let mut subject = self.of(fault.inject(self.honest()?))?;
        let changed = differs(&mut *honest, &mut *subject, campaign.seed);
        subject.reset().into_diagnostic()?;
        let mut laws: Vec<&'static Law> = LAWS.iter().filter(|law| is_binding(law)).collect();
        laws.sort_by_key(|law| !law.clauses().any(|clause| fault.bug.clauses.contains(&clause.id)));
        for law in laws {
            let report = campaign.run(law, &mut *subject).into_diagnostic()?;
            if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                return Ok(Seen { fault, killed_by: Some(law), changed });
            }
        }
        Ok(Seen { fault, killed_by: None, changed })
    }
}

/// Every profile with every claim in both dtypes, and trainers of exactly four micro-batches, as the rows of
/// a Markdown table.
///
/// # Errors
/// As [`Keyhole::results`].
pub(super) fn markdown(faults: &[&'static Fault], campaign: &Campaign) -> miette::Result<String> {
    let mut text = String::from(
        "\n| profile | claim | f64 | weights, labels, masks, logs | f32 | weights, labels, masks, logs | exactly 4 \
         micro-batches, f64 | not killed |\n|---|---|---:|---:|---:|---:|---:|---|\n",
    );
    for profile in Profile::ALL {
        for claim in ClaimName::value_variants() {
            let config = Config::Pico;
            let seen = |dtype, micro_batches| {
                let keyhole = Keyhole { profile, claim: *claim, dtype, config, micro_batches };
                keyhole.results(faults, campaign)
            };
            let double = seen(Dtype::F64, Count::ANY)?;
            let (single, exactly) = (seen(Dtype::F32, Count::ANY)?, seen(Dtype::F64, Count::exactly(4))?);
            let mut survivors = BTreeSet::new();
            for row in double.iter().chain(&single).chain(&exactly) {
                if row.changed && row.killed_by.is_none() {
                    survivors.insert(format!("`{}`", row.fault.bug.id));
                }
            }
            let _ = writeln!(
                text,
                "| {profile} | {} | {} | {} | {} | {} | {} | {} |",
                claim.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
                share(&double, |_| true),
                share(&double, is_of_weights),
                share(&single, |_| true),
                share(&single, is_of_weights),
                share(&exactly, |_| true),
                survivors.into_iter().collect::<Vec<_>>().join(", "),
            );
        }
    }
    Ok(text)
}

/// Families that one loss and its gradient have to show.
fn is_of_weights(row: &Seen) -> bool {
    matches!(
        row.fault.bug.family,
        Family::Accumulation | Family::Alignment | Family::Masking | Family::Logging
    )
}

/// Killed of those that change an answer.
fn share(rows: &[Seen], of: impl Fn(&Seen) -> bool) -> String {
    let rows = || rows.iter().filter(|row| of(row) && row.is_changed());
    format!("{} of {}", rows().filter(|row| row.killed_by.is_some()).count(), rows().count())
}

/// Whether no trainer may break the law.
fn is_binding(law: &Law) -> bool {
    law.clauses().any(|clause| clause.level == Level::Must)
}

/// The table, and how many were killed of those that change an answer.
pub(super) fn text(rows: &[Seen], summary: bool) -> String {
    let mut table = Table::new([("fault", Align::Left), ("family", Align::Left), ("killed by", Align::Left)]);
    for row in rows {
        let killed_by = match row.killed_by {
            Some(law) => law.id(),
            None if row.is_changed() => "NOTHING",
            None => "(changes no answer)",
        };
        table.row([row.fault.bug.id.to_owned(), row.fault.bug.family.to_string(), killed_by.to_owned()]);
    }
    let mut text = if summary { String::new() } else { format!("{}\n", table.render()) };
    let _ = writeln!(text, "killed {} that change an answer (in-sample)", share(rows, |_| true));
    text
}
