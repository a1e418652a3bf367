//! Directions to differentiate along.

use crate::{Widen, vector};
use lossproof_spec::CompensatedSum;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

/// A tensor below this root mean square is taken for one that is still (nearly) zero. The smallest standard deviation
/// GPT-2's initialisation gives a weight is `0.02/√(2·48)`, of gpt2-xl's residual projections (Radford et al.
/// 2019, §2.3).
const NEARLY_ZERO: f64 = 1.0 / 512.0;

/// A direction for a tensor with these values: `±s` at each element, the signs random and determined by
/// `(seed, stream)`; a stream per tensor makes the directions of a model's tensors independent.
///
/// The scale makes one step length right for every tensor:
///
/// - `s` is the root mean square of the values. For weights and embeddings, whose mean is close to zero, that is their
///   standard deviation, so that a step of `h` changes what they compute by the fraction `h`. For the gains of a layer
///   normalisation, which cluster around one, the standard deviation says how far training moved them and not what they
///   do: they multiply, and a step of `h` relative to their size is again the fraction `h` of the result.
/// - `s` is 1 when the values are (nearly) all zero, as biases are at first. A bias is added to activations
///   of order one
///   (the output of a layer normalisation has unit variance, and a projection of it at most that), whatever its own size;
///   a direction of the size of a tiny bias would drown its derivative in rounding.
///
/// Signs rather than a normal distribution because then every element moves by the same amount, none by
/// hardly anything, and `‖v‖ = s·√P` exactly. Never a uniform distribution on (0, 1): three quarters of the
/// energy of such a vector,
/// `(E x)²/E x² = (1/4)/(1/3)`, lie along the all-ones vector, which is the null direction of the softmax: a constant
/// added to all logits changes nothing, so most of the direction would test nothing.
///
/// Values that are not finite give a direction that is not finite.
#[must_use]
pub fn rademacher(seed: u64, stream: u64, values: &[f64]) -> Vec<f64> {
    let mut direction = vec![0.0; values.len()];
    Rademacher::new(seed, stream, values).displace(&mut direction, 1.0);
    direction
}

/// The direction of [`rademacher`] without its elements: at the size of a GPT-2 embedding, writing them out
/// costs more than drawing the signs again. Long tensors are worked on by all cores, with the same result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rademacher {
    seed: u64,
    stream: u64,
    scale: f64,
}

/// Elements one core works on at a time.
const CHUNK: usize = 1 << 16;

/// Elements that take their signs from one word.
const WORD: usize = 64;

impl Rademacher {
    /// The direction for a tensor with these values.
    #[must_use]
    pub fn new<T: Widen>(seed: u64, stream: u64, values: &[T]) -> Self {
        Self { seed, stream, scale: scale(values) }
    }

    /// The size of each element.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Adds `step` times the direction to `values`, the first elements of the tensor.
    pub fn displace(&self, values: &mut [f64], step: f64) {
        let size = step * self.scale;
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            let mut signs = self.signs(chunk);
            for values in values.chunks_mut(WORD) {
                let mut word = signs.next_u64();
                for value in values {
                    *value += signed(size, word);
                    word >>= 1;
                }
            }
        });
    }

    /// Inner product with `values`, the first elements of a tensor. Sums over 64 elements are plain, all
    /// others compensated.
    #[must_use]
    pub fn dot<T: Widen>(&self, values: &[T]) -> f64 {
        let of_chunk = |(chunk, values): (usize, &[T])| -> CompensatedSum {
            let mut signs = self.signs(chunk);
            let mut widened = [0.0; WORD];
            let of_word = |values: &[T]| -> f64 {
                let widened = &mut widened[..values.len()];
                T::widen(values, widened);
                signed_sum(widened, signs.next_u64())
            };
            values.chunks(WORD).map(of_word).collect()
        };
        let sums: Vec<_> = values.par_chunks(CHUNK).enumerate().map(of_chunk).collect();
        self.scale * sums.iter().map(CompensatedSum::value).collect::<CompensatedSum>().value()
    }

    /// The generator at the first word of a chunk.
    fn signs(&self, chunk: usize) -> ChaCha8Rng {
        // A sign word is two words of the generator.
        let position = 2 * (chunk as u128) * (CHUNK / WORD) as u128;
        let mut signs = ChaCha8Rng::seed_from_u64(self.seed);
        signs.set_stream(self.stream);
        signs.set_word_pos(position);
        signs
    }
}

