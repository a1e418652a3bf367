//! Update rules in closed form and f64: what one optimizer step must make of parameters and gradients.

use lossproof_spec::{Adam, EpsilonPlacement, Optimizer, Rule};

/// One parameter under an optimizer.
///
/// `d` is the gradient with what the rule adds to it, `g + λ·θ` under coupled decay. Where the two cancel, a
/// rounding error of `d` is one unit round-off of `D = |g| + |λ·θ|`, and the same happens to the moments over
/// the steps.
#[derive(Clone, Debug)]
pub struct Updated {
    /// Its values after the steps so far.
    pub values: Vec<f64>,
    /// What rounding of each value is relative to. With `M` and `V` the moments of `D` instead of `d`, it is
    /// `|θ| + lr·M` under SGD. Under Adam it is `|θ| + lr·(M + |m|·√(V/v))/c₁/denominator`: an error of `v`
    /// is at most a unit round-off of `2·√(v·V)`, by Cauchy and Schwarz.
    pub magnitudes: Vec<f64>,
    shape: Vec<usize>,
    /// The velocity, or `m`.
    first: Vec<f64>,
    /// `M`.
    first_magnitude: Vec<f64>,
    /// `v`.
    second: Vec<f64>,
    /// `V`.
    second_magnitude: Vec<f64>,
    steps: u32,
}

impl Updated {
    /// A parameter of this shape that starts from these values, without optimizer state.
    #[must_use]
    pub fn new(values: Vec<f64>, shape: Vec<usize>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self {
            magnitudes: values.iter().map(|value| value.abs()).collect(),
            values,
            shape,
            first: zeros.clone(),
            first_magnitude: zeros.clone(),
            second: zeros.clone(),
            second_magnitude: zeros,
            steps: 0,
        }
    }

    /// Of each element, the velocity of SGD or Adam's first moment, and Adam's second moment; both before any
    /// correction.
    pub fn moments(&self) -> impl Iterator<Item = (f64, f64)> {
        self.first.iter().copied().zip(self.second.iter().copied())
    }

    /// Takes one step from `values` (the subject's own, so that roundings do not add up over the steps) with
    /// a gradient that is unscaled and clipped.
    pub fn step(&mut self, optimizer: &Optimizer, learning_rate: f64, values: &[f64], gradient: &[f64]) {
        self.steps += 1;
        self.values.copy_from_slice(values);
        match optimizer.rule {
            Rule::Sgd { momentum, weight_decay } => {
                for (i, &g) in gradient.iter().enumerate() {
                    let value = self.values[i];
                    let decay = weight_decay * value;
                    if self.steps == 1 {
                        (self.first[i], self.first_magnitude[i]) = (g + decay, g.abs() + decay.abs());
                    } else {
                        self.first[i] = momentum * self.first[i] + g + decay;
                        self.first_magnitude[i] = momentum * self.first_magnitude[i] + g.abs() + decay.abs();
                    }
                    self.values[i] = value - learning_rate * self.first[i];
                    self.magnitudes[i] = value.abs() + learning_rate * self.first_magnitude[i];
                }
            }
            Rule::Adam(adam) => self.adam(&adam, learning_rate, gradient, false),
            Rule::AdamW(adam) => self.adam(&adam, learning_rate, gradient, true),
        }
    }

