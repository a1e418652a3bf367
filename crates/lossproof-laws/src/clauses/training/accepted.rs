//! What a trainer's loop takes of a plan: a law asks for what it is about, and gives way in the rest.

use super::plan::{DROPOUT, rows_of_one_text};
use crate::trial::{Ended, Trial};
use lossproof_spec::{Adam, Clip, Decayed, EpsilonPlacement, LossSpec, Rule};
use lossproof_subject::{PlannedSchedule, TrainingPlan};

/// The ε of an Adam whose update depends on how large a gradient is: a gradient with a wrong factor shows.
const LARGE_EPSILON: f64 = 1.0 / 32.0;

impl Trial<'_> {
    /// The plan as the trainer takes it: with this rule or another one, and with as many ranks or one. A first
    /// update by SGD has a norm of at most 1.
    pub(super) fn accepted(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<TrainingPlan, Ended> {
        let mut plan = self.taken(spec, plan)?;
        plan.learning_rate = if matches!(plan.rule, Rule::Sgd { .. }) {
            self.return_to_the_trial()?;
            let norm = self.first_norm(spec, &plan)?;
            self.sgd_rate_at(norm)
        } else {
            self.adam_rate() / 8.0
        };
        // At this rate, too.
        self.training()?.accepts(&plan)?;
        Ok(plan)
    }

    /// The same at some learning rate.
    pub(super) fn taken(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<TrainingPlan, Ended> {
        self.subject.configure(spec)?;
        let mut numbers_of_ranks = vec![plan.ranks, self.facts.info.limits.ranks.least.max(1)];
        numbers_of_ranks.dedup();
        let mut refused = None;
        for rule in rules(&plan.rule) {
            for &ranks in &numbers_of_ranks {
                let plan = TrainingPlan { rule, ranks, learning_rate: 0.125, ..plan.clone() };
                match self.training()?.accepts(&plan) {
                    Ok(()) => return Ok(plan),
                    Err(why) => {
                        refused.get_or_insert(why);
                    }
                }
            }
        }
        Err(refused.map_or(Ended::NotApplicable, Ended::from))
    }

    /// The first of some plans that the trainer takes, with another rule if need be.
    ///
    /// # Errors
    /// What is wanting for the last of them, where it takes none.
    pub(super) fn first_accepted(
        &mut self,
        spec: &LossSpec,
        plans: &[TrainingPlan],
    ) -> Result<TrainingPlan, Ended> {
        let mut refused = Ended::NotApplicable;
        let all = self.facts.parameters.len();
        // Where nothing is trained there is no training.
        for plan in plans.iter().filter(|plan| plan.frozen.len() < all) {
            match self.accepted(spec, plan) {
                Err(end @ Ended::Unsupported(_)) => refused = end,
                answer => return answer,
            }
        }
        Err(refused)
    }

    /// The plan over rows of one text, each one token further, where the loop takes no others: there are loaders that
    /// cut nothing else.
    pub(super) fn with_samples_of_one_text(&mut self, plan: TrainingPlan) -> Result<TrainingPlan, Ended> {
        if self.takes(&plan)? {
            return Ok(plan);
        }
        let Some(training) = rows_of_one_text(&plan.training) else { return Ok(plan) };
        let cut = TrainingPlan { training, ..plan.clone() };
        Ok(if self.takes(&cut)? { cut } else { plan })
    }

    /// Whether the loop takes a plan, with another rule or on one rank if need be.
    fn takes(&mut self, plan: &TrainingPlan) -> Result<bool, Ended> {
        let spec = self.case.spec;
        match self.taken(&spec, plan) {
            Ok(_) => Ok(true),
            Err(Ended::Unsupported(_)) => Ok(false),
            Err(end) => Err(end),
        }
    }

    /// The plan with a rest of an epoch that fills no update. What limits say of micro-batches and ranks they say of
    /// batches: where those are whole, the loop itself says whether it can run the rest.
    pub(super) fn with_a_rest(&mut self, plan: TrainingPlan) -> Result<TrainingPlan, Ended> {
        let least = self.facts.info.limits.sequences.least.max(1);
        if !plan.training.len().is_multiple_of(plan.window()) || least >= plan.window() {
            return Ok(plan);
        }
        let mut longer = plan.clone();
        longer.training.extend(self.more_samples(&plan.training).take(least));
        let longer = self.with_samples_of_one_text(longer)?;
        Ok(if self.takes(&longer)? { longer } else { plan })
    }

    /// A plan with validations, as the trainer takes it: after every update, or at the ends of epochs alone.
    pub(super) fn accepted_with_validations(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
    ) -> Result<TrainingPlan, Ended> {
        let every = [1, 0].map(|evaluate_every| TrainingPlan { evaluate_every, ..plan.clone() });
        self.first_accepted(spec, &every)
    }

    /// A plan with dropout where the trainer has it.
    pub(super) fn accepted_with_dropout(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
    ) -> Result<TrainingPlan, Ended> {
        let both = [DROPOUT, 0.0].map(|dropout| TrainingPlan { dropout, ..plan.clone() });
        self.first_accepted(spec, &both)
    }

    /// A plan whose learning rate falls, where the trainer has that.
    pub(super) fn accepted_with_schedule(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
    ) -> Result<TrainingPlan, Ended> {
        let both = [PlannedSchedule::Linear, PlannedSchedule::Constant]
            .map(|schedule| TrainingPlan { schedule, ..plan.clone() });
        self.first_accepted(spec, &both)
    }
}

/// The plan with clipping to a norm, as loops have it: some add PyTorch's 1e-6 to the norm that they divide
/// by, and some nothing.
pub(super) fn clipped(plan: &TrainingPlan, clip: Clip) -> [TrainingPlan; 2] {
    [clip.epsilon, 0.0].map(|epsilon| TrainingPlan { clip: Some(Clip { epsilon, ..clip }), ..plan.clone() })
}

/// Adam as a plan has it, with this decay of every parameter.
pub(super) fn adam(weight_decay: f64) -> Adam {
    Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: LARGE_EPSILON,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay,
        decayed: Decayed::All,
    }
}

