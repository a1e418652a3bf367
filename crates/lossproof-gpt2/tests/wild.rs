//! Defects of dfdx 0.13.0 as released, each by its smallest reproduction. They are listed in docs/bugs.md.
//! Here, because this package alone sees dfdx.
//!
//! What is right is a closed form, or the derivative of dfdx's own forward pass by finite differences with their own
//! uncertainty. A test holds what dfdx computes to be wrong, and in the way that docs/bugs.md states.

use dfdx::{
    losses::{cross_entropy_with_logits_loss, kl_div_with_logits_loss},
    shapes::{Axis, Const, Rank0, Rank1, Rank2, Rank3},
    tensor::{AsArray, Cpu, Gradients, NoneTape, OwnedTape, Tensor, TensorFrom, TensorFromVec, Trace},
    tensor_ops::{
        Backward, BroadcastTo, LogSumExpTo, MaxTo, MeanTo, MinTo, PermuteTo, ReshapeTo, SelectTo, SumTo,
    },
};
use lossproof_numerics::{CrossEntropy, Plateau, sweep};
use std::{
    convert::Infallible,
    f64::consts::{PI, SQRT_2},
    panic::{AssertUnwindSafe, catch_unwind},
};

type Matrix<T = NoneTape> = Tensor<Rank2<2, 3>, f64, Cpu, T>;
type Tape = OwnedTape<f64, Cpu>;
type Scalar = Tensor<Rank0, f64, Cpu, Tape>;

const FIXED: &str = "dfdx no longer does what docs/bugs.md says of 0.13.0: update the entry";

/// No two alike, and not in order.
const POINT: [f64; 6] = [0.3, -1.2, 0.8, 2.1, -0.4, 1.7];
const LABELS: [usize; 3] = [1, 0, 1];

fn device() -> Cpu {
    Cpu::default()
}

fn matrix(values: &[f64; 6]) -> Matrix {
    device().tensor_from_vec(values.to_vec(), (Const, Const))
}

/// The gradient by dfdx of a function of a 2 × 3 matrix, row-major.
fn autograd(point: &[f64; 6], f: impl Fn(Matrix<Tape>) -> Scalar) -> Vec<f64> {
    let x = matrix(point);
    f(x.leaky_trace()).backward().get(&x).as_vec()
}

/// The same by finite differences of dfdx's forward pass.
fn differences(point: &[f64; 6], f: impl Fn(Matrix<Tape>) -> Scalar) -> Vec<Plateau> {
    let along = |index: usize| {
        let at = |step: f64| {
            let mut moved = *point;
            moved[index] += step;
            Ok::<_, Infallible>(vec![f(matrix(&moved).leaky_trace()).array()])
        };
        sweep(0.0625, 10, at).unwrap().contract(&[1.0])
    };
    (0..point.len()).map(along).collect()
}

/// Rounding of a value computed in a few dozen operations.
fn rounding(value: f64) -> f64 {
    64.0 * f64::EPSILON * value.abs().max(1.0)
}

/// Holds a gradient to finite differences.
fn assert_right(found: &[f64], right: &[Plateau]) {
    for (found, right) in found.iter().zip(right) {
        let bound = right.uncertainty + rounding(right.value);
        assert!((found - right.value).abs() <= bound, "{found}, expected {right:?}");
    }
}

/// Holds a gradient to be what is `stated`, and that to be wrong.
fn assert_wrong(found: &[f64], stated: &[Plateau], right: &[Plateau]) {
    assert_eq!(found.len(), stated.len());
    for (found, stated) in found.iter().zip(stated) {
        let bound = stated.uncertainty + rounding(stated.value);
        assert!((found - stated.value).abs() <= bound, "{found}, {} is stated: {FIXED}", stated.value);
    }
    let resolved = |(found, right): (&f64, &Plateau)| {
        (found - right.value).abs() > 1e6 * (right.uncertainty + rounding(right.value))
    };
    assert!(found.iter().zip(right).any(resolved), "{found:?} is right: {FIXED}");
}

#[test]
fn the_derivative_of_accurate_gelu_has_a_second_term_that_is_too_large() {
    let points = [-2.0, -1.0, 0.25, 0.5, 1.0, 2.0];
    let gelu = |x: Matrix<Tape>| x.accurate_gelu().sum();
    let right = differences(&points, gelu);
    // Φ(x) + x·φ(x) is right, and the second term is √2 times that.
    let stated: Vec<Plateau> = right
        .iter()
        .zip(points)
        .map(|(right, x)| {
            let density = (-x * x / 2.0).exp() / (2.0 * PI).sqrt();
            Plateau { value: right.value + (SQRT_2 - 1.0) * x * density, ..*right }
        })
        .collect();
    let found = autograd(&points, gelu);
    assert_wrong(&found, &stated, &right);
    // The numbers of docs/bugs.md, at x = 1.
    assert!((found[4] - 1.1835).abs() < 5e-5 && (right[4].value - 1.0833).abs() < 5e-5, "{FIXED}");
    let tanh = |x: Matrix<Tape>| x.fast_gelu().sum();
    assert_right(&autograd(&points, tanh), &differences(&points, tanh));
}

