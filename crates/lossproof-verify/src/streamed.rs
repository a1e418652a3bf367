//! Verification at the true GPT-2 sizes: one model in memory at a time, of whose gradients only sketches are
//! kept.

use super::{
    Progress, VerifyError,
    blame::{Parties, Party, blames},
    checked::checked,
    report::Report,
    rounding_distance::RoundingDistance,
    semantics,
    sketched_answers::SketchedAnswers,
    streamed_rows::StreamedRows,
    third::{self, ThirdForward},
    truth::Truth,
};
use lossproof_laws::blocks::Blocks;
use lossproof_numerics::ErrorModel;
use lossproof_spec::GlobalBatch;
use lossproof_subject::{ParameterInfo, ParameterSource, Subject, SubjectError};
use std::sync::Arc;

/// Makes a subject whose parameters are the source's. [`load_all`](lossproof_subject::load_all) brings one
/// there that has room for them twice.
pub type Make<'a> = Box<dyn FnOnce(Arc<dyn ParameterSource>) -> Result<Box<dyn Subject>, SubjectError> + 'a>;

/// What to verify: one or two subjects of one model and dtype, against an f64 truth where one fits in memory.
pub struct Streamed<'a> {
    /// Maker of the trainer on trial.
    pub trainer: Make<'a>,
    /// Maker of the independent implementation in the trainer's dtype, which is judged like it.
    pub reference: Option<Make<'a>>,
    /// Maker of the f64 subject that serves as truth; itself held to finite differences of its own token
    /// losses.
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
/// [`Sketch`](lossproof_laws::Sketch). For the six loss semantics of [`verify`](super::verify()): losses and
/// every parameter's gradient of trainer and reference against the truth, no further from it than four times
/// the other one (with a trainer alone, than the rounding model allows); the exact ratios of the calculus
/// within each of them; and the truth itself against finite differences of its own token losses along three
/// global directions.
///
/// Where the truth is the same implementation as a side, it is that side's own f64 run, and the rows say so:
/// they certify what the side's dtype adds, and no more. In the same dtype they are unchecked, as every row
/// that compares an implementation with itself.
///
/// Without a truth, the trainer is held to the reference, no further apart than the law of rounding distances
/// says that was fitted at the sizes where a truth fits.
///
/// # Errors
/// When a subject fails, lacks a capability, breaks what is promised of every subject, or is not
/// deterministic. A disagreement is not an error: it is in the report.
pub fn verify_streamed(
    verification: Streamed<'_>,
    progress: &mut Progress<'_>,
) -> Result<Report, VerifyError> {
    let Streamed { trainer, reference, truth, third, parameters, batch, model, seed } = verification;
    let semantics = semantics::all(batch);
    let mut rows = third::all(third, progress)?;
    let infos = parameters.shapes().into_iter();
    let infos: Vec<_> = infos.map(|(name, shape)| ParameterInfo::named(&name, &shape)).collect();
    let blocks = Blocks::new(batch, &infos);

    let make = |make: Make<'_>, progress: &mut Progress<'_>| {
        progress("reading parameters", 0, 1);
        make(Arc::clone(&parameters))
    };
    let truth = match truth {
        Some(maker) => {
            let mut subject = make(maker, progress)?;
            Some(checked(&mut *subject, |subject| {
                Truth::gather(subject, &*parameters, batch, &blocks, seed, progress)
            })?)
        }
        None => None,
    };
    let mut sides = Vec::new();
    for maker in [Some(trainer), reference].into_iter().flatten() {
        let mut subject = make(maker, progress)?;
        let side = checked(&mut *subject, |subject| {
            SketchedAnswers::gather(subject, batch, &semantics, &blocks, seed, progress)
        })?;
        if side.noise > model.gradient_bound(side.losses.dtype) {
            return Err(VerifyError::NotDeterministic { subject: side.losses.name, noise: side.noise });
        }
        sides.push(side);
    }
    let implementations: Vec<_> = sides.iter().map(|side| side.losses.name.clone()).collect();
    if let [trainer, reference] = &mut sides[..]
        && trainer.losses.name == reference.losses.name
    {
        trainer.losses.name += " (trainer)";
        reference.losses.name += " (reference)";
    }
    rows.extend(
        StreamedRows { model, blocks: &blocks, truth: truth.as_ref(), sides: &sides }.all(&semantics),
    );

    let parties = Parties {
        sides: sides
            .iter()
            .zip(&implementations)
            .map(|(side, implementation)| Party { name: &side.losses.name, implementation })
            .collect(),
        truth: truth
            .as_ref()
            .map(|truth| Party { name: &truth.losses.name, implementation: &truth.implementation }),
    };
    let blames = blames(&rows, &parties);
    let rounding_distance = match &sides[..] {
        [trainer, reference] => {
            Some(RoundingDistance::between(trainer, reference, &model, &blocks, &semantics))
        }
        _ => None,
    };
    let participants = sides.iter().map(|side| &side.description);
    let participants = participants.chain(truth.as_ref().map(|truth| &truth.description)).cloned().collect();
    let noise_floor = sides.iter().map(|side| side.noise).fold(0.0, f64::max);
    Ok(Report { participants, rows, blames, noise_floor, rounding_distance })
}
