//! Reduction over tokens, micro-batches and ranks.

use super::Unseen;
use crate::{
    accumulation::recombined,
    honest::{Honest, PassResult, weights},
    tensors::NamedTensors,
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Rank, Reduction, Scope, Sequence};
use lossproof_subject::SubjectError;

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "reciprocal-count-in-bf16",
        what: "the factor on a token loss, one over the number of tokens, is held in bfloat16",
        source: None,
        trainer: TrainerParts { accumulate: factors_in_bf16, ..HONEST },
    },
    Unseen {
        id: "count-of-the-batch-before",
        what: "the number of tokens arrives late, and the sum is divided by that of the batch before",
        source: None,
        trainer: TrainerParts { accumulate: divided_by_the_count_before, ..HONEST },
    },
    Unseen {
        id: "window-ends-one-early",
        what: "the step is taken before the window's last micro-batch, which is added to the next window",
        source: Some("https://github.com/rasbt/LLMs-from-scratch/pull/300"),
        trainer: TrainerParts { accumulate: last_one_carried_over, ..HONEST },
    },
    Unseen {
        id: "biases-not-reduced",
        what: "the all-reduce leaves out the biases, of which each rank keeps its own gradient",
        source: Some("https://github.com/bigcode-project/Megatron-LM/pull/12"),
        trainer: TrainerParts { accumulate: biases_of_rank_zero, ..HONEST },
    },
    Unseen {
        id: "count-plus-one",
        what: "one is added to the number of tokens, so that it is never zero",
        source: None,
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| counted(honest, spec, batch, |tokens| tokens + 1),
            ..HONEST
        },
    },
    Unseen {
        id: "count-clamped-from-below",
        what: "the number of tokens is clamped to eight at least",
        source: None,
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| counted(honest, spec, batch, |tokens| tokens.max(8)),
            ..HONEST
        },
    },
    Unseen {
        id: "count-of-the-first-for-all",
        what: "every micro-batch is taken to have as many tokens as the first",
        source: None,
        trainer: TrainerParts { accumulate: first_counted_for_all, ..HONEST },
    },
    Unseen {
        id: "count-so-far",
        what: "a micro-batch's sum is divided by the tokens of its window so far, and not by all of them",
        source: None,
        trainer: TrainerParts { accumulate: divided_by_the_tokens_so_far, ..HONEST },
    },
    Unseen {
        id: "loss-spike-skipped",
        what: "a micro-batch whose mean loss is a twentieth above the window's is a spike, and left out",
        source: None,
        trainer: TrainerParts { accumulate: spikes_skipped, ..HONEST },
    },
    Unseen {
        id: "accumulator-in-bf16",
        what: "the gradients of a window are added up in bfloat16",
        source: None,
        trainer: TrainerParts { accumulate: added_in_bf16, ..HONEST },
    },
    Unseen {
        id: "last-micro-batch-twice",
        what: "the gradient of a window's last micro-batch is added twice",
        source: None,
        trainer: TrainerParts { accumulate: last_added_twice, ..HONEST },
    },
    Unseen {
        id: "first-micro-batch-cleared",
        what: "gradients are cleared behind a window's first micro-batch instead of before it",
        source: None,
        trainer: TrainerParts { accumulate: first_cleared, ..HONEST },
    },
    Unseen {
        id: "gradient-of-the-window-before",
        what: "the gradient arrives late: that of the window before is used",
        source: None,
        trainer: TrainerParts { accumulate: gradient_before, ..HONEST },
    },
    Unseen {
        id: "zero-grad-behind-steps-alone",
        what: "gradients are cleared behind a step alone, and a pass that none follows leaves its own",
        source: None,
        trainer: TrainerParts {
            accumulate: added_to_what_was_left,
            updates: |honest, _, gradient, _| {
                honest.memory.gradient = NamedTensors::default();
                Ok(vec![gradient])
            },
            ..HONEST
        },
    },
];

/// Where one number of tokens divides the loss of all micro-batches.
fn is_mean_of_tokens(spec: &LossSpec) -> bool {
    spec.reduction == Reduction::TokenMean && spec.scope == Scope::Global
}

fn tokens(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(Sequence::supervised).sum()
}

fn factors_in_bf16(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let Some(mut weights) = weights(spec, batch) else { return honest.pass(spec, batch) };
    for weight in &mut weights {
        *weight = bf16(*weight);
    }
    honest.weighted(spec, batch, &weights)
}

/// The nearest number with the eight significant bits of bfloat16, ties to even.
fn bf16(value: f64) -> f64 {
    const DROPPED: u32 = f64::MANTISSA_DIGITS - 8;
    let bits = value.to_bits();
    let odd = bits >> DROPPED & 1;
    let rounded = bits + (1 << (DROPPED - 1)) - 1 + odd;
    f64::from_bits(rounded >> DROPPED << DROPPED)
}

