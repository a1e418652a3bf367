//! The trainers that can be scanned, and who is asked for the gradients of token losses.

use super::{Args, UsageError};
use crate::subjects;
use lossproof_faults::{Fault, Keyhole, Profile};
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Count, Device, Subject};
use miette::IntoDiagnostic;

/// A trainer that can be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Trainer {
    /// The reference, on dfdx.
    Reference,
    /// The independent implementation, on libtorch.
    Libtorch,
    /// femto-gpt 0.2.0 as it was released, in f32; it prints a line for each of its own steps.
    #[cfg(feature = "femto-gpt")]
    FemtoGpt,
}

/// Numbers that a scan may hold: a gigabyte of them.
const MOST_NUMBERS: usize = 1 << 27;

/// The fault with this id.
///
/// # Errors
/// When there is none.
pub(super) fn fault(id: &str) -> Result<&'static Fault, UsageError> {
    Fault::named(id).ok_or_else(|| {
        let known: Vec<_> = Fault::all().map(|fault| fault.bug.id).collect();
        UsageError::Fault { id: id.to_owned(), known: known.join(", ") }
    })
}

/// The trainer that the arguments name, with its fault, seen as they say.
///
/// # Errors
/// When it cannot be made or does not have the claim.
pub(super) fn made(args: &Args, fault: Option<&Fault>) -> miette::Result<Box<dyn Subject>> {
    let honest = match args.subject {
        Trainer::Reference => subjects::ours(args.config, args.dtype.into(), Device::Cpu)?,
        Trainer::Libtorch => subjects::theirs(args.config, args.dtype.into(), Device::Cpu)?,
        #[cfg(feature = "femto-gpt")]
        Trainer::FemtoGpt => {
            use lossproof_femto_gpt::{Config, Head, femto_gpt};
            femto_gpt(Config::PICO, Head::Own).into_diagnostic()?
        }
    };
    let subject = match fault {
        Some(fault) => fault.inject(honest),
        None => honest,
    };
    let Some(claim) = args.claim else { return Ok(subject) };
    let profile = args.profile.unwrap_or(Profile::Full);
    let keyhole = Keyhole { profile, claim: claim.spec, micro_batches: Count::ANY };
    keyhole.of(subject).into_diagnostic()
}

/// Whoever shares nothing with the trainer and has the same parameters, in f64.
///
/// # Errors
/// When it cannot be made.
pub(super) fn reference(args: &Args) -> miette::Result<Option<Box<dyn Subject>>> {
    match args.subject {
        Trainer::Reference => subjects::theirs(args.config, Dtype::F64, Device::Cpu).map(Some),
        Trainer::Libtorch => subjects::ours(args.config, Dtype::F64, Device::Cpu).map(Some),
        #[cfg(feature = "femto-gpt")]
        Trainer::FemtoGpt => Ok(None),
    }
}

/// Refuses what does not fit into memory.
///
/// # Errors
/// When the gradients of all predictions are too many numbers.
pub(super) fn check_size(subject: &dyn Subject, batch: &GlobalBatch) -> Result<(), UsageError> {
    let elements =
        subject.parameters().iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    let predictions = batch.predictions().count();
    if predictions.saturating_mul(elements) > MOST_NUMBERS {
        return Err(UsageError::Size { predictions, elements });
    }
    Ok(())
}
