//! Update rules in closed form and f64: what one optimizer step must make of parameters and gradients.

use lossproof_spec::{Adam, EpsilonPlacement, Optimizer, Rule};

/// One parameter under an optimizer.
#[derive(Clone, Debug)]
pub struct Updated {
    /// Its values after the steps so far.
    pub values: Vec<f64>,
    /// What rounding of a value is relative to: the value, and the update with all terms of its sums positive.
    pub magnitudes: Vec<f64>,
    shape: Vec<usize>,
    first: Vec<f64>,
    first_magnitude: Vec<f64>,
    second: Vec<f64>,
    steps: u32,
}

impl Updated {
    /// A parameter of this shape that starts from these values, without optimizer state.
    #[must_use]
    pub fn new(values: Vec<f64>, shape: Vec<usize>) -> Self {
        let zeros = vec![0.0; values.len()];
        let (first, first_magnitude, second) = (zeros.clone(), zeros.clone(), zeros);
        Self { magnitudes: values.clone(), values, shape, first, first_magnitude, second, steps: 0 }
    }

    /// Of each element, the velocity of SGD or Adam's first moment, and Adam's second moment; both before any correction.
    pub fn moments(&self) -> impl Iterator<Item = (f64, f64)> {
        self.first.iter().copied().zip(self.second.iter().copied())
    }

    /// Takes one step from `values` (the subject's own, so that roundings do not add up over the steps) with a gradient that
    /// is unscaled and clipped.
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
            self.magnitudes[i] = value.abs() + per(self.first_magnitude[i]);
        }
    }
}
