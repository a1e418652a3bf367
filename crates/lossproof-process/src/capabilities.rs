//! What the trainer behind an adapter can do beside a forward and backward pass.

use crate::{
    Accumulated, Adapter, Capability, Event, Nothing, Request, Stepped, Trained, Validated, asking::Tensors,
};
use lossproof_spec::{GlobalBatch, MicroBatch, Optimizer};
use lossproof_subject::{
    Call, Evaluated, Evaluation, GradientSink, LoadParameters, ObjectiveBatch, ObjectiveKind, Objectives,
    Observation, OptimizerSteps, StepReport, SubjectError, Tensor, TensorSet, TensorValues, TokenLosses,
    TracedUpdate, TrainingEvent, TrainingLoop, TrainingPlan, TrainingTrace, Unsupported, UpstreamWeights,
    safetensors::{encode, encode_named},
};
use std::borrow::Cow;

/// Bytes that the numbers and names of an event can have beside its parameters.
const EVENT: u64 = 1 << 10;

impl Adapter {
    /// One tensor of values as bytes.
    fn one_tensor(&self, name: &str, shape: Vec<usize>, values: Vec<f64>) -> Result<Vec<u8>, SubjectError> {
        let failed = |error: &dyn std::fmt::Display| SubjectError::failed(&self.info.name, error);
        let tensor = Tensor::new(shape, TensorValues::F64(values)).map_err(|error| failed(&error))?;
        encode(&TensorSet::from([(name.to_owned(), tensor)])).map_err(|error| failed(&error))
    }

    /// What a training left behind.
    fn trace(&mut self, request: &Request<'_>, plan: &TrainingPlan) -> Result<TrainingTrace, SubjectError> {
        // A loop that makes an update of every sample is wrong, and its trace is one all the same.
        let updates = (plan.training.len() as u64).saturating_mul(u64::from(plan.epochs)).saturating_add(1);
        let of_update = self.bytes_of_parameters().saturating_add(4 * EVENT);
        let most = updates.saturating_mul(of_update);
        let (Trained { events }, mut tensors) = self.ask(request, Vec::new(), most)?;
        // Of each update there may be a validation, and the end of an epoch.
        if events.len() as u64 > updates.saturating_mul(3).saturating_add(16) {
            return Err(
                self.malformed(request.call(), format!("has {} events, more than can happen", events.len()))
            );
        }
        let mut trace = TrainingTrace::default();
        for (index, event) in events.into_iter().enumerate() {
            trace.events.push(self.event(index, event, &mut tensors)?);
        }
        self.nothing_more(&tensors)?;
        Ok(trace)
    }

    fn event(
        &mut self,
        index: usize,
        event: Event,
        tensors: &mut Tensors,
    ) -> Result<TrainingEvent, SubjectError> {
        let loss = format!("events/{index}/loss");
        Ok(match event {
            Event::Update { samples, skipped } => TrainingEvent::Update(TracedUpdate {
                samples,
                skipped,
                loss: self.number_if_any(tensors, &loss)?,
                learning_rate: self.number_if_any(tensors, &format!("events/{index}/learning_rate"))?,
                grad_norm: self.number_if_any(tensors, &format!("events/{index}/grad_norm"))?,
                parameters: tensors.below(&format!("events/{index}/parameters/")),
            }),
            Event::Validation { tokens } => TrainingEvent::Validation(Evaluated {
                loss: self.number(tensors, &loss)?,
                perplexity: self.number(tensors, &format!("events/{index}/perplexity"))?,
                tokens,
            }),
            Event::EpochEnd => TrainingEvent::EpochEnd(self.number_if_any(tensors, &loss)?),
        })
    }
}

impl LoadParameters for Adapter {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        let named = parameters.iter().map(|(name, tensor)| (format!("parameters/{name}"), tensor));
        let bytes = encode_named(named).map_err(|error| SubjectError::failed(&self.info.name, error))?;
        self.ask::<Nothing>(&Request::Load, bytes.clone(), 0)?;
        self.loaded = Some(bytes);
        Ok(())
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let bytes = self.one_tensor("values", vec![values.len()], values.to_vec())?;
        self.ask::<Nothing>(&Request::Set { name: Cow::Borrowed(name) }, bytes, 0)?;
        Ok(())
    }
}

