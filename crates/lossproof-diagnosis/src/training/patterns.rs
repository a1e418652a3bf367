//! What each known bug of a training fails in.

use super::Pattern;
use crate::catalogue::Bug;
use std::collections::BTreeSet;

/// Bugs, and the laws and kinds of numbers that fail under each of them.
type Row = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// What bugs fail in, each pattern with all that have it. They are what fails in our loop with the bug, around a trainer
/// without any; a test holds them to it.
const PATTERNS: &[Row] = &[
    (&["fill-ups-trained-on"], &[("samples-once", "samples met twice")]),
    (
        &["last-batch-dropped", "last-window-dropped"],
        &[
            ("samples-once", "number of updates"),
            ("samples-once", "samples met never"),
            ("training-update", "number of updates"),
        ],
    ),
    (
        &["samples-with-replacement"],
        &[("samples-once", "samples met never"), ("samples-once", "samples met twice")],
    ),
    (
        &["same-shard-on-every-rank"],
        &[
            ("samples-once", "number of epochs"),
            ("samples-once", "samples met never"),
            ("samples-once", "samples met twice"),
        ],
    ),
    (
        &["window-by-configured-micro-batches", "smoother-ignores-count"],
        &[
            ("frozen", "parameters"),
            ("skipped-update", "parameters"),
            ("training-clipping", "direction of an update"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-loss", "logged loss"),
            ("training-schedule", "parameters"),
            ("training-split", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["step-per-micro-batch"],
        &[
            ("samples-once", "number of updates"),
            ("samples-once", "samples of an update"),
            ("skipped-update", "learning rate"),
            ("skipped-update", "parameters"),
            ("training-schedule", "learning rate"),
            ("training-schedule", "learning rate of one rank"),
            ("training-schedule", "parameters"),
            ("training-update", "number of updates"),
        ],
    ),
    (
        &["divided-by-k-twice"],
        &[
            ("frozen", "parameters"),
            ("skipped-update", "parameters"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-loss", "logged loss"),
            ("training-schedule", "parameters"),
            ("training-split", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["gradient-sum-loss-mean"],
        &[
            ("frozen", "parameters"),
            ("skipped-update", "parameters"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-schedule", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["ranks-added-silently"],
        &[
            ("frozen", "parameters"),
            ("skipped-update", "parameters"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-schedule", "parameters"),
            ("training-split", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["first-row-only"],
        &[
            ("frozen", "parameters"),
            ("skipped-update", "breach"),
            ("skipped-update", "error"),
            ("skipped-update", "parameters"),
            ("training-clipping", "direction of an update"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-loss", "epoch loss"),
            ("training-loss", "logged loss"),
            ("training-schedule", "parameters"),
            ("training-split", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["train-mode-not-restored"],
        &[("training-undisturbed", "epoch loss"), ("training-undisturbed", "update under dropout")],
    ),
    (&["validation-with-dropout"], &[("dropout", "loss")]),
    (
        &["validation-smoothed"],
        &[
            ("dropout", "loss"),
            ("training-validation", "perplexity"),
            ("training-validation", "validation loss"),
        ],
    ),
    (
        &["validation-gradient-kept"],
        &[
            ("training-undisturbed", "epoch loss"),
            ("training-undisturbed", "update"),
            ("training-undisturbed", "update under dropout"),
        ],
    ),
    (
        &["masks-not-of-the-sample"],
        &[
            ("resume", "grad norm"),
            ("resume", "logged loss"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "grad norm"),
            ("resume-again", "logged loss"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
            ("training-split", "parameters"),
        ],
    ),
    (&["dropout-of-one-seed"], &[("dropout", "masks of another seed")]),
    (&["clip-discarded"], &[("frozen", "parameters"), ("training-clipping", "parameters")]),
    (
        &["weights-clipped"],
        &[
            ("frozen", "frozen parameters"),
            ("frozen", "parameters"),
            ("training-clipping", "direction of an update"),
            ("training-clipping", "parameters"),
        ],
    ),
    (
        &["clip-by-last-norm"],
        &[
            ("frozen", "parameters"),
            ("resume", "update under clipping"),
            ("resume-again", "update under clipping"),
            ("training-clipping", "parameters"),
        ],
    ),
    (
        &["clip-by-one-parameter"],
        &[("frozen", "parameters"), ("training-clipping", "grad norm"), ("training-clipping", "parameters")],
    ),
    (
        &["gradient-not-cleared"],
        &[
            ("frozen", "parameters"),
            ("resume", "grad norm"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "grad norm"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-schedule", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (&["frozen-moves"], &[("frozen", "frozen parameters")]),
    (&["frozen-in-clip-norm"], &[("frozen", "parameters")]),
    (&["decay-groups-ignored"], &[("training-update", "parameters")]),
    (
        &["schedule-of-unsharded-batches"],
        &[
            ("skipped-update", "learning rate"),
            ("skipped-update", "parameters"),
            ("training-schedule", "learning rate"),
            ("training-schedule", "parameters"),
        ],
    ),
    (
        &["schedule-per-rank"],
        &[
            ("resume", "learning rate"),
            ("resume-again", "learning rate"),
            ("skipped-update", "learning rate"),
            ("skipped-update", "parameters"),
            ("training-schedule", "learning rate"),
            ("training-schedule", "parameters"),
        ],
    ),
    (
        &["schedule-per-micro-batch"],
        &[
            ("resume", "learning rate"),
            ("resume-again", "learning rate"),
            ("skipped-update", "learning rate"),
            ("skipped-update", "parameters"),
            ("training-schedule", "learning rate"),
            ("training-schedule", "learning rate of one rank"),
            ("training-schedule", "parameters"),
        ],
    ),
    (&["skipped-step-counted"], &[("skipped-update", "learning rate"), ("skipped-update", "parameters")]),
    (&["skipped-step-decays"], &[("skipped-update", "parameters"), ("skipped-update", "skipped update")]),
    (&["skipped-step-in-adam-count"], &[("skipped-update", "parameters")]),
    (
        &["eval-fillups-in-means"],
        &[
            ("dropout", "loss"),
            ("training-validation", "perplexity"),
            ("training-validation", "validation loss"),
            ("training-validation", "validation tokens"),
        ],
    ),
    (&["epoch-loss-of-first-rank", "epoch-loss-over-micro-batches"], &[("training-loss", "epoch loss")]),
    (&["nan-hidden-in-log"], &[("not-a-number", "loss that is none")]),
    (&["nan-left-out-of-epoch-loss"], &[("not-a-number", "epoch loss that is none")]),
    (&["norm-logged-after-clipping"], &[("training-clipping", "grad norm")]),
    (
        &["loss-of-the-window-before"],
        &[("resume", "logged loss"), ("resume-again", "logged loss"), ("training-loss", "logged loss")],
    ),
    (
        &["resume-skips-configured-windows"],
        &[
            ("resume", "end of an epoch"),
            ("resume", "events"),
            ("resume", "order of events"),
            ("resume-again", "end of an epoch"),
            ("resume-again", "events"),
            ("resume-again", "order of events"),
        ],
    ),
    (
        &["resume-reshuffles"],
        &[
            ("resume", "grad norm"),
            ("resume", "logged loss"),
            ("resume", "samples"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "grad norm"),
            ("resume-again", "logged loss"),
            ("resume-again", "samples"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
        ],
    ),
    (
        &["resume-repeats-the-epoch"],
        &[
            ("resume", "events"),
            ("resume", "grad norm"),
            ("resume", "logged loss"),
            ("resume", "order of events"),
            ("resume", "samples"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "events"),
            ("resume-again", "grad norm"),
            ("resume-again", "logged loss"),
            ("resume-again", "order of events"),
            ("resume-again", "samples"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
        ],
    ),
    (
        &["resume-restarts-schedule"],
        &[
            ("resume", "events"),
            ("resume", "learning rate"),
            ("resume", "order of events"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "events"),
            ("resume-again", "learning rate"),
            ("resume-again", "order of events"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
        ],
    ),
    (
        &["resume-loses-moments", "resume-loses-adam-count"],
        &[
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
        ],
    ),
    (&["resume-loses-tracked-loss"], &[("resume", "end of an epoch"), ("resume-again", "end of an epoch")]),
    (
        &["finished-training-goes-on"],
        &[
            ("resume", "events"),
            ("resume", "learning rate"),
            ("resume", "order of events"),
            ("resume", "update"),
            ("resume", "update under clipping"),
            ("resume-again", "events"),
            ("resume-again", "learning rate"),
            ("resume-again", "order of events"),
            ("resume-again", "resumed at the end"),
            ("resume-again", "update"),
            ("resume-again", "update under clipping"),
        ],
    ),
    (
        &["resume-skips-validation"],
        &[
            ("resume", "events"),
            ("resume", "order of events"),
            ("resume-again", "events"),
            ("resume-again", "order of events"),
        ],
    ),
    (
        &["resume-loses-clipping"],
        &[("resume", "update under clipping"), ("resume-again", "update under clipping")],
    ),
    (
        &["resume-thaws"],
        &[("resume", "update of what is frozen"), ("resume-again", "update of what is frozen")],
    ),
    (&["resume-with-another-window"], &[("resume-otherwise", "samples after a change")]),
];

/// How much of two patterns must be the same for one to be near the other.
const NEAR: f64 = 0.75;

/// The bugs that fail in this and in nothing else, as far as laws were decided; or else those that come nearest,
/// where more than three quarters of what either fails in is the same. Says whether they are exact.
pub(super) fn bugs_with(pattern: &Pattern, undecided: &BTreeSet<&str>) -> (bool, Vec<&'static Bug>) {
    let (mut best, mut found) = (NEAR, Vec::new());
    if pattern.is_empty() {
        return (false, found);
    }
    for (bugs, forecast) in PATTERNS {
        let forecast: BTreeSet<(&str, &str)> =
            forecast.iter().copied().filter(|(law, _)| !undecided.contains(law)).collect();
        let common = pattern.iter().filter(|(law, kind)| forecast.contains(&(*law, kind.as_str()))).count();
        let all = forecast.len() + pattern.len() - common;
        let share = common as f64 / all as f64;
        if share > best {
            (best, found) = (share, Vec::new());
        }
        if share >= best {
            found.extend(Bug::of_training().filter(|bug| bugs.contains(&bug.id)));
        }
    }
    (best >= 1.0, found)
}
