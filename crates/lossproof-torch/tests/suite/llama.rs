//! What a Llama has and a GPT-2 has not: RMS norms, rotary positions, shared keys and values, a gated
//! feed-forward layer.

use crate::plain_llama::{Mistake, PlainLlama};
use crate::support::{
    Door, Fixture, accumulate, assert_close, combine, evaluate, loaded, norm, sequence, together,
};
use crate::third_forward;
use lossproof_numerics::{directional_bound, sweep};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Sequence, SequenceFields};
use lossproof_subject::{Device, SubjectError, Tensor, TensorSet, TensorValues};
use lossproof_torch::{Adapters, LlamaConfig, libtorch};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;

/// Values between −1 and 1.
fn uniform(random: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    (0..count).map(|_| 2.0 * random.random::<f64>() - 1.0).collect()
}

/// A Llama and the random parameters it has: gains around 1, weights with which activations stay O(1).
fn random(config: &LlamaConfig, seed: u64) -> (Door, TensorSet) {
    let mut subject = libtorch(config, Dtype::F64, Device::Cpu).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let draw = |info: lossproof_subject::ParameterInfo| {
        let values = uniform(&mut random, info.shape.iter().product());
        let values = match info.shape[..] {
            [_] => values.iter().map(|value| 1.0 + 0.3 * value).collect(),
            // The standard deviation of a uniform value is 1/√3.
            _ if info.name == "embed_tokens.weight" => values.iter().map(|value| 0.5 * value).collect(),
            _ => values.iter().map(|value| (3.0 / info.shape[1] as f64).sqrt() * value).collect(),
        };
        (info.name, Tensor::new(info.shape, TensorValues::F64(values)).unwrap())
    };
    let parameters: TensorSet = subject.parameters().into_iter().map(draw).collect();
    subject.parameter_loading().unwrap().load(&parameters).unwrap();
    (subject, parameters)
}

fn plain_losses(
    config: &LlamaConfig,
    parameters: &TensorSet,
    mistake: Option<Mistake>,
    batch: &GlobalBatch,
) -> Vec<f64> {
    let plain = PlainLlama { config, parameters, mistake };
    batch.sequences().flat_map(|sequence| plain.token_losses(sequence.input_ids())).collect()
}

/// ‖a − b‖/‖b‖.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(b)
}

/// The recordings, which `third_forward` holds the subject to, would not agree with a model that has any of
/// the mistakes.
#[test]
fn every_mistake_shows_in_the_recordings() {
    for config in [LlamaConfig::PICO, LlamaConfig::NANO] {
        let fixture = Fixture::of(&config.name);
        let (batch, parameters) = (third_forward::batch(&fixture), fixture.set("parameter/"));
        let recorded = third_forward::expected_token_losses(&fixture);
        let right = plain_losses(&config, &parameters, None, &batch);
        assert_close(&right, &recorded, norm(&recorded), &config.name);
        for mistake in Mistake::ALL {
            if mistake == Mistake::ScaleOfTheWidth && config.width == config.heads * config.head_size {
                continue;
            }
            let moved = distance(&plain_losses(&config, &parameters, Some(mistake), &batch), &recorded);
            // llama-nano has an ε of 1e-5; every other mistake is larger.
            let small = matches!(mistake, Mistake::NoEpsilon | Mistake::EpsilonOutsideTheRoot);
            let visible = if small && config.rms_epsilon < 1e-3 { 1e-6 } else { 3e-4 };
            assert!(moved > visible, "{}, {mistake:?}: {moved:.1e}", config.name);
        }
    }
}

/// Sizes that are unlike the recordings' in every respect.
fn shapes() -> Vec<LlamaConfig> {
    let pico = LlamaConfig::PICO;
    vec![
        LlamaConfig { rms_epsilon: 0.4, rotary_base: 7.0, ..pico.clone() },
        LlamaConfig { heads: 6, key_value_heads: 3, head_size: 6, layers: 3, ..pico.clone() },
        LlamaConfig { heads: 6, key_value_heads: 2, head_size: 2, width: 5, ..pico.clone() },
        LlamaConfig { heads: 3, key_value_heads: 1, head_size: 8, feed_forward: 1, ..pico.clone() },
        LlamaConfig { heads: 2, key_value_heads: 2, layers: 2, ..pico.clone() },
        LlamaConfig { layers: 0, ..pico },
    ]
}

