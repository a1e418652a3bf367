//! The contract of optimizer steps around the update itself: loss scale, skipped steps, start, reset and refusals.

use crate::support::{Door, accumulate, assert_close, global, loaded, norm, picos, sequence, together};
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EmptyPolicy, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule,
};
use lossproof_subject::{Collect, StepReport, SubjectError, TensorSet};
use lossproof_torch::{Config, Gpt2Config};

pub(crate) const ADAM: Adam = Adam {
    beta_1: 0.9,
    beta_2: 0.98,
    epsilon: 1e-6,
    epsilon_placement: EpsilonPlacement::AfterCorrection,
    weight_decay: 0.0,
    decayed: Decayed::All,
};

/// Two ranks with two micro-batches and one; other tokens for every seed.
pub(crate) fn batch(seed: u32) -> GlobalBatch {
    global(vec![
        vec![vec![sequence(seed, 9, 0), sequence(seed + 1, 5, 2)], vec![sequence(seed + 2, 7, 1)]],
        vec![vec![sequence(seed + 3, 12, 4), sequence(seed + 4, 3, 0)]],
    ])
}

pub(crate) fn pico() -> Door {
    loaded(&Gpt2Config::PICO, Dtype::F64)
}

/// Each architecture's smallest model.
pub(crate) fn each() -> [Door; 2] {
    picos().map(|config| loaded(&config, Dtype::F64))
}

/// A model in both dtypes.
fn both(config: &Config) -> [(Config, Dtype); 2] {
    [Dtype::F32, Dtype::F64].map(|dtype| (config.clone(), dtype))
}

pub(crate) fn start(subject: &mut Door, optimizer: &Optimizer) {
    subject.optimizer_steps().unwrap().start(optimizer).unwrap();
}

pub(crate) fn step(subject: &mut Door, batch: &GlobalBatch) -> StepReport {
    subject.optimizer_steps().unwrap().step(batch).unwrap()
}

pub(crate) fn read(subject: &mut Door) -> TensorSet {
    let mut parameters = Collect::default();
    subject.optimizer_steps().unwrap().read(&mut parameters).unwrap();
    parameters.into_tensors()
}

pub(crate) fn three() -> [GlobalBatch; 3] {
    [batch(1), batch(9), batch(3)]
}

pub(crate) fn with(rule: Rule) -> Optimizer {
    Optimizer { rule, ..Optimizer::sgd(0.03) }
}

#[test]
fn a_batch_without_a_supervised_token_is_a_step_with_a_zero_gradient() {
    let empty = together(vec![sequence(1, 4, 4)]);
    for mut subject in each() {
        subject.configure(&LossSpec::token_mean()).unwrap();
        let before = read(&mut subject);
        start(
            &mut subject,
            &Optimizer { warm_up: 4, ..with(Rule::Sgd { momentum: 0.0, weight_decay: 0.5 }) },
        );
        let report = step(&mut subject, &empty);
        assert!(!report.skipped && report.grad_norm.abs() <= 0.0 && report.observation.loss.abs() <= 0.0);
        assert_eq!(report.tensor_norms.len(), before.len());
        assert!(step(&mut subject, &empty).learning_rate > report.learning_rate);
        let kept = (1.0 - 0.5 * 0.03 / 4.0) * (1.0 - 0.5 * 0.03 / 2.0);
        for (name, after) in read(&mut subject) {
            let expected: Vec<f64> = before[&name].to_f64().iter().map(|value| kept * value).collect();
            assert_close(&after.to_f64(), &expected, norm(&expected), &name);
        }
    }
}

/// Parameters and reports of a run.
fn run(subject: &mut Door, optimizer: &Optimizer, batches: &[GlobalBatch]) -> (Vec<StepReport>, TensorSet) {
    start(subject, optimizer);
    let reports = batches.iter().map(|batch| step(subject, batch)).collect();
    (reports, read(subject))
}

#[test]
fn a_power_of_two_as_loss_scale_changes_no_bit() {
    let clip = Some(Clip { max_norm: 0.5, epsilon: 1e-6 });
    let rules = [Rule::Sgd { momentum: 0.9, weight_decay: 0.1 }, Rule::Adam(ADAM), Rule::AdamW(ADAM)];
    for (config, dtype) in picos().into_iter().flat_map(|config| both(&config)) {
        for rule in rules {
            let [plain, large, small] = [1.0, 1024.0, 0.125].map(|loss_scale| {
                let optimizer = Optimizer { clip, loss_scale, ..with(rule) };
                run(&mut loaded(&config, dtype), &optimizer, &three())
            });
            assert!(plain.0.iter().all(|report| report.clip_factor < 1.0));
            assert_eq!(large, plain, "{dtype} {rule:?}");
            assert_eq!(small, plain, "{dtype} {rule:?}");
        }
    }
}

