//! A subject that gives the answers of a tape again, with one of them changed: the negative control.
//!
//! A law is a function of a case and of what the subject answers. So it can be run again on the answers
//! alone, without another forward or backward pass, and with one answer changed it must fail. That is no
//! arithmetic on the comparison but the law itself, and a law that looks at nothing is found out.

use crate::{
    change::Change,
    tape::{Answer, Question, Tape},
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, GradientView, LoadParameters, Observation, OptimizerSteps,
    ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
    UpstreamWeights,
};

/// A subject that answers from a tape, with one answer changed.
pub(crate) struct Playback<'a> {
    tape: &'a Tape,
    given: Vec<bool>,
    spec: LossSpec,
    changed: (usize, Change),
}

impl<'a> Playback<'a> {
    pub(crate) fn new(tape: &'a Tape, changed: (usize, Change)) -> Self {
        Self { tape, given: vec![false; tape.answers.len()], spec: tape.info.spec, changed }
    }

    /// The next answer to this question. A question that the tape does not have is the second look of a law
    /// that would rather know more before it convicts.
    fn answer(&mut self, question: &Question) -> Result<Answer, SubjectError> {
        let answers = self.tape.answers.iter().zip(&self.given);
        let next = answers.into_iter().position(|((asked, _), given)| !given && asked == question);
        let Some(index) = next else {
            let message = "the tape has no answer to this".to_owned();
            return Err(SubjectError::Failed { subject: self.tape.info.name.clone(), message });
        };
        self.given[index] = true;
        let mut answer = self.tape.answers[index].1.clone();
        if index == self.changed.0 {
            if let Change::Like(other) = self.changed.1 {
                answer = self.tape.answers[other].1.clone();
            }
            self.changed.1.of(&mut answer, self.tape);
        }
        if let Answer::Empty(empty) = answer { Err(empty.into()) } else { Ok(answer) }
    }

    fn hand_over(&self, tensors: &TensorSet, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        for parameter in &self.tape.parameters {
            if let Some(tensor) = tensors.get(&parameter.name) {
                sink.receive(&parameter.name, &parameter.shape, GradientView::F64(&tensor.to_f64()))?;
            }
        }
        Ok(())
    }

    fn other_answer() -> SubjectError {
        SubjectError::Failed { subject: "the tape".to_owned(), message: "another answer".to_owned() }
    }
}

impl Subject for Playback<'_> {
    fn info(&self) -> SubjectInfo {
        SubjectInfo { spec: self.spec, ..self.tape.info.clone() }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.tape.parameters.clone()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        if let Some((_, refused)) = self.tape.refused_specs.iter().find(|(refused, _)| refused == spec) {
            return Err(refused.clone());
        }
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        match self.answer(&Question::Accumulate(self.spec, batch.clone()))? {
            Answer::Gradient(observation, tensors) => {
                self.hand_over(&tensors, gradients)?;
                Ok(observation)
            }
            _ => Err(Self::other_answer()),
        }
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.tape.offered.parameter_loading { Some(self) } else { None }
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
}

impl LoadParameters for Playback<'_> {
    fn load(&mut self, _: &TensorSet) -> Result<(), SubjectError> {
        Ok(())
    }

    fn set(&mut self, _: &str, _: &[f64]) -> Result<(), SubjectError> {
        Ok(())
    }
}

impl TokenLosses for Playback<'_> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        match self.answer(&Question::Evaluate(batch.clone()))? {
            Answer::Losses(losses) => Ok(losses),
            _ => Err(Self::other_answer()),
        }
    }
}

impl UpstreamWeights for Playback<'_> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        match self.answer(&Question::Backward(self.spec, batch.clone(), weights.to_vec()))? {
            Answer::Weighted(loss, tensors) => {
                self.hand_over(&tensors, gradients)?;
                Ok(loss)
            }
            _ => Err(Self::other_answer()),
        }
    }
}

impl OptimizerSteps for Playback<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let refused = self.tape.refused_optimizers.iter().find(|(refused, _)| refused == optimizer);
        refused.map_or(Ok(()), |(_, refused)| Err(refused.clone()))
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        match self.answer(&Question::Step(self.spec, batch.clone()))? {
            Answer::Stepped(report) => Ok(report),
            _ => Err(Self::other_answer()),
        }
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        match self.answer(&Question::Read)? {
            Answer::Parameters(tensors) => self.hand_over(&tensors, parameters),
            _ => Err(Self::other_answer()),
        }
    }
}

impl Evaluation for Playback<'_> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        match self.answer(&Question::Validate(batches.to_vec()))? {
            Answer::Validated(evaluated) => Ok(evaluated),
            _ => Err(Self::other_answer()),
        }
    }
}
