//! Token cross-entropy and its gradient with respect to the logits, in closed form.

use lossproof_spec::CompensatedSum;

/// Cross-entropy of one token, with optional label smoothing and z-loss.
///
/// With `p = softmax(z)`, `lse = log Σ_c exp z_c` and label `y`,
///
/// ```text
/// ℓ      = (1 − ε)·(−log p_y) + ε/V·Σ_c −log p_c + ζ·lse²
/// ∂ℓ/∂z  = p − (1 − ε)·onehot(y) − ε/V + 2ζ·lse·p
/// ```
///
/// The first two terms are PyTorch's `cross_entropy(label_smoothing=ε)`, the last is `PaLM`'s z-loss (Chowdhery et al.
/// 2022, §5). The default is plain cross-entropy.
///
/// Each value is accurate to a few unit round-offs of the largest quantity it is made of: `exp` and `ln_1p` err by less
/// than one unit in the last place, sums are compensated, and neither the loss of a confident prediction nor the
/// gradient at its label is computed as a difference of nearly equal numbers.
///
/// ```
/// use lossproof_numerics::CrossEntropy;
///
/// let loss = CrossEntropy::default().loss(&[0.0; 50_257], 11)?;
/// assert!((loss - 50_257.0_f64.ln()).abs() < 1e-14); // uniform logits: ln V
/// # Ok::<(), lossproof_numerics::CrossEntropyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// ε of label smoothing, in `[0, 1)`.
    pub label_smoothing: f64,
    /// ζ of the z-loss, finite and not negative.
    pub z_loss: f64,
}

impl CrossEntropy {
    /// The loss in nats of `label` under `logits`. `+inf` when the label's logit is `−inf` (probability zero), or any
    /// logit is under label smoothing.
    ///
    /// # Errors
    /// See [`CrossEntropyError`].
    pub fn loss(&self, logits: &[f64], label: usize) -> Result<f64, CrossEntropyError> {
        let shifted = self.check(logits, label)?;
        let mut loss = CompensatedSum::default();
        loss.add((1.0 - self.label_smoothing) * shifted.negative_log_probability(logits[label]));
        // Guarded: a term that is switched off must not turn an infinite loss into NaN.
        if self.label_smoothing > 0.0 {
            let all: CompensatedSum =
                logits.iter().map(|&logit| shifted.negative_log_probability(logit)).collect();
            loss.add(self.label_smoothing / logits.len() as f64 * all.value());
        }
        if self.z_loss > 0.0 {
            loss.add(self.z_loss * shifted.log_sum_exp().powi(2));
        }
        Ok(loss.value())
    }

    /// `∂ℓ/∂z`, one entry per logit. Finite also where the loss is not.
    ///
    /// # Errors
    /// See [`CrossEntropyError`].
    pub fn gradient(&self, logits: &[f64], label: usize) -> Result<Vec<f64>, CrossEntropyError> {
        let shifted = self.check(logits, label)?;
        let spread = self.label_smoothing / logits.len() as f64;
        let pull = 2.0 * self.z_loss * shifted.log_sum_exp();
        let probabilities: Vec<f64> = logits.iter().map(|&logit| shifted.probability(logit)).collect();
        let mut gradient: Vec<f64> = probabilities.iter().map(|p| p - spread + pull * p).collect();
        // p_y − 1 as −Σ_{c≠y} p_c: without cancellation where the model is nearly certain.
        let others = probabilities.iter().enumerate().filter(|&(class, _)| class != label).map(|(_, p)| -p);
        let mut at_label: CompensatedSum = others.collect();
        at_label.extend([self.label_smoothing, -spread, pull * probabilities[label]]);
        gradient[label] = at_label.value();
        Ok(gradient)
    }

    fn check(&self, logits: &[f64], label: usize) -> Result<Shifted, CrossEntropyError> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(CrossEntropyError::LabelSmoothing { value: self.label_smoothing });
        }
        if !self.z_loss.is_finite() || self.z_loss < 0.0 {
            return Err(CrossEntropyError::ZLoss { value: self.z_loss });
        }
        if let Some(class) = logits.iter().position(|&logit| logit.is_nan() || logit == f64::INFINITY) {
            return Err(CrossEntropyError::Logit { class, value: logits[class] });
        }
        if !logits.is_empty() && label >= logits.len() {
            return Err(CrossEntropyError::Label { label, classes: logits.len() });
        }
        Shifted::new(logits)
    }
}

/// `Σ_c exp z_c` as `exp(max)·(1 + rest)`, so that no exponential overflows and the logarithm keeps its digits when one
/// class has all the probability.
struct Shifted {
    max: f64,
    rest: f64,
}

