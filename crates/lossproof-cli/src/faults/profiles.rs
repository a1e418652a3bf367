//! Every fault behind one claim, seen through a profile: what the laws find of a trainer that shows little.

use crate::{
    subjects::{self, Arithmetic},
    table::{Align, Table},
};
use lossproof_faults::{Class, Classes, Classified, Column, Fault, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::Campaign;
use lossproof_spec::Dtype;
use lossproof_subject::{Device, Subject};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write};

/// The trainer that faults are injected into: the reference, and in half precision libtorch.
///
/// # Errors
/// When it cannot be made.
pub(super) fn honest(config: Config, arithmetic: Arithmetic) -> miette::Result<Box<dyn Subject>> {
    match arithmetic {
        Arithmetic::F32 | Arithmetic::F64 => subjects::ours(config, arithmetic.dtype(), Device::Cpu),
        Arithmetic::Bf16 | Arithmetic::Mixed => subjects::theirs_in(config, arithmetic, Device::Cpu),
    }
}

/// Holds every fault to the laws, injected into the [honest](honest) trainer of this configuration and precision.
///
/// # Errors
/// When a trainer cannot be made or does not have the claim.
pub(super) fn classify(
    keyhole: &Keyhole,
    (config, arithmetic): (Config, Arithmetic),
    faults: &[&'static Fault],
    campaign: &Campaign,
) -> miette::Result<Vec<Classified>> {
    let dtype = arithmetic.dtype();
    let honest = |wanted| {
        let made = if wanted == dtype {
            honest(config, arithmetic)
        } else {
            subjects::ours(config, wanted, Device::Cpu)
        };
        made.map_err(Into::into)
    };
    let one = |fault: &&'static Fault| keyhole.classify(fault, campaign, dtype, honest).into_diagnostic();
    faults.par_iter().map(one).collect()
}

/// The faults behind one profile and one claim, for each [`Column`].
pub(super) struct Row {
    profile: Profile,
    claim: NamedClaim,
    columns: [Vec<Classified>; Column::ALL.len()],
}

/// Head of the table whose lines are [`Row::markdown`].
pub(super) fn markdown_head() -> String {
    let mut text = String::from("| profile | claim |");
    for Column { name, .. } in Column::ALL {
        let _ = write!(text, " {name} | of them weights, labels, masks, logs |");
    }
    text.push_str(" survived |\n|---|---|---:|---:|---:|---:|---:|---:|---|\n");
    text
}

impl Row {
    fn new(
        profile: Profile,
        claim: NamedClaim,
        faults: &[&'static Fault],
        campaign: &Campaign,
    ) -> miette::Result<Self> {
        let mut columns = Column::ALL.map(|_| Vec::new());
        for (classified, Column { dtype, micro_batches, .. }) in columns.iter_mut().zip(Column::ALL) {
            let keyhole = Keyhole { profile, claim: claim.spec, micro_batches };
            let arithmetic = if dtype == Dtype::F32 { Arithmetic::F32 } else { Arithmetic::F64 };
            *classified = classify(&keyhole, (Config::Pico, arithmetic), faults, campaign)?;
        }
        Ok(Self { profile, claim, columns })
    }

    /// How many of the visible are killed, as a line of a Markdown table.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("| {} | {} |", self.profile, self.claim.name);
        for column in &self.columns {
            let _ = write!(
                text,
                " {} | {} |",
                share(column, |_| true),
                share(column, |row| row.fault.bug.family.is_of_weights())
            );
        }
        let survivors: BTreeSet<String> = self
            .columns
            .iter()
            .flatten()
            .filter(|classified| classified.class == Class::Survived)
            .map(|classified| format!("`{}`", classified.fault.bug.id))
            .collect();
        let _ = writeln!(text, " {} |", survivors.into_iter().collect::<Vec<_>>().join(", "));
        text
    }
}

/// Every profile with every claim, in both dtypes and for trainers of exactly four micro-batches.
pub(super) struct Matrix(Vec<Row>);

impl Matrix {
    /// Holds every fault to the laws behind each, and hands over each row as soon as it is done.
    ///
    /// # Errors
    /// As [`classify`], and what `done` says.
    pub(super) fn new(
        faults: &[&'static Fault],
        campaign: &Campaign,
        done: impl Fn(&Row) -> miette::Result<()>,
    ) -> miette::Result<Self> {
        let mut rows = Vec::new();
        for profile in Profile::ALL {
            for claim in NamedClaim::ALL {
                let row = Row::new(profile, claim, faults, campaign)?;
                done(&row)?;
                rows.push(row);
            }
        }
        Ok(Self(rows))
    }

    /// The rows as a Markdown table, and which faults an honest trainer could show.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("\n{}", markdown_head());
        for row in &self.0 {
            text.push_str(&row.markdown());
        }
        text.push_str("\nLawful, behind some claim at least:\n\n");
        for profile in Profile::ALL {
            let rows = self.0.iter().filter(|row| row.profile == profile);
            let lawful: BTreeSet<String> = rows
                .flat_map(|row| row.columns.iter().flatten())
                .filter(|classified| classified.class == Class::Lawful)
                .map(|classified| format!("`{}`", classified.fault.bug.id))
                .collect();
            let names = lawful.into_iter().collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "- {profile}: {}", if names.is_empty() { "none" } else { &names });
        }
        text
    }

    /// The class of every fault in every cell.
    pub(super) fn classes(&self) -> Classes {
        let mut classes = Classes::default();
        for row in &self.0 {
            let [of_double, of_single, of_four] = &row.columns;
            for ((double, single), four) in of_double.iter().zip(of_single).zip(of_four) {
                let all = [double.class, single.class, four.class];
                classes.insert(row.profile, &row.claim, double.fault, all);
            }
        }
        classes
    }
}

/// Killed of the visible.
fn share(rows: &[Classified], of: impl Fn(&Classified) -> bool) -> String {
    let visible = rows.iter().filter(|row| of(row) && row.class.is_visible());
    let killed = visible.clone().filter(|row| row.class == Class::Killed).count();
    format!("{killed} of {}", visible.count())
}

/// What became of every fault, and how many were killed of those that are visible.
pub(super) fn text(rows: &[Classified], summary: bool) -> String {
    let mut text = String::new();
    if !summary {
        let mut table = Table::new([
            ("fault", Align::Left),
            ("family", Align::Left),
            ("", Align::Left),
            ("by", Align::Left),
        ]);
        for row in rows {
            let by = row.killed_by.map_or("", |law| law.id());
            let (id, family) = (row.fault.bug.id.to_owned(), row.fault.bug.family.to_string());
            table.row([id, family, row.class.to_string(), by.to_owned()]);
        }
        text = format!("{}\n", table.render());
    }
    let of = |class| rows.iter().filter(|row| row.class == class).count();
    let _ = writeln!(
        text,
        "in-sample; {} change no answer, and {} an honest trainer could show\nkilled {} visible",
        of(Class::Unchanged),
        of(Class::Lawful),
        share(rows, |_| true)
    );
    text
}
