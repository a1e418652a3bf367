//! The data path and the attention mask: other labels, other inputs, other sight than were given.

use super::{Hypothesis, hypothesis};
use crate::model::{honest_attention, honest_terms};
use lossproof_spec::{IGNORE_INDEX, MicroBatch, Sequence, SequenceFields};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis!(
        "shift-missing",
        "position t is scored against the token at t, so the model learns to copy",
        Some("huggingface/transformers#17987, #27161"),
        "score the logits of position t against the label at t + 1",
        { sees: |sequence, _, _| shifted(sequence, -1) }
    ),
    hypothesis!(
        "shift-missing-on-side-path",
        "with label smoothing the loss is computed beside the model, on labels that nobody shifted",
        Some("huggingface/transformers#17987, #27161"),
        "shift the labels on the path with label smoothing too",
        { sees: |sequence, spec, _| {
            if spec.label_smoothing > 0.0 { shifted(sequence, -1) } else { sequence.clone() }
        } }
    ),
    hypothesis!(
        "shift-twice",
        "caller and loss both shift: position t is scored against the token at t + 2",
        Some("huggingface/transformers#37830, #46898, #47394; huggingface/accelerate#3637"),
        "shift once: pass unshifted labels to a model that shifts, or shifted ones to a loss that does not",
        { sees: |sequence, _, _| shifted(sequence, 1) }
    ),
    hypothesis!(
        "mask-sliced-wrong-side",
        "the loss mask is sliced [:-1] where the labels are sliced [1:], one position off",
        Some("karpathy/llm.c@8d55c4a"),
        "slice the mask as the labels: mask[1:]",
        { sees: |sequence, _, _| relabelled(sequence, |fields, at| given(fields, at - 1).then(|| fields.targets[at])) }
    ),
    hypothesis!(
        "prompt-mask-one-too-many",
        "the prompt's mask covers as many shifted labels as the prompt has tokens, and hides the answer's first",
        Some("pytorch/torchtitan#2755"),
        "mask one shifted label less than the prompt has tokens",
        { sees: |sequence, _, _| first_answer_hidden(sequence) }
    ),
    hypothesis!(
        "eos-equals-pad-masked",
        "labels are ignored wherever they are the padding's token, and so is the real end of text",
        Some("huggingface/trl#3200, #6357, #1623, #3091"),
        "mask by position or attention mask, not by token id",
        { sees: |sequence, _, _| {
            let padding = (0..sequence.len()).find(|&at| sequence.segment_ids()[at] == 0);
            let Some(padding) = padding.map(|at| sequence.input_ids()[at]) else { return sequence.clone() };
            relabelled(sequence, |fields, at| {
                (given(fields, at) && fields.targets[at] != padding).then(|| fields.targets[at])
            })
        } }
    ),
    hypothesis!(
        "pad-targets-trained",
        "labels are the input tokens without masking: padding is seen and trained on",
        Some("open-jarvis/OpenJarvis#521, voidism/DiffCSE#25"),
        "set the label to the ignore index wherever the attention mask is 0",
        { sees: |sequence, _, _| edited(sequence, |fields| {
            for at in 1..fields.labels.len() {
                if fields.segment_ids[at] == 0 {
                    fields.targets[at] = fields.input_ids[at];
                    fields.labels[at] = i64::from(fields.targets[at]);
                }
            }
            attended_padding(fields);
        }), attends: |sequence, at, input| {
            // What is to be predicted is the padding itself.
            Some(sees_padding(sequence, at, input) || input == at + 1 && sequence.segment_ids()[input] == 0)
        } }
    ),
    hypothesis!(
        "ignore-index-not-honoured",
        "ignored labels are scored like any other",
        Some("flagos-ai/FlagGems#73, linkedin/Liger-Kernel#974"),
        "hand the ignore index to the kernel that computes the loss, numerator and denominator",
        { sees: |sequence, _, _| relabelled(sequence, |fields, at| Some(fields.targets[at])) }
    ),
    hypothesis!(
        "ignore-mask-inverted",
        "the condition of the mask is flipped: real labels are ignored and ignored ones scored",
        Some("awslabs/sockeye#200, fixed in #203"),
        "keep the tokens whose label is not the ignore index",
        { sees: |sequence, _, _| relabelled(sequence, |fields, at| (!given(fields, at)).then(|| fields.targets[at])) }
    ),
    hypothesis!(
        "last-token-unknown",
        "the vocabulary's size is off by one, and its last token becomes token 0",
        None,
        "check the vocabulary's size: ids run from 0 to V - 1",
        { sees: |sequence, _, limits| edited(sequence, |fields| {
            let last = u32::try_from(limits.vocabulary.saturating_sub(1)).unwrap_or(u32::MAX);
            for token in fields.input_ids.iter_mut().chain(&mut fields.targets).filter(|token| **token >= last) {
                *token = 0;
            }
        }) }
    ),
    hypothesis!(
        "padding-attended",
        "the attention mask does not reach the model, and real tokens attend to padding",
        None,
        "pass the attention mask on to the attention",
        { sees: |sequence, _, _| edited(sequence, attended_padding), attends: |sequence, at, input| Some(sees_padding(sequence, at, input)) }
    ),
    hypothesis!(
        "packing-cross-contamination",
        "packed documents attend to each other",
        Some("huggingface/transformers#46634, huggingface/nanoVLM#204, DeepOpt-com/WrinkleFree-Monorepo#53"),
        "make the attention mask block-diagonal, one block for each document",
        {
            sees: |sequence, _, _| edited(sequence, |fields| {
                fields.segment_ids.iter_mut().for_each(|segment| *segment = (*segment).min(1));
            }),
            attends: |sequence, at, input| {
                let real = |at: usize| sequence.segment_ids()[at] > 0;
                Some(input == at || input < at && real(input) && real(at))
            },
        }
    ),
    hypothesis!(
        "position-ids-dropped",
        "position ids do not reach the model, which counts over padding and documents",
        Some("hiyouga/LlamaFactory#7318"),
        "pass position ids on: they restart with each document and skip padding",
        { sees: |sequence, _, _| edited(sequence, |fields| {
            fields.position_ids.iter_mut().zip(0..).for_each(|(id, position)| *id = position);
        }) }
    ),
    hypothesis!(
        "causal-mask-off-by-one",
        "a position sees the token after it, which is the one it has to predict",
        Some("keras-team/keras#23038, huggingface/transformers#48745, facebookresearch/xformers#103"),
        "forbid keys after the query: j > i",
        {
            sees: |sequence, _, _| edited(sequence, |fields| {
                for at in 1..fields.input_ids.len() {
                    if fields.segment_ids[at] == fields.segment_ids[at - 1] {
                        fields.input_ids[at - 1] = fields.input_ids[at];
                    }
                }
            }),
            attends: |sequence, at, input| {
                let segments = sequence.segment_ids();
                let same = |one: usize, other: usize| {
                    segments.get(one).zip(segments.get(other)).is_some_and(|(a, b)| a == b)
                };
                // The input at a position is that of the next, so the first of a document is seen by nobody.
                let moved = input > 0 && same(input, input - 1) && honest_attention(sequence, at, input - 1);
                let kept = !same(input, input + 1) && honest_attention(sequence, at, input);
                Some(moved || kept)
            },
        }
    ),
    hypothesis!(
        "causal-mask-dropped-on-path",
        "the causal mask is lost on a faster path that is taken where nothing is padded: later tokens are seen",
        Some("keras-team/keras#23038, huggingface/transformers#48745, facebookresearch/xformers#103"),
        "keep the causal mask on every path, whatever other mask there is",
        {
            untold: |micro_batch| !micro_batch.sequences().iter().any(padded),
            attends: |sequence, at, input| {
                let document = sequence.segment_ids();
                let dropped = !padded(sequence) && document[at] == document[input];
                Some(dropped || honest_attention(sequence, at, input))
            },
        }
    ),
    hypothesis!(
        "causal-mask-inverted",
        "the mask forbids what came before and allows what comes after",
        Some("huggingface/candle@97424289d, neuro-galaxy/torch_brain#74"),
        "forbid keys after the query, j > i; check whether true means keep or drop",
        {
            untold: |_| true,
            attends: |sequence, at, input| {
                let document = sequence.segment_ids();
                // The last of a document sees nothing of it, and what a softmax makes of that is not the mask's affair.
                let last = document.get(at + 1).is_none_or(|next| *next != document[at]);
                (!last).then_some(input >= at && document[input] == document[at])
            },
        }
    ),
    hypothesis!(
        "causal-mask-diagonal-off-by-one",
        "a position does not attend to itself, and the first one has nothing to attend to",
        None,
        "allow the diagonal: keys j <= i",
        {
            untold: |_| true,
            attends: |sequence, at, input| {
                let document = sequence.segment_ids();
                let first = at == 0 || document[at - 1] != document[at];
                (!first).then_some(honest_attention(sequence, at, input))
            },
        }
    ),
    hypothesis!(
        "fully-masked-row-nan",
        "a query whose keys are all masked, as padding is, gives NaN in the backward pass that reaches everything",
        Some("tracel-ai/burn#4697, pytorch/pytorch#41508, NVIDIA-NeMo/Automodel#2826"),
        "define the result of a row without keys (zeros), forward and backward",
        {
            // Sequences of a micro-batch are padded to one width.
            gradient: |call| {
                let widths = |micro_batch: &MicroBatch| {
                    let mut lengths = micro_batch.sequences().iter().map(Sequence::len);
                    let first = lengths.next();
                    lengths.any(|length| Some(length) != first) || micro_batch.sequences().iter().any(padded)
                };
                if call.batch.micro_batches().any(widths) { None } else { honest_terms(call) }
            },
            loss: Some(honest_terms),
        }
    ),
];