fn divided_by_the_count_before(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    if !is_mean_of_tokens(spec) {
        return Ok(pass);
    }
    let tokens = batch.layout().supervised();
    let before = std::mem::replace(&mut honest.memory.tokens, tokens);
    Ok(if before > 0 { pass.scaled(tokens as f64 / before as f64) } else { pass })
}

fn last_one_carried_over(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    let Some(contributions) = honest.contributions(spec, batch)? else { return Ok(pass) };
    // Without accumulation every micro-batch is stepped with.
    let windows = contributions.iter().filter(|window| window.len() > 1);
    let last = PassResult::sum(windows.filter_map(|window| window.last())).gradient;
    pass.gradient.add(-1.0, &last);
    pass.gradient.add(1.0, &std::mem::replace(&mut honest.memory.gradient, last));
    Ok(pass)
}

fn biases_of_rank_zero(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let mut gradient = PassResult::sum(ranks.iter().flatten()).gradient;
        let own = PassResult::sum(ranks.iter().take(1).flatten()).gradient;
        gradient.take_from(&own, |name| name.ends_with("bias"));
        gradient
    })
}

/// The pass with another number of tokens than there are.
fn counted(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    count: impl Fn(usize) -> usize,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    if !is_mean_of_tokens(spec) {
        return Ok(pass);
    }
    let tokens = batch.layout().supervised();
    Ok(pass.scaled(tokens as f64 / count(tokens) as f64))
}

fn first_counted_for_all(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let first = batch.micro_batches().next().map_or(0, tokens);
    let all = (first * batch.micro_batches().count()).max(1);
    counted(honest, spec, batch, |_| all)
}

/// Loss and gradient with what each micro-batch adds multiplied: by its place in its window, itself, and what
/// it adds to the loss.
fn reweighed(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
    factor: impl Fn(usize, &MicroBatch, f64) -> f64,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    let Some(contributions) = honest.contributions(spec, batch)? else { return Ok(pass) };
    let mut sum = PassResult::sum([]);
    for (rank, contributions) in batch.ranks().iter().zip(&contributions) {
        for (place, (micro_batch, own)) in rank.micro_batches().iter().zip(contributions).enumerate() {
            sum.add(factor(place, micro_batch, own.observation.loss), own);
        }
    }
    (pass.observation.loss, pass.gradient) = (sum.observation.loss, sum.gradient);
    Ok(pass)
}

/// Counts are reduced over ranks at once, and sums are not.
fn divided_by_the_tokens_so_far(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    if !is_mean_of_tokens(spec) {
        return honest.pass(spec, batch);
    }
    let all = batch.layout().supervised() as f64;
    reweighed(honest, spec, batch, |place, _, _| {
        let window = |rank: &Rank| rank.micro_batches().iter().take(place + 1).map(tokens).sum::<usize>();
        all / batch.ranks().iter().map(window).sum::<usize>().max(1) as f64
    })
}

fn spikes_skipped(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    if !is_mean_of_tokens(spec) {
        return Ok(pass);
    }
    let all = batch.layout().supervised() as f64;
    reweighed(honest, spec, batch, |_, micro_batch, loss| {
        let usual = pass.observation.loss * tokens(micro_batch) as f64 / all;
        if loss > 1.05 * usual { 0.0 } else { 1.0 }
    })
}

fn added_in_bf16(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let added = |mut so_far: NamedTensors, next: &PassResult| {
            so_far.add(1.0, &next.gradient);
            so_far.values_mut().for_each(|value| *value = bf16(*value));
            so_far
        };
        let mut sum = NamedTensors::default();
        for rank in ranks {
            let own = rank.iter().fold(NamedTensors::default(), added);
            sum.add(1.0, &own);
        }
        sum
    })
}

fn last_added_twice(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        let last = ranks.iter().filter_map(|rank| rank.last());
        PassResult::sum(ranks.iter().flatten().chain(last)).gradient
    })
}

fn first_cleared(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    recombined(honest, spec, batch, |ranks| {
        // Of a window with one micro-batch the step has been taken by then.
        let kept = |rank: &Vec<PassResult>| usize::from(rank.len() > 1);
        PassResult::sum(ranks.iter().flat_map(|rank| &rank[kept(rank)..])).gradient
    })
}

fn gradient_before(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    let before = std::mem::replace(&mut honest.memory.gradient, pass.gradient.clone());
    if before.values().next().is_some() {
        pass.gradient = before;
    }
    Ok(pass)
}

fn added_to_what_was_left(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    pass.gradient.add(1.0, &honest.memory.gradient);
    honest.memory.gradient = pass.gradient.clone();
    Ok(pass)
}

#[cfg(test)]
mod tests {
    use super::bf16;

    #[test]
    fn bfloat16_has_eight_significant_bits() {
        for (value, nearest) in [(0.0, 0.0), (0.125, 0.125), (255.0, 255.0), (257.0, 256.0), (259.0, 260.0)] {
            assert_eq!(bf16(value).to_bits(), f64::to_bits(nearest), "{value}");
        }
        assert_eq!(bf16(1.0 / 3.0).to_bits(), 0.333_984_375_f64.to_bits());
    }
}
