//! Clauses about a loss that is not a number: it is logged as what it is, and an update that is skipped for it
//! counts nowhere.

use super::updates::same_values;
use crate::clauses::step::all_finite;
use crate::trial::{CaseOutcome, Ended, Trial, replace, values};
use lossproof_cases::edit::{cut_off, edit, id, plain};
use lossproof_spec::{Dtype, LossSpec, Role, Rule};
use lossproof_subject::{PlannedSchedule, TensorSet, TrainingPlan, TrainingTrace};

/// What makes one sample of a plan have no finite loss.
struct Poison {
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
        let mut plan = TrainingPlan { schedule: PlannedSchedule::Linear, ..self.plan()? };
        plan.training.retain(plain);
        plan = self.with_several_updates(plan)?;
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
        let double = self.facts.slope_dtype(&name) == Dtype::F64;
        let largest = if double { f64::MAX } else { f64::from(f32::MAX) };
        for value in rows.iter_mut().skip(row * width).take(width) {
            *value = largest;
        }
        replace(&mut parameters, &name, rows)?;
        Ok((plan, Poison { sample: longest, parameter: name, parameters }))
    }

    /// The plan as the trainer takes it: without a schedule where it has none.
    fn accepted_with_schedule(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
    ) -> Result<TrainingPlan, Ended> {
        match self.accepted(spec, plan) {
            Err(Ended::Unsupported(_)) => {
                self.accepted(spec, &TrainingPlan { schedule: PlannedSchedule::Constant, ..plan.clone() })
            }
            answer => answer,
        }
    }

    /// Runs the plan at these parameters. Those of the trial are in force again afterwards.
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
        trace
    }
}

/// A loss that is not a number is logged as one.
pub(crate) fn not_a_number(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let (plan, poison) = trial.poisoned()?;
    let plan = trial.accepted_with_schedule(&spec, &plan)?;
    let trace = trial.train_at(&spec, &plan, &poison.parameters)?;
    let mut before = &poison.parameters;
    let mut tells = false;
    for (k, update) in trace.updates().enumerate() {
        if !all_finite(before) {
            break;
        }
        if update.indices().any(|index| index == poison.sample) {
            // Whether the sum of the largest numbers reaches the loss depends on the model.
            let reaches = update.skipped || !all_finite(&update.parameters);
            if let (true, Some(found)) = (reaches, update.loss) {
                trial.fact("loss that is none", !found.is_finite(), || {
                    format!("update {k} met a sample without a finite loss, and {found} is logged for it")
                });
                tells = true;
            }
        }
        before = &update.parameters;
    }
    Ok(tells)
}

/// An update that is skipped leaves everything as it was.
pub(crate) fn skipped_update(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let (mut plan, poison) = trial.poisoned()?;
    plan.rule = Rule::Sgd { momentum: 0.5, weight_decay: 0.0 };
    let plan = trial.accepted_with_schedule(&spec, &plan)?;
    let trace = trial.train_at(&spec, &plan, &poison.parameters)?;
    if !trace.updates().any(|update| update.skipped) {
        return Ok(false);
    }
    for (k, update) in trace.updates().enumerate().filter(|(_, update)| update.skipped) {
        let for_a_reason = update.indices().any(|index| index == poison.sample);
        trial.fact("skipped for a reason", for_a_reason, || {
            format!("update {k} is skipped, and its samples have finite losses")
        });
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
            let stays = names.all(|name| same_values(&one.update.parameters, &one.before, name));
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
