//! Loss traces: both implementations train gpt2-nano on the shipped text for 60 steps, and mistakes in the loop are seen.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use lossproof::{
    Adam, Clip, Decayed, Dtype, EpsilonPlacement, Optimizer, Rule, assert_trace,
    trace::{Difference, Numbers, Plan, Quantity, Segment, Tolerance, Trace, compare, record},
};
use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_tests::{ByHand, Door, Mistake, error_model, ours, text_batches, theirs};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const CONFIG: Config = Config::Nano;

/// 20 steps of plain SGD, which hides no scale; 20 with momentum and clipping; 20 of `AdamW` with a warm-up.
fn plan() -> Plan {
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.1,
        decayed: Decayed::Matrices,
    };
    let sgd = Optimizer::sgd(0.3);
    let momentum = Optimizer {
        rule: Rule::Sgd { momentum: 0.9, weight_decay: 0.0 },
        clip: Some(Clip { max_norm: 1.0, epsilon: 1e-6 }),
        ..Optimizer::sgd(0.1)
    };
    let adamw = Optimizer { rule: Rule::AdamW(adam), warm_up: 5, ..Optimizer::sgd(3e-3) };
    let segments = [sgd, momentum, adamw].map(|optimizer| Segment { optimizer, steps: 20 });
    Plan {
        config: CONFIG.name().to_owned(),
        seed: 0,
        loss: LossSpec::token_mean(),
        segments: segments.to_vec(),
    }
}

/// One micro-batch, then two, then three and two on two ranks.
fn batches() -> impl Iterator<Item = GlobalBatch> {
    let layout = |step: usize| -> &'static [&'static [usize]] {
        match step / 20 {
            0 => &[&[4]],
            1 => &[&[2, 3]],
            _ => &[&[2, 1, 2], &[1, 2]],
        }
    };
    text_batches(layout, 64, 0)
}

fn run(mut subject: Door) -> Trace {
    subject.parameter_loading().unwrap().load(&gpt2_initial(CONFIG.shape(), 0)).unwrap();
    record(&mut *subject, &plan(), batches()).unwrap()
}

/// How far rounding may carry two traces apart: the model of the largest batch.
fn tolerance(dtype: Dtype) -> Tolerance {
    let positions = |batch: &GlobalBatch| batch.sequences().map(lossproof_spec::Sequence::len).sum::<usize>();
    let largest = batches().take(60).max_by_key(positions).unwrap();
    Tolerance::rounding(&error_model(CONFIG.shape(), &largest), dtype)
}

/// Where a trainer with this mistake parts from the reference.
fn parts(mistake: Mistake) -> Box<Numbers> {
    let (right, wrong) =
        (run(ours(CONFIG, Dtype::F64)), run(Box::new(ByHand::new(ours(CONFIG, Dtype::F64), mistake))));
    match compare(&right, &wrong, &tolerance(Dtype::F64)).unwrap_err() {
        Difference::Numbers(numbers) => numbers,
        other => panic!("the same run, but {other}"),
    }
}

#[test]
fn both_implementations_report_the_same_in_double_precision() {
    let (right, other) = (run(ours(CONFIG, Dtype::F64)), run(theirs(CONFIG, Dtype::F64)));
    let agreement = compare(&right, &other, &tolerance(Dtype::F64)).unwrap_or_else(|apart| panic!("{apart}"));
    // What the bounds leave is far more than what there is, and every parameter was compared.
    assert!(agreement.loss.fraction() < 0.1 && agreement.norms.fraction() < 0.5, "{agreement:?}");
    assert_eq!(agreement.unchecked, Vec::<String>::new());
    let hand = run(Box::new(ByHand::new(ours(CONFIG, Dtype::F64), Mistake::Nothing)));
    compare(&right, &hand, &tolerance(Dtype::F64))
        .unwrap_or_else(|apart| panic!("a third optimizer: {apart}"));
}

#[test]
fn the_run_is_one_that_can_tell() {
    let trace = run(ours(CONFIG, Dtype::F64));
    let steps = trace.steps();
    let mean = |range: std::ops::Range<usize>| {
        steps[range.clone()].iter().map(|step| step.loss).sum::<f64>() / range.len() as f64
    };
    assert!(mean(15..20) < mean(0..5) - 1.0 && mean(55..60) < mean(20..25), "it learns");
    let clipped = |step: &lossproof::trace::Step| step.clip_factor < 1.0;
    assert!(steps[20..40].iter().any(clipped) && !steps[20..40].iter().all(clipped));
}

