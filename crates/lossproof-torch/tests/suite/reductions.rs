//! Losses and gradients against exact token weights, which the implementation knows nothing of.

use crate::support::{
    Door, accumulate, assert_close, assert_combination, evaluate, global, loaded, norm, picos, sequence,
    together,
};
use lossproof_spec::{
    Combine, Counting, Dtype, EmptyPolicy, GlobalBatch, LossSpec, Prediction, Reduction, Scope, Sequence,
    SequenceFields, TokenWeights,
};
use lossproof_subject::{Collect, Discard, SubjectError, TensorSet};
use lossproof_torch::Gpt2Config;

/// Three ranks, micro-batches per rank 2, 1 and 3, with pairwise different numbers of supervised tokens.
fn ragged() -> GlobalBatch {
    global(vec![
        vec![vec![sequence(1, 7, 0), sequence(2, 3, 1)], vec![sequence(3, 5, 3)]],
        vec![vec![sequence(4, 2, 0), sequence(5, 4, 2), sequence(6, 6, 0)]],
        vec![vec![sequence(7, 9, 4)], vec![sequence(8, 4, 0)], vec![sequence(9, 8, 0), sequence(10, 2, 0)]],
    ])
}

/// The same with an empty sequence, a sequence of one position, an empty micro-batch and an empty rank.
fn with_empty_groups() -> GlobalBatch {
    global(vec![
        vec![vec![sequence(5, 4, 4)], vec![sequence(6, 3, 3), sequence(7, 1, 0)]],
        vec![vec![sequence(1, 7, 0), sequence(2, 3, 3)], vec![sequence(3, 5, 3), sequence(4, 1, 0)]],
        vec![vec![sequence(7, 6, 4)], vec![sequence(8, 1, 0)], vec![sequence(9, 5, 5), sequence(10, 4, 0)]],
    ])
}

fn specs(empty: EmptyPolicy, label_smoothing: f64, z_loss: f64) -> Vec<LossSpec> {
    let mut specs = Vec::new();
    let combine = [Combine::Add, Combine::Average];
    for reduction in [Reduction::Sum, Reduction::TokenMean, Reduction::SequenceMean, Reduction::BatchMean] {
        for scope in [Scope::MicroBatch, Scope::RankWindow, Scope::Global] {
            for (micro_batches, ranks) in combine.into_iter().flat_map(|m| combine.map(|r| (m, r))) {
                specs.push(LossSpec {
                    reduction,
                    scope,
                    micro_batches,
                    ranks,
                    empty,
                    counting: Counting::Supervised,
                    label_smoothing,
                    z_loss,
                });
            }
        }
    }
    specs
}

/// The loss and the gradient of every supervised token by itself, under the token loss of `spec`.
fn basis(subject: &mut Door, batch: &GlobalBatch, spec: &LossSpec) -> (Vec<f64>, Vec<TensorSet>) {
    let sum =
        LossSpec { reduction: Reduction::Sum, micro_batches: Combine::Add, ranks: Combine::Add, ..*spec };
    let sequences: Vec<_> = batch.sequences().collect();
    let alone = |prediction: Prediction| {
        let only = sequences[prediction.sequence].supervise_only(|position| position == prediction.position);
        let (seen, gradient) = accumulate(subject, &sum, &GlobalBatch::single(only));
        (seen.loss, gradient)
    };
    batch.predictions().filter(|prediction| prediction.supervised).map(alone).unzip()
}

fn weights_of_supervised(weights: &TokenWeights, batch: &GlobalBatch) -> Vec<f64> {
    let all = batch.predictions().zip(weights.per_prediction(batch));
    all.filter_map(|(prediction, weight)| prediction.supervised.then_some(weight)).collect()
}

/// Holds `specs`, which share one token loss, to the weights wherever the calculus has any.
fn hold(batch: &GlobalBatch, specs: &[LossSpec]) {
    for config in picos() {
        hold_one(&mut loaded(&config, Dtype::F64), batch, specs);
    }
}

fn hold_one(subject: &mut Door, batch: &GlobalBatch, specs: &[LossSpec]) {
    let (losses, gradients) = basis(subject, batch, &specs[0]);
    for spec in specs {
        let context = format!("{spec}, {:?}", spec.empty);
        match TokenWeights::new(spec, &batch.layout()) {
            Ok(weights) => {
                let weights = weights_of_supervised(&weights, batch);
                let (seen, gradient) = accumulate(subject, spec, batch);
                let expected: f64 = weights.iter().zip(&losses).map(|(w, l)| w * l).sum();
                assert_close(&[seen.loss], &[expected], expected, &context);
                assert_close(&seen.token_losses.unwrap(), &losses, norm(&losses), &context);
                assert_eq!(seen.supervised_tokens, Some(losses.len()), "{context}");
                assert_combination(&gradient, &weights, &gradients, &context);
            }
            Err(empty) if empty.nan => {
                let (seen, gradient) = accumulate(subject, spec, batch);
                assert!(seen.loss.is_nan(), "{context}: {}", seen.loss);
                // libtorch's gradient of a mean of nothing is zero.
                let zero = LossSpec { empty: EmptyPolicy::ZeroCounted, ..*spec };
                let weights = TokenWeights::new(&zero, &batch.layout()).unwrap();
                assert_combination(&gradient, &weights_of_supervised(&weights, batch), &gradients, &context);
            }
            Err(empty) => {
                subject.configure(spec).unwrap();
                let error = subject.accumulate(batch, &mut Collect::default()).unwrap_err();
                assert!(
                    matches!(&error, SubjectError::EmptyGroup(found) if *found == empty),
                    "{context}: {error}"
                );
            }
        }
    }
}

