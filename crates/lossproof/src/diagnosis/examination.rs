//! What a subject is seen to do: every probe, who sees whom, and optimizer steps.

use super::{
    oracle::{Pinned, Values, named},
    probes::{self, Probe, State},
    steps::{Shown, Window},
};
use crate::names::{BIAS, EMBEDDING};
use crate::{
    Adam, Clip, Collect, Decayed, Discard, Dtype, Evaluated, Limits, Optimizer, ParameterInfo, Rule, Subject,
    SubjectError, TensorSet, initial::probe_initial,
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Sequence, SequenceFields};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fixes the parameters of the probes.
const SEED: u64 = 5;

/// What came of a probe.
pub(super) struct Measured {
    pub(super) probe: Probe,
    pub(super) loss: f64,
    pub(super) gradient: Values,
    /// The gradient of the call before the judged one.
    pub(super) former: Option<Values>,
}

/// Which inputs the token loss of a position depends on.
pub(super) struct Sight {
    pub(super) sequence: Sequence,
    /// By position, then input.
    pub(super) depends: Vec<Vec<bool>>,
}

/// Optimizer steps from fresh.
pub(super) struct Run {
    pub(super) name: &'static str,
    pub(super) optimizer: Optimizer,
    pub(super) steps: Vec<(Window, Shown)>,
}

/// A validation, and a loss of training before and after it.
pub(super) struct Validation {
    pub(super) batches: Vec<MicroBatch>,
    /// The loss of every prediction, by batch.
    pub(super) losses: Vec<Vec<f64>>,
    pub(super) printed: Evaluated,
    pub(super) before: f64,
    pub(super) after: f64,
}

/// Everything seen of a subject.
pub(super) struct Examination {
    pub(super) dtype: Dtype,
    pub(super) limits: Limits,
    pub(super) parameters: Vec<ParameterInfo>,
    pub(super) measured: Vec<Measured>,
    pub(super) sights: Vec<Sight>,
    pub(super) runs: Vec<Run>,
    pub(super) validation: Option<Validation>,
    /// Whether two identical calls give the same, where that was tried.
    pub(super) repeatable: Option<bool>,
    /// What could not be looked at, and why.
    pub(super) unseen: Vec<String>,
    /// What it failed with where it should not.
    pub(super) errors: Vec<String>,
}

/// Parameters of the probes.
pub(super) struct States {
    pub(super) general: TensorSet,
    pinned: Option<(TensorSet, Pinned)>,
    offset: Option<(TensorSet, Pinned)>,
}

impl States {
    pub(super) fn new(parameters: &[ParameterInfo], dtype: Dtype) -> Self {
        let general = probe_initial(&named(parameters), SEED);
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let width = general.get(BIAS).map_or(0, crate::Tensor::elements);
        let mut pinned = general.clone();
        let bias = (0..width).map(|_| f64::from(random.random_range(-128_i32..=128)) / 64.0).collect();
        let pinned = Pinned::pin(&mut pinned, bias).map(|pin| (pinned, pin));
        let mut offset = general.clone();
        let offset = exact(&mut offset, dtype, &mut random).map(|pin| (offset, pin));
        Self { general, pinned, offset }
    }

    fn of(&self, state: State) -> Option<&TensorSet> {
        match state {
            State::General => Some(&self.general),
            State::Pinned => self.pinned.as_ref().map(|(parameters, _)| parameters),
            State::Offset => self.offset.as_ref().map(|(parameters, _)| parameters),
        }
    }

    /// The closed form of a state with known logits.
    pub(super) fn pin(&mut self, state: State) -> Option<&mut Pinned> {
        match state {
            State::General => None,
            State::Pinned => self.pinned.as_mut().map(|(_, pin)| pin),
            State::Offset => self.offset.as_mut().map(|(_, pin)| pin),
        }
    }
}

