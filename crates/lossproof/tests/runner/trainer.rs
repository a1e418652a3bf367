//! A trainer that computes everything right, and what it does to the process that it is tested in.

use crate::bigram::{Bigram, Mistake, Offer};
use lossproof::{
    Claims, Count, Evaluation, GlobalBatch, GradientSink, LoadParameters, LogPolicy, LossSpec, Observation,
    OptimizerSteps, ParameterInfo, Subject, SubjectError, SubjectInfo, TokenLosses, Unsupported,
    UpstreamWeights,
};
use std::{process, str::FromStr, thread, time::Duration};

/// What is done to a process.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Deed {
    Exit,
    Abort,
    Panic,
    Hang,
}

impl Deed {
    fn done(self) {
        match self {
            Self::Exit => process::exit(0),
            Self::Abort => process::abort(),
            Self::Panic => panic!("boom"),
            Self::Hang => loop {
                thread::sleep(Duration::from_secs(1));
            },
        }
    }
}

/// When a trainer does it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    Make,
    Accumulate,
    Drop,
}

/// What a trainer is known to do.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Habit {
    /// What it should, and it lacks nothing.
    Honest,
    /// The same, and it loads no parameters.
    LoadsNothing,
    /// The same, and it takes one micro-batch of one rank, so that laws on more have nothing to compare.
    OneMicroBatch,
    /// The same, and it refuses every loss spec but its own.
    OwnSpecOnly,
    /// The same, and it logs the loss of its last micro-batch as that of all.
    LogsLast,
    /// Something else: `exit-in-drop`.
    Bad(Deed, Moment),
}

impl FromStr for Habit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("no habit: {text}");
        let (deed, moment) = match text {
            "honest" => return Ok(Self::Honest),
            "loads-nothing" => return Ok(Self::LoadsNothing),
            "one-micro-batch" => return Ok(Self::OneMicroBatch),
            "own-spec-only" => return Ok(Self::OwnSpecOnly),
            "logs-last" => return Ok(Self::LogsLast),
            bad => bad.split_once("-in-").ok_or_else(unknown)?,
        };
        let deed = match deed {
            "exit" => Deed::Exit,
            "abort" => Deed::Abort,
            "panic" => Deed::Panic,
            "hang" => Deed::Hang,
            _ => return Err(unknown()),
        };
        let moment = match moment {
            "make" => Moment::Make,
            "accumulate" => Moment::Accumulate,
            "drop" => Moment::Drop,
            _ => return Err(unknown()),
        };
        Ok(Self::Bad(deed, moment))
    }
}

/// Makes a trainer with a habit.
pub(crate) fn trainer(habit: Habit) -> Box<dyn Subject> {
    let mistake = (habit == Habit::LogsLast).then_some(Mistake::LogsBy(LogPolicy::LastMicroBatch));
    let inner = Bigram::new(Offer { loads: habit != Habit::LoadsNothing, ..Offer::ALL }, mistake);
    let trainer = Trainer { inner, habit };
    trainer.at(Moment::Make);
    Box::new(trainer)
}

struct Trainer {
    inner: Bigram,
    habit: Habit,
}

impl Trainer {
    fn at(&self, now: Moment) {
        match self.habit {
            Habit::Bad(deed, moment) if moment == now => deed.done(),
            _ => {}
        }
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        self.at(Moment::Drop);
    }
}

impl Subject for Trainer {
    fn info(&self) -> SubjectInfo {
        let mut info = self.inner.info();
        if self.habit == Habit::OneMicroBatch {
            info.limits.ranks = Count::exactly(1);
            info.limits.micro_batches = Count::exactly(1);
        }
        if self.habit == Habit::OwnSpecOnly {
            info.claims = Claims::One(LossSpec::token_mean());
        }
        info
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.inner.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.inner.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.inner.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.at(Moment::Accumulate);
        self.inner.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.inner.parameter_loading()
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.inner.token_losses()
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        self.inner.upstream_weights()
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        self.inner.optimizer_steps()
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        self.inner.evaluation()
    }
}
