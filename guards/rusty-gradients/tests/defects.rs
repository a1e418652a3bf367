//! Defects of rusty-gradients 0.2.0 as it was released, each by its smallest reproduction, without
//! lossproof. They are listed in docs/bugs.md.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ndarray::{ArrayD, IxDyn};
use rusty_gradients::{
    losses::cross_entropy_loss,
    models::gpt::{GPTModel, GptConfig},
    nn::Module as _,
    optim::{Adam, Optimizer as _},
    tensor::Tensor,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const FIXED: &str = "rusty-gradients no longer does what docs/bugs.md says of 0.2.0: update the entry";

fn numbers(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap(), true)
}

#[test]
fn the_first_logits_of_its_gpt_depend_on_the_token_they_are_to_predict() {
    let config = GptConfig { block_size: 2, vocab_size: 4, num_layers: 1, num_heads: 1, embedding_dim: 4 };
    let model = GPTModel::new(config);
    let first = |tokens: &[f32]| -> Vec<f32> {
        let logits = model.forward(&numbers(&[1, 2], tokens)).unwrap();
        let logits = logits.data.borrow();
        logits.iter().copied().take(4).collect()
    };
    // Alike behind the same token, whatever follows it: so says a causal model.
    let (one, other) = (first(&[1.0, 2.0]), first(&[1.0, 3.0]));
    let far = one.iter().zip(&other).any(|(one, other)| (one - other).abs() > 1e-4);
    assert!(far, "{one:?} and {other:?}: {FIXED}");
}

#[test]
fn of_two_rows_the_second_has_the_probabilities_themselves_for_a_gradient() {
    // One position and two classes: the loss of a row is ln 2, its gradient ±1/2.
    let logits = numbers(&[2, 1, 2], &[0.0; 4]);
    let loss = cross_entropy_loss(&logits, &numbers(&[1], &[0.0]));
    loss.backward();
    let gradient: Vec<f32> = logits.grad.as_ref().unwrap().borrow().iter().copied().collect();
    let right = [[-0.25, 0.25, -0.25, 0.25], [-0.5, 0.5, 0.0, 0.0]];
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let found = [-0.5, 0.5, 0.5, 0.5];
    assert_eq!(bits(&gradient), bits(&found), "{gradient:?}, and right is one of {right:?}: {FIXED}");
}

#[test]
fn labels_of_two_rows_are_beyond_its_bounds() {
    let logits = numbers(&[2, 1, 2], &[0.0; 4]);
    let both = AssertUnwindSafe(|| cross_entropy_loss(&logits, &numbers(&[2], &[0.0, 1.0])));
    assert!(catch_unwind(both).is_err(), "{FIXED}");
}

#[test]
fn the_third_step_of_its_adam_falls_short_by_a_hundred_roundings() {
    // With a gradient of 1 in each step, each step is as long as the learning rate.
    let parameter = numbers(&[1], &[0.0]);
    let mut adam = Adam::new(vec![parameter.clone()], 1.0, None, None);
    let mut steps = Vec::new();
    for _ in 0..3 {
        parameter.grad.as_ref().unwrap().borrow_mut().fill(1.0);
        parameter.data.borrow_mut().fill(0.0);
        adam.step();
        steps.push(f64::from(-parameter.data.borrow().sum()));
    }
    assert!((steps[0] - 1.0).abs() < 1e-7, "{steps:?}");
    let short = 1.0 - steps[2];
    assert!((5e-6..1e-5).contains(&short), "{steps:?} is short by {short:.1e}: {FIXED}");
}
