//! Bugs of ranks that are apart, in processes of their own: where they meet, and what becomes of the gradient there.

use super::{Bug, Family};

const fn bug(
    id: &'static str,
    what: &'static str,
    source: Option<&'static str>,
    clauses: &'static [&'static str],
    remedy: &'static str,
) -> Bug {
    Bug { id, family: Family::Ranks, what, source, clauses, remedy, omitted: None }
}

pub(super) const BUGS: &[Bug] = &[
    bug(
        "rank-with-fewer-windows",
        "a rank that has no samples left ends its epoch, while the others have another window",
        Some("PyTorch's DistributedDataParallel without `join` on uneven shards, which hangs"),
        &["10.1"],
        "let every rank take part in every window, with nothing where it has nothing",
    ),
    bug(
        "idle-rank-skips-reduction",
        "a rank leaves the reduction of the gradient out, as one without a token in the window",
        None,
        &["10.1", "10.2"],
        "reduce on every rank, with zeros where there is no gradient",
    ),
    bug(
        "reduced-before-last-micro-batch",
        "the gradient is reduced before the last micro-batch of a window, which stays that of its rank",
        None,
        &["10.2"],
        "reduce after the last backward pass of a window",
    ),
    bug(
        "clipped-before-reduction",
        "each rank clips its own gradient by its own norm, and the clipped gradients are added",
        None,
        &["10.4"],
        "clip once, by the norm of the gradient after the reduction",
    ),
    bug(
        "norm-of-one-rank-logged",
        "the norm that is logged is that of one rank's gradient before the reduction",
        None,
        &["10.4"],
        "log the norm of the gradient after the reduction",
    ),
    bug(
        "parameters-averaged",
        "every rank makes an update of its own, and parameters are averaged instead of gradients",
        None,
        &["10.2"],
        "reduce gradients before the update",
    ),
    bug(
        "parameters-part",
        "one rank updates from its own gradient, so that its parameters part from the others'",
        None,
        &["10.2"],
        "hand the reduced gradient to every rank, and compare parameters now and then",
    ),
    bug(
        "one-mask-on-all-ranks",
        "dropout has one seed on every rank, so that samples at the same place of two ranks have one mask",
        Some("scripts that seed all ranks alike, as huggingface/accelerate's `set_seed` does by default"),
        &["10.6"],
        "let the rank, or better the sample, into the seed of a mask",
    ),
    bug(
        "ranks-filled-up-in-validation",
        "a rank with a short batch of a validation is filled up with samples that are counted again",
        Some("huggingface/accelerate 1.15.0 (`even_batches`) where nobody truncates what is gathered"),
        &["8.8"],
        "count every sample once, whatever rank evaluates it",
    ),
];
