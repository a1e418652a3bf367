//! Loss traces: both implementations train gpt2-nano on the shipped text for 60 steps, and mistakes in the loop are
//! seen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule, Sequence,
};
use lossproof_tests::{Door, Mistake, by_hand, error_model, ours, text_batches, theirs};
use lossproof_trace::assert_trace;
use lossproof_trace::{
    Difference, Numbers, Plan, Quantity, Segment, Step, Tolerance, Trace, compare, record,
};
use rayon::ThreadPoolBuilder;
use std::{env, fs, path::Path, process::Command, sync::LazyLock};

const CONFIG: Config = Config::Nano;

/// Steps of each segment.
const STEPS: usize = 20;

/// What the reference reports in double precision.
static REFERENCE: LazyLock<Trace> = LazyLock::new(|| run(ours(CONFIG, Dtype::F64), &plan()));

/// The learning rate of `AdamW`.
const RATE: f64 = 1e-3;

fn sgd() -> Optimizer {
    Optimizer::sgd(0.3)
}

fn momentum() -> Optimizer {
    Optimizer {
        rule: Rule::Sgd { momentum: 0.9, weight_decay: 0.0 },
        clip: Some(Clip { max_norm: 1.0, epsilon: 1e-6 }),
        ..Optimizer::sgd(0.1)
    }
}

fn adam_w(learning_rate: f64) -> Optimizer {
    let adam = Adam {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.1,
        decayed: Decayed::Matrices,
    };
    Optimizer { rule: Rule::AdamW(adam), warm_up: 5, ..Optimizer::sgd(learning_rate) }
}

fn of_segments(optimizers: &[Optimizer]) -> Plan {
    let segments = optimizers.iter().map(|&optimizer| Segment { optimizer, steps: STEPS }).collect();
    Plan { config: CONFIG.name().to_owned(), seed: 0, loss: LossSpec::token_mean(), segments }
}

/// Plain SGD, which hides no scale; momentum and clipping; `AdamW` with a warm-up.
fn plan() -> Plan {
    of_segments(&[sgd(), momentum(), adam_w(RATE)])
}

/// One micro-batch; two; three and two on two ranks.
fn batches() -> impl Iterator<Item = GlobalBatch> {
    let layout = |step: usize| -> &'static [&'static [usize]] {
        match step / STEPS {
            0 => &[&[4]],
            1 => &[&[2, 3]],
            _ => &[&[2, 1, 2], &[1, 2]],
        }
    };
    text_batches(layout, CONFIG.shape().positions, 0)
}

fn run(mut subject: Door, plan: &Plan) -> Trace {
    subject.parameter_loading().unwrap().load(&gpt2_initial(CONFIG.shape(), plan.seed)).unwrap();
    record(&mut *subject, plan, batches()).unwrap()
}

/// The reference in double precision, its steps taken by hand with this mistake.
fn with(mistake: Mistake, plan: &Plan) -> Trace {
    run(by_hand(ours(CONFIG, Dtype::F64), mistake), plan)
}

/// From the rounding model of the largest batch.
fn tolerance(dtype: Dtype) -> Tolerance {
    let positions = |batch: &GlobalBatch| batch.sequences().map(Sequence::len).sum::<usize>();
    let largest = batches().take(plan().steps()).max_by_key(positions).unwrap();
    Tolerance::rounding(&error_model(CONFIG.shape(), &largest), dtype)
}

fn numbers(expected: &Trace, actual: &Trace) -> Box<Numbers> {
    match compare(expected, actual, &tolerance(Dtype::F64)).unwrap_err() {
        Difference::Numbers(numbers) => numbers,
        other => panic!("the same run, but {other}"),
    }
}

/// Where a trainer with this mistake parts from the reference.
fn parts(mistake: Mistake) -> Box<Numbers> {
    numbers(&REFERENCE, &with(mistake, &plan()))
}

#[test]
fn the_run_is_one_that_can_tell() {
    let segments: Vec<_> = REFERENCE.steps().chunks(STEPS).collect();
    let mean = |steps: &[Step]| steps.iter().map(|step| step.loss).sum::<f64>() / steps.len() as f64;
    assert!(mean(&segments[0][STEPS - 5..]) < mean(&segments[0][..5]) - 1.0, "plain SGD learns");
    assert!(mean(&segments[2][STEPS - 5..]) < mean(&segments[1][..5]) - 0.1, "and it goes on");
    let clipped = segments[1].iter().filter(|step| step.clip_factor < 1.0).count();
    assert!((3..=STEPS - 3).contains(&clipped), "{clipped} steps are clipped");
    let rates: Vec<_> = segments[2].iter().map(|step| step.learning_rate).collect();
    assert!(rates[..5].is_sorted_by(|a, b| a < b), "{rates:?}");
}

