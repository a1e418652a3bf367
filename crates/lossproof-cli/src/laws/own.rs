//! Our own two trainers, held to the laws side by side.

use super::{Found, held};
use crate::{
    progress::ProgressDisplay,
    ranks,
    subjects::{self, Arithmetic},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnostician;
use lossproof_faults::{Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Law};
use lossproof_loop::{LoopParts, LoopSubject};
use lossproof_mpi::{Order, ProcessRanks, RankedSubject, World, serve};
use lossproof_spec::LossSpec;
use lossproof_subject::{Count, Device, LoopTrainer, Subject};
use miette::IntoDiagnostic;
use std::{
    panic::resume_unwind,
    sync::Arc,
    thread::{self, ScopedJoinHandle},
};

/// Which of them, and how.
#[derive(Debug, clap::Args)]
#[group(id = "own", multiple = true, conflicts_with_all = ["adapter", "replay"])]
pub(super) struct OwnArgs {
    /// Model: gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico")]
    pub(super) config: Config,
    /// Arithmetic.
    #[arg(long, default_value = "f64")]
    dtype: Arithmetic,
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
    pub(super) training: bool,
    /// Let each rank be a process of its own, one of those that `mpirun` has started: `mpirun -n 4 lossproof laws
    /// --ranks-as-processes`.
    #[arg(long, conflicts_with_all = ["profile", "claim", "device"])]
    ranks_as_processes: bool,
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
            Self::Reference => subjects::beside_libtorch(config, dtype, device),
            Self::Libtorch => subjects::beside_the_reference(config, dtype, device),
        }
    }
}

impl OwnArgs {
    /// Holds the implementations that are asked for to the laws.
    ///
    /// # Errors
    /// When one cannot be made, or a case file cannot be read.
    pub(super) fn hold(&self, laws: &[&'static Law], campaign: &Campaign) -> miette::Result<Vec<Found>> {
        subjects::check_device(self.device)?;
        let bars = MultiProgress::new();
        // Side by side: each computes on one core for most of the time.
        thread::scope(|scope| {
            let started: Vec<_> = self
                .chosen()
                .map(|one| {
                    let bar = ProgressBar::no_length().with_style(ProgressStyle::default_spinner());
                    let progress = ProgressDisplay::on(bars.add(bar));
                    scope.spawn(move || {
                        let mut subject = self.make(one)?;
                        let other = one.other(self.config, self.dtype.truth(), self.device);
                        let campaign = Campaign { examiner: Some(Arc::new(other)), ..campaign.clone() };
                        held(&mut *subject, laws, &campaign, &progress)
                    })
                })
                .collect();
            let end =
                |held: ScopedJoinHandle<'_, _>| held.join().unwrap_or_else(|panic| resume_unwind(panic));
            started.into_iter().map(end).collect::<miette::Result<_>>()
        })
    }

    /// The processes that ranks are, where they are asked for.
    ///
    /// # Errors
    /// When there are none, or this build has no MPI.
    pub(super) fn world(&self) -> miette::Result<Option<World>> {
        if !self.ranks_as_processes {
            ranks::alone("`laws` without --ranks-as-processes")?;
            return Ok(None);
        }
        let none = || {
            miette::miette!(
                help = "start several: `mpirun -n 4 lossproof laws --ranks-as-processes`",
                "this is one process by itself, and ranks are to be processes"
            )
        };
        ranks::joined(Order::Engine)?.ok_or_else(none).map(Some)
    }

    /// Holds the implementations that are asked for to the laws, each rank in a process of its own. The first process
    /// judges, the others compute what it asks.
    ///
    /// # Errors
    /// When one cannot be made, a case file cannot be read, or a rank is lost.
    pub(super) fn hold_ranks(
        &self,
        world: &World,
        laws: &[&'static Law],
        campaign: &Campaign,
    ) -> miette::Result<Vec<Found>> {
        let claim = LossSpec::token_mean();
        let mut all = Vec::new();
        for one in self.chosen() {
            let mut own = self.make_rank(one, world)?;
            if world.rank() > 0 {
                serve(world, &mut *own, claim).into_diagnostic()?;
                continue;
            }
            let mut subject = RankedSubject::new(world.clone(), own, claim);
            let other = one.other(self.config, self.dtype.truth(), self.device).of_ranks_apart();
            let campaign = Campaign { examiner: Some(Arc::new(other)), ..campaign.clone() };
            all.push(held(&mut subject, laws, &campaign, &ProgressDisplay::spinner())?);
            if let Some(lost) = world.lost() {
                return Err(lost).into_diagnostic();
            }
        }
        Ok(all)
    }

    /// The implementations that are asked for.
    fn chosen(&self) -> impl Iterator<Item = Implementation> {
        Implementation::ALL.into_iter().filter(|one| self.subject.is_none_or(|only| only == *one))
    }

    /// The trainer of one rank.
    fn make_rank(&self, implementation: Implementation, world: &World) -> miette::Result<Box<dyn Subject>> {
        if !self.training {
            return self.make(implementation);
        }
        let ranks = Box::new(ProcessRanks::new(world.clone()));
        let trainer = self.loop_trainer(implementation)?;
        let subject = LoopSubject::over(trainer, LossSpec::token_mean(), LoopParts::LAWFUL, ranks);
        Ok(Box::new(subject.into_diagnostic()?))
    }

    fn loop_trainer(&self, implementation: Implementation) -> miette::Result<Box<dyn LoopTrainer>> {
        let initial = subjects::initial(self.config, 0);
        match implementation {
            Implementation::Reference => {
                subjects::ours_for_a_loop(self.config, self.dtype.of_the_reference()?, initial)
            }
            Implementation::Libtorch => {
                subjects::theirs_for_a_loop(self.config, self.dtype.dtype(), &*initial)
            }
        }
    }

    /// Batches as large as a model of this size can be held to them with two cores and 24 GiB.
    pub(super) fn size(&self) -> Size {
        match self.config {
            Config::Pico | Config::Nano => Size::default(),
            _ => Size { ranks: 1..=2, micro_batches: 1..=2, sequences: 1..=2, positions: 1..=6 },
        }
    }

    /// Whether the negative control is taken: it keeps every answer of a case, and tries the law again for every
    /// tensor.
    pub(super) fn control(&self) -> bool {
        matches!(self.config, Config::Pico | Config::Nano)
    }

    fn make(&self, implementation: Implementation) -> miette::Result<Box<dyn Subject>> {
        if self.training {
            let trainer = self.loop_trainer(implementation)?;
            return Ok(Box::new(LoopSubject::new(trainer, LossSpec::token_mean()).into_diagnostic()?));
        }
        let subject = match implementation {
            Implementation::Reference => {
                subjects::ours(self.config, self.dtype.of_the_reference()?, self.device)
            }
            Implementation::Libtorch => subjects::theirs_in(self.config, self.dtype, self.device),
        }?;
        let Some(claim) = self.claim else { return Ok(subject) };
        let profile = self.profile.unwrap_or(Profile::Full);
        let keyhole = Keyhole { profile, claim: claim.spec, micro_batches: Count::ANY };
        keyhole.of(subject).into_diagnostic()
    }
}
