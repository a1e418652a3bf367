//! Bugs of what is learnt where it is not the next token: distributions, masked tokens, the continuation of a source.

use super::{Bug, Family};

const fn bug(
    id: &'static str,
    what: &'static str,
    source: Option<&'static str>,
    clauses: &'static [&'static str],
    remedy: &'static str,
) -> Bug {
    Bug { id, family: Family::Objectives, what, source, clauses, remedy, omitted: None }
}

pub(super) const BUGS: &[Bug] = &[
    bug(
        "soft-targets-mean-over-elements",
        "the loss of distributions is averaged over all probabilities, so that it is V times too small",
        Some("PyTorch's `KLDivLoss` with `reduction=\"mean\"`, its default, as its documentation warns"),
        &["1.8"],
        "sum over the vocabulary, and divide by the number of targets",
    ),
    bug(
        "soft-targets-mean-over-sequences",
        "the loss of distributions is divided by sequences: a batch mean over the first of three dimensions",
        Some("PyTorch's `kl_div` with `reduction=\"batchmean\"` on logits of batch, position and vocabulary"),
        &["1.8"],
        "flatten batch and positions before the loss, or divide by the number of targets",
    ),
    bug(
        "soft-targets-mean-over-positions",
        "the loss of distributions is divided by all positions, those without a target among them",
        Some(
            "PyTorch's `cross_entropy` with class probabilities, which knows no ignore index, on zeroed rows",
        ),
        &["1.8"],
        "leave out positions without a target before the mean",
    ),
    bug(
        "soft-targets-likeliest-only",
        "the label with most probability is learnt, and the rest of the distribution is lost",
        None,
        &["1.8"],
        "hand the whole distribution to the loss",
    ),
    bug(
        "soft-targets-truncated",
        "only the most probable tokens are kept, and their mass is not made up to one",
        None,
        &["1.8"],
        "divide what is kept by its sum",
    ),
    bug(
        "soft-targets-softmaxed-twice",
        "a softmax is taken of what is a distribution already, which makes it nearly flat",
        None,
        &["1.8"],
        "hand logits to what takes a softmax, and probabilities to what takes none",
    ),
    bug(
        "soft-targets-divergence-reported",
        "the divergence from the distributions is reported as their cross-entropy: less by their entropy",
        Some("PyTorch's `KLDivLoss`, where its value is compared with a cross-entropy"),
        &["1.8"],
        "add the entropy of the targets, or say which of the two is logged",
    ),
    bug(
        "mlm-labels-shifted",
        "labels that stand where they are predicted are shifted as those of a causal model are",
        None,
        &["1.9"],
        "score the prediction made at a position against the label at it",
    ),
    bug(
        "mlm-causal-mask-left-on",
        "a masked token is predicted from the tokens before it alone",
        None,
        &["1.9"],
        "let every position see the whole sequence",
    ),
    bug(
        "mlm-loss-on-all",
        "tokens that were not masked are learnt as well",
        Some("huggingface/transformers #16711"),
        &["1.9"],
        "ignore the labels of tokens that were not chosen",
    ),
    bug(
        "mlm-mean-over-positions",
        "the loss of the masked tokens is divided by all positions",
        None,
        &["1.9"],
        "divide by the number of labels",
    ),
    bug(
        "mlm-mean-over-sequences",
        "the loss of the masked tokens is divided by sequences",
        None,
        &["1.9"],
        "divide by the number of labels",
    ),
    bug(
        "mlm-mean-of-sequence-means",
        "the loss is the mean over sequences of the mean over their masked tokens",
        None,
        &["1.9"],
        "divide the sum of all labels by their number",
    ),
    bug(
        "mlm-padding-seen",
        "no mask hides the padding: tokens of shorter sequences see it",
        Some("Hugging Face Transformers where `attention_mask` is not handed over, as its warning says"),
        &["1.9"],
        "hand the attention mask over with the batch",
    ),
    bug(
        "mlm-causal-backward",
        "the backward pass of attention is that of a causal model, and the forward pass is not",
        None,
        &["1.9"],
        "give both passes the same mask",
    ),
    bug(
        "mlm-none-masked-nan",
        "a batch in which nothing was masked has a gradient that is not a number",
        Some("huggingface/transformers #16711"),
        &["1.9"],
        "skip the mean where it is one of nothing",
    ),
    bug(
        "prefix-causal-mask-left-on",
        "positions of the source see only what stands before them",
        None,
        &["1.13"],
        "let every position see the whole source",
    ),
    bug(
        "prefix-one-too-short",
        "the last position of the source is not seen by those before it",
        None,
        &["1.13"],
        "count the source's last position in",
    ),
    bug(
        "prefix-one-too-long",
        "the first token behind the source is seen by what predicts it",
        None,
        &["1.13"],
        "end what is seen whole with the source",
    ),
    bug(
        "prefix-target-seen",
        "the target is seen whole, as the source is: every label but those of unseen tokens can be copied",
        None,
        &["1.13"],
        "keep the causal mask behind the source",
    ),
    bug(
        "prefix-source-scored",
        "the labels of the source are learnt, which its positions have seen",
        None,
        &["1.13"],
        "ignore the labels of the source",
    ),
    bug(
        "prefix-first-target-unscored",
        "the first label behind the source, which the source's last position predicts, is left out",
        None,
        &["1.13"],
        "score from the prediction that the last position of the source makes",
    ),
];
