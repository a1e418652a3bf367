//! The one trainer that a command looks at: in a process of its own, or one of ours.

#[cfg(feature = "trainers")]
mod own;

use crate::adapter::AdapterArgs;
use lossproof_diagnosis::{Bug, Diagnostician};
use lossproof_process::Adapter;
use lossproof_spec::LossSpec;
use lossproof_subject::Subject;
use miette::IntoDiagnostic;
#[cfg(feature = "trainers")]
pub(crate) use own::fault;

/// Which trainer is looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainerArgs {
    #[cfg(feature = "trainers")]
    #[command(flatten)]
    own: own::OwnArgs,
    #[command(flatten)]
    adapter: AdapterArgs,
}

/// A trainer, and what the command line says of it.
pub(crate) struct Trainer {
    pub(crate) judged: Judged,
    /// The bug that is injected into it.
    pub(crate) fault: Option<&'static Bug>,
    /// Whoever shares nothing with it and has the same parameters.
    pub(crate) reference: Option<Box<dyn Subject>>,
    /// The one loss that it is made to claim.
    pub(crate) claim: Option<LossSpec>,
}

/// A trainer that is judged, and how it is left.
pub(crate) enum Judged {
    /// One of ours.
    #[cfg(feature = "trainers")]
    Own(Box<dyn Subject>),
    /// One in a process of its own.
    Process(Box<Adapter>),
}

impl TrainerArgs {
    /// The trainer that is named.
    ///
    /// # Errors
    /// When it cannot be made, or does not start.
    pub(crate) fn open(&self) -> miette::Result<Trainer> {
        #[cfg(feature = "trainers")]
        let Some(adapter) = self.adapter.open()? else { return self.own.open() };
        #[cfg(not(feature = "trainers"))]
        let adapter = self.adapter.required()?;
        let judged = Judged::Process(Box::new(adapter));
        Ok(Trainer { judged, fault: None, reference: None, claim: None })
    }

    /// Whoever diagnoses it.
    #[cfg_attr(
        not(feature = "trainers"),
        expect(clippy::unused_self, reason = "one of ours has a reference")
    )]
    pub(crate) fn diagnostician(&self) -> Diagnostician {
        #[cfg(feature = "trainers")]
        if !self.adapter.is_given() {
            return self.own.diagnostician();
        }
        Diagnostician::default()
    }
}

impl Judged {
    /// Whether it is none of ours.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Process(_))
    }

    /// The trainer.
    pub(crate) fn subject(&mut self) -> &mut dyn Subject {
        match self {
            #[cfg(feature = "trainers")]
            Self::Own(subject) => &mut **subject,
            Self::Process(adapter) => &mut **adapter,
        }
    }

    /// Ends its process, where it has one: what it left is looked at, and a recording gets its name.
    ///
    /// # Errors
    /// When more came than was asked for, or the recording cannot be written.
    pub(crate) fn finish(self) -> miette::Result<()> {
        match self {
            #[cfg(feature = "trainers")]
            Self::Own(_) => Ok(()),
            Self::Process(adapter) => adapter.finish().into_diagnostic(),
        }
    }
}
