//! Directions to differentiate along.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A tensor below this root mean square is taken for one that is still (nearly) zero. The smallest standard deviation
/// GPT-2's initialisation gives a weight is `0.02/√(2·48)`, of gpt2-xl's residual projections (Radford et al. 2019, §2.3).
const NEARLY_ZERO: f64 = 1.0 / 512.0;

/// A direction for a tensor with these values: `±s` at each element, the signs random and determined by `(seed, stream)`;
/// a stream per tensor makes the directions of a model's tensors independent.
///
/// The scale makes one step length right for every tensor:
///
/// - `s` is the root mean square of the values. For weights and embeddings, whose mean is close to zero, that is their
///   standard deviation, so that a step of `h` changes what they compute by the fraction `h`. For the gains of a layer
///   normalisation, which cluster around one, the standard deviation says how far training moved them and not what they
///   do: they multiply, and a step of `h` relative to their size is again the fraction `h` of the result.
/// - `s` is 1 when the values are (nearly) all zero, as biases are at first. A bias is added to activations of order one
///   (the output of a layer normalisation has unit variance, and a projection of it at most that), whatever its own size;
///   a direction of the size of a tiny bias would drown its derivative in rounding.
///
/// Signs rather than a normal distribution because then every element moves by the same amount, none by hardly anything,
/// and `‖v‖ = s·√P` exactly. Never a uniform distribution on (0, 1): three quarters of the energy of such a vector,
/// `(E x)²/E x² = (1/4)/(1/3)`, lie along the all-ones vector, which is the null direction of the softmax: a constant
/// added to all logits changes nothing, so most of the direction would test nothing.
///
/// Values that are not finite give a direction that is not finite.
#[must_use]
pub fn rademacher(seed: u64, stream: u64, values: &[f64]) -> Vec<f64> {
    let mut direction = vec![scale(values); values.len()];
    let mut signs = ChaCha8Rng::seed_from_u64(seed);
    signs.set_stream(stream);
    for chunk in direction.chunks_mut(64) {
        let mut word = signs.next_u64();
        for element in chunk {
            // The lowest bit of the word becomes the sign bit.
            *element = f64::from_bits(element.to_bits() ^ word << 63);
            word >>= 1;
        }
    }
    direction
}

fn scale(values: &[f64]) -> f64 {
    // Two levels, so that the rounding error does not grow with the size of an embedding.
    let squares: f64 =
        values.chunks(1024).map(|chunk| chunk.iter().map(|value| value * value).sum::<f64>()).sum();
    let root_mean_square = (squares / values.len().max(1) as f64).sqrt();
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
    fn signs_are_balanced() {
        // Along the all-ones vector, softmax's null direction, there is a fraction 1/P of the energy, not three quarters.
        let direction = rademacher(0, 0, &vec![1.0; 10_000]);
        let sum: f64 = direction.iter().sum();
        assert!(sum.abs() < 500.0, "{sum} of 10000 signs, whose sum has a standard deviation of 100");
    }
}
