//! Loss specs as data and as words.

use lossproof_spec::{Counting, EmptyPolicy, InvalidSpec, LossSpec};
use proptest::prelude::*;
use std::collections::HashSet;

mod common;

proptest! {
    #[test]
    fn json_round_trips(spec in common::specs(), label_smoothing in 0.0..1.0, z_loss in 0.0..1e3) {
        let spec = LossSpec { label_smoothing, z_loss, ..spec };
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<LossSpec>(&json).unwrap(), spec);
    }
}

#[test]
fn specs_that_differ_read_differently() {
    let smoothings = [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)];
    let specs = common::all_specs().flat_map(|spec| {
        smoothings.map(|(label_smoothing, z_loss)| LossSpec { label_smoothing, z_loss, ..spec })
    });
    let specs: Vec<_> = specs.collect();
    let texts: HashSet<_> = specs.iter().map(LossSpec::to_string).collect();
    assert_eq!(texts.len(), specs.len());
}

#[test]
fn absent_fields_have_their_defaults_and_unknown_ones_are_refused() {
    let json = r#"{"reduction":"token-mean","scope":"global","micro_batches":"add","ranks":"add"}"#;
    assert_eq!(serde_json::from_str::<LossSpec>(json).unwrap(), LossSpec::token_mean());
    let misspelt = json.replace('}', r#","label_smooting":0.1}"#);
    let error = serde_json::from_str::<LossSpec>(&misspelt).unwrap_err().to_string();
    assert!(error.contains("unknown field `label_smooting`"), "{error}");
    let incomplete = json.replace(r#""scope":"global","#, "");
    assert!(serde_json::from_str::<LossSpec>(&incomplete).unwrap_err().to_string().contains("scope"));
}

#[test]
fn specs_read_as_sentences() {
    let global = "over the global batch, micro-batches added, ranks added";
    assert_eq!(LossSpec::sum().to_string(), format!("sum {global}"));
    assert_eq!(LossSpec::token_mean().to_string(), format!("per-token mean {global}"));
    assert_eq!(LossSpec::sequence_mean().to_string(), format!("per-sequence mean {global}"));
    assert_eq!(LossSpec::batch_mean().to_string(), format!("batch mean {global}"));
    assert_eq!(
        LossSpec::naive_accumulated_mean().to_string(),
        "per-token mean over each micro-batch, micro-batches averaged, ranks averaged"
    );
    assert_eq!(
        LossSpec::forgotten_division().to_string(),
        "per-token mean over each micro-batch, micro-batches added, ranks added"
    );
    assert_eq!(
        LossSpec::naive_data_parallel().to_string(),
        "per-token mean over each rank's window, micro-batches added, ranks averaged"
    );
    assert_eq!(
        LossSpec::averaging_not_undone().to_string(),
        "per-token mean over the global batch, micro-batches added, ranks averaged"
    );
    let spec = LossSpec {
        counting: Counting::BeforeShift,
        empty: EmptyPolicy::ZeroSkipped,
        label_smoothing: 0.1,
        z_loss: 1e-4,
        ..LossSpec::token_mean()
    };
    assert_eq!(
        spec.to_string(),
        format!(
            "per-token mean {global}, tokens counted before the shift, empty groups left out, label smoothing 0.1, \
             z-loss 0.0001"
        )
    );
}

#[test]
fn numbers_without_a_meaning_are_refused() {
    let smoothed = |label_smoothing| LossSpec { label_smoothing, ..LossSpec::sum() }.validate();
    assert_eq!(smoothed(0.0), Ok(()));
    assert_eq!(smoothed(1.0), Err(InvalidSpec::LabelSmoothing(1.0)));
    assert_eq!(smoothed(-0.1), Err(InvalidSpec::LabelSmoothing(-0.1)));
    assert!(smoothed(f64::NAN).is_err());
    let z_loss = |z_loss| LossSpec { z_loss, ..LossSpec::sum() }.validate();
    assert_eq!(z_loss(1e-4), Ok(()));
    assert_eq!(z_loss(-1.0), Err(InvalidSpec::ZLoss(-1.0)));
    assert_eq!(z_loss(f64::INFINITY), Err(InvalidSpec::ZLoss(f64::INFINITY)));
    assert!(z_loss(f64::NAN).is_err());
}
