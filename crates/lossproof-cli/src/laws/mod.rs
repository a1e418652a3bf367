//! `lossproof laws`: trainers held to every clause of docs/SPEC.md on random batches.

#[cfg(feature = "trainers")]
mod own;
pub(crate) mod page;
mod render;

use crate::{
    adapter::AdapterArgs, exit::Exit, output, progress::ProgressDisplay, report_files::ReportFiles,
    text::headline,
};
use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnostician;
use lossproof_laws::{Campaign, Examiner, LAWS, Law, RememberingExaminer, Report, Verdict};
use lossproof_subject::Subject;
use miette::IntoDiagnostic;
use std::{path::PathBuf, sync::Arc, time::Instant};

/// Hold the reference trainer and libtorch, or the trainer behind --adapter, to every law of the loss calculus, on
/// random batches.
///
/// Each law is one or more clauses of docs/SPEC.md made executable. Ends with 0 when everything conforms, 1
/// when something does not, 3 when something could not be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[cfg(feature = "trainers")]
    #[command(flatten)]
    own: own::OwnArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Only this law, by its id; can be given more than once.
    #[arg(long, value_name = "ID")]
    law: Vec<String>,
    /// Random cases per law; by default 256 for gpt2-pico, 64 behind --adapter, 16 for the others.
    #[arg(long, value_name = "N")]
    cases: Option<u32>,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write the reports as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// The ranks of a trainer, where they are processes.
#[cfg(feature = "trainers")]
type Ranks = lossproof_mpi::World;

/// Only trainers of our own have such ranks.
#[cfg(not(feature = "trainers"))]
enum Ranks {}

/// Cases per law of a trainer in a process of its own, whose size is not known.
const CASES: u32 = 64;

/// What a subject was found to be.
pub(crate) struct Found {
    pub(crate) subject: String,
    /// What of the campaign's batches it takes.
    pub(crate) size: Size,
    pub(crate) reports: Vec<Report>,
    pub(crate) seconds: f64,
    /// How its process broke, where it has one, whatever became of the laws.
    pub(crate) breaches: Vec<String>,
}

/// Holds the trainers to the laws and reports it on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let laws = selected(&args.law)?;
    // Before minutes are spent on what could not be written.
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    #[cfg(feature = "trainers")]
    if let Some(world) = args.own.world()? {
        return crate::ranks::concluded(&world, report(args, &laws, Some(&world)));
    }
    report(args, &laws, None)
}

