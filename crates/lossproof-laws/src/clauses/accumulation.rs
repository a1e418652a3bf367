//! Clauses of group 4: gradient accumulation.

use super::reductions::differ;
use crate::trial::{CaseOutcome, Ended, Trial, values};
use lossproof_cases::edit::{alone, assemble, disassemble};
use lossproof_numerics::{Violation, difference, norm};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, LossSpec, Scope, Sequence, TokenWeights};
use lossproof_subject::Limits;
use num_traits::ToPrimitive;
use rand::{RngExt, seq::SliceRandom};

impl Trial<'_> {
    /// The reduction of the case, counted over the global batch and added.
    pub(crate) fn global(&self) -> Result<LossSpec, Ended> {
        self.claimed(&LossSpec {
            scope: Scope::Global,
            micro_batches: Combine::Add,
            ranks: Combine::Add,
            empty: EmptyPolicy::ZeroCounted,
            ..self.case.spec
        })
    }

    /// Holds two batches with the same sequences to the same loss and gradient.
    pub(crate) fn invariance(&mut self, what: &str, spec: &LossSpec, other: &GlobalBatch) -> CaseOutcome {
        let batch = self.case.batch.clone();
        let (expected, actual) = (self.gradient(spec, &batch)?, self.gradient(spec, other)?);
        self.same(what, other, &actual, &expected);
        Ok(*other != batch && batch.layout().supervised() > 0)
    }

    /// Holds `spec` to the per-token mean plus what it deviates by: `Σ_k (w_k − 1/N)·∇(sum of group k)`, the
    /// weights `w_k` being those of the calculus and the same for all tokens of a group. Where the trainer
    /// claims neither the mean nor the sum, both are taken from its sequences by themselves.
    pub(crate) fn deviation(&mut self, spec: &LossSpec, groups: &[GlobalBatch]) -> CaseOutcome {
        let batch = self.case.batch.clone();
        let mean = self.reduction(LossSpec::token_mean());
        let Some((mean, sum)) = mean.zip(self.reduction(LossSpec::sum())) else {
            self.calculus(spec, &batch)?;
            return Ok(differ(spec, &self.with_token_loss(LossSpec::token_mean()), &batch));
        };
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let of_mean = self.gradient(&mean, &batch)?;
        let mut sums = Vec::new();
        for group in groups {
            sums.push(self.gradient(&sum, group)?);
        }
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

    /// Holds a step on every window to the closed form, where the trainer takes steps by a known rule: what a
    /// law says of the gradient can be seen without them.
    fn steps_where_possible(&mut self, spec: &LossSpec, windows: &[&GlobalBatch]) -> Result<(), Ended> {
        if self.subject.optimizer_steps().is_none() {
            return Ok(());
        }
        let optimizer = self.simplest_rule(spec, windows[0]);
        match optimizer.and_then(|optimizer| self.closed_form_steps(&optimizer, spec, windows)) {
            Ok(_) | Err(Ended::Unsupported(_)) => Ok(()),
            Err(ended) => Err(ended),
        }
    }
}

impl Trial<'_> {
    /// The sequences of a rank in micro-batches of random sizes; `None` where the limits allow no split.
    pub(super) fn split(&mut self, sequences: &[Sequence]) -> Option<Vec<Vec<Sequence>>> {
        let Limits { micro_batches, sequences: sizes, .. } = self.facts.info.limits;
        let count = sequences.len();
        let fewest = micro_batches.least.max(count.div_ceil(sizes.most)).max(1);
        let most = micro_batches.most.min(count / sizes.least.max(1));
        if fewest > most {
            return None;
        }
        let parts = self.random.random_range(fewest..=most);
        let mut rest = sequences;
        let mut split = Vec::new();
        for left in (0..parts).rev() {
            // The micro-batches to come take so many at least, and so many at most.
            let (least, most) = (left * sizes.least.max(1), left.saturating_mul(sizes.most));
            let fewest = sizes.least.max(1).max(rest.len().saturating_sub(most));
            let own = self.random.random_range(fewest..=sizes.most.min(rest.len() - least));
            let (own, others) = rest.split_at(own);
            split.push(own.to_vec());
            rest = others;
        }
        Some(split)
    }
}

/// Micro-batches of the batch, each as a batch by itself.
fn micro_batches_alone(batch: &GlobalBatch) -> Vec<GlobalBatch> {
    batch.micro_batches().cloned().map(GlobalBatch::of_micro_batch).collect()
}

/// Counted globally, loss and gradient do not depend on how a rank's sequences are split into micro-batches.
pub(crate) fn split_invariance(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut ranks = disassemble(&trial.case.batch);
    for rank in &mut ranks {
        let sequences: Vec<Sequence> = rank.drain(..).flatten().collect();
        *rank = trial.split(&sequences).ok_or(Ended::NotApplicable)?;
    }
    let spec = trial.global()?;
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
    let spec = trial.spec(&[&other])?;
    trial.invariance(&format!("{spec}, in another order"), &spec, &other)
}

