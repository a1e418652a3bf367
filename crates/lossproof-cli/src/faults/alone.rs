//! What is usually done instead: a gradient check, a comparison with libtorch, a loss trace, each by itself.

use super::{libtorch, reference};
use lossproof_faults::Fault;
use lossproof_numerics::{directional_bound, norm, rademacher, sweep};
use lossproof_spec::{
    Adam, Clip, Decayed, EpsilonPlacement, GlobalBatch, LossSpec, MicroBatch, Optimizer, Rank, Rule, Sequence,
};
use lossproof_subject::{Collect, Subject, SubjectError, Tensor, TensorSet, Unsupported, probe_initial};
use miette::IntoDiagnostic;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// What each of them sees of a fault when it is all there is.
#[expect(clippy::struct_excessive_bools, reason = "four checks, each of which sees a fault or not")]
pub(super) struct Alone {
    /// Gradient and finite differences of the reported loss disagree, on a plain batch or a ragged one.
    pub(super) gradient_check: bool,
    /// Loss or gradient differ from libtorch's on a plain batch: equal lengths, nothing masked, one
    /// micro-batch, the mean.
    pub(super) plain_libtorch: bool,
    /// They differ on a ragged batch, under any reduction.
    pub(super) ragged_libtorch: bool,
    /// A loss of twenty steps of `AdamW` differs in its first four decimals.
    pub(super) trace: bool,
}

/// Steps of the trace: what a smoke test trains.
const STEPS: usize = 20;

/// What the gradients of two f64 implementations may differ by: far above their rounding, far below any bug's
/// effect.
const APART: f64 = 1e-9;

/// The batches, and what libtorch and an honest trainer make of them.
pub(super) struct Baselines {
    parameters: TensorSet,
    plain: GlobalBatch,
    ragged: GlobalBatch,
    /// Loss and gradient of libtorch: the plain batch, then the ragged one under each of [`specs`].
    libtorch: Vec<(f64, TensorSet)>,
    trace: Vec<String>,
}

fn specs() -> [LossSpec; 4] {
    [LossSpec::token_mean(), LossSpec::sum(), LossSpec::sequence_mean(), LossSpec::batch_mean()]
}

/// Sequences of these lengths by micro-batch of one rank, the prompt of each masked so far.
fn batch(lengths: &[&[(usize, usize)]], vocabulary: u32, seed: u64) -> miette::Result<GlobalBatch> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut micro_batches = Vec::new();
    for micro_batch in lengths {
        let mut sequences = Vec::new();
        for &(length, prompt) in *micro_batch {
            let ids: Vec<u32> = (0..length).map(|_| random.random_range(0..vocabulary)).collect();
            let label = |(position, &id): (usize, &u32)| {
                if position < prompt { lossproof_spec::IGNORE_INDEX } else { i64::from(id) }
            };
            let labels = ids.iter().enumerate().map(label).collect();
            sequences.push(Sequence::new(ids, labels).into_diagnostic()?);
        }
        micro_batches.push(MicroBatch::new(sequences).into_diagnostic()?);
    }
    let rank = Rank::new(micro_batches).into_diagnostic()?;
    GlobalBatch::new(vec![rank]).into_diagnostic()
}

impl Baselines {
    /// # Errors
    /// When a trainer cannot be made or fails.
    pub(super) fn new() -> miette::Result<Self> {
        let mut honest = reference()?;
        let named: Vec<_> = honest.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
        let parameters = probe_initial(&named, 11);
        let vocabulary = u32::try_from(honest.info().limits.vocabulary).into_diagnostic()?;
        let plain = batch(&[&[(8, 0), (8, 0)]], vocabulary, 1)?;
        let ragged = batch(&[&[(9, 3), (4, 0)], &[(3, 0), (7, 2), (2, 0)]], vocabulary, 2)?;
        let mut theirs = libtorch()?;
        load(&mut *theirs, &parameters).into_diagnostic()?;
        let mut libtorch = vec![accumulate(&mut *theirs, &LossSpec::token_mean(), &plain).into_diagnostic()?];
        for spec in specs() {
            libtorch.push(accumulate(&mut *theirs, &spec, &ragged).into_diagnostic()?);
        }
        let mut baselines = Self { parameters, plain, ragged, libtorch, trace: Vec::new() };
        baselines.trace = baselines.trained(&mut *honest).into_diagnostic()?;
        Ok(baselines)
    }

