//! What comes of each adapter.

use crate::{ACT, adapters::LEFT_BEHIND, unigram::Unigram};
use lossproof_process::{Adapter, AdapterError};
use lossproof_spec::{GlobalBatch, Sequence};
use lossproof_subject::{
    Breach, Call, Checked, Collect, Subject as _, SubjectError, Tensor, TensorSet, TensorValues, Unsupported,
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Time for an answer. An honest one needs a millisecond.
const LIMIT: Duration = Duration::from_secs(3);

/// The longest that a trial may take: one limit, and the time in which a process may end by itself.
const LONGEST: Duration = Duration::from_secs(12);

type Run = Box<dyn FnOnce() + Send + 'static>;

/// What is done by an adapter, and a part of what is said of it.
const WRONG: [(&str, &str); 27] = [
    ("ends at once", "process ended (exit status: 0) where `info` was to be answered"),
    ("prints progress", "a line that is no message, `Loading checkpoint shards: 100%`"),
    ("prints in front of an answer", "a line that is no message, `loss 3.2 {"),
    ("half a line", "half a line, `{\"id\":"),
    ("half a line and waits", "`accumulate` did not return within 3 s"),
    ("half its tensors", "bytes of tensors are announced, and"),
    ("announces ten gigabytes", "unknown field `was`"),
    ("announces ten gigabytes rightly", "10000000000 bytes of tensors are announced, where"),
    ("a line without an end", "a line of more than 16777216 bytes"),
    ("nested without end", "EOF while parsing a list"),
    ("NaN in the card", "a line that is no message"),
    ("a model without end", "with `lm_head.bias` the parameters have more than"),
    ("a vocabulary without end", "`limits.vocabulary` is 18446744073709551615"),
    ("needs a batch without end", "the smallest batch has more than 65536 positions"),
    ("a name that hides", "`uni[2Jgram…` is no name"),
    ("a gradient by another name", "has a tensor `lm_head.bias`, which no such answer has"),
    ("moves into another group", "`accumulate` did not return within 3 s"),
    ("another version", "speaks version 2 of the protocol, and this judge version 1"),
    ("changes its card", "`info` no longer answers what it answered at first"),
    ("another shape", "with shape [5, 1], the parameter has [5]"),
    ("not a number", "`accumulate` answers a loss that is not finite"),
    ("answers with a question", "`accumulate` was answered with a request"),
    ("answers twice", "was answered with the number 1: one answer for each question"),
    ("never answers", "`accumulate` did not return within 3 s"),
    ("answers byte by byte", "`accumulate` did not return within 3 s"),
    ("lies about its limits", "`accumulate` refuses what the subject's card says it takes"),
    ("goes on after the end", "behind the last answer stands more"),
];

/// All trials by their names.
pub(crate) fn all() -> Vec<(String, Run)> {
    let mut all: Vec<(String, Run)> = Vec::new();
    for (name, said) in WRONG {
        all.push((name.replace(' ', "_"), Box::new(move || wrong(name, said))));
    }
    for at in 0..6 {
        all.push((format!("crashes_at_{at}"), Box::new(move || crashes(at))));
    }
    let named: [(&str, fn()); 10] = [
        ("honest", honest),
        ("floods_standard_error", floods),
        ("closes_its_output", closes_its_output),
        ("is_gone_at_configure", is_gone_at_configure),
        ("does_not_end", does_not_end),
        ("leaves_a_process_behind", leaves_a_process_behind),
        ("begins_anew_after_a_crash", begins_anew),
        ("a_recording_answers_without_the_trainer", recording),
        ("what_is_no_recording_is_an_error_that_names_it", no_recording),
        ("what_cannot_be_started_is_an_error_that_names_it", no_command),
    ];
    all.extend(named.map(|(name, run)| (name.to_owned(), Box::new(run) as Run)));
    all
}

/// The command that acts as this adapter.
fn command(name: &str) -> String {
    let own = std::env::current_exe().expect("this program is a file");
    format!("env '{ACT}={name}' '{}'", own.display())
}

fn adapter(name: &str) -> Result<Adapter, AdapterError> {
    Adapter::with_limit(&command(name), LIMIT)
}

fn batch() -> GlobalBatch {
    let sequence = Sequence::new(vec![1, 2, 3, 4], vec![1, 2, -100, 4]).expect("a label for each token");
    GlobalBatch::single(sequence)
}

/// Asks what there is to ask: the first error, or the gradient and the loss.
fn asked(mut adapter: Adapter) -> Result<(f64, TensorSet), String> {
    let mut gradients = Collect::default();
    let mut ask = || -> Result<f64, SubjectError> {
        let mut checked = Checked::new(&mut adapter)?;
        checked.reset()?;
        let info = checked.info();
        let claim = info.claims.first();
        checked.configure(&claim).map_err(|Unsupported { breach, what, .. }| match breach {
            Some(breach) => SubjectError::from(*breach),
            None => SubjectError::failed("configure", what),
        })?;
        let losses = checked.token_losses().map(|losses| losses.evaluate(&batch())).transpose()?;
        assert_eq!(losses.map_or(3, |losses| losses.len()), 3);
        let observation = checked.accumulate(&batch(), &mut gradients)?;
        checked.reset()?;
        Ok(observation.loss)
    };
    let loss = ask().map_err(|error| error.to_string())?;
    adapter.finish().map_err(|error| error.whole())?;
    Ok((loss, gradients.into_tensors()))
}

fn wrong(name: &str, said: &str) {
    let started = Instant::now();
    let error = match adapter(name) {
        Err(error) => error.whole(),
        Ok(adapter) => asked(adapter).map(drop).expect_err("it is no adapter"),
    };
    assert!(error.contains(said), "{name}: {error}");
    assert!(started.elapsed() < LONGEST, "{name}: {:?}", started.elapsed());
}

/// Wherever it crashes, the call and how it ended are named, with what it said last.
fn crashes(at: usize) {
    let error = match adapter(&format!("crashes at {at}")) {
        Err(error) => error.whole(),
        Ok(adapter) => asked(adapter).map(drop).expect_err("it crashes"),
    };
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("RuntimeError: CUDA out of memory"), "{error}");
    let call = ["info", "reset", "info", "configure", "evaluate", "accumulate"][at];
    assert!(error.contains(&format!("`{call}`")), "{error}");
}

