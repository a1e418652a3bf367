//! Every statement of a verification can turn red, and the right side is blamed for it.
//!
//! One thing at a time is broken in one of the two implementations; the snapshot holds which statements turn red and who
//! is blamed. A statement that no break turns red would show nothing by being green: the last test forbids it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_gpt2::{Config, probe_initial};
use lossproof_spec::{Combine, Dtype, GlobalBatch, LossSpec, Reduction, Scope};
use lossproof_subject::load_all;
use lossproof_tests::{
    Break, Broken, Door, PICO, error_model, ours, ragged_batch, recorded, theirs, theirs_with,
};
use lossproof_torch::Activation;
use lossproof_verify::{
    self, Directions, Part, Report, Statement, Streamed, ThirdForward, Verdict, Verification, verify,
    verify_streamed,
};
use std::{collections::BTreeSet, fmt::Write, sync::Arc};

fn batch() -> GlobalBatch {
    ragged_batch(7)
}

const CONFIG: Config = Config::Pico;

/// Makes a subject of one side, broken or not.
type Make = fn(Dtype) -> Door;

fn exact(reference: Make, oracle: Make) -> Report {
    let (batch, recording) = (batch(), recorded(PICO));
    let parameters = probe_initial(CONFIG.shape(), 3);
    let [mut third_reference, mut third_oracle] = [reference(Dtype::F64), oracle(Dtype::F64)];
    let third = ThirdForward {
        recorded: &recording,
        subjects: vec![&mut *third_reference, &mut *third_oracle],
        model: error_model(CONFIG.shape(), &recording.batch),
    };
    let verification = Verification {
        reference: &mut *reference(Dtype::F64),
        oracle: &mut *oracle(Dtype::F64),
        third: Some(third),
        parameters: &parameters,
        batch: &batch,
        model: error_model(CONFIG.shape(), &batch),
        directions: Directions::PerTensor(1),
        seed: 5,
    };
    verify(verification, &mut |_, _, _| {}).unwrap()
}

fn streamed(reference: Make, oracle: Make, truth: Option<Make>) -> Report {
    let (batch, recording) = (batch(), recorded(PICO));
    let [mut third_reference, mut third_oracle] = [reference(Dtype::F64), oracle(Dtype::F64)];
    let third = ThirdForward {
        recorded: &recording,
        subjects: vec![&mut *third_reference, &mut *third_oracle],
        model: error_model(CONFIG.shape(), &recording.batch),
    };
    let verification = Streamed {
        judged: vec![loaded(reference, Dtype::F32), loaded(oracle, Dtype::F32)],
        truth: truth.map(|truth| loaded(truth, Dtype::F64)),
        third: Some(third),
        parameters: Arc::new(probe_initial(CONFIG.shape(), 3)),
        batch: &batch,
        model: error_model(CONFIG.shape(), &batch),
        seed: 5,
    };
    verify_streamed(verification, &mut |_, _, _| {}).unwrap()
}

/// Makes a subject and loads the parameters through whatever is broken about it.
fn loaded(make: Make, dtype: Dtype) -> lossproof_verify::Make<'static> {
    Box::new(move |source| {
        let mut subject = make(dtype);
        load_all(&mut *subject, &*source)?;
        Ok(subject)
    })
}

fn reference(dtype: Dtype) -> Door {
    ours(CONFIG, dtype)
}

fn oracle(dtype: Dtype) -> Door {
    theirs(CONFIG, dtype)
}

fn erf(dtype: Dtype) -> Door {
    theirs_with(CONFIG, dtype, Activation::ErfGelu)
}

macro_rules! broken {
    ($side:ident, $broken:expr) => {
        |dtype| Box::new(Broken::new($side(dtype), $broken)) as Door
    };
}

/// Turns the per-token mean over a wider scope into the naive one.
fn naive(spec: &LossSpec) -> LossSpec {
    LossSpec { scope: Scope::MicroBatch, micro_batches: Combine::Average, ranks: Combine::Average, ..*spec }
}

fn replace(spec: &LossSpec, from: Reduction, to: Reduction) -> LossSpec {
    if spec.reduction == from { LossSpec { reduction: to, ..*spec } } else { *spec }
}

const REFERENCE: &str = "reference";
const LIBTORCH: &str = "libtorch";

/// Name of the break, who should be blamed for what, and the report.
type Case = (&'static str, &'static str, Part, Report);