/// The sum of values, the sign of each turned when its bit of `word` is set.
#[inline(never)]
fn signed_sum(values: &[f64], word: u64) -> f64 {
    values.iter().enumerate().map(|(bit, &value)| signed(value, word >> bit)).sum()
}

/// `value` with its sign turned when the lowest bit of `word` is set.
fn signed(value: f64, word: u64) -> f64 {
    f64::from_bits(value.to_bits() ^ word << 63)
}

fn scale<T: Widen>(values: &[T]) -> f64 {
    // Sums of sums, so that the rounding error does not grow with the size of an embedding.
    const BLOCK: usize = 1024;
    let of_chunk = |values: &[T]| -> f64 {
        let mut widened = [0.0; BLOCK];
        let square = |values: &[T]| {
            let widened = &mut widened[..values.len()];
            T::widen(values, widened);
            vector::square(widened)
        };
        values.chunks(BLOCK).map(square).sum()
    };
    let squares: Vec<f64> = values.par_chunks(CHUNK).map(of_chunk).collect();
    let root_mean_square = (squares.iter().sum::<f64>() / values.len().max(1) as f64).sqrt();
    if root_mean_square < NEARLY_ZERO { 1.0 } else { root_mean_square }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale_of(values: &[f64]) -> f64 {
        let direction = rademacher(1, 2, values);
        assert_eq!(direction.len(), values.len());
        let scale = direction[0].abs();
        assert!(direction.iter().all(|v| (v.abs() - scale).abs() == 0.0));
        scale
    }

    #[test]
    fn the_scale_is_what_the_tensor_does() {
        // A weight: mean zero, standard deviation 0.02.
        assert!((scale_of(&[0.02, -0.02, 0.02, -0.02].repeat(50)) - 0.02).abs() < 1e-16);
        // Gains, untouched or trained a little: they multiply.
        assert!((scale_of(&[1.0; 96]) - 1.0).abs() < 1e-15);
        assert!((scale_of(&[0.99, 1.01].repeat(48)) - 1.0).abs() < 1e-3);
        // Biases, untouched or trained a little: they are added to activations of order one.
        assert!((scale_of(&[0.0; 96]) - 1.0).abs() == 0.0);
        assert!((scale_of(&[1e-5; 96]) - 1.0).abs() == 0.0);
        assert!(rademacher(1, 2, &[]).is_empty());
        assert!(rademacher(1, 2, &[f64::NAN])[0].is_nan());
    }

    #[test]
    fn seed_and_stream_determine_it() {
        let values = [0.5; 200];
        assert_eq!(rademacher(7, 3, &values), rademacher(7, 3, &values));
        // A change of size keeps the signs there are.
        assert_eq!(rademacher(7, 3, &values)[..100], rademacher(7, 3, &values[..100]));
        let agreement = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() < 0.5).count();
        for (seed, stream) in [(8, 3), (7, 4)] {
            // Half of 200 on average, with a standard deviation of 7.
            let same = agreement(&rademacher(7, 3, &values), &rademacher(seed, stream, &values));
            assert!((60..140).contains(&same), "{same}");
        }
    }

    #[test]
    fn the_unwritten_direction_is_the_written_one() {
        // Longer than two chunks, and not a multiple of a word.
        let values: Vec<f64> = (0..150_001).map(|i| f64::from(i).sin()).collect();
        let written = rademacher(7, 3, &values);
        let unwritten = Rademacher::new(7, 3, &values);
        let mut displaced = values.clone();
        unwritten.displace(&mut displaced, 0.5);
        for ((displaced, value), v) in displaced.iter().zip(&values).zip(&written) {
            assert!((displaced - (value + 0.5 * v)).abs() == 0.0);
        }
        let expected: f64 = written.iter().zip(&values).map(|(v, value)| v * value).sum();
        // 150 001 plain additions of numbers below one.
        assert!((unwritten.dot(&values) - expected).abs() < 150_001.0 * f64::EPSILON * 400.0);
        // The same signs in single precision.
        let single = [1.0_f32, 1.0, 1.0, 1.0];
        let signs: f64 = rademacher(7, 3, &[1.0; 4]).iter().sum();
        assert!((Rademacher::new(7, 3, &single).dot(&single) - signs).abs() < 1e-15);
    }

    #[test]
    fn signs_are_balanced() {
        // Along the all-ones vector, softmax's null direction, there is a fraction 1/P of the energy, not
        // three quarters.
        let direction = rademacher(0, 0, &vec![1.0; 10_000]);
        let sum: f64 = direction.iter().sum();
        assert!(sum.abs() < 500.0, "{sum} of 10000 signs, whose sum has a standard deviation of 100");
    }
}
