//! The CPU's own versions against dfdx's operations, values and gradients, below and above the size that is shared out.

use super::{Kernels, Modified, composed};
use dfdx::{
    prelude::*,
    shapes::{Axes, ReduceShapeTo},
    tensor::Cpu,
};

type Taped<S> = Tensor<S, f64, Cpu, OwnedTape<f64, Cpu>>;
type Vector = Tensor<(usize,), f64, Cpu>;

/// Numbers without a pattern, in (−size, size).
fn tensor<S: Shape>(shape: S, size: f64, seed: f64) -> Tensor<S, f64, Cpu> {
    let value = |i: usize| size * (i as f64 * 1.618_034 + seed + (i as f64 * 0.37).sin() * 5.0).sin();
    let values = (0..shape.num_elements()).map(value).collect();
    Cpu::default().tensor_from_vec(values, shape)
}

/// Output and gradients (of `x` and of `others`) of one version, under an uneven upstream gradient.
fn observed<I: Shape, O: Shape + ReduceShapeTo<(), A>, A: Axes>(
    x: &Tensor<I, f64, Cpu>,
    others: &[&Vector],
    operation: impl Fn(Taped<I>) -> Taped<O>,
) -> Vec<Vec<f64>> {
    let output = operation(x.leaky_trace());
    let values = output.as_vec();
    let upstream = tensor(*output.shape(), 1.0, 0.9);
    let gradients = (output * upstream).sum::<(), A>().backward();
    let mut all = vec![values, gradients.get(x).as_vec()];
    all.extend(others.iter().map(|&other| gradients.get(other).as_vec()));
    all
}

/// Every array to within 1e-13 of its norm: the two versions differ in a few dozen roundings of 1.1e-16 per
/// element, and in the order of sums of up to 1024 terms, whose roundings add up like a random walk.
fn agree(own: &[Vec<f64>], composed: &[Vec<f64>]) {
    assert_eq!(own.len(), composed.len());
    for (index, (own, composed)) in own.iter().zip(composed).enumerate() {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let distance = norm(&mut own.iter().zip(composed).map(|(a, b)| a - b));
        let scale = norm(&mut composed.iter().copied());
        assert_eq!(own.len(), composed.len());
        assert!(distance <= 1e-13 * scale && scale > 0.0, "array {index}: {distance:e} of {scale:e}");
    }
}

/// Rows × columns: odd and small, several vectors wide, and large enough to be shared out.
const SIZES: [(usize, usize); 3] = [(3, 5), (7, 40), (61, 1024)];

#[test]
fn bias() {
    for shape in SIZES {
        let (x, bias) = (tensor(shape, 2.0, 0.1), tensor((shape.1,), 1.0, 0.2));
        agree(
            &observed(&x, &[&bias], |x| Cpu::add_bias(x, &bias).unwrap()),
            &observed(&x, &[&bias], |x| composed::add_bias(x, &bias).unwrap()),
        );
    }
}

#[test]
fn gelu() {
    for shape in SIZES {
        for size in [0.01, 2.0, 40.0] {
            let x = tensor(shape, size, 0.3);
            agree(
                &observed(&x, &[], |x| Cpu::gelu(x).unwrap()),
                &observed(&x, &[], |x| composed::gelu(x).unwrap()),
            );
        }
    }
}

#[test]
fn layer_norm() {
    for shape in SIZES {
        let x = tensor(shape, 3.0, 0.4);
        let (gain, bias) = (tensor((shape.1,), 1.0, 0.5), tensor((shape.1,), 1.0, 0.6));
        agree(
            &observed(&x, &[&gain, &bias], |x| Cpu::layer_norm(x, &gain, &bias).unwrap()),
            &observed(&x, &[&gain, &bias], |x| composed::layer_norm(x, &gain, &bias).unwrap()),
        );
    }
}

