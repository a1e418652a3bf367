//! Reference and libtorch agree where it is hard to: every loss spec, groups without a supervised token,
//! packed documents, padding, smoothing and z-loss; and the closed forms and the structure of zeros hold for both.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_gpt2::{Config, probe_initial};
use lossproof_numerics::{CrossEntropy, difference, gradient_blocks};
use lossproof_spec::{
    Combine, CompensatedSum, Dtype, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Rank, Reduction, Scope,
    Sequence, SequenceFields, TokenWeights,
};
use lossproof_subject::{Collect, Observation, Subject, SubjectError, Tensor, TensorSet};
use lossproof_tests::{
    Door, NANO, error_model, hard_batch, ours, packed_batch, ragged_batch, random_batch, recorded, theirs,
};
use safetensors::SafeTensors;

const CONFIG: Config = Config::Pico;

fn pair() -> [Door; 2] {
    let parameters = probe_initial(CONFIG.shape(), 1);
    let mut pair = [ours(CONFIG, Dtype::F64), theirs(CONFIG, Dtype::F64)];
    for subject in &mut pair {
        subject.parameter_loading().unwrap().load(&parameters).unwrap();
    }
    pair
}

fn gradient(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<(Observation, TensorSet), SubjectError> {
    subject.configure(spec).unwrap();
    let mut sink = Collect::default();
    let observation = subject.accumulate(batch, &mut sink)?;
    Ok((observation, sink.into_tensors()))
}

fn norm(gradient: &TensorSet) -> f64 {
    let squares = gradient.values().flat_map(Tensor::to_f64).map(|value| value * value);
    squares.collect::<CompensatedSum>().value().sqrt()
}

fn distance(a: &TensorSet, b: &TensorSet) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let pairs = a.values().zip(b.values());
    let squares = pairs.flat_map(|(a, b)| (0..a.elements()).map(|i| (a.get(i) - b.get(i)).powi(2)));
    squares.collect::<CompensatedSum>().value().sqrt()
}

fn specs() -> Vec<LossSpec> {
    let mut specs = Vec::new();
    for reduction in [Reduction::Sum, Reduction::TokenMean, Reduction::SequenceMean, Reduction::BatchMean] {
        for scope in [Scope::MicroBatch, Scope::RankWindow, Scope::Global] {
            for micro_batches in [Combine::Add, Combine::Average] {
                for ranks in [Combine::Add, Combine::Average] {
                    specs.push(LossSpec { reduction, scope, micro_batches, ranks, ..LossSpec::sum() });
                }
            }
        }
    }
    specs
}

