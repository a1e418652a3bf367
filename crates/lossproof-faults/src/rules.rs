//! Update rules, as an honest trainer has them.

use lossproof_spec::{Adam, EpsilonPlacement, Rule};

/// One update of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct TensorUpdate<'a> {
    pub(crate) name: &'a str,
    pub(crate) rule: Rule,
    pub(crate) learning_rate: f64,
    /// Number of the optimizer step, from 1.
    pub(crate) step: u32,
    /// Steps that were skipped before it.
    pub(crate) skipped: u32,
    /// Tensors that were updated before this one, in all steps.
    pub(crate) tensors: u32,
    /// Shape of the tensor.
    pub(crate) shape: &'a [usize],
}

/// Optimizer state of one tensor.
#[derive(Default)]
pub(crate) struct TensorMoments {
    /// SGD's velocity, Adam's first moment.
    pub(crate) first: Vec<f64>,
    /// Adam's second moment.
    second: Vec<f64>,
}

/// Updates the values of a tensor from its gradient.
pub(crate) fn update(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
) {
    with_denominator(update, values, gradient, moments, denominator);
}

/// What Adam divides by, from the second moment and its correction `1 − β₂^k`.
fn denominator(adam: &Adam, second: f64, correction: f64) -> f64 {
    match adam.epsilon_placement {
        EpsilonPlacement::AfterCorrection => second.sqrt() / correction.sqrt() + adam.epsilon,
        EpsilonPlacement::BeforeCorrection => (second.sqrt() + adam.epsilon) / correction.sqrt(),
    }
}

/// [`update`] with another denominator of Adam.
pub(crate) fn with_denominator(
    update: &TensorUpdate<'_>,
    values: &mut [f64],
    gradient: &[f64],
    moments: &mut TensorMoments,
    denominator: impl Fn(&Adam, f64, f64) -> f64,
) {
    moments.first.resize(values.len(), 0.0);
    moments.second.resize(values.len(), 0.0);
    match update.rule {
        Rule::Sgd { momentum, weight_decay } => {
            let former = if update.step == 1 { 0.0 } else { momentum };
            for ((value, g), velocity) in values.iter_mut().zip(gradient).zip(&mut moments.first) {
                *velocity = former * *velocity + g + weight_decay * *value;
                *value -= update.learning_rate * *velocity;
            }
        }
        Rule::Adam(adam) => adam_step(update, &adam, false, (values, gradient, moments), denominator),
        Rule::AdamW(adam) => adam_step(update, &adam, true, (values, gradient, moments), denominator),
    }
}

fn adam_step(
    update: &TensorUpdate<'_>,
    adam: &Adam,
    decoupled: bool,
    (values, gradient, moments): (&mut [f64], &[f64], &mut TensorMoments),
    denominator: impl Fn(&Adam, f64, f64) -> f64,
) {
    let decay = if adam.decayed.includes(update.shape) { adam.weight_decay } else { 0.0 };
    let power = |beta: f64| beta.powi(i32::try_from(update.step).unwrap_or(i32::MAX));
    let (first_correction, second_correction) = (1.0 - power(adam.beta_1), 1.0 - power(adam.beta_2));
    let moments = moments.first.iter_mut().zip(&mut moments.second);
    for ((value, &g), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
        let g = if decoupled { g } else { g + decay * *value };
        if decoupled {
            *value -= update.learning_rate * decay * *value;
        }
        *first = adam.beta_1 * *first + (1.0 - adam.beta_1) * g;
        *second = adam.beta_2 * *second + (1.0 - adam.beta_2) * g * g;
        *value -= update.learning_rate * (*first / first_correction)
            / denominator(adam, *second, second_correction);
    }
}
