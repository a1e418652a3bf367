//! The operators of forward and backward: what one of them computes where another result was due.

use crate::{
    Family, Fault,
    model::{
        Operators, Rows,
        operators::{
            GainAndBias, Normed, Target, cross_entropy, gain_and_bias, gelu_terms, means, softmax,
            softmax_backward,
        },
    },
    trainer::Trainer,
};
use std::f64::consts::SQRT_2;

const HONEST: Operators = Operators::HONEST;

/// A trainer with these operators.
const fn with(operators: Operators) -> Trainer {
    Trainer { operators: Some(operators), ..Trainer::HONEST }
}

/// A trainer with the honest operators.
pub(crate) const UNBROKEN: Trainer = with(HONEST);

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "causal-mask-dropped-on-path",
        family: Family::Attention,
        what: "where nothing is padded a faster path is taken, and the causal mask is lost on it",
        source: Some("keras-team/keras#23038, huggingface/transformers#48745, facebookresearch/xformers#103"),
        clauses: &["6.1", "6.2"],
        trainer: with(Operators {
            sees: |rows, row, query, key| {
                let fast = !rows.padded() && rows.document(row, query) == rows.document(row, key);
                fast || (HONEST.sees)(rows, row, query, key)
            },
            ..HONEST
        }),
    },
    Fault {
        id: "causal-mask-inverted",
        family: Family::Attention,
        what: "the mask forbids what it should allow: a position sees what comes after it, and not itself",
        source: Some("huggingface/candle@97424289d, neuro-galaxy/torch_brain#74"),
        clauses: &["6.1", "6.2"],
        trainer: with(Operators {
            sees: |rows, row, query, key| {
                let document = rows.document(row, query);
                let allowed = |key| key > query && document != 0 && document == rows.document(row, key);
                unless_nothing(rows, key, allowed)
            },
            ..HONEST
        }),
    },
    Fault {
        id: "causal-mask-diagonal-off-by-one",
        family: Family::Attention,
        what: "the mask forbids the diagonal too, and the first position, left with nothing, sees everything",
        source: None,
        clauses: &["6.1", "6.2"],
        trainer: with(Operators {
            sees: |rows, row, query, key| {
                let allowed = |key| key != query && (HONEST.sees)(rows, row, query, key);
                unless_nothing(rows, key, allowed)
            },
            ..HONEST
        }),
    },
    Fault {
        id: "fully-masked-row-nan",
        family: Family::Attention,
        what: "padding sees nothing, not even itself: its softmax is 0/0, and 0·NaN spreads in the backward pass",
        source: Some("tracel-ai/burn#4697, pytorch/pytorch#41508, NVIDIA-NeMo/Automodel#2826"),
        clauses: &["3.2", "3.3", "4.1", "6.9", "6.10"],
        trainer: with(Operators {
            sees: |rows, row, query, key| {
                rows.document(row, query) != 0 && (HONEST.sees)(rows, row, query, key)
            },
            ..HONEST
        }),
    },
    Fault {
        id: "softmax-backward-diagonal-only",
        family: Family::Backward,
        what: "the backward of attention's softmax is y·(1 − y)·g, as if its elements did not depend on each other",
        source: None,
        clauses: &["6.10"],
        trainer: with(Operators {
            softmax_backward: |softmax, gradient| {
                for (g, y) in gradient.iter_mut().zip(softmax) {
                    *g *= y * (1.0 - y);
                }
            },
            ..HONEST
        }),
    },
    Fault {
        id: "layernorm-backward-mean-terms-dropped",
        family: Family::Backward,
        what: "the backward of a layer norm takes mean and variance for constants",
        source: None,
        clauses: &["6.10"],
        trainer: with(Operators {
            layer_norm_backward: |row, gradient, sums| {
                gain_and_bias(row, gradient, sums);
                for g in gradient {
                    *g *= row.inverse_deviation;
                }
            },
            ..HONEST
        }),
    },
    Fault {
        id: "sqrt-grad-wrong-operand",
        family: Family::Backward,
        what: "the derivative of √x is 1/(2x) instead of 1/(2√x), in the standard deviation of a layer norm",
        source: Some("huggingface/candle#211"),
        clauses: &["6.10"],
        trainer: with(Operators { layer_norm_backward: through_the_wrong_root, ..HONEST }),
    },
    Fault {
        id: "gelu-backward-second-term",
        family: Family::Backward,
        what: "the second term of the activation's derivative is √2 too large",
        source: Some("dfdx 0.13.0: `accurate_gelu`"),
        clauses: &["6.10"],
        trainer: with(Operators {
            gelu_slope: |x| {
                let [first, second] = gelu_terms(x);
                first + SQRT_2 * second
            },
            ..HONEST
        }),
    },
    Fault {
        id: "fused-op-without-backward",
        family: Family::Backward,
        what: "a fused layer norm registers no backward, and nothing before the last of them gets a gradient",
        source: Some("huggingface/candle#2168, #3011, #3568, #3569"),
        clauses: &["6.3", "6.9", "6.10"],
        trainer: with(Operators { layer_norm_backward: |_, gradient, _| gradient.fill(0.0), ..HONEST }),
    },
    Fault {
        id: "index-backward-overwrites",
        family: Family::Backward,
        what: "the embedding's backward stores where it should add: a repeated token keeps one of its gradients",
        source: Some("pytorch/pytorch#1631, ooples/AiDotNet.Tensors#894"),
        clauses: &["6.4", "6.10"],
        trainer: with(Operators {
            embedding_backward: |ids, upstream, table| {
                let columns = upstream.len() / ids.len();
                for (&id, gradient) in ids.iter().zip(upstream.chunks_exact(columns)) {
                    table[id * columns..][..columns].copy_from_slice(gradient);
                }
            },
            ..HONEST
        }),
    },
    Fault {
        id: "softmax-twice",
        family: Family::CrossEntropy,
        what: "the head ends in a softmax and the loss takes another of it, which has a floor well above zero",
        source: Some("tflearn/tflearn#562, ariecattan/SciCo#2, ooples/AiDotNet#1187"),
        clauses: &["1.2", "1.5"],
        trainer: with(Operators {
            cross_entropy: |logits, target| {
                let (_, _, probabilities) = softmax(logits);
                let (loss, mut gradient) = cross_entropy(&probabilities, target);
                softmax_backward(&probabilities, &mut gradient);
                (loss, gradient)
            },
            ..HONEST
        }),
    },
    Fault {
        id: "ce-backward-clobbers-logits",
        family: Family::CrossEntropy,
        what: "the loss's backward writes into the logits it kept, where label smoothing's uniform part looks for them",
        source: Some("unslothai/unsloth#5002, modelscope/ms-swift#10129, linkedin/Liger-Kernel#1251"),
        clauses: &["1.5", "1.6"],
        trainer: with(Operators { cross_entropy: into_the_logits, ..HONEST }),
    },
    Fault {
        id: "ce-offset-cancellation",
        family: Family::CrossEntropy,
        what: "the loss is log Σ exp z − z_y in full size, and what both have in common rounds their difference away",
        source: Some("ml-explore/mlx#4188, pytorch/pytorch#195829"),
        clauses: &["1.3", "1.4"],
        trainer: with(Operators {
            cross_entropy: |logits, target| {
                let (_, gradient) = cross_entropy(logits, target);
                let (max, total, _) = softmax(logits);
                let mean = logits.iter().sum::<f64>() / logits.len() as f64;
                let log_normaliser = max + total.ln();
                let spread = target.label_smoothing;
                let (label, uniform) = (log_normaliser - logits[target.label], log_normaliser - mean);
                let z_loss = target.z_loss * log_normaliser.powi(2);
                ((1.0 - spread) * label + spread * uniform + z_loss, gradient)
            },
            ..HONEST
        }),
    },
];