/// Every loss spec × empty policy on batches with every kind of empty group: both implementations compute `Σ w·ℓ`, and the
/// same gradient.
#[test]
fn every_spec_and_empty_policy_follows_the_calculus_in_both() {
    let [mut reference, mut libtorch] = pair();
    for batch in [hard_batch(0), ragged_batch(0)] {
        let model = error_model(CONFIG.shape(), &batch);
        let token_losses = reference.token_losses().unwrap().evaluate(&batch).unwrap();
        for spec in specs() {
            for empty in
                [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped, EmptyPolicy::Nan, EmptyPolicy::Error]
            {
                let spec = LossSpec { empty, ..spec };
                let computed =
                    [&mut reference, &mut libtorch].map(|subject| gradient(&mut **subject, &spec, &batch));
                match TokenWeights::new(&spec, &batch.layout()) {
                    Ok(weights) => {
                        let weights = weights.per_prediction(&batch);
                        let terms = || weights.iter().zip(&token_losses);
                        let expected = terms().map(|(w, l)| w * l).collect::<CompensatedSum>().value();
                        let scale: f64 = terms().map(|(w, l)| w * l.max(1.0)).sum();
                        let [ours, theirs] = computed.map(Result::unwrap);
                        for (observed, _) in [&ours, &theirs] {
                            let error = (observed.loss - expected).abs() / scale;
                            assert!(error <= model.loss_bound(Dtype::F64), "{spec}: {error:e}");
                        }
                        let error = distance(&ours.1, &theirs.1) / norm(&theirs.1);
                        assert!(error <= model.gradient_bound(Dtype::F64), "{spec}: {error:e}");
                    }
                    Err(rejected) if rejected.nan => {
                        for result in computed {
                            assert!(result.unwrap().0.loss.is_nan(), "{spec}: {rejected}");
                        }
                    }
                    Err(rejected) => {
                        for result in computed {
                            let error =
                                result.err().unwrap_or_else(|| panic!("{spec}: {rejected} was let pass"));
                            assert!(
                                matches!(error, SubjectError::EmptyGroup(_)),
                                "{spec}: {rejected}: {error}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_without_a_supervised_token_is_zero_and_its_gradient_too() {
    let silent = Sequence::new(vec![1, 2, 3], vec![-100; 3]).unwrap();
    let batch = GlobalBatch::single(silent);
    for mut subject in pair() {
        for spec in specs() {
            let (observed, gradient) = gradient(&mut *subject, &spec, &batch).unwrap();
            assert_eq!(observed.loss.to_bits(), 0.0_f64.to_bits(), "{spec}");
            assert_eq!(observed.supervised_tokens, Some(0));
            assert_eq!(norm(&gradient).to_bits(), 0.0_f64.to_bits(), "{spec}");
        }
    }
}

/// Documents packed into one row, with padding on either side, are separate documents.
#[test]
fn packed_documents_are_separate_documents_in_both() {
    let packed = packed_batch(2);
    let mut separate = Vec::new();
    for row in packed.sequences() {
        let documents = row.segment_ids().chunk_by(|a, b| a == b);
        let mut start = 0;
        for document in documents {
            let range = start..start + document.len();
            start = range.end;
            if document[0] == 0 {
                continue;
            }
            let fields = SequenceFields {
                input_ids: row.input_ids()[range.clone()].to_vec(),
                labels: row.labels()[range.clone()].to_vec(),
                position_ids: row.position_ids()[range].to_vec(),
                ..SequenceFields::default()
            };
            separate.push(Sequence::from_fields(fields).unwrap());
        }
    }
    let one_rank = |sequences| {
        GlobalBatch::new(vec![Rank::new(vec![MicroBatch::new(sequences).unwrap()]).unwrap()]).unwrap()
    };
    let separate = one_rank(separate);
    let bound = error_model(CONFIG.shape(), &packed).gradient_bound(Dtype::F64);
    let [mut reference, mut libtorch] = pair();
    let mut all = Vec::new();
    for subject in [&mut reference, &mut libtorch] {
        for batch in [&packed, &separate] {
            all.push(gradient(&mut **subject, &LossSpec::token_mean(), batch).unwrap().1);
        }
    }
    for other in &all[1..] {
        let error = distance(other, &all[0]) / norm(&all[0]);
        assert!(error <= bound, "{error:e}");
    }
}

/// Blocks that the structure declares zero are zero, and all others are not, for both and on many batches.
#[test]
fn the_structure_of_zeros_is_that_of_real_gradients() {
    let mut pair = pair();
    for seed in 0..60 {
        let batch = random_batch(seed);
        for subject in &mut pair {
            let (_, gradient) = gradient(&mut **subject, &LossSpec::sum(), &batch).unwrap();
            let whole = norm(&gradient);
            let parameters = subject.parameters();
            let shapes = parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice(), p.role));
            for block in gradient_blocks(&batch, shapes) {
                let tensor = &gradient[&block.parameter];
                let size = difference(|i| tensor.get(i), |_| 0.0, block.indices()).actual;
                let bound = error_model(CONFIG.shape(), &batch).gradient_bound(Dtype::F64) * whole;
                if block.structurally_zero {
                    assert!(size <= bound, "seed {seed}: {block:?} is {size:e}");
                } else {
                    assert!(size > bound, "seed {seed}: {block:?} is {size:e} of {whole:e}");
                }
            }
        }
    }
}

/// From the recorded logits, the closed form gives the recorded token losses, and what both implementations
/// report under label smoothing and z-loss.
#[test]
fn the_closed_form_gives_plain_smoothed_and_regularised_losses() {
    let recording = recorded(NANO);
    let file = SafeTensors::deserialize(NANO).unwrap();
    let view = file.tensor("logits").unwrap();
    let logits: Vec<f64> = view.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    let (width, vocabulary) = (view.shape()[1], view.shape()[2]);
    let closed = |form: &CrossEntropy, supervised_only: bool| -> Vec<f64> {
        let predictions = recording.batch.predictions().filter(|p| p.supervised || !supervised_only);
        let loss = |p: lossproof_spec::Prediction| {
            let start = (p.sequence * width + p.position) * vocabulary;
            form.loss(&logits[start..start + vocabulary], p.target as usize).unwrap()
        };
        predictions.map(loss).collect()
    };
    let bound = error_model(Config::Nano.shape(), &recording.batch).loss_bound(Dtype::F64);
    let agree = |actual: &[f64], expected: &[f64]| {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= bound * e.max(1.0), "{a} is not {e}");
        }
    };
    agree(&closed(&CrossEntropy::default(), false), &recording.token_losses);
    for (label_smoothing, z_loss) in [(0.1, 0.0), (0.0, 1e-2), (0.2, 1e-3)] {
        let expected = closed(&CrossEntropy { label_smoothing, z_loss }, true);
        let mut gradients = Vec::new();
        for mut subject in [ours(Config::Nano, Dtype::F64), theirs(Config::Nano, Dtype::F64)] {
            subject.parameter_loading().unwrap().load(&recording.parameters).unwrap();
            let spec = LossSpec { label_smoothing, z_loss, ..LossSpec::token_mean() };
            let (observed, gradient) = gradient(&mut *subject, &spec, &recording.batch).unwrap();
            agree(observed.token_losses.as_deref().unwrap(), &expected);
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            agree(&[observed.loss], &[mean]);
            gradients.push(gradient);
        }
        let error = distance(&gradients[0], &gradients[1]) / norm(&gradients[1]);
        assert!(
            error <= error_model(Config::Nano.shape(), &recording.batch).gradient_bound(Dtype::F64),
            "{error:e}"
        );
    }
}

/// Bad batches and parameters get the same typed answers from both, and leave both as they were.
#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let good = ragged_batch(3);
    for mut subject in pair() {
        let (before, _) = gradient(&mut *subject, &LossSpec::token_mean(), &good).unwrap();
        let outside = GlobalBatch::single(Sequence::new(vec![1, 64], vec![1, -100]).unwrap());
        let error = gradient(&mut *subject, &LossSpec::token_mean(), &outside).unwrap_err();
        assert!(matches!(
            error,
            SubjectError::Limit { what: "token id", position: 1, value: 64, limit: 64, .. }
        ));
        let long = GlobalBatch::single(Sequence::new(vec![1; 17], vec![1; 17]).unwrap());
        assert!(matches!(subject.token_losses().unwrap().evaluate(&long), Err(SubjectError::Number { .. })));

        let loader = subject.parameter_loading().unwrap();
        let mut damaged = probe_initial(CONFIG.shape(), 9);
        damaged.remove("ln_f.weight");
        assert!(
            matches!(loader.load(&damaged), Err(SubjectError::Parameter { name, .. }) if name == "ln_f.weight")
        );
        assert!(matches!(loader.set("wpe.weight", &[1.0]), Err(SubjectError::Parameter { .. })));
        assert!(matches!(loader.set("nowhere", &[1.0]), Err(SubjectError::Parameter { .. })));
        let (after, _) = gradient(&mut *subject, &LossSpec::token_mean(), &good).unwrap();
        assert_eq!(after.loss.to_bits(), before.loss.to_bits());
    }
}
