//! Subjects that compute nothing: a card, and an answer to every question.

use crate::tape::{Answer, Question};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, LoadParameters, ObjectiveBatch, ObjectiveKind, Objectives,
    Observation, Offered, OptimizerSteps, ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo,
    TensorSet, TokenLosses, TrainingLoop, TrainingPlan, TrainingTrace, Unsupported, UpstreamWeights,
};
use std::rc::Rc;

/// Where the answers come from.
pub(crate) trait Answers {
    fn info(&self) -> SubjectInfo;
    fn parameters(&self) -> &[ParameterInfo];
    fn offered(&self) -> Offered;
    /// The spec in force.
    fn spec(&self) -> LossSpec;
    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported>;
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported>;
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported>;
    /// Whether a training can be resumed.
    fn resumes(&mut self) -> bool;
    /// Whether masks of dropout belong to samples.
    fn masks_of_samples(&mut self) -> bool;
    /// The answer, which is of the kind that the question asks for.
    fn answer(&mut self, question: Question) -> Result<Rc<Answer>, SubjectError>;
}

/// The subject that answers so.
pub(crate) struct Answering<A>(pub(crate) A);

impl<A: Answers> Answering<A> {
    /// Parameters that are not among the tensors are not handed over.
    fn hand_over(&self, tensors: &TensorSet, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        for parameter in self.0.parameters() {
            if let Some(tensor) = tensors.get(&parameter.name) {
                sink.receive(&parameter.name, &parameter.shape, tensor.values().into())?;
            }
        }
        Ok(())
    }

    fn differentiated(
        &mut self,
        question: Question,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        match &*self.0.answer(question)? {
            Answer::Gradient(observation, tensors) => {
                self.hand_over(tensors, gradients)?;
                Ok(observation.clone())
            }
            _ => Err(self.of_another_kind()),
        }
    }

    fn trained(&mut self, question: Question) -> Result<TrainingTrace, SubjectError> {
        match &*self.0.answer(question)? {
            Answer::Trained(trace) => Ok(trace.clone()),
            _ => Err(self.of_another_kind()),
        }
    }

    fn of_another_kind(&self) -> SubjectError {
        let message = "the answer is to another question".to_owned();
        SubjectError::Failed { subject: self.0.info().name, message }
    }
}

impl<A: Answers> Subject for Answering<A> {
    fn info(&self) -> SubjectInfo {
        self.0.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.0.parameters().to_vec()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.0.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let spec = self.0.spec();
        self.differentiated(Question::Accumulate(spec, batch.clone()), gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.0.offered().parameter_loading { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.0.offered().token_losses { Some(self) } else { None }
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        if self.0.offered().upstream_weights { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        if self.0.offered().optimizer_steps { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.0.offered().evaluation { Some(self) } else { None }
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        if self.0.offered().learns_otherwise() { Some(self) } else { None }
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        if self.0.offered().training_loop { Some(self) } else { None }
    }
}

impl<A: Answers> LoadParameters for Answering<A> {
    fn load(&mut self, _: &TensorSet) -> Result<(), SubjectError> {
        Ok(())
    }

    fn set(&mut self, _: &str, _: &[f64]) -> Result<(), SubjectError> {
        Ok(())
    }
}

impl<A: Answers> TokenLosses for Answering<A> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        match &*self.0.answer(Question::Evaluate(batch.clone()))? {
            Answer::Losses(losses) => Ok(losses.clone()),
            _ => Err(self.of_another_kind()),
        }
    }
}

impl<A: Answers> UpstreamWeights for Answering<A> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let spec = self.0.spec();
        match &*self.0.answer(Question::Backward(spec, batch.clone(), weights.to_vec()))? {
            Answer::Weighted(loss, tensors) => {
                self.hand_over(tensors, gradients)?;
                Ok(*loss)
            }
            _ => Err(self.of_another_kind()),
        }
    }
}

impl<A: Answers> OptimizerSteps for Answering<A> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.0.start(optimizer)
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let spec = self.0.spec();
        match &*self.0.answer(Question::Step(spec, batch.clone()))? {
            Answer::Stepped(report) => Ok(report.clone()),
            _ => Err(self.of_another_kind()),
        }
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        match &*self.0.answer(Question::Read)? {
            Answer::Parameters(tensors) => self.hand_over(tensors, parameters),
            _ => Err(self.of_another_kind()),
        }
    }
}

impl<A: Answers> Objectives for Answering<A> {
    fn learns(&mut self, kind: ObjectiveKind) -> bool {
        self.0.offered().learns(kind)
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.differentiated(Question::Learn(batch.clone()), gradients)
    }
}

impl<A: Answers> Evaluation for Answering<A> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        match &*self.0.answer(Question::Validate(batches.to_vec()))? {
            Answer::Validated(evaluated) => Ok(*evaluated),
            _ => Err(self.of_another_kind()),
        }
    }
}

impl<A: Answers> TrainingLoop for Answering<A> {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        self.0.accepts(plan)
    }

    fn resumes(&mut self) -> bool {
        self.0.resumes()
    }

    fn masks_of_samples(&mut self) -> bool {
        self.0.masks_of_samples()
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        self.trained(Question::Train(self.0.spec(), plan.clone(), stop_after))
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.trained(Question::Resume(self.0.spec(), plan.clone(), stop_after))
    }
}
