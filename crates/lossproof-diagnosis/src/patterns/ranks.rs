//! What each known bug of ranks that are apart fails in.

use super::Row;

/// Where ranks miss each other: what their error says, and what that is called.
const APART: &[(&str, &str)] = &[
    (
        "came to the losses of a validation, and the others to the token counts of a window",
        "an epoch that ends early",
    ),
    (
        "came to the token counts of a window, and the others to the losses of a validation",
        "an epoch that ends early",
    ),
    ("came to the reduction of the gradient, and the others to", "no reduction on some ranks"),
    (", and the others to the reduction of the gradient", "no reduction on some ranks"),
];

/// How ranks miss each other, where an error says that they do.
pub(super) fn apart(error: &str) -> Option<&'static str> {
    APART.iter().find(|(said, _)| error.contains(said)).map(|(_, kind)| *kind)
}

/// What bugs fail in, each pattern with all that have it: what fails in our loop with the bug, on three ranks. A test
/// holds them to it.
pub(super) const PATTERNS: &[Row] = &[
    (
        &["rank-with-fewer-windows"],
        &[
            ("dropout", "an epoch that ends early"),
            ("frozen", "an epoch that ends early"),
            ("resume", "an epoch that ends early"),
            ("resume-again", "an epoch that ends early"),
            ("resume-otherwise", "an epoch that ends early"),
            ("samples-once", "an epoch that ends early"),
            ("training-clipping", "an epoch that ends early"),
            ("training-loss", "an epoch that ends early"),
            ("training-schedule", "an epoch that ends early"),
            ("training-split", "an epoch that ends early"),
            ("training-undisturbed", "an epoch that ends early"),
            ("training-update", "an epoch that ends early"),
            ("training-validation", "an epoch that ends early"),
        ],
    ),
    (
        &["idle-rank-skips-reduction"],
        &[
            ("dropout", "no reduction on some ranks"),
            ("frozen", "no reduction on some ranks"),
            ("resume", "no reduction on some ranks"),
            ("resume-again", "no reduction on some ranks"),
            ("resume-otherwise", "no reduction on some ranks"),
            ("samples-once", "no reduction on some ranks"),
            ("training-clipping", "no reduction on some ranks"),
            ("training-loss", "no reduction on some ranks"),
            ("training-schedule", "no reduction on some ranks"),
            ("training-split", "no reduction on some ranks"),
            ("training-undisturbed", "no reduction on some ranks"),
            ("training-update", "no reduction on some ranks"),
            ("training-validation", "no reduction on some ranks"),
        ],
    ),
    (
        &["reduced-before-last-micro-batch"],
        &[
            ("dropout", "loss"),
            ("frozen", "grad norm"),
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
            ("training-validation", "perplexity"),
            ("training-validation", "validation loss"),
        ],
    ),
    (
        &["clipped-before-reduction"],
        &[
            ("frozen", "grad norm"),
            ("frozen", "parameters"),
            ("training-clipping", "direction of an update"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
        ],
    ),
    (
        &["norm-of-one-rank-logged"],
        &[("frozen", "grad norm"), ("frozen", "parameters"), ("training-clipping", "grad norm")],
    ),
    (
        &["parameters-averaged"],
        &[
            ("frozen", "grad norm"),
            ("frozen", "parameters"),
            ("training-clipping", "direction of an update"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-update", "parameters"),
        ],
    ),
    (
        &["parameters-part"],
        &[
            ("dropout", "loss"),
            ("frozen", "grad norm"),
            ("frozen", "parameters"),
            ("skipped-update", "parameters"),
            ("training-clipping", "grad norm"),
            ("training-clipping", "parameters"),
            ("training-loss", "epoch loss"),
            ("training-loss", "logged loss"),
            ("training-schedule", "parameters"),
            ("training-update", "parameters"),
            ("training-validation", "perplexity"),
            ("training-validation", "validation loss"),
        ],
    ),
    (&["one-mask-on-all-ranks"], &[("training-split", "parameters")]),
    (
        &["ranks-filled-up-in-validation"],
        &[
            ("dropout", "loss"),
            ("training-validation", "perplexity"),
            ("training-validation", "validation loss"),
            ("training-validation", "validation tokens"),
        ],
    ),
];
