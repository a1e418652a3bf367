//! The honest trainer beneath a fault, and what a fault may have it compute.

use crate::{names::POSITIONS, tensors::NamedTensors};
use lossproof_spec::{Counting, GlobalBatch, LossSpec, MicroBatch, Prediction, TokenWeights};
use lossproof_subject::{Evaluated, GradientSink, Limits, Observation, Subject, SubjectError, Unsupported};

/// Gain and bias in front of the head: both scaled, and the logits are.
const FINAL: [&str; 2] = ["ln_f.weight", "ln_f.bias"];

/// The honest trainer.
pub(crate) struct Honest {
    pub(crate) subject: Box<dyn Subject>,
    /// What the logits are multiplied with before the loss sees them; 1 is honest.
    pub(crate) logits: f64,
    pub(crate) memory: TrainerMemory,
}

/// What outlives a pass in trainers that let it; empty after a reset.
#[derive(Default)]
pub(crate) struct TrainerMemory {
    /// A gradient of before.
    pub(crate) gradient: NamedTensors,
    /// Micro-batches of the longest window so far.
    pub(crate) window: usize,
    /// The loss that was logged before.
    pub(crate) logged: Option<f64>,
    /// Losses of validations that nobody has cleared.
    pub(crate) validated: f64,
    /// Supervised tokens of the batch before.
    pub(crate) tokens: usize,
    /// Passes so far.
    pub(crate) passes: u64,
}

/// What one forward and backward pass gives.
#[derive(Clone)]
pub(crate) struct PassResult {
    pub(crate) observation: Observation,
    pub(crate) gradient: NamedTensors,
}

impl PassResult {
    fn nothing() -> Self {
        let observation = Observation::new(0.0, None);
        Self { observation, gradient: NamedTensors::default() }
    }

    /// Adds `factor` times another pass.
    pub(crate) fn add(&mut self, factor: f64, other: &Self) {
        self.observation.loss += factor * other.observation.loss;
        self.gradient.add(factor, &other.gradient);
    }

    /// The sum of passes.
    pub(crate) fn sum<'a>(passes: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::nothing();
        passes.into_iter().for_each(|pass| sum.add(1.0, pass));
        sum
    }

    /// The pass with its loss and its gradient multiplied.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.observation.loss *= factor;
        self.gradient.scale(factor);
        self
    }
}

/// `w_t` of every prediction, or `None` where a group without a supervised token leaves none.
pub(crate) fn weights(spec: &LossSpec, batch: &GlobalBatch) -> Option<Vec<f64>> {
    TokenWeights::new(spec, &batch.layout()).ok().map(|weights| weights.per_prediction(batch))
}

impl Honest {
    /// What the trainer can take.
    pub(crate) fn limits(&self) -> Limits {
        self.subject.info().limits
    }

    /// Loss and gradient under a loss spec. Wrong counts go through their token weights, so that no honest
    /// trainer has to know them.
    pub(crate) fn pass(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<PassResult, SubjectError> {
        let counted = LossSpec { counting: Counting::Supervised, ..*spec };
        let miscounted = if counted == *spec { None } else { weights(spec, batch) };
        if let Some(weights) = miscounted {
            return self.weighted(spec, batch, &weights);
        }
        self.configure(&counted)?;
        self.with_logits(|subject| {
            let mut gradient = NamedTensors::default();
            let observation = subject.accumulate(batch, &mut gradient)?;
            Ok(PassResult { observation, gradient })
        })
    }

    /// Loss and gradient of `Σ_t u_t·ℓ_t`, `weights` holding `u_t` for every prediction.
    pub(crate) fn weighted(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
        weights: &[f64],
    ) -> Result<PassResult, SubjectError> {
        self.configure(&LossSpec { counting: Counting::Supervised, ..*spec })?;
        let name = self.subject.info().name;
        self.with_logits(|subject| {
            let upstream =
                subject.upstream_weights().ok_or_else(|| lacking(&name, "weighting token losses"))?;
            let mut pass = PassResult::nothing();
            pass.observation.loss = upstream.backward(batch, weights, &mut pass.gradient)?;
            Ok(pass)
        })
    }

    /// What each micro-batch of each rank adds to loss and gradient; `None` where the batch has no weights.
    pub(crate) fn contributions(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
    ) -> Result<Option<Vec<Vec<PassResult>>>, SubjectError> {
        let Some(weights) = weights(spec, batch) else { return Ok(None) };
        let mut rest = weights.as_slice();
        let mut ranks = Vec::new();
        for rank in batch.ranks() {
            let mut passes = Vec::new();
            for micro_batch in rank.micro_batches().iter().cloned().map(GlobalBatch::of_micro_batch) {
                let (own, others) = rest.split_at(micro_batch.predictions().count());
                rest = others;
                passes.push(self.weighted(spec, &micro_batch, own)?);
            }
            ranks.push(passes);
        }
        Ok(Some(ranks))
    }

    /// What the gradient of the embedding's rows has from the tokens' use as inputs, `upstream` holding the
    /// weight of every prediction: by sequence, document and position, the row it belongs to and the gradient
    /// of the embedded input.
    ///
    /// The input of a position is its token's row plus its position's, so the two have the same gradient; and
    /// one document alone has every position once.
    pub(crate) fn inputs(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
        upstream: &[f64],
    ) -> Result<Vec<(usize, Vec<f64>)>, SubjectError> {
        let predictions: Vec<Prediction> = batch.predictions().collect();
        let positions = self.limits().positions.max(1);
        let mut inputs = Vec::new();
        for (index, sequence) in batch.sequences().enumerate() {
            let mut documents = sequence.segment_ids().to_vec();
            documents.sort_unstable();
            documents.dedup();
            for document in documents.into_iter().filter(|&document| document > 0) {
                let own = |position: usize| sequence.segment_ids()[position] == document;
                let weight = |(p, u): (&Prediction, &f64)| {
                    (p.sequence == index).then(|| if own(p.position) { *u } else { 0.0 })
                };
                let weights: Vec<f64> = predictions.iter().zip(upstream).filter_map(weight).collect();
                let single = GlobalBatch::single(sequence.clone());
                let pass = self.weighted(spec, &single, &weights)?;
                let rows = pass.gradient.of(POSITIONS);
                let columns = rows.len() / positions;
                for position in (0..sequence.len()).filter(|&position| own(position)) {
                    let row = sequence.position_ids()[position] as usize * columns;
                    let gradient = rows[row..row + columns].to_vec();
                    inputs.push((sequence.input_ids()[position] as usize, gradient));
                }
            }
        }
        Ok(inputs)
    }

    /// `−log p(target)` of every prediction.
    pub(crate) fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let name = self.subject.info().name;
        self.with_logits(|subject| {
            let losses = subject.token_losses().ok_or_else(|| lacking(&name, "evaluating token losses"))?;
            losses.evaluate(batch)
        })
    }

