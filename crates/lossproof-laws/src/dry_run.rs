//! What a subject's card makes impossible, found before anything is computed.
//!
//! A law is run on a subject that has the card, accepts the specs and optimizers that the real one accepts,
//! and computes nothing: every number is zero. Where each case ends with something that the subject does not
//! support, so would the real run.

use crate::{
    answering::{Answering, Answers},
    tape::{Answer, Question},
};
use lossproof_spec::{LossSpec, Optimizer};
use lossproof_subject::{
    Evaluated, Observation, Offered, ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, Tensor,
    TensorSet, TensorValues, TrainingLoop, TrainingPlan, TrainingTrace, Unsupported,
};
use std::rc::Rc;

/// A subject of which only the card is asked.
pub(crate) struct CardOnly<'a> {
    subject: &'a mut dyn Subject,
    info: SubjectInfo,
    parameters: Vec<ParameterInfo>,
    offered: Offered,
    spec: LossSpec,
}

impl<'a> CardOnly<'a> {
    /// The subject that has this one's card.
    pub(crate) fn subject(subject: &'a mut dyn Subject) -> Answering<Self> {
        let (info, parameters) = (subject.info(), subject.parameters());
        let (offered, spec) = (Offered::by(subject), info.claims.first());
        Answering(Self { subject, info, parameters, offered, spec })
    }

    fn zeros(&self) -> TensorSet {
        let mut zeros = TensorSet::new();
        for ParameterInfo { name, shape, .. } in &self.parameters {
            let values = TensorValues::F64(vec![0.0; shape.iter().product()]);
            let tensor = Tensor::new(shape.clone(), values).expect("invariant: the shape was filled");
            zeros.insert(name.clone(), tensor);
        }
        zeros
    }
}

impl Answers for CardOnly<'_> {
    fn info(&self) -> SubjectInfo {
        self.info.clone()
    }

    fn parameters(&self) -> &[ParameterInfo] {
        &self.parameters
    }

    fn offered(&self) -> Offered {
        self.offered
    }

    fn spec(&self) -> LossSpec {
        self.spec
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.subject.configure(spec)?;
        self.spec = *spec;
        Ok(())
    }

    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let lacking = Unsupported::new(&self.info.name, "optimizer steps");
        self.subject.optimizer_steps().ok_or(lacking)?.start(optimizer)
    }

    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        let lacking = Unsupported::new(&self.info.name, "training");
        self.subject.training_loop().ok_or(lacking)?.accepts(plan)
    }

    fn resumes(&mut self) -> bool {
        self.subject.training_loop().is_some_and(TrainingLoop::resumes)
    }

    fn masks_of_samples(&mut self) -> bool {
        self.subject.training_loop().is_some_and(TrainingLoop::masks_of_samples)
    }

    fn answer(&mut self, question: Question) -> Result<Rc<Answer>, SubjectError> {
        let observation = Observation::new(0.0, None);
        Ok(Rc::new(match question {
            Question::Accumulate(..) | Question::Learn(_) => Answer::Gradient(observation, self.zeros()),
            Question::Backward(..) => Answer::Weighted(0.0, self.zeros()),
            Question::Evaluate(batch) => Answer::Losses(vec![0.0; batch.predictions().count()]),
            Question::Step(..) => Answer::Stepped(StepReport {
                observation,
                learning_rate: 0.0,
                grad_norm: 0.0,
                tensor_norms: vec![0.0; self.parameters.len()],
                clip_factor: 1.0,
                skipped: false,
            }),
            Question::Read => Answer::Parameters(self.zeros()),
            Question::Train(..) | Question::Resume(..) => Answer::Trained(TrainingTrace::default()),
            Question::Validate(_) => Answer::Validated(Evaluated { loss: 0.0, perplexity: 1.0, tokens: 0 }),
        }))
    }
}
