//! Weights: what a token loss is divided by, and how micro-batches and ranks are put together.

use super::{Hypothesis, hypothesis};
use crate::model::{Call, Operators, Term, honest_terms, term, under, weights};
use lossproof_spec::{
    Combine, Counting, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Reduction, Scope, Sequence,
    SequenceFields,
};

/// A hypothesis whose trainer computes another loss spec than the one asked for.
macro_rules! other_spec {
    (|$spec:ident| $change:expr) => {
        |call| {
            let $spec: &LossSpec = call.spec;
            under(&$change, call)
        }
    };
}

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "ga-mean-of-means",
        "each micro-batch is averaged over its own tokens, and the averages are averaged",
        Some("huggingface/transformers#34191, unslothai/unsloth#1134, meta-pytorch/torchtune#1875"),
        "sum the token losses and divide once by the supervised tokens of all micro-batches",
        { gradient: other_spec!(|spec| match (spec.reduction, spec.scope) {
            (Reduction::TokenMean, Scope::Global) => LossSpec {
                scope: Scope::MicroBatch,
                micro_batches: Combine::Average,
                ranks: Combine::Average,
                ..*spec
            },
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "ga-missing-division-k-times",
        "micro-batches that should be averaged are added: the gradient grows with their number",
        Some("huggingface/transformers#35207, #35438, #37766; huggingface/trl#3716"),
        "divide each micro-batch's mean by the number of micro-batches",
        { gradient: other_spec!(|spec| LossSpec { micro_batches: Combine::Add, ..*spec }) }
    ),
    hypothesis!(
        "ga-means-added",
        "each micro-batch is averaged over its own tokens, and the averages are added without a division by their number",
        Some("huggingface/transformers#35207"),
        "divide the sum of all token losses by the supervised tokens of all micro-batches",
        { gradient: other_spec!(|spec| match (spec.reduction, spec.scope) {
            (Reduction::TokenMean, Scope::Global) => LossSpec { scope: Scope::MicroBatch, ..*spec },
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "ga-normalised-twice",
        "a loss that is divided by its tokens already is divided by them again",
        Some("d2l-ai/d2l-en#2707, modelscope/easydistill#16"),
        "divide once: hand a sum to whoever divides",
        { gradient: |call| {
            let terms = honest_terms(call)?;
            let tokens = call.batch.layout().supervised().max(1) as f64;
            let mean = matches!(call.spec.reduction, Reduction::TokenMean | Reduction::SequenceMean);
            Some(if mean && call.upstream.is_none() { scaled(terms, 1.0 / tokens) } else { terms })
        } }
    ),
    hypothesis!(
        "reduction-mode-ignored",
        "the mean over tokens is hard-wired, whatever reduction was asked for",
        Some("OpenNMT/OpenNMT-py#526"),
        "pass the reduction that was asked for to every path",
        { gradient: other_spec!(|spec| LossSpec { reduction: Reduction::TokenMean, ..*spec }) }
    ),
    hypothesis!(
        "token-mean-not-divided",
        "the number of tokens does not reach the loss, and the mean stays a sum",
        Some("huggingface/transformers#35207"),
        "divide the sum by the number of supervised tokens",
        { gradient: other_spec!(|spec| match spec.reduction {
            Reduction::TokenMean => LossSpec { reduction: Reduction::Sum, ..*spec },
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "batch-mean-of-a-micro-batch",
        "the sum is divided by the sequences of its own micro-batch instead of those of the batch",
        None,
        "count the sequences of the whole batch",
        { gradient: other_spec!(|spec| match spec.reduction {
            Reduction::BatchMean => LossSpec { scope: Scope::MicroBatch, ..*spec },
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "rank-local-token-mean",
        "each rank divides by its own tokens, and gradients are averaged over ranks",
        Some("pytorch/torchtitan#2206, huggingface/transformers#34242, PrimeIntellect-ai/prime-rl#2562"),
        "all-reduce the number of tokens before dividing",
        { gradient: other_spec!(|spec| match (spec.reduction, spec.scope) {
            (Reduction::TokenMean, Scope::Global) => {
                LossSpec { scope: Scope::RankWindow, ranks: Combine::Average, ..*spec }
            }
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "dp-average-not-undone",
        "the tokens of all ranks are counted, and the all-reduce averages over ranks nevertheless",
        Some("meta-pytorch/torchtune#2172, NVIDIA-NeMo/Automodel#3830, NVIDIA/Megatron-LM#906"),
        "multiply by the world size, or add gradients in the all-reduce",
        { gradient: other_spec!(|spec| match spec.scope {
            Scope::Global => LossSpec { ranks: Combine::Average, ..*spec },
            _ => *spec,
        }) }
    ),
    hypothesis!(
        "dp-average-dropped",
        "the all-reduce adds where each rank has divided by its own count already",
        Some("meta-pytorch/torchtune#2687"),
        "average over ranks, or divide by the count of all of them",
        { gradient: other_spec!(|spec| LossSpec { ranks: Combine::Add, ..*spec }) }
    ),
    hypothesis!(
        "counted-before-shift",
        "the normaliser counts labels before the shift, one too many for each sequence whose first label is given",
        Some("huggingface/transformers 4.57.1 and 5.23.0: `num_items_in_batch`"),
        "count the labels from the second position on",
        { gradient: |call| counted(call, Counting::BeforeShift) }
    ),
    hypothesis!(
        "pad-in-denominator",
        "ignored and padded positions are counted in the denominator",
        Some("tracel-ai/burn#5568, tensorflow/tensorflow#39146, keras-team/keras#15323"),
        "divide by the number of labels that are not ignored",
        { gradient: |call| counted(call, Counting::AllPositions) }
    ),
    hypothesis!(
        "all-ignored-nan",
        "a group without a supervised token divides zero by zero",
        Some("karpathy/nanochat#619, OpenRLHF/OpenRLHF#583, allenai/OLMo-core#657"),
        "decide what the mean of nothing is (zero, or an error) and test for it before dividing",
        { gradient: other_spec!(|spec| LossSpec { empty: EmptyPolicy::Nan, ..*spec }) }
    ),
    hypothesis!(
        "empty-groups-skipped",
        "groups without a supervised token leave the averages where they should count, or the other way round",
        None,
        "count groups as declared: empty ones stay in the denominator under `zero-counted`, and leave it under `zero-skipped`",
        { gradient: other_spec!(|spec| {
            let empty = match spec.empty {
                EmptyPolicy::ZeroCounted => EmptyPolicy::ZeroSkipped,
                EmptyPolicy::ZeroSkipped => EmptyPolicy::ZeroCounted,
                other => other,
            };
            LossSpec { empty, ..*spec }
        }) }
    ),
    hypothesis!(
        "ga-scale-by-sample-ratio",
        "a micro-batch's mean over tokens is weighted by its share of the sequences",
        Some("verl-project/verl#5641"),
        "weight a mean over tokens by its share of the tokens",
        { gradient: |call| {
            if call.spec.reduction != Reduction::TokenMean || call.spec.scope != Scope::Global {
                return honest_terms(call);
            }
            let own = LossSpec { scope: Scope::MicroBatch, ..*call.spec };
            let all = call.batch.sequences().count() as f64;
            reweighed(call, &own, |place| place.sequences as f64 / all)
        } }
    ),
    hypothesis!(
        "zero-grad-wrong-place",
        "gradients are cleared for every micro-batch, and only the last of a window counts",
        Some("pytorch/torchtitan#3575, tatsu-lab/alpaca_farm#57, bytetriper/RAE#67, ultralytics/ultralytics#11217"),
        "clear gradients once per optimizer step, before the window's first micro-batch",
        { gradient: last_of_window, loss: Some(honest_terms) }
    ),
    hypothesis!(
        "ga-running-average",
        "each new micro-batch is averaged with what was accumulated so far, so the first weigh least",
        None,
        "add the micro-batches, and divide once",
        {
            gradient: |call| {
                let halvings = |place: &Place| {
                    let later = place.window - place.index;
                    0.5_f64.powi(i32::try_from(if place.index == 1 { place.window - 1 } else { later + 1 }).unwrap_or(0))
                };
                reweighed(call, call.spec, halvings)
            },
            loss: Some(honest_terms),
        }
    ),
    hypothesis!(
        "all-reduce-missing",
        "the gradients of ranks are not reduced: rank 0 steps with its own",
        None,
        "all-reduce gradients before the step",
        {
            gradient: |call| reweighed(call, call.spec, |place| f64::from(u8::from(place.rank == 0))),
            loss: Some(honest_terms),
        }
    ),
    hypothesis!(
        "ga-partial-window-underscaled",
        "a window that is shorter than usual is divided by the usual number of micro-batches",
        Some("huggingface/transformers#38872, Lightning-AI/pytorch-lightning#19987, modelscope/ms-swift#10084"),
        "divide by the micro-batches that the window has",
        { gradient: |call| {
            if call.spec.micro_batches == Combine::Add {
                return honest_terms(call);
            }
            let usual = call.before.iter().chain([call.batch]).map(GlobalBatch::longest_window).max().unwrap_or(1);
            reweighed(call, call.spec, |place| place.window as f64 / usual as f64)
        } }
    ),
    hypothesis!(
        "window-counter-off-by-one",
        "the micro-batches are averaged by a counter that is one ahead",
        None,
        "divide by the number of micro-batches accumulated",
        { gradient: |call| {
            if call.spec.micro_batches == Combine::Add {
                return honest_terms(call);
            }
            reweighed(call, call.spec, |place| place.window as f64 / (place.window + 1) as f64)
        } }
    ),
    hypothesis!(
        "log-loss-misscaled-under-ga",
        "the loss that is logged is the mean of the micro-batches' means, whatever is trained on",
        Some("Lightning-AI/pytorch-lightning#2569, huggingface/transformers#35204, allenai/allennlp#4706"),
        "report the window's sum of token losses over its tokens",
        { loss: Some(|call| {
            let naive = LossSpec {
                empty: EmptyPolicy::ZeroCounted,
                label_smoothing: call.spec.label_smoothing,
                z_loss: call.spec.z_loss,
                ..LossSpec::naive_accumulated_mean()
            };
            under(&naive, call)
        }) }
    ),
    hypothesis!(
        "smoothing-counts-ignored",
        "the uniform part of label smoothing is taken of ignored positions too",
        Some("pytorch/pytorch#73205, huggingface/transformers#5919, tinygrad/tinygrad#3570"),
        "mask both parts of the smoothed loss",
        { gradient: |call| {
            let mut terms = honest_terms(call)?;
            let epsilon = call.spec.label_smoothing;
            let weights = weights(call.spec, call)?;
            if epsilon > 0.0 {
                let largest = weights.iter().copied().fold(0.0, f64::max);
                let all = scored_everywhere(call.batch);
                let ignored = all.predictions().zip(call.batch.predictions());
                let ignored: Vec<f64> =
                    ignored.map(|(a, own)| if a.supervised && !own.supervised { largest } else { 0.0 }).collect();
                // The uniform part alone: the smoothed loss less 1 − ε of the plain one.
                let part = |label_smoothing: f64, factor: f64| Term {
                    batch: all.clone(),
                    weights: ignored.iter().map(|weight| factor * weight).collect(),
                    label_smoothing,
                    z_loss: 0.0,
                };
                terms.extend([part(epsilon, 1.0), part(0.0, epsilon - 1.0)]);
            }
            Some(terms)
        } }
    ),
    hypothesis!(
        "z-loss-not-weighed",
        "the z-loss is added outside the reduction: summed over tokens, whatever a token weighs",
        None,
        "reduce the z-loss as the cross-entropy",
        { gradient: |call| {
            let mut terms = honest_terms(call)?;
            if call.spec.z_loss > 0.0 {
                let weights = weights(call.spec, call)?;
                let missing = weights.iter().map(|w| if *w > 0.0 { 1.0 - w } else { 0.0 }).collect::<Vec<_>>();
                let opposite = missing.iter().map(|w| -w).collect();
                let plain = LossSpec { z_loss: 0.0, label_smoothing: 0.0, ..*call.spec };
                let with = LossSpec { label_smoothing: 0.0, ..*call.spec };
                terms.extend([term(call, &with, missing), term(call, &plain, opposite)]);
            }
            Some(terms)
        } }
    ),
    hypothesis!(
        "grad-assigned-not-accumulated",
        "the layer norm's kernel stores its gradient where others add: it keeps that of the last micro-batch",
        Some("karpathy/llm.c#408, huggingface/candle#3507"),
        "add to gradients in every kernel, into buffers that start at zero",
        { operators: Operators::Weighed(|name| name.contains("ln_"), last_of_window) }
    ),
    hypothesis!(
        "ce-upstream-grad-mean",
        "the loss kernel takes the gradient that comes from above for one number, the mean of its elements",
        Some("linkedin/Liger-Kernel#1298, #968, #680; ROCm/TransformerEngine#336"),
        "multiply each row by its own element of the gradient from above",
        { gradient: |call| from_above(call, |weights| weights.iter().sum::<f64>() / weights.len().max(1) as f64) }
    ),
    hypothesis!(
        "ce-upstream-grad-scalar",
        "the loss kernel scales every row by the first element of the gradient that comes from above",
        Some("linkedin/Liger-Kernel#1298, #968, #680; microsoft/DirectML#740"),
        "multiply each row by its own element of the gradient from above",
        { gradient: |call| from_above(call, |weights| weights.first().copied().unwrap_or(0.0)) }
    ),
];

fn scaled(mut terms: Vec<Term>, factor: f64) -> Vec<Term> {
    terms.iter_mut().flat_map(|term| &mut term.weights).for_each(|weight| *weight *= factor);
    terms
}

fn counted(call: &Call<'_>, counting: Counting) -> Option<Vec<Term>> {
    under(&LossSpec { counting, ..*call.spec }, call)
}

fn from_above(call: &Call<'_>, all: impl Fn(&[f64]) -> f64) -> Option<Vec<Term>> {
    let Some(upstream) = call.upstream else { return honest_terms(call) };
    let weights = vec![all(upstream); upstream.len()];
    honest_terms(&Call { upstream: Some(&weights), ..*call })
}

fn last_of_window(call: &Call<'_>) -> Option<Vec<Term>> {
    reweighed(call, call.spec, |place| f64::from(u8::from(place.index == place.window)))
}

/// Where a micro-batch stands.
struct Place {
    rank: usize,
    /// Its number in the window of its rank, from 1.
    index: usize,
    /// Micro-batches of that window.
    window: usize,
    /// Its sequences.
    sequences: usize,
}

/// The weights of a spec, those of each micro-batch multiplied.
fn reweighed(call: &Call<'_>, spec: &LossSpec, factor: impl Fn(&Place) -> f64) -> Option<Vec<Term>> {
    let mut weights = weights(spec, call)?;
    if call.upstream.is_none() {
        let mut rest = weights.as_mut_slice();
        for (rank, micro_batches) in
            call.batch.ranks().iter().map(lossproof_spec::Rank::micro_batches).enumerate()
        {
            for (index, micro_batch) in micro_batches.iter().enumerate() {
                let sequences = micro_batch.sequences();
                let place =
                    Place { rank, index: index + 1, window: micro_batches.len(), sequences: sequences.len() };
                let (own, others) = rest.split_at_mut(predictions(micro_batch));
                for weight in own {
                    *weight *= factor(&place);
                }
                rest = others;
            }
        }
    }
    Some(vec![term(call, spec, weights)])
}

fn predictions(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(|sequence| sequence.len() - 1).sum()
}

/// The batch with a label wherever one can be scored.
fn scored_everywhere(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| {
        let mut fields = SequenceFields::from(sequence.clone());
        for at in 1..fields.labels.len() {
            if fields.segment_ids[at] > 0 && fields.segment_ids[at - 1] > 0 {
                fields.labels[at] = i64::from(fields.targets[at]);
            }
        }
        Sequence::from_fields(fields).unwrap_or_else(|_| sequence.clone())
    })
}
