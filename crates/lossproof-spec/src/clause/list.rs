//! The clauses themselves.

use super::{Clause, must, should};

/// All clauses, in the order of `docs/SPEC.md`.
pub const CLAUSES: &[Clause] = &[
    must(
        "1.1",
        "shift",
        "A sequence of l positions MUST give l − 1 predictions, each scored against the label of the next position.",
    ),
    must(
        "1.2",
        "token-loss",
        "A token loss MUST be the negative natural logarithm of the softmax probability of the label.",
    ),
    must("1.3", "uniform-logits", "A token loss MUST be ln V when all logits are equal."),
    must(
        "1.4",
        "constant-invariance",
        "A token loss and its gradient MUST NOT change when a constant is added to all logits.",
    ),
    must(
        "1.5",
        "closed-form-gradient",
        "The gradient of a token loss with respect to its logits MUST be the softmax probabilities minus the target distribution.",
    ),
    must(
        "1.6",
        "label-smoothing",
        "With label smoothing ε a token loss MUST be the cross-entropy to a target distribution that gives 1 − ε to the label and shares ε evenly.",
    ),
    must(
        "1.7",
        "z-loss",
        "With z-loss ζ a token loss MUST grow by ζ times the square of the logarithm of the softmax normaliser.",
    ),
    must(
        "1.8",
        "soft-targets",
        "The loss of a soft target MUST be the cross-entropy to the given distribution, and its mean over a batch MUST be divided by the number of targets.",
    ),
    must(
        "1.9",
        "masked-tokens",
        "A masked language model MUST score the masked positions only, each against the token that was there, without a shift.",
    ),
    must(
        "1.10",
        "normalisation",
        "The losses of all labels of one token MUST be minus the logarithms of probabilities that add up to one.",
    ),
    must(
        "1.11",
        "next-position",
        "A label MUST be scored by the prediction made right before it, which sees the token there.",
    ),
    must(
        "1.12",
        "mean-zero-score",
        "The gradients of the losses of all labels of one token, each times its probability, MUST add up to nothing.",
    ),
    must(
        "1.13",
        "prefix-source",
        "A prefix language model MUST see its source whole at every position, score none of it, and be causal behind it.",
    ),
    must("2.1", "sum", "The sum MUST give every supervised token the weight 1."),
    must(
        "2.2",
        "token-mean",
        "The per-token mean MUST give every supervised token of the global batch the same weight, one over their number, however the batch is split into micro-batches and ranks.",
    ),
    must(
        "2.3",
        "sequence-mean",
        "The per-sequence mean MUST be the mean over sequences of each sequence's own token mean.",
    ),
    must(
        "2.4",
        "batch-mean",
        "The batch mean MUST be the sum of the token losses divided by the number of sequences.",
    ),
    must(
        "2.5",
        "naive-accumulated-mean",
        "A trainer that declares the naive accumulated mean MUST give a token one over the product of its micro-batch's supervised tokens, its rank's micro-batches and the ranks.",
    ),
    should(
        "2.6",
        "forgotten-division",
        "A trainer SHOULD NOT add the micro-batches' token means without dividing by their number.",
    ),
    should(
        "2.7",
        "naive-data-parallel",
        "A trainer SHOULD NOT average over ranks what each rank has divided by its own tokens alone.",
    ),
    must(
        "2.8",
        "averaging-not-undone",
        "A trainer that divides by the tokens of all ranks MUST add the ranks' gradients, or undo their averaging by the factor R.",
    ),
    must(
        "2.9",
        "counting",
        "A token count that normalises a loss MUST count supervised tokens: neither labels before the shift, nor ignored positions, nor padding.",
    ),
    must(
        "2.10",
        "ratios",
        "The losses and the gradients of two reductions MUST be in the ratio of their token weights.",
    ),
    must(
        "2.11",
        "linearity",
        "The gradient of a weighted sum of token losses MUST be the same weighted sum of their gradients, for any weights.",
    ),
    must(
        "2.12",
        "duplication",
        "Duplicating every sequence of a micro-batch MUST double the sum and leave every mean as it is, in loss and gradient.",
    ),
    must(
        "2.13",
        "empty-groups",
        "What an empty sequence, micro-batch or rank contributes MUST follow the declared empty policy, and a batch without any supervised token MUST NOT be silently trained on as NaN unless that is the policy.",
    ),
    must(
        "2.14",
        "shares",
        "A batch MUST be the sum of its sequences by themselves, each times its share: what its tokens weigh in the batch over what they weigh alone.",
    ),
    must("2.15", "equal-tokens", "Every supervised token of a sequence MUST have the same weight."),
    must(
        "3.1",
        "ignored-labels",
        "A position whose label is ignored MUST have no influence on loss and gradient other than as context.",
    ),
    must("3.2", "right-padding", "Padding on the right of a sequence MUST change neither loss nor gradient."),
    must("3.3", "left-padding", "Padding on the left of a sequence MUST change neither loss nor gradient."),
    must(
        "3.4",
        "ignored-batch",
        "A batch without a supervised token MUST give a zero loss and a zero gradient, unless the empty policy declares NaN or an error.",
    ),
    must(
        "3.5",
        "prompt-masking",
        "A masked prompt MUST lose its own token losses alone: it stays in sight of the answer, and a mean divides by the answer's tokens.",
    ),
    must(
        "3.6",
        "padding-token",
        "The token that fills padding MUST NOT matter, and its embedding MUST NOT receive a gradient from there.",
    ),
    must("3.7", "eos-as-padding", "A token that also fills padding MUST stay supervised where it is real."),
    must(
        "4.1",
        "split-invariance",
        "A normaliser counted over the global batch MUST make loss and gradient independent of how a rank's sequences are split into micro-batches.",
    ),
    must(
        "4.2",
        "order-invariance",
        "The order of sequences in a micro-batch, and of micro-batches in a rank, MUST change neither loss nor gradient.",
    ),
    must(
        "4.3",
        "naive-deviation",
        "The naive accumulated mean MUST deviate from the per-token mean by exactly what its weights say.",
    ),
    must(
        "4.4",
        "partial-window",
        "A window with fewer micro-batches than usual MUST be normalised by its own counts and stepped with like any other.",
    ),
    must("4.5", "zero-grad", "A gradient MUST NOT contain anything of an earlier optimizer step."),
    must(
        "4.6",
        "no-op-accumulation",
        "With one micro-batch on one rank every scope and every combination MUST be the same loss.",
    ),
    must(
        "4.7",
        "reported-loss",
        "The loss a trainer reports for a step MUST be the one whose gradient it takes, or the one of the log policy that it declares.",
    ),
    must("4.8", "accumulation-type", "Gradients MUST be added up in the declared element type."),
    must(
        "5.1",
        "rank-average",
        "An all-reduce that averages MUST be the one that adds, divided by the number of ranks.",
    ),
    must(
        "5.2",
        "rank-invariance",
        "A normaliser counted over all ranks MUST make loss and gradient independent of which rank has which sequence.",
    ),
    must(
        "5.3",
        "rank-deviation",
        "Naive data parallelism MUST deviate from the per-token mean by exactly what its weights say.",
    ),
    must("5.4", "rank-order", "The order of ranks MUST change neither loss nor gradient."),
    must(
        "5.5",
        "replicated-ranks",
        "Ranks with identical data MUST give what one of them gives: the same mean, and R times the sum.",
    ),
    must("6.1", "causality", "A token MUST NOT change the loss of a prediction made before it."),
    must(
        "6.2",
        "causal-gradient",
        "A token MUST NOT change the gradient of a loss that is predicted before it.",
    ),
    must(
        "6.3",
        "weight-tying",
        "The gradient of a tied embedding MUST be the sum of its part as an input and its part as the head.",
    ),
    must(
        "6.4",
        "repeated-tokens",
        "A token that occurs more than once MUST receive the sum of the gradients of all its places.",
    ),
    must(
        "6.5",
        "position-embedding",
        "A position embedding MUST be the row that the position id names, in the forward pass and in the gradient.",
    ),
    must("6.6", "vocabulary-permutation", "Nothing MUST depend on a token's number."),
    must("6.7", "packing", "Packed documents MUST give what they give separately."),
    must("6.8", "determinism", "The same batch MUST give the same loss and the same gradient twice."),
    must(
        "6.9",
        "every-parameter",
        "Every trainable parameter MUST receive a gradient unless the batch makes it zero.",
    ),
    must(
        "6.10",
        "finite-differences",
        "The gradient MUST be the derivative of the forward pass, the sum over all paths where a value is used more than once.",
    ),
    must(
        "6.11",
        "loss-slope",
        "The gradient MUST be the derivative of the loss that is reported, in single precision as in double.",
    ),
    must(
        "6.12",
        "norm-null-directions",
        "Behind layer norms, the gradient of what is added to every feature's stream as it is MUST sum to zero over features.",
    ),
    must(
        "6.13",
        "step-slope",
        "Along the trainer's own first step the reported loss MUST change by the integral of the gradient.",
    ),
    must(
        "7.1",
        "clipping",
        "A gradient MUST be clipped by its global norm once per step, after accumulation and the undoing of the loss scale.",
    ),
    must("7.2", "sgd", "An SGD step MUST move every parameter by the learning rate times its velocity."),
    must(
        "7.3",
        "adam",
        "An Adam step MUST divide the corrected first moment by the root of the corrected second.",
    ),
    must(
        "7.4",
        "adamw",
        "AdamW's decay MUST act on the parameter beside the update, scaled by the learning rate, and on the declared parameters alone.",
    ),
    must(
        "7.5",
        "adam-scale",
        "A gradient multiplied by c MUST change an Adam step exactly as ε divided by c does, while the gradient norm shows c.",
    ),
    must(
        "7.6",
        "schedule",
        "The learning rate MUST advance once per optimizer step, however many micro-batches it has.",
    ),
    must(
        "7.7",
        "loss-scaling",
        "A loss scale MUST leave no trace in loss, norm and update, and a gradient that overflows MUST skip the step, parameters, state and schedule included.",
    ),
    must(
        "7.8",
        "composition",
        "Loss scale, clipping, schedule, decay and update rule MUST act together as each acts alone, in this order, in every step.",
    ),
    must(
        "7.9",
        "between-steps",
        "What is asked of a trainer between two steps MUST leave no trace in the later one, and MUST be answered at the parameters of the earlier.",
    ),
    must(
        "8.1",
        "perplexity",
        "Perplexity MUST be the exponential of the mean loss in nats over the supervised tokens.",
    ),
    must(
        "8.2",
        "validation-loss",
        "A validation MUST report the mean of the token losses over the supervised tokens of the corpus, each counted once.",
    ),
    must("8.3", "uniform-perplexity", "The perplexity of a model whose logits are all equal MUST be V."),
    must(
        "8.4",
        "validation-batches",
        "What a validation reports MUST NOT depend on how the sequences are grouped in batches, nor on their order.",
    ),
    must(
        "8.5",
        "validation-trace",
        "A validation MUST leave no trace in the loss and the gradient of training, nor training in a validation.",
    ),
    must(
        "8.6",
        "nothing-validated",
        "Batches without a supervised token MUST change nothing that a validation reports, and the mean over no token at all MUST be NaN.",
    ),
    must(
        "8.7",
        "perplexity-overflow",
        "A perplexity beyond the range of floating-point numbers MUST be infinite, beside a loss that is finite.",
    ),
    must(
        "8.8",
        "training-validation",
        "A validation in a training MUST report the plain mean over the supervised tokens of its samples, each once, at the parameters of then, whatever the training has of ranks, smoothing and dropout.",
    ),
    must(
        "9.1",
        "resume",
        "A training that is stopped after an update and resumed MUST go on as if it had not been stopped.",
    ),
    must(
        "9.2",
        "resume-again",
        "A training MUST be resumable as often as it is stopped, and one that is resumed at its end MUST do nothing.",
    ),
    must(
        "9.3",
        "resume-otherwise",
        "A training that is resumed with other batches, windows or ranks MUST be refused, or still meet every sample of the epoch once.",
    ),
    must("10.1", "samples-once", "An epoch MUST meet every sample once, in whole updates but for its last."),
    must(
        "10.2",
        "training-update",
        "Every update of a training MUST be the update rule's on the gradient of its own samples at their weights, the last of an epoch like any other.",
    ),
    must(
        "10.3",
        "training-schedule",
        "The learning rate MUST advance once per update, whatever the ranks, and reach the end of its schedule with the end of the training.",
    ),
    must(
        "10.4",
        "training-clipping",
        "The norm that a training logs MUST be that of the gradient over all trained parameters and all ranks before clipping, and clipping MUST be by it.",
    ),
    must(
        "10.5",
        "training-loss",
        "The loss that a training logs MUST be that of the samples of the update, and of an epoch the mean over the tokens trained on.",
    ),
    must(
        "10.6",
        "training-split",
        "How the samples of an update are divided into micro-batches and ranks MUST NOT change it, with dropout as without.",
    ),
    must(
        "10.7",
        "training-undisturbed",
        "A validation MUST leave no trace in the training around it: neither in parameters nor in order, mode and masks.",
    ),
    must("10.8", "not-a-number", "A loss that is not a number MUST be logged as what it is."),
    must(
        "10.9",
        "skipped-update",
        "An update that is skipped MUST leave parameters, moments and schedule as they were.",
    ),
    must(
        "10.10",
        "frozen",
        "Parameters that are not trained MUST NOT move, and the others MUST move as ever.",
    ),
    must(
        "10.11",
        "dropout",
        "Dropout MUST act in training, with other masks in another update and under another seed and with what is kept scaled, and MUST NOT act in a validation.",
    ),
];
