//! Clauses about a loss that is not a number: it is logged as what it is, and an update that is skipped for it
//! counts nowhere.

use super::{accepted::adam, plan::epochs};
use crate::trial::{CaseOutcome, Ended, Trial, replace, values};
use lossproof_cases::edit::{cut_off, edit, id, plain};
use lossproof_spec::{Dtype, LossSpec, Role, Rule};
use lossproof_subject::{SubjectError, TensorSet, TracedUpdate, TrainingPlan, TrainingTrace};
use rand::RngExt;

/// What makes one sample of a plan have no finite loss.
struct Poison {
    /// The index of the sample.
    sample: usize,
    /// The name of the parameter whose values are that large.
    parameter: String,
    parameters: TensorSet,
}

impl Trial<'_> {
    /// A plan one sample of which has no finite loss, and parameters that make it so: the position that only this
    /// sample reaches, or the token that only this one has, is embedded as the largest numbers there are, whose
    /// sum is infinite.
    fn poisoned(&mut self) -> Result<(TrainingPlan, Poison), Ended> {
        let mut plan = self.plan_over(plain)?;
        let lengths = self.facts.info.limits.lengths;
        let longest = (0..plan.training.len()).max_by_key(|&at| plan.training[at].len());
        let longest = longest.ok_or(Ended::NotApplicable)?;
        let length = plan.training[longest].len();
        let role = |role: Role| self.facts.parameters.iter().any(|info| info.role == role);
        let tied = self.facts.parameters.iter().any(|info| info.tied_to.is_some());
        let (name, row) = if role(Role::PositionEmbedding) && length > 2 && lengths.contains(length - 1) {
            for (at, sample) in plan.training.iter_mut().enumerate() {
                if at != longest && sample.len() == length {
                    *sample = cut_off(sample, length - 1);
                }
            }
            (self.named_by(Role::PositionEmbedding, "a position embedding")?, length - 1)
        } else if role(Role::TokenEmbedding) && !tied && self.facts.info.limits.free_labels {
            let last = self.vocabulary() - 1;
            for (at, sample) in plan.training.iter_mut().enumerate() {
                *sample = edit(sample, |fields| {
                    for token in &mut fields.input_ids {
                        if *token == id(last) {
                            *token = 0;
                        }
                    }
                    if at == longest {
                        fields.input_ids[0] = id(last);
                    }
                });
            }
            (self.named_by(Role::TokenEmbedding, "a token embedding")?, last)
        } else {
            return Err(Ended::NotApplicable);
        };
        if plan.training.iter().any(|sample| sample.supervised() == 0) {
            return Err(Ended::NotApplicable);
        }
        let mut parameters = self.parameters()?;
        let mut rows = values(&parameters, &name)?;
        let shape = parameters.get(&name).map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
        let width = shape.last().copied().unwrap_or(1);
        let largest = self.facts.slope_dtype(&name).largest();
        for value in rows.iter_mut().skip(row * width).take(width) {
            *value = largest;
        }
        replace(&mut parameters, &name, rows)?;
        Ok((plan, Poison { sample: longest, parameter: name, parameters }))
    }

    /// Parameters at which no sample has a finite loss.
    fn without_a_finite_loss(&mut self) -> Result<TensorSet, Ended> {
        // A capped logit is finite.
        self.exact_logit_scale()?;
        let gain = self.named_by(Role::FinalNormGain, "the gain of a final norm")?;
        let mut parameters = self.start_of_training()?;
        let held = self.facts.parameters.iter().find(|info| info.name == gain);
        let held = held.map_or(Dtype::F16, |info| self.facts.info.held_in(info));
        let computed_in = self.facts.info.dtypes.loss;
        if held == Dtype::F16 || (computed_in == Dtype::F64 && held != Dtype::F64) {
            // What is computed in has numbers beyond the largest that a parameter can be.
            return Err(Ended::Unsupported("parameters as large as the numbers it computes with".to_owned()));
        }
        let elements = values(&parameters, &gain)?.len();
        replace(&mut parameters, &gain, vec![held.largest(); elements])?;
        Ok(parameters)
    }

    /// Runs the plan at these parameters. Those of the trial are in force again afterwards.
    ///
    /// A trainer may end a training over a loss that is not a number: then there is nothing to hold.
    fn train_at(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
        parameters: &TensorSet,
    ) -> Result<TrainingTrace, Ended> {
        let own = self.start_of_training()?;
        self.load(parameters)?;
        let trace = self.train(spec, plan, None);
        self.load(&own)?;
        match trace {
            Err(Ended::Failed(SubjectError::Failed { .. })) => Err(Ended::Unsupported(
                "a training that goes on after a loss that is not a number".to_owned(),
            )),
            trace => trace,
        }
    }

    /// Holds a loop to log no number for an update with one sample that it logs none for by itself. Tells whether there
    /// was such an update.
    fn one_of_several(&mut self, spec: &LossSpec) -> CaseOutcome {
        let (plan, poison) = match self.poisoned() {
            Ok(poisoned) => poisoned,
            Err(Ended::NotApplicable | Ended::OutsideLimits(_) | Ended::Unsupported(_)) => return Ok(false),
            Err(ended) => return Err(ended),
        };
        let taken = match self.taken(spec, &plan) {
            Ok(plan) => TrainingPlan { learning_rate: plan.learning_rate / 64.0, ..plan },
            Err(Ended::NotApplicable | Ended::OutsideLimits(_) | Ended::Unsupported(_)) => return Ok(false),
            Err(ended) => return Err(ended),
        };
        let sample = plan.training[poison.sample].clone();
        let alone = TrainingPlan { training: vec![sample; plan.training.len()], ..taken.clone() };
        for plan in [&alone, &taken] {
            if self.training()?.accepts(plan).is_err() {
                return Ok(false);
            }
        }
        let first = |trace: &TrainingTrace| trace.updates().next().and_then(|update| update.loss);
        let of_itself = self.train_at(spec, &alone, &poison.parameters)?;
        if first(&of_itself).is_none_or(f64::is_finite) {
            return Ok(false);
        }
        let trace = self.train_at(spec, &taken, &poison.parameters)?;
        let meets = |update: &&TracedUpdate| update.indices().any(|index| index == poison.sample);
        let Some(update) = trace.updates().find(meets) else { return Ok(false) };
        let window = update.batch(&taken).ok_or(Ended::NotApplicable)?;
        let (true, Some(found)) = (self.facts.info.log_policy.logged(&window, spec) == [window], update.loss)
        else {
            return Ok(false);
        };
        self.fact("loss that is none beside others", !found.is_finite(), || {
            format!("an update has a sample without a finite loss among others, and {found} is logged for it")
        });
        Ok(true)
    }
}

