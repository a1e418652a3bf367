//! The batch that a trainer is scanned on: designed, of given lengths, or from a case file.

use super::{Args, UsageError};
use crate::explain::{Batch, BatchShape};
use lossproof_cases::{Case, CaseFile, Scale, batch_of_layout, designed_batch};
use lossproof_spec::LossSpec;
use lossproof_subject::Limits;

/// The case that the arguments ask for, under the per-token mean where they name no file, and where it is
/// from.
///
/// # Errors
/// When the arguments describe no batch, or the case file cannot be read.
pub(super) fn case(args: &Args, limits: &Limits) -> miette::Result<(Case, String)> {
    if let Some(path) = &args.case {
        let file = CaseFile::read(path).map_err(UsageError::from)?;
        return Ok((file.case, format!("the case in {}", path.display())));
    }
    let unsplit = BatchShape { ranks: 1, micro_batches: 1, ..BatchShape::default() };
    let (batch, origin) = if args.shape == unsplit {
        (designed_batch(limits, args.seed), "the designed batch")
    } else {
        (batch_of_layout(&Batch::new(&args.shape)?.layout, limits, args.seed), "the batch of these lengths")
    };
    let (spec, upstream) = (LossSpec::token_mean(), vec![1.0]);
    let case = Case { batch, spec, scale: Scale::Probe, upstream, seed: args.seed };
    Ok((case, origin.to_owned()))
}