    /// What each sees of a fault.
    ///
    /// # Errors
    /// When a trainer cannot be made. That a fault fails is seen by everybody.
    pub(super) fn of(&self, fault: &Fault) -> miette::Result<Alone> {
        let fresh = || -> miette::Result<Box<dyn Subject>> {
            let mut subject = fault.inject(reference()?);
            load(&mut *subject, &self.parameters).into_diagnostic()?;
            Ok(subject)
        };
        let mean = LossSpec::token_mean();
        let differs = |subject: &mut dyn Subject, spec: &LossSpec, batch: &GlobalBatch, index: usize| {
            accumulate(subject, spec, batch).map_or(true, |found| !alike(&found, &self.libtorch[index]))
        };
        let plain_libtorch = differs(&mut *fresh()?, &mean, &self.plain, 0);
        let mut subject = fresh()?;
        let ragged_libtorch =
            (1..).zip(specs()).any(|(index, spec)| differs(&mut *subject, &spec, &self.ragged, index));
        let gradient_check = [&self.plain, &self.ragged].into_iter().try_fold(false, |seen, batch| {
            Ok::<_, miette::Report>(seen || self.disagrees(&mut *fresh()?, batch).unwrap_or(true))
        })?;
        let trace = self.trained(&mut *fresh()?).map_or(true, |trace| trace != self.trace);
        Ok(Alone { gradient_check, plain_libtorch, ragged_libtorch, trace })
    }

    /// Whether the gradient is not that of the loss that is reported, along a random direction of each
    /// parameter.
    fn disagrees(&self, subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<bool, SubjectError> {
        let spec = LossSpec::token_mean();
        let (_, gradient) = accumulate(subject, &spec, batch)?;
        for (index, (name, tensor)) in self.parameters.iter().enumerate() {
            let values = tensor.to_f64();
            let direction = rademacher(17, index as u64, &values);
            let sweep = sweep(0.05, 7, |step| {
                let moved: Vec<f64> = values.iter().zip(&direction).map(|(v, d)| v + step * d).collect();
                set(subject, name, &moved)?;
                Ok::<_, SubjectError>(vec![accumulate(subject, &spec, batch)?.0])
            })?;
            set(subject, name, &values)?;
            let found: Vec<f64> = gradient.get(name).map(Tensor::to_f64).unwrap_or_default();
            let inner: f64 = found.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let bound = directional_bound(inner, norm(&found), norm(&direction), values.len());
            let plateau = sweep.contract(&[1.0]);
            let apart = (inner - plateau.value).abs();
            if apart.is_nan() || apart > bound + plateau.uncertainty {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The losses of a short training, as a log prints them.
    fn trained(&self, subject: &mut dyn Subject) -> Result<Vec<String>, SubjectError> {
        load(subject, &self.parameters)?;
        subject.configure(&LossSpec::token_mean()).map_err(failed)?;
        let adam = Adam {
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay: 0.1,
            decayed: Decayed::Matrices,
        };
        let optimizer = Optimizer {
            rule: Rule::AdamW(adam),
            warm_up: 4,
            clip: Some(Clip { max_norm: 1.0, epsilon: 1e-6 }),
            ..Optimizer::sgd(1e-3)
        };
        let steps = |subject: &mut dyn Subject| -> Result<Vec<String>, SubjectError> {
            let name = subject.info().name;
            let none =
                || SubjectError::Failed { subject: name.clone(), message: "no optimizer steps".to_owned() };
            let steps = subject.optimizer_steps().ok_or_else(none)?;
            steps.start(&optimizer).map_err(failed)?;
            let loss = |_| Ok(format!("{:.4}", steps.step(&self.ragged)?.observation.loss));
            (0..STEPS).map(loss).collect()
        };
        steps(subject)
    }
}

/// Whether a loss and its gradient are those of another trainer, each tensor to a share of the whole
/// gradient.
fn alike((loss, gradient): &(f64, TensorSet), (due_loss, due): &(f64, TensorSet)) -> bool {
    let total = norm(&due.values().flat_map(Tensor::to_f64).collect::<Vec<_>>());
    let close = |(name, tensor): (&String, &Tensor)| {
        gradient.get(name).is_some_and(|found| {
            let pairs = found.to_f64().into_iter().zip(tensor.to_f64());
            let apart: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
            norm(&apart) <= APART * total
        })
    };
    (loss - due_loss).abs() <= APART * due_loss.abs() && due.iter().all(close)
}

fn load(subject: &mut dyn Subject, parameters: &TensorSet) -> Result<(), SubjectError> {
    subject.reset()?;
    subject.parameter_loading().map_or(Ok(()), |loader| loader.load(parameters))
}

fn set(subject: &mut dyn Subject, name: &str, values: &[f64]) -> Result<(), SubjectError> {
    subject.parameter_loading().map_or(Ok(()), |loader| loader.set(name, values))
}

fn accumulate(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<(f64, TensorSet), SubjectError> {
    subject.configure(spec).map_err(failed)?;
    let mut sink = Collect::default();
    let observation = subject.accumulate(batch, &mut sink)?;
    Ok((observation.loss, sink.into_tensors()))
}

/// What a trainer does not have, as a failure: here it is needed.
fn failed(error: Unsupported) -> SubjectError {
    SubjectError::Failed { message: error.to_string(), subject: error.subject }
}