impl Shifted {
    fn new(logits: &[f64]) -> Result<Self, CrossEntropyError> {
        let largest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (at, &max) = largest.ok_or(CrossEntropyError::Empty)?;
        if max == f64::NEG_INFINITY {
            return Err(CrossEntropyError::NoDistribution { classes: logits.len() });
        }
        let others = logits.iter().enumerate().filter(|&(class, _)| class != at);
        let rest: CompensatedSum = others.map(|(_, logit)| (logit - max).exp()).collect();
        Ok(Self { max, rest: rest.value() })
    }

    fn log_sum_exp(&self) -> f64 {
        self.max + self.rest.ln_1p()
    }

    fn negative_log_probability(&self, logit: f64) -> f64 {
        (self.max - logit) + self.rest.ln_1p()
    }

    fn probability(&self, logit: f64) -> f64 {
        (logit - self.max).exp() / (1.0 + self.rest)
    }
}

/// Why a cross-entropy is not defined.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrossEntropyError {
    /// No class to choose from.
    #[error("there are no logits: cross-entropy needs at least one class")]
    Empty,
    /// A label that is no class.
    #[error("label {label} is not below the number of classes {classes}: skip ignored labels before asking")]
    Label {
        /// The label.
        label: usize,
        /// Number of logits.
        classes: usize,
    },
    /// A logit that is NaN or `+inf`.
    #[error("logit {value} of class {class} is neither finite nor -inf: check the forward pass")]
    Logit {
        /// Index of the first such logit.
        class: usize,
        /// Its value.
        value: f64,
    },
    /// Every logit is `−inf`.
    #[error("all {classes} logits are -inf, which is no distribution: mask fewer classes")]
    NoDistribution {
        /// Number of logits.
        classes: usize,
    },
    /// An ε outside `[0, 1)`.
    #[error("label smoothing {value} is not in [0, 1)")]
    LabelSmoothing {
        /// The value.
        value: f64,
    },
    /// A ζ that is negative or not finite.
    #[error("z-loss factor {value} is not finite and at least 0")]
    ZLoss {
        /// The value.
        value: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep;

    const U: f64 = f64::EPSILON / 2.0;
    const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0, z_loss: 0.0 };
    const EVERYTHING: CrossEntropy = CrossEntropy { label_smoothing: 0.1, z_loss: 1e-2 };

    /// Probabilities 1/6, 2/6, 3/6; `log Σ exp = ln 6`.
    fn sixths() -> [f64; 3] {
        [0.0, 2.0_f64.ln(), 3.0_f64.ln()]
    }

    fn close(found: f64, expected: f64, bound: f64) {
        assert!((found - expected).abs() <= bound, "{found} is not within {bound:e} of {expected}");
    }

    fn all_close(found: &[f64], expected: &[f64], bound: f64) {
        assert_eq!(found.len(), expected.len());
        for (&found, &expected) in found.iter().zip(expected) {
            close(found, expected, bound);
        }
    }

    #[test]
    fn plain_values_by_hand() {
        close(PLAIN.loss(&sixths(), 2).unwrap(), 2.0_f64.ln(), 4.0 * U);
        close(PLAIN.loss(&sixths(), 0).unwrap(), 6.0_f64.ln(), 8.0 * U);
        all_close(&PLAIN.gradient(&sixths(), 2).unwrap(), &[1.0 / 6.0, 2.0 / 6.0, -0.5], 2.0 * U);
    }

    #[test]
    fn label_smoothing_by_hand() {
        let smooth = CrossEntropy { label_smoothing: 0.3, ..PLAIN };
        let expected = 0.7 * 2.0_f64.ln() + 0.1 * (6.0_f64.ln() + 3.0_f64.ln() + 2.0_f64.ln());
        close(smooth.loss(&sixths(), 2).unwrap(), expected, 8.0 * U);
        let expected = [1.0 / 6.0 - 0.1, 2.0 / 6.0 - 0.1, 0.5 - 0.1 - 0.7];
        all_close(&smooth.gradient(&sixths(), 2).unwrap(), &expected, 4.0 * U);
    }

    #[test]
    fn z_loss_by_hand() {
        let z = CrossEntropy { z_loss: 0.25, ..PLAIN };
        let lse = 6.0_f64.ln();
        close(z.loss(&sixths(), 2).unwrap(), 2.0_f64.ln() + 0.25 * lse * lse, 8.0 * U);
        let expected = [1.0, 2.0, 3.0].map(|sixths| sixths / 6.0 * (1.0 + 0.5 * lse));
        let expected = [expected[0], expected[1], expected[2] - 1.0];
        all_close(&z.gradient(&sixths(), 2).unwrap(), &expected, 4.0 * U);
    }

    #[test]
    fn a_constant_added_to_the_logits_changes_nothing_without_z_loss() {
        // Multiples of 2^−10, so that the shifted logits are exact and so must be the invariance.
        let logits: Vec<f64> = (0..40).map(|i| f64::from(i * i % 37 - 18) / 1024.0 * 128.0).collect();
        let smooth = CrossEntropy { z_loss: 0.0, ..EVERYTHING };
        for shift in [1.0, -3.5, 1e4, -1e6] {
            let shifted: Vec<f64> = logits.iter().map(|logit| logit + shift).collect();
            for loss in [PLAIN, smooth] {
                assert_eq!(loss.loss(&logits, 7), loss.loss(&shifted, 7));
                assert_eq!(loss.gradient(&logits, 7), loss.gradient(&shifted, 7));
            }
        }
        let shifted: Vec<f64> = logits.iter().map(|logit| logit + 1.0).collect();
        assert_ne!(EVERYTHING.loss(&logits, 7), EVERYTHING.loss(&shifted, 7));
    }

    #[test]
    fn the_gradient_sums_to_zero_without_z_loss() {
        let logits: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 0.7).sin() * 9.0).collect();
        for loss in [PLAIN, CrossEntropy { z_loss: 0.0, ..EVERYTHING }] {
            let gradient = loss.gradient(&logits, 3).unwrap();
            let sum: CompensatedSum = gradient.iter().copied().collect();
            let size: f64 = gradient.iter().map(|g| g.abs()).sum();
            // Every entry is rounded a handful of times.
            close(sum.value(), 0.0, 8.0 * U * size);
        }
    }

    #[test]
    fn a_nearly_certain_prediction_keeps_its_digits() {
        let tiny = (-40.0_f64).exp();
        close(PLAIN.loss(&[0.0, -40.0], 0).unwrap(), tiny, 2.0 * U * tiny);
        all_close(&PLAIN.gradient(&[0.0, -40.0], 0).unwrap(), &[-tiny, tiny], 2.0 * U * tiny);
    }

    #[test]
    fn finite_differences_agree() {
        let logits = [0.3, -1.2, 2.0, 0.0, -4.5];
        for loss in [PLAIN, EVERYTHING] {
            let gradient = loss.gradient(&logits, 1).unwrap();
            for (class, &derivative) in gradient.iter().enumerate() {
                let estimate = sweep(0.125, 8, |h| {
                    let mut moved = logits;
                    moved[class] += h;
                    loss.loss(&moved, 1).map(|value| vec![value])
                });
                let estimate = estimate.unwrap().contract(&[1.0]);
                assert!(estimate.uncertainty < 1e-11, "{estimate:?}");
                close(estimate.value, derivative, estimate.uncertainty);
            }
        }
    }

    #[test]
    fn classes_of_probability_zero() {
        let logits = [0.0, f64::NEG_INFINITY, 0.0];
        let smooth = CrossEntropy { label_smoothing: 0.3, ..PLAIN };
        close(PLAIN.loss(&logits, 0).unwrap(), 2.0_f64.ln(), 2.0 * U);
        all_close(&PLAIN.gradient(&logits, 0).unwrap(), &[-0.5, 0.0, 0.5], U);
        assert_eq!(PLAIN.loss(&logits, 1), Ok(f64::INFINITY));
        assert_eq!(PLAIN.gradient(&logits, 1), Ok(vec![0.5, -1.0, 0.5]));
        assert_eq!(smooth.loss(&logits, 0), Ok(f64::INFINITY));
        all_close(&smooth.gradient(&logits, 0).unwrap(), &[-0.3, -0.1, 0.4], 2.0 * U);
    }

    #[test]
    fn what_is_not_defined_is_refused() {
        use CrossEntropyError as E;
        assert_eq!(PLAIN.loss(&[], 0), Err(E::Empty));
        assert_eq!(PLAIN.loss(&[0.0, 1.0], 2), Err(E::Label { label: 2, classes: 2 }));
        assert!(matches!(PLAIN.gradient(&[0.0, f64::NAN], 0), Err(E::Logit { class: 1, .. })));
        assert_eq!(PLAIN.loss(&[f64::INFINITY, 0.0], 1), Err(E::Logit { class: 0, value: f64::INFINITY }));
        assert_eq!(PLAIN.loss(&[f64::NEG_INFINITY; 2], 1), Err(E::NoDistribution { classes: 2 }));
        let unsmooth = CrossEntropy { label_smoothing: 1.0, ..PLAIN };
        assert_eq!(unsmooth.loss(&[0.0], 0), Err(E::LabelSmoothing { value: 1.0 }));
        let negative = CrossEntropy { z_loss: -1.0, ..PLAIN };
        assert_eq!(negative.gradient(&[0.0], 0), Err(E::ZLoss { value: -1.0 }));
    }
}
