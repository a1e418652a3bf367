//! Update rules, tensor by tensor, in the element type and in the order of PyTorch's single-tensor code.

use crate::Element;
use lossproof_spec::{Adam, EpsilonPlacement, Rule};

/// What a rule remembers of one tensor; empty until its first step, and where the rule has no use for it.
#[derive(Clone, Debug)]
pub(crate) struct Moments<E> {
    /// SGD's momentum, Adam's first moment.
    pub(crate) first: Vec<E>,
    /// Adam's second moment.
    pub(crate) second: Vec<E>,
}

impl<E> Default for Moments<E> {
    fn default() -> Self {
        Self { first: Vec::new(), second: Vec::new() }
    }
}

/// One step of a rule, its numbers worked out in f64 and rounded once, as Python hands them to PyTorch's kernels.
pub(crate) enum Update<E> {
    Sgd { learning_rate: E, momentum: E, weight_decay: E },
    Adam(AdamUpdate<E>),
}

/// One step of Adam or `AdamW`.
pub(crate) struct AdamUpdate<E> {
    declared: Adam,
    decoupled: bool,
    beta_1: E,
    one_minus_beta_1: E,
    beta_2: E,
    one_minus_beta_2: E,
    epsilon: E,
    weight_decay: E,
    /// `1 − lr·λ`.
    shrinkage: E,
    /// `lr/c₁`.
    step_size: E,
    /// `√c₂`.
    correction: E,
}

impl<E: Element> Update<E> {
    /// Step number `step`, counted from 0, at this learning rate.
    pub(crate) fn new(rule: &Rule, learning_rate: f64, step: u32) -> Self {
        let adam = |declared: Adam, decoupled| {
            let count = f64::from(step) + 1.0;
            let correction = |beta: f64| 1.0 - beta.powf(count);
            Self::Adam(AdamUpdate {
                declared,
                decoupled,
                beta_1: E::round(declared.beta_1),
                one_minus_beta_1: E::round(1.0 - declared.beta_1),
                beta_2: E::round(declared.beta_2),
                one_minus_beta_2: E::round(1.0 - declared.beta_2),
                epsilon: E::round(declared.epsilon),
                weight_decay: E::round(declared.weight_decay),
                shrinkage: E::round(1.0 - learning_rate * declared.weight_decay),
                step_size: E::round(learning_rate / correction(declared.beta_1)),
                correction: E::round(correction(declared.beta_2).sqrt()),
            })
        };
        match *rule {
            Rule::Sgd { momentum, weight_decay } => Self::Sgd {
                learning_rate: E::round(learning_rate),
                momentum: E::round(momentum),
                weight_decay: E::round(weight_decay),
            },
            Rule::Adam(declared) => adam(declared, false),
            Rule::AdamW(declared) => adam(declared, true),
        }
    }

    /// Updates one tensor, which decays or does not, from its gradient, which is used up.
    pub(crate) fn apply(
        &self,
        decays: bool,
        parameter: &mut [E],
        gradient: &mut [E],
        moments: &mut Moments<E>,
    ) {
        match self {
            &Self::Sgd { learning_rate, momentum, weight_decay } => {
                if decays {
                    decay_into(gradient, parameter, weight_decay);
                }
                let direction = if momentum == E::default() {
                    gradient
                } else if moments.first.is_empty() {
                    moments.first = gradient.to_vec();
                    &mut moments.first
                } else {
                    for (velocity, &mut gradient) in moments.first.iter_mut().zip(gradient) {
                        *velocity = momentum * *velocity + gradient;
                    }
                    &mut moments.first
                };
                for (value, &mut direction) in parameter.iter_mut().zip(direction) {
                    *value -= learning_rate * direction;
                }
            }
            Self::Adam(update) => update.apply(decays, parameter, gradient, moments),
        }
    }
}

impl<E: Element> AdamUpdate<E> {
    fn apply(&self, decays: bool, parameter: &mut [E], gradient: &mut [E], moments: &mut Moments<E>) {
        if decays {
            if self.decoupled {
                for value in &mut *parameter {
                    *value *= self.shrinkage;
                }
            } else {
                decay_into(gradient, parameter, self.weight_decay);
            }
        }
        moments.first.resize(parameter.len(), E::default());
        moments.second.resize(parameter.len(), E::default());
        let moments = moments.first.iter_mut().zip(&mut moments.second);
        for ((value, &mut gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(moments) {
            *first = self.towards(*first, gradient);
            *second = *second * self.beta_2 + self.one_minus_beta_2 * gradient * gradient;
            let denominator = match self.declared.epsilon_placement {
                EpsilonPlacement::AfterCorrection => second.sqrt() / self.correction + self.epsilon,
                EpsilonPlacement::BeforeCorrection => (second.sqrt() + self.epsilon) / self.correction,
            };
            *value -= self.step_size * *first / denominator;
        }
    }

    /// PyTorch's `lerp` from the first moment to the gradient by `1 − β₁`, from the nearer end.
    fn towards(&self, first: E, gradient: E) -> E {
        if self.declared.beta_1 > 0.5 {
            first + self.one_minus_beta_1 * (gradient - first)
        } else {
            gradient - (gradient - first) * self.beta_1
        }
    }
}

/// Decay coupled to the gradient: `g ← g + λ·θ`.
fn decay_into<E: Element>(gradient: &mut [E], parameter: &[E], weight_decay: E) {
    if weight_decay != E::default() {
        for (gradient, &value) in gradient.iter_mut().zip(parameter) {
            *gradient += weight_decay * value;
        }
    }
}
