//! Optimizer steps, held to closed forms in f64 that share nothing with the optimizer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use lossproof_numerics::Updated;
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EmptyPolicy, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule,
    Sequence,
};
use lossproof_subject::{Collect, StepReport, Subject, SubjectError, Tensor, TensorSet};
use std::collections::BTreeMap;
use support::{gradient, pico, ragged};

fn step(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
    subject.optimizer_steps().unwrap().step(batch)
}

fn start(subject: &mut dyn Subject, optimizer: &Optimizer) {
    subject.optimizer_steps().unwrap().start(optimizer).unwrap();
}

fn parameters(subject: &mut dyn Subject) -> TensorSet {
    let mut parameters = Collect::default();
    subject.optimizer_steps().unwrap().read(&mut parameters).unwrap();
    parameters.into_tensors()
}

fn adam(declared: Adam) -> Optimizer {
    Optimizer { rule: Rule::Adam(declared), ..Optimizer::sgd(1e-2) }
}

fn adam_w(declared: Adam) -> Optimizer {
    Optimizer { rule: Rule::AdamW(declared), ..Optimizer::sgd(1e-2) }
}

/// GPT-2's usual numbers, with an ε large enough to be seen.
const ADAM: Adam = Adam {
    beta_1: 0.9,
    beta_2: 0.95,
    epsilon: 1e-3,
    epsilon_placement: EpsilonPlacement::AfterCorrection,
    weight_decay: 0.1,
    decayed: Decayed::All,
};

/// What an update may differ by from the closed form, relative to its magnitude: a dozen roundings.
const ROUNDINGS: f64 = 12.0 * f64::EPSILON;

