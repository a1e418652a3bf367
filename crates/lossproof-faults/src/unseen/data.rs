//! The data path: which labels and sequences reach the loss.

use super::Unseen;
use crate::trainer::TrainerParts;
use lossproof_cases::edit::{given, relabel};
use lossproof_spec::Sequence;

const HONEST: TrainerParts = TrainerParts::HONEST;

/// Positions that labels are cut to.
const LABELLED: usize = 6;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "label-of-a-repetition-ignored",
        what: "a label that equals the token it is predicted from counts as copied, and is ignored",
        source: None,
        trainer: TrainerParts { sequence: |sequence, _| repetitions_ignored(sequence), ..HONEST },
    },
    Unseen {
        id: "document-start-ignored",
        what: "the mask between packed documents sits one label late, and hides the first of a document",
        source: None,
        trainer: TrainerParts { sequence: |sequence, _| document_starts_ignored(sequence), ..HONEST },
    },
    Unseen {
        id: "duplicate-rows-scored-once",
        what: "of the rows of a batch with the same tokens only the first keeps its labels",
        source: None,
        trainer: TrainerParts {
            accumulate: |honest, spec, batch| {
                let mut seen: Vec<Vec<u32>> = Vec::new();
                let distinct = batch.map_sequences(|sequence| {
                    let tokens = sequence.input_ids().to_vec();
                    if seen.contains(&tokens) {
                        return sequence.supervise_only(|_| false);
                    }
                    seen.push(tokens);
                    sequence.clone()
                });
                honest.pass(spec, &distinct)
            },
            ..HONEST
        },
    },
    Unseen {
        id: "last-label-of-a-row-lost",
        what: "labels are sliced [:-1] once more than the loss does it, and a row's last one is never scored",
        source: None,
        trainer: TrainerParts { sequence: |sequence, _| last_label_lost(sequence), ..HONEST },
    },
    Unseen {
        id: "labels-cut-to-another-length",
        what: "labels are cut to a shorter length than their rows, and those behind the cut are ignored",
        source: None,
        trainer: TrainerParts { sequence: |sequence, _| first_labels_only(sequence), ..HONEST },
    },
];

fn repetitions_ignored(sequence: &Sequence) -> Sequence {
    relabel(sequence, |fields, position| {
        let target = fields.targets[position];
        (given(fields.labels[position]) && fields.input_ids[position - 1] != target).then_some(target)
    })
}

/// The boundary between documents is where a label crosses it; here the label after that one is hidden.
fn document_starts_ignored(sequence: &Sequence) -> Sequence {
    relabel(sequence, |fields, position| {
        let starts = position >= 2 && {
            let (before, own) = (fields.segment_ids[position - 2], fields.segment_ids[position - 1]);
            before != 0 && before != own
        };
        (given(fields.labels[position]) && !starts).then_some(fields.targets[position])
    })
}

fn last_label_lost(sequence: &Sequence) -> Sequence {
    relabel(sequence, |fields, position| {
        let last = position + 1 == fields.labels.len();
        (given(fields.labels[position]) && !last).then_some(fields.targets[position])
    })
}

fn first_labels_only(sequence: &Sequence) -> Sequence {
    relabel(sequence, |fields, position| {
        (given(fields.labels[position]) && position < LABELLED).then_some(fields.targets[position])
    })
}
