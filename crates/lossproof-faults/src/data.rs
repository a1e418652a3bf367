//! The data path: what the trainer makes of a sequence before the model sees it.

use crate::{Family, Fault, trainer::Trainer};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Sequence, SequenceFields};

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "shift-missing",
        family: Family::Alignment,
        what: "the loss scores position t against the token at t, so the model learns to copy",
        source: Some("huggingface/transformers#17987, #27161"),
        clauses: &["1.1"],
        trainer: Trainer { sequence: |sequence, _| shifted(sequence, -1), ..HONEST },
    },
    Fault {
        id: "shift-twice",
        family: Family::Alignment,
        what: "the caller and the loss both shift, so the target of position t is the token at t + 2",
        source: Some("huggingface/transformers#37830, #46898, #47394; huggingface/accelerate#3637"),
        clauses: &["1.1"],
        trainer: Trainer { sequence: |sequence, _| shifted(sequence, 1), ..HONEST },
    },
    Fault {
        id: "mask-sliced-wrong-side",
        family: Family::Alignment,
        what: "the loss mask is sliced [:-1] where the labels are sliced [1:]",
        source: Some("karpathy/llm.c@8d55c4a"),
        clauses: &["1.1", "3.5"],
        trainer: Trainer { sequence: |sequence, _| masked_by_the_token_before(sequence), ..HONEST },
    },
    Fault {
        id: "prompt-mask-one-too-many",
        family: Family::Alignment,
        what: "the prompt's mask covers as many shifted labels as the prompt has tokens, and hides the answer's first",
        source: Some("pytorch/torchtitan#2755"),
        clauses: &["3.5"],
        trainer: Trainer { sequence: |sequence, _| first_answer_hidden(sequence), ..HONEST },
    },
    Fault {
        id: "eos-equals-pad-masked",
        family: Family::Masking,
        what: "labels are ignored wherever they are the padding's token, the real end of text included",
        source: Some("huggingface/trl#3200, #6357, #1623, #3091"),
        clauses: &["3.7"],
        trainer: Trainer { sequence: |sequence, _| masked_by_the_padding_token(sequence), ..HONEST },
    },
    Fault {
        id: "pad-targets-trained",
        family: Family::Masking,
        what: "labels are the input tokens without masking, so padding is seen and trained on",
        source: Some("open-jarvis/OpenJarvis#521, voidism/DiffCSE#25"),
        clauses: &["3.2", "3.6"],
        trainer: Trainer { sequence: |sequence, _| padding_trained(sequence), ..HONEST },
    },
    Fault {
        id: "ignore-index-not-honoured",
        family: Family::Masking,
        what: "the ignore index is not handed to the loss kernel, and ignored tokens are trained on",
        source: Some("flagos-ai/FlagGems#73, linkedin/Liger-Kernel#974"),
        clauses: &["3.1", "3.4", "3.5"],
        trainer: Trainer {
            sequence: |sequence, _| relabelled(sequence, |fields, position| Some(fields.targets[position])),
            ..HONEST
        },
    },
    Fault {
        id: "ignore-mask-inverted",
        family: Family::Masking,
        what: "the condition of the mask is flipped: real labels are ignored and ignored ones trained on",
        source: Some("awslabs/sockeye#200, fixed in #203"),
        clauses: &["3.1", "3.4"],
        trainer: Trainer {
            sequence: |sequence, _| {
                relabelled(sequence, |fields, position| {
                    (fields.labels[position] == IGNORE_INDEX).then_some(fields.targets[position])
                })
            },
            ..HONEST
        },
    },
    Fault {
        id: "padding-attended",
        family: Family::Masking,
        what: "the attention mask does not reach the model, and real tokens attend to padding",
        source: None,
        clauses: &["3.3"],
        trainer: Trainer { sequence: |sequence, _| edit(sequence, attend_to_padding), ..HONEST },
    },
    Fault {
        id: "packing-cross-contamination",
        family: Family::Attention,
        what: "packed documents attend to each other: positions restart, but the mask is not block-diagonal",
        source: Some(
            "huggingface/transformers#46634, huggingface/nanoVLM#204, DeepOpt-com/WrinkleFree-Monorepo#53",
        ),
        clauses: &["6.7"],
        trainer: Trainer { sequence: |sequence, _| edit(sequence, join_documents), ..HONEST },
    },
    Fault {
        id: "position-ids-dropped",
        family: Family::Attention,
        what: "position ids do not reach the model, which counts 0, 1, 2, … over padding and documents",
        source: Some("hiyouga/LlamaFactory#7318"),
        clauses: &["3.3", "6.5", "6.7"],
        trainer: Trainer { sequence: |sequence, _| edit(sequence, count_positions), ..HONEST },
    },
    Fault {
        id: "last-token-unknown",
        family: Family::Masking,
        what: "the vocabulary's size is off by one, and its last token becomes token 0",
        source: None,
        clauses: &["6.6"],
        trainer: Trainer {
            sequence: |sequence, limits| {
                edit(sequence, |fields| {
                    let known = |token: &mut u32| {
                        *token = if *token as usize + 1 < limits.vocabulary { *token } else { 0 }
                    };
                    fields.input_ids.iter_mut().chain(&mut fields.targets).for_each(known);
                })
            },
            ..HONEST
        },
    },
    Fault {
        id: "causal-mask-off-by-one",
        family: Family::Attention,
        what: "a position sees the token after it, which is the one it has to predict",
        source: Some("keras-team/keras#23038, huggingface/transformers#48745, facebookresearch/xformers#103"),
        clauses: &["6.1", "6.2"],
        trainer: Trainer { sequence: |sequence, _| edit(sequence, see_the_next), ..HONEST },
    },
];