#[test]
fn a_run_repeats_bit_by_bit() {
    for (config, dtype) in picos().into_iter().flat_map(|config| both(&config)) {
        let optimizer = Optimizer { warm_up: 2, ..with(Rule::AdamW(ADAM)) };
        let mut subject = loaded(&config, dtype);
        let first = run(&mut subject, &optimizer, &three());
        subject.reset().unwrap();
        assert_eq!(run(&mut subject, &optimizer, &three()), first);
        assert_eq!(run(&mut loaded(&config, dtype), &optimizer, &three()), first);
    }
}

#[test]
fn a_step_whose_gradient_overflows_is_as_if_it_had_never_been() {
    let many = together((0..12).map(|seed| sequence(seed, 16, 0)).collect());
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F32);
    let (_, gradient) = accumulate(&mut subject, &LossSpec::sum(), &many);
    let largest =
        gradient.values().flat_map(lossproof_subject::Tensor::to_f64).map(f64::abs).fold(0.0, f64::max);
    // The largest element of the sum's gradient becomes 2^129 or more, beyond f32; the mean's, 180 times smaller, stays
    // below 2^123.
    let loss_scale = (129.0 - largest.log2()).ceil().exp2();

    for rule in [Rule::Sgd { momentum: 0.9, weight_decay: 0.1 }, Rule::Adam(ADAM), Rule::AdamW(ADAM)] {
        let optimizer = Optimizer { loss_scale, warm_up: 3, ..with(rule) };
        let mut trace = |overflows: [bool; 4]| {
            subject.reset().unwrap();
            start(&mut subject, &optimizer);
            let mut reports = Vec::new();
            for overflows in overflows {
                if overflows {
                    subject.configure(&LossSpec::sum()).unwrap();
                    let (before, report) = (read(&mut subject), step(&mut subject, &many));
                    assert!(
                        report.skipped
                            && !report.grad_norm.is_finite()
                            && report.observation.loss.is_finite()
                    );
                    assert_eq!(read(&mut subject), before);
                }
                subject.configure(&LossSpec::token_mean()).unwrap();
                reports.push(step(&mut subject, &many));
            }
            assert!(reports.iter().all(|report| !report.skipped));
            (reports, read(&mut subject))
        };
        let undisturbed = trace([false; 4]);
        assert_eq!(trace([true, false, true, true]), undisturbed, "{rule:?}");
    }
}

#[test]
fn a_loss_scale_beyond_the_dtype_skips_every_step() {
    let mut subject = loaded(&Gpt2Config::PICO, Dtype::F32);
    start(&mut subject, &Optimizer { loss_scale: 1e39, ..Optimizer::sgd(0.1) });
    let before = read(&mut subject);
    assert!(step(&mut subject, &batch(1)).skipped);
    assert_eq!(read(&mut subject), before);
}

#[test]
fn a_step_needs_a_start_and_reset_and_load_forget_it() {
    let mut subject = pico();
    let initial = read(&mut subject);
    let unstarted = |subject: &mut Door| {
        let before = read(subject);
        let error = subject.optimizer_steps().unwrap().step(&batch(1)).unwrap_err().to_string();
        assert!(error.contains("no optimizer is in force") && error.contains("start"), "{error}");
        assert_eq!(read(subject), before);
    };
    unstarted(&mut subject);

    let (reports, moved) = run(&mut subject, &with(Rule::Adam(ADAM)), &three());
    assert_ne!(moved, initial);
    subject.reset().unwrap();
    assert_eq!(read(&mut subject), initial);
    unstarted(&mut subject);

    assert_eq!(run(&mut subject, &with(Rule::Adam(ADAM)), &three()), (reports, moved.clone()));
    subject.parameter_loading().unwrap().load(&moved).unwrap();
    unstarted(&mut subject);
    subject.reset().unwrap();
    assert_eq!(read(&mut subject), moved);
}

#[test]
fn starting_again_forgets_state_and_schedule_but_no_parameter() {
    let optimizer = Optimizer { warm_up: 3, ..with(Rule::Adam(ADAM)) };
    let mut subject = pico();
    let (_, moved) = run(&mut subject, &optimizer, &three());
    let second = run(&mut subject, &optimizer, &three());
    let mut fresh = pico();
    fresh.parameter_loading().unwrap().load(&moved).unwrap();
    assert_eq!(run(&mut fresh, &optimizer, &three()), second);
}

