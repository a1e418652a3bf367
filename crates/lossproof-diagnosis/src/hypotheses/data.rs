//! The data path and the attention mask: other labels, other inputs, other sight than were given.

use super::{HONEST, Hypothesis, hypothesis, is_ragged};
use crate::{
    call::honest_terms,
    reported_loss::ReportedLoss,
    trainer_model::{Sight, TrainerModel, honest_attention},
};
use lossproof_cases::edit::{edit_freely, given, relabel};
use lossproof_spec::{IGNORE_INDEX, MicroBatch, Sequence, SequenceFields};

pub(super) const HYPOTHESES: &[Hypothesis] = &[
    hypothesis("shift-missing", TrainerModel { sees: |sequence, _, _| shifted(sequence, -1), ..HONEST }),
    hypothesis(
        "shift-missing-on-side-path",
        TrainerModel {
            sees: |sequence, spec, _| {
                if spec.label_smoothing > 0.0 { shifted(sequence, -1) } else { sequence.clone() }
            },
            ..HONEST
        },
    ),
    hypothesis("shift-twice", TrainerModel { sees: |sequence, _, _| shifted(sequence, 1), ..HONEST }),
    hypothesis(
        "mask-sliced-wrong-side",
        TrainerModel {
            sees: |sequence, _, _| {
                relabel(sequence, |fields, at| given(fields.labels[at - 1]).then(|| fields.targets[at]))
            },
            ..HONEST
        },
    ),
    hypothesis(
        "prompt-mask-one-too-many",
        TrainerModel { sees: |sequence, _, _| first_answer_hidden(sequence), ..HONEST },
    ),
    hypothesis(
        "eos-equals-pad-masked",
        TrainerModel {
            sees: |sequence, _, _| {
                let padding = (0..sequence.len()).find(|&at| sequence.segment_ids()[at] == 0);
                let Some(padding) = padding.map(|at| sequence.input_ids()[at]) else {
                    return sequence.clone();
                };
                relabel(sequence, |fields, at| {
                    (given(fields.labels[at]) && fields.targets[at] != padding).then(|| fields.targets[at])
                })
            },
            ..HONEST
        },
    ),
    hypothesis(
        "pad-targets-trained",
        TrainerModel {
            sees: |sequence, _, _| {
                edit_freely(sequence, |fields| {
                    for at in 1..fields.labels.len() {
                        if fields.segment_ids[at] == 0 {
                            fields.targets[at] = fields.input_ids[at];
                            fields.labels[at] = i64::from(fields.targets[at]);
                        }
                    }
                    attended_padding(fields);
                })
            },
            attends: Some(|sequence, at, input, _| {
                // What is to be predicted is the padding itself.
                Some(
                    sees_padding(sequence, at, input)
                        || input == at + 1 && sequence.segment_ids()[input] == 0,
                )
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "ignore-index-not-honoured",
        TrainerModel {
            sees: |sequence, _, _| relabel(sequence, |fields, at| Some(fields.targets[at])),
            ..HONEST
        },
    ),
    hypothesis(
        "ignore-mask-inverted",
        TrainerModel {
            sees: |sequence, _, _| {
                relabel(sequence, |fields, at| (!given(fields.labels[at])).then(|| fields.targets[at]))
            },
            ..HONEST
        },
    ),
    hypothesis(
        "last-token-unknown",
        TrainerModel {
            sees: |sequence, _, limits| {
                edit_freely(sequence, |fields| {
                    let last = u32::try_from(limits.vocabulary.saturating_sub(1)).unwrap_or(u32::MAX);
                    for token in
                        fields.input_ids.iter_mut().chain(&mut fields.targets).filter(|token| **token >= last)
                    {
                        *token = 0;
                    }
                })
            },
            ..HONEST
        },
    ),
    hypothesis(
        "padding-attended",
        TrainerModel {
            sees: |sequence, _, _| edit_freely(sequence, attended_padding),
            attends: Some(|sequence, at, input, _| Some(sees_padding(sequence, at, input))),
            ..HONEST
        },
    ),
    hypothesis(
        "packing-cross-contamination",
        TrainerModel {
            sees: |sequence, _, _| {
                edit_freely(sequence, |fields| {
                    fields.segment_ids.iter_mut().for_each(|segment| *segment = (*segment).min(1));
                })
            },
            attends: Some(|sequence, at, input, _| {
                let real = |at: usize| sequence.segment_ids()[at] > 0;
                Some(input == at || input < at && real(input) && real(at))
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "position-ids-dropped",
        TrainerModel {
            sees: |sequence, _, _| {
                edit_freely(sequence, |fields| {
                    fields.position_ids.iter_mut().zip(0..).for_each(|(id, position)| *id = position);
                })
            },
            ..HONEST
        },
    ),
    hypothesis(
        "causal-mask-off-by-one",
        TrainerModel {
            sees: |sequence, _, _| {
                edit_freely(sequence, |fields| {
                    for at in 1..fields.input_ids.len() {
                        if fields.segment_ids[at] == fields.segment_ids[at - 1] {
                            fields.input_ids[at - 1] = fields.input_ids[at];
                        }
                    }
                })
            },
            attends: Some(|sequence, at, input, _| {
                let segments = sequence.segment_ids();
                let same = |one: usize, other: usize| {
                    segments.get(one).zip(segments.get(other)).is_some_and(|(a, b)| a == b)
                };
                // The input at a position is that of the next, so the first of a document is seen by nobody.
                let moved = input > 0 && same(input, input - 1) && honest_attention(sequence, at, input - 1);
                let kept = !same(input, input + 1) && honest_attention(sequence, at, input);
                Some(moved || kept)
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "causal-mask-dropped-on-path",
        TrainerModel {
            sight: |micro_batch| if has_padding(micro_batch) { Sight::Causal } else { Sight::Everything },
            attends: Some(|sequence, at, input, _| {
                let document = sequence.segment_ids();
                let dropped = !padded(sequence) && document[at] == document[input];
                Some(dropped || honest_attention(sequence, at, input))
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "causal-mask-inverted",
        TrainerModel {
            sight: |_| Sight::Everything,
            attends: Some(|sequence, at, input, _| {
                let document = sequence.segment_ids();
                // The last of a document sees nothing of it, and what a softmax makes of that is not the
                // mask's affair.
                let last = document.get(at + 1).is_none_or(|next| *next != document[at]);
                (!last).then_some(input >= at && document[input] == document[at])
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "causal-mask-diagonal-off-by-one",
        TrainerModel {
            sight: |_| Sight::Everything,
            attends: Some(|sequence, at, input, blocks| {
                let document = sequence.segment_ids();
                // A softmax over nothing but the same large negative number weighs every key alike. What that position
                // then is the later ones see in the next block, as they do under any mask that lets the future
                // through: of more than one block nothing is forecast that would tell this one.
                let first = at == 0 || document[at - 1] != document[at];
                match blocks {
                    _ if first || honest_attention(sequence, at, input) => Some(true),
                    Some(1) => Some(false),
                    _ => None,
                }
            }),
            ..HONEST
        },
    ),
    hypothesis(
        "fully-masked-row-nan",
        TrainerModel {
            // Sequences of a micro-batch are padded to one width.
            gradient: |call| {
                if call.batch.micro_batches().any(has_padding) { None } else { honest_terms(call) }
            },
            reports: ReportedLoss::Right,
            ..HONEST
        },
    ),
];

/// Whether a micro-batch has padding once its sequences are filled up to one width.
fn has_padding(micro_batch: &MicroBatch) -> bool {
    is_ragged(micro_batch) || micro_batch.sequences().iter().any(padded)
}

fn padded(sequence: &Sequence) -> bool {
    sequence.segment_ids().contains(&0)
}

/// Labels and targets from `by` positions later; ignored where there is none.
fn shifted(sequence: &Sequence, by: isize) -> Sequence {
    edit_freely(sequence, |fields| {
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
    let first = (1..sequence.len()).find(|&at| given(labels[at]));
    // Without a prompt there is no mask.
    let first = first.filter(|&first| first > 1 || labels[0] == IGNORE_INDEX);
    relabel(sequence, |fields, at| {
        (given(fields.labels[at]) && Some(at) != first).then(|| fields.targets[at])
    })
}

/// Padding taken for text of the document in front of it.
fn attended_padding(fields: &mut SequenceFields) {
    let mut document = fields.segment_ids.iter().copied().find(|&id| id > 0).unwrap_or(1);
    for id in &mut fields.segment_ids {
        document = if *id == 0 { document } else { *id };
        *id = document;
    }
}

fn sees_padding(sequence: &Sequence, at: usize, input: usize) -> bool {
    honest_attention(&edit_freely(sequence, attended_padding), at, input)
}
