//! The whole verification at nano and at the true shape of gpt2-small.

use lossproof::{
    Dtype, Subject,
    verify::{Directions, Streamed, Verdict, Verification, verify, verify_streamed},
};
use lossproof_gpt2::{Config, probe_initial};
use lossproof_spec::{GlobalBatch, MicroBatch, Rank, Sequence};
use lossproof_tests::{error_model, ours, ragged_batch, theirs};

#[test]
fn nano_in_double_precision() {
    let (config, batch) = (Config::Nano, ragged_batch(1));
    let verification = Verification {
        reference: &mut *ours(config, Dtype::F64),
        oracle: &mut *theirs(config, Dtype::F64),
        third: None,
        parameters: &probe_initial(config.shape(), 2),
        batch: &batch,
        model: error_model(config.shape(), &batch),
        directions: Directions::PerTensor(1),
        seed: 3,
    };
    let report = verify(verification, &mut |_, _, _| {}).unwrap();
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        assert!(row.control_caught, "{row:?}");
    }
    assert_eq!(report.rows.len(), 1 + 6 * 8);
}

/// The true shape, on two short sequences so that the suite stays quick; `lossproof verify --config gpt2-small` takes more.
#[test]
fn small_in_single_precision() {
    let config = Config::Small;
    let sequence = |start: u32, length: u32| {
        let tokens: Vec<u32> = (start..start + length).map(|i| i * 7919 % 50257).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        MicroBatch::new(vec![Sequence::new(tokens, labels).unwrap()]).unwrap()
    };
    let rank = |micro_batch| Rank::new(vec![micro_batch]).unwrap();
    let batch = GlobalBatch::new(vec![rank(sequence(3, 5)), rank(sequence(100, 8))]).unwrap();
    let mut judged = [ours(config, Dtype::F32), theirs(config, Dtype::F32)];
    let verification = Streamed {
        judged: judged.iter_mut().map(|subject| &mut **subject as &mut dyn Subject).collect(),
        truth: &mut *theirs(config, Dtype::F64),
        third: None,
        parameters: &probe_initial(config.shape(), 2),
        batch: &batch,
        model: error_model(config.shape(), &batch),
        seed: 3,
    };
    let report = verify_streamed(verification, &mut |_, _, _| {}).unwrap();
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Pass, "{row:?}");
        assert!(row.control_caught, "{row:?}");
    }
}
