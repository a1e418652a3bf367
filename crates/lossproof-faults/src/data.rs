//! The data path: what the trainer makes of a sequence before the model sees it.

use crate::{Fault, fault, trainer::TrainerParts};
use lossproof_cases::edit::{edit_freely, given, relabel};
use lossproof_spec::{IGNORE_INDEX, Sequence, SequenceFields};

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault("shift-missing", TrainerParts { sequence: |sequence, _| shifted(sequence, -1), ..HONEST }),
    fault("shift-twice", TrainerParts { sequence: |sequence, _| shifted(sequence, 1), ..HONEST }),
    fault(
        "mask-sliced-wrong-side",
        TrainerParts { sequence: |sequence, _| masked_by_the_token_before(sequence), ..HONEST },
    ),
    fault(
        "prompt-mask-one-too-many",
        TrainerParts { sequence: |sequence, _| first_answer_hidden(sequence), ..HONEST },
    ),
    fault(
        "eos-equals-pad-masked",
        TrainerParts { sequence: |sequence, _| masked_by_the_padding_token(sequence), ..HONEST },
    ),
    fault(
        "pad-targets-trained",
        TrainerParts { sequence: |sequence, _| padding_trained(sequence), ..HONEST },
    ),
    fault(
        "ignore-index-not-honoured",
        TrainerParts {
            sequence: |sequence, _| relabel(sequence, |fields, position| Some(fields.targets[position])),
            ..HONEST
        },
    ),
    fault(
        "ignore-mask-inverted",
        TrainerParts {
            sequence: |sequence, _| {
                relabel(sequence, |fields, position| {
                    (!given(fields.labels[position])).then_some(fields.targets[position])
                })
            },
            ..HONEST
        },
    ),
    fault(
        "padding-attended",
        TrainerParts { sequence: |sequence, _| edit_freely(sequence, attend_to_padding), ..HONEST },
    ),
    fault(
        "packing-cross-contamination",
        TrainerParts { sequence: |sequence, _| edit_freely(sequence, join_documents), ..HONEST },
    ),
    fault(
        "position-ids-dropped",
        TrainerParts { sequence: |sequence, _| edit_freely(sequence, count_positions), ..HONEST },
    ),
    fault(
        "last-token-unknown",
        TrainerParts {
            sequence: |sequence, limits| {
                edit_freely(sequence, |fields| {
                    let known = |token: &mut u32| {
                        *token = if *token as usize + 1 < limits.vocabulary { *token } else { 0 }
                    };
                    fields.input_ids.iter_mut().chain(&mut fields.targets).for_each(known);
                })
            },
            ..HONEST
        },
    ),
    fault(
        "causal-mask-off-by-one",
        TrainerParts { sequence: |sequence, _| edit_freely(sequence, see_the_next), ..HONEST },
    ),
];

/// Labels and targets come from `by` positions later; there is none beyond the ends.
pub(crate) fn shifted(sequence: &Sequence, by: isize) -> Sequence {
    edit_freely(sequence, |fields| {
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
    relabel(sequence, |fields, position| {
        (given(fields.labels[position - 1])).then_some(fields.targets[position])
    })
}

fn first_answer_hidden(sequence: &Sequence) -> Sequence {
    let labelled = |position: &usize| given(sequence.labels()[*position]);
    let first = (1..sequence.len()).find(labelled).filter(|&first| first > 1 || !labelled(&0));
    relabel(sequence, |fields, position| {
        let label = given(fields.labels[position]) && Some(position) != first;
        label.then_some(fields.targets[position])
    })
}

fn masked_by_the_padding_token(sequence: &Sequence) -> Sequence {
    let padding = sequence.segment_ids().iter().position(|&segment| segment == 0);
    let Some(padding) = padding.map(|position| sequence.input_ids()[position]) else {
        return sequence.clone();
    };
    relabel(sequence, |fields, position| {
        let target = fields.targets[position];
        (given(fields.labels[position]) && target != padding).then_some(target)
    })
}

fn padding_trained(sequence: &Sequence) -> Sequence {
    edit_freely(sequence, |fields| {
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
