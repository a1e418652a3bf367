//! Every fault behind one claim, seen through a profile: what the laws find of a trainer that shows little.

use crate::{
    subjects,
    table::{Align, Table},
};
use lossproof_diagnosis::Family;
use lossproof_faults::{Class, Classified, Fault, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::Campaign;
use lossproof_spec::Dtype;
use lossproof_subject::{Count, Device};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write};

/// Holds every fault to the laws, injected into the reference of this configuration and precision.
///
/// # Errors
/// When a trainer cannot be made or does not have the claim.
pub(super) fn classify(
    keyhole: &Keyhole,
    (config, dtype): (Config, Dtype),
    faults: &[&'static Fault],
    campaign: &Campaign,
) -> miette::Result<Vec<Classified>> {
    let honest = |dtype| subjects::ours(config, dtype, Device::Cpu).map_err(Into::into);
    let one = |fault: &&'static Fault| keyhole.classify(fault, campaign, dtype, honest).into_diagnostic();
    faults.par_iter().map(one).collect()
}

/// What trainers are like in one column of the tables: precision, and how many micro-batches they take.
const COLUMNS: [(&str, Dtype, Count); 3] = [
    ("f64", Dtype::F64, Count::ANY),
    ("f32", Dtype::F32, Count::ANY),
    ("K = 4", Dtype::F64, Count::exactly(4)),
];

/// The faults behind one profile and one claim, for each of [`COLUMNS`].
pub(super) struct Row {
    profile: Profile,
    claim: NamedClaim,
    columns: Vec<Vec<Classified>>,
}

/// Head of the table whose lines are [`Row::markdown`].
pub(super) fn markdown_head() -> String {
    let mut text = String::from("| profile | claim |");
    for (name, ..) in COLUMNS {
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
        let mut columns = Vec::new();
        for (_, dtype, micro_batches) in COLUMNS {
            let keyhole = Keyhole { profile, claim: claim.spec, micro_batches };
            columns.push(classify(&keyhole, (Config::Pico, dtype), faults, campaign)?);
        }
        Ok(Self { profile, claim, columns })
    }

    /// How many of the visible are killed, as a line of a Markdown table.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("| {} | {} |", self.profile, self.claim.name);
        for column in &self.columns {
            let _ = write!(text, " {} | {} |", share(column, |_| true), share(column, is_of_weights));
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

    /// The class of every fault in every cell, as a letter: what is compared from one release to the next.
    pub(super) fn classes(&self) -> String {
        let mut text = String::from(
            "# The class of each fault: k killed, S SURVIVED, l lawful, . unchanged; for each claim in f64, in f32,\n\
             # and for exactly four micro-batches in f64. Written by `lossproof faults --profiles --classes FILE`.\n",
        );
        for profile in Profile::ALL {
            let rows: Vec<&Row> = self.0.iter().filter(|row| row.profile == profile).collect();
            let _ = write!(text, "\n{:<42}", profile.name());
            for row in &rows {
                let _ = write!(text, " {}", row.claim.name);
            }
            text.push('\n');
            let faults = rows.first().and_then(|row| row.columns.first()).map_or(0, Vec::len);
            for index in 0..faults {
                let _ = write!(text, "{:<42}", rows[0].columns[0][index].fault.bug.id);
                for row in &rows {
                    let letters: String =
                        row.columns.iter().map(|column| column[index].class.letter()).collect();
                    let _ = write!(text, " {letters:<width$}", width = row.claim.name.len());
                }
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
        }
        text
    }
}

/// Families that one loss and its gradient have to show.
fn is_of_weights(row: &Classified) -> bool {
    matches!(
        row.fault.bug.family,
        Family::Accumulation | Family::Alignment | Family::Masking | Family::Logging
    )
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