fn exact_pass_cases() -> Vec<Case> {
    vec![
        (
            "reference: gradient of one weight off by 1e-6",
            REFERENCE,
            Part::Backward,
            exact(broken!(reference, Break::ScaledGradient("h.0.mlp.c_fc.weight", 1.0 + 1e-6)), oracle),
        ),
        (
            "libtorch: gradient of one weight off by 1e-6",
            LIBTORCH,
            Part::Backward,
            exact(reference, broken!(oracle, Break::ScaledGradient("h.0.mlp.c_fc.weight", 1.0 + 1e-6))),
        ),
        (
            "reference: one element of the token embedding's gradient lost",
            REFERENCE,
            Part::Backward,
            exact(broken!(reference, Break::LostElement("wte.weight", 11)), oracle),
        ),
        (
            "reference: a bias without a gradient",
            REFERENCE,
            Part::Backward,
            exact(broken!(reference, Break::MissingGradient("h.0.attn.c_proj.bias")), oracle),
        ),
        (
            "libtorch: a bias without a gradient",
            LIBTORCH,
            Part::Backward,
            exact(reference, broken!(oracle, Break::MissingGradient("h.0.attn.c_proj.bias"))),
        ),
        (
            "reference: attention's output weight transposed",
            REFERENCE,
            Part::Forward,
            exact(broken!(reference, Break::TransposedWeight("h.0.attn.c_proj.weight")), oracle),
        ),
        (
            "libtorch: attention's output weight transposed",
            LIBTORCH,
            Part::Forward,
            exact(reference, broken!(oracle, Break::TransposedWeight("h.0.attn.c_proj.weight"))),
        ),
        ("libtorch: erf for tanh in the GELU", LIBTORCH, Part::Forward, exact(reference, erf)),
    ]
}

fn exact_reduction_cases() -> Vec<Case> {
    vec![
        (
            "reference: means of micro-batch means for every mean",
            REFERENCE,
            Part::Reduction,
            exact(broken!(reference, Break::Reduction(naive)), oracle),
        ),
        (
            "reference: token mean for sequence mean",
            REFERENCE,
            Part::Reduction,
            exact(
                broken!(
                    reference,
                    Break::Reduction(|spec| replace(spec, Reduction::SequenceMean, Reduction::TokenMean))
                ),
                oracle,
            ),
        ),
        (
            "libtorch: token mean for batch mean",
            LIBTORCH,
            Part::Reduction,
            exact(
                reference,
                broken!(
                    oracle,
                    Break::Reduction(|spec| replace(spec, Reduction::BatchMean, Reduction::TokenMean))
                ),
            ),
        ),
        (
            "reference: batch mean for token mean",
            REFERENCE,
            Part::Reduction,
            exact(
                broken!(
                    reference,
                    Break::Reduction(|spec| replace(spec, Reduction::TokenMean, Reduction::BatchMean))
                ),
                oracle,
            ),
        ),
        (
            "libtorch: ranks averaged once too often",
            LIBTORCH,
            Part::Reduction,
            exact(
                reference,
                broken!(oracle, Break::Reduction(|spec| LossSpec { ranks: Combine::Average, ..*spec })),
            ),
        ),
        (
            "reference: reports the loss of another scale",
            REFERENCE,
            Part::Reduction,
            exact(broken!(reference, Break::ReportedLoss(1.0 + 1e-6)), oracle),
        ),
        (
            "libtorch: reports the loss of another scale",
            LIBTORCH,
            Part::Reduction,
            exact(reference, broken!(oracle, Break::ReportedLoss(1.0 + 1e-6))),
        ),
    ]
}

fn streamed_cases() -> Vec<Case> {
    vec![
        (
            "f32 reference: gradient of one weight off by 1e-3",
            "reference",
            Part::Backward,
            streamed(
                broken!(reference, Break::ScaledGradient("h.0.mlp.c_proj.weight", 1.001)),
                oracle,
                Some(oracle),
            ),
        ),
        (
            "f32 libtorch: a bias without a gradient",
            "libtorch",
            Part::Backward,
            streamed(
                reference,
                broken!(oracle, Break::MissingGradient("h.0.attn.c_proj.bias")),
                Some(oracle),
            ),
        ),
        (
            "f32 reference: one element of the token embedding's gradient lost",
            "reference",
            Part::Backward,
            streamed(broken!(reference, Break::LostElement("wte.weight", 11)), oracle, Some(oracle)),
        ),
        (
            "f32 libtorch: erf for tanh in the GELU",
            "libtorch",
            Part::Forward,
            streamed(reference, erf, Some(oracle)),
        ),
        (
            "libtorch and with it the truth: erf for tanh in the GELU",
            "libtorch",
            Part::Forward,
            streamed(reference, erf, Some(erf)),
        ),
        (
            "f32 reference: means of micro-batch means for every mean",
            "reference",
            Part::Reduction,
            streamed(broken!(reference, Break::Reduction(naive)), oracle, Some(oracle)),
        ),
        (
            "f32 reference: reports the loss of another scale",
            "reference",
            Part::Reduction,
            streamed(broken!(reference, Break::ReportedLoss(1.001)), oracle, Some(oracle)),
        ),
        (
            "the truth itself: gradient of one weight off by 1e-3",
            "libtorch f64",
            Part::Backward,
            streamed(reference, oracle, Some(broken!(oracle, Break::ScaledGradient("wte.weight", 1.001)))),
        ),
    ]
}

/// Right in f64, so that the third forward has nothing to say.
fn scaled_in_single_precision(dtype: Dtype) -> Door {
    let honest = reference(dtype);
    match dtype {
        Dtype::F32 => Box::new(Broken::new(honest, Break::ScaledGradient("h.0.mlp.c_proj.weight", 1.001))),
        _ => honest,
    }
}

