//! What a negative control changes in an answer.

use crate::tape::{Answer, Tape};
use lossproof_numerics::Block;
use lossproof_subject::{
    Observation, ParameterInfo, Tensor, TensorSet, TensorValues, TracedUpdate, TrainingEvent, TrainingTrace,
};

/// A change of one answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A block of the gradient is multiplied.
    Block(Block, f64),
    /// A tensor, of a gradient or of the parameters after a step, is multiplied.
    Tensor(String, f64),
    /// The gradient as a whole is multiplied.
    Gradient(f64),
    /// One of the numbers of an answer, in the order of [`NUMBERS`], is multiplied.
    Number(usize, f64),
    /// Everything is another: each value becomes 1.5 times itself plus a thousandth, what was skipped was
    /// not.
    Everything,
    /// Everything is zero, and of a training nothing is left.
    Nothing,
    /// Parameters after updates are others.
    Parameters,
    /// Parameters after an update are those after the first, times its number: from zero each moves them alike.
    Multiples,
    /// All updates of a training have the samples of the first.
    SamplesAgain,
    /// The updates of a training have no samples, and those that were skipped were not.
    Samples,
    /// The answer is that other one, of the same kind.
    Like(usize),
}

/// The kinds of numbers that an answer can have beside tensors: the loss, token losses, the norm of the
/// gradient, the norms of the tensors, the clip factor, the learning rate, the perplexity, the number of
/// tokens.
pub(crate) const NUMBERS: usize = 8;

impl Change {
    /// Whether no other unit has a use for it.
    pub(crate) fn is_of_one_unit(&self) -> bool {
        matches!(self, Self::Block(..) | Self::Tensor(..))
    }

