//! The bugs of a training loop, of ranks that are apart, and of what is learnt beside the next token: what fails,
//! and as what that is taken.

use super::render::seen_in;
use crate::{
    subjects,
    table::{Align, Table},
};
use lossproof_diagnosis::{Bug, PatternDiagnosis};
use lossproof_faults::{ObjectiveFault, RankFault, TrainingFault};
use lossproof_gpt2::Config;
use lossproof_mpi::{Order, ProcessRanks, RankedSubject, World, on_threads, serve};
use lossproof_spec::{Dtype, LossSpec};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::{collections::BTreeSet, fmt::Write, time::Duration};

/// Label smoothing of the loss that is claimed, so that a validation which is smoothed shows.
const SMOOTHING: f64 = 0.1;

/// A bug, and what is said of the reference where it has it.
pub(super) struct Row {
    pub(super) bug: &'static Bug,
    diagnosis: PatternDiagnosis,
    /// The law of a clause that the bug violates.
    pub(super) killed_by: Option<&'static str>,
}

impl Row {
    /// The laws that fail.
    pub(super) fn laws(&self) -> Vec<&'static str> {
        let laws: BTreeSet<&'static str> = self.diagnosis.pattern.iter().map(|(law, _)| *law).collect();
        laws.into_iter().collect()
    }

    /// Whether it is killed, and among the bugs that it is taken for.
    pub(super) fn is_right(&self) -> bool {
        self.killed_by.is_some() && self.is_named()
    }

    pub(super) fn is_named(&self) -> bool {
        self.diagnosis.bugs.iter().any(|bug| bug.id == self.bug.id)
    }

    pub(super) fn named(&self) -> String {
        let bugs: Vec<&str> = self.diagnosis.bugs.iter().map(|bug| bug.id).collect();
        match (self.is_named(), bugs.as_slice()) {
            (true, [_]) => "itself".to_owned(),
            (true, all) => format!("one of {}", all.len()),
            (false, []) => "no known bug".to_owned(),
            (false, all) => all.join(", "),
        }
    }
}

/// Puts the reference under a loop with each bug, and says what fails.
///
/// # Errors
/// When a trainer cannot be made.
pub(super) fn of_training() -> miette::Result<Vec<Row>> {
    let faults: Vec<&'static TrainingFault> = TrainingFault::all().collect();
    let claim = LossSpec { label_smoothing: SMOOTHING, ..LossSpec::token_mean() };
    let one = |fault: &&'static TrainingFault| -> miette::Result<Row> {
        let trainer =
            subjects::ours_for_a_loop(Config::Pico, Dtype::F64, subjects::initial(Config::Pico, 0))?;
        let mut subject = fault.inject(trainer, claim).into_diagnostic()?;
        let diagnosis = PatternDiagnosis::of_training(&mut *subject);
        let diagnosis = diagnosis.ok_or_else(|| miette::miette!("a loop without a training loop"))?;
        Ok(Row { bug: fault.bug, killed_by: diagnosis.law_against(fault.bug), diagnosis })
    };
    faults.par_iter().map(one).collect()
}

/// Ranks that are threads, where the command is one process.
const RANKS: usize = 3;

/// How long threads wait for each other.
const LIMIT: Duration = Duration::from_mins(2);

/// Puts the reference under a loop on ranks with each bug of theirs, and says what fails: in the processes of a world,
/// of which the first says it, or on threads.
///
/// # Errors
/// When a trainer cannot be made, or a rank is lost.
pub(super) fn of_ranks(world: Option<&World>) -> miette::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for fault in RankFault::all() {
        let found = match world {
            Some(world) => vec![on_rank(fault, world)],
            None => on_threads(RANKS, Order::Engine, LIMIT, |world| on_rank(fault, &world)),
        };
        for diagnosis in found {
            let Some(diagnosis) = diagnosis? else { continue };
            rows.push(Row { bug: fault.bug, killed_by: diagnosis.law_against(fault.bug), diagnosis });
        }
    }
    Ok(rows)
}

/// The part of one rank: the first one says what fails, and the others do what it asks.
fn on_rank(fault: &RankFault, world: &World) -> miette::Result<Option<PatternDiagnosis>> {
    let claim = LossSpec { label_smoothing: SMOOTHING, ..LossSpec::token_mean() };
    let trainer = subjects::ours_for_a_loop(Config::Pico, Dtype::F64, subjects::initial(Config::Pico, 0))?;
    let ranks = Box::new(ProcessRanks::new(world.clone()));
    let mut own = fault.inject(trainer, claim, ranks, world.rank()).into_diagnostic()?;
    if world.rank() > 0 {
        serve(world, &mut own, claim).into_diagnostic()?;
        return Ok(None);
    }
    let mut subject = RankedSubject::new(world.clone(), Box::new(own), claim);
    let diagnosis = PatternDiagnosis::of_ranks(&mut subject);
    diagnosis.ok_or_else(|| miette::miette!("a loop without a training loop")).map(Some)
}

/// Gives the reference each bug of an objective, and says what fails. Of a prefix a model with one block shows little.
///
/// # Errors
/// When a trainer cannot be made.
pub(super) fn of_objectives() -> miette::Result<Vec<Row>> {
    let faults: Vec<&'static ObjectiveFault> = ObjectiveFault::all().collect();
    let one = |fault: &&'static ObjectiveFault| -> miette::Result<Row> {
        let trainer =
            subjects::ours_for_a_loop(Config::Nano, Dtype::F64, subjects::initial(Config::Nano, 0))?;
        let diagnosis = PatternDiagnosis::of_objectives(&mut *fault.inject(trainer));
        let diagnosis = diagnosis.ok_or_else(|| miette::miette!("a trainer without objectives"))?;
        Ok(Row { bug: fault.bug, killed_by: diagnosis.law_against(fault.bug), diagnosis })
    };
    faults.par_iter().map(one).collect()
}

/// The table, and how many are killed and named.
pub(super) fn text(rows: &[Row]) -> String {
    let mut table = Table::new([
        ("fault", Align::Left),
        ("violates", Align::Left),
        ("killed by", Align::Left),
        ("laws", Align::Right),
        ("named", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.bug.id.to_owned(),
            row.bug.clauses.join(", "),
            row.killed_by.unwrap_or("SURVIVED").to_owned(),
            row.laws().len().to_string(),
            row.named(),
        ]);
    }
    format!("{}\n{}\n", table.render(), summary(rows))
}

fn summary(rows: &[Row]) -> String {
    let killed = rows.iter().filter(|row| row.killed_by.is_some()).count();
    let named = rows.iter().filter(|row| row.is_named()).count();
    let alone = rows.iter().filter(|row| row.is_named() && row.diagnosis.bugs.len() == 1).count();
    let all = rows.len();
    format!(
        "in-sample: {killed} of {all} killed, {named} of {all} named, {alone} of them alone and the others beside one \
         that fails in the same"
    )
}

/// The same for a page.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| bug | what is wrong | seen in | violates | killed by | laws | named |\n|---|---|---|---|---|---:|---|\n",
    );
    for row in rows {
        let bug = row.bug;
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | `{}` | {} | {} |",
            bug.id,
            bug.what,
            seen_in(bug),
            bug.clauses.join(", "),
            row.killed_by.unwrap_or("SURVIVED"),
            row.laws().len(),
            row.named(),
        );
    }
    let _ = write!(text, "\n{}.\n\n", summary(rows).replacen("in-sample", "In-sample", 1));
    text
}