    fn adam(&mut self, adam: &Adam, learning_rate: f64, gradient: &[f64], decoupled: bool) {
        let decay = if adam.decayed.includes(&self.shape) { adam.weight_decay } else { 0.0 };
        let k = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (c1, c2) = (1.0 - adam.beta_1.powi(k), 1.0 - adam.beta_2.powi(k));
        for (i, &g) in gradient.iter().enumerate() {
            let value = self.values[i];
            let (start, g, size) = if decoupled {
                (value - learning_rate * decay * value, g, g.abs())
            } else {
                (value, g + decay * value, g.abs() + (decay * value).abs())
            };
            self.first[i] = adam.beta_1 * self.first[i] + (1.0 - adam.beta_1) * g;
            self.first_magnitude[i] = adam.beta_1 * self.first_magnitude[i] + (1.0 - adam.beta_1) * size;
            self.second[i] = adam.beta_2 * self.second[i] + (1.0 - adam.beta_2) * g * g;
            self.second_magnitude[i] =
                adam.beta_2 * self.second_magnitude[i] + (1.0 - adam.beta_2) * size * size;
            let root = self.second[i].sqrt();
            let denominator = match adam.epsilon_placement {
                EpsilonPlacement::AfterCorrection => root / c2.sqrt() + adam.epsilon,
                EpsilonPlacement::BeforeCorrection => (root + adam.epsilon) / c2.sqrt(),
            };
            // Nothing over nothing, with ε = 0 and no gradient yet, is no update.
            let per = |moment: f64| {
                if moment.abs() > 0.0 { learning_rate * moment / c1 / denominator } else { 0.0 }
            };
            self.values[i] = start - per(self.first[i]);
            let cancelled =
                if self.second[i] > 0.0 { self.second_magnitude[i] / self.second[i] } else { 1.0 };
            let size = self.first_magnitude[i] + self.first[i].abs() * cancelled.sqrt();
            self.magnitudes[i] = value.abs() + per(size);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Numbers by hand, from the formulas of the papers.

    use super::*;
    use approx::assert_relative_eq;
    use lossproof_spec::Decayed;

    /// β₁ = ½, β₂ = ¾, ε = ½. With a gradient of 2 and then of −2 the corrected first moment is 2 and then
    /// (½·1 − ½·2)/(1 − ¼) = −2/3, and the corrected second 4 and then (¾·1 + ¼·4)/(1 − 9/16) = 4.
    const NUMBERS: Adam = Adam {
        beta_1: 0.5,
        beta_2: 0.75,
        epsilon: 0.5,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.0,
        decayed: Decayed::All,
    };

    /// The parameter 1 after steps with these gradients, at the learning rate ½.
    fn steps(rule: Rule, shape: &[usize], gradients: &[f64]) -> Vec<f64> {
        let optimizer = Optimizer { rule, ..Optimizer::sgd(0.5) };
        let mut updated = Updated::new(vec![1.0], shape.to_vec());
        let mut seen = Vec::new();
        for gradient in gradients {
            let before = updated.values.clone();
            updated.step(&optimizer, 0.5, &before, &[*gradient]);
            seen.push(updated.values[0]);
        }
        seen
    }

    #[test]
    fn sgd_adds_its_decay_to_the_gradient_and_gathers_velocity() {
        // v = 2 + ½·1 = 5/2, then ½·5/2 − 1 + ½·(−¼) = 1/8.
        let rule = Rule::Sgd { momentum: 0.5, weight_decay: 0.5 };
        let seen = steps(rule, &[1], &[2.0, -1.0]);
        assert_relative_eq!(seen[0], 1.0 - 0.5 * 2.5);
        assert_relative_eq!(seen[1], -0.25 - 0.5 * 0.125);
    }

    #[test]
    fn adam_corrects_both_moments() {
        // 1 − ½·2/(2 + ½), then + ½·(2/3)/(2 + ½).
        let seen = steps(Rule::Adam(NUMBERS), &[1], &[2.0, -2.0]);
        assert_relative_eq!(seen[0], 0.6, max_relative = 1e-15);
        assert_relative_eq!(seen[1], 11.0 / 15.0, max_relative = 1e-15);
    }

    #[test]
    fn epsilon_before_the_correction_is_corrected_too() {
        // (√1 + ½)/√¼ = 3, then (√(7/4) + ½)/√(7/16) = 2 + 2/√7.
        let before = Adam { epsilon_placement: EpsilonPlacement::BeforeCorrection, ..NUMBERS };
        let seen = steps(Rule::Adam(before), &[1], &[2.0, -2.0]);
        assert_relative_eq!(seen[0], 2.0 / 3.0, max_relative = 1e-15);
        let second = 2.0 / 3.0 + 1.0 / (3.0 * (2.0 + 2.0 / 7.0_f64.sqrt()));
        assert_relative_eq!(seen[1], second, max_relative = 1e-15);
    }

    #[test]
    fn adam_couples_its_decay_and_adamw_does_not() {
        // g + λ·θ = 1 + 1·1 = 2, then −2.6 + 1·0.6 = −2.
        let coupled = Adam { weight_decay: 1.0, ..NUMBERS };
        let seen = steps(Rule::Adam(coupled), &[1], &[1.0, -2.6]);
        assert_relative_eq!(seen[0], 0.6, max_relative = 1e-15);
        assert_relative_eq!(seen[1], 11.0 / 15.0, max_relative = 1e-15);
        // (1 − ½·½)·1 − 0.4, then (1 − ½·½)·0.35 + 2/15.
        let decoupled = Adam { weight_decay: 0.5, ..NUMBERS };
        let seen = steps(Rule::AdamW(decoupled), &[1], &[2.0, -2.0]);
        assert_relative_eq!(seen[0], 0.35, max_relative = 1e-15);
        assert_relative_eq!(seen[1], 0.2625 + 2.0 / 15.0, max_relative = 1e-15);
    }

    #[test]
    fn only_what_is_declared_decays() {
        let matrices = Adam { weight_decay: 0.5, decayed: Decayed::Matrices, ..NUMBERS };
        let rule = Rule::AdamW(matrices);
        assert_relative_eq!(steps(rule, &[1], &[2.0])[0], 0.6, max_relative = 1e-15);
        assert_relative_eq!(steps(rule, &[1, 1], &[2.0])[0], 0.35, max_relative = 1e-15);
    }

    #[test]
    fn nothing_over_nothing_is_no_update() {
        let rule = Rule::Adam(Adam { epsilon: 0.0, ..NUMBERS });
        assert_relative_eq!(steps(rule, &[1], &[0.0])[0], 1.0);
    }

    #[test]
    fn magnitudes_grow_where_the_decay_cancels_the_gradient() {
        let optimizer =
            Optimizer { rule: Rule::Adam(Adam { weight_decay: 1.0, ..NUMBERS }), ..Optimizer::sgd(0.5) };
        // From θ and g, d = 2 with D = 2 and with D = 4: M is half of D, and V a quarter of its square.
        for ([value, gradient], sizes) in [([1.0, 1.0], 1.0 + 1.0), ([-1.0, 3.0], 2.0 + 2.0)] {
            let mut updated = Updated::new(vec![value], vec![1]);
            updated.step(&optimizer, 0.5, &[value], &[gradient]);
            assert_relative_eq!(updated.magnitudes[0], 1.0 + 0.5 * sizes / 0.5 / 2.5);
        }
    }
}
