//! The answers of one case on tape, and a subject that gives them again with one of them changed: the negative control.
//!
//! A law is a function of a case and of what the subject answers. So it can be run again on the answers alone, without another
//! forward or backward pass, and with one answer changed it must fail. That is no arithmetic on the comparison but the law
//! itself, and a law that looks at nothing is found out.

use crate::blocks;
use lossproof_numerics::Block;
use lossproof_spec::{EmptyGroup, GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Collect, Evaluated, Evaluation, GradientSink, GradientView, LoadParameters, Observation, OptimizerSteps,
    ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo, Tee, Tensor, TensorSet, TensorValues,
    TokenLosses, Unsupported, UpstreamWeights,
};
use std::mem::discriminant;

/// What a subject was asked.
#[derive(Clone, Debug, PartialEq)]
enum Question {
    Accumulate(LossSpec, GlobalBatch),
    Backward(LossSpec, GlobalBatch, Vec<f64>),
    Evaluate(GlobalBatch),
    Step(LossSpec, GlobalBatch),
    Read,
    Validate(Vec<MicroBatch>),
}

/// What it answered.
#[derive(Clone, Debug)]
enum Answer {
    Gradient(Observation, TensorSet),
    Weighted(f64, TensorSet),
    Losses(Vec<f64>),
    Stepped(StepReport),
    Parameters(TensorSet),
    Validated(Evaluated),
    /// A group without a supervised token, under a spec that has no weights then.
    Empty(EmptyGroup),
}

/// Which capabilities a subject has.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each capability")]
struct Offered {
    parameter_loading: bool,
    token_losses: bool,
    upstream_weights: bool,
    optimizer_steps: bool,
    evaluation: bool,
}

/// Everything that a subject answered on one case.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    info: SubjectInfo,
    parameters: Vec<ParameterInfo>,
    offered: Offered,
    answers: Vec<(Question, Answer)>,
    refused_specs: Vec<(LossSpec, Unsupported)>,
    refused_optimizers: Vec<(Optimizer, Unsupported)>,
}

impl Tape {
    /// The number of answers.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// The answers before this one that are of its kind, the last first.
    pub(crate) fn former(&self, answer: usize) -> impl Iterator<Item = usize> {
        let kind = discriminant(&self.answers[answer].1);
        (0..answer).rev().filter(move |&former| discriminant(&self.answers[former].1) == kind)
    }

    /// The block of this name among the tensors of an answer.
    pub(crate) fn block(&self, answer: usize, name: &str) -> Option<Block> {
        let batch = match &self.answers[answer].0 {
            Question::Accumulate(_, batch) | Question::Backward(_, batch, _) => batch,
            _ => return None,
        };
        let blocks = blocks::Blocks::new(batch, &self.parameters);
        blocks.all().iter().find(|block| blocks::name(block) == name).cloned()
    }

    /// Whether an answer has numbers of this kind.
    pub(crate) fn has_number(&self, answer: usize, kind: usize) -> bool {
        match &self.answers[answer].1 {
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
            Answer::Parameters(_) | Answer::Empty(_) => false,
        }
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
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(subject: &'a mut dyn Subject) -> Self {
        let offered = Offered {
            parameter_loading: subject.parameter_loading().is_some(),
            token_losses: subject.token_losses().is_some(),
            upstream_weights: subject.upstream_weights().is_some(),
            optimizer_steps: subject.optimizer_steps().is_some(),
            evaluation: subject.evaluation().is_some(),
        };
        let tape = Tape {
            info: subject.info(),
            parameters: subject.parameters(),
            offered,
            answers: Vec::new(),
            refused_specs: Vec::new(),
            refused_optimizers: Vec::new(),
        };
        Self { subject, tape }
    }

    pub(crate) fn into_tape(self) -> Tape {
        self.tape
    }

    fn spec(&self) -> LossSpec {
        self.tape.info.spec
    }

    fn note<T>(
        &mut self,
        question: Question,
        answer: Result<T, SubjectError>,
        put: impl FnOnce(&T) -> Answer,
    ) -> Result<T, SubjectError> {
        match &answer {
            Ok(value) => self.tape.answers.push((question, put(value))),
            Err(SubjectError::EmptyGroup(empty)) => {
                self.tape.answers.push((question, Answer::Empty(empty.clone())));
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
                self.tape.info.spec = *spec;
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
        let question = Question::Accumulate(self.spec(), batch.clone());
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
        let question = Question::Backward(self.spec(), batch.clone(), weights.to_vec());
        self.note(question, answer, |loss| Answer::Weighted(*loss, kept.into_tensors()))
    }
}

impl OptimizerSteps for Recorder<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let what = "optimizer steps".to_owned();
        let lacking = Unsupported { subject: self.tape.info.name.clone(), what };
        let answer = self.subject.optimizer_steps().ok_or(lacking)?.start(optimizer);
        if let Err(refused) = &answer {
            self.tape.refused_optimizers.push((*optimizer, refused.clone()));
        }
        answer
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let answer = self.subject.optimizer_steps().ok_or_else(gone)?.step(batch);
        let question = Question::Step(self.spec(), batch.clone());
        self.note(question, answer, |report| Answer::Stepped(report.clone()))
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let mut kept = Collect::default();
        let steps = self.subject.optimizer_steps().ok_or_else(gone)?;
        let answer = steps.read(&mut Tee(parameters, &mut kept));
        self.note(Question::Read, answer, |()| Answer::Parameters(kept.into_tensors()))
    }
}

impl Evaluation for Recorder<'_> {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let answer = self.subject.evaluation().ok_or_else(gone)?.validate(batches);
        self.note(Question::Validate(batches.to_vec()), answer, |evaluated| Answer::Validated(*evaluated))
    }
}

