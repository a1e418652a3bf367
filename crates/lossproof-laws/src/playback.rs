//! A subject that gives the answers of a tape again, with some of them changed: the negative control.
//!
//! A law is a function of a case and of what the subject answers. So it can be run again on the answers
//! alone, without another forward or backward pass, and with one answer changed it must fail. That is no
//! arithmetic on the comparison but the law itself, and a law that looks at nothing is found out.

use crate::{
    answering::{Answering, Answers},
    change::Change,
    tape::{Answer, Question, Tape},
};
use lossproof_spec::{LossSpec, Optimizer};
use lossproof_subject::{Offered, ParameterInfo, SubjectError, SubjectInfo, TrainingPlan, Unsupported};
use std::rc::Rc;

/// Which answers of a tape are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// From this number up to, but not including, that one.
    Range(usize, usize),
    /// The one with this number in every context: so many answers each has.
    InEachContext(usize, usize),
}

/// The answers of a tape, with some of them changed.
pub(crate) struct Playback<'a> {
    tape: &'a Tape,
    given: Vec<bool>,
    spec: LossSpec,
    changed: (Changed, Change),
}

impl<'a> Playback<'a> {
    /// The subject that gives them.
    pub(crate) fn subject(tape: &'a Tape, changed: (Changed, Change)) -> Answering<Self> {
        Answering(Self {
            tape,
            given: vec![false; tape.answers.len()],
            spec: tape.info.claims.first(),
            changed,
        })
    }
}

impl Answers for Playback<'_> {
    fn info(&self) -> SubjectInfo {
        self.tape.info.clone()
    }

    fn parameters(&self) -> &[ParameterInfo] {
        &self.tape.parameters
    }

    fn offered(&self) -> Offered {
        self.tape.offered
    }

    fn spec(&self) -> LossSpec {
        self.spec
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        if let Some((_, refused)) = self.tape.refused_specs.iter().find(|(refused, _)| refused == spec) {
            return Err(refused.clone());
        }
        self.spec = *spec;
        Ok(())
    }

    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let refused = self.tape.refused_optimizers.iter().find(|(refused, _)| refused == optimizer);
        refused.map_or(Ok(()), |(_, refused)| Err(refused.clone()))
    }

    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        let refused = self.tape.refused_plans.iter().find(|(refused, _)| refused == plan);
        refused.map_or(Ok(()), |(_, refused)| Err(refused.clone()))
    }

    fn resumes(&mut self) -> bool {
        self.tape.resumes
    }

    fn masks_of_samples(&mut self) -> bool {
        self.tape.masks_of_samples
    }

    /// The next answer to this question. A question that the tape does not have is the second look of a law
    /// that would rather know more before it convicts.
    fn answer(&mut self, question: Question) -> Result<Rc<Answer>, SubjectError> {
        let answers = self.tape.answers.iter().zip(&self.given);
        let next = answers.into_iter().position(|((asked, _), given)| !given && *asked == question);
        let Some(index) = next else {
            let message = "the tape has no answer to this".to_owned();
            return Err(SubjectError::Failed { subject: self.tape.info.name.clone(), message });
        };
        self.given[index] = true;
        let mut answer = Rc::clone(&self.tape.answers[index].1);
        let is_changed = match self.changed.0 {
            Changed::Range(from, to) => (from..to).contains(&index),
            Changed::InEachContext(number, answers) => index % answers == number,
        };
        if is_changed {
            match &self.changed.1 {
                Change::Like(other) => answer = Rc::clone(&self.tape.answers[*other].1),
                change => change.of(Rc::make_mut(&mut answer), self.tape),
            }
        }
        match &*answer {
            Answer::Empty(empty) => Err((*empty).into()),
            Answer::OtherTraining(difference) => {
                Err(SubjectError::OtherTraining { difference: difference.clone() })
            }
            _ => Ok(answer),
        }
    }
}
