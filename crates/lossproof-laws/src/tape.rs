//! Everything that a subject answered on one case, written down as it answers.

use crate::{blocks, clauses::objectives};
use lossproof_numerics::Block;
use lossproof_spec::{EmptyGroup, GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Collect, Evaluated, Evaluation, GradientSink, LoadParameters, ObjectiveBatch, ObjectiveKind, Objectives,
    Observation, Offered, OptimizerSteps, ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, Tee,
    TensorSet, TokenLosses, TrainingLoop, TrainingPlan, TrainingTrace, Unsupported, UpstreamWeights,
};
use std::{mem::discriminant, rc::Rc};

/// What a subject was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    Accumulate(LossSpec, GlobalBatch),
    Backward(LossSpec, GlobalBatch, Vec<f64>),
    Evaluate(GlobalBatch),
    Step(LossSpec, GlobalBatch),
    Read,
    Validate(Vec<MicroBatch>),
    Learn(ObjectiveBatch),
    Train(LossSpec, TrainingPlan, Option<u64>),
    Resume(LossSpec, TrainingPlan, Option<u64>),
}

/// What it answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Gradient(Observation, TensorSet),
    Weighted(f64, TensorSet),
    Losses(Vec<f64>),
    Stepped(StepReport),
    Parameters(TensorSet),
    Validated(Evaluated),
    Trained(TrainingTrace),
    /// What was saved is of another training.
    OtherTraining(String),
    /// A group without a supervised token, under a spec that has no weights then.
    Empty(EmptyGroup),
}

/// Everything that a subject answered on one case.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    pub(crate) info: SubjectInfo,
    pub(crate) parameters: Vec<ParameterInfo>,
    pub(crate) offered: Offered,
    pub(crate) answers: Vec<(Question, Rc<Answer>)>,
    pub(crate) refused_specs: Vec<(LossSpec, Unsupported)>,
    pub(crate) refused_optimizers: Vec<(Optimizer, Unsupported)>,
    pub(crate) refused_plans: Vec<(TrainingPlan, Unsupported)>,
    /// Whether a training can be resumed.
    pub(crate) resumes: bool,
    /// Whether masks of dropout belong to samples.
    pub(crate) masks_of_samples: bool,
}

impl Tape {
    /// The number of answers.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// The answers before this one that are of its kind, the last first.
    pub(crate) fn former(&self, answer: usize) -> impl Iterator<Item = usize> {
        let kind = discriminant(&*self.answers[answer].1);
        (0..answer).rev().filter(move |&former| discriminant(&*self.answers[former].1) == kind)
    }

    /// The block of this name among the tensors of an answer.
    pub(crate) fn block(&self, answer: usize, name: &str) -> Option<Block> {
        let batch = match &self.answers[answer].0 {
            Question::Accumulate(_, batch) | Question::Backward(_, batch, _) => batch.clone(),
            Question::Learn(batch) => objectives::influences(batch),
            _ => return None,
        };
        let blocks = blocks::Blocks::new(&batch, &self.parameters);
        blocks.all().iter().find(|block| blocks::name(block) == name).cloned()
    }

    /// Whether an answer has numbers of this kind.
    pub(crate) fn has_number(&self, answer: usize, kind: usize) -> bool {
        match &*self.answers[answer].1 {
            Answer::Gradient(observation, _) => match kind {
                0 => true,
                1 => observation.token_losses.is_some(),
                7 => observation.supervised_tokens.is_some(),
                _ => false,
            },
            Answer::Weighted(..) => kind == 0,
            Answer::Losses(_) => kind == 1,
            Answer::Stepped(_) => kind != 6,
            Answer::Validated(_) => matches!(kind, 0 | 6 | 7),
            Answer::Trained(_) => matches!(kind, 0 | 2 | 3 | 4 | 5 | 6 | 7),
            Answer::Parameters(_) | Answer::Empty(_) | Answer::OtherTraining(_) => false,
        }
    }

    /// Whether an answer is a training.
    pub(crate) fn is_training(&self, answer: usize) -> bool {
        matches!(*self.answers[answer].1, Answer::Trained(_))
    }

    /// Whether a parameter is called so.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == name)
    }
}

/// Writes down what a subject answers.
pub(crate) struct Recorder<'a> {
    subject: &'a mut dyn Subject,
    tape: Tape,
    /// The spec in force.
    spec: LossSpec,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(subject: &'a mut dyn Subject) -> Self {
        let (offered, spec) = (Offered::by(subject), subject.info().claims.first());
        let tape = Tape {
            info: subject.info(),
            parameters: subject.parameters(),
            offered,
            answers: Vec::new(),
            refused_specs: Vec::new(),
            refused_optimizers: Vec::new(),
            refused_plans: Vec::new(),
            resumes: subject.training_loop().is_some_and(TrainingLoop::resumes),
            masks_of_samples: subject.training_loop().is_some_and(TrainingLoop::masks_of_samples),
        };
        Self { subject, tape, spec }
    }

    pub(crate) fn into_tape(self) -> Tape {
        self.tape
    }

    fn note<T>(
        &mut self,
        question: Question,
        answer: Result<T, SubjectError>,
        put: impl FnOnce(&T) -> Answer,
    ) -> Result<T, SubjectError> {
        match &answer {
            Ok(value) => self.tape.answers.push((question, Rc::new(put(value)))),
            Err(SubjectError::EmptyGroup(empty)) => {
                self.tape.answers.push((question, Rc::new(Answer::Empty(*empty))));
            }
            Err(SubjectError::OtherTraining { difference }) => {
                self.tape.answers.push((question, Rc::new(Answer::OtherTraining(difference.clone()))));
            }
            // The case ends here, and with it the tape.
            Err(_) => {}
        }
        answer
    }
}