/// The three operators along the second axis, contracted to one number.
mod weighted {
    use super::*;

    fn weights<const R: usize, const C: usize>() -> Tensor<Rank2<R, C>, f64, Cpu> {
        let weight = |index: usize| 1.5 * (3.7 * index as f64 + 0.4).sin();
        device().tensor_from_vec((0..R * C).map(weight).collect(), (Const, Const))
    }

    pub(super) fn softmax<const R: usize, const C: usize>(x: Tensor<Rank2<R, C>, f64, Cpu, Tape>) -> Scalar {
        (x.softmax::<Axis<1>>() * weights()).sum()
    }

    pub(super) fn log_softmax<const R: usize, const C: usize>(
        x: Tensor<Rank2<R, C>, f64, Cpu, Tape>,
    ) -> Scalar {
        (x.log_softmax::<Axis<1>>() * weights()).sum()
    }

    pub(super) fn logsumexp<const R: usize, const C: usize>(
        x: Tensor<Rank2<R, C>, f64, Cpu, Tape>,
    ) -> Scalar {
        x.logsumexp::<Rank1<R>, Axis<1>>().square().sum()
    }
}

/// A 2 × 3 gradient, row-major, in the row-major order of the transposed view.
fn in_the_order_of_the_view<T: Copy>(gradient: &[T]) -> Vec<T> {
    (0..3).flat_map(|row| (0..2).map(move |column| column * 3 + row)).map(|index| gradient[index]).collect()
}

#[test]
fn softmax_and_its_kin_hand_back_the_gradient_of_a_transposed_view_in_the_wrong_order() {
    macro_rules! hold {
        ($operator:path) => {{
            let plain = |x: Matrix<Tape>| $operator(x);
            assert_right(&autograd(&POINT, plain), &differences(&POINT, plain));

            let transposed = |x: Matrix<Tape>| $operator(x.permute::<Rank2<3, 2>, _>());
            let right = differences(&POINT, transposed);
            assert_wrong(&autograd(&POINT, transposed), &in_the_order_of_the_view(&right), &right);

            // The remedy of docs/bugs.md.
            let copied = |x: Matrix<Tape>| $operator(x.permute::<Rank2<3, 2>, _>().contiguous());
            assert_right(&autograd(&POINT, copied), &differences(&POINT, copied));
        }};
    }
    hold!(weighted::softmax);
    hold!(weighted::log_softmax);
    hold!(weighted::logsumexp);
}

#[test]
fn cross_entropy_of_transposed_logits_has_the_closed_form_in_the_wrong_order() {
    let labels = device().tensor(LABELS);
    let found = autograd(&POINT, |x| {
        let logits = x.permute::<Rank2<3, 2>, _>();
        logits.log_softmax::<Axis<1>>().select(labels.clone()).mean().negate()
    });
    let mut right = vec![0.0; 6];
    for (token, label) in LABELS.into_iter().enumerate() {
        let gradient = CrossEntropy::default().gradient(&[POINT[token], POINT[3 + token]], label).unwrap();
        (right[token], right[3 + token]) = (gradient[0] / 3.0, gradient[1] / 3.0);
    }
    for ((found, stated), right) in found.iter().zip(in_the_order_of_the_view(&right)).zip(&right) {
        assert!((found - stated).abs() <= rounding(stated), "{found}, {stated} is stated: {FIXED}");
        assert!(right.is_finite());
    }
    let off: f64 = found.iter().zip(&right).map(|(found, right)| (found - right).abs()).fold(0.0, f64::max);
    assert!(off > 0.1, "{found:?} is right: {FIXED}");
}