/// Logits that are multiples of 2⁻⁸ below 2⁵, and a constant so large that half of the dtype's digits are left for them:
/// their sum is exact, and a logarithm of their exponentials is not.
fn exact(parameters: &mut TensorSet, dtype: Dtype, random: &mut ChaCha8Rng) -> Option<Pinned> {
    let embedding = parameters.get(EMBEDDING)?;
    let width = *embedding.shape().last()?;
    let mut values = embedding.to_f64();
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().for_each(|value| *value = (*value * 32.0).round().clamp(-32.0, 32.0) / 32.0);
        row[0] = 1.0;
    }
    let shape = embedding.shape().to_vec();
    let rounded = crate::Tensor::new(shape, crate::TensorValues::F64(values)).ok()?;
    parameters.insert(EMBEDDING.to_owned(), rounded);
    let constant = if dtype == Dtype::F64 { 2.0_f64.powi(38) } else { 2.0_f64.powi(11) };
    let mut bias: Vec<f64> = (0..width).map(|_| f64::from(random.random_range(-8_i32..=8)) / 8.0).collect();
    bias[0] = constant;
    Pinned::pin(parameters, bias)
}

pub(super) fn values(set: &TensorSet) -> Values {
    set.iter().map(|(name, tensor)| (name.clone(), tensor.to_f64())).collect()
}

impl Examination {
    /// Looks at a subject. `general` says that somebody can tell the truth at general parameters.
    pub(super) fn of(subject: &mut dyn Subject, states: &States, general: bool) -> Self {
        let info = subject.info();
        let mut seen = Self {
            dtype: info.dtype,
            limits: info.limits,
            parameters: subject.parameters(),
            measured: Vec::new(),
            sights: Vec::new(),
            runs: Vec::new(),
            validation: None,
            repeatable: None,
            unseen: Vec::new(),
            errors: Vec::new(),
        };
        if subject.parameter_loading().is_none() {
            seen.unseen.push("weights and labels: the subject takes no parameters".to_owned());
            return seen;
        }
        if !general {
            let what =
                "the backward pass in front of the head: no reference says what its gradients should be";
            seen.unseen.push(what.to_owned());
        }
        seen.probe(subject, states, general);
        seen.repeat(subject, states);
        seen.look(subject, states);
        seen.step(subject, states);
        match validation(subject, states, &seen.limits) {
            Ok(validation) => seen.validation = validation,
            Err(error) => seen.note("a validation", &error),
        }
        seen
    }

