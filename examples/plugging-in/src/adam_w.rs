//! `AdamW` with a linear warm-up, and clipping by the global norm.

use crate::model::{self, PARAMETERS, Tensors};

/// Numbers of the optimizer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub learning_rate: f32,
    /// Steps over which the learning rate rises; 0 and 1 mean none.
    pub warm_up: u32,
    pub betas: [f32; 2],
    pub epsilon: f32,
    /// Of matrices; norms do not decay.
    pub weight_decay: f32,
    /// The largest norm of a gradient, and what is added to the norm that it is divided by.
    pub clip: Option<[f32; 2]>,
}

impl Settings {
    /// What a gradient of this norm is multiplied by.
    pub fn clip_factor(&self, norm: f32) -> f32 {
        self.clip.map_or(1.0, |[largest, epsilon]| (largest / (norm + epsilon)).min(1.0))
    }
}

/// The optimizer and its moments.
pub struct AdamW {
    pub settings: Settings,
    steps: u32,
    first: Tensors,
    second: Tensors,
}

impl AdamW {
    pub fn new(settings: Settings) -> Self {
        Self { settings, steps: 0, first: model::zeros(), second: model::zeros() }
    }

    /// Moves the parameters by one step along the clipped gradient. The learning rate that it took.
    pub fn update(&mut self, parameters: &mut Tensors, gradient: &Tensors, clip_factor: f32) -> f32 {
        let Settings { learning_rate, warm_up, betas: [beta_1, beta_2], epsilon, weight_decay, .. } =
            self.settings;
        self.steps += 1;
        let rate = learning_rate * (self.steps as f32 / warm_up.max(1) as f32).min(1.0);
        // 1 − βᵏ in f64: for β near 1 most digits of f32 would be lost.
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(f64::from(self.steps))) as f32;
        let (correction_1, correction_2) = (correction(beta_1), correction(beta_2));
        for (index, (_, shape)) in PARAMETERS.iter().enumerate() {
            let decay = if shape.len() > 1 { weight_decay } else { 0.0 };
            for (place, parameter) in parameters[index].iter_mut().enumerate() {
                let slope = clip_factor * gradient[index][place];
                let (first, second) = (&mut self.first[index][place], &mut self.second[index][place]);
                *first = beta_1 * *first + (1.0 - beta_1) * slope;
                *second = beta_2 * *second + (1.0 - beta_2) * slope * slope;
                let direction = (*first / correction_1) / ((*second / correction_2).sqrt() + epsilon);
                *parameter -= rate * (decay * *parameter + direction);
            }
        }
        rate
    }
}
