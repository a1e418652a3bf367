//! What a subject hands to a sink: gradients, or parameters.

use lossproof_numerics::{norm, vector};
use lossproof_spec::Dtype;
use lossproof_subject::{GradientSink, GradientView, SinkError};

/// The tensors that a subject handed over, in their order. Nothing is checked: whatever a hook makes of them
/// is what comes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HandedOver {
    /// One entry for each time a tensor was handed over.
    pub tensors: Vec<NamedTensor>,
}

/// A tensor on its way to a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name of the parameter.
    pub name: String,
    /// The shape that is stated.
    pub shape: Vec<usize>,
    /// The values in row-major order, rounded to `dtype` on their way out.
    pub values: Vec<f64>,
    /// Element type of the values that come out: f32 or f64.
    pub dtype: Dtype,
}

impl NamedTensor {
    /// Multiplies every value.
    pub fn scale(&mut self, factor: f64) {
        vector::scale(&mut self.values, factor);
    }

    /// Euclidean norm of the values.
    #[must_use]
    pub fn norm(&self) -> f64 {
        norm(&self.values)
    }
}

impl HandedOver {
    /// The first tensor with this name.
    ///
    /// # Panics
    /// When none was handed over.
    pub fn tensor(&mut self, name: &str) -> &mut NamedTensor {
        self.find(name).unwrap_or_else(|| panic!("`{name}` was not handed over"))
    }

    fn find(&mut self, name: &str) -> Option<&mut NamedTensor> {
        self.tensors.iter_mut().find(|tensor| tensor.name == name)
    }

    /// Multiplies every value of every tensor.
    pub fn scale(&mut self, factor: f64) {
        for tensor in &mut self.tensors {
            tensor.scale(factor);
        }
    }

    /// Adds `factor` times other tensors to those with the same names.
    pub fn add(&mut self, factor: f64, others: &Self) {
        for other in &others.tensors {
            if let Some(own) = self.find(&other.name) {
                vector::add_scaled(&mut own.values, factor, &other.values);
            }
        }
    }

    /// Hands every tensor on, in order.
    ///
    /// # Errors
    /// When the sink refuses a tensor.
    pub fn hand_over(&self, sink: &mut dyn GradientSink) -> Result<(), SinkError> {
        for tensor in &self.tensors {
            if tensor.dtype == Dtype::F64 {
                sink.receive(&tensor.name, &tensor.shape, GradientView::F64(&tensor.values))?;
            } else {
                let rounded: Vec<f32> = tensor.values.iter().map(|&value| single(value)).collect();
                sink.receive(&tensor.name, &tensor.shape, GradientView::F32(&rounded))?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the trainer's dtype is what is meant")]
fn single(value: f64) -> f32 {
    value as f32
}

impl GradientSink for HandedOver {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let dtype = match values {
            GradientView::F32(_) => Dtype::F32,
            GradientView::F64(_) => Dtype::F64,
        };
        let values = values.to_f64();
        self.tensors.push(NamedTensor { name: name.to_owned(), shape: shape.to_vec(), values, dtype });
        Ok(())
    }
}