fn report(args: &Args, laws: &[&'static Law], ranks: Option<&Ranks>) -> miette::Result<Exit> {
    let (title, campaign, all) = args.hold(laws, ranks)?;
    if all.is_empty() {
        // Of the processes of ranks it is the first that judges.
        return Ok(Exit::Conforms);
    }
    output::print(&render::text(&title, &campaign, &all))?;
    if let Some(path) = &args.json {
        output::write_json(path, &render::json(&title, &campaign, &all))?;
    }
    args.files.write(|| page::report(&title, &all))?;
    Ok(exit(&all))
}

impl Args {
    /// Holds whoever is named to the laws: what they are called together, and what they were found to be.
    #[cfg(feature = "trainers")]
    fn hold(
        &self,
        laws: &[&'static Law],
        ranks: Option<&Ranks>,
    ) -> miette::Result<(String, Campaign, Vec<Found>)> {
        if let Some(adapter) = self.adapter.open()? {
            return self.hold_adapter(adapter, laws);
        }
        let mut laws = laws.to_vec();
        if self.law.is_empty() {
            // A trainer by itself has no loop; under one, the other laws are what it is held to without.
            laws.retain(|law| law.needs_training() == self.own.training);
        }
        let cases = if self.own.config == lossproof_gpt2::Config::Pico { 256 } else { 16 };
        let campaign =
            Campaign { size: self.own.size(), control: self.own.control(), ..self.campaign(cases) };
        let all = match ranks {
            Some(world) => self.own.hold_ranks(world, &laws, &campaign)?,
            None => self.own.hold(&laws, &campaign)?,
        };
        Ok((self.own.config.to_string(), campaign, all))
    }

    #[cfg(not(feature = "trainers"))]
    fn hold(
        &self,
        laws: &[&'static Law],
        _: Option<&Ranks>,
    ) -> miette::Result<(String, Campaign, Vec<Found>)> {
        self.hold_adapter(self.adapter.required()?, laws)
    }

    fn hold_adapter(
        &self,
        mut adapter: lossproof_process::Adapter,
        laws: &[&'static Law],
    ) -> miette::Result<(String, Campaign, Vec<Found>)> {
        let examiner = Some(Arc::new(Diagnostician::default()) as Arc<dyn Examiner>);
        let campaign = Campaign { examiner, ..self.campaign(CASES) };
        let progress = ProgressDisplay::spinner();
        let name = adapter.info().name;
        let mut found = held(&mut adapter, laws, &campaign, &progress)?;
        found.breaches = adapter.breaches().iter().map(ToString::to_string).collect();
        adapter.finish().into_diagnostic()?;
        Ok((name, campaign, vec![found]))
    }

    fn campaign(&self, cases: u32) -> Campaign {
        Campaign { cases: self.cases.unwrap_or(cases), seed: self.seed, ..Campaign::default() }
    }
}

/// Holds a subject to the laws, in turn. It is examined once in each aspect, when it breaks the first law of it.
///
/// # Errors
/// When a case file cannot be read.
fn held(
    subject: &mut dyn Subject,
    laws: &[&'static Law],
    campaign: &Campaign,
    progress: &ProgressDisplay,
) -> miette::Result<Found> {
    let info = subject.info();
    let started = Instant::now();
    let mut campaign = campaign.clone();
    campaign.examiner =
        campaign.examiner.map(|examiner| Arc::new(RememberingExaminer::new(examiner)) as Arc<dyn Examiner>);
    let mut reports: Vec<Report> = Vec::new();
    for law in laws {
        progress.at(&format!("{}: {}", info.name, law.id()));
        reports.push(campaign.run(law, subject).into_diagnostic()?);
    }
    progress.finish();
    Ok(Found {
        subject: headline(&info),
        size: campaign.size.within(&info.limits),
        reports,
        seconds: started.elapsed().as_secs_f64(),
        breaches: Vec::new(),
    })
}

fn selected(ids: &[String]) -> miette::Result<Vec<&'static Law>> {
    if ids.is_empty() {
        return Ok(LAWS.iter().collect());
    }
    let named = |id: &String| {
        Law::named(id).ok_or_else(|| {
            let known: Vec<_> = LAWS.iter().map(Law::id).collect();
            miette::miette!(help = format!("the laws are {}", known.join(", ")), "there is no law `{id}`")
        })
    };
    ids.iter().map(named).collect()
}

/// Whether all is in order. Where nothing passed, nothing was checked.
fn exit(all: &[Found]) -> Exit {
    let mut exit = Exit::Conforms;
    for found in all {
        let has =
            |verdicts: &[Verdict]| found.reports.iter().any(|report| verdicts.contains(&report.verdict));
        let failed =
            has(&[Verdict::Fail, Verdict::Errored, Verdict::ExpectedFailure, Verdict::UnexpectedPass]);
        if failed || !found.breaches.is_empty() {
            return Exit::Deviates;
        }
        if has(&[Verdict::Unchecked]) || !has(&[Verdict::Pass]) {
            exit = Exit::Unchecked;
        }
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_that_does_not_exist_is_named() {
        assert_eq!(selected(&[]).unwrap().len(), LAWS.len());
        assert_eq!(selected(&["packing".to_owned()]).unwrap()[0].id(), "packing");
        let error = selected(&["packin".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no law `packin`");
    }
}
