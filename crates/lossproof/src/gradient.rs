//! Where gradients go: one tensor at a time, so that a large model never needs a second copy of itself.

use crate::{Tensor, TensorSet, TensorValues};
use lossproof_spec::CompensatedSum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

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
        let in_f64 = match values {
            GradientView::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            GradientView::F64(values) => values.to_vec(),
        };
        let tensor = Tensor::new(shape.to_vec(), TensorValues::F64(in_f64)).map_err(|_| SinkError::Shape {
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

/// Hands every tensor to two sinks.
pub struct Tee<'a>(pub &'a mut dyn GradientSink, pub &'a mut dyn GradientSink);

impl GradientSink for Tee<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        self.0.receive(name, shape, values)?;
        self.1.receive(name, shape, values)
    }
}

/// Keeps of each tensor its norm and a few seeded ±1 projections, accumulated in f64.
///
/// Projections are linear: a relation `g = Σ_i w_i·g_i` between gradients holds between their sketches, and a relation
/// that is off by `Δ` shows in each projection with standard deviation `‖Δ‖`.
#[derive(Clone, Debug)]
pub struct Sketch {
    seed: u64,
    projections: usize,
    tensors: BTreeMap<String, TensorSketch>,
}

/// What a [`Sketch`] keeps of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSketch {
    /// Euclidean norm.
    pub norm: f64,
    /// Inner products with random sign vectors; equal seeds and sizes give equal sign vectors.
    pub projections: Vec<f64>,
}

impl Sketch {
    /// A sketch with this many projections per tensor; sketches compare only when they have the same seed.
    #[must_use]
    pub fn new(seed: u64, projections: usize) -> Self {
        Self { seed, projections, tensors: BTreeMap::new() }
    }

    /// The sketches by parameter.
    #[must_use]
    pub fn into_tensors(self) -> BTreeMap<String, TensorSketch> {
        self.tensors
    }
}

impl GradientSink for Sketch {
    fn receive(&mut self, name: &str, _shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let mut norm = CompensatedSum::default();
        let mut projections = vec![CompensatedSum::default(); self.projections];
        // Every tensor starts the same stream: 64 signs per word, a word per projection. Sums over 64 terms are plain, the
        // sum of those is compensated, so the rounding error is that of 64 terms whatever the size of the tensor.
        let mut signs = ChaCha8Rng::seed_from_u64(self.seed);
        let mut chunk = [0.0; 64];
        for start in (0..values.len()).step_by(64) {
            let chunk = &mut chunk[..64.min(values.len() - start)];
            for (offset, value) in chunk.iter_mut().enumerate() {
                *value = values.get(start + offset);
            }
            norm.add(chunk.iter().map(|value| value * value).sum());
            for projection in &mut projections {
                let word: u64 = signs.random();
                let signed = |(offset, value): (usize, &f64)| {
                    let sign = (word >> offset) << 63;
                    f64::from_bits(value.to_bits() ^ sign)
                };
                projection.add(chunk.iter().enumerate().map(signed).sum());
            }
        }
        let sketch = TensorSketch {
            norm: norm.value().sqrt(),
            projections: projections.iter().map(CompensatedSum::value).collect(),
        };
        match self.tensors.insert(name.to_owned(), sketch) {
            None => Ok(()),
            Some(_) => Err(SinkError::Twice { name: name.to_owned() }),
        }
    }
}
