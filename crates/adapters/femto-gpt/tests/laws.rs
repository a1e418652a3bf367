//! Which laws show the overflow of femto-gpt 0.2.0 (W9 in docs/bugs.md), and from where on. What every law
//! says of it as it was released stands in `lossproof.toml`, which `conformance.rs` holds it to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::{Case, Scale};
use lossproof_femto_gpt::{Config, Head, femto_gpt};
use lossproof_laws::LAWS;
use lossproof_spec::{GlobalBatch, LossSpec, Sequence};

/// One sequence whose tokens are all supervised.
fn case() -> Case {
    let tokens = 0..u32::try_from(Config::PICO.predictions + 1).unwrap();
    let labels = tokens.clone().map(i64::from).collect();
    let batch = GlobalBatch::single(Sequence::new(tokens.collect(), labels).unwrap());
    Case { batch, spec: LossSpec::token_mean(), scale: Scale::Probe, upstream: vec![1.0], seed: 0 }
}

/// The laws that one case breaks when `bias` is added to every logit, with what is found.
fn broken(bias: f32) -> Vec<String> {
    let mut subject = femto_gpt(Config::PICO, Head::Tied { bias }).unwrap();
    let case = case();
    let mut broken = Vec::new();
    for law in LAWS {
        if law.lacking(&mut *subject).is_some() {
            continue;
        }
        let tried = law.try_on(&mut *subject, &case, 0.0);
        if let Some((found, expected)) = tried.violations().first().and_then(|violation| violation.pair) {
            broken.push(format!("{}: {found:?}, expected {expected:.4}", law.id()));
        }
    }
    broken
}

#[test]
fn moderate_constants_break_constant_invariance_alone_until_the_loss_overflows() {
    for bias in [0.0, 40.0, -40.0] {
        let broken = broken(bias);
        let laws: Vec<_> = broken.iter().filter_map(|said| said.split(':').next()).collect();
        assert_eq!(laws, ["constant-invariance"], "{bias} on every logit");
    }
    let broken = broken(90.0);
    assert!(
        !broken.is_empty(),
        "femto-gpt no longer does what docs/bugs.md says of 0.2.0: update the entry and this snapshot"
    );
    // Where a law compares two of its own computations, both are infinite.
    insta::assert_snapshot!(broken.join("\n"));
}