#[test]
fn every_reduction_is_its_weights() {
    hold(&ragged(), &specs(EmptyPolicy::ZeroCounted, 0.0, 0.0));
}

#[test]
fn every_reduction_of_smoothed_losses_with_z_loss_is_its_weights() {
    hold(&ragged(), &specs(EmptyPolicy::ZeroCounted, 0.1, 0.02));
}

#[test]
fn empty_groups_follow_the_declared_policy() {
    let policies = [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped, EmptyPolicy::Nan, EmptyPolicy::Error];
    let specs: Vec<_> = policies.into_iter().flat_map(|policy| specs(policy, 0.1, 0.02)).collect();
    hold(&with_empty_groups(), &specs);
}

#[test]
fn an_empty_group_is_named_by_its_place_in_the_global_batch() {
    let batch = global(vec![
        vec![vec![sequence(1, 3, 0), sequence(2, 3, 0)], vec![sequence(3, 4, 1)]],
        vec![vec![sequence(4, 3, 0)], vec![sequence(5, 3, 0), sequence(6, 2, 2)], vec![sequence(7, 2, 2)]],
    ]);
    hold(&batch, &specs(EmptyPolicy::Error, 0.0, 0.0));
}

#[test]
fn a_batch_without_a_supervised_token_is_zero_nan_or_an_error() {
    let batch =
        global(vec![vec![vec![sequence(1, 4, 4)], vec![sequence(2, 1, 0)]], vec![vec![sequence(3, 3, 3)]]]);
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    for policy in [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped] {
        for spec in specs(policy, 0.0, 0.0) {
            let (seen, gradient) = accumulate(&mut subject, &spec, &batch);
            assert!(seen.loss.abs() <= 0.0, "{spec}: {}", seen.loss);
            assert!(gradient.values().all(|tensor| norm(&tensor.to_f64()) <= 0.0), "{spec}");
            assert_eq!(gradient.len(), subject.parameters().len());
        }
    }
    let nan = LossSpec { empty: EmptyPolicy::Nan, ..LossSpec::token_mean() };
    assert!(accumulate(&mut subject, &nan, &batch).0.loss.is_nan());
    subject.configure(&LossSpec { empty: EmptyPolicy::Error, ..LossSpec::token_mean() }).unwrap();
    let error = subject.accumulate(&batch, &mut Collect::default()).unwrap_err();
    assert!(error.to_string().contains("the global batch has no supervised token"), "{error}");
}

/// With no gain in the final norm the logits are `wte·bias` at every position.
#[test]
fn smoothing_and_z_loss_are_their_formulas() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let bias: Vec<f64> = (0..8_i32).map(|i| 0.4 - 0.13 * f64::from(i)).collect();
    let wte = crate::support::Fixture::of("gpt2-pico").f64s("parameter/wte.weight");
    let parameters = subject.parameter_loading().unwrap();
    parameters.set("ln_f.weight", &[0.0; 8]).unwrap();
    parameters.set("ln_f.bias", &bias).unwrap();
    let logits: Vec<f64> = wte.chunks(8).map(|row| row.iter().zip(&bias).map(|(w, b)| w * b).sum()).collect();
    let lse = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
    let uniform = logits.iter().map(|z| lse - z).sum::<f64>() / 64.0;

    let sequence = sequence(1, 6, 2);
    let (epsilon, zeta) = (0.15, 0.03);
    let expected: Vec<_> = sequence.input_ids()[2..]
        .iter()
        .map(|&label| (1.0 - epsilon) * (lse - logits[label as usize]) + epsilon * uniform + zeta * lse * lse)
        .collect();
    let spec = LossSpec { label_smoothing: epsilon, z_loss: zeta, ..LossSpec::sum() };
    let (seen, _) = accumulate(&mut subject, &spec, &GlobalBatch::single(sequence));
    assert_close(&seen.token_losses.unwrap(), &expected, norm(&expected), "token losses");
    let total: f64 = expected.iter().sum();
    assert_close(&[seen.loss], &[total], total, "loss");
}

#[test]
fn evaluation_ignores_the_spec_and_lists_ignored_predictions() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let plain = evaluate(&mut subject, &ragged());
    subject.configure(&LossSpec { label_smoothing: 0.3, z_loss: 0.1, ..LossSpec::batch_mean() }).unwrap();
    assert_eq!(evaluate(&mut subject, &ragged()), plain);
    assert_eq!(plain.len(), ragged().layout().predictions());

    // −log p of every possible target at one ignored position: the probabilities sum to one.
    let target = |target: u32| {
        let fields = SequenceFields {
            input_ids: vec![3, 1, 4],
            labels: vec![-100; 3],
            targets: vec![3, target, 4],
            ..SequenceFields::default()
        };
        Sequence::from_fields(fields).unwrap()
    };
    let losses = evaluate(&mut subject, &together((0..64).map(target).collect()));
    let total: f64 = losses.iter().step_by(2).map(|loss| (-loss).exp()).sum();
    assert!((total - 1.0).abs() <= 1e-14, "{total}");
}

#[test]
fn other_countings_and_meaningless_numbers_are_unsupported() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F64);
    let logged = |subject: &mut Door| subject.accumulate(&ragged(), &mut Discard).unwrap().loss;
    let before = logged(&mut subject);
    for counting in [Counting::BeforeShift, Counting::AllPositions] {
        assert!(subject.configure(&LossSpec { counting, ..LossSpec::token_mean() }).is_err());
    }
    assert!(subject.configure(&LossSpec { label_smoothing: 1.5, ..LossSpec::sum() }).is_err());
    assert_eq!(logged(&mut subject).to_bits(), before.to_bits());
}
