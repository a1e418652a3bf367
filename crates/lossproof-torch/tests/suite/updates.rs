//! Optimizer steps against closed forms in f64, which share no code with libtorch's optimizers.

use crate::{
    steps::{ADAM, batch, each, read, start, step, three, with},
    support::{BOUND, Door, accumulate, assert_close, norm},
};
use lossproof_numerics::Updated;
use lossproof_spec::{Adam, Clip, Decayed, GlobalBatch, LossSpec, Optimizer, Rule};
use std::collections::BTreeMap;

/// Takes `batches.len()` steps of each architecture, each held to the closed form from the parameters before
/// it. Returns the clip factors.
fn hold(optimizer: &Optimizer, batches: &[GlobalBatch]) -> Vec<f64> {
    each().iter_mut().flat_map(|subject| hold_one(subject, optimizer, batches)).collect()
}

fn hold_one(subject: &mut Door, optimizer: &Optimizer, batches: &[GlobalBatch]) -> Vec<f64> {
    let spec = LossSpec::sequence_mean();
    let names: Vec<String> = subject.parameters().into_iter().map(|info| info.name).collect();
    let mut closed = BTreeMap::new();
    for (name, tensor) in read(subject) {
        closed.insert(name, Updated::new(tensor.to_f64(), tensor.shape().to_vec()));
    }
    start(subject, optimizer);
    let mut factors = Vec::new();
    for (batch, k) in batches.iter().zip(1_u32..) {
        let before = read(subject);
        // Accumulating beside the optimizer disturbs nothing.
        let (seen, gradient) = accumulate(subject, &spec, batch);
        let report = step(subject, batch);
        let after = read(subject);

        let norms: Vec<f64> = names.iter().map(|name| norm(&gradient[name].to_f64())).collect();
        let rate = optimizer.learning_rate * (f64::from(k) / f64::from(optimizer.warm_up.max(1))).min(1.0);
        assert_eq!(report.observation, seen);
        assert!(!report.skipped);
        assert_close(&[report.learning_rate], &[rate], rate, "learning rate");
        assert_close(&report.tensor_norms, &norms, norm(&norms), "tensor norms");
        assert_close(&[report.grad_norm], &[norm(&norms)], norm(&norms), "grad norm");
        let factor =
            optimizer.clip.map_or(1.0, |clip| (clip.max_norm / (norm(&norms) + clip.epsilon)).min(1.0));
        assert_close(&[report.clip_factor], &[factor], factor, "clip factor");
        factors.push(factor);

        let (mut moved, mut all) = (0, 0);
        for (name, closed) in &mut closed {
            let (theta, after) = (before[name].to_f64(), after[name].to_f64());
            let seen: Vec<f64> = gradient[name].to_f64().iter().map(|g| factor * g).collect();
            closed.step(optimizer, rate, &theta, &seen);
            for (index, (expected, magnitude)) in closed.values.iter().zip(&closed.magnitudes).enumerate() {
                let (error, bound) = ((after[index] - expected).abs(), BOUND * magnitude);
                assert!(error <= bound, "step {k}, {name}[{index}]: off by {error:.2e}, bound {bound:.2e}");
                moved += usize::from((after[index] - theta[index]).abs() > 1e3 * bound);
                all += 1;
            }
        }
        // Rows of the embeddings that no token uses stay where they are without decay, but most parameters
        // are used.
        assert!(2 * moved > all, "only {moved} of {all} elements moved by far more than the bound");
    }
    factors
}

#[test]
fn sgd_is_its_closed_form() {
    for (momentum, weight_decay) in [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.8, 0.05)] {
        hold(&with(Rule::Sgd { momentum, weight_decay }), &three());
    }
}

#[test]
fn adam_couples_its_decay() {
    for (weight_decay, decayed) in [(0.0, Decayed::All), (0.1, Decayed::All), (0.1, Decayed::Matrices)] {
        hold(&with(Rule::Adam(Adam { weight_decay, decayed, ..ADAM })), &three());
    }
}

#[test]
fn adamw_decays_beside_the_update() {
    for (weight_decay, decayed) in [(0.0, Decayed::All), (0.1, Decayed::All), (0.1, Decayed::Matrices)] {
        hold(&with(Rule::AdamW(Adam { weight_decay, decayed, ..ADAM })), &three());
    }
}

#[test]
fn clipping_acts_on_the_accumulated_gradient_only_above_the_norm() {
    let momentum = Rule::Sgd { momentum: 0.9, weight_decay: 0.1 };
    for rule in [momentum, Rule::Adam(Adam { weight_decay: 0.1, ..ADAM }), Rule::AdamW(ADAM)] {
        let clipped = |max_norm, epsilon| {
            let clip = Some(Clip { max_norm, epsilon });
            hold(&Optimizer { clip, ..with(rule) }, &three())
        };
        // An epsilon of 0.1 shows whether it is there.
        for epsilon in [0.0, 0.1] {
            assert!(clipped(0.05, epsilon).iter().all(|&factor| factor < 0.5));
        }
        assert!(clipped(1e3, 1e-6).iter().all(|&factor| factor >= 1.0));
    }
}

#[test]
fn warm_up_is_linear_and_ends() {
    let batches: Vec<_> = (0..5).map(batch).collect();
    for rule in [Rule::Sgd { momentum: 0.5, weight_decay: 0.0 }, Rule::AdamW(ADAM)] {
        hold(&Optimizer { warm_up: 3, ..with(rule) }, &batches);
    }
}
