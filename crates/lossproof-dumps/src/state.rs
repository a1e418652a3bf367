//! What one gradient is: how large, and how much of it is zero or no number.

use lossproof_subject::Tensor;

/// What one gradient is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Number of elements.
    pub elements: usize,
    /// Euclidean norm of the finite elements.
    pub norm: f64,
    /// Elements that are zero.
    pub zeros: usize,
    /// Elements that are NaN.
    pub nans: usize,
    /// Elements that are infinite.
    pub infinities: usize,
    /// Row-major index of the first element that is not finite.
    pub first_not_finite: Option<usize>,
}

impl State {
    /// Of a tensor.
    #[must_use]
    pub fn of(tensor: &Tensor) -> Self {
        let mut state = Self {
            elements: tensor.elements(),
            norm: 0.0,
            zeros: 0,
            nans: 0,
            infinities: 0,
            first_not_finite: None,
        };
        // Scaled by the largest, so that no square leaves the range of a double.
        let mut largest = 0.0_f64;
        for index in 0..state.elements {
            let value = tensor.get(index);
            if value.is_finite() {
                state.zeros += usize::from(value == 0.0);
                largest = largest.max(value.abs());
                continue;
            }
            state.nans += usize::from(value.is_nan());
            state.infinities += usize::from(value.is_infinite());
            state.first_not_finite = state.first_not_finite.or(Some(index));
        }
        if largest > 0.0 {
            let mut sum = 0.0;
            for index in 0..state.elements {
                let value = tensor.get(index);
                if value.is_finite() {
                    sum += (value / largest).powi(2);
                }
            }
            state.norm = largest * sum.sqrt();
        }
        state
    }

    /// Whether every element is a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.first_not_finite.is_none()
    }

    /// Whether every element is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.zeros == self.elements
    }

    /// Root mean square of the elements: the norm, whatever the size.
    #[must_use]
    pub fn root_mean_square(&self) -> f64 {
        self.norm / (self.elements.max(1) as f64).sqrt()
    }
}
