//! Defects of aprender-train 0.72.3 as it was released, each by its smallest reproduction, without
//! lossproof. They are listed in docs/bugs.md.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use entrenar::{
    Tensor,
    autograd::{add, scale},
    backward,
    train::{LMBatch, TransformerTrainConfig, TransformerTrainer},
    transformer::{Transformer, TransformerConfig},
};

const FIXED: &str = "aprender-train no longer does what docs/bugs.md says of 0.72.3: update the entry";

const ROW: [u32; 5] = [3, 1, 4, 1, 5];

/// Without a block: embedding, norm and head.
fn model() -> TransformerConfig {
    TransformerConfig {
        hidden_size: 8,
        intermediate_size: 16,
        num_hidden_layers: 0,
        vocab_size: 10,
        max_position_embeddings: 8,
        ..TransformerConfig::tiny()
    }
}

/// With this many micro-batches in a window, and no clipping.
fn training(window: usize) -> TransformerTrainConfig {
    let mut training =
        TransformerTrainConfig::new(model()).with_accumulation_steps(window).with_use_cuda(false);
    training.base.max_grad_norm = None;
    training
}

fn rows(count: usize) -> LMBatch {
    LMBatch::from_sequences(&vec![ROW.to_vec(); count], 0, 9)
}

/// The loss that is logged for a window of such micro-batches, and the gradient of the last norm.
fn window(micro_batches: &[LMBatch]) -> (f32, Vec<f32>) {
    let mut trainer = TransformerTrainer::new(training(micro_batches.len()));
    for batch in micro_batches {
        trainer.train_batch(batch);
    }
    let gradient = trainer.model().norm.weight.grad().unwrap();
    (*trainer.metrics.losses.last().unwrap(), gradient.to_vec())
}

/// Whether the one is so many times the other.
fn is_times(found: &[f32], factor: f32, of: &[f32]) -> bool {
    let size = of.iter().map(|one| one.abs()).sum::<f32>();
    size > 0.0 && found.iter().zip(of).all(|(found, of)| (found - factor * of).abs() < 1e-5 * size)
}

#[test]
fn what_is_used_twice_hands_its_gradient_on_twice() {
    let x = Tensor::from_vec(vec![1.0], true);
    let used_twice = scale(&x, 1.0);
    let mut sum = add(&used_twice, &used_twice);
    backward(&mut sum, None);
    // d(x + x)/dx = 2, which the tensor that is used twice has, and hands on twice.
    let gradient = |tensor: &Tensor| tensor.grad().unwrap().to_vec();
    assert!(is_times(&gradient(&used_twice), 2.0, &[1.0]));
    assert!(is_times(&gradient(&x), 4.0, &[1.0]), "{:?}: {FIXED}", gradient(&x));
}

#[test]
fn the_rows_of_a_batch_are_averaged_in_the_loss_and_added_in_the_gradient() {
    let ((one, gradient), (three, of_three)) = (window(&[rows(1)]), window(&[rows(3)]));
    assert!((one - three).abs() < 1e-5, "{one} and {three}");
    assert!(is_times(&of_three, 3.0, &gradient), "{of_three:?} and {gradient:?}: {FIXED}");
}

#[test]
fn micro_batches_are_averaged_in_the_loss_and_added_in_the_gradient() {
    let ((one, gradient), (two, of_two)) = (window(&[rows(1)]), window(&[rows(1), rows(1)]));
    assert!((one - two).abs() < 1e-5, "{one} and {two}");
    assert!(is_times(&of_two, 2.0, &gradient), "{of_two:?} and {gradient:?}: {FIXED}");
}

#[test]
fn a_token_that_is_input_alone_has_a_gradient_from_the_head_alone() {
    // The gradient of a tied embedding's rows is a multiple of the last activations, as the head's is, where
    // the input's part would have another direction. Where the loss has no other input than this token, the
    // row of a token that is neither input nor label is such a multiple; and so is, here, that of the input.
    let mut trainer = TransformerTrainer::new(training(1));
    trainer.train_batch(&LMBatch::single(vec![3], vec![5]));
    let gradient = trainer.model().embed_tokens.weight.grad().unwrap().to_vec();
    let row = |token: usize| &gradient[8 * token..][..8];
    let factor = row(3)[0] / row(7)[0];
    assert!(is_times(row(3), factor, row(7)), "{:?} and {:?}: {FIXED}", row(3), row(7));
}

