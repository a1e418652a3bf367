//! libtorch's own optimizers, under what was declared.

use crate::{failure, parameters::Parameters, unsupported};
use lossproof_spec::{Adam, Clip, Decayed, EpsilonPlacement, Optimizer, Rule};
use lossproof_subject::Unsupported;
use tch::{COptimizer, Kind, TchError, Tensor};

/// Parameter groups of an optimizer.
const DECAYED: usize = 0;
const UNDECAYED: usize = 1;

/// An optimizer in force.
pub(crate) struct Started {
    pub(crate) declared: Optimizer,
    rule: COptimizer,
    /// What `rule` updates: a replica of the trained parameters, whose gradients exist from the start.
    pub(crate) leaves: Vec<Tensor>,
    /// Steps taken so far; skipped ones are not.
    pub(crate) steps: u32,
}

impl Started {
    pub(crate) fn new(declared: &Optimizer, parameters: &Parameters) -> Result<Self, Unsupported> {
        check(declared)?;
        let refused = |error: TchError| unsupported(format!("this optimizer: {}", failure::message(&error)));
        let (mut rule, decayed) = rule(declared).map_err(refused)?;
        let mut leaves = parameters.replica().map_err(refused)?;
        leaves.retain(Tensor::requires_grad);
        for (leaf, info) in leaves.iter().zip(parameters.infos()) {
            // tch cannot set the gradient of a tensor, but what a backward pass has made can be written to.
            leaf.f_sum(None).and_then(|sum| sum.f_backward()).map_err(refused)?;
            let group = if decayed.includes(&info.shape) { DECAYED } else { UNDECAYED };
            rule.add_parameters(leaf, group).map_err(refused)?;
        }
        if decayed == Decayed::Matrices {
            rule.set_weight_decay_group(UNDECAYED, 0.0).map_err(refused)?;
        }
        Ok(Self { declared: *declared, rule, leaves, steps: 0 })
    }

    pub(crate) fn learning_rate(&self) -> f64 {
        self.declared.learning_rate_at(self.steps)
    }

    /// Updates the parameters, or leaves them as they are and fails; the state of the rule is then of no more
    /// use.
    pub(crate) fn update(&mut self, gradients: &[Tensor]) -> Result<(), TchError> {
        let _no_graph = tch::no_grad_guard();
        let before = self.leaves.iter().map(Tensor::f_detach_copy).collect::<Result<Vec<_>, _>>()?;
        for (leaf, gradient) in self.leaves.iter().zip(gradients) {
            leaf.f_grad()?.f_copy_(gradient)?;
        }
        self.rule.set_learning_rate(self.learning_rate())?;
        if let Err(error) = self.rule.step() {
            for (leaf, before) in self.leaves.iter_mut().zip(&before) {
                leaf.f_copy_(before)?;
            }
            return Err(error);
        }
        self.steps = self.steps.saturating_add(1);
        Ok(())
    }
}

/// Refuses numbers that libtorch never sees or does not look at.
fn check(declared: &Optimizer) -> Result<(), Unsupported> {
    let refuse = |what: &str, value: f64| Err(unsupported(format!("{what} {value}")));
    if !declared.learning_rate.is_finite() {
        return refuse("the learning rate", declared.learning_rate);
    }
    if !(declared.loss_scale.is_finite() && declared.loss_scale > 0.0) {
        return refuse("the loss scale", declared.loss_scale);
    }
    if let Some(Clip { max_norm, epsilon }) = declared.clip {
        if max_norm.is_nan() || max_norm < 0.0 {
            return refuse("clipping to the norm", max_norm);
        }
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return refuse("clipping with the epsilon", epsilon);
        }
    }
    match declared.rule {
        Rule::Adam(adam) | Rule::AdamW(adam)
            if adam.epsilon_placement == EpsilonPlacement::BeforeCorrection =>
        {
            Err(unsupported(
                "Adam's ε before the bias correction: its own optimizers add it after".to_owned(),
            ))
        }
        _ => Ok(()),
    }
}