/// A capability that was there when the tape began.
fn gone() -> SubjectError {
    SubjectError::Failed { subject: "the subject".to_owned(), message: "a capability is gone".to_owned() }
}

impl Subject for Recorder<'_> {
    fn info(&self) -> SubjectInfo {
        self.subject.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.tape.parameters.clone()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.subject.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        match self.subject.configure(spec) {
            Ok(()) => {
                self.spec = *spec;
                Ok(())
            }
            Err(refused) => {
                self.tape.refused_specs.push((*spec, refused.clone()));
                Err(refused)
            }
        }
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let mut kept = Collect::default();
        let answer = self.subject.accumulate(batch, &mut Tee(gradients, &mut kept));
        let question = Question::Accumulate(self.spec, batch.clone());
        self.note(question, answer, |observation| Answer::Gradient(observation.clone(), kept.into_tensors()))
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.subject.parameter_loading()
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.tape.offered.token_losses { Some(self) } else { None }
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        if self.tape.offered.upstream_weights { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        if self.tape.offered.optimizer_steps { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.tape.offered.evaluation { Some(self) } else { None }
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        if self.tape.offered.learns_otherwise() { Some(self) } else { None }
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        if self.tape.offered.training_loop { Some(self) } else { None }
    }
}

impl TokenLosses for Recorder<'_> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let answer = self.subject.token_losses().ok_or_else(gone)?.evaluate(batch);
        self.note(Question::Evaluate(batch.clone()), answer, |losses| Answer::Losses(losses.clone()))
    }
}

impl UpstreamWeights for Recorder<'_> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let mut kept = Collect::default();
        let upstream = self.subject.upstream_weights().ok_or_else(gone)?;
        let answer = upstream.backward(batch, weights, &mut Tee(gradients, &mut kept));
        let question = Question::Backward(self.spec, batch.clone(), weights.to_vec());
        self.note(question, answer, |loss| Answer::Weighted(*loss, kept.into_tensors()))
    }
}

impl OptimizerSteps for Recorder<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let lacking = Unsupported::new(&self.tape.info.name, "optimizer steps");
        let answer = self.subject.optimizer_steps().ok_or(lacking)?.start(optimizer);
        if let Err(refused) = &answer {
            self.tape.refused_optimizers.push((*optimizer, refused.clone()));
        }
        answer
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let answer = self.subject.optimizer_steps().ok_or_else(gone)?.step(batch);
        let question = Question::Step(self.spec, batch.clone());
        self.note(question, answer, |report| Answer::Stepped(report.clone()))
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let mut kept = Collect::default();
        let steps = self.subject.optimizer_steps().ok_or_else(gone)?;
        let answer = steps.read(&mut Tee(parameters, &mut kept));
        self.note(Question::Read, answer, |()| Answer::Parameters(kept.into_tensors()))
    }
}

impl TrainingLoop for Recorder<'_> {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        let lacking = Unsupported::new(&self.tape.info.name, "training");
        let answer = self.subject.training_loop().ok_or(lacking)?.accepts(plan);
        if let Err(refused) = &answer {
            self.tape.refused_plans.push((plan.clone(), refused.clone()));
        }
        answer
    }

    fn resumes(&mut self) -> bool {
        self.tape.resumes
    }

    fn masks_of_samples(&mut self) -> bool {
        self.tape.masks_of_samples
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        let answer = self.subject.training_loop().ok_or_else(gone)?.train(plan, stop_after);
        let question = Question::Train(self.spec, plan.clone(), stop_after);
        self.note(question, answer, |trace| Answer::Trained(trace.clone()))
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        let answer = self.subject.training_loop().ok_or_else(gone)?.resume(plan, stop_after);
        let question = Question::Resume(self.spec, plan.clone(), stop_after);
        self.note(question, answer, |trace| Answer::Trained(trace.clone()))
    }
}

impl Objectives for Recorder<'_> {
    fn learns(&mut self, kind: ObjectiveKind) -> bool {
        self.tape.offered.learns(kind)
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let mut kept = Collect::default();
        let objectives = self.subject.objectives().ok_or_else(gone)?;
        let answer = objectives.learn(batch, &mut Tee(gradients, &mut kept));
        self.note(Question::Learn(batch.clone()), answer, |observation| {
            Answer::Gradient(observation.clone(), kept.into_tensors())
        })
    }
}

impl Evaluation for Recorder<'_> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let answer = self.subject.evaluation().ok_or_else(gone)?.validate(batches);
        self.note(Question::Validate(batches.to_vec()), answer, |evaluated| Answer::Validated(*evaluated))
    }
}
