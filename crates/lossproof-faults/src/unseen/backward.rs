//! Operators of the backward pass.

use super::Unseen;
use crate::{
    model::{
        Operators, Real,
        operators::{dot, gain_and_bias, means},
        real,
    },
    operators::with,
};

/// Keys in a tile of attention.
const TILE: usize = 4;

pub(super) const BUGS: &[Unseen] = &[
    Unseen {
        id: "embedding-gradient-over-frequency",
        what: "the gradient of a looked-up row is divided by how often the row was looked up",
        source: None,
        trainer: with!(divided_by_the_frequency),
    },
    Unseen {
        id: "layernorm-mean-subtracted-twice",
        what: "the backward of a layer norm subtracts the mean of the gradient twice",
        source: Some("https://github.com/tenstorrent/tt-metal/issues/53204"),
        trainer: with!(mean_subtracted_twice),
    },
    Unseen {
        id: "layernorm-gain-and-bias-swapped",
        what: "the gradients of a layer norm's gain and bias are returned in the wrong order",
        source: Some("https://github.com/Oneflow-Inc/oneflow/pull/6149"),
        trainer: with!(gain_for_bias),
    },
    Unseen {
        id: "gelu-slope-of-another-form",
        what: "the backward of the GELU differentiates another approximation than the forward computes",
        source: Some("https://github.com/harvard-edge/cs249r_book/pull/1399"),
        trainer: with!(slope_of_the_sigmoid_form),
    },
    Unseen {
        id: "attention-delta-of-one-tile",
        what: "the backward of attention's softmax sums over the first tile of keys only",
        source: None,
        trainer: with!(delta_of_the_first_tile),
    },
    Unseen {
        id: "attention-weights-detached",
        what: "the weights of attention are detached, and its values alone have a gradient",
        source: None,
        trainer: with!(weights_detached),
    },
    Unseen {
        id: "residual-detached",
        what: "the residual stream is detached around attention, which all of the gradient goes through",
        source: None,
        trainer: with!(residual_detached),
    },
];

fn divided_by_the_frequency<T: Real>() -> Operators<T> {
    Operators {
        embedding_backward: |ids, upstream, table| {
            (Operators::honest().embedding_backward)(ids, upstream, table);
            let columns = upstream.len() / ids.len();
            for (id, row) in table.chunks_exact_mut(columns).enumerate() {
                let frequency = ids.iter().filter(|&&looked_up| looked_up == id).count();
                let frequency = real::<T>(frequency.max(1) as f64);
                for value in row {
                    *value /= frequency;
                }
            }
        },
        ..Operators::honest()
    }
}

fn mean_subtracted_twice<T: Real>() -> Operators<T> {
    Operators {
        layer_norm_backward: |row, gradient, sums| {
            gain_and_bias(row, gradient, sums);
            let (mean, along) = means(row, gradient);
            for (g, &normed) in gradient.iter_mut().zip(row.values) {
                *g = (*g - mean - mean - normed * along) * row.inverse_deviation;
            }
        },
        ..Operators::honest()
    }
}

fn gain_for_bias<T: Real>() -> Operators<T> {
    Operators {
        layer_norm_backward: |row, gradient, sums| {
            std::mem::swap(&mut sums.gain, &mut sums.bias);
            (Operators::honest().layer_norm_backward)(row, gradient, sums);
            std::mem::swap(&mut sums.gain, &mut sums.bias);
        },
        ..Operators::honest()
    }
}

/// The derivative of `x·σ(1.702·x)`.
fn slope_of_the_sigmoid_form<T: Real>() -> Operators<T> {
    Operators {
        gelu_slope: |x| {
            let steepness = real::<T>(1.702);
            let sigmoid = (T::one() + (-steepness * x).exp()).recip();
            sigmoid + steepness * x * sigmoid * (T::one() - sigmoid)
        },
        ..Operators::honest()
    }
}

fn delta_of_the_first_tile<T: Real>() -> Operators<T> {
    Operators {
        softmax_backward: |softmax, gradient| {
            let keys = softmax.len().min(TILE);
            let delta = dot(&softmax[..keys], &gradient[..keys]);
            for (g, &y) in gradient.iter_mut().zip(softmax) {
                *g = y * (*g - delta);
            }
        },
        ..Operators::honest()
    }
}

fn weights_detached<T: Real>() -> Operators<T> {
    Operators { softmax_backward: |_, gradient| gradient.fill(T::zero()), ..Operators::honest() }
}

fn residual_detached<T: Real>() -> Operators<T> {
    Operators { around_attention: |gradient| gradient.fill(T::zero()), ..Operators::honest() }
}
