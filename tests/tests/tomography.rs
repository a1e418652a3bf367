//! Tomography of both implementations and of faulty trainers: the weights that the gradient, and the reported
//! loss, show.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "seconds, conditions and residuals are shown, not asserted")]

use lossproof_diagnosis::tomography::{
    Agreement, Basis, Observed, ReportedLosses, Scan, ScanSetup, Tomogram, Weight, disagreement, label_swaps,
    recover, recover_by_region,
};
use lossproof_faults::{
    Fault,
    kit::{Hooks, wrap},
};
use lossproof_gpt2::{Config, probe_initial};
use lossproof_spec::{
    Dtype, EmptyPolicy, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Optimizer, Rank, Sequence,
    TokenWeights,
};
use lossproof_subject::{Limits, SubjectInfo};
use lossproof_tests::{Door, ours, theirs};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::time::Instant;

const CONFIG: Config = Config::Nano;

fn sequence(random: &mut ChaCha8Rng, length: usize, masked: impl Fn(usize) -> bool) -> Sequence {
    let tokens: Vec<u32> = (0..length).map(|_| random.random_range(0..257)).collect();
    let label = |(p, &token): (usize, &u32)| if masked(p) { IGNORE_INDEX } else { i64::from(token) };
    let labels = tokens.iter().enumerate().map(label).collect();
    Sequence::new(tokens, labels).unwrap()
}

fn batch_of(ranks: Vec<Vec<Vec<Sequence>>>) -> GlobalBatch {
    let rank = |micro_batches: Vec<Vec<Sequence>>| {
        Rank::new(micro_batches.into_iter().map(|m| MicroBatch::new(m).unwrap()).collect()).unwrap()
    };
    GlobalBatch::new(ranks.into_iter().map(rank).collect()).unwrap()
}

/// 44 predictions over two ranks of two and three micro-batches, no two groups with the same number of
/// supervised tokens.
fn ragged() -> GlobalBatch {
    let random = &mut ChaCha8Rng::seed_from_u64(44);
    batch_of(vec![
        vec![
            vec![sequence(random, 9, |p| p < 3), sequence(random, 4, |_| false)],
            vec![
                sequence(random, 7, |p| p == 0),
                sequence(random, 12, |p| p == 5),
                sequence(random, 2, |_| false),
            ],
        ],
        vec![
            vec![sequence(random, 8, |_| false)],
            vec![sequence(random, 6, |p| p < 2)],
            vec![sequence(random, 4, |_| false)],
        ],
    ])
}

fn at_probe(mut subject: Door) -> Door {
    subject.parameter_loading().unwrap().load(&probe_initial(CONFIG.shape(), 1)).unwrap();
    subject
}

fn reference_basis(spec: &LossSpec, batch: &GlobalBatch) -> Basis {
    Basis::of_reference(&mut *at_probe(ours(CONFIG, Dtype::F64)), spec, batch).unwrap()
}

fn observed(subject: &mut Door, spec: &LossSpec, batch: &GlobalBatch) -> Observed {
    subject.configure(spec).unwrap();
    Observed::of(&mut **subject, batch).unwrap()
}

fn expected(spec: &LossSpec, batch: &GlobalBatch) -> Vec<f64> {
    TokenWeights::new(spec, &batch.layout()).unwrap().per_prediction(batch)
}

fn faulty(id: &str) -> Door {
    Fault::named(id).unwrap().inject(at_probe(ours(CONFIG, Dtype::F64)))
}

#[track_caller]
fn assert_weights(tomogram: &Tomogram, expected: &[f64], within: f64) {
    assert_eq!(tomogram.weights.len(), expected.len());
    for (weight, expected) in tomogram.weights.iter().zip(expected) {
        let error = (weight.value - expected).abs();
        assert!(error <= within, "{weight:?}, expected {expected}\n{tomogram:?}");
        assert!(error <= weight.error, "its own bound: {weight:?}, expected {expected}\n{tomogram:?}");
    }
}