/// A process that is gone where it is asked whether it supports something has refused nothing.
fn is_gone_at_configure() {
    let mut adapter = adapter("crashes at 3").expect("it starts");
    let mut checked = Checked::new(&mut adapter).expect("it has a card");
    checked.reset().expect("it answers that much");
    let claim = checked.info().claims.first();
    let unanswered = checked.configure(&claim).expect_err("it crashes");
    let breach = checked.take_breach().expect("it is kept");
    assert!(matches!(breach, Breach::Ended { call: Call::Configure, .. }), "{breach}");
    assert_eq!(unanswered.to_string(), breach.to_string());
}

fn honest() {
    let (loss, gradients) = asked(adapter("honest").expect("it starts")).expect("it answers");
    let mut here = Collect::default();
    let observation = Unigram::new().accumulate(&batch(), &mut here).expect("it is honest");
    assert_eq!(loss.to_bits(), observation.loss.to_bits());
    assert_eq!(gradients, here.into_tensors());
}

fn floods() {
    assert!(asked(adapter("floods standard error").expect("it starts")).is_ok());
}

fn closes_its_output() {
    let started = Adapter::with_limit("sh -c 'exec >&-; sleep 60'", LIMIT);
    let error = started.map(drop).expect_err("it says nothing").whole();
    assert!(error.contains("it closed its output and went on"), "{error}");
}

/// A process that goes on when nothing more is asked is ended, and that is nothing against it.
fn does_not_end() {
    let started = Instant::now();
    assert!(asked(adapter("does not end").expect("it starts")).is_ok());
    assert!(started.elapsed() < LONGEST);
}

fn leaves_a_process_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("number");
    let own = std::env::current_exe().expect("this program is a file");
    let command =
        format!("env '{ACT}=leaves a process behind' '{LEFT_BEHIND}={}' '{}'", file.display(), own.display());
    let adapter = Adapter::with_limit(&command, LIMIT).expect("it starts");
    let number = fs::read_to_string(&file).expect("it wrote the number of what it left behind");
    assert!(runs(&number), "{number}");
    assert!(asked(adapter).is_ok());
    assert!(!runs(&number), "{number} outlives its adapter");
}

/// Whether the process with this number runs. One that has ended and that nobody waited for does not.
fn runs(number: &str) -> bool {
    for _ in 0..100 {
        let stat = fs::read_to_string(Path::new("/proc").join(number).join("stat"));
        let ended =
            stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')));
        if ended {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// After a crash a fresh process has the parameters that were loaded, and what crashed is told once.
fn begins_anew() {
    let mut adapter = adapter("crashes at 5").expect("it starts");
    let values = TensorValues::F64(vec![1.0, 0.0, -1.0, 2.0, 0.5]);
    let loaded = Tensor::new(vec![5], values).expect("five values");
    let loaded = TensorSet::from([("lm_head.bias".to_owned(), loaded)]);
    adapter.parameter_loading().expect("it loads").load(&loaded).expect("they fit");
    for _ in 0..3 {
        adapter.accumulate(&batch(), &mut Collect::default()).expect("it answers");
    }
    let error = adapter.accumulate(&batch(), &mut Collect::default()).expect_err("it crashes");
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    adapter.reset().expect("it begins anew");
    let here = &mut Unigram::new();
    here.parameter_loading().expect("it loads").load(&loaded).expect("they fit");
    let expected = here.accumulate(&batch(), &mut Collect::default()).expect("it is honest");
    let observation = adapter.accumulate(&batch(), &mut Collect::default()).expect("it answers again");
    assert_eq!(observation.loss.to_bits(), expected.loss.to_bits());
}

fn recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("answers");
    let recorded =
        asked(Adapter::recorded(&command("honest"), &file).expect("it starts")).expect("it answers");
    let replayed = asked(Adapter::replayed(&file).expect("it is a recording")).expect("it has the answers");
    assert_eq!(recorded.0.to_bits(), replayed.0.to_bits());
    assert_eq!(recorded.1, replayed.1);
    // What was not asked then has no answer.
    let mut adapter = Adapter::replayed(&file).expect("it is a recording");
    let other = GlobalBatch::single(Sequence::new(vec![0, 0], vec![0, 0]).expect("labels"));
    let error = adapter.accumulate(&other, &mut Collect::default()).expect_err("it was not asked");
    assert!(error.to_string().contains("has no answer to this question (`accumulate`)"), "{error}");
}

fn no_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("answers");
    let missing = Adapter::replayed(&file).map(drop).expect_err("it is not there").whole();
    assert!(missing.contains("answers could not be read"), "{missing}");
    fs::write(&file, "{\"loss\": 1}\n").expect("the folder takes files");
    let other = Adapter::replayed(&file).map(drop).expect_err("it is none").whole();
    assert!(other.contains("is no recording of an adapter: it begins with `{\"loss\": 1}`"), "{other}");
}

fn no_command() {
    let error = Adapter::start("lossproof-no-such-program").map(drop).expect_err("there is none").whole();
    assert!(error.contains("`lossproof-no-such-program` could not be started"), "{error}");
    assert!(matches!(Adapter::start(""), Err(AdapterError::Command(_))));
}