/// A loss that is not a number is logged as one.
///
/// The gain of the final norm is the largest number there is. A normed vector has a mean square of one, so that one of
/// its elements leaves the range of all numbers and every logit with it: no sample has a finite loss.
pub(crate) fn not_a_number(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.plan()?;
    let plan = trial.accepted_with_schedule(&spec, &plan)?;
    let parameters = trial.without_a_finite_loss()?;
    let trace = trial.train_at(&spec, &plan, &parameters)?;
    let mut tells = false;
    for (k, update) in trace.updates().enumerate() {
        if let Some(found) = update.loss {
            trial.fact("loss that is none", !found.is_finite(), || {
                format!("update {k} met samples without a finite loss, and {found} is logged for it")
            });
            tells = true;
        }
    }
    for (epoch, (updates, logged)) in epochs(&trace).into_iter().enumerate() {
        // What was skipped may be left out of an epoch.
        let all = updates.iter().all(|update| !update.skipped);
        if let (Some(found), true, false) = (logged, all, updates.is_empty()) {
            trial.fact("epoch loss that is none", !found.is_finite(), || {
                format!("epoch {epoch} met samples without a finite loss, and {found} is logged for it")
            });
            tells = true;
        }
    }
    tells |= trial.one_of_several(&spec)?;
    if tells || trace.updates().next().is_none() {
        Ok(tells)
    } else {
        Err(Ended::Unsupported("logging a loss of training".to_owned()))
    }
}

/// An update that is skipped leaves everything as it was.
pub(crate) fn skipped_update(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let (mut plan, poison) = trial.poisoned()?;
    if trial.random.random::<bool>() {
        // Its count of steps is one more thing that a skipped update must not move.
        plan.rule = Rule::AdamW(adam(0.0));
    }
    let plan = trial.accepted_with_schedule(&spec, &plan)?;
    let trace = trial.train_at(&spec, &plan, &poison.parameters)?;
    if !trace.updates().any(|update| update.skipped) {
        return Ok(false);
    }
    for (k, update) in trace.updates().enumerate().filter(|(_, update)| update.skipped) {
        // That its samples have finite losses is no proof: a gradient can overflow where a loss does not.
        if let Some(logged) = update.grad_norm {
            trial.fact("skipped for a reason", !logged.is_finite(), || {
                format!("update {k} is skipped, and the norm that is logged for its gradient is finite")
            });
        }
    }
    let own = trial.start_of_training()?;
    trial.load(&poison.parameters)?;
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    trial.load(&own)?;
    let mut after_skip = false;
    let mut skipped = 0;
    for (k, one) in replayed.iter().enumerate() {
        if one.update.skipped {
            skipped += 1;
            let mut names = one.before.keys();
            let stays = names.all(|name| trial.same_values(&one.update.parameters, &one.before, name));
            trial.fact("skipped update", stays, || format!("update {k} is skipped, and it moves parameters"));
            continue;
        }
        after_skip |= skipped > 0;
        if let Some(found) = one.update.learning_rate {
            let expected = plan.learning_rate_of(k - skipped);
            trial.factor(&format!("update {k}, after {skipped} skipped"), "learning rate", found, expected);
        }
    }
    trial.rule_of_training(&plan, &replayed, Some(&poison.parameter))?;
    Ok(after_skip)
}
