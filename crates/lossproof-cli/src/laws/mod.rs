//! `lossproof laws`: both implementations held to every clause of docs/SPEC.md on random batches.

mod render;

use crate::{exit::Exit, output, subjects, verify::Dtype};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnostician;
use lossproof_faults::{Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Report, Verdict};
use lossproof_loop::LoopSubject;
use lossproof_spec::LossSpec;
use lossproof_subject::{Count, Device, Subject};
use lossproof_torch::libtorch;
use miette::IntoDiagnostic;
use std::{
    panic::resume_unwind,
    path::PathBuf,
    sync::Arc,
    thread::{self, ScopedJoinHandle},
    time::Instant,
};

/// Hold the reference trainer and libtorch to every law of the loss calculus, on random batches.
///
/// Each law is one or more clauses of docs/SPEC.md made executable. Ends with 0 when everything conforms, 1 when something does
/// not, 3 when something could not be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model: gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico")]
    config: Config,
    /// Arithmetic.
    #[arg(long, default_value = "f64")]
    dtype: Dtype,
    /// Where the models run: cpu, cuda or cuda:INDEX.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Only this implementation.
    #[arg(long)]
    subject: Option<Implementation>,
    /// See the implementations through this much of them: bare, parameters, steps or full. They then have
    /// one claim.
    #[arg(long, value_name = "NAME", requires = "claim")]
    profile: Option<Profile>,
    /// The one loss that they claim, and nothing else: sum, token-mean, sequence-mean, batch-mean or
    /// naive-accumulated-mean.
    #[arg(long, value_name = "NAME")]
    claim: Option<NamedClaim>,
    /// Put the implementations under the training loop, with the per-token mean as their one claim, and hold them to
    /// the laws of a whole training.
    #[arg(long, conflicts_with_all = ["profile", "claim", "device"])]
    training: bool,
    /// Only this law, by its id; can be given more than once.
    #[arg(long, value_name = "ID")]
    law: Vec<String>,
    /// Random cases per law; by default 256 for pico, 16 for the others.
    #[arg(long, value_name = "N")]
    cases: Option<u32>,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write the reports as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Implementation {
    /// The reference, on dfdx.
    Reference,
    /// The independent implementation, on libtorch.
    Libtorch,
}

impl Implementation {
    /// Both, in the order of the report.
    const ALL: [Self; 2] = [Self::Reference, Self::Libtorch];

    /// Whoever says what a failing subject looks like takes the other implementation to be right.
    fn other(self, config: Config, dtype: lossproof_spec::Dtype, device: Device) -> Diagnostician {
        match self {
            Self::Reference => {
                Diagnostician::with_reference(move || Ok(libtorch(&subjects::named(config), dtype, device)?))
            }
            Self::Libtorch => subjects::beside_the_reference(config, dtype, device),
        }
    }
}

/// What a subject was found to be.
struct Found {
    subject: String,
    reports: Vec<Report>,
    seconds: f64,
}

/// Holds the implementations to the laws and reports it on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    subjects::check_device(args.device)?;
    let mut laws = selected(&args.law)?;
    if args.law.is_empty() {
        // A trainer by itself has no loop; under one, the other laws are what it is held to without.
        laws.retain(|law| law.needs_training() == args.training);
    }
    // Before minutes are spent on what could not be written.
    output::check_writable(args.json.as_deref())?;
    let campaign = Campaign {
        cases: args.cases.unwrap_or(if args.config == Config::Pico { 256 } else { 16 }),
        seed: args.seed,
        size: size(args.config),
        // It keeps every answer of a case, and tries the law again for every tensor.
        control: matches!(args.config, Config::Pico | Config::Nano),
        ..Campaign::default()
    };
    let bars = MultiProgress::new();
    // Side by side: each computes on one core for most of the time.
    let all: Vec<Found> = thread::scope(|scope| {
        let chosen =
            Implementation::ALL.into_iter().filter(|one| args.subject.is_none_or(|only| only == *one));
        let started: Vec<_> = chosen
            .map(|one| {
                let bar = bars.add(ProgressBar::no_length().with_style(ProgressStyle::default_spinner()));
                let (laws, campaign) = (&laws, &campaign);
                scope.spawn(move || args.hold(one, laws, campaign, &bar))
            })
            .collect();
        let end = |held: ScopedJoinHandle<'_, _>| held.join().unwrap_or_else(|panic| resume_unwind(panic));
        started.into_iter().map(end).collect::<miette::Result<_>>()
    })?;
    output::print(&render::text(args.config, &campaign, &all))?;
    if let Some(path) = &args.json {
        output::write_json(path, &render::json(args.config, &campaign, &all))?;
    }
    Ok(exit(&all))
}

impl Args {
    /// Holds one implementation to the laws, in turn.
    fn hold(
        &self,
        implementation: Implementation,
        laws: &[&'static Law],
        campaign: &Campaign,
        bar: &ProgressBar,
    ) -> miette::Result<Found> {
        let mut subject = self.make(implementation)?;
        let other = implementation.other(self.config, self.dtype.into(), self.device);
        let campaign = Campaign { examiner: Some(Arc::new(other)), ..campaign.clone() };
        let info = subject.info();
        let started = Instant::now();
        let mut reports = Vec::new();
        for law in laws {
            bar.set_message(format!("{}: {}", info.name, law.id()));
            bar.tick();
            reports.push(campaign.run(law, &mut *subject).into_diagnostic()?);
        }
        bar.finish_and_clear();
        let subject = format!(
            "{} {} ({}), {} on {}",
            info.name, info.version, info.framework, info.dtypes, info.device
        );
        Ok(Found { subject, reports, seconds: started.elapsed().as_secs_f64() })
    }

    fn make(&self, implementation: Implementation) -> miette::Result<Box<dyn Subject>> {
        let dtype = self.dtype.into();
        if self.training {
            let initial = subjects::initial(self.config, 0);
            let trainer = match implementation {
                Implementation::Reference => subjects::ours_for_a_loop(self.config, dtype, initial)?,
                Implementation::Libtorch => subjects::theirs_for_a_loop(self.config, dtype, &*initial)?,
            };
            return Ok(Box::new(LoopSubject::new(trainer, LossSpec::token_mean()).into_diagnostic()?));
        }
        let subject = match implementation {
            Implementation::Reference => subjects::ours(self.config, dtype, self.device),
            Implementation::Libtorch => subjects::theirs(self.config, dtype, self.device),
        }?;
        let Some(claim) = self.claim else { return Ok(subject) };
        let profile = self.profile.unwrap_or(Profile::Full);
        let keyhole = Keyhole { profile, claim: claim.spec, micro_batches: Count::ANY };
        keyhole.of(subject).into_diagnostic()
    }
}

/// Batches as large as a model of this size can be held to them with two cores and 24 GiB.
fn size(config: Config) -> Size {
    match config {
        Config::Pico | Config::Nano => Size::default(),
        _ => Size { ranks: 1..=2, micro_batches: 1..=2, sequences: 1..=2, positions: 1..=6 },
    }
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
        if has(&[Verdict::Fail, Verdict::Errored, Verdict::ExpectedFailure, Verdict::UnexpectedPass]) {
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
