//! `AdamW` with a warm-up and a linear schedule, and clipping by the global norm.

use super::{Bug, parameters::Parameters, settings::Settings};
use candle_core::{DType, Result, Tensor};
use std::collections::BTreeMap;

/// Tensors by the names of the parameters that they belong to.
pub(super) type Gradients = BTreeMap<String, Tensor>;

/// Numbers of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate behind the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly; 0 and 1 mean none.
    pub warm_up: u32,
    /// The step, from 0, at which a learning rate that falls linearly behind the warm-up is zero; it stays as
    /// it is without.
    pub last_step: Option<u32>,
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε, added to the root of the corrected second moment.
    pub epsilon: f64,
    /// λ of weights with two dimensions; norms and biases do not decay.
    pub weight_decay: f64,
    /// Norm that a gradient is clipped to, and what is added to the norm that it is divided by.
    pub clip: Option<[f64; 2]>,
}

impl AdamWConfig {
    /// The learning rate of a step, counted from 0.
    pub(super) fn learning_rate_at(&self, step: u32) -> f64 {
        let warm_up = self.warm_up.max(1);
        let risen = (f64::from(step) + 1.0) / f64::from(warm_up);
        let left = self.last_step.map_or(1.0, |last| {
            f64::from(last.saturating_sub(step)) / f64::from(last.saturating_sub(warm_up - 1).max(1))
        });
        self.learning_rate * risen.min(left).min(1.0)
    }

    /// What a gradient of this norm is multiplied with.
    pub(super) fn clip_factor(&self, norm: f64) -> f64 {
        self.clip.map_or(1.0, |[largest, epsilon]| (largest / (norm + epsilon)).min(1.0))
    }
}

/// The optimizer and its moments.
pub(super) struct AdamW {
    pub(super) config: AdamWConfig,
    /// Steps that were taken.
    pub(super) step: u32,
    /// First and second moment of each parameter.
    moments: BTreeMap<String, [Tensor; 2]>,
}

impl AdamW {
    pub(super) fn new(config: AdamWConfig) -> Self {
        Self { config, step: 0, moments: BTreeMap::new() }
    }

    /// Moves the parameters by one step.
    pub(super) fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        settings: &Settings,
    ) -> Result<()> {
        let AdamWConfig { betas: [beta_1, beta_2], epsilon, weight_decay, .. } = self.config;
        let rate = self.config.learning_rate_at(self.step);
        self.step += 1;
        let corrected = !settings.has(Bug::NoBiasCorrection);
        let correction = |beta: f64| if corrected { 1.0 - beta.powf(f64::from(self.step)) } else { 1.0 };
        for (name, variable) in parameters.iter() {
            let Some(gradient) = gradients.get(name) else { continue };
            let [first, second] = match self.moments.remove(name) {
                Some(moments) => moments,
                None => [gradient.zeros_like()?, gradient.zeros_like()?],
            };
            let first = ((first * beta_1)? + (gradient * (1.0 - beta_1))?)?;
            let second = ((second * beta_2)? + (gradient.sqr()? * (1.0 - beta_2))?)?;
            let divisor = ((&second / correction(beta_2))?.sqrt()? + epsilon)?;
            let direction = ((&first / correction(beta_1))? / divisor)?;
            let decays = variable.rank() >= 2 || settings.has(Bug::DecayOnNorms);
            let kept = if decays { 1.0 - rate * weight_decay } else { 1.0 };
            // Detached, so that no step keeps the graph of the one before it.
            let value = variable.as_detached_tensor();
            variable.set(&((value * kept)? - (direction * rate)?)?)?;
            self.moments.insert(name.to_owned(), [first, second]);
        }
        Ok(())
    }
}

/// The norm of each tensor, in the order of their names.
pub(super) fn norms(gradients: &Gradients) -> Result<Vec<f64>> {
    let mut norms = Vec::new();
    for gradient in gradients.values() {
        // In f64, because the square of a small f32 is zero.
        let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        norms.push(square.sqrt());
    }
    Ok(norms)
}

/// The norm of all together.
pub(super) fn global_norm(norms: &[f64]) -> f64 {
    norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt()
}

/// Multiplies all of them.
pub(super) fn scale(gradients: &mut Gradients, factor: f64) -> Result<()> {
    for gradient in gradients.values_mut() {
        *gradient = (&*gradient * factor)?;
    }
    Ok(())
}
