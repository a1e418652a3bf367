//! A gradient along one direction, beside the finite difference of the forward pass.

use crate::{Plateau, directional_bound};

/// First step of a sweep. A direction has the scale of what it moves, so this changes it by 0.4 %: small
/// enough that the fourth-order truncation starts near 1e-10 of the derivative, large enough that rounding
/// (`8u·|ℓ|/h`) stays below it.
pub const FIRST_STEP: f64 = 0.004;

/// How often the step may be halved before the estimate must have plateaued.
pub const HALVINGS: usize = 5;

/// A directional derivative twice: from the gradient and from the forward pass.
pub struct Slope {
    /// The inner product of gradient and direction.
    pub inner: f64,
    /// What the forward pass says.
    pub difference: Plateau,
    /// What an error is relative to: see [`directional_bound`].
    pub scale: f64,
}

impl Slope {
    /// A slope from the inner product of gradient and direction, the norms of both, the number of their
    /// elements and the finite difference.
    #[must_use]
    pub fn new(
        inner: f64,
        gradient_norm: f64,
        direction_norm: f64,
        elements: usize,
        difference: Plateau,
    ) -> Self {
        let scale = directional_bound(inner, gradient_norm, direction_norm, elements) / Self::bound();
        Self { inner, difference, scale }
    }

    /// Bound on the disagreement, relative to the scale.
    #[must_use]
    pub fn bound() -> f64 {
        directional_bound(1.0, 0.0, 0.0, 1)
    }

    /// The disagreement when the gradient is multiplied by `factor`.
    #[must_use]
    pub fn error(&self, factor: f64) -> f64 {
        (factor * self.inner - self.difference.value).abs() / self.scale
    }

    /// How much the error grows per relative change of the gradient.
    #[must_use]
    pub fn effect(&self) -> f64 {
        self.inner.abs() / self.scale
    }

    /// Whether the difference is less certain than the bound and does not contradict the gradient: it neither
    /// certifies nor convicts then, and another direction has to.
    #[must_use]
    pub fn is_undecided(&self, bound: f64) -> bool {
        let Plateau { value, uncertainty, .. } = self.difference;
        uncertainty > bound * self.scale && (self.inner - value).abs() <= uncertainty
    }
}
