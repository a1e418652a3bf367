//! Verification at the true GPT-2 sizes: one model in memory at a time, of whose gradients only sketches are kept.

use super::{
    Progress, Report, ThirdForward, VerifyError,
    blame::{self, blames},
    growth::Growth,
    judge::Judge,
    semantics,
    side::Side,
    third,
    truth::Truth,
};
use lossproof_laws::blocks::Blocks;
use lossproof_numerics::ErrorModel;
use lossproof_spec::GlobalBatch;
use lossproof_subject::{ParameterInfo, ParameterSource, Subject, SubjectError};
use std::sync::Arc;

/// Makes a subject whose parameters are the source's. [`load_all`](lossproof_subject::load_all) brings one there that has room for them
/// twice.
pub type Make<'a> = Box<dyn FnOnce(Arc<dyn ParameterSource>) -> Result<Box<dyn Subject>, SubjectError> + 'a>;

/// What to verify: one or two subjects of one model and dtype, against an f64 truth where one fits in memory.
pub struct Streamed<'a> {
    /// Makers of the subjects that are judged, the reference first.
    pub judged: Vec<Make<'a>>,
    /// Maker of the f64 subject that serves as truth; itself held to finite differences of its own forward.
    pub truth: Option<Make<'a>>,
    /// A recording f64 subjects of both implementations are held to.
    pub third: Option<ThirdForward<'a>>,
    /// The parameters all are verified at.
    pub parameters: Arc<dyn ParameterSource>,
    /// The batch, with its ranks and micro-batches.
    pub batch: &'a GlobalBatch,
    /// Shape facts of the model and the batch.
    pub model: ErrorModel,
    /// Fixes the directions and sketches.
    pub seed: u64,
}

/// Carries out a verification at a size where only one model with its gradient fits in memory.
///
/// Subjects are made, run and dropped one after the other, the truth first; what remains of a gradient is its
/// [`Sketch`](lossproof_laws::Sketch). For the six loss semantics of [`verify`](super::verify()): losses and every parameter's
/// gradient of each judged subject against the truth, no further from it than four times the other judged subject (with
/// one judged subject, than the rounding model allows); the exact ratios of the calculus within each judged subject; and
/// the truth itself against finite differences of its own forward pass along three global directions.
///
/// Without a truth, the first judged subject is held to the second, no further apart than the growth law says that was
/// fitted at the sizes where a truth fits.
///
/// # Errors
/// When a subject fails, lacks a capability, or is not deterministic. A disagreement is not an error: it is in the report.
pub fn verify_streamed(
    verification: Streamed<'_>,
    progress: &mut Progress<'_>,
) -> Result<Report, VerifyError> {
    let Streamed { judged, truth, third, parameters, batch, model, seed } = verification;
    let semantics = semantics::all(batch);
    let mut rows = third::all(third, progress)?;
    let infos = parameters.shapes().into_iter();
    let infos: Vec<_> = infos.map(|(name, shape)| ParameterInfo { name, shape, tied_to: None }).collect();
    let blocks = Blocks::new(batch, &infos);

    let make = |make: Make<'_>, progress: &mut Progress<'_>| {
        progress("reading parameters", 0, 1);
        make(Arc::clone(&parameters))
    };
    let truth = match truth {
        Some(maker) => {
            let mut subject = make(maker, progress)?;
            Some(Truth::gather(&mut *subject, &*parameters, batch, &blocks, seed, progress)?)
        }
        None => None,
    };
    let mut sides = Vec::new();
    for maker in judged {
        let mut subject = make(maker, progress)?;
        let side = Side::gather(&mut *subject, batch, &semantics, &blocks, seed, progress)?;
        if side.noise > model.gradient_bound(side.dtype) {
            return Err(VerifyError::NotDeterministic { subject: side.name, noise: side.noise });
        }
        sides.push(side);
    }
    let judge = Judge { model, blocks: &blocks, truth: truth.as_ref(), sides: &sides };
    rows.extend(judge.token_losses());
    rows.extend(semantics.iter().enumerate().flat_map(|(number, meaning)| judge.semantics(number, meaning)));

    let names = sides.iter().map(|side| &side.name).chain(truth.as_ref().map(|truth| &truth.name));
    let names: Vec<_> = names.map(String::as_str).collect();
    let trusted =
        truth.as_ref().map(|truth| blame::Truth { name: &truth.name, implementation: &truth.implementation });
    let blames = blames(&rows, &names, trusted);
    let growth = match &sides[..] {
        [ours, theirs] => Some(Growth::of(&model, &blocks, &semantics, ours, theirs)),
        _ => None,
    };
    let participants = sides.iter().map(|side| &side.description);
    let participants = participants.chain(truth.as_ref().map(|truth| &truth.description)).cloned().collect();
    let noise_floor = sides.iter().map(|side| side.noise).fold(0.0, f64::max);
    Ok(Report { participants, rows, blames, noise_floor, growth })
}
