//! Named tensors on the host: parameters, and stored gradients.

use std::{collections::BTreeMap, ops::Range};

/// Values in row-major order, in the dtype they came in.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorValues {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

/// A tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: TensorValues,
}

impl Tensor {
    /// A tensor of `shape` from row-major `values`.
    ///
    /// # Errors
    /// When the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, values: TensorValues) -> Result<Self, TensorError> {
        let found = match &values {
            TensorValues::F32(values) => values.len(),
            TensorValues::F64(values) => values.len(),
        };
        let expected = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        if expected == Some(found) { Ok(Self { shape, values }) } else { Err(TensorError { shape, found }) }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    #[must_use]
    pub fn values(&self) -> &TensorValues {
        &self.values
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        match &self.values {
            TensorValues::F32(values) => values.len(),
            TensorValues::F64(values) => values.len(),
        }
    }

    /// The value at a row-major index, exact in f64.
    ///
    /// # Panics
    /// When the index is not below [`elements`](Self::elements).
    #[must_use]
    pub fn get(&self, index: usize) -> f64 {
        match &self.values {
            TensorValues::F32(values) => f64::from(values[index]),
            TensorValues::F64(values) => values[index],
        }
    }

    /// Writes the values at a run of row-major indices, exact in f64.
    ///
    /// # Panics
    /// When there are not as many in the tensor, or `into` has another length.
    pub fn write_run(&self, run: Range<usize>, into: &mut [f64]) {
        match &self.values {
            TensorValues::F32(values) => {
                for (into, &value) in into.iter_mut().zip(&values[run]) {
                    *into = f64::from(value);
                }
            }
            TensorValues::F64(values) => into.copy_from_slice(&values[run]),
        }
    }

    /// Adds the values at a run of row-major indices, times a factor.
    ///
    /// # Panics
    /// When there are not as many in the tensor.
    pub fn add_run(&self, factor: f64, run: Range<usize>, into: &mut [f64]) {
        match &self.values {
            TensorValues::F32(values) => {
                for (into, &value) in into.iter_mut().zip(&values[run]) {
                    *into += factor * f64::from(value);
                }
            }
            TensorValues::F64(values) => {
                for (into, &value) in into.iter_mut().zip(&values[run]) {
                    *into += factor * value;
                }
            }
        }
    }

    /// All values, exact in f64.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        let mut values = Vec::new();
        self.copy_to_f64(&mut values);
        values
    }

    /// [`to_f64`](Self::to_f64) into a vector that is there already.
    pub fn copy_to_f64(&self, into: &mut Vec<f64>) {
        into.clear();
        match &self.values {
            TensorValues::F32(values) => into.extend(values.iter().map(|&value| f64::from(value))),
            TensorValues::F64(values) => into.extend_from_slice(values),
        }
    }
}

/// Tensors by name, in the order of their names.
pub type TensorSet = BTreeMap<String, Tensor>;

/// A shape that does not hold its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shape {shape:?} does not hold {found} values")]
pub struct TensorError {
    /// The shape.
    pub shape: Vec<usize>,
    /// Number of values found.
    pub found: usize,
}
