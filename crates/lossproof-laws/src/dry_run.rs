//! What a subject's card makes impossible, found before anything is computed.
//!
//! A law is run on a subject that has the card, accepts the specs and optimizers that the real one accepts,
//! and computes nothing: every number is zero. Where each case ends with something that the subject does not
//! support, so would the real run.

use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, GradientView, LoadParameters, Observation, OptimizerSteps,
    ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
    UpstreamWeights,
};

/// A subject of which only the card is asked.
pub(crate) struct CardOnly<'a> {
    subject: &'a mut dyn Subject,
    info: SubjectInfo,
    parameters: Vec<ParameterInfo>,
}

impl<'a> CardOnly<'a> {
    pub(crate) fn new(subject: &'a mut dyn Subject) -> Self {
        let (info, parameters) = (subject.info(), subject.parameters());
        Self { subject, info, parameters }
    }

    fn hand_over(&self, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        for parameter in &self.parameters {
            let zeros = vec![0.0; parameter.shape.iter().product()];
            sink.receive(&parameter.name, &parameter.shape, GradientView::F64(&zeros))?;
        }
        Ok(())
    }

    fn observation() -> Observation {
        Observation { loss: 0.0, token_losses: None, supervised_tokens: None }
    }
}

impl Subject for CardOnly<'_> {
    fn info(&self) -> SubjectInfo {
        self.info.clone()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.clone()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.subject.configure(spec)?;
        self.info.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        _: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.hand_over(gradients)?;
        Ok(Self::observation())
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.subject.parameter_loading().is_some() { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.subject.token_losses().is_some() { Some(self) } else { None }
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        if self.subject.upstream_weights().is_some() { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        if self.subject.optimizer_steps().is_some() { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.subject.evaluation().is_some() { Some(self) } else { None }
    }
}

impl LoadParameters for CardOnly<'_> {
    fn load(&mut self, _: &TensorSet) -> Result<(), SubjectError> {
        Ok(())
    }

    fn set(&mut self, _: &str, _: &[f64]) -> Result<(), SubjectError> {
        Ok(())
    }
}

impl TokenLosses for CardOnly<'_> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        Ok(vec![0.0; batch.predictions().count()])
    }
}

impl UpstreamWeights for CardOnly<'_> {
    fn backward(
        &mut self,
        _: &GlobalBatch,
        _: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        self.hand_over(gradients)?;
        Ok(0.0)
    }
}

impl OptimizerSteps for CardOnly<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let what = "optimizer steps".to_owned();
        let lacking = Unsupported { subject: self.info.name.clone(), what };
        self.subject.optimizer_steps().ok_or(lacking)?.start(optimizer)
    }

    fn step(&mut self, _: &GlobalBatch) -> Result<StepReport, SubjectError> {
        Ok(StepReport {
            observation: Self::observation(),
            learning_rate: 0.0,
            grad_norm: 0.0,
            tensor_norms: vec![0.0; self.parameters.len()],
            clip_factor: 1.0,
            skipped: false,
        })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.hand_over(parameters)
    }
}

impl Evaluation for CardOnly<'_> {
    fn validate(&mut self, _: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        Ok(Evaluated { loss: 0.0, perplexity: 1.0, tokens: 0 })
    }
}
