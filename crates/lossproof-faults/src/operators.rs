//! The operators of forward and backward: what one of them computes where another result was due.

use crate::{
    Fault, fault,
    model::{
        Operators, PaddedRows, Real,
        operators::{
            self, GainAndBias, Normed, Target, cross_entropy, gain_and_bias, gelu_terms, means, softmax,
            softmax_backward,
        },
        real,
    },
    trainer::TrainerParts,
};

/// A trainer with operators that a function gives in each precision.
macro_rules! with {
    ($operators:path) => {
        $crate::trainer::TrainerParts {
            operators: Some($crate::model::in_each_precision!($operators)),
            ..$crate::trainer::TrainerParts::HONEST
        }
    };
}
pub(crate) use with;

/// A trainer with the honest operators.
pub(crate) const UNBROKEN: TrainerParts = with!(Operators::honest);

pub(crate) const FAULTS: &[Fault] = &[
    fault("causal-mask-dropped-on-path", with!(mask_dropped_on_path)),
    fault("causal-mask-inverted", with!(mask_inverted)),
    fault("causal-mask-diagonal-off-by-one", with!(mask_off_by_one)),
    fault("fully-masked-row-nan", with!(padding_that_sees_nothing)),
    fault("softmax-backward-diagonal-only", with!(diagonal_of_the_softmax)),
    fault("layernorm-backward-mean-terms-dropped", with!(norm_without_mean_terms)),
    fault("sqrt-grad-wrong-operand", with!(norm_through_the_wrong_root)),
    fault("gelu-backward-second-term", with!(gelu_with_a_wrong_term)),
    fault("fused-op-without-backward", with!(norm_without_backward)),
    fault("index-backward-overwrites", with!(last_row_that_was_looked_up)),
    fault("softmax-twice", with!(softmax_of_a_softmax)),
    fault("ce-backward-clobbers-logits", with!(clobbered_logits)),
    fault("ce-offset-cancellation", with!(offset_that_cancels)),
];

fn mask_dropped_on_path<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            let fast = !rows.padded() && rows.document(row, query) == rows.document(row, key);
            fast || operators::sees(rows, row, query, key)
        },
        ..Operators::honest()
    }
}

fn mask_inverted<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            let document = rows.document(row, query);
            let allowed = |key| key > query && document != 0 && document == rows.document(row, key);
            unless_nothing(rows, key, allowed)
        },
        ..Operators::honest()
    }
}

fn mask_off_by_one<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            let allowed = |key| key != query && operators::sees(rows, row, query, key);
            unless_nothing(rows, key, allowed)
        },
        ..Operators::honest()
    }
}

fn padding_that_sees_nothing<T: Real>() -> Operators<T> {
    Operators {
        sees: |rows, row, query, key| {
            rows.document(row, query) != 0 && operators::sees(rows, row, query, key)
        },
        ..Operators::honest()
    }
}

/// What a mask of large negative numbers lets through: where every key gets the same one, none is masked.
fn unless_nothing(rows: &PaddedRows, key: usize, allowed: impl Fn(usize) -> bool) -> bool {
    allowed(key) || !(0..rows.width).any(allowed)
}

fn diagonal_of_the_softmax<T: Real>() -> Operators<T> {
    Operators {
        softmax_backward: |softmax, gradient| {
            for (g, &y) in gradient.iter_mut().zip(softmax) {
                *g *= y * (T::one() - y);
            }
        },
        ..Operators::honest()
    }
}

fn norm_without_mean_terms<T: Real>() -> Operators<T> {
    Operators {
        layer_norm_backward: |row, gradient, sums| {
            gain_and_bias(row, gradient, sums);
            for g in gradient {
                *g *= row.inverse_deviation;
            }
        },
        ..Operators::honest()
    }
}

/// The variance's share of the gradient is divided by the deviation once too often: `1/(2σ²)` is `1/(2σ)`
/// over σ.
fn norm_through_the_wrong_root<T: Real>() -> Operators<T> {
    fn backward<T: Real>(row: &Normed<'_, T>, gradient: &mut [T], sums: &mut GainAndBias<T>) {
        gain_and_bias(row, gradient, sums);
        let (mean, along) = means(row, gradient);
        for (g, &normed) in gradient.iter_mut().zip(row.values) {
            *g = (*g - mean - normed * along * row.inverse_deviation) * row.inverse_deviation;
        }
    }
    Operators { layer_norm_backward: backward, ..Operators::honest() }
}

fn gelu_with_a_wrong_term<T: Real>() -> Operators<T> {
    Operators {
        gelu_slope: |x| {
            let [first, second] = gelu_terms(x);
            first + T::SQRT_2() * second
        },
        ..Operators::honest()
    }
}

fn norm_without_backward<T: Real>() -> Operators<T> {
    Operators { layer_norm_backward: |_, gradient, _| gradient.fill(T::zero()), ..Operators::honest() }
}

fn last_row_that_was_looked_up<T: Real>() -> Operators<T> {
    Operators {
        embedding_backward: |ids, upstream, table| {
            let columns = upstream.len() / ids.len();
            for (&id, gradient) in ids.iter().zip(upstream.chunks_exact(columns)) {
                table[id * columns..][..columns].copy_from_slice(gradient);
            }
        },
        ..Operators::honest()
    }
}

fn softmax_of_a_softmax<T: Real>() -> Operators<T> {
    Operators {
        cross_entropy: |logits, target| {
            let (_, _, probabilities) = softmax(logits);
            let (loss, mut gradient) = cross_entropy(&probabilities, target);
            softmax_backward(&probabilities, &mut gradient);
            (loss, gradient)
        },
        ..Operators::honest()
    }
}

/// Two losses of the same logits: the label's (with the z-loss), and the uniform part. The backward of the
/// first leaves its gradient where the backward of the second expects the logits.
fn clobbered_logits<T: Real>() -> Operators<T> {
    fn clobbering<T: Real>(logits: &[T], target: &Target) -> (T, Vec<T>) {
        let (loss, mut gradient) = cross_entropy(logits, target);
        let (spread, even) = (real::<T>(target.label_smoothing), real::<T>(logits.len() as f64).recip());
        let uniform = |factor: T, gradient: &mut [T], softmax: &[T]| {
            for (g, &p) in gradient.iter_mut().zip(softmax) {
                *g += factor * spread * (p - even);
            }
        };
        let (_, _, probabilities) = softmax(logits);
        uniform(-T::one(), &mut gradient, &probabilities);
        let (_, _, clobbered) = softmax(&gradient);
        uniform(T::one(), &mut gradient, &clobbered);
        (loss, gradient)
    }
    Operators { cross_entropy: clobbering, ..Operators::honest() }
}

/// The logarithm of the normaliser and the logit are subtracted with their offset still in both.
fn offset_that_cancels<T: Real>() -> Operators<T> {
    Operators {
        cross_entropy: |logits, target| {
            let (_, gradient) = cross_entropy(logits, target);
            let (max, total, _) = softmax(logits);
            let mean = logits.iter().copied().sum::<T>() / real(logits.len() as f64);
            let log_normaliser = max + total.ln();
            let (spread, z_loss) = (real::<T>(target.label_smoothing), real::<T>(target.z_loss));
            let (label, uniform) = (log_normaliser - logits[target.label], log_normaliser - mean);
            let of_normaliser = z_loss * log_normaliser * log_normaliser;
            ((T::one() - spread) * label + spread * uniform + of_normaliser, gradient)
        },
        ..Operators::honest()
    }
}
