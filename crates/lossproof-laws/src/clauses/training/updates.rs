//! Clauses of group 10: what the updates of a training are made of, and what is logged of them.

use super::accepted::{adam, clipped};
use super::plan::{DROPOUT, epochs, times_met};
use super::rates;
use super::replay::{Replayed, trained_norm};
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_spec::{Adam, Decayed, Dtype, GlobalBatch, LossSpec, Role, Rule};
use lossproof_subject::{PlannedSchedule, TensorSet, TrainingPlan, TrainingTrace};
use rand::RngExt;
use std::collections::BTreeSet;

/// Cases of a campaign that a training is run for: it costs many passes.
const ENOUGH: usize = 32;

impl Trial<'_> {
    /// Whether this case is one of those that a training is run for.
    pub(super) fn trains(&self) -> bool {
        self.facts.turn.among(ENOUGH).is_some()
    }

    /// The embeddings and the first block, of what is trained.
    fn front(&self) -> BTreeSet<String> {
        let embeds = |role: Role| matches!(role, Role::TokenEmbedding | Role::PositionEmbedding);
        let parameters = self.facts.parameters.iter();
        let first = parameters.clone().filter_map(|info| info.block).min();
        let front = parameters.filter(|info| embeds(info.role) || (info.block == first && first.is_some()));
        front.map(|info| info.name.clone()).collect()
    }

    /// Holds the number of updates to that of the plan. Other laws hold those that there are to their samples: a
    /// window that is dropped would break them all.
    fn number_of_updates(&mut self, plan: &TrainingPlan, trace: &TrainingTrace) {
        let (found, expected) = (trace.updates().count(), plan.updates());
        self.fact("number of updates", found == expected, || {
            format!("{found} updates were made, and the plan has {expected}")
        });
        let mut skipped = trace.updates().map(|update| update.skipped);
        // In half precision a gradient overflows until its scale is found.
        let too_many = if self.facts.coarsest() == Dtype::F16 {
            found > 0 && skipped.all(|skipped| skipped)
        } else {
            skipped.any(|skipped| skipped)
        };
        self.fact("skipped updates", !too_many, || {
            "updates were skipped, and their gradients are finite".to_owned()
        });
    }

    /// Holds the norm that is logged of an update, where one is, to that of its gradient.
    fn logged_norm(&mut self, what: &str, of: &Replayed<'_>, expected: f64) {
        if let Some(found) = of.update.grad_norm {
            let bound = self.whole_gradient_bound(&of.window);
            self.number(what, "grad norm", bound, (found, expected), expected);
        }
    }

    /// Whether nothing moves a parameter from one set to another; `other` may have been loaded, and rounded then.
    pub(super) fn same_values(&self, one: &TensorSet, other: &TensorSet, name: &str) -> bool {
        let (Some(one), Some(other)) = (one.get(name), other.get(name)) else { return false };
        let held = self.facts.parameters.iter().find(|info| info.name == name);
        let dtype = held.map_or(Dtype::F64, |info| self.facts.info.held_in(info));
        let rounding = dtype.unit_roundoff();
        // Below its normal numbers half precision has steps of 2⁻²⁴.
        let least = if dtype == Dtype::F16 { (-25.0_f64).exp2() } else { 0.0 };
        let same = |one: f64, other: f64| {
            one.total_cmp(&other).is_eq() || (one - other).abs() <= rounding * other.abs() + least
        };
        one.shape() == other.shape() && (0..one.elements()).all(|at| same(one.get(at), other.get(at)))
    }
}

/// Every sample comes once in an epoch, and every update but the last is whole.
pub(crate) fn samples_once(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.plan()?;
    let plan = trial.with_a_rest(plan)?;
    let plan = trial.accepted(&spec, &plan)?;
    let trace = trial.train(&spec, &plan, None)?;
    trial.number_of_updates(&plan, &trace);
    let epochs = epochs(&trace);
    trial.fact("number of epochs", epochs.len() == plan.epochs as usize, || {
        format!("{} epochs, and the plan has {}", epochs.len(), plan.epochs)
    });
    for epoch in 0..plan.epochs as usize {
        let updates = epochs.get(epoch).map_or(&[][..], |(updates, _)| updates);
        let times = times_met(&plan, updates.iter().copied());
        for (unit, wrong) in [
            ("samples met never", times.contains(&0)),
            ("samples met twice", times.iter().any(|&times| times > 1)),
        ] {
            trial.fact(unit, !wrong, || {
                let counts: Vec<String> = times.iter().map(ToString::to_string).collect();
                format!("epoch {epoch} meets its samples {} times", counts.join(", "))
            });
        }
        let window = plan.window();
        for (number, update) in updates.iter().enumerate() {
            let samples = update.indices().count();
            let whole = number + 1 < updates.len();
            trial.fact("samples of an update", samples == window || (!whole && samples < window), || {
                format!("update {number} of epoch {epoch} has {samples} samples, a whole one has {window}")
            });
        }
    }
    // That these are the samples which the parameters moved for is what 10.2 says.
    Ok(trial.shows_the_rest(&plan))
}