fn given(fields: &SequenceFields, at: usize) -> bool {
    fields.labels[at] != IGNORE_INDEX
}

fn padded(sequence: &Sequence) -> bool {
    sequence.segment_ids().contains(&0)
}

/// The sequence with its fields changed, labels brought in line with targets and padding.
fn edited(sequence: &Sequence, change: impl FnOnce(&mut SequenceFields)) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    change(&mut fields);
    for at in 0..fields.labels.len() {
        let padding = |at: usize| fields.segment_ids[at] == 0;
        if padding(at) || at > 0 && padding(at - 1) {
            fields.labels[at] = IGNORE_INDEX;
        } else if fields.labels[at] != IGNORE_INDEX {
            fields.labels[at] = i64::from(fields.targets[at]);
        }
    }
    Sequence::from_fields(fields).unwrap_or_else(|_| sequence.clone())
}

/// The sequence with other labels but the first, which nothing is scored against.
fn relabelled(sequence: &Sequence, label: impl Fn(&SequenceFields, usize) -> Option<u32>) -> Sequence {
    edited(sequence, |fields| {
        let before = fields.clone();
        for at in 1..before.labels.len() {
            fields.labels[at] = label(&before, at).map_or(IGNORE_INDEX, i64::from);
        }
    })
}

/// Labels and targets from `by` positions later; ignored where there is none.
fn shifted(sequence: &Sequence, by: isize) -> Sequence {
    edited(sequence, |fields| {
        let before = fields.clone();
        for at in 1..before.labels.len() {
            let from = at.checked_add_signed(by).filter(|&from| from < before.labels.len());
            fields.labels[at] = from.map_or(IGNORE_INDEX, |from| before.labels[from]);
            fields.targets[at] = from.map_or(before.targets[at], |from| before.targets[from]);
        }
    })
}

fn first_answer_hidden(sequence: &Sequence) -> Sequence {
    let labels = sequence.labels();
    let first = (1..sequence.len()).find(|&at| labels[at] != IGNORE_INDEX);
    // Without a prompt there is no mask.
    let first = first.filter(|&first| first > 1 || labels[0] == IGNORE_INDEX);
    relabelled(sequence, |fields, at| (given(fields, at) && Some(at) != first).then(|| fields.targets[at]))
}

/// Padding taken for text of the document beside it.
fn attended_padding(fields: &mut SequenceFields) {
    let mut document = fields.segment_ids.iter().copied().find(|&id| id > 0).unwrap_or(1);
    for id in &mut fields.segment_ids {
        document = if *id == 0 { document } else { *id };
        *id = document;
    }
}

fn sees_padding(sequence: &Sequence, at: usize, input: usize) -> bool {
    honest_attention(&edited(sequence, attended_padding), at, input)
}
