//! How far rounding may carry a gradient from its exact value, by dtype and shape.

use lossproof_spec::{Dtype, GlobalBatch, Sequence};

/// λ of the probabilistic model: one sum exceeds its bound with probability at most `2·exp(−λ²/2) = 2.5e-14`, an inner
/// product of 50 257 terms with at most that many times as much, 1.3e-9. The norm over a tensor concentrates further.
pub(crate) const LAMBDA: f64 = 8.0;

/// How much further from the truth than another implementation one may be: `√16`. See [`f32_rule`].
const MULTIPLE: f64 = 4.0;

/// The shape facts of a model and a batch that decide how rounding errors accumulate.
///
/// # Model
/// A sum or inner product of `m` terms errs, relative to `|x|ᵀ|y|`, by about `√m·u`, and by more than `λ·√m·u` with a
/// probability falling as `exp(−λ²/2)`, when roundings are independent with mean zero (Higham & Mary, SIAM J.
/// Sci. Comput. 41(5), 2019, §2–3). For data of random sign, where `|xᵀy|` is smaller than `|x|ᵀ|y|` by a
/// factor of `√m`, the partial sums are smaller too and the error is of the order of `√m·u` relative to
/// `|xᵀy|` again (ibid. 42(5), 2020). Independent stages add in quadrature: with `M` the summed lengths of
/// all stages a value passes through, the error is
/// `λ·√M·u`. An error travels through later stages with an amplification of about one: layer normalisation restores the
/// scale and the residual connection adds. `docs/tolerances.md` lists the stages and what the model does not cover.
///
/// ```
/// use lossproof_numerics::ErrorModel;
/// use lossproof_spec::Dtype;
///
/// let nano = ErrorModel {
///     vocabulary: 257, width: 32, head_size: 8, layers: 2, longest_sequence: 64, positions: 256,
/// };
/// let bound = nano.gradient_bound(Dtype::F64);
/// assert!(4.5e-14 < bound && bound < 5.5e-14);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorModel {
    /// Tokens of the vocabulary, `V`.
    pub vocabulary: usize,
    /// Width of the residual stream, `C`.
    pub width: usize,
    /// Width of one attention head, `D`.
    pub head_size: usize,
    /// Blocks, `L`.
    pub layers: usize,
    /// Positions of the longest sequence, `T`.
    pub longest_sequence: usize,
    /// Positions of the whole batch, `N`, ignored ones included: a weight's gradient is a sum over them.
    pub positions: usize,
}

/// What a value passes through on its way.
#[derive(Clone, Copy)]
struct Path {
    /// Terms of all sums, `M`.
    terms: f64,
    /// Results that are stored in the dtype, `S`.
    stores: f64,
}

impl ErrorModel {
    /// The facts of a model with these sizes on a batch.
    #[must_use]
    pub fn new(vocabulary: usize, width: usize, heads: usize, layers: usize, batch: &GlobalBatch) -> Self {
        Self {
            vocabulary,
            width,
            head_size: width / heads.max(1),
            layers,
            longest_sequence: batch.sequences().map(Sequence::len).max().unwrap_or(0),
            positions: batch.sequences().map(Sequence::len).sum(),
        }
    }

    /// Bound on the rounding error of a tensor's gradient in `dtype`, relative to `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)`.
    ///
    /// It also bounds the distance between two implementations whose roundings are independent: their errors add in
    /// quadrature, which makes it a bound with `λ = 8/√2`, exceeded by one sum with probability 2.3e-7.
    ///
    /// A bound of 1 or more holds nothing: a gradient of zero is within it.
    #[must_use]
    pub fn gradient_bound(&self, dtype: Dtype) -> f64 {
        LAMBDA * self.gradient_floor(dtype)
    }

    /// The error a gradient is *expected* to have, `√M·u`: [`gradient_bound`](Self::gradient_bound) without
    /// λ. The floor of
    /// [`f32_rule`].
    #[must_use]
    pub fn gradient_floor(&self, dtype: Dtype) -> f64 {
        self.gradient_path().error(dtype)
    }

