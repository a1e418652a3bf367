//! The numbered clauses of `docs/SPEC.md`, as data.

/// How binding a clause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A trainer that deviates is wrong.
    Must,
    /// A trainer that deviates needs a reason.
    Should,
}

/// One statement of `docs/SPEC.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Number, `group.clause`.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// The statement, one sentence, as `docs/SPEC.md` has it.
    pub sentence: &'static str,
}

const fn must(id: &'static str, sentence: &'static str) -> Clause {
    Clause { id, level: Level::Must, sentence }
}

const fn should(id: &'static str, sentence: &'static str) -> Clause {
    Clause { id, level: Level::Should, sentence }
}

/// All clauses, in the order of `docs/SPEC.md`.
pub const CLAUSES: &[Clause] = &[
    must(
        "1.1",
        "A sequence of l positions MUST give l − 1 predictions, each scored against the label of the next position.",
    ),
    must(
        "1.2",
        "A token loss MUST be the negative natural logarithm of the softmax probability of the label.",
    ),
    must("1.3", "A token loss MUST be ln V when all logits are equal."),
    must("1.4", "A token loss and its gradient MUST NOT change when a constant is added to all logits."),
    must(
        "1.5",
        "The gradient of a token loss with respect to its logits MUST be the softmax probabilities minus the target distribution.",
    ),
    must(
        "1.6",
        "With label smoothing ε a token loss MUST be the cross-entropy to a target distribution that gives 1 − ε to the label and shares ε evenly.",
    ),
    must(
        "1.7",
        "With z-loss ζ a token loss MUST grow by ζ times the square of the logarithm of the softmax normaliser.",
    ),
    must("2.1", "The sum MUST give every supervised token the weight 1."),
    must(
        "2.2",
        "The per-token mean MUST give every supervised token of the global batch the same weight, one over their number, however the batch is split into micro-batches and ranks.",
    ),
    must("2.3", "The per-sequence mean MUST be the mean over sequences of each sequence's own token mean."),
    must("2.4", "The batch mean MUST be the sum of the token losses divided by the number of sequences."),
    must(
        "2.5",
        "A trainer that declares the naive accumulated mean MUST give a token one over the product of its micro-batch's supervised tokens, its rank's micro-batches and the ranks.",
    ),
    should(
        "2.6",
        "A trainer SHOULD NOT add the micro-batches' token means without dividing by their number.",
    ),
    should(
        "2.7",
        "A trainer SHOULD NOT average over ranks what each rank has divided by its own tokens alone.",
    ),
    must(
        "2.8",
        "A trainer that divides by the tokens of all ranks MUST add the ranks' gradients, or undo their averaging by the factor R.",
    ),
    must(
        "2.9",
        "A token count that normalises a loss MUST count supervised tokens: neither labels before the shift, nor ignored positions, nor padding.",
    ),
    must(
        "2.10",
        "The losses and the gradients of two reductions MUST be in the ratio of their token weights.",
    ),
    must(
        "2.11",
        "The gradient of a weighted sum of token losses MUST be the same weighted sum of their gradients, for any weights.",
    ),
    must(
        "2.12",
        "Duplicating every sequence of a micro-batch MUST double the sum and leave every mean as it is, in loss and gradient.",
    ),
    must(
        "2.13",
        "What an empty sequence, micro-batch or rank contributes MUST follow the declared empty policy, and a batch without any supervised token MUST NOT be silently trained on as NaN unless that is the policy.",
    ),
];
