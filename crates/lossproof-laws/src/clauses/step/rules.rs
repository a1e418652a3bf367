//! Clauses 7.1 to 7.4, 7.6 and 7.8: clipping, the update rules, the schedule, and all of them together.

use super::closed_form::tensor_norm;
use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_cases::edit::alone;
use lossproof_numerics::norm;
use lossproof_spec::{Adam, Clip, Decayed, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{Limits, TensorSet};
use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};

impl Trial<'_> {
    /// A learning rate that moves the parameters visibly, exact in every dtype: for Adam, whose updates are
    /// of its size.
    pub(crate) fn adam_rate(&mut self) -> f64 {
        [0.5, 0.25, 0.125, 0.0625].choose(&mut self.random).copied().unwrap_or(0.125)
    }

    /// The same for SGD: the first update has a norm of at most 1. Where an update is larger than the
    /// parameters, a few more lead out of the range of the dtype.
    pub(crate) fn sgd_rate(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<f64, Ended> {
        let norm = norm_of(&self.gradient(spec, batch)?.gradient);
        Ok(self.sgd_rate_at(norm))
    }

    /// [`sgd_rate`](Self::sgd_rate) where the gradient has this norm.
    pub(crate) fn sgd_rate_at(&mut self, norm: f64) -> f64 {
        let share = [1.0, 0.5, 0.25].choose(&mut self.random).copied().unwrap_or(1.0);
        let largest = if norm > 0.0 && norm.is_finite() { (1.0 / norm).min(0.5) } else { 0.5 };
        share * largest.log2().floor().exp2()
    }

    /// Numbers of Adam. ε may stand on either side of the correction: [`offered`](Self::offered).
    pub(super) fn adam_numbers(&mut self) -> Adam {
        let decay = [0.0, 0.125, 0.01].choose(&mut self.random).copied().unwrap_or(0.0);
        let all = self.random.random::<bool>();
        let beta_1 = [0.9, 0.5].choose(&mut self.random).copied().unwrap_or(0.9);
        let beta_2 = [0.999, 0.95, 0.75].choose(&mut self.random).copied().unwrap_or(0.95);
        let epsilon = [1e-8, 1e-5].choose(&mut self.random).copied().unwrap_or(1e-8);
        let after = self.random.random::<bool>();
        Adam {
            beta_1,
            beta_2,
            epsilon,
            epsilon_placement: if after {
                EpsilonPlacement::AfterCorrection
            } else {
                EpsilonPlacement::BeforeCorrection
            },
            weight_decay: decay,
            decayed: if all { Decayed::All } else { Decayed::Matrices },
        }
    }

    /// A rule with these numbers, ε standing after the correction where the trainer has it only there.
    pub(super) fn offered(&mut self, rule: fn(Adam) -> Rule, numbers: Adam) -> Result<Rule, Ended> {
        let drawn = rule(numbers);
        if numbers.epsilon_placement == EpsilonPlacement::AfterCorrection || self.offers(drawn)? {
            return Ok(drawn);
        }
        Ok(rule(Adam { epsilon_placement: EpsilonPlacement::AfterCorrection, ..numbers }))
    }

    /// Whether the trainer has this rule.
    pub(crate) fn offers(&mut self, rule: Rule) -> Result<bool, Ended> {
        Ok(self.steps()?.start(&Optimizer { rule, ..Optimizer::sgd(0.125) }).is_ok())
    }

    /// A rule with decay and state and a rate that suits it, drawn among those that the trainer has. Where
    /// gradients do not repeat it is SGD.
    fn rule_with_decay(&mut self, norm: f64) -> Result<Option<(Rule, f64)>, Ended> {
        let numbers = Adam { weight_decay: 0.125, ..self.adam_numbers() };
        let sgd = Rule::Sgd { momentum: 0.5, weight_decay: 0.125 };
        let mut rules = vec![sgd];
        if self.facts.noise <= 0.0 {
            rules.push(self.offered(Rule::Adam, numbers)?);
            rules.push(self.offered(Rule::AdamW, numbers)?);
        }
        rules.shuffle(&mut self.random);
        for rule in rules {
            if self.offers(rule)? {
                let rate = if rule == sgd { self.sgd_rate_at(norm) } else { self.adam_rate() };
                return Ok(Some((rule, rate)));
            }
        }
        Ok(None)
    }

    /// Some steps on the batch of the case. Tells whether they move anything.
    fn equal_steps(&mut self, optimizer: &Optimizer, count: usize) -> CaseOutcome {
        let batch = self.case.batch.clone();
        let spec = self.spec(&[&batch])?;
        self.closed_form_steps(optimizer, &spec, &vec![&batch; count])?;
        Ok(self.moves())
    }

    /// The simplest rule that the trainer has, with a rate that suits steps on this batch: SGD, or else Adam
    /// without decay, or with it.
    pub(crate) fn simplest_rule(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Optimizer, Ended> {
        let norm = norm_of(&self.gradient(spec, batch)?.gradient);
        self.simplest_rule_at(norm)
    }

    /// [`simplest_rule`](Self::simplest_rule) where the gradient has this norm.
    fn simplest_rule_at(&mut self, norm: f64) -> Result<Optimizer, Ended> {
        let sgd = Optimizer::sgd(self.sgd_rate_at(norm));
        if self.offers(sgd.rule)? {
            return Ok(sgd);
        }
        let numbers = |weight_decay, decayed| Adam {
            beta_1: 0.5,
            beta_2: 0.75,
            epsilon: 1e-8,
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay,
            decayed,
        };
        let rate = self.adam_rate();
        for (weight_decay, decayed) in
            [(0.0, Decayed::All), (0.125, Decayed::All), (0.125, Decayed::Matrices)]
        {
            let numbers = numbers(weight_decay, decayed);
            for rule in [Rule::AdamW(numbers), Rule::Adam(numbers)] {
                if self.offers(rule)? {
                    return Ok(Optimizer { rule, ..Optimizer::sgd(rate) });
                }
            }
        }
        Err(Ended::Unsupported("an update rule: SGD, Adam or AdamW".to_owned()))
    }

    /// Whether a step on the case moves anything.
    pub(super) fn moves(&self) -> bool {
        self.case.batch.layout().supervised() > 0
    }
}

/// The norm of all tensors together.
pub(crate) fn norm_of(tensors: &TensorSet) -> f64 {
    let norms: Vec<f64> = tensors.values().map(tensor_norm).collect();
    norm(&norms)
}

/// `θ ← θ − lr·v` with `v ← μ·v + g + λ·θ`.
pub(crate) fn sgd(trial: &mut Trial<'_>) -> CaseOutcome {
    let momentum = [0.0, 0.5, 0.9].choose(&mut trial.random).copied().unwrap_or(0.0);
    let weight_decay = [0.0, 0.125].choose(&mut trial.random).copied().unwrap_or(0.0);
    let rule = Rule::Sgd { momentum, weight_decay };
    let batch = trial.case.batch.clone();
    let rate = trial.sgd_rate(&trial.spec(&[&batch])?, &batch)?;
    let optimizer = Optimizer { rule, ..Optimizer::sgd(rate) };
    trial.equal_steps(&optimizer, 3)
}

/// Adam with coupled decay and corrected bias.
pub(crate) fn adam(trial: &mut Trial<'_>) -> CaseOutcome {
    let numbers = trial.adam_numbers();
    let rule = trial.offered(Rule::Adam, numbers)?;
    let optimizer = Optimizer { rule, ..Optimizer::sgd(trial.adam_rate()) };
    trial.equal_steps(&optimizer, 3)
}

/// `AdamW`: the decay stands beside the gradient, and reaches the declared parameters alone.
pub(crate) fn adamw(trial: &mut Trial<'_>) -> CaseOutcome {
    let numbers = Adam { weight_decay: 0.125, ..trial.adam_numbers() };
    let rule = trial.offered(Rule::AdamW, numbers)?;
    let optimizer = Optimizer { rule, ..Optimizer::sgd(trial.adam_rate()) };
    trial.equal_steps(&optimizer, 3)
}

/// The whole gradient is clipped once, after everything has been accumulated.
pub(crate) fn clipping(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let gradient = trial.gradient(&spec, &batch)?;
    let norm = norm_of(&gradient.gradient);
    if norm <= 0.0 || !norm.is_finite() {
        return Ok(false);
    }
    // Half of the norm is clipped away, or nothing of it.
    let share = if trial.random.random::<bool>() { 0.5 } else { 2.0 };
    let clip = Clip { max_norm: share * norm, epsilon: 1e-6 };
    // A loss scale that is still on the gradient would be clipped with it.
    let loss_scale = [1.0, 16.0, 1024.0].choose(&mut trial.random).copied().unwrap_or(1.0);
    let rule = trial.simplest_rule_at(norm)?;
    let optimizer = Optimizer { clip: Some(clip), loss_scale, ..rule };
    // A first step of Adam is the same for every factor: a second one on another window shows it.
    let small = smallest(&batch, &trial.facts.info.limits);
    let adam = !matches!(rule.rule, Rule::Sgd { .. }) && spec == trial.spec(&[&batch, &small])?;
    let windows = if adam { vec![&batch, &small, &batch] } else { vec![&batch] };
    let reports = trial.closed_form_steps(&optimizer, &spec, &windows)?;
    Ok(reports.iter().any(|report| report.clip_factor < 1.0) && batch.micro_batches().count() > 1)
}

/// The learning rate advances once per optimizer step, however many micro-batches it has, and stays where it
/// is after the warm-up.
pub(crate) fn schedule(trial: &mut Trial<'_>) -> CaseOutcome {
    let (warm_up, steps) = if trial.random.random::<bool>() { (2, 4) } else { (3, 5) };
    let batch = trial.case.batch.clone();
    let rule = trial.simplest_rule(&trial.spec(&[&batch])?, &batch)?;
    let optimizer = Optimizer { warm_up, ..rule };
    let moves = trial.equal_steps(&optimizer, steps)?;
    Ok(moves && trial.case.batch.micro_batches().count() > 1)
}

/// Optimizer steps in a row: more than any mistake is known to wait for.
pub(crate) const MOST_STEPS: usize = 8;

/// Decay, clipping, schedule and loss scale under one rule, on windows of unequal size, past the warm-up.
pub(crate) fn composition(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let small = smallest(&batch, &trial.facts.info.limits);
    let spec = trial.spec(&[&batch, &small])?;
    let norm = norm_of(&trial.gradient(&spec, &batch)?.gradient);
    if norm <= 0.0 || !norm.is_finite() {
        return Ok(false);
    }
    let Some((rule, rate)) = trial.rule_with_decay(norm)? else {
        return Err(Ended::Unsupported("an update rule with decay and state".to_owned()));
    };
    let optimizer = Optimizer {
        rule,
        learning_rate: rate,
        warm_up: 3,
        clip: Some(Clip { max_norm: 0.5 * norm, epsilon: 1e-6 }),
        loss_scale: 1024.0,
    };
    let mut windows = Vec::new();
    for step in 0..MOST_STEPS {
        windows.push(if step % 3 == 1 { &small } else { &batch });
    }
    let reports = trial.closed_form_steps(&optimizer, &spec, &windows)?;
    Ok(reports.iter().any(|report| report.clip_factor < 1.0))
}

/// The first sequence with a supervised token, by itself.
fn smallest(batch: &GlobalBatch, limits: &Limits) -> GlobalBatch {
    let supervised = batch.sequences().find(|sequence| sequence.supervised() > 0);
    supervised.map_or_else(|| batch.clone(), |sequence| alone(sequence, limits))
}
