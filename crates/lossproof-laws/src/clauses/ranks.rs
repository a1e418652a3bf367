//! Clauses of group 5: simulated data parallelism.

use crate::trial::{CaseOutcome, Ended, Trial};
use lossproof_cases::edit::{assemble, disassemble};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, LossSpec, Reduction, Scope, Sequence};
use rand::{RngExt, seq::SliceRandom};

/// Averaging over ranks is adding and dividing by their number.
pub(crate) fn rank_average(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = LossSpec { empty: EmptyPolicy::ZeroCounted, ..trial.case.spec };
    let averaging = trial.claimed(&LossSpec { ranks: Combine::Average, ..spec })?;
    let ranks = batch.ranks().len();
    let Some(adding) = trial.facts.claim(&LossSpec { ranks: Combine::Add, ..spec }) else {
        let averaged = trial.calculus(&averaging, &batch)?;
        return Ok(ranks > 1 && averaged.total > 0.0);
    };
    let (added, averaged) = (trial.gradient(&adding, &batch)?, trial.gradient(&averaging, &batch)?);
    let parts = [(1.0 / ranks as f64, &added)];
    trial.combination("averaged over ranks", &batch, &averaged, &parts, &[]);
    Ok(ranks > 1 && added.total > 0.0)
}

/// Counted globally and added, loss and gradient do not depend on which rank has which sequence.
pub(crate) fn rank_invariance(trial: &mut Trial<'_>) -> CaseOutcome {
    let limits = trial.facts.info.limits;
    let mut sequences: Vec<Sequence> = trial.case.batch.sequences().cloned().collect();
    sequences.shuffle(&mut trial.random);
    let spec = trial.global()?;
    let smallest = limits.micro_batches.least.max(1) * limits.sequences.least.max(1);
    let most = (sequences.len() / smallest).min(limits.ranks.most).min(limits.ranks.least.max(4));
    if most < limits.ranks.least.max(1) {
        return Err(Ended::NotApplicable);
    }
    let count = trial.random.random_range(limits.ranks.least.max(1)..=most);
    let mut dealt = vec![Vec::new(); count];
    for (index, sequence) in sequences.into_iter().enumerate() {
        // Every rank gets as many as it must have; the others fall where they fall.
        let rank = if index < count * smallest { index % count } else { trial.random.random_range(0..count) };
        dealt[rank].push(sequence);
    }
    let mut ranks = Vec::new();
    for sequences in dealt {
        ranks.push(trial.split(&sequences).ok_or(Ended::NotApplicable)?);
    }
    trial.invariance(&format!("{spec}, on other ranks"), &spec, &assemble(ranks))
}

/// What naive data parallelism deviates by, rank by rank.
pub(crate) fn rank_deviation(trial: &mut Trial<'_>) -> CaseOutcome {
    let spec = trial.claimed(&trial.with_token_loss(LossSpec::naive_data_parallel()))?;
    let ranks = disassemble(&trial.case.batch);
    let alone: Vec<GlobalBatch> = ranks.into_iter().map(|rank| assemble(vec![rank])).collect();
    trial.deviation(&spec, &alone)
}

/// The order of ranks does not matter.
pub(crate) fn rank_order(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut ranks = disassemble(&trial.case.batch);
    ranks.shuffle(&mut trial.random);
    let other = assemble(ranks);
    let spec = trial.spec(&[&other])?;
    trial.invariance(&format!("{spec}, ranks in another order"), &spec, &other)
}

/// Ranks that all have the same data are one rank: no mean changes with their number, and the sum is multiplied by it.
pub(crate) fn replicated_ranks(trial: &mut Trial<'_>) -> CaseOutcome {
    let ranks = disassemble(&trial.case.batch);
    let count = (2 + usize::from(trial.random.random::<bool>())).min(trial.facts.info.limits.ranks.most);
    let (one, many) = (assemble(vec![ranks[0].clone()]), assemble(vec![ranks[0].clone(); count]));
    let spec = trial.spec(&[&one, &many])?;
    let (single, replicated) = (trial.gradient(&spec, &one)?, trial.gradient(&spec, &many)?);
    // Where the normaliser is counted per rank, adding ranks multiplies; where it is counted over all,
    // averaging divides.
    let counted_over_all = spec.scope == Scope::Global && spec.reduction != Reduction::Sum;
    let factor = match (counted_over_all, spec.ranks) {
        (true, Combine::Add) | (false, Combine::Average) => 1.0,
        (false, Combine::Add) => count as f64,
        (true, Combine::Average) => 1.0 / count as f64,
    };
    let what = format!("{spec}, on {count} equal ranks");
    trial.combination(&what, &many, &replicated, &[(factor, &single)], &[]);
    Ok(single.total > 0.0)
}
