//! A gradient along one direction, beside the finite difference of the forward pass.

use lossproof_numerics::{Plateau, directional_bound};

/// A directional derivative twice: from the gradient and from the forward pass.
pub(crate) struct Slope {
    /// The inner product of gradient and direction.
    pub(crate) inner: f64,
    /// What the forward pass says.
    pub(crate) difference: Plateau,
    /// What an error is relative to: see [`directional_bound`].
    pub(crate) scale: f64,
}

impl Slope {
    pub(crate) fn new(
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
    pub(crate) fn bound() -> f64 {
        directional_bound(1.0, 0.0, 0.0, 1)
    }

    /// The disagreement when the gradient is multiplied by `factor`.
    pub(crate) fn error(&self, factor: f64) -> f64 {
        (factor * self.inner - self.difference.value).abs() / self.scale
    }

    /// How much the error grows per relative change of the gradient.
    pub(crate) fn effect(&self) -> f64 {
        self.inner.abs() / self.scale
    }

    /// Whether the difference is less certain than the bound and does not contradict the gradient: it neither certifies nor
    /// convicts then, and another direction has to.
    pub(crate) fn is_undecided(&self, bound: f64) -> bool {
        let Plateau { value, uncertainty, .. } = self.difference;
        uncertainty > bound * self.scale && (self.inner - value).abs() <= uncertainty
    }
}
