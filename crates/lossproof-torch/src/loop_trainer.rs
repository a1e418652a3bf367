//! The trainer as a training loop drives it, call by call.
//!
//! The update rules are written in tensor operations here: the moments of libtorch's own optimizers cannot be read
//! through tch, and a checkpoint needs them.

use crate::{
    Failure,
    begun::Begun,
    objective::{self, Count},
    padded::Padded,
    parameters::fill,
    recomputation::Kept,
    started::norms,
    subject::Torch,
    threads::OneThread,
    unsupported,
};
use lossproof_spec::{EpsilonPlacement, Group, LossSpec, Rule, Scope};
use lossproof_subject::{
    Dropout, GradientSink, LoopTrainer, Moment, Observation, OptimizerSteps, SubjectError, TensorSet,
    TrainerState, TrainingBatch, Unsupported, check_gradient, check_state,
};
use std::collections::BTreeSet;
use tch::{TchError, Tensor};

/// Refuses the numbers that no rule of PyTorch takes.
fn check(rule: &Rule) -> Result<(), Unsupported> {
    let not_negative = |what: &str, value: f64| {
        if value >= 0.0 { Ok(()) } else { Err(unsupported(format!("a {what} of {value}"))) }
    };
    match rule {
        Rule::Sgd { momentum, weight_decay } => {
            not_negative("momentum", *momentum)?;
            not_negative("weight decay", *weight_decay)
        }
        Rule::Adam(adam) | Rule::AdamW(adam) => {
            if adam.epsilon_placement == EpsilonPlacement::BeforeCorrection {
                return Err(unsupported("Adam's ε before the bias correction".to_owned()));
            }
            for beta in [adam.beta_1, adam.beta_2] {
                if !(0.0..1.0).contains(&beta) {
                    return Err(unsupported(format!("Adam with a β of {beta}")));
                }
            }
            not_negative("ε", adam.epsilon)?;
            not_negative("weight decay", adam.weight_decay)
        }
    }
}

impl Torch {
    fn begun(&mut self) -> Result<&mut Begun, Failure> {
        self.begun.as_mut().ok_or_else(|| {
            Failure::new(
                "no training was begun: call `LoopTrainer::begin` first, and again after a reset or a load"
                    .to_owned(),
            )
        })
    }