const PRESETS: [fn() -> LossSpec; 8] = [
    LossSpec::sum,
    LossSpec::token_mean,
    LossSpec::sequence_mean,
    LossSpec::batch_mean,
    LossSpec::naive_accumulated_mean,
    LossSpec::forgotten_division,
    LossSpec::naive_data_parallel,
    LossSpec::averaging_not_undone,
];

#[test]
fn the_weights_of_every_preset_are_recovered() {
    let batch = ragged();
    assert_eq!(batch.predictions().count(), 44);
    let start = Instant::now();
    let basis = reference_basis(&LossSpec::sum(), &batch);
    println!("basis of 44 predictions: {:.2} s", start.elapsed().as_secs_f64());
    for (dtype, within) in [(Dtype::F64, 1e-10), (Dtype::F32, 1e-5)] {
        for subject in [ours(CONFIG, dtype), theirs(CONFIG, dtype)] {
            let mut subject = at_probe(subject);
            for preset in PRESETS {
                let observed = observed(&mut subject, &preset(), &batch);
                let start = Instant::now();
                let tomogram = recover(&basis, &observed.gradient, &observed.precision).unwrap();
                let seconds = start.elapsed().as_secs_f64();
                let truth = expected(&preset(), &batch);
                let error = |(weight, truth): (&Weight, &f64)| (weight.value - truth).abs();
                let worst = tomogram.weights.iter().zip(&truth).map(error).fold(0.0, f64::max);
                println!(
                    "{} {dtype} {}: {seconds:.2} s, worst error {worst:.1e}, condition {:.1}, residual {:.1e} of {:.1e}",
                    subject.info().name,
                    preset(),
                    tomogram.condition,
                    tomogram.residual,
                    tomogram.bound,
                );
                assert!(tomogram.is_explained(), "{tomogram:?}");
                assert!(tomogram.groups.is_empty() && tomogram.condition < 10.0);
                assert_weights(&tomogram, &truth, within);
            }
        }
    }
}

#[test]
fn smoothing_and_z_loss_belong_to_the_token_loss() {
    let batch = ragged();
    let spec = LossSpec { label_smoothing: 0.1, z_loss: 1e-2, ..LossSpec::naive_accumulated_mean() };
    let mut subject = at_probe(theirs(CONFIG, Dtype::F64));
    let observed = observed(&mut subject, &spec, &batch);
    let basis = reference_basis(&spec, &batch);
    let tomogram = recover(&basis, &observed.gradient, &observed.precision).unwrap();
    assert!(tomogram.is_explained());
    assert_weights(&tomogram, &expected(&spec, &batch), 1e-10);
    let plain = recover(&reference_basis(&LossSpec::sum(), &batch), &observed.gradient, &observed.precision);
    assert!(!plain.unwrap().is_explained());
}

#[test]
fn positions_that_share_prefix_and_label_are_a_group() {
    let random = &mut ChaCha8Rng::seed_from_u64(3);
    let (first, second) = (sequence(random, 6, |_| false), sequence(random, 5, |_| false));
    let shared: Vec<u32> = first.input_ids()[..4].iter().chain(&second.input_ids()[..2]).copied().collect();
    let third = Sequence::new(shared.clone(), shared.iter().map(|&t| i64::from(t)).collect()).unwrap();
    let batch = batch_of(vec![vec![vec![first], vec![second, third]]]);
    let spec = LossSpec::naive_accumulated_mean();
    for dtype in [Dtype::F64, Dtype::F32] {
        let observed = observed(&mut at_probe(ours(CONFIG, dtype)), &spec, &batch);
        let basis = reference_basis(&spec, &batch);
        let tomogram = recover(&basis, &observed.gradient, &observed.precision).unwrap();
        let members: Vec<_> = tomogram.groups.iter().map(|group| group.members.clone()).collect();
        // Predictions 0, 1, 2 of the first sequence are the third's, which are 9, 10, 11 of the batch.
        assert_eq!(members, [[0, 9], [1, 10], [2, 11]], "{tomogram:?}");
        let truth = expected(&spec, &batch);
        for group in &tomogram.groups {
            let (sum, error) = group.sum.unwrap();
            let truth: f64 = group.members.iter().map(|&t| truth[t]).sum();
            assert!((sum - truth).abs() <= error && error < 1e-2, "{tomogram:?}");
        }
        for (weight, truth) in tomogram.weights.iter().zip(&truth) {
            assert!(weight.group.is_some() || (weight.value - truth).abs() <= weight.error);
        }
    }
}