    pub(crate) fn of(&self, answer: &mut Answer, tape: &Tape) {
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
            (Self::Gradient(factor), Answer::Gradient(_, tensors) | Answer::Weighted(_, tensors)) => {
                for name in tensors.keys().cloned().collect::<Vec<_>>() {
                    change(tensors, &name, |values| values.iter_mut().for_each(|value| *value *= factor));
                }
            }
            (Self::Tensor(name, factor), Answer::Trained(trace)) => {
                for update in updates(trace) {
                    change(&mut update.parameters, name, |values| {
                        for value in values {
                            *value *= factor;
                        }
                    });
                }
            }
            (Self::Number(kind, factor), answer) => number(answer, *kind, |value| value * factor),
            (Self::Everything, answer) => {
                let other = |value: f64| if value.is_finite() { 1.5 * value + 1e-3 } else { 0.0 };
                everything(answer, tape, other);
            }
            (Self::Nothing, Answer::Trained(trace)) => trace.events.clear(),
            (Self::Parameters, Answer::Trained(trace)) => {
                parameters_of(trace, tape, |value| 1.5 * value + 1e-3);
            }
            (Self::Multiples, Answer::Trained(trace)) => {
                let first = updates(trace).next().map(|update| update.parameters.clone()).unwrap_or_default();
                for (update, times) in updates(trace).zip(1_u32..) {
                    update.parameters.clone_from(&first);
                    for name in first.keys() {
                        change(&mut update.parameters, name, |values| {
                            for value in values {
                                *value *= f64::from(times);
                            }
                        });
                    }
                }
            }
            (Self::SamplesAgain, Answer::Trained(trace)) => {
                let first = updates(trace).next().map(|update| update.samples.clone()).unwrap_or_default();
                for update in updates(trace) {
                    update.samples.clone_from(&first);
                }
            }
            (Self::Samples, Answer::Trained(trace)) => {
                for update in updates(trace) {
                    update.samples.clear();
                    update.skipped = !update.skipped;
                }
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
        (Answer::Gradient(Observation { token_losses: Some(losses), .. }, _) | Answer::Losses(losses), 1) => {
            all(losses);
        }
        (Answer::Gradient(Observation { supervised_tokens: Some(tokens), .. }, _), 7) => count(tokens),
        (Answer::Weighted(loss, _), 0) => *loss = change(*loss),
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
        (Answer::Trained(trace), kind) => numbers_of(trace, kind, change),
        (Answer::Validated(evaluated), 0) => evaluated.loss = change(evaluated.loss),
        (Answer::Validated(evaluated), 6) => evaluated.perplexity = change(evaluated.perplexity),
        (Answer::Validated(evaluated), 7) => count(&mut evaluated.tokens),
        _ => {}
    }
}

/// The updates of a training.
fn updates(trace: &mut TrainingTrace) -> impl Iterator<Item = &mut TracedUpdate> {
    trace.events.iter_mut().filter_map(|event| match event {
        TrainingEvent::Update(update) => Some(update),
        _ => None,
    })
}

/// Changes the parameters after every second update: were they changed after all, an update that moves nothing
/// would still do so.
fn parameters_of(trace: &mut TrainingTrace, tape: &Tape, other: impl Fn(f64) -> f64) {
    for update in updates(trace).step_by(2) {
        for parameter in &tape.parameters {
            change(&mut update.parameters, &parameter.name, |values| {
                for value in values {
                    *value = other(*value);
                }
            });
        }
    }
}

/// Changes the numbers of one kind in a training.
fn numbers_of(trace: &mut TrainingTrace, kind: usize, change: impl Fn(f64) -> f64) {
    for event in &mut trace.events {
        let logged = match (event, kind) {
            (TrainingEvent::Update(update), 0) => &mut update.loss,
            (TrainingEvent::Update(update), 2) => &mut update.grad_norm,
            (TrainingEvent::Update(update), 5) => &mut update.learning_rate,
            // A training has no clip factor and no norms of tensors; the losses of an epoch and of a validation are of
            // other kinds than that of an update, which comes first and would hide that they are looked at.
            (TrainingEvent::EpochEnd(loss), 4) => loss,
            (TrainingEvent::Validation(evaluated), 3) => {
                evaluated.loss = change(evaluated.loss);
                continue;
            }
            (TrainingEvent::Validation(evaluated), 7) => {
                evaluated.tokens += 1;
                continue;
            }
            (TrainingEvent::Validation(evaluated), 6) => {
                evaluated.perplexity = change(evaluated.perplexity);
                continue;
            }
            _ => continue,
        };
        *logged = logged.map(&change);
    }
}

/// Changes every value of an answer, and what it says besides.
fn everything(answer: &mut Answer, tape: &Tape, other: impl Fn(f64) -> f64) {
    if let Answer::Empty(_) = answer {
        let zero = |parameter: &ParameterInfo| {
            let values = TensorValues::F64(vec![0.0; parameter.shape.iter().product()]);
            Some((parameter.name.clone(), Tensor::new(parameter.shape.clone(), values).ok()?))
        };
        let observation = Observation::new(0.0, None);
        *answer = Answer::Gradient(observation, tape.parameters.iter().filter_map(zero).collect());
        return;
    }
    for kind in 0..NUMBERS {
        number(answer, kind, &other);
    }
    if let Answer::Stepped(report) = answer {
        report.skipped = !report.skipped;
    }
    if let Answer::Trained(trace) = answer {
        return parameters_of(trace, tape, other);
    }
    if let Answer::OtherTraining(_) = answer {
        *answer = Answer::Trained(TrainingTrace::default());
        return;
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

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_subject::Evaluated;

    #[test]
    fn the_loss_of_a_validation_changes_without_that_of_the_update_before_it() {
        let update = TracedUpdate {
            samples: Vec::new(),
            loss: Some(2.0),
            learning_rate: None,
            grad_norm: None,
            skipped: false,
            parameters: TensorSet::new(),
        };
        let validation = Evaluated { loss: 4.0, perplexity: 8.0, tokens: 3 };
        let events = vec![TrainingEvent::Update(update.clone()), TrainingEvent::Validation(validation)];
        let mut trace = TrainingTrace { events };
        numbers_of(&mut trace, 3, |value| 1.5 * value);
        let changed = Evaluated { loss: 6.0, ..validation };
        assert_eq!(trace.events, [TrainingEvent::Update(update), TrainingEvent::Validation(changed)]);
    }
}
