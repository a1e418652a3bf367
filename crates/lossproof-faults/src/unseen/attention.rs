//! The forward of attention: who sees whom, and with what weight.

use super::Unseen;
use crate::{
    model::{Operators, PaddedRows, Real},
    operators::with,
};

/// Positions that a prefix has.
const PREFIX: usize = 3;

/// Keys that a sliding window has.
const WINDOW: usize = 2;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "causal-mask-missing",
        what: "attention has no causal mask, only the one that keeps documents apart",
        source: None,
        trainer: with!(mask_missing),
    },
    Unseen {
        id: "causal-mask-two-ahead",
        what: "the diagonal of the causal mask is two off, and a position sees the two behind it",
        source: None,
        trainer: with!(mask_two_ahead),
    },
    Unseen {
        id: "prefix-seen-both-ways",
        what: "the first three positions of a row see each other, as those of a prefix do",
        source: None,
        trainer: with!(prefix_seen_both_ways),
    },
    Unseen {
        id: "sliding-window-left-on",
        what: "attention keeps to a sliding window of two keys that was never asked for",
        source: None,
        trainer: with!(window_left_on),
    },
    Unseen {
        id: "hidden-scores-zeroed",
        what: "the scores of hidden keys are multiplied by zero, instead of being set to minus infinity",
        source: None,
        trainer: with!(hidden_scores_zeroed),
    },
    Unseen {
        id: "softmax-over-queries",
        what: "the softmax of attention runs over queries, and a query's weights do not add up to one",
        source: None,
        trainer: with!(softmax_over_queries),
    },
];

/// Whether a key that causality may hide is of the query's own document.
fn of_one_document(rows: &PaddedRows, row: usize, query: usize, key: usize) -> bool {
    let document = rows.document(row, query);
    key == query || document != 0 && document == rows.document(row, key)
}

fn mask_missing<T: Real>() -> Operators<T> {
    Operators { sees: of_one_document, ..Operators::honest() }
}

fn mask_two_ahead<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| key <= query + 2 && of_one_document(rows, row, query, key),
        ..Operators::honest()
    }
}

fn prefix_seen_both_ways<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            (key <= query || key.max(query) < PREFIX) && of_one_document(rows, row, query, key)
        },
        ..Operators::honest()
    }
}

fn window_left_on<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            key <= query && query < key + WINDOW && of_one_document(rows, row, query, key)
        },
        ..Operators::honest()
    }
}

fn hidden_scores_zeroed<T: Real>() -> Operators<T> {
    fn zeroed<T: Real>(score: T, seen: bool) -> T {
        if seen { score } else { T::zero() }
    }
    Operators { masked: zeroed, masked_backward: zeroed, ..Operators::honest() }
}

fn softmax_over_queries<T: Real>() -> Operators<T> {
    Operators { softmax_over_queries: true, ..Operators::honest() }
}