    /// Bound on the rounding error of the loss in `dtype`, relative to `Σ_t |w_t|·max(ℓ_t, 1)`: a token loss
    /// is a difference of logits, so the error of a confident prediction's loss stays that of the logits.
    #[must_use]
    pub fn loss_bound(&self, dtype: Dtype) -> f64 {
        LAMBDA * self.loss_path().error(dtype)
    }

    /// The way to a token loss. Per layer: two layer normalisations (a mean and a variance of `C` terms each), the four
    /// projections (`C`, `C`, `C` and `4C`), scores (`D`), softmax and the average of values (`T` each). Once: final
    /// normalisation, logits, log-sum-exp. Stored per layer: those nine, two residual sums and the GELU.
    fn token_loss_path(&self) -> Path {
        let Facts { v, c, d, l, t, .. } = self.facts();
        Path { terms: l * (11.0 * c + d + 2.0 * t) + 3.0 * c + v, stores: l * 12.0 + 3.0 }
    }

    /// That, and the sum over the batch.
    fn loss_path(&self) -> Path {
        let token_loss = self.token_loss_path();
        Path { terms: token_loss.terms + self.facts().n, stores: token_loss.stores + 1.0 }
    }

    /// The way to a token loss, then its mirror image. Backward per layer: the projections (`3C`, `C`, `4C`
    /// and `C`), two sums of `C` terms in each layer normalisation, `D` for the gradient of the
    /// probabilities, `T` each for softmax, values, and query or key. Once: the head (`V`), the final
    /// normalisation (`2C`), the softmax, and the sum over positions (`N`) that makes a weight's gradient.
    fn gradient_path(&self) -> Path {
        let Facts { v, c, d, l, t, n } = self.facts();
        let token_loss = self.token_loss_path();
        Path {
            terms: token_loss.terms + l * (13.0 * c + d + 3.0 * t) + 2.0 * c + v + n,
            stores: token_loss.stores + l * 12.0 + 4.0,
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            v: self.vocabulary as f64,
            c: self.width as f64,
            d: self.head_size as f64,
            l: self.layers as f64,
            t: self.longest_sequence as f64,
            n: self.positions as f64,
        }
    }
}

/// The facts as numbers, by the letters of the formulas.
struct Facts {
    v: f64,
    c: f64,
    d: f64,
    l: f64,
    t: f64,
    n: f64,
}

impl Path {
    /// `√(M·u_s² + S·u²)`, with `u_s` the unit round-off sums are accumulated in: f32 for the half formats,
    /// as tensor cores and every mixed-precision kernel do, and otherwise the dtype's own.
    fn error(self, dtype: Dtype) -> f64 {
        let stored = dtype.unit_roundoff();
        let summed = match dtype {
            Dtype::F64 | Dtype::F32 => stored,
            Dtype::F16 | Dtype::Bf16 => Dtype::F32.unit_roundoff(),
        };
        (self.terms * summed.powi(2) + self.stores * stored.powi(2)).sqrt()
    }
}

