//! Verification at the true GPT-2 sizes: gradients pass by one tensor at a time and are held to an f64 truth.

use super::{
    Progress, Report, ThirdForward, VerifyError,
    blame::{Truth, blames},
    blocks::Blocks,
    describe,
    evidence::{evaluator, gradient, loader},
    global,
    judge::Judge,
    report::Row,
    semantics::{self, Semantics},
    stream::Compare,
    third,
};
use crate::{Observation, Sketch, Subject, Tee, TensorSet, TensorSketch};
use lossproof_numerics::{Difference, Dtype, ErrorModel};
use lossproof_spec::{GlobalBatch, LossSpec};
use num_traits::ToPrimitive;
use std::collections::BTreeMap;

/// Projections kept of each tensor: a row's power is that of the larger of the two, so that it does not hang on one
/// that happens to be small.
const PROJECTIONS: usize = 2;

/// What to verify: one or two subjects of one model and dtype, against an f64 truth.
pub struct Streamed<'a> {
    /// The subjects that are judged, the reference first.
    pub judged: Vec<&'a mut dyn Subject>,
    /// The f64 subject that serves as truth; itself held to finite differences of its own forward.
    pub truth: &'a mut dyn Subject,
    /// A recording f64 subjects of both implementations are held to.
    pub third: Option<ThirdForward<'a>>,
    /// The parameters all are verified at.
    pub parameters: &'a TensorSet,
    /// The batch, with its ranks and micro-batches.
    pub batch: &'a GlobalBatch,
    /// Shape facts of the model and the batch.
    pub model: ErrorModel,
    /// Fixes the directions and sketches.
    pub seed: u64,
}

/// Carries out a verification at a size where only one gradient fits in memory.
///
/// For the six loss semantics of [`verify`](super::verify): losses and every parameter's gradient of each judged subject
/// against the truth, no further from it than four times the other judged subject (with one judged subject, than the
/// rounding model allows); the exact ratios of the calculus within each judged subject, on sketches; and the truth itself
/// against finite differences of its own forward pass along three global directions. Where the weights of a semantics are
/// a multiple of the sum's, its truth is that multiple of the truth of the sum.
///
/// # Errors
/// When a subject fails, lacks a capability, or is not deterministic. A disagreement is not an error: it is in the report.
pub fn verify_streamed(
    verification: Streamed<'_>,
    progress: &mut Progress<'_>,
) -> Result<Report, VerifyError> {
    let Streamed { mut judged, truth, third, parameters, batch, model, seed } = verification;
    let semantics = semantics::all(batch);
    let mut rows = third::all(third, progress)?;
    let mut participants: Vec<_> = judged.iter().map(|subject| describe(*subject)).collect();
    participants.push(format!("truth: {}", describe(truth)));
    let truth_name = format!("{} f64", truth.info().name);

    loader(truth)?.load(parameters)?;
    let derivatives = global::differentiate(truth, batch, parameters, seed, progress)?;
    truth.reset()?;
    let truth_losses = evaluator(truth)?.evaluate(batch)?;

    let mut sides = Vec::new();
    for subject in &mut judged {
        loader(*subject)?.load(parameters)?;
        let side = Side::gather(*subject, batch, seed, progress)?;
        if side.noise > model.gradient_bound(side.dtype) {
            return Err(VerifyError::NotDeterministic { subject: side.name, noise: side.noise });
        }
        sides.push(side);
    }
    let blocks = Blocks::new(batch, &truth.parameters());
    let judge = Judge { model, blocks: &blocks, truth_losses: &truth_losses };
    rows.extend(sides.iter().map(|side| judge.token_losses(side)));
    // Semantics whose weights are a multiple of the sum's share its truth, so those come first while it is at hand.
    let (multiples, others): (Vec<_>, Vec<_>) =
        (0..semantics.len()).partition(|&index| semantics[index].over_sum.is_some());
    let mut exact = TensorSet::new();
    let mut by_semantics: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    for (done, index) in multiples.into_iter().chain(others).enumerate() {
        let meaning = &semantics[index];
        let own = by_semantics.entry(index).or_default();
        if done == 0 || meaning.over_sum.is_none() {
            progress(&format!("{truth_name}: {}", meaning.name), done, semantics.len());
            // The former truth makes room before the next one comes.
            exact.clear();
            exact = gradient(truth, &meaning.spec, &meaning.batch)?.1;
            own.push(global::row(&truth_name, &derivatives, meaning, &exact));
        }
        let factor = meaning.over_sum.as_ref().and_then(ToPrimitive::to_f64).unwrap_or(1.0);
        let mut computed = Vec::new();
        for (side, subject) in sides.iter().zip(&mut judged) {
            progress(&format!("{}: {}", side.name, meaning.name), done, semantics.len());
            computed.push(Computed::new(*subject, meaning, &blocks, (&exact, factor), seed)?);
        }
        own.extend(judge.losses(meaning, &sides, &computed));
        own.extend(judge.gradients(meaning, &sides, &computed));
        own.extend(
            sides.iter().zip(&computed).map(|(side, computed)| judge.calculus(meaning, side, computed)),
        );
    }
    rows.extend(by_semantics.into_values().flatten());
    let names: Vec<_> = sides.iter().map(|side| side.name.as_str()).chain([truth_name.as_str()]).collect();
    let implementation = truth.info().name;
    let blames = blames(&rows, &names, Some(Truth { name: &truth_name, implementation: &implementation }));
    let noise_floor = sides.iter().map(|side| side.noise).fold(0.0, f64::max);
    Ok(Report { participants, rows, blames, noise_floor })
}

