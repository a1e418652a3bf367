//! The capabilities of a checked subject.

use super::Checked;
use crate::{
    Breach, Call, Evaluated, Evaluation, GradientSink, LoadParameters, ObjectiveBatch, ObjectiveKind,
    Objectives, Observation, OptimizerSteps, StepReport, SubjectError, TensorSet, TokenLosses, Unsupported,
    UpstreamWeights,
};
use lossproof_spec::{GlobalBatch, MicroBatch, Optimizer};

impl LoadParameters for Checked<'_> {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        let answer = self
            .call(Call::Load, |subject| subject.parameter_loading().map(|loader| loader.load(parameters)))?;
        let answer = answer.ok_or_else(|| self.lacks("parameter_loading"))?;
        let fits = parameters.len() == self.parameters.len()
            && self
                .parameters
                .iter()
                .all(|own| parameters.get(&own.name).is_some_and(|t| t.shape() == own.shape));
        match answer {
            // What broke instead of answering has refused nothing.
            Err(SubjectError::Breach(breach)) => Err(self.breached(breach).into()),
            Err(error) if fits => {
                let message = error.to_string();
                Err(self.breached(Breach::Refused { call: Call::Load, message }).into())
            }
            answer => answer,
        }
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let answer = self
            .call(Call::Set, |subject| subject.parameter_loading().map(|loader| loader.set(name, values)))?;
        answer.ok_or_else(|| self.lacks("parameter_loading"))?
    }
}

impl TokenLosses for Checked<'_> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.info.limits.check(batch)?;
        let call = Call::Evaluate;
        let answer =
            self.call(call, |subject| subject.token_losses().map(|evaluator| evaluator.evaluate(batch)))?;
        let answer = answer.ok_or_else(|| self.lacks("token_losses"))?;
        let losses = self.accepted(call, answer)?;
        let (found, expected) = (losses.len(), batch.predictions().count());
        if found != expected {
            let what = "token losses, one for each prediction";
            return Err(self.breached(Breach::Count { call, what, found, expected }).into());
        }
        if let Some(index) = losses.iter().position(|loss| !loss.is_finite()) {
            self.wrong_numbers(Breach::NotFinite {
                call,
                what: format!("a token loss (prediction {index})"),
            })?;
        }
        Ok(losses)
    }
}

impl UpstreamWeights for Checked<'_> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        self.info.limits.check(batch)?;
        let finite = weights.iter().all(|weight| weight.is_finite());
        let lacking = SubjectError::Failed {
            subject: self.info.name.clone(),
            message: "the capability upstream_weights is gone".to_owned(),
        };
        let call = Call::Backward;
        let loss = self.tensors(call, gradients, finite, |subject, sink| {
            subject.upstream_weights().ok_or(lacking)?.backward(batch, weights, sink)
        })?;
        if finite && !loss.is_finite() {
            self.wrong_numbers(Breach::NotFinite { call, what: "a weighted loss".to_owned() })?;
        }
        Ok(loss)
    }
}

impl OptimizerSteps for Checked<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let answer =
            self.call(Call::Start, |subject| subject.optimizer_steps().map(|steps| steps.start(optimizer)));
        match answer {
            Ok(Some(answer)) => self.whether(answer),
            _ => Err(Unsupported::new(&self.info.name, "optimizer steps")),
        }
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        self.info.limits.check(batch)?;
        let call = Call::Step;
        let answer = self.call(call, |subject| subject.optimizer_steps().map(|steps| steps.step(batch)))?;
        let answer = answer.ok_or_else(|| self.lacks("optimizer_steps"))?;
        let report = self.accepted(call, answer)?;
        let (found, expected) = (report.tensor_norms.len(), self.parameters.len());
        if found != expected {
            let what = "norms, one for each parameter";
            return Err(self.breached(Breach::Count { call, what, found, expected }).into());
        }
        let finite = self.weighs(batch);
        self.observed(call, batch, &report.observation, finite)?;
        Ok(report)
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let lacking = SubjectError::Failed {
            subject: self.info.name.clone(),
            message: "the capability optimizer_steps is gone".to_owned(),
        };
        self.tensors(Call::Read, parameters, false, |subject, sink| {
            subject.optimizer_steps().ok_or(lacking)?.read(sink)
        })
    }
}

impl Objectives for Checked<'_> {
    fn learns(&mut self, kind: ObjectiveKind) -> bool {
        self.offered.learns(kind)
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        batch.check(&self.info.limits)?;
        let lacking = SubjectError::failed(&self.info.name, "the capability objectives is gone");
        let (call, finite) = (Call::Learn, batch.scored() > 0);
        let before = self.breach.clone();
        let observation = self.tensors(call, gradients, finite, |subject, sink| {
            subject.objectives().ok_or(lacking)?.learn(batch, sink)
        });
        let observation = match observation {
            // Nothing is scored: it may be refused as one pleases.
            Err(SubjectError::Breach(Breach::Refused { message, .. })) if !finite => {
                self.breach = before;
                return Err(SubjectError::failed(&self.info.name, message));
            }
            observation => observation?,
        };
        if finite && !observation.loss.is_finite() {
            self.wrong_numbers(Breach::NotFinite { call, what: "a loss".to_owned() })?;
        }
        Ok(observation)
    }
}

impl Evaluation for Checked<'_> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let call = Call::Validate;
        let answer =
            self.call(call, |subject| subject.evaluation().map(|evaluation| evaluation.validate(batches)))?;
        let answer = answer.ok_or_else(|| self.lacks("evaluation"))?;
        let batches = batches.iter().cloned().map(GlobalBatch::of_micro_batch);
        let inside = batches.map(|batch| self.info.limits.check(&batch)).all(|checked| checked.is_ok());
        if inside { self.accepted(call, answer) } else { answer }
    }
}