#[test]
fn softmax_and_its_kin_lose_the_gradient_of_all_but_the_first_copy_of_a_broadcast_view() {
    type Copies = Rank3<4, 2, 3>;
    let weights: Tensor<Copies, f64, Cpu> = device().tensor_from_vec(
        (0..24).map(|index| (2.3 * f64::from(index) + 0.1).sin()).collect(),
        (Const, Const, Const),
    );
    let first: Matrix = device().tensor_from_vec(weights.as_vec()[..6].to_vec(), (Const, Const));
    macro_rules! hold {
        ($operator:ident) => {{
            let whole =
                |x: Matrix<Tape>| (x.broadcast::<Copies, _>().$operator::<Axis<2>>() * weights.clone()).sum();
            let of_first = |x: Matrix<Tape>| (x.$operator::<Axis<1>>() * first.clone()).sum();
            let found = autograd(&POINT, whole);
            assert_wrong(&found, &differences(&POINT, of_first), &differences(&POINT, whole));
        }};
    }
    hold!(softmax);
    hold!(log_softmax);
    let whole =
        |x: Matrix<Tape>| x.broadcast::<Copies, _>().logsumexp::<Rank2<4, 2>, Axis<2>>().square().sum();
    let of_first = |x: Matrix<Tape>| x.logsumexp::<Rank1<2>, Axis<1>>().square().sum();
    assert_wrong(&autograd(&POINT, whole), &differences(&POINT, of_first), &differences(&POINT, whole));
}

#[test]
fn the_largest_of_equal_numbers_hands_the_whole_gradient_to_each() {
    // Of four copies of a row the maximum and the minimum are that row: the function is the sum, its derivative 1.
    type Copies = Rank3<4, 2, 3>;
    let largest = |x: Matrix<Tape>| x.broadcast::<Copies, _>().max::<Rank2<2, 3>, Axis<0>>().sum();
    let smallest = |x: Matrix<Tape>| x.broadcast::<Copies, _>().min::<Rank2<2, 3>, Axis<0>>().sum();
    let four_times = |right: &[Plateau]| -> Vec<Plateau> {
        right.iter().map(|right| Plateau { value: 4.0 * right.value, ..*right }).collect()
    };
    let right = differences(&POINT, largest);
    assert!(right.iter().all(|right| (right.value - 1.0).abs() <= right.uncertainty));
    assert_wrong(&autograd(&POINT, largest), &four_times(&right), &right);
    let right = differences(&POINT, smallest);
    assert_wrong(&autograd(&POINT, smallest), &four_times(&right), &right);
}

#[test]
fn the_cross_entropy_beside_an_impossible_class_is_nan() {
    let (logits, label) = ([0.5, f64::NEG_INFINITY, -1.0], 0);
    let exact = CrossEntropy::default();
    let (loss, gradient) = (exact.loss(&logits, label).unwrap(), exact.gradient(&logits, label).unwrap());
    assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()));
    let x = device().tensor(logits);
    let target = device().tensor([1.0, 0.0, 0.0]);
    let found = cross_entropy_with_logits_loss(x.leaky_trace(), target);
    let value = found.array();
    assert!(value.is_nan(), "{value}: {FIXED}");
}

#[test]
fn the_kl_divergence_from_a_certain_target_is_nan() {
    // With 0·ln 0 = 0 it is the cross-entropy.
    let (logits, label) = ([0.5, 2.0, -1.0], 0);
    assert!(CrossEntropy::default().loss(&logits, label).unwrap().is_finite());
    let x = device().tensor(logits);
    let found = kl_div_with_logits_loss(x.leaky_trace(), device().tensor([1.0, 0.0, 0.0])).array();
    assert!(found.is_nan(), "{found}: {FIXED}");
}

#[test]
fn of_two_tapes_with_gradients_the_second_one_stays() {
    let x = device().tensor(1.0_f64);
    let gradient = |factor: f64| (x.trace(Gradients::leaky()) * factor).backward();
    let of = |gradients: &Gradients<f64, Cpu>| gradients.get(&x).array();
    let (two, three) = (gradient(2.0), gradient(3.0));
    // On one tape gradients add up.
    let after = of(&(x.trace(gradient(2.0)) * 6.0).backward());
    assert!((after - 8.0).abs() < 1e-12, "{after}");
    // On two tapes the right sum is 2 + 3 + 2 + 4.
    let other = device().tensor(1.0_f64);
    let merged = of(&(x.trace(two) * 2.0 + (x.trace(three) * 4.0) * other).backward());
    assert!((merged - 9.0).abs() < 1e-12, "{merged}, 9 is stated, 11 is right: {FIXED}");
}

#[test]
fn a_tensor_times_its_clone_has_no_gradient() {
    let x = device().tensor([3.0_f64]);
    let square = |x: &Tensor<Rank1<1>, f64, Cpu>| x.leaky_trace().square().sum().backward().get(x).as_vec();
    assert!((square(&x)[0] - 6.0).abs() < 1e-12);
    let loss = (x.leaky_trace() * x.clone()).sum();
    let panicked = catch_unwind(AssertUnwindSafe(|| loss.backward().get(&x).as_vec())).is_err();
    assert!(panicked, "{FIXED}");
}