/// The batch with a label wherever one can be scored.
pub(crate) fn supervised_everywhere(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| relabelled(sequence, |fields, position| Some(fields.targets[position])))
}

/// The sequence with its fields changed. A label that is given is its target; what padding says or is predicted from, no
/// trainer can score.
fn edit(sequence: &Sequence, change: impl FnOnce(&mut SequenceFields)) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    change(&mut fields);
    for position in 0..fields.labels.len() {
        let padding = |at: usize| fields.segment_ids[at] == 0;
        if padding(position) || position > 0 && padding(position - 1) {
            fields.labels[position] = IGNORE_INDEX;
        } else if fields.labels[position] != IGNORE_INDEX {
            fields.labels[position] = i64::from(fields.targets[position]);
        }
    }
    Sequence::from_fields(fields).expect("invariant: labels agree with targets and padding")
}

/// The sequence with other labels but the first, which nothing is scored against: a target, or ignored.
fn relabelled(sequence: &Sequence, label: impl Fn(&SequenceFields, usize) -> Option<u32>) -> Sequence {
    edit(sequence, |fields| {
        let labels = (1..fields.labels.len()).map(|at| label(fields, at).map_or(IGNORE_INDEX, i64::from));
        let labels: Vec<i64> = labels.collect();
        fields.labels.splice(1.., labels);
    })
}

/// Labels and targets come from `by` positions later; there is none beyond the ends.
pub(crate) fn shifted(sequence: &Sequence, by: isize) -> Sequence {
    edit(sequence, |fields| {
        let (labels, targets) = (fields.labels.clone(), fields.targets.clone());
        for position in 1..labels.len() {
            match position.checked_add_signed(by).filter(|&from| from < labels.len()) {
                Some(from) => {
                    (fields.labels[position], fields.targets[position]) = (labels[from], targets[from]);
                }
                None => fields.labels[position] = IGNORE_INDEX,
            }
        }
    })
}

fn masked_by_the_token_before(sequence: &Sequence) -> Sequence {
    relabelled(sequence, |fields, position| {
        (fields.labels[position - 1] != IGNORE_INDEX).then_some(fields.targets[position])
    })
}

fn first_answer_hidden(sequence: &Sequence) -> Sequence {
    let given = |position: &usize| sequence.labels()[*position] != IGNORE_INDEX;
    let first = (1..sequence.len()).find(given).filter(|&first| first > 1 || !given(&0));
    relabelled(sequence, |fields, position| {
        let label = fields.labels[position] != IGNORE_INDEX && Some(position) != first;
        label.then_some(fields.targets[position])
    })
}

fn masked_by_the_padding_token(sequence: &Sequence) -> Sequence {
    let padding = sequence.segment_ids().iter().position(|&segment| segment == 0);
    let Some(padding) = padding.map(|position| sequence.input_ids()[position]) else {
        return sequence.clone();
    };
    relabelled(sequence, |fields, position| {
        let target = fields.targets[position];
        (fields.labels[position] != IGNORE_INDEX && target != padding).then_some(target)
    })
}

fn padding_trained(sequence: &Sequence) -> Sequence {
    edit(sequence, |fields| {
        for position in 1..fields.labels.len() {
            if fields.segment_ids[position] == 0 {
                fields.targets[position] = fields.input_ids[position];
                fields.labels[position] = i64::from(fields.targets[position]);
            }
        }
        attend_to_padding(fields);
    })
}

/// Padding belongs to the document before it, or to the first.
fn attend_to_padding(fields: &mut SequenceFields) {
    let mut segment = fields.segment_ids.iter().copied().find(|&segment| segment > 0).unwrap_or(1);
    for id in &mut fields.segment_ids {
        if *id == 0 {
            *id = segment;
        }
        segment = *id;
    }
}

fn join_documents(fields: &mut SequenceFields) {
    fields.segment_ids.iter_mut().for_each(|segment| *segment = (*segment).min(1));
}

fn count_positions(fields: &mut SequenceFields) {
    fields.position_ids.iter_mut().zip(0..).for_each(|(id, position)| *id = position);
}

fn see_the_next(fields: &mut SequenceFields) {
    for position in 1..fields.input_ids.len() {
        if fields.segment_ids[position] == fields.segment_ids[position - 1] {
            fields.input_ids[position - 1] = fields.input_ids[position];
        }
    }
}