/// Every update is the rule's, on the gradient of its own samples at their weights.
pub(crate) fn training_update(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let mut plan = trial.plan()?;
    plan.rule = match trial.random.random_range(0..4) {
        0 => plan.rule,
        1 | 2 => Rule::Sgd { momentum: 0.5, weight_decay: 0.125 },
        _ => Rule::AdamW(Adam { decayed: Decayed::Matrices, ..adam(0.125) }),
    };
    let plan = trial.accepted(&spec, &plan)?;
    let trace = trial.train(&spec, &plan, None)?;
    trial.number_of_updates(&plan, &trace);
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    trial.rule_of_training(&plan, &replayed, None)?;
    Ok(trial.shows_the_rest(&plan))
}

/// The learning rate advances once per update, whatever the ranks, and ends with the training.
pub(crate) fn training_schedule(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = TrainingPlan { schedule: PlannedSchedule::Linear, ..trial.plan()? };
    let plan = trial.accepted(&spec, &plan)?;
    let trace = trial.train(&spec, &plan, None)?;
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    trial.rule_of_training(&plan, &replayed, None)?;
    let counted = || replayed.iter().filter(|one| one.computed.is_some());
    let rates: Option<Vec<f64>> = counted().map(|one| one.update.learning_rate).collect();
    let like = rates.and_then(|rates| rates::likeness(&plan, &rates));
    let like = like.map_or_else(String::new, |like| format!(", as if {like}"));
    for (k, one) in counted().enumerate() {
        let expected = plan.learning_rate_of(k);
        if let Some(found) = one.update.learning_rate {
            let unit = if plan.ranks > 1 { "learning rate" } else { "learning rate of one rank" };
            trial.factor(&format!("update {k}{like}"), unit, found, expected);
        }
    }
    Ok(true)
}

/// The norm that is logged is that of the whole gradient before clipping, and clipping is by it.
pub(crate) fn training_clipping(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.plan()?;
    let clip = trial.clip_of(&spec, &plan)?;
    let plan = trial.first_accepted(&spec, &clipped(&plan, clip))?;
    let trace = trial.train(&spec, &plan, None)?;
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    trial.rule_of_training(&plan, &replayed, None)?;
    let mut clipped = false;
    for (k, one) in replayed.iter().enumerate() {
        let Some(computed) = &one.computed else { continue };
        let expected = trained_norm(&plan, &computed.gradient);
        if k == 0 && matches!(plan.rule, Rule::Sgd { .. }) {
            trial.along_the_gradient(one, computed)?;
        }
        clipped |= plan.clip.is_some_and(|clip| clip.factor(expected) < 1.0);
        trial.logged_norm(&format!("update {k}: norm of the gradient before clipping"), one, expected);
    }
    Ok(clipped)
}

/// What is logged of an update and of an epoch is the loss of what was trained on.
pub(crate) fn training_loss(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let plan = trial.plan()?;
    let plan = trial.accepted(&spec, &plan)?;
    let trace = trial.train(&spec, &plan, None)?;
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    let mut tells = false;
    for (k, one) in replayed.iter().enumerate() {
        if let (Some(found), Some(computed)) = (one.update.loss, &one.computed) {
            let expected = (found, computed.loss());
            let bound = trial.loss_bound(&one.window);
            let scale = computed.loss_scale();
            trial.number(&format!("update {k}: logged loss"), "logged loss", bound, expected, scale);
            tells = true;
        }
    }
    let means_tokens = |batch: &GlobalBatch| {
        let mean =
            LossSpec { label_smoothing: spec.label_smoothing, z_loss: spec.z_loss, ..LossSpec::token_mean() };
        !crate::clauses::reductions::differ(&spec, &mean, batch)
    };
    // Where what is logged of an update is of a part of it, nothing says what an epoch's loss is of.
    let of_the_whole =
        |one: &Replayed<'_>| one.computed.as_ref().is_none_or(|own| trial.reports_the_whole(own));
    if replayed.iter().all(|one| means_tokens(&one.window) && of_the_whole(one)) {
        let mut rest = replayed.iter();
        for (epoch, (updates, logged)) in epochs(&trace).iter().enumerate() {
            let (mut sum, mut tokens, mut bound) = (0.0, 0.0, 0.0_f64);
            // Those that were skipped may be counted or not.
            let all = updates.iter().all(|update| !update.skipped);
            for one in rest.by_ref().take(updates.len()) {
                let Some(computed) = &one.computed else { continue };
                let own = one.window.layout().supervised() as f64;
                sum += own * computed.loss();
                tokens += own;
                bound = bound.max(trial.loss_bound(&one.window));
            }
            let expected = sum / tokens;
            if let (Some(found), true) = (*logged, all && tokens > 0.0) {
                let what = format!("epoch {epoch}: logged loss");
                trial.number(&what, "epoch loss", bound, (found, expected), expected.abs().max(1.0));
                tells = true;
            }
        }
    }
    if tells {
        Ok(trial.shows_the_rest(&plan))
    } else if replayed.is_empty() {
        Ok(false)
    } else {
        Err(Ended::Unsupported("logging a loss of training".to_owned()))
    }
}

