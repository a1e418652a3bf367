//! The operators of forward and backward: what one of them computes where another result was due.

use crate::{
    Fault, fault,
    model::{
        Operators, PaddedRows,
        operators::{
            GainAndBias, Normed, Target, cross_entropy, gain_and_bias, gelu_terms, means, softmax,
            softmax_backward,
        },
    },
    trainer::TrainerParts,
};
use std::f64::consts::SQRT_2;

const HONEST: Operators = Operators::HONEST;

/// A trainer with these operators.
const fn with(operators: Operators) -> TrainerParts {
    TrainerParts { operators: Some(operators), ..TrainerParts::HONEST }
}

/// A trainer with the honest operators.
pub(crate) const UNBROKEN: TrainerParts = with(HONEST);

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "causal-mask-dropped-on-path",
        with(Operators {
            sees: |rows, row, query, key| {
                let fast = !rows.padded() && rows.document(row, query) == rows.document(row, key);
                fast || (HONEST.sees)(rows, row, query, key)
            },
            ..HONEST
        }),
    ),
    fault(
        "causal-mask-inverted",
        with(Operators {
            sees: |rows, row, query, key| {
                let document = rows.document(row, query);
                let allowed = |key| key > query && document != 0 && document == rows.document(row, key);
                unless_nothing(rows, key, allowed)
            },
            ..HONEST
        }),
    ),
    fault(
        "causal-mask-diagonal-off-by-one",
        with(Operators {
            sees: |rows, row, query, key| {
                let allowed = |key| key != query && (HONEST.sees)(rows, row, query, key);
                unless_nothing(rows, key, allowed)
            },
            ..HONEST
        }),
    ),
    fault(
        "fully-masked-row-nan",
        with(Operators {
            sees: |rows, row, query, key| {
                rows.document(row, query) != 0 && (HONEST.sees)(rows, row, query, key)
            },
            ..HONEST
        }),
    ),
    fault(
        "softmax-backward-diagonal-only",
        with(Operators {
            softmax_backward: |softmax, gradient| {
                for (g, y) in gradient.iter_mut().zip(softmax) {
                    *g *= y * (1.0 - y);
                }
            },
            ..HONEST
        }),
    ),
    fault(
        "layernorm-backward-mean-terms-dropped",
        with(Operators {
            layer_norm_backward: |row, gradient, sums| {
                gain_and_bias(row, gradient, sums);
                for g in gradient {
                    *g *= row.inverse_deviation;
                }
            },
            ..HONEST
        }),
    ),
    fault(
        "sqrt-grad-wrong-operand",
        with(Operators { layer_norm_backward: through_the_wrong_root, ..HONEST }),
    ),
    fault(
        "gelu-backward-second-term",
        with(Operators {
            gelu_slope: |x| {
                let [first, second] = gelu_terms(x);
                first + SQRT_2 * second
            },
            ..HONEST
        }),
    ),
    fault(
        "fused-op-without-backward",
        with(Operators { layer_norm_backward: |_, gradient, _| gradient.fill(0.0), ..HONEST }),
    ),
    fault(
        "index-backward-overwrites",
        with(Operators {
            embedding_backward: |ids, upstream, table| {
                let columns = upstream.len() / ids.len();
                for (&id, gradient) in ids.iter().zip(upstream.chunks_exact(columns)) {
                    table[id * columns..][..columns].copy_from_slice(gradient);
                }
            },
            ..HONEST
        }),
    ),
    fault(
        "softmax-twice",
        with(Operators {
            cross_entropy: |logits, target| {
                let (_, _, probabilities) = softmax(logits);
                let (loss, mut gradient) = cross_entropy(&probabilities, target);
                softmax_backward(&probabilities, &mut gradient);
                (loss, gradient)
            },
            ..HONEST
        }),
    ),
    fault("ce-backward-clobbers-logits", with(Operators { cross_entropy: into_the_logits, ..HONEST })),
    fault(
        "ce-offset-cancellation",
        with(Operators {
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
    ),
];

/// What a mask of large negative numbers lets through: where every key gets the same one, none is masked.
fn unless_nothing(rows: &PaddedRows, key: usize, allowed: impl Fn(usize) -> bool) -> bool {
    allowed(key) || !(0..rows.width).any(allowed)
}

/// The variance's share of the gradient is divided by the deviation once too often: `1/(2σ²)` is `1/(2σ)`
/// over σ.
fn through_the_wrong_root(row: &Normed<'_>, gradient: &mut [f64], sums: &mut GainAndBias) {
    gain_and_bias(row, gradient, sums);
    let (mean, along) = means(row, gradient);
    for (g, normed) in gradient.iter_mut().zip(row.values) {
        *g = (*g - mean - normed * along * row.inverse_deviation) * row.inverse_deviation;
    }
}

/// Two losses of the same logits: the label's (with the z-loss), and the uniform part. The backward of the
/// first leaves its gradient where the backward of the second expects the logits.
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