#[test]
fn implementations_agree_in_double_precision() {
    for other in [run(theirs(CONFIG, Dtype::F64), &plan()), with(Mistake::Nothing, &plan())] {
        let agreement =
            compare(&REFERENCE, &other, &tolerance(Dtype::F64)).unwrap_or_else(|at| panic!("{at}"));
        eprintln!("{agreement:?}");
        assert!(agreement.unchecked.is_empty(), "{agreement:?}");
    }
}

#[test]
fn single_precision_agrees_with_double_precision() {
    for make in [ours, theirs] {
        let single = run(make(CONFIG, Dtype::F32), &plan());
        let agreement =
            compare(&REFERENCE, &single, &tolerance(Dtype::F32)).unwrap_or_else(|at| panic!("{at}"));
        eprintln!("{agreement:?}");
        assert!(agreement.unchecked.is_empty(), "{agreement:?}");
    }
}

/// The growth of the tolerance covers what a rounding in every step's gradient is measured to cause, and is needed
/// to: each tensor is perturbed by a fraction η of its norm, in random directions and along itself, on a run with a
/// learning rate that is high for `AdamW`.
#[test]
fn the_growth_of_the_tolerance_is_the_one_measured() {
    const ETA: f64 = 1e-9;
    let plan = of_segments(&[sgd(), momentum(), adam_w(3.0 * RATE)]);
    let undisturbed = with(Mistake::Nothing, &plan);
    let tolerance = tolerance(Dtype::F64);
    // In multiples of the rounding that is expected of one step, whose place η takes.
    let loss_allowed =
        |step| (tolerance.loss(step).powi(2) - tolerance.loss(1).powi(2)).sqrt() / tolerance.nothing();
    let norm_allowed = |step| tolerance.norm(step) / tolerance.nothing();
    let response = |before: f64, after: f64| (after / before - 1.0).abs() / ETA;

    let random = (0..3).map(|seed| Mistake::Rounded { relative: ETA, seed });
    let (mut loss, mut norms, mut without_growth) = (0.0_f64, 0.0_f64, 0.0_f64);
    for injected in random.chain([Mistake::ScaledGradients(1.0 + ETA)]) {
        let disturbed = with(injected, &plan);
        // At the first step the loss knows nothing of it.
        for (before, after) in undisturbed.steps().iter().zip(disturbed.steps()).skip(1) {
            loss = loss.max(response(before.loss, after.loss) / loss_allowed(before.step));
            for (&a, &b) in before.tensor_norms.iter().zip(&after.tensor_norms) {
                norms = norms.max(response(a, b) / norm_allowed(before.step));
                without_growth = without_growth.max(response(a, b) / norm_allowed(1));
            }
        }
    }
    eprintln!("of what is allowed: loss {loss}, norms {norms}, norms without growth {without_growth}");
    assert!((0.005..1.0).contains(&loss) && (0.1..1.0).contains(&norms) && without_growth > 1.0);
}

/// One snapshot for both in double precision, and one for each in single precision.
#[test]
fn the_traces_are_those_of_the_snapshots() {
    let single = |make: fn(Config, Dtype) -> Door| run(make(CONFIG, Dtype::F32), &plan());
    assert_trace!("f64", *REFERENCE, tolerance(Dtype::F64));
    assert_trace!("f64", run(theirs(CONFIG, Dtype::F64), &plan()), tolerance(Dtype::F64));
    assert_trace!("reference_f32", single(ours), tolerance(Dtype::F32));
    assert_trace!("libtorch_f32", single(theirs), tolerance(Dtype::F32));
}

#[test]
fn a_run_gives_the_same_bytes_again_and_on_any_number_of_threads() {
    for make in [ours, theirs] {
        let bytes = |threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(make(CONFIG, Dtype::F32), &plan()).to_json_lines())
        };
        let once = bytes(1);
        assert!(bytes(1) == once, "again");
        assert!(bytes(3) == once, "on three threads");
    }
}

#[test]
fn a_gradient_eight_times_too_large_is_named_at_the_first_step() {
    let numbers = parts(Mistake::ScaledGradients(8.0));
    assert_eq!((numbers.step, &numbers.quantity), (1, &Quantity::GradNorm));
    assert!((numbers.ratio() - 8.0).abs() < 1e-12, "{}", numbers.ratio());
    // The total and every parameter's, and no loss yet.
    assert_eq!(numbers.others.len(), REFERENCE.header().parameters.len());
}

/// What a loss curve alone would have said.
#[test]
fn adam_hides_the_scale_from_the_loss() {
    let plan = of_segments(&[adam_w(RATE)]);
    let (right, eightfold) = (with(Mistake::Nothing, &plan), with(Mistake::ScaledGradients(8.0), &plan));
    let pairs = || right.steps().iter().zip(eightfold.steps());
    let furthest = pairs().map(|(a, b)| (b.loss / a.loss - 1.0).abs()).fold(0.0, f64::max);
    eprintln!("the loss is {furthest:.1e} off at most");
    assert!((1e-9..1e-5).contains(&furthest), "{furthest:e}");
    assert!(pairs().all(|(a, b)| (b.grad_norm / a.grad_norm / 8.0 - 1.0).abs() < 1e-2));
}

