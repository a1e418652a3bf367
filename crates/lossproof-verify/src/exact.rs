//! Verification of a model whose gradients fit in memory many times over: everything is compared element by
//! element.

use super::{
    Progress, VerifyError,
    answers::Answers,
    blame::{Parties, Party, blames},
    capability::loader,
    checked::checked,
    describe,
    exact_rows::{ExactRows, Side},
    finite_differences::{Differentiated, Directions},
    report::Report,
    semantics::{self, Semantics},
    third::{self, ThirdForward},
};
use lossproof_laws::blocks::Blocks;
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Subject, TensorSet};

/// What to verify: two f64 subjects of one model, at given parameters, on one batch.
pub struct Verification<'a> {
    /// The trainer on trial.
    pub trainer: &'a mut dyn Subject,
    /// The independent implementation it is held to, which is judged like it.
    pub reference: &'a mut dyn Subject,
    /// A recording both are held to.
    pub third: Option<ThirdForward<'a>>,
    /// The parameters both are verified at.
    pub parameters: &'a TensorSet,
    /// The batch, with its ranks and micro-batches.
    pub batch: &'a GlobalBatch,
    /// Shape facts of the model and the batch.
    pub model: ErrorModel,
    /// Directions of the finite differences.
    pub directions: Directions,
    /// Fixes the directions, and what the negative controls alter.
    pub seed: u64,
}

/// Carries out a verification in f64.
///
/// For six loss semantics (sum, per-token mean, per-sequence mean, batch mean, naive accumulated mean,
/// accumulated per-token mean) the losses and every parameter's gradient of trainer and reference are
/// compared with each other, with finite differences of each one's own token losses, and with the exact
/// ratios of the loss calculus.
///
/// Every row that holds is put to a negative control: one answer of the judged implementation is altered by
/// four times the power of the row, which must fail then. Where trainer and reference are the same
/// implementation (name, version and framework), both give the altered answer: rows that compare the two come
/// out unchecked.
///
/// # Errors
/// When a subject fails, lacks a capability, breaks what is promised of every subject, or is not
/// deterministic. A disagreement is not an error: it is in the report.
pub fn verify(verification: Verification<'_>, progress: &mut Progress<'_>) -> Result<Report, VerifyError> {
    let Verification { trainer, reference, third, parameters, batch, model, directions, seed } = verification;
    let semantics = semantics::all(batch);
    let mut rows = third::all(third, progress)?;
    let blocks = Blocks::new(batch, &reference.parameters());
    let mut participants = Vec::new();
    let run = Run { semantics: &semantics, parameters, batch, model, directions, seed };
    let mut gather = |subject: &mut dyn Subject| {
        checked(subject, |subject| {
            participants.push(describe(subject));
            run.side(subject, &blocks, progress)
        })
    };
    let mut sides = [gather(trainer)?, gather(reference)?];
    let implementations = sides.each_ref().map(|side| side.answers.losses.name.clone());
    if implementations[0] == implementations[1] {
        for (side, role) in sides.iter_mut().zip(["trainer", "reference"]) {
            side.answers.losses.name = format!("{} ({role})", side.answers.losses.name);
        }
    }
    let [trainer, reference] = &sides;
    let noise = trainer.answers.noise.max(reference.answers.noise);
    let exact = ExactRows {
        trainer,
        reference,
        blocks: &blocks,
        loss_bound: model.loss_bound(Dtype::F64),
        gradient_bound: model.gradient_bound(Dtype::F64) + noise,
        noise,
        seed,
    };
    rows.extend(exact.all(&semantics));
    let sides = sides.iter().zip(&implementations);
    let sides = sides.map(|(side, implementation)| Party { name: &side.answers.losses.name, implementation });
    let blames = blames(&rows, &Parties { sides: sides.collect(), truth: None });
    Ok(Report { participants, rows, blames, noise_floor: noise, rounding_distance: None })
}

/// What each side is asked.
struct Run<'a> {
    semantics: &'a [Semantics],
    parameters: &'a TensorSet,
    batch: &'a GlobalBatch,
    model: ErrorModel,
    directions: Directions,
    seed: u64,
}

impl Run<'_> {
    /// Loads the parameters and asks one side for everything.
    fn side(
        &self,
        subject: &mut dyn Subject,
        blocks: &Blocks,
        progress: &mut Progress<'_>,
    ) -> Result<Side, VerifyError> {
        let Self { semantics, parameters, batch, model, directions, seed } = *self;
        let name = subject.info().name;
        loader(subject)?.load(parameters)?;
        let steps = semantics.len() + batch.sequences().count() + 1;
        let mut done = 0;
        let answers = Answers::gather(subject, batch, semantics, blocks, || {
            done += 1;
            progress(&format!("{name}: gradients"), done, steps);
        })?;
        if answers.noise > model.gradient_bound(Dtype::F64) {
            return Err(VerifyError::NotDeterministic { subject: name, noise: answers.noise });
        }
        let differentiated =
            Differentiated { batch, parameters, semantics, answers: &answers, directions, seed };
        let derivatives = differentiated.derivatives(subject, |done, of| {
            progress(&format!("{name}: finite differences"), done, of);
        })?;
        Ok(Side { answers, derivatives })
    }
}
