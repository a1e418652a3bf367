//! The backward pass from a given upstream gradient.

use crate::support::{
    BOUND, Door, accumulate, assert_close, assert_combination, global, loaded, norm, picos, sequence,
    together,
};
use lossproof_spec::{Combine, Dtype, EmptyPolicy, GlobalBatch, LossSpec, Reduction, Scope, TokenWeights};
use lossproof_subject::{Collect, GradientSink, GradientView, SinkError, TensorSet};
use lossproof_torch::Gpt2Config;

/// Three ranks with prompts, a sequence of one position, one without a supervised token, and micro-batches of both.
fn batch() -> GlobalBatch {
    global(vec![
        vec![vec![sequence(1, 6, 0), sequence(2, 3, 1)], vec![sequence(3, 1, 0)]],
        vec![vec![sequence(4, 4, 4), sequence(5, 5, 2)], vec![sequence(6, 3, 3)]],
        vec![vec![sequence(7, 7, 3)]],
    ])
}

fn backward(subject: &mut Door, batch: &GlobalBatch, weights: &[f64]) -> (f64, TensorSet) {
    let mut gradient = Collect::default();
    let sum = subject.upstream_weights().unwrap().backward(batch, weights, &mut gradient).unwrap();
    (sum, gradient.into_tensors())
}

/// Weights of both signs and several sizes, NaN where the label is ignored.
fn uneven(batch: &GlobalBatch) -> Vec<f64> {
    let weight = |index: u32| (f64::from(index) * 2.3).sin() * 10_f64.powi((index % 4).cast_signed() - 2);
    let weights = batch.predictions().zip(0..);
    weights.map(|(prediction, index)| if prediction.supervised { weight(index) } else { f64::NAN }).collect()
}

#[test]
fn the_backward_pass_is_the_weighted_sum_of_every_tokens_own() {
    let spec = LossSpec { label_smoothing: 0.1, z_loss: 0.02, ..LossSpec::sum() };
    let (batch, weights) = (batch(), uneven(&batch()));
    let sequences: Vec<_> = batch.sequences().collect();
    for config in picos() {
        let mut subject = loaded(&config, Dtype::F64);
        let (mut factors, mut losses, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
        for (prediction, &weight) in batch.predictions().zip(&weights).filter(|(p, _)| p.supervised) {
            let only =
                sequences[prediction.sequence].supervise_only(|position| position == prediction.position);
            let (seen, gradient) = accumulate(&mut subject, &spec, &GlobalBatch::single(only));
            factors.push(weight);
            losses.push(seen.loss);
            gradients.push(gradient);
        }
        let (sum, gradient) = backward(&mut subject, &batch, &weights);
        let terms: Vec<f64> = factors.iter().zip(&losses).map(|(weight, loss)| weight * loss).collect();
        let scale = terms.iter().map(|term| term.abs()).sum();
        assert_close(&[sum], &[terms.iter().sum()], scale, "weighted sum");
        assert_combination(&gradient, &factors, &gradients, "gradient");
    }
}

#[test]
fn token_weights_make_the_losses_of_the_calculus() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    for spec in [LossSpec::token_mean(), LossSpec::sequence_mean(), LossSpec::naive_accumulated_mean()] {
        let spec = LossSpec { z_loss: 0.01, ..spec };
        let weights = TokenWeights::new(&spec, &batch().layout()).unwrap().per_prediction(&batch());
        let (seen, expected) = accumulate(&mut subject, &spec, &batch());
        let (sum, gradient) = backward(&mut subject, &batch(), &weights);
        assert_close(&[sum], &[seen.loss], seen.loss, "loss");
        assert_combination(&gradient, &[1.0], &[expected], &spec.to_string());
    }
}

#[test]
fn only_the_token_losses_of_the_spec_play_a_part() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let mut with = |spec: &LossSpec| {
        subject.configure(spec).unwrap();
        backward(&mut subject, &batch(), &uneven(&batch()))
    };
    let plain = with(&LossSpec::sum());
    let other = LossSpec {
        reduction: Reduction::SequenceMean,
        scope: Scope::MicroBatch,
        micro_batches: Combine::Average,
        ranks: Combine::Average,
        // Were anything averaged, the empty groups of the batch would be refused.
        empty: EmptyPolicy::Error,
        ..LossSpec::sum()
    };
    assert_eq!(with(&other), plain);
    for (label_smoothing, z_loss) in [(0.1, 0.0), (0.0, 0.1)] {
        let (sum, gradient) = with(&LossSpec { label_smoothing, z_loss, ..LossSpec::sum() });
        assert!((sum - plain.0).abs() > 1e-3 && gradient != plain.1);
    }
}

#[test]
fn nothing_is_left_behind_and_no_weight_is_no_gradient() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let before = accumulate(&mut subject, &LossSpec::token_mean(), &batch());
    let first = backward(&mut subject, &batch(), &uneven(&batch()));
    assert_eq!(backward(&mut subject, &batch(), &uneven(&batch())), first);
    assert_eq!(accumulate(&mut subject, &LossSpec::token_mean(), &batch()), before);

    let zeros = vec![0.0; batch().layout().predictions()];
    let empty = together(vec![sequence(1, 4, 4), sequence(2, 1, 0)]);
    for (batch, weights) in [(batch(), zeros), (empty, vec![f64::NAN; 3])] {
        let (sum, gradient) = backward(&mut subject, &batch, &weights);
        assert!(sum.abs() <= 0.0);
        assert_eq!(gradient.len(), subject.parameters().len());
        assert!(gradient.values().all(|tensor| norm(&tensor.to_f64()) <= 0.0));
    }
}

#[test]
fn a_wrong_number_of_weights_and_a_batch_outside_the_limits_are_refused() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let predictions = batch().layout().predictions();
    let mut refused = |batch: &GlobalBatch, weights: usize| {
        let weights = vec![1.0; weights];
        let upstream = subject.upstream_weights().unwrap();
        upstream.backward(batch, &weights, &mut Collect::default()).unwrap_err().to_string()
    };
    for wrong in [predictions - 1, predictions + 1] {
        let message = refused(&batch(), wrong);
        assert!(
            message.contains(&format!("{wrong} upstream weights for {predictions} predictions")),
            "{message}"
        );
    }
    let long = together(vec![sequence(1, 17, 0)]);
    assert!(refused(&long, 16).contains("17 positions of sequence 0"));
}

#[test]
fn single_precision_hands_over_single_precision_near_double() {
    struct InSingle(Collect);
    impl GradientSink for InSingle {
        fn receive(
            &mut self,
            name: &str,
            shape: &[usize],
            values: GradientView<'_>,
        ) -> Result<(), SinkError> {
            assert!(matches!(values, GradientView::F32(_)));
            self.0.receive(name, shape, values)
        }
    }
    let weights = uneven(&batch());
    let (_, truth) = backward(&mut loaded(&Gpt2Config::PICO, Dtype::F64), &batch(), &weights);
    let mut sink = InSingle(Collect::default());
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F32);
    subject.upstream_weights().unwrap().backward(&batch(), &weights, &mut sink).unwrap();
    // As many units of round-off as `BOUND` is in f64.
    let bound = BOUND * Dtype::F32.unit_roundoff() / Dtype::F64.unit_roundoff();
    for (name, single) in sink.0.into_tensors() {
        let (single, truth) = (single.to_f64(), truth[&name].to_f64());
        let difference: Vec<f64> = single.iter().zip(&truth).map(|(s, t)| s - t).collect();
        assert!(norm(&difference) <= bound * norm(&truth).max(1e-2), "{name}");
    }
}
