//! The backward pass from given upstream weights.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{Collect, Subject, SubjectError, Tensor, TensorSet};
use support::{gradient, pico, ragged};

fn weighted(
    subject: &mut dyn Subject,
    batch: &GlobalBatch,
    weights: &[f64],
) -> Result<(f64, TensorSet), SubjectError> {
    let mut gradient = Collect::default();
    let sum = subject.upstream_weights().unwrap().backward(batch, weights, &mut gradient)?;
    Ok((sum, gradient.into_tensors()))
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Weights without a pattern, of both signs.
fn uneven(batch: &GlobalBatch) -> Vec<f64> {
    (0..batch.predictions().count()).map(|t| 1.5 * (3.7 * t as f64 + 0.4).sin()).collect()
}

#[test]
fn weights_of_one_are_the_sum_under_every_spec_with_its_smoothing_and_z_loss() {
    let batch = ragged(1);
    let ones = vec![1.0; batch.predictions().count()];
    let mut subject = pico(Dtype::F64);
    let modified = LossSpec { label_smoothing: 0.1, z_loss: 1e-2, ..LossSpec::sum() };
    subject.configure(&modified).unwrap();
    let expected = gradient(&mut *subject, &batch);
    for spec in
        [modified, LossSpec { label_smoothing: 0.1, z_loss: 1e-2, ..LossSpec::naive_accumulated_mean() }]
    {
        subject.configure(&spec).unwrap();
        let (sum, actual) = weighted(&mut *subject, &batch, &ones).unwrap();
        assert!((sum / expected.0 - 1.0).abs() < 1e-14);
        for (name, tensor) in &expected.1 {
            let expected = tensor.to_f64();
            let actual = actual[name].to_f64();
            let off: Vec<_> = actual.iter().zip(&expected).map(|(a, b)| a - b).collect();
            // Ranks are summed in another order: one rounding of each addition, far below 1e-13 of the norm.
            assert!(norm(&off) <= 1e-13 * norm(&expected).max(1e-3), "{spec}: {name}");
        }
    }
}

#[test]
fn the_gradient_is_the_weighted_sum_of_the_single_ones_and_ignored_weights_are_not_looked_at() {
    let batch = ragged(2);
    let mut weights = uneven(&batch);
    let mut subject = pico(Dtype::F64);
    let losses = subject.token_losses().unwrap().evaluate(&batch).unwrap();
    let predictions: Vec<_> = batch.predictions().collect();
    let mut expected: Option<Vec<(String, Vec<f64>)>> = None;
    let mut expected_sum = 0.0;
    for (t, prediction) in predictions.iter().enumerate() {
        if !prediction.supervised {
            weights[t] = f64::NAN;
            continue;
        }
        let mut single = vec![0.0; weights.len()];
        single[t] = 1.0;
        let (loss, own) = weighted(&mut *subject, &batch, &single).unwrap();
        assert!((loss - losses[t]).abs() < 1e-14 * losses[t].max(1.0));
        expected_sum += weights[t] * loss;
        let own: Vec<_> = own.iter().map(|(name, tensor)| (name.clone(), Tensor::to_f64(tensor))).collect();
        let total = expected
            .get_or_insert_with(|| own.iter().map(|(n, v)| (n.clone(), vec![0.0; v.len()])).collect());
        for ((_, total), (_, own)) in total.iter_mut().zip(&own) {
            for (total, own) in total.iter_mut().zip(own) {
                *total += weights[t] * own;
            }
        }
    }
    let (sum, actual) = weighted(&mut *subject, &batch, &weights).unwrap();
    assert!((sum - expected_sum).abs() < 1e-13 * losses.iter().sum::<f64>());
    for (name, expected) in expected.unwrap() {
        let off: Vec<_> = actual[&name].to_f64().iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(norm(&off) <= 1e-13 * norm(&expected).max(1.0), "{name}: {:e}", norm(&off));
    }
}

#[test]
fn a_wrong_number_of_weights_says_what_is_right() {
    let batch = ragged(0);
    let count = batch.predictions().count();
    for wrong in [count - 1, count + 1] {
        let error = weighted(&mut *pico(Dtype::F64), &batch, &vec![1.0; wrong]).unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong} upstream weights for {count} predictions")), "{error}");
    }
}