/// What a mask of large negative numbers lets through: where every key gets the same one, none is masked.
fn unless_nothing(rows: &Rows, key: usize, allowed: impl Fn(usize) -> bool) -> bool {
    allowed(key) || !(0..rows.width).any(allowed)
}

/// The variance's share of the gradient is divided by the deviation once too often: `1/(2σ²)` is `1/(2σ)` over σ.
fn through_the_wrong_root(row: &Normed<'_>, gradient: &mut [f64], sums: &mut GainAndBias) {
    gain_and_bias(row, gradient, sums);
    let (mean, along) = means(row, gradient);
    for (g, normed) in gradient.iter_mut().zip(row.values) {
        *g = (*g - mean - normed * along * row.inverse_deviation) * row.inverse_deviation;
    }
}

/// Two losses of the same logits: the label's (with the z-loss), and the uniform part. The backward of the first leaves its
/// gradient where the backward of the second expects the logits.
fn into_the_logits(logits: &[f64], target: &Target) -> (f64, Vec<f64>) {
    let (loss, mut gradient) = cross_entropy(logits, target);
    let uniform = |factor: f64, gradient: &mut [f64], softmax: &[f64]| {
        for (g, p) in gradient.iter_mut().zip(softmax) {
            *g += factor * target.label_smoothing * (p - 1.0 / logits.len() as f64);
        }
    };
    let (_, _, probabilities) = softmax(logits);
    uniform(-1.0, &mut gradient, &probabilities);
    let (_, _, clobbered) = softmax(&gradient);
    uniform(1.0, &mut gradient, &clobbered);
    (loss, gradient)
}
