//! What each known bug of an objective fails in.

use super::{ERROR, Row, TOKEN_COUNT};
use lossproof_laws::Violation;

/// Which comparison failed: what a statement says before it comes to a loss or a parameter.
pub(super) fn check(violation: &Violation) -> String {
    match violation.statement.split_once(": ") {
        // A mean of nothing is refused by one trainer, and handed over as no number by another.
        _ if ["breach", "refused"].contains(&violation.unit.as_str()) => ERROR.to_owned(),
        Some((check, _)) if violation.unit != TOKEN_COUNT => check.to_owned(),
        _ => violation.unit.clone(),
    }
}

/// What bugs fail in, each pattern with all that have it. They are what fails in the reference with the bug; a test
/// holds them to it.
pub(super) const PATTERNS: &[Row] = &[
    (
        &["soft-targets-mean-over-elements"],
        &[
            ("soft-targets", "divided by all probabilities"),
            ("soft-targets", "three labels as one distribution"),
        ],
    ),
    (
        &["soft-targets-mean-over-sequences"],
        &[("soft-targets", "divided by sequences"), ("soft-targets", "three labels as one distribution")],
    ),
    (
        &["soft-targets-mean-over-positions"],
        &[("soft-targets", "divided by all positions"), ("soft-targets", "three labels as one distribution")],
    ),
    (
        &["soft-targets-likeliest-only"],
        &[
            ("soft-targets", "between two distributions"),
            ("soft-targets", "that of the likeliest label alone"),
            ("soft-targets", "three labels as one distribution"),
        ],
    ),
    (
        &["soft-targets-truncated"],
        &[
            ("soft-targets", "between two distributions"),
            ("soft-targets", "that of the two likeliest labels, with their mass as it was"),
            ("soft-targets", "three labels as one distribution"),
        ],
    ),
    (
        &["soft-targets-softmaxed-twice"],
        &[
            ("soft-targets", "between two distributions"),
            ("soft-targets", "that of a softmax of the distribution"),
            ("soft-targets", "three labels as one distribution"),
        ],
    ),
    (
        &["soft-targets-divergence-reported"],
        &[
            ("soft-targets", "between two distributions"),
            ("soft-targets", "the divergence, which is less by the entropy of the distributions"),
            ("soft-targets", "three labels as one distribution"),
        ],
    ),
    (
        &["mlm-labels-shifted"],
        &[
            ("masked-tokens", "error"),
            ("masked-tokens", "labels by themselves"),
            ("masked-tokens", "positions without context, beside a causal model"),
            ("masked-tokens", "token count"),
        ],
    ),
    (&["mlm-causal-mask-left-on"], &[("masked-tokens", "tokens behind a label")]),
    (
        &["mlm-loss-on-all"],
        &[
            ("masked-tokens", "labels by themselves"),
            ("masked-tokens", "positions without context, beside a causal model"),
            ("masked-tokens", "token count"),
        ],
    ),
    (
        &["mlm-mean-over-positions"],
        &[
            ("masked-tokens", "labels by themselves"),
            ("masked-tokens", "positions without context, beside a causal model"),
        ],
    ),
    (&["mlm-none-masked-nan"], &[("masked-tokens", "nothing masked")]),
    (
        &["prefix-causal-mask-left-on"],
        &[("prefix-source", "a source of three positions"), ("prefix-source", "a source of two positions")],
    ),
    (&["prefix-one-too-short"], &[("prefix-source", "a source of two positions")]),
    (
        &["prefix-one-too-long"],
        &[
            ("prefix-source", "after tokens behind a label changed"),
            ("prefix-source", "labels of the source"),
            ("prefix-source", "sources of at most one position"),
        ],
    ),
    (
        &["prefix-target-seen"],
        &[
            ("prefix-source", "a source of three positions"),
            ("prefix-source", "a source of two positions"),
            ("prefix-source", "after tokens behind a label changed"),
            ("prefix-source", "labels by themselves"),
            ("prefix-source", "labels of the source"),
            ("prefix-source", "sources of at most one position"),
        ],
    ),
    (
        &["prefix-source-scored"],
        &[("prefix-source", "labels of the source"), ("prefix-source", "token count")],
    ),
    (
        &["prefix-first-target-unscored"],
        &[
            ("prefix-source", "error"),
            ("prefix-source", "labels by themselves"),
            ("prefix-source", "sources of at most one position"),
            ("prefix-source", "token count"),
        ],
    ),
];
