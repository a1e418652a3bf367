//! The whole verification at nano and at the true shape of gpt2-small.

use lossproof_gpt2::{Config, probe_initial, reference_at};
use lossproof_spec::{Dtype, GlobalBatch, MicroBatch, Rank, Sequence};
use lossproof_subject::{Device, probe_values};
use lossproof_tests::{error_model, ours, ragged_batch, theirs};
use lossproof_torch::{Gpt2Config, libtorch_at};
use lossproof_verify::{
    Directions, Make, ParameterFile, Streamed, Verdict, Verification, verify, verify_streamed,
};
use std::sync::Arc;

#[test]
fn nano_in_double_precision() {
    let (config, batch) = (Config::Nano, ragged_batch(1));
    let verification = Verification {
        trainer: &mut *ours(config, Dtype::F64),
        reference: &mut *theirs(config, Dtype::F64),
        third: None,
        parameters: &probe_initial(config.shape(), 2),
        batch: &batch,
        model: error_model(config.shape(), &batch),
        directions: Directions::Random(1),
        seed: 3,
    };
    let report = verify(verification, &mut |_, _, _| {}).unwrap();
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        assert!(row.control_caught, "{row:?}");
    }
    assert_eq!(report.rows.len(), 1 + 2 + 6 * 8);
}

/// The true shape, on two short sequences so that the suite stays quick; `lossproof verify --config gpt2-small` takes more.
#[test]
#[ignore = "thorough: a minute and a half; nano, of the same code, is looked at always"]
fn small_in_single_precision() {
    let config = Config::Small;
    let sequence = |start: u32, length: u32| {
        let tokens: Vec<u32> = (start..start + length).map(|i| i * 7919 % 50257).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        MicroBatch::new(vec![Sequence::new(tokens, labels).unwrap()]).unwrap()
    };
    let rank = |micro_batch| Rank::new(vec![micro_batch]).unwrap();
    let batch = GlobalBatch::new(vec![rank(sequence(3, 5)), rank(sequence(100, 8))]).unwrap();
    let shapes = config.shape().parameters();
    let file = tempfile::tempfile().unwrap();
    let parameters = ParameterFile::write(file, &shapes, |index| probe_values(&shapes, index, 2)).unwrap();
    let libtorch = |dtype| -> Make<'_> {
        let config = Gpt2Config::SMALL;
        Box::new(move |source| Ok(libtorch_at(&config, dtype, Device::Cpu, &*source)?))
    };
    let verification = Streamed {
        trainer: Box::new(move |source| reference_at(config, Dtype::F32, Device::Cpu, source)),
        reference: Some(libtorch(Dtype::F32)),
        truth: Some(libtorch(Dtype::F64)),
        third: None,
        parameters: Arc::new(parameters),
        batch: &batch,
        model: error_model(config.shape(), &batch),
        seed: 3,
    };
    let report = verify_streamed(verification, &mut |_, _, _| {}).unwrap();
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        assert!(row.control_caught, "{row:?}");
    }
    let distance = report.rounding_distance.unwrap();
    assert!(distance.measured < distance.fitted, "{distance:?}");
}