impl TokenLosses for Adapter {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let most = 8 * batch.predictions().count() as u64;
        let request = Request::Evaluate { batch: Cow::Borrowed(batch) };
        let (Nothing {}, mut answered) = self.ask(&request, Vec::new(), most)?;
        let losses = answered.numbers("token_losses");
        let losses = losses
            .ok_or_else(|| self.malformed(Call::Evaluate, "has no tensor `token_losses`".to_owned()))?;
        self.nothing_more(&answered)?;
        Ok(losses)
    }
}

impl UpstreamWeights for Adapter {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let bytes = self.one_tensor("weights", vec![weights.len()], weights.to_vec())?;
        let request = Request::Backward { batch: Cow::Borrowed(batch) };
        let most = self.bytes_of_parameters();
        let (Accumulated { .. }, mut answered) = self.ask(&request, bytes, most)?;
        let loss = self.number(&mut answered, "loss")?;
        self.hand_over("gradients", &mut answered, gradients)?;
        Ok(loss)
    }
}

impl OptimizerSteps for Adapter {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.ask_whether(&Request::Start { optimizer: *optimizer }, "this optimizer")
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let numbers = batch.predictions().count() + self.parameters.len();
        let request = Request::Step { batch: Cow::Borrowed(batch) };
        let (Stepped { supervised_tokens, skipped }, mut answered) =
            self.ask(&request, Vec::new(), 8 * numbers as u64)?;
        let observation = Observation {
            loss: self.number(&mut answered, "loss")?,
            token_losses: answered.numbers("token_losses"),
            supervised_tokens,
        };
        let report = StepReport {
            observation,
            learning_rate: self.number(&mut answered, "learning_rate")?,
            grad_norm: self.number(&mut answered, "grad_norm")?,
            tensor_norms: answered.numbers("tensor_norms").unwrap_or_default(),
            clip_factor: self.number(&mut answered, "clip_factor")?,
            skipped,
        };
        self.nothing_more(&answered)?;
        Ok(report)
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let most = self.bytes_of_parameters();
        let (Nothing {}, mut answered) = self.ask(&Request::Read, Vec::new(), most)?;
        self.hand_over("parameters", &mut answered, parameters)
    }
}

impl Evaluation for Adapter {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let request = Request::Validate { batches: Cow::Borrowed(batches) };
        let (Validated { tokens }, mut answered) = self.ask(&request, Vec::new(), 0)?;
        let loss = self.number(&mut answered, "loss")?;
        let perplexity = self.number(&mut answered, "perplexity")?;
        self.nothing_more(&answered)?;
        Ok(Evaluated { loss, perplexity, tokens })
    }
}

impl Objectives for Adapter {
    fn learns(&mut self, kind: ObjectiveKind) -> bool {
        self.can(Capability::of(kind))
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let tensors = match batch {
            ObjectiveBatch::SoftTargets { targets, .. } => {
                let shape = vec![targets.len(), targets.first().map_or(0, Vec::len)];
                self.one_tensor("targets", shape, targets.concat())?
            }
            _ => Vec::new(),
        };
        self.observed(&Request::learn(batch), tensors, batch.scored(), gradients)
    }
}

impl TrainingLoop for Adapter {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        self.ask_whether(&Request::Accepts { plan: Cow::Borrowed(plan) }, "this training")
    }

    fn resumes(&mut self) -> bool {
        self.can(Capability::Resume)
    }

    fn masks_of_samples(&mut self) -> bool {
        self.can(Capability::MasksOfSamples)
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        self.trace(&Request::Train { plan: Cow::Borrowed(plan), stop_after }, plan)
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.trace(&Request::Resume { plan: Cow::Borrowed(plan), stop_after }, plan)
    }
}
