//! One of our own trainers, or one that none of us wrote, with a bug injected or not.

use super::{Judged, Trainer};
use crate::subjects::{self, Arithmetic};
use lossproof_diagnosis::Diagnostician;
use lossproof_faults::{Fault, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;
use lossproof_subject::{Count, Device, Subject};
use miette::{Diagnostic, IntoDiagnostic};

/// Which of them, and how it is seen.
#[derive(Debug, clap::Args)]
#[group(id = "own", multiple = true, conflicts_with_all = ["adapter", "replay"])]
pub(crate) struct OwnArgs {
    /// The trainer that is looked at.
    #[arg(long, default_value = "reference")]
    subject: Own,
    /// Inject this known bug into it, by its id in docs/bugs.md.
    #[arg(long, value_name = "ID")]
    fault: Option<String>,
    /// Model of the reference and of libtorch: gpt2-pico or gpt2-nano.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico")]
    config: Config,
    /// Arithmetic of the reference and of libtorch.
    #[arg(long, default_value = "f64")]
    dtype: Arithmetic,
    /// The one loss that the trainer claims, and nothing else: sum, token-mean, sequence-mean, batch-mean
    /// or naive-accumulated-mean. Without it, it claims what it has.
    #[arg(long, value_name = "NAME")]
    claim: Option<NamedClaim>,
    /// See it through this much of it: bare, parameters, steps or full.
    #[arg(long, value_name = "NAME", requires = "claim")]
    profile: Option<Profile>,
}

/// A trainer that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Own {
    /// The reference, on dfdx.
    Reference,
    /// The independent implementation, on libtorch.
    Libtorch,
    /// femto-gpt 0.2.0 as it was released, in f32; it prints a line for each of its own steps.
    #[cfg(feature = "femto-gpt")]
    FemtoGpt,
}

/// A bug that cannot be injected.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("there is no fault `{id}`")]
#[diagnostic(help("the faults are {known}"))]
struct NoFault {
    id: String,
    known: String,
}

impl OwnArgs {
    /// The trainer, and whoever shares nothing with it and has the same parameters, in f64.
    ///
    /// # Errors
    /// When it cannot be made or does not have the claim.
    pub(super) fn open(&self) -> miette::Result<Trainer> {
        let fault = self.fault.as_deref().map(fault).transpose()?;
        let honest = match self.subject {
            Own::Reference => subjects::ours(self.config, self.dtype.of_the_reference()?, Device::Cpu)?,
            Own::Libtorch => subjects::theirs_in(self.config, self.dtype, Device::Cpu)?,
            #[cfg(feature = "femto-gpt")]
            Own::FemtoGpt => {
                use lossproof_femto_gpt::{Config, Head, femto_gpt};
                femto_gpt(Config::PICO, Head::Own).into_diagnostic()?
            }
        };
        let subject = match fault {
            Some(fault) => fault.inject(honest),
            None => honest,
        };
        Ok(Trainer {
            judged: Judged::Own(self.seen(subject)?),
            fault: fault.map(|fault| fault.bug),
            reference: self.reference()?,
            claim: self.claim.map(|claim| claim.spec),
        })
    }

    /// The trainer as the arguments show it.
    fn seen(&self, subject: Box<dyn Subject>) -> miette::Result<Box<dyn Subject>> {
        let Some(claim) = self.claim else { return Ok(subject) };
        let profile = self.profile.unwrap_or(Profile::Full);
        let keyhole = Keyhole { profile, claim: claim.spec, micro_batches: Count::ANY };
        keyhole.of(subject).into_diagnostic()
    }

    fn reference(&self) -> miette::Result<Option<Box<dyn Subject>>> {
        match self.subject {
            Own::Reference => subjects::theirs(self.config, Dtype::F64, Device::Cpu).map(Some),
            Own::Libtorch => subjects::ours(self.config, Dtype::F64, Device::Cpu).map(Some),
            #[cfg(feature = "femto-gpt")]
            Own::FemtoGpt => Ok(None),
        }
    }

    /// Whoever diagnoses it.
    pub(super) fn diagnostician(&self) -> Diagnostician {
        let config = self.config;
        match self.subject {
            Own::Reference => subjects::beside_libtorch(config, Dtype::F64, Device::Cpu),
            Own::Libtorch => subjects::beside_the_reference(config, Dtype::F64, Device::Cpu),
            #[cfg(feature = "femto-gpt")]
            Own::FemtoGpt => Diagnostician::default(),
        }
    }
}

/// The fault with this id.
///
/// # Errors
/// When there is none.
pub(crate) fn fault(id: &str) -> miette::Result<&'static Fault> {
    Fault::named(id).ok_or_else(|| {
        let known: Vec<_> = Fault::all().map(|fault| fault.bug.id).collect();
        NoFault { id: id.to_owned(), known: known.join(", ") }.into()
    })
}