/// A change of one answer.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A block of the gradient is multiplied.
    Block(Block, f64),
    /// A tensor, of a gradient or of the parameters after a step, is multiplied.
    Tensor(String, f64),
    /// One of the numbers of an answer, in the order of [`NUMBERS`], is multiplied.
    Number(usize, f64),
    /// Everything is another: each value becomes 1.5 times itself plus a thousandth, what was skipped was not.
    Everything,
    /// Everything is zero.
    Nothing,
    /// The answer is that other one, of the same kind.
    Like(usize),
}

/// The kinds of numbers that an answer can have beside tensors: the loss, token losses, the norm of the gradient, the norms of the
/// tensors, the clip factor, the learning rate, the perplexity, the number of tokens.
pub(crate) const NUMBERS: usize = 8;

impl Change {
    fn of(&self, answer: &mut Answer, tape: &Tape) {
        match (self, answer) {
            (Self::Block(block, factor), Answer::Gradient(_, tensors) | Answer::Weighted(_, tensors)) => {
                change(tensors, &block.parameter, |values| {
                    for index in block.indices() {
                        values[index] *= factor;
                    }
                });
            }
            (
                Self::Tensor(name, factor),
                Answer::Gradient(_, tensors) | Answer::Weighted(_, tensors) | Answer::Parameters(tensors),
            ) => {
                change(tensors, name, |values| {
                    for value in values {
                        *value *= factor;
                    }
                });
            }
            (Self::Number(kind, factor), answer) => number(answer, *kind, |value| value * factor),
            (Self::Everything, answer) => {
                let other = |value: f64| if value.is_finite() { 1.5 * value + 1e-3 } else { 0.0 };
                everything(answer, tape, other);
            }
            (Self::Nothing, answer) => everything(answer, tape, |_| 0.0),
            _ => {}
        }
    }
}

fn change(tensors: &mut TensorSet, name: &str, change: impl FnOnce(&mut [f64])) {
    let Some(tensor) = tensors.get(name) else { return };
    let (shape, mut values) = (tensor.shape().to_vec(), tensor.to_f64());
    change(&mut values);
    if let Ok(tensor) = Tensor::new(shape, TensorValues::F64(values)) {
        tensors.insert(name.to_owned(), tensor);
    }
}

/// Changes the numbers of one kind in an answer.
fn number(answer: &mut Answer, kind: usize, change: impl Fn(f64) -> f64) {
    let all = |values: &mut Vec<f64>| {
        for value in values {
            *value = change(*value);
        }
    };
    // A count changes by one whole token.
    let count = |tokens: &mut usize| *tokens += 1;
    match (answer, kind) {
        (Answer::Gradient(observation, _), 0) => observation.loss = change(observation.loss),
        (Answer::Gradient(Observation { token_losses: Some(losses), .. }, _), 1) => all(losses),
        (Answer::Gradient(Observation { supervised_tokens: Some(tokens), .. }, _), 7) => count(tokens),
        (Answer::Weighted(loss, _), 0) => *loss = change(*loss),
        (Answer::Losses(losses), 1) => all(losses),
        (Answer::Stepped(report), kind) => match kind {
            0 => report.observation.loss = change(report.observation.loss),
            1 => report.observation.token_losses.iter_mut().for_each(all),
            2 => report.grad_norm = change(report.grad_norm),
            3 => all(&mut report.tensor_norms),
            4 => report.clip_factor = change(report.clip_factor),
            5 => report.learning_rate = change(report.learning_rate),
            7 => report.observation.supervised_tokens.iter_mut().for_each(count),
            _ => {}
        },
        (Answer::Validated(evaluated), 0) => evaluated.loss = change(evaluated.loss),
        (Answer::Validated(evaluated), 6) => evaluated.perplexity = change(evaluated.perplexity),
        (Answer::Validated(evaluated), 7) => count(&mut evaluated.tokens),
        _ => {}
    }
}

/// Changes every value of an answer, and what it says besides.
fn everything(answer: &mut Answer, tape: &Tape, other: impl Fn(f64) -> f64) {
    if let Answer::Empty(_) = answer {
        let zero = |parameter: &ParameterInfo| {
            let values = TensorValues::F64(vec![0.0; parameter.shape.iter().product()]);
            Some((parameter.name.clone(), Tensor::new(parameter.shape.clone(), values).ok()?))
        };
        let observation = Observation { loss: 0.0, token_losses: None, supervised_tokens: None };
        *answer = Answer::Gradient(observation, tape.parameters.iter().filter_map(zero).collect());
        return;
    }
    for kind in 0..NUMBERS {
        number(answer, kind, &other);
    }
    if let Answer::Stepped(report) = answer {
        report.skipped = !report.skipped;
    }
    if let Answer::Gradient(_, tensors) | Answer::Weighted(_, tensors) | Answer::Parameters(tensors) = answer
    {
        let names: Vec<String> = tensors.keys().cloned().collect();
        for name in names {
            change(tensors, &name, |values| {
                for value in values {
                    *value = other(*value);
                }
            });
        }
    }
}

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

    /// The next answer to this question. A question that the tape does not have is the second look of a law that would rather
    /// know more before it convicts.
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
