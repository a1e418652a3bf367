#![expect(clippy::float_cmp, reason = "numbers are read as they were written")]

use super::*;
use crate::{Format, Quantity, Reading, Resolution};
use lossproof_spec::{Dtype, LossSpec, Optimizer};
use lossproof_subject::Device;
use lossproof_trace::{Header, Plan, Segment, Step, Trace, Trainer};
use proptest::prelude::*;

/// As transformers writes it, with a NaN as Python writes it.
const TRAINER_STATE: &str = r#"{
  "best_metric": null, "epoch": 1.0, "global_step": 30,
  "log_history": [
    {"epoch": 0.33, "grad_norm": 1.25, "learning_rate": 4.9e-05, "loss": 3.2, "step": 10},
    {"epoch": 0.66, "grad_norm": NaN, "learning_rate": 4.8e-05, "loss": 3.1415, "step": 20},
    {"epoch": 0.66, "eval_loss": 3.5, "eval_runtime": 1.5, "step": 20},
    {"epoch": 1.0, "step": 30, "total_flos": 1e12, "train_loss": 3.0, "train_runtime": 9.5}
  ],
  "max_steps": 30, "trial_name": null
}"#;

const MAIN_LOG: &str =
    "s:0 tel:11.0102\ns:0 trl:10.9512 lr:0.000001 norm:15.35\ns:1 trl:10.9300 lr:0.000002 norm:14.10\n";

const LINES: &str = "{\"train/loss\": 2.50, \"trainer/global_step\": 1, \"note\": \"x\"}\n\n{\"train/loss\": 2.25, \
                     \"trainer/global_step\": 2, \"system\": {\"gpu\": 71}}\n";

fn trace() -> String {
    let step = |number: usize| Step {
        step: number,
        loss: 3.0 / number as f64,
        supervised_tokens: Some(7),
        learning_rate: 0.1,
        grad_norm: 1.25,
        clip_factor: 1.0,
        skipped: false,
        tensor_norms: vec![1.0],
    };
    let header = Header {
        trainer: Trainer { name: "t".to_owned(), version: "1".to_owned(), framework: "none".to_owned() },
        device: Device::Cpu,
        dtype: Dtype::F64,
        plan: Plan {
            config: "one weight".to_owned(),
            seed: 0,
            loss: LossSpec::token_mean(),
            segments: vec![Segment { optimizer: Optimizer::sgd(0.1), steps: 2 }],
        },
        parameters: vec!["a".to_owned()],
    };
    Trace::new(header, vec![step(1), step(2)]).unwrap().to_json_lines()
}

const LOOP_TRACE: &str = r#"{"schema":"lossproof-loop-trace/1","updates":2}
{"update":{"update":1,"epoch":0,"loss":3.0,"tokens":10,"learning_rate":0.1,"grad_norm":1.5,"clip_factor":1.0}}
{"validation":{"updates":1,"validation":{"loss":2.5,"perplexity":12.18}}}
{"update":{"update":2,"epoch":0,"loss":"NaN","tokens":12,"learning_rate":0.1,"grad_norm":"inf","clip_factor":1.0}}
"#;

fn log(text: &str) -> Log {
    read_text("a log", text, &Names::default()).unwrap()
}

fn error(text: &str) -> String {
    read_text("a log", text, &Names::default()).unwrap_err().to_string()
}

#[test]
fn entries_of_a_trainer_state_are_rows_and_its_summary_is_none() {
    let log = log(TRAINER_STATE);
    assert_eq!((log.format, log.rows.len()), (Format::TrainerState, 3));
    assert_eq!(log.rows[0].update, Some(10));
    assert_eq!(log.rows[0].values[&Quantity::Loss], 3.2);
    assert!(log.rows[1].values[&Quantity::GradNorm].is_nan());
    assert_eq!(log.rows[2].values[&Quantity::ValidationLoss], 3.5);
    // Two numbers do not tell whether they were rounded.
    assert_eq!(log.resolution(&Quantity::Loss), Resolution::default());
}

#[test]
fn the_first_step_of_llm_c_is_the_first_update() {
    let log = log(MAIN_LOG);
    assert_eq!(log.format, Format::MainLog);
    let updates: Vec<_> = log.rows.iter().map(|row| row.update).collect();
    assert_eq!(updates, [Some(0), Some(1), Some(2)]);
    assert_eq!(log.rows[0].values[&Quantity::ValidationLoss], 11.0102);
    assert_eq!(log.rows[2].values[&Quantity::GradNorm], 14.10);
    assert!((log.resolution(&Quantity::GradNorm).absolute - 0.005).abs() < 1e-12);
    assert!(error("s:0 trl:10.9\ns:1 tr").starts_with("a log, line 2: `tr` is no KEY:NUMBER"));
    assert!(error("s:0 trl:10.9\ns:1 trl:").starts_with("a log, line 2: `trl:` has no number"));
}