/// What is not trained does not move, and the rest moves as ever.
pub(crate) fn frozen(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let mut plan = trial.plan()?;
    // Decay would move what has no gradient.
    plan.rule = Rule::Sgd { momentum: 0.5, weight_decay: 0.125 };
    let names: Vec<String> = trial.facts.parameters.iter().map(|info| info.name.clone()).collect();
    let odd = usize::from(trial.random.random::<bool>());
    plan.frozen = names.iter().skip(odd).step_by(2).cloned().collect();
    let mut plans = vec![plan];
    if trial.random.random::<bool>() {
        // What is frozen has no part in the norm that clipping is by.
        let clip = trial.clip_of(&spec, &plans[0])?;
        plans.splice(0..0, clipped(&plans[0], clip));
    }
    // There are trainers that freeze whole blocks from the front, and nothing else.
    let front = trial.front();
    if !front.is_empty() {
        let others: Vec<_> =
            plans.iter().map(|plan| TrainingPlan { frozen: front.clone(), ..plan.clone() }).collect();
        plans.extend(others);
    }
    let plan = trial.first_accepted(&spec, &plans)?;
    let start = trial.start_of_training()?;
    let trace = trial.train(&spec, &plan, None)?;
    let replayed = trial.replay_training(&spec, &plan, &trace)?;
    trial.rule_of_training(&plan, &replayed, None)?;
    for (k, one) in replayed.iter().enumerate() {
        if let Some(computed) = &one.computed {
            let expected = trained_norm(&plan, &computed.gradient);
            trial.logged_norm(&format!("update {k}: norm of the gradient of what is trained"), one, expected);
        }
    }
    for name in &plan.frozen {
        let stays = replayed.iter().all(|one| trial.same_values(&one.update.parameters, &start, name));
        trial.fact(&format!("{name} stays"), stays, || format!("{name} is frozen, and it moves"));
    }
    Ok(plan.frozen.len() < names.len())
}

/// How the samples of an update are divided changes nothing, with dropout where the masks are the samples'.
pub(crate) fn training_split(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.global()?;
    let limits = trial.facts.info.limits;
    let mut plan = trial.plan()?;
    let drops = trial.training()?.masks_of_samples() && trial.random.random::<bool>();
    plan.dropout = if drops { DROPOUT } else { 0.0 };
    let without = TrainingPlan { dropout: 0.0, ..plan.clone() };
    let plan = trial.first_accepted(&spec, &[plan, without])?;
    if !matches!(plan.rule, Rule::Sgd { .. }) {
        // Whatever multiplies a gradient leaves Adam's first update as it is.
        return Err(Ended::Unsupported("SGD in a training".to_owned()));
    }
    let window = plan.window();
    let whole = TrainingPlan { batch: window, accumulate: 1, ranks: 1, ..plan.clone() };
    let takes_it =
        limits.sequences.contains(window) && limits.micro_batches.contains(1) && limits.ranks.contains(1);
    if window == plan.batch || !takes_it {
        return Ok(false);
    }
    trial.training()?.accepts(&whole)?;
    let divided = trial.train(&spec, &plan, None)?;
    let together = trial.train(&spec, &whole, None)?;
    trial.return_to_the_trial()?;
    let samples = |trace: &TrainingTrace| -> Vec<BTreeSet<usize>> {
        trace.updates().map(|update| update.indices().collect()).collect()
    };
    if samples(&divided).first() != samples(&together).first() {
        // A sampler may depend on how many ranks there are.
        return Ok(false);
    }
    // Only the first update starts from the same parameters.
    let start = trial.start_of_training()?;
    if let (Some(one), Some(other)) = (divided.updates().next(), together.updates().next()) {
        if one.skipped || other.skipped {
            return Ok(false);
        }
        let window = one.batch(&plan).ok_or(Ended::NotApplicable)?;
        let after = (&one.parameters, &other.parameters);
        trial.same_move("divided into micro-batches and ranks", &window, &start, after)?;
    }
    Ok(true)
}
