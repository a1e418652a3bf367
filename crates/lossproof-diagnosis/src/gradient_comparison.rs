//! The gradient of one parameter as it was measured, beside what it should be.

use super::{
    model::{Call, Fit, Operators},
    numbers::Numbers,
};
use lossproof_numerics::norm;

/// A parameter's gradient.
pub(super) struct Beside<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    /// What it should be.
    pub(super) honest: &'a [f64],
    pub(super) measured: &'a [f64],
    /// What it was in the call before.
    pub(super) former: Option<&'a [f64]>,
    /// Blocks of the model.
    pub(super) layers: usize,
    pub(super) numbers: Numbers,
}

impl Beside<'_> {
    /// How it fits what operators make of it, `otherwise` being what it is when weighed as they do.
    pub(super) fn fit(&self, operators: &Operators, otherwise: Option<&[f64]>) -> Fit {
        if self.measured.len() != self.honest.len() {
            return Fit::Not;
        }
        match operators {
            Operators::Exact(change) => {
                let mut values = self.honest.to_vec();
                change(self.name, self.shape, &mut values, self.former);
                self.numbers.fit(self.measured, &values)
            }
            Operators::Weighed(picks, _) if picks(self.name) => {
                otherwise.map_or(Fit::Not, |values| self.numbers.fit(self.measured, values))
            }
            Operators::Pattern(fits) | Operators::OfOne(fits) if self.is_finite() => fits(self),
            Operators::Pattern(_) | Operators::OfOne(_) => Fit::Not,
            Operators::Honest | Operators::Weighed(..) => self.numbers.fit(self.measured, self.honest),
        }
    }

    /// How it fits a loss that is no number. The gradient may be one: that of libtorch's mean over nothing is.
    pub(super) fn fit_nothing(&self) -> Fit {
        if self.measured.iter().any(|value| value.is_nan()) { Fit::Exactly } else { Fit::Loosely }
    }

    /// Whether every element is a number.
    pub(super) fn is_finite(&self) -> bool {
        self.measured.iter().all(|value| value.is_finite())
    }

    /// Whether it is what it should be.
    pub(super) fn same(&self) -> bool {
        self.close(self.honest, self.measured)
    }

    /// Where nothing should be wrong.
    pub(super) fn right(&self) -> Fit {
        if self.same() { Fit::Exactly } else { Fit::Not }
    }

    /// Where something should be.
    pub(super) fn differs(&self) -> Fit {
        if self.same() { Fit::Poorly } else { Fit::Loosely }
    }

    /// Whether two parts of it are the same.
    pub(super) fn close(&self, honest: &[f64], measured: &[f64]) -> bool {
        let apart = honest.iter().zip(measured).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        apart <= self.numbers.tolerance * norm(self.honest).max(self.numbers.floor)
    }

    /// What the honest gradient must be multiplied with, where it is parallel.
    pub(super) fn factor(&self) -> Option<f64> {
        let square: f64 = self.honest.iter().map(|value| value * value).sum();
        let inner: f64 = self.honest.iter().zip(self.measured).map(|(a, b)| a * b).sum();
        let factor = inner / square;
        let scaled: Vec<f64> = self.honest.iter().map(|value| factor * value).collect();
        (factor.is_finite() && self.close(&scaled, self.measured)).then_some(factor)
    }

    /// Rows of the parameter: as they should be and as they were measured.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[f64], &[f64])> {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        self.honest.chunks(columns).zip(self.measured.chunks(columns))
    }
}