#[test]
fn it_is_the_plain_llama_at_other_shapes() {
    let batch = together(vec![sequence(1, 9, 0), sequence(2, 16, 0), sequence(3, 2, 0)]);
    for (seed, config) in (0..).zip(shapes()) {
        let (mut subject, parameters) = random(&config, seed);
        let expected = plain_losses(&config, &parameters, None, &batch);
        assert_close(&evaluate(&mut subject, &batch), &expected, norm(&expected), &format!("{config:?}"));
    }
}

/// Central differences of every token loss, weighed by the mean, in the largest coordinate of every
/// parameter's gradient and four random ones.
#[test]
fn the_gradient_is_the_derivative_at_random_parameters() {
    let batch = together(vec![sequence(1, 8, 2), sequence(2, 5, 0)]);
    let supervised: Vec<bool> = batch.predictions().map(|prediction| prediction.supervised).collect();
    let count = supervised.iter().filter(|&&supervised| supervised).count() as f64;
    let weights: Vec<f64> =
        supervised.iter().map(|&supervised| if supervised { 1.0 / count } else { 0.0 }).collect();
    let mut coordinates = ChaCha8Rng::seed_from_u64(3);
    for (seed, config) in (10..).zip([LlamaConfig::PICO, shapes()[1].clone()]) {
        let (mut subject, parameters) = random(&config, seed);
        let (_, gradient) = accumulate(&mut subject, &LossSpec::token_mean(), &batch);
        for (name, tensor) in &parameters {
            let (values, gradient) = (tensor.to_f64(), gradient[name].to_f64());
            let larger = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
            let mut chosen: BTreeSet<usize> = (0..values.len()).max_by(larger).into_iter().collect();
            chosen.extend((0..4).map(|_| coordinates.random_range(0..values.len())));
            for index in chosen {
                let at = |step: f64| {
                    let mut moved = values.clone();
                    moved[index] += step;
                    subject.parameter_loading().unwrap().set(name, &moved)?;
                    subject.token_losses().unwrap().evaluate(&batch)
                };
                let derivative = sweep(0.05, 12, at).unwrap().contract(&weights);
                let bound = directional_bound(gradient[index], norm(&gradient), 1.0, values.len());
                let error = (derivative.value - gradient[index]).abs();
                assert!(
                    error <= bound + derivative.uncertainty && derivative.uncertainty <= bound,
                    "{}, {name}[{index}]: {} for {derivative:?}, bound {bound:e}",
                    config.name,
                    gradient[index]
                );
            }
            subject.parameter_loading().unwrap().set(name, &values).unwrap();
        }
    }
}

/// A key and a value for each head, where those of neighbouring heads are equal.
#[test]
fn shared_keys_are_equal_keys_and_their_gradient_is_the_sum() {
    let grouped = LlamaConfig::PICO;
    let ungrouped = LlamaConfig { key_value_heads: grouped.heads, ..grouped.clone() };
    let size = grouped.head_size * grouped.width;
    let (mut subject, parameters) = random(&grouped, 5);
    let mut repeated = parameters.clone();
    let shared = ["k", "v"].map(|part| format!("layers.0.self_attn.{part}_proj.weight"));
    for name in &shared {
        let values = parameters[name].to_f64();
        let twice = values.chunks(size).flat_map(|head| [head, head].concat()).collect();
        let shape = vec![grouped.heads * grouped.head_size, grouped.width];
        repeated.insert(name.clone(), Tensor::new(shape, TensorValues::F64(twice)).unwrap());
    }
    let mut other = libtorch(&ungrouped, Dtype::F64, Device::Cpu).unwrap();
    other.parameter_loading().unwrap().load(&repeated).unwrap();

    let batch = together(vec![sequence(1, 9, 0), sequence(2, 12, 3)]);
    let spec = LossSpec::token_mean();
    let (seen, gradient) = accumulate(&mut subject, &spec, &batch);
    let (expected, ungrouped) = accumulate(&mut other, &spec, &batch);
    assert_close(&[seen.loss], &[expected.loss], expected.loss, "loss");
    for (name, found) in &gradient {
        let mut expected = ungrouped[name].to_f64();
        if shared.contains(name) {
            let sum = |pair: &[f64]| -> Vec<f64> {
                pair[..size].iter().zip(&pair[size..]).map(|(first, second)| first + second).collect()
            };
            expected = expected.chunks(2 * size).flat_map(sum).collect();
        }
        assert_close(&found.to_f64(), &expected, norm(&expected), name);
    }
}

