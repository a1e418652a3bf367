//! Hugging Face's GPT-2 and Llama in f64, from the committed fixtures.

use crate::support::{Fixture, accumulate, assert_close, evaluate, loaded, norm, together};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Sequence, SequenceFields};
use lossproof_torch::{Activation, Config, Gpt2Config, LlamaConfig};

fn ids(row: &[i64]) -> Vec<u32> {
    row.iter().map(|&id| u32::try_from(id).unwrap()).collect()
}

/// The fixture's rows without their padding.
pub(crate) fn batch(fixture: &Fixture) -> GlobalBatch {
    let fields = ["input_ids", "labels", "position_ids", "attention_mask"].map(|key| fixture.rows(key));
    let [tokens, labels, positions, mask] = fields;
    let sequence = |row: usize| {
        let length = mask[row].iter().filter(|&&real| real == 1).count();
        Sequence::from_fields(SequenceFields {
            input_ids: ids(&tokens[row][..length]),
            labels: labels[row][..length].to_vec(),
            position_ids: ids(&positions[row][..length]),
            // Hugging Face's file has the loss of the next input token also where its label is ignored.
            targets: ids(&tokens[row][..length]),
            ..SequenceFields::default()
        })
        .unwrap()
    };
    together((0..tokens.len()).map(sequence).collect())
}

/// The fixture's token losses, without those made from or about padding.
pub(crate) fn expected_token_losses(fixture: &Fixture) -> Vec<f64> {
    let mask = fixture.rows("attention_mask");
    let all = fixture.f64s("token_losses");
    let real = mask.iter().flat_map(|row| row[1..].iter().map(|&real| real == 1));
    all.into_iter().zip(real).filter_map(|(loss, real)| real.then_some(loss)).collect()
}

fn agrees(config: &Config) {
    let fixture = Fixture::of(config.name());
    let batch = batch(&fixture);
    let mut subject = loaded(config, Dtype::F64);

    let losses = expected_token_losses(&fixture);
    assert_close(&evaluate(&mut subject, &batch), &losses, norm(&losses), "token losses");

    let (seen, gradient) = accumulate(&mut subject, &LossSpec::token_mean(), &batch);
    let supervised: Vec<_> =
        batch.predictions().zip(losses).filter_map(|(p, loss)| p.supervised.then_some(loss)).collect();
    assert_eq!(seen.supervised_tokens, Some(supervised.len()));
    assert_close(&seen.token_losses.unwrap(), &supervised, norm(&supervised), "supervised token losses");
    let loss = fixture.f64s("loss");
    assert_close(&[seen.loss], &loss, loss[0], "loss");

    let expected = fixture.set("gradient/");
    assert!(gradient.keys().eq(expected.keys()));
    for (name, tensor) in &expected {
        assert_eq!(gradient[name].shape(), tensor.shape(), "{name}");
        let tensor = tensor.to_f64();
        assert_close(&gradient[name].to_f64(), &tensor, norm(&tensor), name);
    }
}

#[test]
fn gpt2_agrees_with_hugging_face() {
    agrees(&Gpt2Config::PICO.into());
    agrees(&Gpt2Config::NANO.into());
}

#[test]
fn llama_agrees_with_hugging_face() {
    agrees(&LlamaConfig::PICO.into());
    agrees(&LlamaConfig::NANO.into());
}

/// A subject hands no logits over, but they are what `log p` of every token of the vocabulary and `log Σ exp`
/// are: the first are token losses, the second is the root of the z-loss but for its sign.
#[test]
fn every_logit_agrees_with_hugging_face() {
    let llamas: [Config; 2] = [LlamaConfig::PICO.into(), LlamaConfig::NANO.into()];
    let gpts: [Config; 2] = [Gpt2Config::PICO.into(), Gpt2Config::NANO.into()];
    for config in gpts.into_iter().chain(llamas) {
        let fixture = Fixture::of(config.name());
        let mut subject = loaded(&config, Dtype::F64);
        let vocabulary = subject.info().limits.vocabulary;
        let recorded = fixture.f64s("logits");
        let width = fixture.rows("input_ids")[0].len();
        for (row, sequence) in batch(&fixture).sequences().enumerate() {
            let predictions = sequence.len() - 1;
            let rows: Vec<&[f64]> = recorded.chunks(vocabulary).skip(row * width).take(predictions).collect();
            let log_sums: Vec<f64> =
                rows.iter().map(|row| row.iter().map(|z| z.exp()).sum::<f64>().ln()).collect();

            let supervised = |target: u32| {
                let labels = vec![i64::from(target); sequence.len()];
                Sequence::new(sequence.input_ids().to_vec(), labels).unwrap()
            };
            let targets = 0..u32::try_from(vocabulary).unwrap();
            let all = evaluate(&mut subject, &together(targets.map(supervised).collect()));
            let expected: Vec<f64> = (0..vocabulary)
                .flat_map(|token| rows.iter().zip(&log_sums).map(move |(row, log_sum)| log_sum - row[token]))
                .collect();
            assert_close(&all, &expected, norm(&expected), config.name());

            let with_z_loss = LossSpec { z_loss: 1.0, ..LossSpec::sum() };
            let (seen, _) = accumulate(&mut subject, &with_z_loss, &together(vec![supervised(0)]));
            let squares: Vec<f64> =
                seen.token_losses.unwrap().iter().zip(&all).map(|(loss, plain)| loss - plain).collect();
            let expected: Vec<f64> = log_sums.iter().map(|log_sum| log_sum * log_sum).collect();
            assert_close(&squares, &expected, norm(&expected), config.name());
        }
    }
}

#[test]
fn the_exact_gelu_is_another_model() {
    let batch = batch(&Fixture::of("gpt2-nano"));
    let erf = Gpt2Config { activation: Activation::ErfGelu, ..Gpt2Config::NANO };
    let tanh = evaluate(&mut loaded(&Gpt2Config::NANO, Dtype::F64), &batch);
    let erf = evaluate(&mut loaded(&erf, Dtype::F64), &batch);
    let difference: Vec<_> = tanh.iter().zip(&erf).map(|(t, e)| t - e).collect();
    let relative = norm(&difference) / norm(&tanh);
    // The two activations differ by at most 5e-4 at any point.
    assert!((1e-7..1e-2).contains(&relative), "{relative:e}");
}

#[test]
fn single_precision_stays_near_double() {
    let nanos: [Config; 2] = [Gpt2Config::NANO.into(), LlamaConfig::NANO.into()];
    for config in nanos {
        let batch = batch(&Fixture::of(config.name()));
        let spec = LossSpec::token_mean();
        let (double, truth) = accumulate(&mut loaded(&config, Dtype::F64), &spec, &batch);
        let (single, gradient) = accumulate(&mut loaded(&config, Dtype::F32), &spec, &batch);
        // A hundred units of round-off of f32, as the bound in f64 is a thousand of f64's.
        let bound = 100.0 * Dtype::F32.unit_roundoff();
        assert!((single.loss - double.loss).abs() <= bound * double.loss);
        for (name, truth) in &truth {
            let truth = truth.to_f64();
            let difference: Vec<_> = gradient[name].to_f64().iter().zip(&truth).map(|(s, d)| s - d).collect();
            let relative = norm(&difference) / norm(&truth);
            assert!(relative > 0.0 && relative <= bound, "{name}: {relative:e}");
        }
    }
}