/// What is found where no truth fits in memory.
fn truthless_cases() -> Vec<Case> {
    vec![
        (
            "without a truth, f32 reference: gradient of one weight off by 1e-3",
            "reference or libtorch",
            Part::Undecided,
            streamed(scaled_in_single_precision, oracle, None),
        ),
        (
            "without a truth, f32 libtorch: erf for tanh in the GELU",
            "libtorch",
            Part::Forward,
            streamed(reference, erf, None),
        ),
        (
            "without a truth, f32 libtorch: means of micro-batch means for every mean",
            "libtorch",
            Part::Reduction,
            streamed(reference, broken!(oracle, Break::Reduction(naive)), None),
        ),
        (
            "without a truth, f32 reference: reports the loss of another scale",
            "reference",
            Part::Reduction,
            streamed(broken!(reference, Break::ReportedLoss(1.001)), oracle, None),
        ),
    ]
}

fn red(report: &Report) -> String {
    let mut lines = String::new();
    let mut seen = BTreeSet::new();
    for row in report.rows.iter().filter(|row| row.verdict == Verdict::Fail) {
        let key = format!("{}: {:?}", row.subject, row.statement);
        if seen.insert(key.clone()) {
            let same = report.rows.iter().filter(|other| {
                other.verdict == Verdict::Fail
                    && other.statement == row.statement
                    && other.subject == row.subject
            });
            let under: Vec<_> = same.filter_map(|row| row.semantics).collect();
            let under = if under.is_empty() { String::new() } else { format!(" under {}", under.join(", ")) };
            let _ = writeln!(lines, "    {key}{under}");
        }
    }
    lines
}

fn table(cases: &[Case]) -> String {
    let mut text = String::new();
    for (name, _, _, report) in cases {
        let _ = writeln!(text, "{name}\n  turns red:\n{}  blamed:", red(report));
        for blame in &report.blames {
            let _ = writeln!(text, "    {blame}");
        }
    }
    text
}

fn blamed(cases: &[Case]) {
    for (name, side, part, report) in cases {
        assert!(!report.blames.is_empty(), "{name}: nobody is blamed");
        for blame in &report.blames {
            assert_eq!((blame.subject.as_str(), blame.part), (*side, *part), "{name}: {blame}");
        }
    }
}

fn turned_red(cases: &[Case]) -> BTreeSet<String> {
    let rows = cases.iter().flat_map(|(_, _, _, report)| &report.rows);
    let red = rows.filter(|row| row.verdict == Verdict::Fail);
    red.map(|row| format!("{}: {:?} under {:?}", row.subject, row.statement, row.semantics)).collect()
}

#[test]
fn an_honest_pair_has_no_red_row_and_every_control_is_caught() {
    let streamed = [Some(oracle as Make), None].map(|truth| streamed(reference, oracle, truth));
    for report in streamed.into_iter().chain([exact(reference, oracle)]) {
        assert_eq!(report.count(Verdict::Pass), report.rows.len(), "{}", red(&report));
        assert!(report.blames.is_empty());
        assert!(report.rows.iter().all(|row| row.control_caught));
    }
}

#[test]
fn in_f64_every_row_sees_an_error_of_a_quarter_of_a_millionth() {
    for row in exact(reference, oracle).rows {
        assert!(row.power < 2.5e-7, "{}: {}: {:e}", row.subject, row.text, row.power);
    }
}

#[test]
fn breaks_are_caught_and_the_right_side_is_blamed() {
    let mut cases = exact_pass_cases();
    cases.extend(exact_reduction_cases());
    blamed(&cases);
    insta::assert_snapshot!("breaks", table(&cases));
    let red = turned_red(&cases);
    for row in exact(reference, oracle).rows {
        let key = format!("{}: {:?} under {:?}", row.subject, row.statement, row.semantics);
        assert!(red.contains(&key), "no break turns this red: {key}");
    }
}

#[test]
fn breaks_in_single_precision_are_caught_and_the_right_side_is_blamed() {
    let mut cases = streamed_cases();
    cases.extend(truthless_cases());
    blamed(&cases);
    insta::assert_snapshot!("breaks_streamed", table(&cases));
    let statements: BTreeSet<_> = cases
        .iter()
        .flat_map(|(_, _, _, report)| &report.rows)
        .filter(|row| row.verdict == Verdict::Fail)
        .map(|row| format!("{:?}", row.statement))
        .collect();
    for statement in [
        Statement::TruthTokenLosses,
        Statement::TruthLoss,
        Statement::TruthGradient,
        Statement::TokenLosses,
        Statement::Loss,
        Statement::Gradient,
        Statement::LossCalculus,
        Statement::GradientCalculus,
        Statement::FiniteDifferences,
        Statement::ThirdForwardLosses,
        Statement::ThirdForwardGradient,
    ] {
        assert!(statements.contains(&format!("{statement:?}")), "no break turns {statement:?} red");
    }
}
