//! What runs leave behind: our own traces, and logs of any trainer.

use crate::{
    Made, Reader,
    reader::{folder, told},
};
use lossproof_logs::{Names, read};
use lossproof_spec::{Dtype, LossSpec, Optimizer};
use lossproof_subject::Device;
use lossproof_trace::{Header, Plan, Segment, Step, Trace, TraceError, Trainer};

/// A trace of two steps, one of them with a number that is none.
fn small() -> Result<Vec<u8>, TraceError> {
    let step = |number: usize, grad_norm: f64| Step {
        step: number,
        loss: 3.0 / number as f64,
        supervised_tokens: Some(7),
        learning_rate: 0.1,
        grad_norm,
        clip_factor: 1.0,
        skipped: grad_norm.is_nan(),
        tensor_norms: vec![1.0, f64::INFINITY],
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
        parameters: vec!["a".to_owned(), "b".to_owned()],
    };
    Ok(Trace::new(header, vec![step(1, 1.25), step(2, f64::NAN)])?.to_json_lines().into_bytes())
}

/// A header is read as a value first, and once more to see that it can be written: two bytes of a list are a
/// value of 32.
pub(super) fn trace() -> Made {
    Ok(Reader::of_file(folder()?, "run.trace", 128, vec![small()?], |path| told(Trace::read(path))))
}

/// As transformers writes it, with a NaN as Python writes it.
const TRAINER_STATE: &str = r#"{"best_metric": null, "epoch": 1.0, "log_history": [
    {"epoch": 0.33, "grad_norm": 1.25, "learning_rate": 4.9e-05, "loss": 3.2, "step": 10},
    {"epoch": 0.66, "grad_norm": NaN, "loss": 3.1415, "step": 20},
    {"epoch": 0.66, "eval_loss": 3.5, "step": 20},
    {"epoch": 1.0, "step": 30, "train_loss": 3.0, "train_runtime": 9.5}
  ], "max_steps": 30, "trial_name": null}"#;

const MAIN_LOG: &str =
    "s:0 tel:11.0102\ns:0 trl:10.9512 lr:0.000001 norm:15.35\ns:1 trl:10.9300 lr:0.000002 norm:14.10\n";

const LINES: &str = "{\"train/loss\": 2.50, \"trainer/global_step\": 1, \"note\": \"x\"}\n\n{\"train/loss\": 2.25, \
                     \"trainer/global_step\": 2, \"system\": {\"gpu\": 71, \"of\": {\"a\": 1}}, \"total\": -Infinity}\n";

const LOOP_TRACE: &str = r#"{"schema":"lossproof-loop-trace/1","updates":2}
{"update":{"update":1,"epoch":0,"loss":3.0,"tokens":10,"learning_rate":0.1,"grad_norm":1.5,"clip_factor":1.0}}
{"validation":{"updates":1,"validation":{"loss":2.5,"perplexity":12.18}}}
{"update":{"update":2,"epoch":0,"loss":"NaN","tokens":12,"learning_rate":0.1,"grad_norm":"inf","clip_factor":1.0}}
"#;

/// A line with one number has eight bytes, and is a row with a map of its own: a node of a map has room for
/// eleven.
pub(super) fn log() -> Made {
    let mut valid = [TRAINER_STATE, MAIN_LOG, LINES, LOOP_TRACE].map(|log| log.as_bytes().to_vec()).to_vec();
    valid.push(small()?);
    Ok(Reader::of_file(folder()?, "main.log", 256, valid, |path| told(read(path, &Names::default()))))
}
