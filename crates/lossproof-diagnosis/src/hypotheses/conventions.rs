//! The same bugs as they are made in trainers of other conventions: labels that are shifted through padding, prompts
//! that are counted from the first label, micro-batches that are padded to their own width, divisions of which
//! a trainer that adds makes one too many, masks that let the next position through, gradients that are kept
//! from call to call.

use super::{HONEST, Hypothesis, accumulation, hypothesis, operators, weighs, weights::is_global_token_mean};
use crate::{
    call::{Term, TrainerCall, honest_terms, scored_against, term, weights},
    reported_loss::ReportedLoss,
    score::Grade,
    simulated_optimizer::StepMistake,
    trainer_model::{BackwardEffect, Sight, TokenGradients, TrainerModel, honest_attention},
};
use lossproof_cases::edit::given;
use lossproof_spec::{LossSpec, MicroBatch, Sequence};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    weighs("shift-missing", |call| scored_against(call, label)),
    weighs("shift-twice", |call| scored_against(call, |sequence, at| label(sequence, at + 2))),
    weighs("prompt-mask-one-too-many", |call| {
        scored_against(call, |sequence, at| {
            let prompt = sequence.labels().iter().take_while(|label| !given(**label)).count();
            label(sequence, at + 1).filter(|_| at >= prompt)
        })
    }),
    weighs("pad-in-denominator", |call| {
        let of_micro_batch = |micro_batch: &MicroBatch| {
            let width = micro_batch.sequences().iter().map(Sequence::len).max().unwrap_or(1);
            micro_batch.sequences().len() * (width - 1)
        };
        divided_by(call, call.batch.micro_batches().map(of_micro_batch).sum())
    }),
    // What is ignored is counted, and no padding to the width of others.
    weighs("pad-in-denominator", |call| {
        divided_by(call, call.batch.sequences().map(|sequence| sequence.len() - 1).sum())
    }),
    weighs("ga-partial-window-underscaled", accumulation::underscaled),
    weighs("window-counter-off-by-one", accumulation::counted_once_too_often),
    hypothesis(
        "log-loss-misscaled-under-ga",
        TrainerModel {
            reports: ReportedLoss::Sum(|call| {
                let LossSpec { label_smoothing, z_loss, empty, .. } = *call.spec;
                let spec = LossSpec { empty, label_smoothing, z_loss, ..LossSpec::token_mean() };
                Some(vec![term(call, &spec, weights(&spec, call)?)])
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "causal-mask-off-by-one",
        TrainerModel {
            sight: |_| Sight::Document,
            attends: Some(|sequence, at, input, blocks| {
                let document = sequence.segment_ids();
                if input <= at || document[input] != document[at] {
                    return Some(honest_attention(sequence, at, input));
                }
                // One position further ahead is seen in each block.
                match blocks {
                    Some(blocks) => Some(input <= at + blocks),
                    None => (input == at + 1).then_some(true),
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "zero-grad-missing",
        TrainerModel {
            gradient: |call| {
                let mut terms = Vec::new();
                for batch in call.before.iter().chain([call.batch]) {
                    terms.extend(honest_terms(&TrainerCall { batch, ..*call })?);
                }
                Some(terms)
            },
            reports: ReportedLoss::Right,
            token_gradients: TokenGradients::Kept,
            step: StepMistake::KeptBetweenCalls,
            ..HONEST
        },
    ),
    hypothesis(
        "clip-per-microbatch",
        TrainerModel { step: StepMistake::ClippedPerMicroBatchAlone, ..HONEST },
    ),
    hypothesis(
        "fused-op-without-backward",
        TrainerModel {
            backward: BackwardEffect::Pattern(|comparison| {
                let zero = operators::zero(comparison.measured);
                match comparison.role {
                    role if role.is_gain() => Grade::exact_or_impossible(zero),
                    role if role.is_norm_bias() && zero => Grade::Exact,
                    _ => comparison.right(),
                }
            }),
            loses: |role| match role {
                role if role.is_gain() => Some(true),
                role if role.is_norm_bias() => None,
                _ => Some(false),
            },
            ..HONEST
        },
    ),
];

/// A mean over all supervised tokens, divided by so many instead.
fn divided_by(call: &TrainerCall<'_>, counted: usize) -> Option<Vec<Term>> {
    let mut terms = honest_terms(call)?;
    if is_global_token_mean(call) && call.upstream.is_none() {
        let factor = call.batch.layout().supervised() as f64 / counted.max(1) as f64;
        terms.iter_mut().flat_map(|term| &mut term.weights).for_each(|weight| *weight *= factor);
    }
    Some(terms)
}

/// The token of a label, where there is one that is not ignored.
fn label(sequence: &Sequence, at: usize) -> Option<u32> {
    sequence.labels().get(at).and_then(|label| u32::try_from(*label).ok())
}