/// Three steps on changing batches, each compared with the closed form from where the step began.
fn held_to_the_closed_form(optimizer: &Optimizer) {
    let mut subject = pico(Dtype::F64);
    start(&mut *subject, optimizer);
    let mut closed = BTreeMap::new();
    for (name, tensor) in parameters(&mut *subject) {
        closed.insert(name, Updated::new(tensor.to_f64(), tensor.shape().to_vec()));
    }
    for k in 0..3 {
        let batch = ragged(k);
        let before = parameters(&mut *subject);
        let (loss, gradient) = gradient(&mut *subject, &batch);
        let squares = |tensor: &Tensor| tensor.to_f64().iter().map(|g| g * g).sum::<f64>();
        let norm = gradient.values().map(squares).sum::<f64>().sqrt();
        let factor = optimizer.clip.map_or(1.0, |clip| (clip.max_norm / (norm + clip.epsilon)).min(1.0));
        let lr = optimizer.learning_rate * (f64::from(k + 1) / f64::from(optimizer.warm_up.max(1))).min(1.0);

        let report = step(&mut *subject, &batch).unwrap();
        assert!(!report.skipped);
        assert!((report.observation.loss - loss).abs() <= 1e-14 * loss);
        assert!((report.learning_rate / lr - 1.0).abs() < 1e-15);
        assert!((report.grad_norm / norm - 1.0).abs() < 1e-13);
        assert!((report.clip_factor / factor - 1.0).abs() < 1e-13);
        for (parameter, norm) in subject.parameters().iter().zip(&report.tensor_norms) {
            let expected = squares(&gradient[&parameter.name]).sqrt();
            assert!((norm - expected).abs() <= 1e-13 * expected, "{}", parameter.name);
        }
        let after = parameters(&mut *subject);
        assert_ne!(after, before, "a step moves the parameters");
        for (name, closed) in &mut closed {
            let seen: Vec<f64> = gradient[name].to_f64().iter().map(|g| factor * g).collect();
            closed.step(optimizer, lr, &before[name].to_f64(), &seen);
            for (i, (expected, magnitude)) in closed.values.iter().zip(&closed.magnitudes).enumerate() {
                let actual = after[name].get(i);
                assert!(
                    (actual - expected).abs() <= ROUNDINGS * magnitude,
                    "step {k}, {name}[{i}]: {actual} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn sgd_with_and_without_momentum_and_decay() {
    for (momentum, weight_decay) in [(0.0, 0.0), (0.0, 0.1), (0.9, 0.0), (0.9, 0.1)] {
        held_to_the_closed_form(&Optimizer {
            rule: Rule::Sgd { momentum, weight_decay },
            ..Optimizer::sgd(0.1)
        });
    }
}

#[test]
fn adam_and_adam_w_with_either_epsilon_and_decay_group() {
    for epsilon_placement in [EpsilonPlacement::AfterCorrection, EpsilonPlacement::BeforeCorrection] {
        for decayed in [Decayed::All, Decayed::Matrices] {
            let declared = Adam { epsilon_placement, decayed, ..ADAM };
            held_to_the_closed_form(&adam(declared));
            held_to_the_closed_form(&adam_w(declared));
        }
    }
    // PyTorch's lerp goes from the other end.
    held_to_the_closed_form(&adam(Adam { beta_1: 0.3, ..ADAM }));
}

#[test]
fn clipping_and_warm_up() {
    for optimizer in [Optimizer::sgd(0.1), adam(ADAM), adam_w(ADAM)] {
        for (max_norm, epsilon) in [(1e-2, 0.0), (1e-2, 1e-6), (1e-2, 1e-2), (1e6, 1e-6)] {
            let clip = Some(Clip { max_norm, epsilon });
            held_to_the_closed_form(&Optimizer { warm_up: 2, clip, ..optimizer });
        }
    }
}

/// Two steps under an optimizer, in bits.
fn two_steps(dtype: Dtype, optimizer: &Optimizer) -> (TensorSet, [StepReport; 2]) {
    let mut subject = pico(dtype);
    start(&mut *subject, optimizer);
    let reports = [0, 1].map(|k| step(&mut *subject, &ragged(k)).unwrap());
    (parameters(&mut *subject), reports)
}

#[test]
fn a_loss_scale_that_is_a_power_of_two_leaves_no_trace() {
    let clip = Some(Clip { max_norm: 1e-2, epsilon: 1e-6 });
    for dtype in [Dtype::F32, Dtype::F64] {
        for rule in [Rule::Sgd { momentum: 0.9, weight_decay: 0.1 }, Rule::AdamW(ADAM)] {
            let plain = Optimizer { rule, clip, ..Optimizer::sgd(1e-2) };
            for loss_scale in [1024.0, 0.125] {
                assert_eq!(
                    two_steps(dtype, &plain),
                    two_steps(dtype, &Optimizer { loss_scale, ..plain }),
                    "{dtype} {rule:?} × {loss_scale}"
                );
            }
        }
    }
}

/// The loss is scaled, not the gradient: what overflows in the backward pass is lost.
#[test]
fn a_step_whose_gradient_is_not_finite_is_skipped_and_the_schedule_waits() {
    for (dtype, loss_scale) in [(Dtype::F64, f64::INFINITY), (Dtype::F32, 1e39), (Dtype::F64, 1e308)] {
        let mut subject = pico(dtype);
        subject.configure(&LossSpec { z_loss: 10.0, ..LossSpec::sum() }).unwrap();
        let (loss, _) = gradient(&mut *subject, &ragged(0));
        start(&mut *subject, &Optimizer { warm_up: 4, loss_scale, ..adam_w(ADAM) });
        let before = parameters(&mut *subject);
        for _ in 0..2 {
            let report = step(&mut *subject, &ragged(0)).unwrap();
            assert!(report.skipped, "{dtype} × {loss_scale}");
            assert!(!report.grad_norm.is_finite());
            assert!((report.learning_rate / (1e-2 / 4.0) - 1.0).abs() < 1e-15);
            assert_eq!(
                report.observation.loss.to_bits(),
                loss.to_bits(),
                "the loss reported is the one not scaled"
            );
            assert_eq!(parameters(&mut *subject), before);
        }
    }
}

#[test]
fn a_skipped_step_leaves_the_optimizer_as_it_was() {
    for rule in [Rule::Sgd { momentum: 0.9, weight_decay: 0.0 }, Rule::Adam(ADAM)] {
        let optimizer = Optimizer { rule, warm_up: 3, ..Optimizer::sgd(1e-2) };
        let (expected, _) = two_steps(Dtype::F64, &optimizer);
        let mut subject = pico(Dtype::F64);
        start(&mut *subject, &optimizer);
        step(&mut *subject, &ragged(0)).unwrap();
        let gain = parameters(&mut *subject)["ln_f.weight"].to_f64();
        let mut set =
            |values: &[f64]| subject.parameter_loading().unwrap().set("ln_f.weight", values).unwrap();
        set(&[f64::MAX; 8]);
        assert!(step(&mut *subject, &ragged(0)).unwrap().skipped);
        subject.parameter_loading().unwrap().set("ln_f.weight", &gain).unwrap();
        step(&mut *subject, &ragged(1)).unwrap();
        assert_eq!(parameters(&mut *subject), expected);
    }
}

#[test]
fn a_step_needs_a_start_and_a_reset_forgets_it() {
    let mut subject = pico(Dtype::F64);
    let initial = parameters(&mut *subject);
    let names: Vec<_> = subject.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
    assert_eq!(names.len(), initial.len());
    assert!(names.iter().all(|(name, shape)| initial[name].shape() == shape));
    let refused = |subject: &mut dyn Subject| {
        let error = step(subject, &ragged(0)).unwrap_err().to_string();
        assert!(error.contains("call `OptimizerSteps::start` first"), "{error}");
    };
    refused(&mut *subject);
    start(&mut *subject, &Optimizer::sgd(0.1));
    step(&mut *subject, &ragged(0)).unwrap();
    assert_ne!(parameters(&mut *subject), initial);
    subject.reset().unwrap();
    assert_eq!(parameters(&mut *subject), initial);
    refused(&mut *subject);

    start(&mut *subject, &Optimizer::sgd(0.1));
    let steps = subject.optimizer_steps().unwrap();
    let error = steps.start(&Optimizer::sgd(-0.1)).unwrap_err().to_string();
    assert!(error.contains("a learning rate of -0.1"), "{error}");
    refused(&mut *subject);
}

#[test]
fn a_failed_step_changes_nothing() {
    let silent = GlobalBatch::single(Sequence::new(vec![1, 2], vec![-100; 2]).unwrap());
    let outside = GlobalBatch::single(Sequence::new(vec![1, 64], vec![1, 2]).unwrap());
    let optimizer = adam_w(ADAM);
    let (expected, _) = two_steps(Dtype::F64, &optimizer);
    let mut subject = pico(Dtype::F64);
    subject.configure(&LossSpec { empty: EmptyPolicy::Error, ..LossSpec::token_mean() }).unwrap();
    start(&mut *subject, &optimizer);
    step(&mut *subject, &ragged(0)).unwrap();
    assert!(matches!(step(&mut *subject, &silent), Err(SubjectError::EmptyGroup(_))));
    assert!(matches!(step(&mut *subject, &outside), Err(SubjectError::Limit { .. })));
    step(&mut *subject, &ragged(1)).unwrap();
    assert_eq!(parameters(&mut *subject), expected);
}