#[test]
fn wrong_weights_are_shown_as_they_are() {
    let batch = ragged();
    let basis = reference_basis(&LossSpec::sum(), &batch);
    let spec = LossSpec::token_mean();
    let (tokens, starts) =
        (batch.layout().supervised(), batch.sequences().filter(|s| s.labels()[0] >= 0).count());
    assert!(starts > 0);
    let naive = expected(&LossSpec::naive_accumulated_mean(), &batch);
    let counted = expected(&spec, &batch).into_iter();
    let counted = counted.map(|w| w * tokens as f64 / (tokens + starts) as f64).collect();
    for (id, truth) in [("ga-mean-of-means", naive), ("counted-before-shift", counted)] {
        let observed = observed(&mut faulty(id), &spec, &batch);
        let tomogram = recover(&basis, &observed.gradient, &observed.precision).unwrap();
        assert!(tomogram.is_explained(), "{id}: {tomogram:?}");
        assert_weights(&tomogram, &truth, 1e-10);
    }
}

#[test]
fn a_wrong_backward_pass_shows_in_the_parts_it_is_wrong_in_and_does_not_bend_the_weights() {
    let batch = ragged();
    let spec = LossSpec::token_mean();
    let basis = reference_basis(&spec, &batch);
    for (id, parts) in [
        ("concat-gradient-misaligned", &["c_attn.weight[key]", "c_attn.bias[key]"][..]),
        (
            "grad-assigned-not-accumulated",
            &["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "ln_f.weight", "ln_f.bias"],
        ),
        ("backward-factor", &["h.0.mlp.c_fc.weight"]),
        ("last-element-lost", &["h.0.attn.c_proj.bias"]),
    ] {
        let observed = observed(&mut faulty(id), &spec, &batch);
        let start = Instant::now();
        let tomogram = recover(&basis, &observed.gradient, &observed.precision).unwrap();
        println!("{id}: {:.2} s\n{}", start.elapsed().as_secs_f64(), tomogram.fault().unwrap());
        assert_weights(&tomogram, &expected(&spec, &batch), 1e-10);
        let share: f64 = tomogram.unexplained.iter().map(|part| part.share).sum();
        assert!((share - 1.0).abs() < 1e-9);
        for part in &tomogram.unexplained {
            assert!(parts.iter().any(|end| part.name.ends_with(end)), "{id}: {tomogram:?}");
        }
        for end in parts {
            assert!(
                tomogram.unexplained.iter().any(|part| part.name.ends_with(end)),
                "{id}: {end}: {tomogram:?}"
            );
        }
    }
}

#[test]
fn a_layer_norm_that_keeps_the_last_micro_batch_shows_its_own_weights() {
    let batch = ragged();
    let spec = LossSpec::token_mean();
    let basis = reference_basis(&spec, &batch);
    let observed = observed(&mut faulty("grad-assigned-not-accumulated"), &spec, &batch);
    let regions = recover_by_region(&basis, &observed.gradient, &observed.precision).unwrap();
    let whole = expected(&spec, &batch);
    // The last micro-batch of rank 0 has sequences 2, 3 and 4, that of rank 1 has sequence 7.
    let last = batch.predictions().zip(&whole);
    let last: Vec<f64> =
        last.map(|(p, w)| if [2, 3, 4, 7].contains(&p.sequence) { *w } else { 0.0 }).collect();
    let mut norms = 0;
    for region in &regions {
        println!("{}: condition {:.1}", region.name, region.tomogram.condition);
        assert!(
            region.tomogram.is_explained(),
            "{}: {}",
            region.name,
            region.tomogram.fault().unwrap_or_default()
        );
        let of_norms = region.name == "layer norms";
        norms += usize::from(of_norms);
        assert_weights(&region.tomogram, if of_norms { &last } else { &whole }, 1e-9);
    }
    let parameters: usize = regions.iter().map(|region| region.parameters.len()).sum();
    assert_eq!((norms, parameters), (1, probe_initial(CONFIG.shape(), 1).len()));
}

/// A trainer that takes no ignored labels.
fn strict(honest: Door) -> Door {
    let info = |(): &(), info: SubjectInfo| SubjectInfo {
        limits: Limits { ignore_index: false, ..info.limits },
        ..info
    };
    wrap(honest, (), Hooks { info, ..Hooks::IDENTITY })
}

#[test]
fn the_three_bases_agree() {
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    let batch = batch_of(vec![
        vec![
            vec![sequence(random, 5, |_| false)],
            vec![sequence(random, 3, |_| false), sequence(random, 6, |_| false)],
        ],
        vec![vec![sequence(random, 4, |_| false)]],
    ]);
    let spec = LossSpec::naive_accumulated_mean();
    let truth = expected(&spec, &batch);
    let parameters = probe_initial(CONFIG.shape(), 1);
    for dtype in [Dtype::F64, Dtype::F32] {
        let mut subject = at_probe(ours(CONFIG, dtype));
        let observed = observed(&mut subject, &spec, &batch);
        let reference = reference_basis(&spec, &batch);
        let by_reference = recover(&reference, &observed.gradient, &observed.precision).unwrap();

        let start = Instant::now();
        let own =
            Basis::self_calibrated(&mut *subject, Some(&parameters), &batch, &spec, &observed.precision)
                .unwrap();
        let by_itself = recover(&own, &observed.gradient, &observed.precision).unwrap();
        println!("{dtype} self-calibration: {:.2} s", start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut strict = strict(subject);
        let precision = &observed.precision;
        assert!(Basis::self_calibrated(&mut *strict, Some(&parameters), &batch, &spec, precision).is_err());
        let by_swaps = label_swaps(&mut *strict, Some(&parameters), &batch, &spec, precision).unwrap();
        println!("{dtype} label swaps: {:.2} s", start.elapsed().as_secs_f64());

        let single = dtype == Dtype::F32;
        for (name, tomogram, within) in [
            ("reference", &by_reference, if single { 1e-5 } else { 1e-10 }),
            ("self-calibration", &by_itself, if single { 1e-3 } else { 1e-8 }),
            ("label swaps", &by_swaps, if single { 1e-3 } else { 1e-8 }),
        ] {
            let errors = tomogram.weights.iter().zip(&truth).map(|(w, truth)| (w.value - truth).abs());
            let bound = tomogram.weights.iter().map(|weight| weight.error).fold(0.0, f64::max);
            println!(
                "{dtype} {name}: worst error {:.1e}, largest bound {bound:.1e}",
                errors.fold(0.0, f64::max)
            );
            for open in &tomogram.undetermined {
                println!("    undetermined: {open}");
            }
            assert!(tomogram.is_explained(), "{name}: {tomogram:?}");
            assert_weights(tomogram, &truth, within);
        }
        assert!(by_reference.undetermined.is_empty() && !by_itself.undetermined.is_empty());
    }
}

#[test]
fn a_trainer_that_logs_one_loss_and_optimises_another_is_caught() {
    let batch = ragged();
    let spec = LossSpec::token_mean();
    let basis = reference_basis(&spec, &batch);
    for (mut subject, logged) in [
        (at_probe(ours(CONFIG, Dtype::F64)), spec),
        (at_probe(theirs(CONFIG, Dtype::F32)), spec),
        (faulty("log-loss-misscaled-under-ga"), LossSpec::naive_accumulated_mean()),
    ] {
        let observed = observed(&mut subject, &spec, &batch);
        let of_gradient = recover(&basis, &observed.gradient, &observed.precision).unwrap();
        let mut evaluator = at_probe(ours(CONFIG, Dtype::F64));
        let start = Instant::now();
        let precision = &observed.precision;
        let losses =
            ReportedLosses::of(&mut *subject, Some(&mut *evaluator), &batch, &spec, precision, 2).unwrap();
        let of_loss = losses.recover().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: {seconds:.2} s, condition {:.1}", subject.info().name, of_loss.condition);
        assert!(of_loss.is_explained(), "{of_loss:?}");
        let within = if subject.info().dtypes.gradient == Dtype::F64 { 1e-10 } else { 1e-4 };
        assert_weights(&of_gradient, &expected(&spec, &batch), within);
        assert_weights(&of_loss, &expected(&logged, &batch), within);
        let apart = disagreement(&of_gradient, &of_loss);
        assert_eq!(apart.is_some(), logged != spec, "{apart:?}");
        if let Some(apart) = apart {
            println!("{apart}");
        }
    }
}

#[test]
fn weights_show_in_parameters_before_and_after_a_step() {
    let batch = ragged();
    let declared = LossSpec::naive_accumulated_mean();
    let parameters = probe_initial(CONFIG.shape(), 1);
    for (mut subject, within) in [
        (ours(CONFIG, Dtype::F64), 1e-10),
        (theirs(CONFIG, Dtype::F32), 1e-5),
        (ours(CONFIG, Dtype::F32), 1e-5),
    ] {
        let mut reference = ours(CONFIG, Dtype::F64);
        let setup =
            ScanSetup { batch: &batch, declared, parameters: &parameters, reference: Some(&mut *reference) };
        let scan = Scan::of(&mut *subject, setup).unwrap();
        let step = scan.step.as_ref().unwrap();
        let tomogram = step.tomogram.as_ref().unwrap();
        assert!(tomogram.is_explained(), "{tomogram:?}");
        assert_weights(tomogram, &expected(&declared, &batch), within);
        assert_eq!(scan.agreement(), Agreement::Agrees);
    }
}

#[test]
fn a_step_that_applies_another_gradient_than_is_handed_over_disagrees() {
    let batch = ragged();
    let declared = LossSpec::token_mean();
    let parameters = probe_initial(CONFIG.shape(), 1);
    let halved = Hooks {
        start: |(): &mut (), inner, optimizer| {
            let learning_rate = 0.5 * optimizer.learning_rate;
            inner.optimizer_steps().unwrap().start(&Optimizer { learning_rate, ..*optimizer })
        },
        ..Hooks::IDENTITY
    };
    let mut subject = wrap(ours(CONFIG, Dtype::F64), (), halved);
    let mut reference = theirs(CONFIG, Dtype::F64);
    let setup =
        ScanSetup { batch: &batch, declared, parameters: &parameters, reference: Some(&mut *reference) };
    let scan = Scan::of(&mut *subject, setup).unwrap();
    assert_eq!(scan.gradient.as_ref().unwrap().agreement(), Agreement::Agrees);
    let step = scan.step.as_ref().unwrap();
    assert_eq!(step.agreement(), Agreement::Disagrees);
    let said = step.comparison.as_ref().unwrap().to_string();
    assert!(said.contains("every weight divided by what it should be is 0.5000 = 1/2"), "{said}");
    assert_eq!(scan.agreement(), Agreement::Disagrees);
}

#[test]
fn a_mean_of_nothing_is_read_as_the_empty_policy_that_makes_it() {
    let random = &mut ChaCha8Rng::seed_from_u64(5);
    let batch =
        batch_of(vec![vec![vec![sequence(random, 4, |_| true)], vec![sequence(random, 6, |_| false)]]]);
    let parameters = probe_initial(CONFIG.shape(), 1);
    for empty in [EmptyPolicy::Nan, EmptyPolicy::Error] {
        let declared = LossSpec { empty, ..LossSpec::naive_accumulated_mean() };
        let setup = ScanSetup { batch: &batch, declared, parameters: &parameters, reference: None };
        let scan = Scan::of(&mut *ours(CONFIG, Dtype::F64), setup).unwrap();
        let reading = scan.gradient.as_ref().unwrap();
        assert!(reading.tomogram.is_none() && scan.log.is_err() && scan.step.is_err(), "{reading:?}");
        assert_eq!(scan.agreement(), Agreement::Agrees);
        assert!(reading.comparison.as_ref().unwrap().agrees, "{empty:?}: {:?}", reading.comparison);
    }
}