#[test]
fn the_traces_are_those_of_the_snapshots() {
    assert_trace!("reference_f64", run(ours(CONFIG, Dtype::F64)), tolerance(Dtype::F64));
    assert_trace!("libtorch_f64", run(theirs(CONFIG, Dtype::F64)), tolerance(Dtype::F64));
    assert_trace!("reference_f32", run(ours(CONFIG, Dtype::F32)), tolerance(Dtype::F32));
    assert_trace!("libtorch_f32", run(theirs(CONFIG, Dtype::F32)), tolerance(Dtype::F32));
}

#[test]
fn the_same_run_on_the_same_machine_gives_the_same_bytes() {
    for make in [ours, theirs] {
        let [one, other] = [(), ()].map(|()| run(make(CONFIG, Dtype::F32)).to_json_lines());
        assert_eq!(one, other);
    }
}

#[test]
fn a_gradient_eight_times_too_large_is_named_at_the_first_step() {
    let apart = parts(Mistake::ScaledGradients(8.0));
    assert_eq!((apart.step, &apart.quantity), (1, &Quantity::GradNorm));
    assert!((apart.ratio() - 8.0).abs() < 1e-9, "{}", apart.ratio());
}

#[test]
fn a_gradient_off_by_a_millionth_is_seen() {
    let apart = parts(Mistake::ScaledGradients(1.0 + 1e-6));
    assert_eq!(apart.step, 1);
    assert!((apart.ratio() - (1.0 + 1e-6)).abs() < 1e-9);
}

#[test]
fn a_schedule_that_advances_per_micro_batch_is_named() {
    let apart = parts(Mistake::SchedulePerMicroBatch);
    // The first segments have no warm-up; the second step of the third is the first one that differs.
    assert_eq!((apart.step, &apart.quantity), (42, &Quantity::LearningRate));
}

#[test]
fn clipping_per_micro_batch_is_named() {
    let apart = parts(Mistake::ClippedPerMicroBatch);
    assert!((21..=40).contains(&apart.step), "the segment with clipping, not step {}", apart.step);
    assert!(matches!(apart.quantity, Quantity::GradNorm | Quantity::ClipFactor | Quantity::TensorNorm(_)));
}

/// What `docs/traces.md` shows of a failure is what is said.
#[test]
fn the_documentation_shows_a_real_failure() {
    let document = include_str!("../../docs/traces.md");
    let shown = document.split_once("<!-- failure").unwrap().1.split_once("```text\n").unwrap().1;
    let shown = shown.split_once("```").unwrap().0;
    let said = Difference::Numbers(parts(Mistake::ScaledGradients(8.0))).to_string();
    // The last digits are those of the processor.
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace().map(|word| word.chars().take(10).collect()).collect()
    };
    assert_eq!(words(&said), words(shown), "{said}");
}

/// Run by the next test in a process of its own, with a gradient that is off by what the environment says.
#[test]
#[ignore = "a part of insta_updates_as_people_expect"]
fn a_run_that_may_be_off() {
    let factor: f64 = env::var("LOSSPROOF_TRACE_FACTOR").unwrap().parse().unwrap();
    let subject = ByHand::new(ours(CONFIG, Dtype::F64), Mistake::ScaledGradients(factor));
    assert_trace!("reference_f64", run(Box::new(subject)), tolerance(Dtype::F64));
}

#[test]
fn insta_updates_as_people_expect() {
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/traces__reference_f64.snap");
    let new = PathBuf::from(format!("{}.new", snapshot.display()));
    let before = fs::read(&snapshot).unwrap();
    let run = |factor: &str, update: &str| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "a_run_that_may_be_off", "--ignored", "--nocapture"]);
        let output =
            command.env("LOSSPROOF_TRACE_FACTOR", factor).env("INSTA_UPDATE", update).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let left_new = new.exists();
        if left_new {
            fs::remove_file(&new).unwrap();
        }
        (output.status.success(), left_new, said)
    };
    // Within the tolerance: nothing happens, whatever insta is told.
    for update in ["no", "new"] {
        let (passed, left_new, said) = run("1.00000000000000022", update);
        assert!(passed && !left_new, "{said}");
    }
    let (passed, left_new, said) = run("1.001", "no");
    assert!(!passed && !left_new);
    assert!(said.contains("the traces part at step 1 of 60: grad norm"), "{said}");
    let (passed, left_new, _) = run("1.001", "new");
    assert!(!passed && left_new, "cargo insta review needs a new snapshot");
    assert_eq!(fs::read(&snapshot).unwrap(), before, "a failing test leaves the snapshot as it is");
}