    fn make_begun(
        &self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<Begun, TchError> {
        let zeros = |moment: Moment| -> Result<Vec<Tensor>, TchError> {
            let kept = moment.belongs_to(rule);
            self.parameters.trained().filter(|_| kept).map(Tensor::f_zeros_like).collect()
        };
        Ok(Begun {
            rule: *rule,
            decays: self.parameters.infos().iter().map(|info| !undecayed.contains(&info.name)).collect(),
            frozen: self.parameters.infos().iter().map(|info| frozen.contains(&info.name)).collect(),
            updates: 0,
            first: zeros(Moment::First)?,
            second: zeros(Moment::Second)?,
            leaves: self.parameters.replica()?,
        })
    }

    fn backward_of_micro_batch(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Result<Observation, Failure> {
        if dropout.drops() && !self.config.architecture().has_dropout() {
            return Err(Failure::new(format!(
                "{} has no dropout: train it with every probability at 0",
                self.config.name()
            )));
        }
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let own = LossSpec { scope: Scope::MicroBatch, ..*loss };
        let padded = Padded::training(batch, dropout);
        let count = Count::of(Group::MicroBatch(0), [&padded], own.empty);
        let leaves = self.begun_leaves()?;
        let model = self.model(&leaves)?;
        let kept = if self.recomputes { Some(Kept::of(&*model, &padded)?) } else { None };
        let logits = match &kept {
            Some(kept) => model.head(&kept.head_input, &padded)?,
            None => model.logits(&padded)?,
        };
        let token_losses = {
            let _no_graph = tch::no_grad_guard();
            objective::token_losses(&own, &logits, &padded)?
        };
        let mut logged = 0.0;
        if let Some(loss) = objective::loss(&own, &logits, &padded, &count, 0)? {
            if count.tokens > 0 {
                loss.f_mul_scalar(factor)?.f_backward()?;
                if let Some(kept) = kept {
                    kept.backward(&*model, &padded)?;
                }
            }
            logged = loss.f_double_value(&[])?;
        }
        Ok(Observation {
            loss: logged,
            token_losses: Some(objective::scored(&token_losses, &padded)?),
            supervised_tokens: Some(count.tokens),
        })
    }

    fn gradients_so_far(&mut self) -> Result<Vec<Tensor>, Failure> {
        Ok(self.begun()?.gradients()?)
    }

    fn norms_of_gradient(&mut self) -> Result<Vec<f64>, Failure> {
        Ok(norms(&self.gradients_so_far()?)?.1)
    }

    fn begun_leaves(&mut self) -> Result<Vec<Tensor>, Failure> {
        Ok(self.begun()?.leaves.iter().map(Tensor::shallow_clone).collect())
    }

    fn make_update(&mut self, learning_rate: f64, factor: f64) -> Result<(), Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let _no_graph = tch::no_grad_guard();
        self.begun()?;
        self.parameters.keep_initial()?;
        let updated = self.begun()?.updated(learning_rate, factor)?;
        let mut live: Vec<Tensor> = self.parameters.trained().map(Tensor::shallow_clone).collect();
        for (live, updated) in live.iter_mut().zip(&updated) {
            live.f_copy_(updated)?;
        }
        let begun = self.begun()?;
        begun.updates = begun.updates.saturating_add(1);
        Ok(())
    }

    fn put_back(&mut self, state: &TrainerState) -> Result<(), Failure> {
        let _no_graph = tch::no_grad_guard();
        let names: Vec<String> = self.parameters.infos().iter().map(|info| info.name.clone()).collect();
        self.parameters.keep_initial()?;
        let mut live: Vec<Tensor> = self.parameters.trained().map(Tensor::shallow_clone).collect();
        fill(&mut live, &names, &state.parameters)?;
        let begun = self.begun()?;
        fill(&mut begun.first, &names, &state.first_moments)?;
        fill(&mut begun.second, &names, &state.second_moments)?;
        begun.updates = state.updates;
        self.forget_gradient()
    }

    fn put_gradient(&mut self, gradient: &TensorSet) -> Result<(), Failure> {
        let names: Vec<String> = self.parameters.infos().iter().map(|info| info.name.clone()).collect();
        let leaves = self.parameters.replica()?;
        let mut gradients = Vec::with_capacity(names.len());
        for leaf in leaves.iter().filter(|leaf| leaf.requires_grad()) {
            // tch cannot set the gradient of a tensor, but what a backward pass has made can be written to.
            leaf.f_sum(None)?.f_backward()?;
            gradients.push(leaf.f_grad()?);
        }
        let _no_graph = tch::no_grad_guard();
        fill(&mut gradients, &names, gradient)?;
        self.begun()?.leaves = leaves;
        Ok(())
    }

    fn forget_gradient(&mut self) -> Result<(), Failure> {
        let leaves = self.parameters.replica()?;
        self.begun()?.leaves = leaves;
        Ok(())
    }
}

impl LoopTrainer for Torch {
    fn begin(
        &mut self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<(), Unsupported> {
        self.begun = None;
        check(rule)?;
        for name in undecayed {
            if !self.parameters.infos().iter().any(|info| info.name == *name) {
                return Err(unsupported(format!("leaving `{name}` undecayed: it trains no such parameter")));
            }
        }
        for name in frozen {
            if !self.parameters.infos().iter().any(|info| info.name == *name) {
                return Err(unsupported(format!("freezing `{name}`: it trains no such parameter")));
            }
        }
        let refused = |error: TchError| unsupported(crate::failure::message(&error));
        self.begun = Some(self.make_begun(rule, undecayed, frozen).map_err(refused)?);
        Ok(())
    }

    fn backward(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Result<Observation, SubjectError> {
        self.limits().check(&batch.global())?;
        Ok(self.backward_of_micro_batch(batch, loss, factor, dropout)?)
    }

    fn gradient_norms(&mut self) -> Result<Vec<f64>, SubjectError> {
        Ok(self.norms_of_gradient()?)
    }

    fn read_gradient(&mut self, gradient: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let tensors = self.gradients_so_far()?;
        Ok(self.hand_over(tensors.into_iter().map(Some), gradient)?)
    }

    fn write_gradient(&mut self, gradient: &TensorSet) -> Result<(), SubjectError> {
        self.begun()?;
        check_gradient(self, gradient)?;
        Ok(self.put_gradient(gradient)?)
    }

    fn update(&mut self, learning_rate: f64, factor: f64) -> Result<(), SubjectError> {
        Ok(self.make_update(learning_rate, factor)?)
    }

    fn zero_gradient(&mut self) -> Result<(), SubjectError> {
        Ok(self.forget_gradient()?)
    }

    fn supervised_losses(&mut self, batch: &TrainingBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(&batch.global())?;
        Ok(self.evaluated(batch)?)
    }

    fn read_parameters(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        OptimizerSteps::read(self, parameters)
    }

    fn read_moments(&mut self, moment: Moment, moments: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let begun = self.begun()?;
        let tensors = match moment {
            Moment::First => &begun.first,
            Moment::Second => &begun.second,
        };
        let tensors: Vec<_> = tensors.iter().map(|tensor| Some(tensor.shallow_clone())).collect();
        Ok(self.hand_over(tensors, moments)?)
    }

    fn updates(&self) -> u32 {
        self.begun.as_ref().map_or(0, |begun| begun.updates)
    }

    fn restore(&mut self, state: &TrainerState) -> Result<(), SubjectError> {
        let rule = self.begun()?.rule;
        check_state(self, &rule, state)?;
        Ok(self.put_back(state)?)
    }
}

impl Torch {
    fn evaluated(&self, batch: &TrainingBatch) -> Result<Vec<f64>, Failure> {
        let _no_graph = tch::no_grad_guard();
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let padded = Padded::training(batch, &Dropout::NONE);
        let logits = self.model(self.parameters.tensors())?.logits(&padded)?;
        let losses = objective::token_losses(&LossSpec::sum(), &logits, &padded)?;
        Ok(objective::scored(&losses, &padded)?)
    }
}
