//! What each known bug of an objective fails in.

use super::{ERROR, Row, TOKEN_COUNT};
use lossproof_laws::Violation;
use lossproof_spec::{MicroBatch, Sequence};
use lossproof_subject::{Checked, Discard, ObjectiveBatch, Subject, Watchdog};

/// Which comparison failed: what a statement says before it comes to a loss or a parameter.
pub(super) fn check(violation: &Violation) -> String {
    match violation.statement.split_once(": ") {
        // A mean of nothing is refused by one trainer, and handed over as no number by another.
        _ if ["breach", "refused"].contains(&violation.unit.as_str()) => ERROR.to_owned(),
        _ if ["slope of", "difference of"].iter().any(|what| violation.statement.starts_with(what)) => {
            "slope of the loss".to_owned()
        }
        // How far below the entropy a wrong loss lies depends on the batch: that it is wrong is seen besides.
        _ if violation.unit == "cross-entropy above entropy" => "three labels as one distribution".to_owned(),
        Some((check, _)) if violation.unit != TOKEN_COUNT => check.to_owned(),
        _ => violation.unit.clone(),
    }
}

/// Whether a subject says how many labels it scores.
pub(super) fn counts_tokens(subject: &mut dyn Subject, watchdog: &Watchdog) -> bool {
    let Ok(mut subject) = Checked::watched(subject, watchdog.clone()) else { return false };
    let limits = subject.info().limits;
    let length = limits.lengths.nearest(2);
    let Ok(row) = Sequence::new(vec![0; length], vec![0; length]) else { return false };
    let rows = MicroBatch::new(vec![row; limits.sequences.least.max(1)]);
    let (Ok(()), Ok(micro_batch)) = (subject.reset(), rows) else { return false };
    let scored: usize = micro_batch.sequences().iter().map(Sequence::supervised).sum();
    let prefixes = vec![0; micro_batch.sequences().len()];
    let mut target = vec![0.0; limits.vocabulary.min(1 << 20)];
    if let Some(first) = target.first_mut() {
        *first = 1.0;
    }
    let batches = [
        ObjectiveBatch::Masked { micro_batch: micro_batch.clone() },
        ObjectiveBatch::Prefix { micro_batch: micro_batch.clone(), prefixes },
        ObjectiveBatch::SoftTargets { micro_batch, targets: vec![target; scored] },
    ];
    let Some(objectives) = subject.objectives() else { return false };
    batches.iter().any(|batch| {
        let learns = objectives.learns(batch.kind());
        learns && objectives.learn(batch, &mut Discard).is_ok_and(|learnt| learnt.supervised_tokens.is_some())
    })
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
        &["mlm-mean-over-positions", "mlm-mean-over-sequences"],
        &[
            ("masked-tokens", "labels by themselves"),
            ("masked-tokens", "positions without context, beside a causal model"),
        ],
    ),
    (
        &["mlm-mean-of-sequence-means"],
        &[("masked-tokens", "labels by themselves"), ("masked-tokens", "sequences by themselves")],
    ),
    (&["mlm-padding-seen"], &[("masked-tokens", "sequences by themselves")]),
    (&["mlm-causal-backward"], &[("masked-tokens", "slope of the loss")]),
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
