//! How far two traces of the same run may be apart.

use lossproof_numerics::ErrorModel;
use lossproof_spec::Dtype;

/// By what factor a rounding of one step's gradient, relative to it, may change the gradient of a later step:
/// `lr·λ_max`, and 2 is where gradient descent stops being stable.
const GAIN: f64 = 2.0;

/// The same for the loss: a step does not take more off the loss than there is.
const LOSS_GAIN: f64 = 1.0;

/// What rounding is expected to do, as a fraction of its bound: `1/λ` of [`ErrorModel`].
const EXPECTED: f64 = 1.0 / 8.0;

/// Unit round-offs a learning rate may be off by: a product, a quotient and the conversion of either.
const LEARNING_RATE_ROUNDINGS: f64 = 4.0;

/// How far two traces of the same run may be apart, by relative error: a bound that grows with the step.
///
/// # Model
/// Each step's gradient is rounded, by at most `ε` relative to its norm, and the roundings of different steps are
/// independent. One of an earlier step lives on in the parameters. Where training is stable it does not grow there,
/// and it changes a later gradient by at most the factor γ = 2, a later loss by at most 1. Independent errors add in
/// quadrature: at step k (from 1)
///
/// ```text
/// norms:  ε·√(1 + γ²·(k − 1))        loss:  √(ε_loss² + ε²·(k − 1))
/// ```
///
/// `docs/tolerances.md` derives γ and shows what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    dtype: Dtype,
    loss: f64,
    gradient: f64,
}

impl Tolerance {
    /// For a trainer in this dtype, by the relative errors that rounding may cause in the loss and in the gradient of
    /// one step: `ε_loss` and `ε`.
    #[must_use]
    pub const fn new(dtype: Dtype, loss: f64, gradient: f64) -> Self {
        Self { dtype, loss, gradient }
    }

    /// For a GPT-2 of these sizes, from the [`ErrorModel`] of the largest batch.
    #[must_use]
    pub fn rounding(model: &ErrorModel, dtype: Dtype) -> Self {
        Self::new(dtype, model.loss_bound(dtype), model.gradient_bound(dtype))
    }

    /// Bound on the loss at a step, counted from 1.
    #[must_use]
    pub fn loss(&self, step: usize) -> f64 {
        (self.loss.powi(2) + (LOSS_GAIN * self.gradient).powi(2) * before(step)).sqrt()
    }

    /// Bound on the norm of the gradient, in total and of each parameter, and on the clip factor, which is made of it.
    #[must_use]
    pub fn norm(&self, step: usize) -> f64 {
        self.gradient * (1.0 + GAIN.powi(2) * before(step)).sqrt()
    }

    /// Bound on the learning rate.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        LEARNING_RATE_ROUNDINGS * self.dtype.unit_roundoff()
    }

    /// What rounding is expected to make of a norm that is exactly zero, relative to the whole gradient's. The key
    /// bias of an attention that keeps it as a parameter of its own is such a one. Norms that are no larger on both
    /// sides are not compared.
    #[must_use]
    pub fn nothing(&self) -> f64 {
        EXPECTED * self.gradient
    }
}

/// Steps before this one.
fn before(step: usize) -> f64 {
    step.saturating_sub(1) as f64
}
