//! Clauses of group 4: gradient accumulation.

use super::reductions::differ;
use crate::trial::{CaseOutcome, Computed, Ended, Trial};
use lossproof_cases::edit::{assemble, disassemble};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, LossSpec, Optimizer, Scope, Sequence, TokenWeights};
use num_traits::ToPrimitive;
use rand::{RngExt, seq::SliceRandom};

impl Trial<'_> {
    /// The reduction of the case, counted over the global batch and added.
    pub(crate) fn global(&self) -> LossSpec {
        LossSpec {
            scope: Scope::Global,
            micro_batches: Combine::Add,
            ranks: Combine::Add,
            empty: EmptyPolicy::ZeroCounted,
            ..self.case.spec
        }
    }

    /// Holds two batches with the same sequences to the same loss and gradient.
    pub(crate) fn invariance(&mut self, what: &str, spec: &LossSpec, other: &GlobalBatch) -> CaseOutcome {
        let batch = self.case.batch.clone();
        let (expected, actual) = (self.gradient(spec, &batch)?, self.gradient(spec, other)?);
        self.same(what, other, &actual, &expected);
        Ok(*other != batch && batch.layout().supervised() > 0)
    }

    /// Loss and gradient of the sum of each group's token losses, `groups` being batches by themselves.
    pub(crate) fn sums(&mut self, groups: &[GlobalBatch]) -> Result<Vec<Computed>, Ended> {
        let sum = self.with_token_loss(LossSpec::sum());
        groups.iter().map(|group| self.gradient(&sum, group)).collect()
    }

    /// Holds `spec` to the per-token mean plus what it deviates by: `Σ_k (w_k − 1/N)·∇(sum of group k)`, the
    /// weights `w_k` being those of the calculus and the same for all tokens of a group.
    pub(crate) fn deviation(&mut self, spec: &LossSpec, groups: &[GlobalBatch]) -> CaseOutcome {
        let batch = self.case.batch.clone();
        let mean = self.with_token_loss(LossSpec::token_mean());
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let of_mean = self.gradient(&mean, &batch)?;
        let sums = self.sums(groups)?;
        let actual = self.gradient(spec, &batch)?;
        let supervised = batch.layout().supervised();
        if supervised == 0 {
            return Ok(false);
        }
        let mut parts = vec![(1.0, &of_mean)];
        let mut first = 0;
        for (group, sum) in groups.iter().zip(&sums) {
            let count = group.sequences().count();
            let weight = weights.sequences().skip(first).take(count).find(|(_, tokens)| *tokens > 0);
            first += count;
            if let Some((weight, _)) = weight {
                parts.push((weight.to_f64().ok_or(Ended::NotApplicable)? - 1.0 / supervised as f64, sum));
            }
        }
        self.combination(&format!("{spec} = per-token mean + deviation"), &batch, &actual, &parts, &[]);
        Ok(differ(spec, &mean, &batch))
    }

    /// Holds a step on every window to the closed form, where the trainer takes SGD steps: what a law says of
    /// the gradient can be seen without them.
    fn steps_where_possible(&mut self, spec: &LossSpec, windows: &[&GlobalBatch]) -> Result<(), Ended> {
        if self.subject.optimizer_steps().is_none() {
            return Ok(());
        }
        let optimizer = Optimizer::sgd(self.sgd_rate(spec, windows[0])?);
        match self.closed_form_steps(&optimizer, spec, windows) {
            Ok(_) | Err(Ended::Unsupported(_)) => Ok(()),
            Err(ended) => Err(ended),
        }
    }
}

/// Micro-batches of the batch, each as a batch by itself.
fn alone(batch: &GlobalBatch) -> Vec<GlobalBatch> {
    batch.micro_batches().cloned().map(GlobalBatch::of_micro_batch).collect()
}

/// Counted globally, loss and gradient do not depend on how a rank's sequences are split into micro-batches.
pub(crate) fn split_invariance(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut ranks = disassemble(&trial.case.batch);
    let limits = trial.facts.info.limits;
    for rank in &mut ranks {
        let sequences: Vec<Sequence> = rank.drain(..).flatten().collect();
        let mut rest = sequences.as_slice();
        while !rest.is_empty() {
            let last = rank.len() + 1 >= limits.micro_batches.most;
            let count = if last { rest.len() } else { trial.random.random_range(1..=rest.len()) };
            let (own, others) = rest.split_at(count.min(limits.sequences.most));
            rank.push(own.to_vec());
            rest = others;
        }
    }
    let spec = trial.global();
    trial.invariance(&format!("{spec}, split otherwise"), &spec, &assemble(ranks))
}

/// The order of sequences in a micro-batch and of micro-batches in a rank does not matter.
pub(crate) fn order_invariance(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut ranks = disassemble(&trial.case.batch);
    for rank in &mut ranks {
        for micro_batch in &mut *rank {
            micro_batch.shuffle(&mut trial.random);
        }
        rank.shuffle(&mut trial.random);
    }
    let other = assemble(ranks);
    let spec = trial.spec(&[&other]);
    trial.invariance(&format!("{spec}, in another order"), &spec, &other)
}

/// What the naive accumulated mean deviates by, micro-batch by micro-batch.
pub(crate) fn naive_deviation(trial: &mut Trial<'_>) -> CaseOutcome {
    let spec = trial.with_token_loss(LossSpec::naive_accumulated_mean());
    let groups = alone(&trial.case.batch);
    trial.deviation(&spec, &groups)
}

/// A window with fewer micro-batches than the one before is divided by its own number, and its step is taken.
pub(crate) fn partial_window(trial: &mut Trial<'_>) -> CaseOutcome {
    let full = trial.case.batch.clone();
    let mut ranks = disassemble(&full);
    let longest = ranks.iter_mut().max_by_key(|rank| rank.len());
    let Some(longest) = longest.filter(|rank| rank.len() > 1) else { return Ok(false) };
    let keep = trial.random.random_range(1..longest.len());
    longest.truncate(keep);
    let partial = assemble(ranks);
    let spec = trial.with_token_loss(LossSpec::naive_accumulated_mean());
    let before = trial.gradient(&spec, &full)?;
    trial.calculus(&spec, &partial)?;
    trial.steps_where_possible(&spec, &[&full, &partial])?;
    Ok(before.total > 0.0 && partial.layout().supervised() > 0)
}

/// Nothing is left over from the accumulation before, nor from the step before.
pub(crate) fn zero_grad(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let part = batch.map_sequences(|s| s.supervise_only(|position| position % 2 == 0));
    let spec = trial.spec(&[&batch, &part]);
    let expected = trial.gradient(&spec, &part)?;
    let before = trial.gradient(&spec, &batch)?;
    let actual = trial.gradient(&spec, &part)?;
    trial.same("after another accumulation", &part, &actual, &expected);
    trial.steps_where_possible(&spec, &[&batch, &part])?;
    Ok(before.total > 0.0 && expected.total > 0.0)
}

/// With one micro-batch on one rank, scopes and combinations are all the same.
pub(crate) fn no_op_accumulation(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.merged();
    let spec = trial.spec(&[&batch]);
    let plain = LossSpec { scope: Scope::Global, micro_batches: Combine::Add, ranks: Combine::Add, ..spec };
    let (expected, actual) = (trial.gradient(&plain, &batch)?, trial.gradient(&spec, &batch)?);
    trial.same(&format!("{spec}, of one micro-batch"), &batch, &actual, &expected);
    Ok(spec != plain && expected.total > 0.0)
}
