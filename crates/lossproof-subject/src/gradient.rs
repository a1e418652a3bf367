//! Where gradients go: one tensor at a time, so that a large model never needs a second copy of itself.

use crate::{Tensor, TensorSet, TensorValues};

/// Values of one gradient tensor in row-major order, in the subject's own dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GradientView<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl GradientView<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether the tensor has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at an index, exact in f64.
    ///
    /// # Panics
    /// When the index is not below [`len`](Self::len).
    #[must_use]
    pub fn get(&self, index: usize) -> f64 {
        match self {
            Self::F32(values) => f64::from(values[index]),
            Self::F64(values) => values[index],
        }
    }

    /// All values, exact in f64.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Self::F64(values) => values.to_vec(),
        }
    }
}

impl<'a> From<&'a TensorValues> for GradientView<'a> {
    fn from(values: &'a TensorValues) -> Self {
        match values {
            TensorValues::F32(values) => Self::F32(values),
            TensorValues::F64(values) => Self::F64(values),
        }
    }
}

/// Receives the gradient of a subject, each parameter's tensor exactly once.
pub trait GradientSink {
    /// Takes the gradient of one parameter.
    ///
    /// # Errors
    /// When the tensor is not one this sink expects.
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError>;
}

/// Why a sink refused a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The same parameter twice.
    #[error("the gradient of `{name}` was handed over twice")]
    Twice {
        /// The parameter.
        name: String,
    },
    /// A parameter nobody asked for.
    #[error("`{name}` is not a parameter of the gradient this one is compared with")]
    Unknown {
        /// The parameter.
        name: String,
    },
    /// Values that do not fill the shape, or a shape that is not the expected one.
    #[error("the gradient of `{name}` has shape {found:?} with {values} values, expected {expected:?}")]
    Shape {
        /// The parameter.
        name: String,
        /// The shape that was handed over.
        found: Vec<usize>,
        /// The number of values that was handed over.
        values: usize,
        /// The shape that was expected.
        expected: Vec<usize>,
    },
}

/// Keeps the whole gradient in f64. For small models, and for truths.
#[derive(Clone, Debug, Default)]
pub struct Collect {
    tensors: TensorSet,
}

impl Collect {
    /// The gradient.
    #[must_use]
    pub fn into_tensors(self) -> TensorSet {
        self.tensors
    }
}

impl GradientSink for Collect {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let kept = match values {
            GradientView::F32(values) => TensorValues::F32(values.to_vec()),
            GradientView::F64(values) => TensorValues::F64(values.to_vec()),
        };
        let tensor = Tensor::new(shape.to_vec(), kept).map_err(|_| SinkError::Shape {
            name: name.to_owned(),
            found: shape.to_vec(),
            values: values.len(),
            expected: shape.to_vec(),
        })?;
        match self.tensors.insert(name.to_owned(), tensor) {
            None => Ok(()),
            Some(_) => Err(SinkError::Twice { name: name.to_owned() }),
        }
    }
}

/// A sink that looks at nothing: for what a pass does besides its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Discard;

impl GradientSink for Discard {
    fn receive(&mut self, _: &str, _: &[usize], _: GradientView<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Hands every tensor to two sinks.
pub struct Tee<'a>(pub &'a mut dyn GradientSink, pub &'a mut dyn GradientSink);

impl GradientSink for Tee<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        self.0.receive(name, shape, values)?;
        self.1.receive(name, shape, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_handed_over_twice_or_of_another_shape_is_refused() {
        let mut collect = Collect::default();
        let view = GradientView::F32(&[1.0, 2.0]);
        assert!(matches!(collect.receive("x", &[3], view), Err(SinkError::Shape { .. })));
        collect.receive("x", &[2], view).unwrap();
        assert!(matches!(collect.receive("x", &[2], view), Err(SinkError::Twice { .. })));
        let mut tee = Tee(&mut Discard, &mut collect);
        assert!(matches!(tee.receive("x", &[2], view), Err(SinkError::Twice { .. })));
    }
}