/// A rule, and what is asked for instead: the same with other numbers, such as loops have that do not let them be
/// chosen, then SGD, then Adam.
fn rules(wanted: &Rule) -> Vec<Rule> {
    let mut rules = Vec::new();
    let decay = match wanted {
        Rule::Sgd { weight_decay, .. } => *weight_decay,
        Rule::Adam(adam) | Rule::AdamW(adam) => adam.weight_decay,
    };
    if let Rule::Sgd { .. } = wanted {
        for weight_decay in [decay, 0.0] {
            rules.extend([0.5, 0.9, 0.0].map(|momentum| Rule::Sgd { momentum, weight_decay }));
        }
    }
    for weight_decay in [decay, 0.01, 0.0] {
        for decayed in [Decayed::All, Decayed::Matrices] {
            let own = numbers_of_adam(Adam { decayed, ..adam(weight_decay) });
            rules.extend(own.map(Rule::AdamW));
        }
    }
    rules.extend(numbers_of_adam(adam(0.0)).map(Rule::Adam));
    if !matches!(wanted, Rule::Sgd { .. }) {
        // A velocity is a state, too.
        rules.extend([0.5, 0.9, 0.0].map(|momentum| Rule::Sgd { momentum, weight_decay: 0.0 }));
    }
    let mut different = vec![*wanted];
    for rule in rules {
        if !different.contains(&rule) {
            different.push(rule);
        }
    }
    different
}

/// The same with the β₂ and the ε that loops have.
fn numbers_of_adam(adam: Adam) -> [Adam; 4] {
    [(0.95, LARGE_EPSILON), (0.999, LARGE_EPSILON), (0.95, 1e-8), (0.999, 1e-8)]
        .map(|(beta_2, epsilon)| Adam { beta_2, epsilon, ..adam })
}