    /// What a validation prints of these batches.
    pub(crate) fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let name = self.subject.info().name;
        self.with_logits(|subject| {
            let evaluation = subject.evaluation().ok_or_else(|| lacking(&name, "validation"))?;
            evaluation.validate(batches)
        })
    }

    /// The current parameters.
    pub(crate) fn parameters(&mut self) -> Result<NamedTensors, SubjectError> {
        parameters(&mut *self.subject)
    }

    /// Replaces the values of one parameter.
    pub(crate) fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        set(&mut *self.subject, name, values)
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), SubjectError> {
        self.subject.configure(spec).map_err(|Unsupported { subject, what, .. }| lacking(&subject, &what))
    }

    /// Computes something with the logits multiplied, and leaves the parameters as they were.
    fn with_logits<T>(
        &mut self,
        compute: impl FnOnce(&mut dyn Subject) -> Result<T, SubjectError>,
    ) -> Result<T, SubjectError> {
        if self.logits.to_bits() == 1.0_f64.to_bits() {
            return compute(&mut *self.subject);
        }
        let parameters = self.parameters()?;
        for name in FINAL {
            let scaled: Vec<f64> = parameters.of(name).iter().map(|value| value * self.logits).collect();
            set(&mut *self.subject, name, &scaled)?;
        }
        let computed = compute(&mut *self.subject);
        FINAL.iter().try_for_each(|name| set(&mut *self.subject, name, parameters.of(name)))?;
        computed
    }

    /// The chain rule for what [`with_logits`](Self::with_logits) scales.
    pub(crate) fn through_logits(&self, gradient: &mut NamedTensors) {
        for name in FINAL {
            gradient.of_mut(name).iter_mut().for_each(|value| *value *= self.logits);
        }
    }
}

/// The current parameters of a subject.
pub(crate) fn parameters(subject: &mut dyn Subject) -> Result<NamedTensors, SubjectError> {
    let name = subject.info().name;
    let steps = subject.optimizer_steps().ok_or_else(|| lacking(&name, "reading parameters"))?;
    let mut parameters = NamedTensors::default();
    steps.read(&mut parameters)?;
    Ok(parameters)
}

/// Replaces the values of one parameter of a subject.
pub(crate) fn set(subject: &mut dyn Subject, name: &str, values: &[f64]) -> Result<(), SubjectError> {
    let trainer = subject.info().name;
    let loader = subject.parameter_loading().ok_or_else(|| lacking(&trainer, "loading parameters"))?;
    loader.set(name, values)
}

/// A fault that needs what the honest trainer has not.
pub(crate) fn lacking(subject: &str, what: &str) -> SubjectError {
    let message = format!("this fault needs an honest trainer that has {what}");
    SubjectError::Failed { subject: subject.to_owned(), message }
}

/// Hands tensors to a sink in the order and the shapes of the subject's parameters.
pub(crate) fn hand_over(
    subject: &dyn Subject,
    tensors: &NamedTensors,
    sink: &mut dyn GradientSink,
) -> Result<(), SubjectError> {
    let dtype = subject.info().dtypes.gradient;
    for parameter in subject.parameters() {
        tensors.hand_over(&parameter.name, &parameter.shape, dtype, sink)?;
    }
    Ok(())
}