#[test]
fn values_set_between_steps_are_stepped_from() {
    let optimizer = Optimizer::sgd(0.1);
    let mut subject = pico();
    let initial = read(&mut subject);
    run(&mut subject, &optimizer, &three());
    let moved = vec![0.5; 8];
    subject.parameter_loading().unwrap().set("ln_f.bias", &moved).unwrap();
    let before = read(&mut subject);
    assert_eq!(before["ln_f.bias"].to_f64(), moved);
    let spec = subject.info().claims.first();
    let (_, gradient) = accumulate(&mut subject, &spec, &batch(5));
    step(&mut subject, &batch(5));
    for (name, after) in read(&mut subject) {
        let from = before[&name].to_f64();
        let expected: Vec<f64> =
            from.iter().zip(gradient[&name].to_f64()).map(|(value, g)| value - 0.1 * g).collect();
        assert_close(&after.to_f64(), &expected, norm(&expected), &name);
    }
    subject.reset().unwrap();
    assert_eq!(read(&mut subject), initial);
}

#[test]
fn a_failed_step_changes_nothing() {
    let optimizer = Optimizer { warm_up: 3, ..with(Rule::AdamW(ADAM)) };
    let mut subject = pico();
    let expected = run(&mut subject, &optimizer, &three());
    subject.reset().unwrap();
    start(&mut subject, &optimizer);
    let mut reports = Vec::new();
    for batch in three() {
        let before = read(&mut subject);
        let too_long = together(vec![sequence(1, 17, 0)]);
        let error = subject.optimizer_steps().unwrap().step(&too_long).unwrap_err();
        assert!(error.to_string().contains("17 positions of sequence 0"));
        subject.configure(&LossSpec { empty: EmptyPolicy::Error, ..LossSpec::sequence_mean() }).unwrap();
        // The first micro-batch has run its backward pass when the second turns out to be empty.
        let empty = global(vec![vec![vec![sequence(1, 5, 0)], vec![sequence(2, 3, 3)]]]);
        let error = subject.optimizer_steps().unwrap().step(&empty).unwrap_err();
        assert!(matches!(error, SubjectError::EmptyGroup(_)), "{error}");
        assert_eq!(read(&mut subject), before);
        subject.configure(&LossSpec::token_mean()).unwrap();
        reports.push(step(&mut subject, &batch));
    }
    assert_eq!((reports, read(&mut subject)), expected);
}

#[test]
fn what_libtorchs_optimizers_cannot_do_is_unsupported_and_leaves_none_in_force() {
    let before_correction = Adam { epsilon_placement: EpsilonPlacement::BeforeCorrection, ..ADAM };
    let plain = Optimizer::sgd(0.1);
    let clip = |max_norm, epsilon| Optimizer { clip: Some(Clip { max_norm, epsilon }), ..plain };
    let refusals = [
        (with(Rule::Adam(before_correction)), "ε before the bias correction"),
        (with(Rule::AdamW(before_correction)), "ε before the bias correction"),
        (with(Rule::Adam(Adam { beta_2: 1.0, ..ADAM })), "beta"),
        (with(Rule::AdamW(Adam { epsilon: -1.0, ..ADAM })), "epsilon"),
        (with(Rule::Sgd { momentum: -0.5, weight_decay: 0.0 }), "momentum"),
        (with(Rule::Sgd { momentum: f64::NAN, weight_decay: 0.0 }), "momentum"),
        (Optimizer::sgd(-0.1), "learning rate"),
        (Optimizer::sgd(f64::INFINITY), "learning rate"),
        (Optimizer { loss_scale: 0.0, ..plain }, "loss scale 0"),
        (Optimizer { loss_scale: f64::NAN, ..plain }, "loss scale NaN"),
        (clip(-1.0, 0.0), "norm -1"),
        (clip(1.0, f64::NAN), "epsilon NaN"),
    ];
    let mut subject = pico();
    for (optimizer, what) in refusals {
        start(&mut subject, &plain);
        step(&mut subject, &batch(1));
        let error = subject.optimizer_steps().unwrap().start(&optimizer).unwrap_err().to_string();
        assert!(
            error.starts_with("libtorch does not support") && error.contains(what),
            "{optimizer:?}: {error}"
        );
        assert!(subject.optimizer_steps().unwrap().step(&batch(1)).is_err());
    }
}