/// Bound on one implementation's distance from the f64 truth, given the distance of another implementation in the same
/// dtype: `max(4·other_distance, floor)`, "no further from the truth than a small multiple of the other".
///
/// Unlike an a-priori bound this follows the conditioning of the actual parameters and batch, which both share.
///
/// The multiple: two correct implementations differ in how they order their sums. Added one after the other,
/// `m` terms err by `√m·u`; in 16 interleaved partial sums, one per f32 lane of an AVX-512 register, by
/// `√(m/16)·u`. So one may be
/// `√16 = 4` times as far from the truth as the other. The norm over a tensor averages over its many roundings and adds
/// no luck of its own.
///
/// The floor is [`ErrorModel::gradient_floor`], for the small tensors (a bias, a gain) on which the other one
/// *was* lucky: no implementation is blamed for an error of the size the model expects.
///
/// NaN, which no distance is within, when an argument is not finite: an implementation that is broken is no yardstick.
#[must_use]
pub fn f32_rule(other_distance: f64, floor: f64) -> f64 {
    if other_distance.is_finite() && floor.is_finite() {
        (MULTIPLE * other_distance).max(floor)
    } else {
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    const NANO: ErrorModel = ErrorModel {
        vocabulary: 257,
        width: 32,
        head_size: 8,
        layers: 2,
        longest_sequence: 64,
        positions: 256,
    };
    const SMALL: ErrorModel = ErrorModel {
        vocabulary: 50_257,
        width: 768,
        head_size: 64,
        layers: 12,
        longest_sequence: 64,
        positions: 256,
    };

    #[test]
    fn numbers_to_expect() {
        // M = 2·(24·32 + 2·8 + 5·64) + 5·32 + 2·257 + 256 = 3138, S = 55.
        let nano = NANO.gradient_bound(Dtype::F64);
        let u = f64::EPSILON / 2.0;
        assert!((nano / (8.0 * u * 3193.0_f64.sqrt()) - 1.0).abs() < 1e-12, "{nano:e}");
        assert!(nano < 1e-12, "the two implementations are to agree within 1e-12");
        let small = SMALL.gradient_bound(Dtype::F32);
        assert!((2.5e-4..3.5e-4).contains(&small), "{small:e}");
        // Half formats: stored coarsely, summed in f32.
        let bf16 = NANO.gradient_bound(Dtype::Bf16);
        assert!((bf16 / (8.0 * (-8.0_f64).exp2() * 55.0_f64.sqrt()) - 1.0).abs() < 1e-2, "{bf16}");
    }

    #[test]
    fn bounds_grow_with_everything_and_the_forward_is_part_of_the_gradient() {
        let base = NANO.gradient_bound(Dtype::F32);
        let larger = [
            ErrorModel { vocabulary: 300, ..NANO },
            ErrorModel { width: 40, ..NANO },
            ErrorModel { head_size: 16, ..NANO },
            ErrorModel { layers: 3, ..NANO },
            ErrorModel { longest_sequence: 65, ..NANO },
            ErrorModel { positions: 300, ..NANO },
        ];
        for model in larger {
            assert!(
                model.gradient_bound(Dtype::F32) > base
                    && model.loss_bound(Dtype::F32) > NANO.loss_bound(Dtype::F32)
            );
        }
        assert!(NANO.loss_bound(Dtype::F32) < base);
        assert!((NANO.gradient_floor(Dtype::F32) * 8.0 - base).abs() < 1e-18);
    }

    #[test]
    fn sums_obey_the_probabilistic_model() {
        // Sequential f32 inner products of every sign pattern, against exact products summed in f64.
        let mut random = ChaCha8Rng::seed_from_u64(17);
        let u = Dtype::F32.unit_roundoff();
        for offset in [0.0, 0.5] {
            for m in [64, 1024, 16_384] {
                let (mut worst, mut squares) = (0.0_f64, 0.0);
                for _ in 0..200 {
                    let (mut single, mut double, mut size) = (0.0_f32, 0.0_f64, 0.0_f64);
                    for _ in 0..m {
                        let (x, y): (f32, f32) =
                            (random.random::<f32>() - 0.5 + offset, random.random::<f32>() - 0.5 + offset);
                        single += x * y;
                        double += f64::from(x) * f64::from(y);
                        size += (f64::from(x) * f64::from(y)).abs();
                    }
                    let error = (f64::from(single) - double).abs() / size / (f64::from(m).sqrt() * u);
                    worst = worst.max(error);
                    squares += error * error;
                }
                assert!(worst < LAMBDA, "m = {m}, offset = {offset}: {worst}");
                assert!((squares / 200.0_f64).sqrt() < 1.0, "m = {m}, offset = {offset}: {squares}");
            }
        }
    }

    #[test]
    fn the_f32_rule() {
        assert!((f32_rule(1e-5, 3e-5) - 4e-5).abs() < 1e-20);
        assert!((f32_rule(1e-7, 3e-5) - 3e-5).abs() < 1e-20);
        assert!(
            f32_rule(f64::NAN, 1.0).is_nan()
                && f32_rule(f64::INFINITY, 1.0).is_nan()
                && f32_rule(0.0, f64::NAN).is_nan()
        );
    }
}
