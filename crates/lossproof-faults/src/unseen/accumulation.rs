//! Reduction over tokens, micro-batches and ranks.

use super::Unseen;
use crate::{
    accumulation::recombined,
    honest::{Honest, PassResult, weights},
    trainer::TrainerParts,
};
use lossproof_spec::{GlobalBatch, LossSpec, Reduction, Scope};
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
];

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
    if spec.reduction != Reduction::TokenMean || spec.scope != Scope::Global {
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