#[test]
fn the_settings_of_the_optimizer_are_not_looked_at() {
    let step = |training: TransformerTrainConfig| -> Vec<f32> {
        let mut trainer = TransformerTrainer::new(training);
        (0..3).for_each(|_| {
            trainer.train_batch(&rows(1));
        });
        trainer.model().embed_tokens.weight.data().to_vec()
    };
    let mut set = training(1).with_beta2(0.5).with_weight_decay(100.0).with_warmup_steps(1000);
    set.beta1 = 0.0;
    let (plain, set) = (step(training(1)), step(set));
    let start = Transformer::new(&model()).embed_tokens.weight.data().to_vec();
    assert!(plain.iter().zip(&start).any(|(one, other)| one.to_bits() != other.to_bits()));
    assert!(plain.iter().zip(&set).all(|(one, other)| one.to_bits() == other.to_bits()), "{FIXED}");
}

#[test]
fn what_shorter_rows_are_filled_up_with_is_trained_on() {
    let batch = LMBatch::from_sequences(&[vec![3, 1, 4, 1, 5], vec![6, 7]], 0, 9);
    assert_eq!(batch.get_input(1).unwrap(), [6, 0, 0, 0]);
    assert_eq!(batch.get_target(1).unwrap(), [7, 9, 0, 0]);
    // Their losses are in the row's mean: it is that of a row which has them for tokens.
    let (filled, _) = window(&[batch]);
    let (long, _) = window(&[LMBatch::single(vec![3, 1, 4, 1], vec![1, 4, 1, 5])]);
    let (short, _) = window(&[LMBatch::single(vec![6, 0, 0, 0], vec![7, 9, 0, 0])]);
    let (right, _) = window(&[LMBatch::single(vec![6], vec![7])]);
    assert!((filled - f32::midpoint(long, short)).abs() < 1e-5, "{filled}: {FIXED}");
    assert!((short - right).abs() > 1e-3, "{short} and {right}");
}

/// The gradient of the first norm's gain in a model of so many blocks, along itself, over the difference of the losses
/// there, both by the release.
fn excess(blocks: usize) -> f32 {
    let config = TransformerConfig { num_hidden_layers: blocks, ..model() };
    let batch = LMBatch::single(vec![3, 1, 4, 1], vec![1, 4, 1, 5]);
    let name = "model.layers.0.input_layernorm.weight";
    let at = |gain: Option<Vec<f32>>| {
        let mut training = training(1);
        training.model_config = config.clone();
        let mut trainer = TransformerTrainer::new(training);
        // Large enough for attention to be anything but even.
        let parameters = trainer.model().named_parameters().into_iter();
        let weights = parameters.filter(|(name, _)| !name.contains("norm"));
        let larger = weights.map(|(name, tensor)| (name, (10.0 * tensor.data()).to_vec()));
        for (name, values) in larger.collect::<Vec<_>>() {
            trainer.model_mut().set_named_parameter(&name, Tensor::from_vec(values, true));
        }
        if let Some(gain) = gain {
            trainer.model_mut().set_named_parameter(name, Tensor::from_vec(gain, true));
        }
        let loss = trainer.train_batch(&batch);
        let gradient = trainer.model().layers[0].input_norm.weight.grad().unwrap().to_vec();
        (loss, gradient)
    };
    let (_, gradient) = at(None);
    let norm = gradient.iter().map(|one| one * one).sum::<f32>().sqrt();
    let moved = |step: f32| gradient.iter().map(|one| 1.0 + step * one / norm).collect();
    let reach = 0.05;
    norm / ((at(Some(moved(reach))).0 - at(Some(moved(-reach))).0) / (2.0 * reach))
}

#[test]
fn every_block_multiplies_the_gradient_of_what_lies_before_it() {
    let (one, two) = (excess(1), excess(2));
    assert!(one.abs() > 10.0, "{one}: {FIXED}");
    assert!(two.abs() > 1000.0 * one.abs(), "{one}, {two}: {FIXED}");
}
