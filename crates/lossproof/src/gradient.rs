//! Where gradients go: one tensor at a time, so that a large model never needs a second copy of itself.

use crate::{Tensor, TensorSet, TensorValues};
use lossproof_spec::CompensatedSum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
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
        let tensor =
            Tensor::new(shape.to_vec(), TensorValues::F64(in_f64)).map_err(|_| SinkError::Shape {
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

/// Squared norm and projections in progress.
type Sums = (CompensatedSum, Vec<CompensatedSum>);

/// Elements one core sketches at a time.
const CHUNK: usize = 1 << 16;

/// Elements that take their signs from one word.
const WORD: usize = 64;

impl Sketch {
    /// Squared norm and projections of one chunk. Every tensor starts the same stream of sign words, one per projection for
    /// each 64 elements; sums over those are plain, all others compensated.
    fn chunk<T: Copy + Into<f64>>(&self, chunk: usize, values: &[T]) -> Sums {
        let mut signs = ChaCha8Rng::seed_from_u64(self.seed);
        signs.set_word_pos(2 * (chunk * self.projections) as u128 * (CHUNK / WORD) as u128);
        let (mut square, mut projections) =
            (CompensatedSum::default(), vec![CompensatedSum::default(); self.projections]);
        let mut widened = [0.0; WORD];
        for values in values.chunks(WORD) {
            let widened = &mut widened[..values.len()];
            for (widened, &value) in widened.iter_mut().zip(values) {
                *widened = value.into();
            }
            square.add(widened.iter().map(|value| value * value).sum());
            for projection in &mut projections {
                let word: u64 = signs.random();
                let signed =
                    |(bit, value): (usize, &f64)| f64::from_bits(value.to_bits() ^ (word >> bit) << 63);
                projection.add(widened.iter().enumerate().map(signed).sum());
            }
        }
        (square, projections)
    }

    fn sketch<T: Copy + Into<f64> + Sync>(&self, values: &[T]) -> TensorSketch {
        let chunks: Vec<_> =
            values.par_chunks(CHUNK).enumerate().map(|(chunk, values)| self.chunk(chunk, values)).collect();
        let total = |sum: &dyn Fn(&Sums) -> f64| chunks.iter().map(sum).collect::<CompensatedSum>().value();
        TensorSketch {
            norm: total(&|(square, _)| square.value()).sqrt(),
            projections: (0..self.projections)
                .map(|k| total(&|(_, projections)| projections[k].value()))
                .collect(),
        }
    }
}

impl GradientSink for Sketch {
    fn receive(&mut self, name: &str, _shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let sketch = match values {
            GradientView::F32(values) => self.sketch(values),
            GradientView::F64(values) => self.sketch(values),
        };
        match self.tensors.insert(name.to_owned(), sketch) {
            None => Ok(()),
            Some(_) => Err(SinkError::Twice { name: name.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: &[f64]) -> TensorSketch {
        let mut sketch = Sketch::new(3, 4);
        sketch.receive("x", &[values.len()], GradientView::F64(values)).unwrap();
        sketch.into_tensors().remove("x").unwrap()
    }

    #[test]
    fn sketches_are_linear_and_projections_differ() {
        // Longer than one chunk, and not a multiple of a word.
        let a: Vec<f64> = (0..70_001).map(|i| f64::from(i).sin()).collect();
        let b: Vec<f64> = (0..70_001).map(|i| (f64::from(i) * 0.7).cos()).collect();
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - b).collect();
        let [of_a, of_b, of_sum] = [&a, &b, &sum].map(|values| sketch(values));
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((of_sum.norm / norm - 1.0).abs() < 1e-12);
        for k in 0..4 {
            let expected = 2.0 * of_a.projections[k] - of_b.projections[k];
            // 64 plain additions of numbers below three, in a thousand words.
            assert!((of_sum.projections[k] - expected).abs() < 1e-10);
            assert!(
                of_sum.projections[k].abs() < 6.0 * norm,
                "a projection has the norm for its standard deviation"
            );
            assert!(of_a.projections[..k].iter().all(|other| (other - of_a.projections[k]).abs() > 1e-6));
        }
    }

    #[test]
    fn a_tensor_handed_over_twice_or_of_another_shape_is_refused() {
        let mut collect = Collect::default();
        let view = GradientView::F32(&[1.0, 2.0]);
        assert!(matches!(collect.receive("x", &[3], view), Err(SinkError::Shape { .. })));
        collect.receive("x", &[2], view).unwrap();
        assert!(matches!(collect.receive("x", &[2], view), Err(SinkError::Twice { .. })));
        let mut sketch = Sketch::new(0, 1);
        sketch.receive("x", &[2], view).unwrap();
        assert!(matches!(
            Tee(&mut Collect::default(), &mut sketch).receive("x", &[2], view),
            Err(SinkError::Twice { .. })
        ));
    }
}