/// libtorch's optimizer of this rule, still without parameters, and what it decays.
fn rule(declared: &Optimizer) -> Result<(COptimizer, Decayed), TchError> {
    let rate = declared.learning_rate;
    let (dampening, nesterov, amsgrad) = (0.0, false, false);
    Ok(match declared.rule {
        Rule::Sgd { momentum, weight_decay } => {
            (COptimizer::sgd(rate, momentum, dampening, weight_decay, nesterov)?, Decayed::All)
        }
        Rule::Adam(Adam { beta_1, beta_2, epsilon, weight_decay, decayed, .. }) => {
            (COptimizer::adam(rate, beta_1, beta_2, weight_decay, epsilon, amsgrad)?, decayed)
        }
        Rule::AdamW(Adam { beta_1, beta_2, epsilon, weight_decay, decayed, .. }) => {
            (COptimizer::adamw(rate, beta_1, beta_2, weight_decay, epsilon, amsgrad)?, decayed)
        }
    })
}

/// Gradients with the loss scale undone, zeros like the parameter where no loss reached it: to libtorch a
/// parameter without a gradient takes no part in the step, not even in the decay.
pub(crate) fn unscaled<'a>(
    scaled: Vec<Option<Tensor>>,
    parameters: impl Iterator<Item = &'a Tensor>,
    loss_scale: f64,
) -> Result<Vec<Tensor>, TchError> {
    let unscale = |(scaled, parameter): (Option<Tensor>, &Tensor)| match scaled {
        Some(mut gradient) => gradient.f_div_scalar_(loss_scale),
        None => parameter.f_zeros_like(),
    };
    scaled.into_iter().zip(parameters).map(unscale).collect()
}

pub(crate) fn all_finite(tensors: &[Tensor]) -> Result<bool, TchError> {
    for tensor in tensors {
        if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The norm of the norms of all tensors, and those, in f64: squares of an f32 gradient that is finite may not
/// be in f32.
pub(crate) fn norms(tensors: &[Tensor]) -> Result<(f64, Vec<f64>), TchError> {
    let norm = |tensor: &Tensor| tensor.f_norm_scalaropt_dtype(2.0, Kind::Double);
    let each = Tensor::f_stack(&tensors.iter().map(norm).collect::<Result<Vec<_>, _>>()?, 0)?;
    let mut values = vec![0.0; tensors.len()];
    each.f_copy_data(&mut values, tensors.len())?;
    Ok((each.f_norm()?.f_double_value(&[])?, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gpt2Config, Mixture};
    use tch::Device;

    fn values(parameters: &Parameters) -> Vec<Vec<f64>> {
        let flat = |tensor: &Tensor| Vec::<f64>::try_from(tensor.reshape([-1])).unwrap();
        parameters.tensors().iter().map(flat).collect()
    }

    /// libtorch's optimizers update one parameter after the other; a gradient of another shape stops them
    /// halfway.
    #[test]
    fn an_update_that_fails_halfway_is_undone() {
        let parameters =
            Parameters::initial(&Gpt2Config::PICO, &Mixture::default(), (Kind::Double, Device::Cpu)).unwrap();
        let gradients: Vec<_> = parameters.tensors().iter().map(Tensor::ones_like).collect();
        let before = values(&parameters);
        let numbers = Adam {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay: 0.1,
            decayed: Decayed::All,
        };
        let rules =
            [Rule::Sgd { momentum: 0.9, weight_decay: 0.1 }, Rule::Adam(numbers), Rule::AdamW(numbers)];
        for rule in rules {
            let declared = Optimizer { rule, ..Optimizer::sgd(0.1) };
            let mut started = Started::new(&declared, &parameters).unwrap();
            let last = started.leaves.last().unwrap();
            last.grad().set_data(&Tensor::zeros([3, 8], (Kind::Double, Device::Cpu)));
            assert!(started.update(&gradients).is_err());
            assert_eq!(values(&parameters), before, "{rule:?}");
        }
        let mut started = Started::new(&Optimizer::sgd(0.1), &parameters).unwrap();
        started.update(&gradients).unwrap();
        assert_ne!(values(&parameters), before);
    }
}
