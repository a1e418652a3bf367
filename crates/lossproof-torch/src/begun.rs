//! The training of a loop between its calls: moments, the gradient so far, and the update rules.

use crate::{parameters::gradients, started::unscaled};
use lossproof_spec::{Adam, Rule};
use tch::{TchError, Tensor};

/// What a loop has begun: an update rule, its moments and the gradient so far.
pub(crate) struct Begun {
    pub(crate) rule: Rule,
    /// Of each trained parameter, whether it decays.
    pub(crate) decays: Vec<bool>,
    /// Of each, whether it is not trained.
    pub(crate) frozen: Vec<bool>,
    pub(crate) updates: u32,
    /// Of each trained parameter, zero before the first update; empty for a rule without.
    pub(crate) first: Vec<Tensor>,
    pub(crate) second: Vec<Tensor>,
    /// A replica of all parameters, at which backward passes leave the gradient.
    pub(crate) leaves: Vec<Tensor>,
}

impl Begun {
    /// The gradient of each trained parameter, zeros where no loss has reached one yet.
    pub(crate) fn gradients(&self) -> Result<Vec<Tensor>, TchError> {
        unscaled(gradients(&self.leaves)?, self.trained(), 1.0)
    }

    fn trained(&self) -> impl Iterator<Item = &Tensor> {
        self.leaves.iter().filter(|leaf| leaf.requires_grad())
    }

    /// One update from `factor` times the gradient: what the parameters become.
    pub(crate) fn updated(&mut self, learning_rate: f64, factor: f64) -> Result<Vec<Tensor>, TchError> {
        let gradients = self.gradients()?;
        let parameters: Vec<Tensor> = self.trained().map(Tensor::shallow_clone).collect();
        let count = f64::from(self.updates) + 1.0;
        let mut updated = Vec::with_capacity(parameters.len());
        for (index, (parameter, gradient)) in parameters.iter().zip(&gradients).enumerate() {
            if self.frozen[index] {
                updated.push(parameter.shallow_clone());
                continue;
            }
            let gradient = gradient.f_mul_scalar(factor)?;
            let decays = self.decays[index];
            updated.push(match self.rule {
                Rule::Sgd { momentum, weight_decay } => {
                    let direction = decayed_into(gradient, parameter, decays, weight_decay)?;
                    let direction = match self.first.get_mut(index) {
                        Some(velocity) => velocity.f_mul_scalar_(momentum)?.f_add_(&direction)?,
                        None => direction,
                    };
                    parameter.f_sub(&direction.f_mul_scalar(learning_rate)?)?
                }
                Rule::Adam(adam) => {
                    let gradient = decayed_into(gradient, parameter, decays, adam.weight_decay)?;
                    let step = self.adam_step(index, &gradient, adam, learning_rate, count)?;
                    parameter.f_sub(&step)?
                }
                Rule::AdamW(adam) => {
                    let step = self.adam_step(index, &gradient, adam, learning_rate, count)?;
                    let shrinkage = if decays { 1.0 - learning_rate * adam.weight_decay } else { 1.0 };
                    parameter.f_mul_scalar(shrinkage)?.f_sub(&step)?
                }
            });
        }
        Ok(updated)
    }

    /// Adam's moments moved on, and what is taken from the parameter: `lr/c₁·m/(√v/√c₂ + ε)`.
    fn adam_step(
        &mut self,
        index: usize,
        gradient: &Tensor,
        adam: Adam,
        learning_rate: f64,
        count: f64,
    ) -> Result<Tensor, TchError> {
        let corrections = [adam.beta_1, adam.beta_2].map(|beta| 1.0 - beta.powf(count));
        let first = self.first[index].f_lerp_(gradient, 1.0 - adam.beta_1)?;
        let squares = gradient.f_square()?.f_mul_scalar(1.0 - adam.beta_2)?;
        let second = self.second[index].f_mul_scalar_(adam.beta_2)?.f_add_(&squares)?;
        let root = second.f_sqrt()?.f_div_scalar(corrections[1].sqrt())?;
        first.f_div(&root.f_add_scalar(adam.epsilon)?)?.f_mul_scalar(learning_rate / corrections[0])
    }
}

/// Decay coupled to the gradient: `g + λ·θ`.
fn decayed_into(
    gradient: Tensor,
    parameter: &Tensor,
    decays: bool,
    weight_decay: f64,
) -> Result<Tensor, TchError> {
    if decays && weight_decay > 0.0 {
        gradient.f_add(&parameter.f_mul_scalar(weight_decay)?)
    } else {
        Ok(gradient)
    }
}