/// What the naive accumulated mean deviates by, micro-batch by micro-batch.
pub(crate) fn naive_deviation(trial: &mut Trial<'_>) -> CaseOutcome {
    let spec = trial.claimed(&trial.with_token_loss(LossSpec::naive_accumulated_mean()))?;
    let groups = micro_batches_alone(&trial.case.batch);
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
    let naive = trial.reduction(LossSpec::naive_accumulated_mean());
    let spec = naive.map_or_else(|| trial.spec(&[&full, &partial]), Ok)?;
    let before = trial.gradient(&spec, &full)?;
    trial.calculus(&spec, &partial)?;
    trial.steps_where_possible(&spec, &[&full, &partial])?;
    Ok(before.total > 0.0 && partial.layout().supervised() > 0)
}

/// Nothing is left over from the accumulation before, nor from the step before.
pub(crate) fn zero_grad(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let limits = trial.facts.info.limits;
    let first = batch.sequences().find(|sequence| sequence.supervised() > 0);
    let part = match first {
        Some(first) if !limits.ignore_index => alone(first, &limits),
        _ => batch.map_sequences(|s| s.supervise_only(|position| position % 2 == 0)),
    };
    let spec = trial.spec(&[&batch, &part])?;
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
    let spec = trial.spec(&[&batch])?;
    let plain = LossSpec { scope: Scope::Global, micro_batches: Combine::Add, ranks: Combine::Add, ..spec };
    let Some(plain) = trial.facts.claim(&plain).filter(|plain| *plain != spec) else {
        let computed = trial.calculus(&spec, &batch)?;
        return Ok(computed.total > 0.0);
    };
    let (expected, actual) = (trial.gradient(&plain, &batch)?, trial.gradient(&spec, &batch)?);
    trial.same(&format!("{spec}, of one micro-batch"), &batch, &actual, &expected);
    Ok(expected.total > 0.0)
}

/// Micro-batches that are added up to see in which type: a power of two, so that each has exactly so much of the
/// gradient of one.
const EQUAL_MICRO_BATCHES: usize = 32;

/// The gradient of many equal micro-batches is a multiple of that of one, in the digits of the type that gradients are
/// added up in: each adds the same numbers, and their multiples lie exactly between the digits of a finer type.
pub(crate) fn accumulation_type(trial: &mut Trial<'_>) -> CaseOutcome {
    let limits = trial.facts.info.limits;
    let longest = trial.case.batch.sequences().max_by_key(|sequence| sequence.supervised());
    let one = alone(longest.ok_or(Ended::NotApplicable)?, &limits);
    let spec = trial.spec(&[&one])?;
    let ranks = disassemble(&one);
    let own = ranks.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let fitting = (limits.micro_batches.most / own).min(EQUAL_MICRO_BATCHES);
    if fitting < 4 {
        return Err(Ended::Unsupported("four times as many micro-batches".to_owned()));
    }
    let copies = 1_usize << fitting.ilog2();
    let repeated = |rank: &Vec<Vec<Sequence>>| (0..copies).flat_map(|_| rank.clone()).collect();
    let many = assemble(ranks.iter().map(repeated).collect());
    let weight = |batch: &GlobalBatch| -> Result<f64, Ended> {
        let weights = TokenWeights::new(&spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        weights.total().to_f64().ok_or(Ended::NotApplicable)
    };
    let factor = weight(&many)? / weight(&one)?;
    // Only a power of two leaves the digits of each gradient what they are.
    if !factor.is_normal() || factor.log2().fract() != 0.0 {
        return Ok(false);
    }
    let (of_one, of_many) = (trial.gradient(&spec, &one)?, trial.gradient(&spec, &many)?);
    let dtypes = trial.facts.info.dtypes;
    for (name, tensor) in of_many.gradient.iter() {
        let found = tensor.to_f64();
        let expected: Vec<f64> = values(&of_one.gradient, name)?.iter().map(|g| factor * g).collect();
        let size = norm(&expected);
        if size <= 0.0 || !size.is_finite() {
            continue;
        }
        // Of the numbers that are handed over a share of `copies·u/u'` may be rounded to the other side, by 2u'.
        let (added, handed) = (dtypes.accumulation.unit_roundoff(), dtypes.coarsest().unit_roundoff());
        let bound = 2.0 * (copies as f64 * added * handed).sqrt() + trial.facts.noise;
        let apart = difference(|index| found[index], |index| expected[index], 0..found.len());
        let error = apart.relative_to(size);
        trial.comparisons.compare(name, bound, apart.actual / size, error, || Violation {
            unit: name.clone(),
            statement: format!(
                "{copies} equal micro-batches: the gradient of {name} is added up in fewer digits than those of {}, \
                 which the card declares",
                dtypes.accumulation
            ),
            error,
            bound,
            pair: apart.worst.map(|worst| (worst.actual, worst.expected)),
            ratio: None,
        });
    }
    Ok(of_one.total > 0.0)
}