#[test]
fn one_parameters_gradient_off_by_a_millionth_is_named_at_the_first_step() {
    const NAME: &str = "h.1.mlp.c_fc.weight";
    let numbers = parts(Mistake::ScaledGradient(NAME, 1.0 + 1e-6));
    assert_eq!((numbers.step, &numbers.quantity), (1, &Quantity::TensorNorm(NAME.to_owned())));
    assert!((numbers.ratio() - (1.0 + 1e-6)).abs() < 1e-12, "{}", numbers.ratio());
}

#[test]
fn a_schedule_that_advances_per_micro_batch_is_named() {
    let numbers = parts(Mistake::SchedulePerMicroBatch);
    // Only the third segment has a schedule. Its second step is the fourth that was scheduled.
    assert_eq!((numbers.step, &numbers.quantity), (2 * STEPS + 2, &Quantity::LearningRate));
    assert!((numbers.ratio() - 4.0 / 2.0).abs() < 1e-12, "{}", numbers.ratio());
}

#[test]
fn clipping_per_micro_batch_is_named() {
    let numbers = parts(Mistake::ClippedPerMicroBatch);
    // Only the second segment clips, and its first step is one that is clipped.
    assert_eq!((numbers.step, &numbers.quantity), (STEPS + 1, &Quantity::GradNorm));
    assert_eq!(numbers.others[0], Quantity::ClipFactor);
}

/// What `docs/traces.md` shows of a failure is what is said.
#[test]
fn the_documentation_shows_a_real_failure() {
    let document = include_str!("../../docs/traces.md");
    let shown = document.split_once("<!-- failure:").unwrap().1.split_once("```text\n").unwrap().1;
    let shown = shown.split_once("```").unwrap().0;
    let plan = of_segments(&[adam_w(RATE)]);
    let reference = run(ours(CONFIG, Dtype::F64), &plan);
    let said =
        Difference::Numbers(numbers(&reference, &with(Mistake::ScaledGradients(8.0), &plan))).to_string();
    // The last digits are the processor's.
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace().map(|word| word.chars().take(10).collect()).collect()
    };
    assert_eq!(words(&said), words(shown), "\n{said}");
}

/// Where the guard of [`insta_does_what_people_expect`] keeps its snapshot, in the process that is one.
const DIRECTORY: &str = "LOSSPROOF_TEST_TRACES";
/// What its gradients are multiplied with.
const FACTOR: &str = "LOSSPROOF_TEST_FACTOR";

/// A stranger's test of a trainer.
fn guard(directory: &Path) {
    let factor = env::var(FACTOR).unwrap().parse().unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory);
    settings.set_prepend_module_to_snapshot(false);
    let trace = with(Mistake::ScaledGradients(factor), &of_segments(&[sgd()]));
    settings.bind(|| assert_trace!("guard", trace, tolerance(Dtype::F64)));
}

#[test]
fn insta_does_what_people_expect() {
    const NAME: &str = "insta_does_what_people_expect";
    if let Some(directory) = env::var_os(DIRECTORY) {
        return guard(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let (kept, new) = (directory.path().join("guard.snap"), directory.path().join("guard.snap.new"));
    let run = |update: &str, factor: &str| {
        let mut command = Command::new(env::current_exe().unwrap());
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("INSTA_")) {
            command.env_remove(name);
        }
        command.args(["--exact", NAME, "--nocapture"]).env("INSTA_UPDATE", update);
        let output = command.env(DIRECTORY, directory.path()).env(FACTOR, factor).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let content = || fs::read(&kept).unwrap();

    assert!(run("always", "1").0);
    let first = content();
    for update in ["no", "new", "always"] {
        // Within the tolerance: the snapshot is left alone, whatever insta may do to it.
        let (passed, said) = run(update, "1.0000000000000002");
        assert!(passed && !new.exists() && content() == first, "{update}: {said}");
    }
    for update in ["no", "new"] {
        let (passed, said) = run(update, "1.001");
        assert!(!passed && new.exists() == (update == "new") && content() == first, "{update}: {said}");
        let panicked = said.find("snapshot assertion for");
        let parted = said.find("the traces part at step 1 of 20: grad norm");
        assert!(panicked.is_some() && panicked < parted, "the last thing said: {said}");
    }
    // What `cargo insta accept` does.
    fs::rename(&new, &kept).unwrap();
    assert!(run("no", "1.001").0);
    assert!(!run("no", "1").0);
    let (passed, said) = run("always", "1");
    assert!(passed && !new.exists() && said.contains("the traces part"), "{said}");
    assert!(run("no", "1").0);
}
