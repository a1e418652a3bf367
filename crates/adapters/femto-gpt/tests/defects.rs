//! Defects of femto-gpt 0.2.0 as it was released, each by its smallest reproduction. They are listed in docs/bugs.md.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use femto_gpt::{
    funcs::{CrossEntropy, Dropout},
    tensor::{GeneralTensor, Tensor, TensorOps as _},
};
use lossproof_femto_gpt::{Config, Head, femto_gpt};
use lossproof_numerics::CrossEntropy as ClosedForm;
use lossproof_spec::{GlobalBatch, Sequence};
use lossproof_subject::Collect;

const FIXED: &str = "femto-gpt no longer does what docs/bugs.md says of 0.2.0: update the entry";

/// Loss and gradient of one token by femto-gpt.
fn femto(logits: &[f32], label: usize) -> (f32, Vec<f32>) {
    let logits = GeneralTensor::Float(Tensor::raw(&[1, logits.len()], logits.to_vec()).unwrap());
    let label = GeneralTensor::Usize(Tensor::raw(&[1], vec![label]).unwrap());
    let mut operator = CrossEntropy::new();
    let loss = operator.run(&[&logits, &label], true).unwrap().blob()[0];
    let upstream = Tensor::raw(&[1], vec![1.0]).unwrap();
    let gradient = operator.grad(&[&logits, &label], &upstream).unwrap();
    (loss, gradient[0].blob().to_vec())
}

/// The same in closed form.
fn right(logits: &[f32], label: usize) -> (f64, Vec<f64>) {
    let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
    let exact = ClosedForm::default();
    (exact.loss(&logits, label).unwrap(), exact.gradient(&logits, label).unwrap())
}

#[test]
fn the_cross_entropy_of_moderate_logits_is_right() {
    for logits in [[0.0, 0.0], [3.0, -2.0], [85.0, 84.0], [-80.0, -81.0]] {
        let ((loss, gradient), (right, right_gradient)) = (femto(&logits, 1), right(&logits, 1));
        // A difference of two numbers of this size, each rounded.
        let bound = 4.0 * f64::from(f32::EPSILON) * f64::from(logits[0].abs().max(1.0));
        assert!((f64::from(loss) - right).abs() <= bound, "{logits:?}: {loss}, expected {right}");
        for (found, expected) in gradient.iter().zip(right_gradient) {
            assert!((f64::from(*found) - expected).abs() <= 4.0 * f64::from(f32::EPSILON), "{logits:?}");
        }
    }
}

#[test]
fn the_cross_entropy_is_infinite_once_one_exponential_overflows() {
    // f32 holds exp(88.72) and no more.
    for logits in [[89.0, 89.0], [89.0, 0.0]] {
        for label in 0..2 {
            let ((loss, gradient), (right, right_gradient)) = (femto(&logits, label), right(&logits, label));
            assert!(right.is_finite() && right_gradient.iter().all(|g| g.is_finite()));
            assert!(loss.is_infinite() && loss > 0.0, "loss {loss}: {FIXED}");
            assert!(gradient[0].is_nan(), "gradient {gradient:?}: {FIXED}");
        }
    }
}

#[test]
fn the_cross_entropy_is_minus_infinity_once_every_exponential_is_zero() {
    // Half of the smallest f32 is exp(−103.97).
    let logits = [-104.0, -104.0];
    let ((loss, gradient), (right, _)) = (femto(&logits, 0), right(&logits, 0));
    assert!((right - 2.0_f64.ln()).abs() < 1e-12);
    assert!(loss.is_infinite() && loss < 0.0, "loss {loss}: {FIXED}");
    assert!(gradient.iter().all(|g| g.is_nan()), "gradient {gradient:?}: {FIXED}");
}

#[test]
fn one_constant_on_the_head_bias_turns_the_whole_gradient_into_nan() {
    let mut subject = femto_gpt(Config::PICO, Head::Own).unwrap();
    let sequence = Sequence::new(vec![3, 1, 4, 1, 5, 9, 2], vec![3, 1, 4, 1, 5, 9, 2]).unwrap();
    let batch = GlobalBatch::single(sequence);
    let mut at = |bias: f64| {
        subject.reset().unwrap();
        subject.parameter_loading().unwrap().set("lm_head.bias", &[bias; Config::PICO.vocabulary]).unwrap();
        let mut gradient = Collect::default();
        let loss = subject.accumulate(&batch, &mut gradient).unwrap().loss;
        (loss, gradient.into_tensors())
    };
    let (expected, gradient) = at(0.0);
    assert!(gradient.values().all(|tensor| tensor.to_f64().iter().all(|g| g.is_finite())));
    let (loss, gradient) = at(90.0);
    assert!(
        expected.is_finite() && loss.is_infinite(),
        "loss {loss}, {expected} without the constant: {FIXED}"
    );
    for (name, tensor) in gradient {
        assert!(tensor.to_f64().iter().any(|g| g.is_nan()), "gradient of {name}: {FIXED}");
    }
}

#[test]
fn dropout_at_rate_zero_drops() {
    // An element is dropped where a uniform multiple of 2⁻²³ below 1 is not above the rate: with probability
    // 2⁻²³ at rate 0. Of 2²⁷ elements 16 are to be expected, and none at all once in e¹⁶ = 9 million runs.
    let elements = 1 << 20;
    let ones = GeneralTensor::Float(Tensor::constant(&[elements], 1.0));
    let mut operator = Dropout::new(0.0);
    let runs = (1 << 27) / elements;
    let dropped = (0..runs).any(|_| operator.run(&[&ones], true).unwrap().blob().contains(&0.0));
    assert!(dropped, "of {} elements none was dropped: {FIXED}", runs * elements);
    let evaluated = operator.run(&[&ones], false).unwrap();
    assert!(evaluated.blob().iter().all(|value| value.to_bits() == 1.0_f32.to_bits()));
}