#[test]
fn lines_have_the_names_that_are_known_or_given() {
    let log = log(LINES);
    assert_eq!((log.format, log.rows.len()), (Format::JsonLines, 2));
    assert_eq!(log.rows[1].update, Some(2));
    assert_eq!(log.rows[1].values[&Quantity::Loss], 2.25);
    assert_eq!(log.rows[1].values[&Quantity::Other("system/gpu".to_owned())], 71.0);
    let counted = read_text(
        "x",
        "{\"a\": 1.5}\n{\"a\": 1.25}\n",
        &Names::with(vec![("a".to_owned(), Reading::Quantity(Quantity::Loss))]),
    )
    .unwrap();
    assert_eq!(counted.rows[1].update, Some(2));
    assert!(counted.notes[0].contains("counted from 1"), "{:?}", counted.notes);
    assert!(error("{\"loss\": 1.5}\n{\"loss\": 1.").starts_with("a log, line 2: "));
}

#[test]
fn of_several_names_the_most_usual_is_taken_and_a_step_that_is_no_count_is_an_error() {
    let log = log("{\"step\": 8, \"global_step\": 1, \"nll_loss\": 2.0, \"loss\": 3.0}\n");
    assert_eq!((log.rows[0].update, log.rows[0].values[&Quantity::Loss]), (Some(1), 3.0));
    assert_eq!(log.notes.len(), 2, "{:?}", log.notes);
    let said = error("{\"loss\": 1.0, \"step\": 1}\n{\"loss\": 1.0, \"step\": -5}\n");
    assert_eq!(said, "a log, line 2: `step` is -5, and it must be a count");
    let said = error("{\"loss\": 1.0, \"step\": 1}\n{\"loss\": 1.0, \"\u{85}step\": -5}\n");
    assert_eq!(said, "a log, line 2: ` step` is -5, and it must be a count");
}

#[test]
fn our_own_traces_are_logs_with_all_their_digits() {
    let of_steps = log(&trace());
    assert_eq!((of_steps.format, of_steps.rows[1].tokens), (Format::Trace, Some(14)));
    assert_eq!(of_steps.unit_roundoff, Some(Dtype::F64.unit_roundoff()));
    assert_eq!(of_steps.rows[0].values[&Quantity::TensorNorm("a".to_owned())], 1.0);
    // Tokens that nobody can have seen are more than any other number, and no panic.
    let many = trace().replace("\"supervised_tokens\":7", "\"supervised_tokens\":18446744073709551615");
    assert_eq!(log(&many).rows[1].tokens, Some(u64::MAX));
    let of_loop = log(LOOP_TRACE);
    assert_eq!((of_loop.format, of_loop.rows[2].tokens), (Format::LoopTrace, Some(22)));
    assert!(of_loop.rows[2].values[&Quantity::Loss].is_nan());
    assert_eq!(of_loop.rows[1].values[&Quantity::ValidationLoss], 2.5);
    assert_eq!(of_loop.resolution(&Quantity::Loss), Resolution::default());
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    for text in ["", "\n\n", "loss 3.5", "[1, 2]", "{}", "{\"a\": \"b\"}", "{\"log_history\": []}"] {
        let said = error(text);
        assert!(said.contains("holds no number of a training run"), "{text}: {said}");
    }
    assert!(error("{\"log_history\": 3}").contains("is no trainer_state.json"));
    assert!(error("{\"schema\":\"lossproof-trace/1\"}\n").contains("is no loss trace"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.out");
    std::fs::write(&path, [b'{', 0xff, 0xfe]).unwrap();
    let binary = read(&path, &Names::default()).unwrap_err().to_string();
    assert!(binary.contains("is no text (not UTF-8 from byte 1 on)"), "{binary}");
    let missing = read(&directory.path().join("nowhere"), &Names::default()).unwrap_err();
    assert!(matches!(missing, LogError::Read(_)), "{missing}");
}

/// A valid log with some bytes changed, removed or put in.
fn mutated() -> impl Strategy<Value = String> {
    let valid = prop::sample::select(vec![
        TRAINER_STATE.to_owned(),
        MAIN_LOG.to_owned(),
        LINES.to_owned(),
        trace(),
        LOOP_TRACE.to_owned(),
    ]);
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    (valid, prop::collection::vec(change, 1..6)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (index, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, byte),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_changed_log_is_read_or_refused(text in mutated()) {
        match read_text("a log", &text, &Names::default()) {
            Ok(log) => {
                // A row is made of at least a character of the text, and named with what is in it.
                prop_assert!(log.rows.len() <= text.len());
                let _ = crate::compare(&log, &log, &crate::Settings::default());
            }
            Err(error) => prop_assert!(error.to_string().contains("a log"), "{error}"),
        }
    }
}
