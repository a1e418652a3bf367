//! Trainers with one thing wrong: an honest subject, and what is changed on its way in or out.

use crate::Door;
use lossproof_faults::kit::{Capability, HandedOver, Hooks, wrap};
use lossproof_spec::LossSpec;
use lossproof_subject::{Tensor, TensorSet, TensorValues};

/// What is wrong with a trainer.
#[derive(Clone, Copy)]
pub enum Break {
    /// The gradient of one parameter comes out multiplied by a factor.
    ScaledGradient(&'static str, f64),
    /// One element of the gradient of one parameter is lost.
    LostElement(&'static str, usize),
    /// The gradient of one parameter is not handed over.
    MissingGradient(&'static str),
    /// One square weight is used transposed, forward and backward: the trainer is consistent with itself, and wrong.
    TransposedWeight(&'static str),
    /// Another loss spec than the declared one is computed.
    Reduction(fn(&LossSpec) -> LossSpec),
    /// The loss that is reported is the one that is optimised times a factor.
    ReportedLoss(f64),
    /// The token losses that are evaluated come out multiplied by a factor.
    EvaluatedLosses(f64),
    /// The token losses that are reported beside the gradient come out multiplied by a factor.
    ReportedTokenLosses(f64),
}

/// What is remembered of a broken subject.
struct Broken {
    by: Break,
}

impl Break {
    /// An honest subject that is broken like this.
    ///
    /// # Panics
    /// When the gradient that is broken is not that of the subject.
    #[must_use]
    pub fn of(self, honest: Door) -> Door {
        let hooks = Hooks {
            offers: |_: &Broken, capability, _| {
                matches!(capability, Capability::Parameters | Capability::TokenLosses)
            },
            configure: |broken, inner, spec| match broken.by {
                Self::Reduction(other) => inner.configure(&other(spec)),
                _ => inner.configure(spec),
            },
            gradient: |broken, _, handed| broken.by.gradient(handed),
            observation: |broken, _, observed| match broken.by {
                Self::ReportedLoss(factor) => observed.loss *= factor,
                Self::ReportedTokenLosses(factor) => {
                    scale(observed.token_losses.iter_mut().flatten(), factor);
                }
                _ => {}
            },
            load: |broken, inner, parameters| {
                let mut changed = TensorSet::new();
                for (name, tensor) in parameters {
                    let values = TensorValues::F64(broken.by.incoming(name, tensor.to_f64()));
                    let tensor = Tensor::new(tensor.shape().to_vec(), values).expect("the same number");
                    changed.insert(name.clone(), tensor);
                }
                (Hooks::IDENTITY.load)(&mut (), inner, &changed)
            },
            set: |broken, inner, name, values| {
                (Hooks::IDENTITY.set)(&mut (), inner, name, &broken.by.incoming(name, values.to_vec()))
            },
            token_losses: |broken, _, losses| {
                if let Self::EvaluatedLosses(factor) = broken.by {
                    scale(losses, factor);
                }
            },
            ..Hooks::IDENTITY
        };
        wrap(honest, Broken { by: self }, hooks)
    }

    fn gradient(self, handed: &mut HandedOver) {
        match self {
            Self::ScaledGradient(name, factor) => handed.tensor(name).scale(factor),
            Self::LostElement(name, index) => handed.tensor(name).values[index] = 0.0,
            Self::TransposedWeight(name) => {
                let tensor = handed.tensor(name);
                tensor.values = transposed(&tensor.values);
            }
            Self::MissingGradient(name) => handed.tensors.retain(|tensor| tensor.name != name),
            _ => {}
        }
    }

    /// What the model gets for the values of a parameter.
    fn incoming(self, name: &str, values: Vec<f64>) -> Vec<f64> {
        match self {
            Self::TransposedWeight(broken) if broken == name => transposed(&values),
            _ => values,
        }
    }
}

fn scale<'a>(values: impl IntoIterator<Item = &'a mut f64>, factor: f64) {
    for value in values {
        *value *= factor;
    }
}

/// The transpose of a square matrix.
fn transposed(values: &[f64]) -> Vec<f64> {
    let side = values.len().isqrt();
    (0..side).flat_map(|row| (0..side).map(move |column| values[column * side + row])).collect()
}
