//! The reference is held to what Hugging Face's GPT-2 computed in f64.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::Recorded;
use lossproof_gpt2::{Config, reference};
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::{Collect, Device};

fn held_to(config: Config, bytes: &[u8]) {
    let recorded = Recorded::parse(bytes).unwrap();
    let mut subject = reference(config, Dtype::F64, Device::Cpu).unwrap();
    subject.parameter_loading().unwrap().load(&recorded.parameters).unwrap();
    let losses = subject.token_losses().unwrap().evaluate(&recorded.batch).unwrap();
    let worst = losses.iter().zip(&recorded.token_losses).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(worst < 1e-12, "token losses differ by {worst:e}");

    subject.configure(&LossSpec::token_mean()).unwrap();
    let mut gradient = Collect::default();
    let observed = subject.accumulate(&recorded.batch, &mut gradient).unwrap();
    assert!((observed.loss - recorded.loss).abs() / recorded.loss < 1e-12);
    let gradient = gradient.into_tensors();
    assert!(gradient.keys().eq(recorded.gradient.keys()));
    for (name, expected) in &recorded.gradient {
        let actual = &gradient[name];
        assert_eq!(actual.shape(), expected.shape(), "{name}");
        let norm =
            |f: &dyn Fn(usize) -> f64| (0..expected.elements()).map(|i| f(i).powi(2)).sum::<f64>().sqrt();
        let error = norm(&|i| actual.get(i) - expected.get(i)) / norm(&|i| expected.get(i));
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}

#[test]
fn pico() {
    held_to(Config::Pico, include_bytes!("../../../fixtures/third-forward/gpt2-pico.safetensors"));
}

#[test]
fn nano() {
    held_to(Config::Nano, include_bytes!("../../../fixtures/third-forward/gpt2-nano.safetensors"));
}