#[test]
fn only_differences_of_positions_matter() {
    let (mut subject, _) = random(&LlamaConfig::PICO, 6);
    let at = |position_ids: [u32; 5]| {
        let fields = SequenceFields {
            input_ids: vec![3, 14, 15, 9, 26],
            labels: vec![3, 14, 15, 9, 26],
            position_ids: position_ids.to_vec(),
            ..SequenceFields::default()
        };
        together(vec![Sequence::from_fields(fields).unwrap()])
    };
    let spec = LossSpec::sum();
    let (seen, gradient) = accumulate(&mut subject, &spec, &at([0, 1, 2, 3, 4]));
    let (shifted, shifted_gradient) = accumulate(&mut subject, &spec, &at([11, 12, 13, 14, 15]));
    assert_close(&[shifted.loss], &[seen.loss], seen.loss, "loss");
    for (name, expected, scale) in combine(&[1.0], &[gradient]) {
        assert_close(&shifted_gradient[&name].to_f64(), &expected, scale, &name);
    }
    let (spread, _) = accumulate(&mut subject, &spec, &at([0, 2, 4, 6, 8]));
    let (backwards, _) = accumulate(&mut subject, &spec, &at([4, 3, 2, 1, 0]));
    for other in [spread.loss, backwards.loss] {
        assert!((other / seen.loss - 1.0).abs() > 1e-4, "{other} and {}", seen.loss);
    }
}

#[test]
fn an_embedding_of_zero_is_a_uniform_guess_and_no_nan() {
    let mut subject = loaded(&LlamaConfig::PICO, Dtype::F64);
    let zeros = vec![0.0; 64 * 8];
    subject.parameter_loading().unwrap().set("embed_tokens.weight", &zeros).unwrap();
    let (seen, gradient) =
        accumulate(&mut subject, &LossSpec::token_mean(), &together(vec![sequence(1, 6, 0)]));
    assert_close(&[seen.loss], &[64.0_f64.ln()], 64.0_f64.ln(), "loss");
    assert!(gradient.values().all(|tensor| tensor.to_f64().iter().all(|value| value.is_finite())));
}

#[test]
fn llamas_that_do_not_exist_are_refused() {
    let pico = LlamaConfig::PICO;
    let refused = |config: LlamaConfig| match libtorch(&config, Dtype::F64, Device::Cpu) {
        Err(SubjectError::Failed { message, .. }) => message,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened {config:?}"),
    };
    for (config, problem) in [
        (LlamaConfig { key_value_heads: 3, ..pico.clone() }, "4 heads are not a multiple of 3"),
        (LlamaConfig { key_value_heads: 0, ..pico.clone() }, "positive"),
        (LlamaConfig { feed_forward: 0, ..pico.clone() }, "positive"),
        (LlamaConfig { head_size: 3, ..pico.clone() }, "even"),
        (LlamaConfig { rms_epsilon: 0.0, ..pico.clone() }, "ε 0"),
        (LlamaConfig { rms_epsilon: f64::NAN, ..pico.clone() }, "ε NaN"),
        (LlamaConfig { rotary_base: -1.0, ..pico.clone() }, "base -1"),
        (LlamaConfig { rotary_base: f64::INFINITY, ..pico.clone() }, "base inf"),
        (LlamaConfig { embedding_scale: 0.0, ..pico.clone() }, "scale 0"),
        (LlamaConfig { logit_scale: f64::NAN, ..pico.clone() }, "scale NaN"),
        (LlamaConfig { logit_cap: Some(-1.0), ..pico.clone() }, "cap -1"),
        (LlamaConfig { adapters: Some(Adapters { rank: 0, alpha: 1.0 }), ..pico.clone() }, "rank"),
        (LlamaConfig { adapters: Some(Adapters { rank: 1, alpha: f64::NAN }), ..pico.clone() }, "rank"),
        (LlamaConfig { width: usize::MAX, ..pico.clone() }, "memory"),
        (LlamaConfig { head_size: 1 << 62, ..pico.clone() }, "memory"),
    ] {
        let message = refused(config);
        assert!(message.starts_with("llama-pico: ") && message.contains(problem), "{message}");
    }
}
