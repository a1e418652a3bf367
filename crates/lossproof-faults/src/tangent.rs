//! An honest trainer that answers, at the parameters where it starts, what another trainer answers about one
//! token at a time.
//!
//! A trainer that shows a loss and its gradient, at parameters that never move, shows of its model what a
//! prefix c and a label v give: a loss `ℓ_v(c)` and a gradient `∇ℓ_v(c)`. The model with the logits
//!
//! ```text
//! z_v(θ, c) = −ℓ_v(c) − ∇ℓ_v(c)·(θ − θ₀)
//! ```
//!
//! is causal and differentiable, as any model that an honest trainer can have, and its cross-entropy at θ₀ is
//! `log Σ_v exp(−ℓ_v) + ℓ_y` with the gradient `∇ℓ_y − Σ_v p_v·∇ℓ_v`. What the trainer of this model answers
//! about a whole batch then follows from the spec. A trainer that gives the same answers, however wrong its
//! backward pass may be, cannot be told from an honest one of another architecture by anyone who sees no more
//! of it.

use crate::{honest::hand_over, model::spec_weights, tensors::NamedTensors};
use lossproof_cases::edit::alone;
use lossproof_spec::{
    GlobalBatch, IGNORE_INDEX, LossSpec, Prediction, Sequence, SequenceFields, TokenWeights,
};
use lossproof_subject::{
    GradientSink, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo, Unsupported,
};

/// The trainer of the model that agrees, to first order, with what another trainer shows.
pub(crate) struct Tangent {
    shown: Box<dyn Subject>,
    spec: LossSpec,
}

/// What a trainer shows of one prefix under one label, per unit of weight.
struct Labelled {
    loss: f64,
    gradient: NamedTensors,
}

impl Tangent {
    /// Of a trainer with one claim, which has neither label smoothing nor z-loss.
    pub(crate) fn of(shown: Box<dyn Subject>) -> Self {
        let spec = shown.info().claims.first();
        Self { shown, spec }
    }

    /// Cross-entropy of one prediction and its gradient.
    fn cross_entropy(
        &mut self,
        sequence: &Sequence,
        prediction: Prediction,
    ) -> Result<Labelled, SubjectError> {
        let vocabulary = u32::try_from(self.shown.info().limits.vocabulary).unwrap_or(u32::MAX);
        let mut labelled = Vec::new();
        for label in 0..vocabulary {
            labelled.push(self.labelled(sequence, prediction.position, label)?);
        }
        let least = labelled.iter().map(|own| own.loss).fold(f64::INFINITY, f64::min);
        let sum: f64 = labelled.iter().map(|own| (least - own.loss).exp()).sum();
        let target = &labelled[prediction.target as usize];
        let mut found = Labelled { loss: sum.ln() - least + target.loss, gradient: target.gradient.clone() };
        for own in &labelled {
            found.gradient.add(-(least - own.loss).exp() / sum, &own.gradient);
        }
        Ok(found)
    }

    /// What is shown of the document up to a position, followed by a label.
    fn labelled(
        &mut self,
        sequence: &Sequence,
        position: usize,
        label: u32,
    ) -> Result<Labelled, SubjectError> {
        let info = self.shown.info();
        let batch = alone(&prefix(sequence, position, label), &info.limits);
        let weight: f64 = TokenWeights::new(&self.spec, &batch.layout())?.per_prediction(&batch).iter().sum();
        self.shown.reset()?;
        let mut gradient = NamedTensors::default();
        let observation = self.shown.accumulate(&batch, &mut gradient)?;
        gradient.scale(1.0 / weight);
        Ok(Labelled { loss: observation.loss / weight, gradient })
    }
}

/// The document that a position belongs to, up to that position and by itself, followed by a label.
fn prefix(sequence: &Sequence, position: usize, label: u32) -> Sequence {
    let document = sequence.segment_ids()[position];
    let mut fields = SequenceFields::default();
    for at in (0..=position).filter(|&at| sequence.segment_ids()[at] == document) {
        fields.input_ids.push(sequence.input_ids()[at]);
        fields.position_ids.push(sequence.position_ids()[at]);
        fields.labels.push(IGNORE_INDEX);
    }
    // The last position predicts nothing: any row of the position embedding serves that no other has.
    let largest = fields.position_ids.iter().copied().max().unwrap_or_default();
    let unused = (0..=largest).find(|id| !fields.position_ids.contains(id)).unwrap_or(largest + 1);
    fields.input_ids.push(label);
    fields.position_ids.push(unused);
    fields.labels.push(i64::from(label));
    Sequence::from_fields(fields).expect("invariant: as many of each field")
}

impl Subject for Tangent {
    fn info(&self) -> SubjectInfo {
        self.shown.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.shown.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.shown.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.shown.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let (weights, nan) = spec_weights(&self.spec, batch)?;
        let sequences: Vec<&Sequence> = batch.sequences().collect();
        let (mut loss, mut gradient) = (0.0, NamedTensors::default());
        // Where nothing is supervised nothing is added.
        for parameter in self.shown.parameters() {
            let zeros = vec![0.0; parameter.shape.iter().product()];
            gradient.add(1.0, &NamedTensors::single(&parameter.name, zeros));
        }
        for (prediction, weight) in batch.predictions().zip(weights) {
            if prediction.supervised {
                let own = self.cross_entropy(sequences[prediction.sequence], prediction)?;
                loss += weight * own.loss;
                gradient.add(weight, &own.gradient);
            }
        }
        hand_over(&*self.shown, &gradient, gradients)?;
        let loss = if nan { f64::NAN } else { loss };
        Ok(Observation::new(loss, None))
    }
}
