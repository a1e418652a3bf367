//! Defects of tch 0.24.0 as released, each by its smallest reproduction. They are listed in docs/bugs.md. Here, because
//! this package alone sees tch.

use lossproof_numerics::CrossEntropy;
use tch::{Kind, Tensor};

const FIXED: &str = "tch no longer does what docs/bugs.md says of 0.24.0: update the entry";

#[test]
fn cross_entropy_for_logits_takes_double_logits_to_single_precision() {
    let (values, label) = ([20.0_f64, 0.0], 0_i64);
    let exact = CrossEntropy::default();
    let right = exact.loss(&values, 0).unwrap();
    let right_gradient = exact.gradient(&values, 0).unwrap();
    // ln(1 + e^−20), and e^−20 to the first order: far above the resolution of f64, far below that of f32 beside 1.
    assert!((right / (-20.0_f64).exp() - 1.0).abs() < 1e-8);

    let logits = || Tensor::from_slice(&values).view([1, 2]).set_requires_grad(true);
    let targets = Tensor::from_slice(&[label]);
    let gradient = |logits: &Tensor| Vec::<f64>::try_from(logits.grad().view(-1)).unwrap();

    let given = logits();
    let found = given.cross_entropy_for_logits(&targets);
    found.backward();
    assert_eq!(found.kind(), Kind::Float, "{FIXED}");
    assert_eq!(found.double_value(&[]).to_bits(), 0.0_f64.to_bits(), "{right:e} is right: {FIXED}");
    assert_eq!(gradient(&given)[0].to_bits(), 0.0_f64.to_bits(), "{:e} is right: {FIXED}", right_gradient[0]);

    // libtorch's own.
    let given = logits();
    let found = given.cross_entropy_loss::<Tensor>(&targets, None, tch::Reduction::Mean, -100, 0.0);
    found.backward();
    let bound = 8.0 * f64::EPSILON;
    assert!((found.double_value(&[]) - right).abs() <= bound);
    for (found, right) in gradient(&given).iter().zip(&right_gradient) {
        assert!((found - right).abs() <= bound, "{found}, expected {right}");
    }
}
