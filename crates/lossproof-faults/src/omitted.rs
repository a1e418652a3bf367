//! Bugs that were seen and are not in the catalogue.

/// A bug of the list that the catalogue draws on which is not re-created.
#[derive(Clone, Copy, Debug)]
pub struct Omitted {
    /// Its name in the list.
    pub id: &'static str,
    /// Why it is not.
    pub why: &'static str,
}

const fn omitted(id: &'static str, why: &'static str) -> Omitted {
    Omitted { id, why }
}

/// What was seen in `fixtures/bugs.json` and is not re-created.
pub const OMITTED: &[Omitted] = &[
    omitted(
        "class-weight-wrong-gather",
        "class weights reach a trainer as upstream weights, and taking the first one for all is ce-upstream-grad-scalar",
    ),
    omitted(
        "logits-flag-ignored",
        "a softmax of probabilities that were to be taken as they are is what softmax-twice computes",
    ),
    omitted(
        "gqa-kv-grad-not-summed",
        "GPT-2 has as many key heads as query heads, so there is no group whose gradients could be left unsummed",
    ),
    omitted(
        "dropout-not-rescaled",
        "it needs training and evaluation as modes of a model with dropout, which no clause speaks of yet",
    ),
    omitted(
        "train-mode-not-restored",
        "it needs training and evaluation as modes of a model with dropout, which no clause speaks of yet",
    ),
    omitted(
        "resume-loses-counters",
        "it needs checkpoints of a training loop, which no capability of a subject gives yet",
    ),
    omitted("ppl-stride-window", "it needs a scorer of texts longer than the model's positions"),
    omitted(
        "bpb-numerator-denominator-mismatch",
        "it needs a scorer of texts that counts bytes; token ids have none",
    ),
];