    fn note(&mut self, what: &str, error: &SubjectError) {
        let error = format!("{what}: {error}");
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn probe(&mut self, subject: &mut dyn Subject, states: &States, general: bool) {
        let upstream = subject.upstream_weights().is_some();
        let mut loaded = None;
        for probe in probes::pool(&self.limits, general, upstream) {
            let Some(parameters) = states.of(probe.state) else { continue };
            if loaded != Some(probe.state) {
                if let Err(error) = load(subject, parameters) {
                    self.note("loading parameters", &error);
                    return;
                }
                loaded = Some(probe.state);
            }
            if subject.configure(&probe.spec).is_err() {
                continue;
            }
            match measure(subject, probe) {
                Ok(measured) => self.measured.push(measured),
                Err((name, error)) => self.note(name, &error),
            }
        }
        if self.measured.iter().all(|measured| measured.probe.state == State::General) {
            self.unseen.push("known logits: the parameters are not named as a GPT-2's".to_owned());
        }
    }

    fn repeat(&mut self, subject: &mut dyn Subject, states: &States) {
        let Some(probe) = self.measured.iter().map(|measured| measured.probe.clone()).next() else { return };
        let twice = (|| -> Result<bool, SubjectError> {
            load(subject, &states.general)?;
            if subject.configure(&probe.spec).is_err() {
                return Ok(true);
            }
            let (one, other) = (accumulate(subject, &probe)?, accumulate(subject, &probe)?);
            let tolerance = self.dtype.unit_roundoff().sqrt();
            Ok(apart(&one.1, &other.1) <= tolerance)
        })();
        match twice {
            Ok(same) => self.repeatable = Some(same),
            Err(error) => self.note("the same call twice", &error),
        }
    }

    fn look(&mut self, subject: &mut dyn Subject, states: &States) {
        if subject.token_losses().is_none() {
            self.unseen.push("who attends to whom: the subject evaluates no token losses".to_owned());
            return;
        }
        if load(subject, &states.general).is_err() {
            return;
        }
        for sequence in sequences(&self.limits) {
            if self.limits.check(&GlobalBatch::single(sequence.clone())).is_err() {
                continue;
            }
            match depends(subject, &sequence, self.dtype) {
                Ok(Some(depends)) => self.sights.push(Sight { sequence, depends }),
                Ok(None) => {}
                Err(error) => self.note("token losses", &error),
            }
        }
    }

    fn step(&mut self, subject: &mut dyn Subject, states: &States) {
        if subject.optimizer_steps().is_none() {
            self.unseen.push("optimizer steps: the subject takes none".to_owned());
            return;
        }
        let batches: Vec<GlobalBatch> = probes::windows(&self.limits);
        let [long, .., short] = batches.as_slice() else { return };
        for (name, spec, optimizer, batches) in runs(long, short, self.dtype) {
            let run = run(subject, states, name, &spec, &optimizer, &batches);
            match run {
                Ok(Some(run)) => self.runs.push(run),
                Ok(None) => {}
                Err(error) => self.note(name, &error),
            }
        }
    }
}

/// A corpus of two batches, the second smaller; `None` where the subject has no validation or no token losses.
fn validation(
    subject: &mut dyn Subject,
    states: &States,
    limits: &Limits,
) -> Result<Option<Validation>, SubjectError> {
    if subject.evaluation().is_none() || subject.token_losses().is_none() {
        return Ok(None);
    }
    let Some((corpus, training)) = probes::corpus(limits) else { return Ok(None) };
    load(subject, &states.general)?;
    if subject.configure(&LossSpec::token_mean()).is_err() {
        return Ok(None);
    }
    let train =
        |subject: &mut dyn Subject| Ok::<_, SubjectError>(subject.accumulate(&training, &mut Discard)?.loss);
    let before = train(subject)?;
    let mut losses = Vec::new();
    for batch in &corpus {
        if let Some(evaluator) = subject.token_losses() {
            losses.push(evaluator.evaluate(&GlobalBatch::of_micro_batch(batch.clone()))?);
        }
    }
    let Some(evaluation) = subject.evaluation() else { return Ok(None) };
    let printed = evaluation.validate(&corpus)?;
    let after = train(subject)?;
    Ok(Some(Validation { batches: corpus, losses, printed, before, after }))
}

fn load(subject: &mut dyn Subject, parameters: &TensorSet) -> Result<(), SubjectError> {
    subject.reset()?;
    match subject.parameter_loading() {
        Some(loader) => loader.load(parameters),
        None => Ok(()),
    }
}

fn accumulate(subject: &mut dyn Subject, probe: &Probe) -> Result<(f64, Values), SubjectError> {
    let mut sink = Collect::default();
    let loss = match &probe.upstream {
        Some(weights) => match subject.upstream_weights() {
            Some(upstream) => upstream.backward(&probe.batch, weights, &mut sink)?,
            None => f64::NAN,
        },
        None => subject.accumulate(&probe.batch, &mut sink)?.loss,
    };
    Ok((loss, values(&sink.into_tensors())))
}

fn measure(subject: &mut dyn Subject, probe: Probe) -> Result<Measured, (&'static str, SubjectError)> {
    let measured = (|| -> Result<_, SubjectError> {
        subject.reset()?;
        let mut former = None;
        for batch in &probe.before {
            let mut sink = Collect::default();
            subject.accumulate(batch, &mut sink)?;
            former = Some(values(&sink.into_tensors()));
        }
        let (loss, mut gradient) = accumulate(subject, &probe)?;
        if probe.state != State::General {
            gradient.retain(|name, _| name == EMBEDDING || name == BIAS);
        }
        Ok((loss, gradient, former))
    })();
    match measured {
        Ok((loss, gradient, former)) => Ok(Measured { probe, loss, gradient, former }),
        Err(error) => Err((probe.name, error)),
    }
}

/// The largest difference of any tensor, relative to its norm.
fn apart(one: &Values, other: &Values) -> f64 {
    let size = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let total = one.values().map(|values| size(values)).fold(0.0, f64::max);
    let of = |(name, values): (&String, &Vec<f64>)| match other.get(name) {
        Some(twin) => {
            let difference: Vec<f64> = values.iter().zip(twin).map(|(a, b)| a - b).collect();
            size(&difference) / total.max(f64::MIN_POSITIVE)
        }
        None => f64::INFINITY,
    };
    one.iter().map(of).fold(0.0, f64::max)
}

/// One plain sequence, one with padding on both sides and two documents.
fn sequences(limits: &Limits) -> Vec<Sequence> {
    let token =
        |index: usize| u32::try_from(1 + index % limits.vocabulary.saturating_sub(2).max(1)).unwrap_or(0);
    let tokens = |length: usize| -> Vec<u32> { (0..length).map(token).collect() };
    let labels = |tokens: &[u32]| tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>();
    let plain = tokens(6);
    let packed = tokens(8);
    let mut fields = SequenceFields {
        labels: labels(&packed),
        targets: packed.clone(),
        input_ids: packed,
        segment_ids: vec![0, 1, 1, 1, 2, 2, 2, 0],
        position_ids: vec![0, 0, 1, 2, 0, 1, 2, 0],
    };
    for padding in [0, 1, 7] {
        fields.labels[padding] = lossproof_spec::IGNORE_INDEX;
    }
    let plain = Sequence::new(plain.clone(), labels(&plain));
    [plain, Sequence::from_fields(fields)].into_iter().flatten().collect()
}

/// Which inputs each token loss depends on; `None` where some are no numbers.
fn depends(
    subject: &mut dyn Subject,
    sequence: &Sequence,
    dtype: Dtype,
) -> Result<Option<Vec<Vec<bool>>>, SubjectError> {
    let mut evaluate = |sequence: Sequence| match subject.token_losses() {
        Some(losses) => losses.evaluate(&GlobalBatch::single(sequence)),
        None => Ok(Vec::new()),
    };
    let before = evaluate(sequence.clone())?;
    if before.iter().any(|loss| !loss.is_finite()) {
        return Ok(None);
    }
    // A loss that depends on an input moves by far more than rounding; one that does not moves by rounding at most.
    let moved = 256.0 * dtype.unit_roundoff();
    let mut by_input = Vec::new();
    for input in 0..sequence.len() {
        let mut fields = SequenceFields::from(sequence.clone());
        let old = fields.input_ids[input];
        // Another token, of which neither end of the vocabulary has anything.
        fields.input_ids[input] = if old > 8 { old - 1 } else { old + 9 };
        let Ok(other) = Sequence::from_fields(fields) else { return Ok(None) };
        let after = evaluate(other)?;
        if after.len() != before.len() || after.iter().any(|loss| !loss.is_finite()) {
            return Ok(None);
        }
        by_input.push(
            before
                .iter()
                .zip(&after)
                .map(|(a, b)| (a - b).abs() > moved * a.abs().max(1.0))
                .collect::<Vec<_>>(),
        );
    }
    let by_position = |position: usize| by_input.iter().map(|depends| depends[position]).collect();
    Ok(Some((0..sequence.len() - 1).map(by_position).collect()))
}

type Planned = (&'static str, LossSpec, Box<dyn Fn(f64) -> Optimizer>, Vec<GlobalBatch>);

/// The runs: name, spec, the optimizer for a gradient of this norm, the batches.
fn runs(long: &GlobalBatch, short: &GlobalBatch, dtype: Dtype) -> Vec<Planned> {
    let sgd = |momentum, weight_decay| Optimizer {
        rule: Rule::Sgd { momentum, weight_decay },
        ..Optimizer::sgd(0.125)
    };
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-3,
        epsilon_placement: crate::EpsilonPlacement::AfterCorrection,
        weight_decay: 0.125,
        decayed: Decayed::Matrices,
    };
    let clipped = |share: f64, loss_scale: f64| {
        move |norm: f64| Optimizer {
            clip: Some(Clip { max_norm: share * norm, epsilon: 1e-6 }),
            loss_scale,
            ..Optimizer::sgd(0.125)
        }
    };
    let overflow = if dtype == Dtype::F64 { 2.0_f64.powi(1023) } else { 2.0_f64.powi(127) };
    let (mean, sum) = (LossSpec::token_mean(), LossSpec::sum());
    let three = || vec![long.clone(), long.clone(), long.clone()];
    let once = || vec![long.clone()];
    vec![
        (
            "plain SGD",
            mean,
            Box::new(move |_| sgd(0.0, 0.0)),
            vec![long.clone(), short.clone(), long.clone()],
        ),
        ("SGD with momentum and weight decay", mean, Box::new(move |_| sgd(0.5, 0.125)), three()),
        (
            "a warm-up of four steps",
            mean,
            Box::new(move |_| Optimizer { warm_up: 4, ..sgd(0.0, 0.0) }),
            three(),
        ),
        ("clipping at half the norm", sum, Box::new(clipped(0.5, 1.0)), once()),
        ("clipping above the norm", sum, Box::new(clipped(1.25, 1.0)), once()),
        ("clipping with a loss scale", sum, Box::new(clipped(1.25, 1024.0)), once()),
        (
            "a loss scale of 1024",
            mean,
            Box::new(move |_| Optimizer { loss_scale: 1024.0, ..sgd(0.0, 0.0) }),
            once(),
        ),
        (
            "a loss scale that overflows",
            sum,
            Box::new(move |_| Optimizer { loss_scale: overflow, warm_up: 4, ..sgd(0.0, 0.0) }),
            vec![long.clone(), long.clone()],
        ),
        (
            "Adam",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::Adam(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
        (
            "AdamW",
            mean,
            Box::new(move |_| Optimizer { rule: Rule::AdamW(adam), ..Optimizer::sgd(0.125) }),
            three(),
        ),
    ]
}

fn run(
    subject: &mut dyn Subject,
    states: &States,
    name: &'static str,
    spec: &LossSpec,
    optimizer: &dyn Fn(f64) -> Optimizer,
    batches: &[GlobalBatch],
) -> Result<Option<Run>, SubjectError> {
    load(subject, &states.general)?;
    if subject.configure(spec).is_err() {
        return Ok(None);
    }
    let mut steps: Vec<(Window, Shown)> = Vec::new();
    let mut started = None;
    for batch in batches {
        let before = read(subject)?;
        let gradient = gradient(subject, batch)?;
        let optimizer = *started.get_or_insert_with(|| {
            optimizer(gradient.values().flatten().map(|value| value * value).sum::<f64>().sqrt())
        });
        let mut contributions = Vec::new();
        if optimizer.clip.is_some() {
            for micro_batch in batch.micro_batches() {
                contributions
                    .push(self::gradient(subject, &GlobalBatch::of_micro_batch(micro_batch.clone()))?);
            }
        }
        let Some(taken) = subject.optimizer_steps() else { return Ok(None) };
        if steps.is_empty() && taken.start(&optimizer).is_err() {
            return Ok(None);
        }
        let report = taken.step(batch)?;
        let longest = batch.ranks().iter().map(|rank| rank.micro_batches().len()).max();
        let micro_batches = longest.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
        let shown = Shown {
            values: Some(read(subject)?),
            grad_norm: Some(report.grad_norm),
            clip_factor: Some(report.clip_factor),
            learning_rate: Some(report.learning_rate),
            skipped: Some(report.skipped),
        };
        steps.push((Window { before, gradient, contributions, micro_batches }, shown));
    }
    Ok(started.map(|optimizer| Run { name, optimizer, steps }))
}

fn gradient(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<Values, SubjectError> {
    let mut sink = Collect::default();
    subject.accumulate(batch, &mut sink)?;
    Ok(values(&sink.into_tensors()))
}

fn read(subject: &mut dyn Subject) -> Result<Values, SubjectError> {
    let mut sink = Collect::default();
    if let Some(steps) = subject.optimizer_steps() {
        steps.read(&mut sink)?;
    }
    Ok(values(&sink.into_tensors()))
}