#[test]
fn attention_weights() {
    for (count, heads, width) in [(2, 3, 5), (1, 2, 40), (3, 4, 64)] {
        let scores = tensor((count, heads, width, width), 9.0, 0.7);
        let visible = |i: usize| i % width <= i / width % width && i % 7 != 3 || i.is_multiple_of(width);
        let bias = (0..count * width * width).map(|i| if visible(i) { 0.0 } else { f64::NEG_INFINITY });
        let bias = Cpu::default().tensor_from_vec(bias.collect(), (count, width, width));
        agree(
            &observed(&scores, &[], |x| Cpu::attention_weights(x, 0.3, &bias).unwrap()),
            &observed(&scores, &[], |x| composed::attention_weights(x, 0.3, &bias).unwrap()),
        );
    }
}

#[test]
fn cross_entropy() {
    for shape in SIZES {
        for (label_smoothing, z_loss) in [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 1e-3)] {
            let modified = Modified { label_smoothing, z_loss };
            let logits = tensor(shape, 6.0, 0.8);
            let targets: Vec<_> = (0..shape.0).map(|row| row * 3 % shape.1).collect();
            agree(
                &observed(&logits, &[], |x| Cpu::cross_entropy(x, targets.clone(), modified).unwrap()),
                &observed(&logits, &[], |x| composed::cross_entropy(x, targets.clone(), modified).unwrap()),
            );
        }
    }
}

/// What an operation passes on is the same where its own gradient is let go of, and so is what comes to an input that
/// goes elsewhere, too.
#[test]
fn passing_on() {
    let x = tensor((7, 40), 2.0, 0.1);
    let weight = tensor((40, 7), 1.0, 0.2);
    let twice = |x: Taped<(usize, usize)>, passed: bool| {
        let other = x.retaped::<OwnedTape<f64, Cpu>>();
        let (once, again) = if passed {
            let once = Cpu::passing_on(x, |x| x.try_matmul(weight.clone())).unwrap();
            (once, Cpu::passing_on(other, |x| x.try_matmul(weight.clone())).unwrap())
        } else {
            (x.matmul(weight.clone()), other.matmul(weight.clone()))
        };
        once.square() + again
    };
    agree(&observed(&x, &[], |x| twice(x, true)), &observed(&x, &[], |x| twice(x, false)));
}

/// A gradient is moved to where nothing is yet: an input that goes elsewhere, too, would lose what comes from there.
#[test]
#[should_panic(expected = "the input goes elsewhere, too")]
fn an_input_that_goes_elsewhere_is_refused() {
    let x = tensor((3, 5), 2.0, 0.1);
    observed(&x, &[], |x| {
        let other = x.retaped::<OwnedTape<f64, Cpu>>();
        Cpu::gelu(x).unwrap() + other.square()
    });
}

/// A value that is not a number is not lost on the way: a step is skipped when it should be.
#[test]
fn nan_comes_through_every_operation() {
    let nan = Cpu::default().tensor_from_vec(vec![0.5, f64::NAN, 1.0], (1, 3));
    let vector = tensor((3,), 1.0, 0.0);
    assert!(Cpu::add_bias(nan.clone(), &vector).unwrap().as_vec()[1].is_nan());
    assert!(Cpu::gelu(nan.clone()).unwrap().as_vec()[1].is_nan());
    assert!(Cpu::layer_norm(nan.clone(), &vector, &vector).unwrap().as_vec()[0].is_nan());
    assert!(Cpu::cross_entropy(nan, vec![0], Modified::default()).unwrap().as_vec()[0].is_nan());
    let scores = Cpu::default().tensor_from_vec(vec![0.5, f64::NAN, 1.0, 2.0], (1, 1, 2, 2));
    let bias = Cpu::default().tensor_from_vec(vec![0.0; 4], (1, 2, 2));
    assert!(Cpu::attention_weights(scores, 1.0, &bias).unwrap().as_vec()[0].is_nan());
}