/// The sketches of a gradient, by parameter.
pub(super) type Sketches = BTreeMap<String, TensorSketch>;

/// What is known of a judged subject before any semantics.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) token_losses: Vec<f64>,
    /// Gradient of the sum of each sequence's token losses, the sequence being alone.
    pub(super) sequences: Vec<Sketches>,
    pub(super) noise: f64,
}

impl Side {
    fn gather(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        seed: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let info = subject.info();
        let token_losses = evaluator(subject)?.evaluate(batch)?;
        let count = batch.sequences().count();
        let mut sequences = Vec::new();
        let mut noise = 0.0;
        for (index, sequence) in batch.sequences().enumerate() {
            progress(&format!("{}: gradient of each sequence", info.name), index, count);
            let alone = GlobalBatch::single(sequence.clone());
            let sketched = sketch(subject, &LossSpec::sum(), &alone, seed)?;
            // Once more, on the last one: what two identical calls differ by.
            if index + 1 == count {
                noise = distance(&sketch(subject, &LossSpec::sum(), &alone, seed)?, &sketched);
            }
            sequences.push(sketched);
        }
        Ok(Self { name: info.name, dtype: info.dtype, token_losses, sequences, noise })
    }
}

/// What a judged subject computed under one semantics.
pub(super) struct Computed {
    pub(super) observation: Observation,
    /// From the truth, one per block.
    pub(super) differences: Vec<Option<Difference>>,
    pub(super) sketches: Sketches,
}

impl Computed {
    fn new(
        subject: &mut dyn Subject,
        meaning: &Semantics,
        blocks: &Blocks,
        (truth, factor): (&TensorSet, f64),
        seed: u64,
    ) -> Result<Self, VerifyError> {
        let (mut compare, mut sketch) = (Compare::new(blocks, truth, factor), Sketch::new(seed, PROJECTIONS));
        subject.configure(&meaning.spec)?;
        let observation = subject.accumulate(&meaning.batch, &mut Tee(&mut compare, &mut sketch))?;
        Ok(Self { observation, differences: compare.into_differences(), sketches: sketch.into_tensors() })
    }
}

fn sketch(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
    seed: u64,
) -> Result<Sketches, VerifyError> {
    let mut sketch = Sketch::new(seed, PROJECTIONS);
    subject.configure(spec)?;
    subject.accumulate(batch, &mut sketch)?;
    Ok(sketch.into_tensors())
}

/// The largest difference of any projection of two gradients, relative to the norm.
fn distance(one: &Sketches, other: &Sketches) -> f64 {
    let apart = |(name, sketch): (&String, &TensorSketch)| match other.get(name) {
        Some(twin) => {
            let pairs = sketch.projections.iter().zip(&twin.projections);
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if largest > 0.0 { largest / sketch.norm } else { 0.0 }
        }
        None => f64::INFINITY,
    };
    one.iter().map(apart).fold(0.0, f64::max)
}
