//! Traces as JSON lines: the header, then one line for each step.

use super::{Header, Step, Trace};
use lossproof_spec::{InvalidSpec, concise, shortened};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The one format this version reads and writes.
const SCHEMA: &str = "lossproof-trace/1";

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstLine<S, H> {
    schema: S,
    header: H,
}

/// What a first line of any schema has.
#[derive(Deserialize)]
struct Tagged {
    schema: Option<serde_json::Value>,
}

impl Trace {
    /// The JSON lines. Every number is written with the digits that give it back exactly.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        let mut text = line(&FirstLine { schema: SCHEMA, header: &self.header });
        for step in &self.steps {
            text.push_str(&line(step));
        }
        text
    }

    /// Reads JSON lines, strictly.
    ///
    /// # Errors
    /// When they are of another schema, the last line is not whole, a line has an unknown field, a missing one or a
    /// value of another kind, or the lines make no trace.
    pub fn from_json_lines(text: &str) -> Result<Self, TraceError> {
        let Some(whole) = text.strip_suffix('\n') else {
            return Err(match text.lines().count() {
                0 => TraceError::Empty,
                line => TraceError::Truncated { line },
            });
        };
        let mut lines = whole.split('\n').zip(1..);
        let header = lines.next().map(|(text, line)| header(text, line)).ok_or(TraceError::Empty)??;
        let steps = lines.map(|(text, line)| parse(text, line)).collect::<Result<_, _>>()?;
        Self::new(header, steps)
    }

    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// When it cannot be read, and as [`from_json_lines`](Self::from_json_lines).
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let text =
            fs::read_to_string(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
        Self::from_json_lines(&text)
            .map_err(|source| TraceError::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Writes a file of JSON lines, atomically.
    ///
    /// # Errors
    /// When it cannot be written; then a file that was there is still there.
    pub fn write(&self, path: &Path) -> Result<(), TraceError> {
        lossproof_files::write(path, self.to_json_lines().as_bytes())
            .map_err(|source| TraceError::Write { path: path.to_owned(), source })
    }
}

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("invariant: a trace has string keys only");
    line.push('\n');
    line
}

fn header(text: &str, line: usize) -> Result<Header, TraceError> {
    let Tagged { schema } = parse(text, line)?;
    if schema.as_ref().is_none_or(|schema| schema != SCHEMA) {
        let found = schema.map_or_else(|| "none".to_owned(), |schema| shortened(&schema.to_string()));
        return Err(TraceError::Schema { found });
    }
    let first: FirstLine<String, Header> = parse(text, line)?;
    Ok(first.header)
}

fn parse<T: DeserializeOwned>(text: &str, line: usize) -> Result<T, TraceError> {
    serde_json::from_str(text).map_err(|error: serde_json::Error| {
        let bare = ["NaN", "Infinity", "-Infinity"].into_iter().find(|bare| {
            let outside = text.split('"').step_by(2);
            outside.flat_map(|part| part.split([':', ',', '[', ']', '}', ' '])).any(|word| word == *bare)
        });
        match bare {
            Some(found) if error.is_syntax() => TraceError::Bare { line, found },
            _ => TraceError::Line { line, problem: concise(error).to_string() },
        }
    })
}

/// Whether a header and steps are the whole trace of a run, and one that can be read again.
pub(super) fn check(header: &Header, steps: &[Step]) -> Result<(), TraceError> {
    header.plan.loss.validate()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = header.parameters.iter().find(|&name| !names.insert(name)) {
        return Err(TraceError::RepeatedParameter { name: shortened(twice) });
    }
    let (declared, parameters) = (header.plan.steps(), header.parameters.len());
    if declared == 0 {
        return Err(TraceError::NoStep);
    }
    for (step, number) in steps.iter().zip(1..) {
        if step.step != number {
            return Err(TraceError::Order { line: number + 1, found: step.step, expected: number });
        }
        if step.tensor_norms.len() != parameters {
            let found = step.tensor_norms.len();
            return Err(TraceError::Norms { line: number + 1, found, parameters });
        }
    }
    if steps.len() != declared {
        return Err(TraceError::Steps { found: steps.len(), declared });
    }
    // A number that JSON does not have is written as `null`.
    let same = serde_json::to_value(header).and_then(Header::deserialize);
    if same.is_ok_and(|same| same == *header) { Ok(()) } else { Err(TraceError::Header) }
}

/// Why something is no trace, or could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Nothing at all.
    #[error("the trace is empty: its first line is a header; record it again")]
    Empty,
    /// A first line of another schema, or of none.
    #[error(
        "line 1 has the schema {found}, this version reads \"{SCHEMA}\": record the trace again with this version"
    )]
    Schema {
        /// What was found, as JSON.
        found: String,
    },
    /// Two parameters of one name: their norms could not be told apart.
    #[error("the header names the parameter {name} twice: give each one a name of its own")]
    RepeatedParameter {
        /// The name.
        name: String,
    },
    /// The last line does not end.
    #[error("line {line} is cut short (no line break at its end): the run was interrupted; record it again")]
    Truncated {
        /// Its number, from 1.
        line: usize,
    },
    /// A line that is not what stands there.
    #[error("line {line}: {problem}: mend the line, or record the trace again")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong, and at what column.
        problem: String,
    },
    /// A number that JSON does not have, written without quotes, as Python's `json` does by default.
    #[error("line {line}: {found} is no JSON: write the string \"NaN\", \"inf\" or \"-inf\"")]
    Bare {
        /// Its number, from 1.
        line: usize,
        /// The word.
        found: &'static str,
    },
    /// A step that is missing, there twice, or in the wrong place.
    #[error(
        "line {line} is step {found}, expected step {expected}: steps count up from 1; record the trace again"
    )]
    Order {
        /// Its number, from 1.
        line: usize,
        /// The step found there.
        found: usize,
        /// The step that belongs there.
        expected: usize,
    },
    /// A step without a norm for every parameter.
    #[error(
        "line {line} has {found} tensor norms for {parameters} parameters: give one for each, in the header's order"
    )]
    Norms {
        /// Its number, from 1.
        line: usize,
        /// How many it has.
        found: usize,
        /// How many parameters there are.
        parameters: usize,
    },
    /// A plan without a step, of which any two traces would agree.
    #[error("the plan has no step: give it at least one")]
    NoStep,
    /// Fewer or more steps than planned.
    #[error(
        "{found} steps of a plan of {declared}: the run was interrupted, or the plan is another's; record it again"
    )]
    Steps {
        /// How many there are.
        found: usize,
        /// How many are planned.
        declared: usize,
    },
    /// A loss semantics with a number without a meaning.
    #[error("the plan's loss")]
    Loss(#[from] InvalidSpec),
    /// An optimizer with a number that JSON does not have.
    #[error(
        "an optimizer of the plan has a number that is not finite: give finite ones (a large norm instead of none)"
    )]
    Header,
    /// A file with a mistake in it.
    #[error("{} holds no trace", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in what line.
        source: Box<TraceError>,
    },
    /// A file that cannot be read.
    #[error("could not read the trace {}: does it exist, and is it readable?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("could not write the trace {}: is its directory writable?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, Segment, Trainer};
    use lossproof_spec::LossSpec;
    use lossproof_spec::{Clip, Dtype, Optimizer};
    use lossproof_subject::Device;

    fn trace(losses: &[f64]) -> Trace {
        let step = |(step, &loss): (usize, &f64)| Step {
            step,
            loss,
            supervised_tokens: (step == 1).then_some(7),
            learning_rate: 0.1 + 0.2,
            grad_norm: f64::MIN_POSITIVE / 3.0,
            clip_factor: 1.0,
            skipped: step == 2,
            tensor_norms: vec![1.0 / 3.0, loss],
        };
        let header = Header {
            trainer: Trainer { name: "t".to_owned(), version: "1".to_owned(), framework: "none".to_owned() },
            device: Device::Cuda(1),
            dtype: Dtype::Bf16,
            plan: Plan {
                config: "two weights".to_owned(),
                seed: u64::MAX,
                loss: LossSpec::token_mean(),
                segments: vec![Segment { optimizer: Optimizer::sgd(0.1), steps: losses.len() }],
            },
            parameters: vec!["a".to_owned(), "b".to_owned()],
        };
        Trace::new(header, (1..).zip(losses).map(step).collect()).unwrap()
    }

    fn bits(trace: &Trace) -> Vec<u64> {
        let all = |step: &Step| {
            [step.loss, step.learning_rate, step.grad_norm, step.tensor_norms[1]].map(f64::to_bits)
        };
        trace.steps.iter().flat_map(all).collect()
    }

    #[test]
    fn every_number_comes_back_exactly() {
        let hard = [
            0.1,
            5e-324,
            f64::MAX,
            -0.0,
            9_007_199_254_740_993.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        let before = trace(&hard);
        let after = Trace::from_json_lines(&before.to_json_lines()).unwrap();
        assert_eq!(bits(&before), bits(&after));
        assert_eq!(before.header, after.header);
    }

    #[test]
    fn a_line_is_what_the_documentation_shows() {
        let text = trace(&[2.5, f64::NAN]).to_json_lines();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1..],
            [
                r#"{"step":1,"loss":2.5,"supervised_tokens":7,"learning_rate":0.30000000000000004,"grad_norm":7.41691286169067e-309,"clip_factor":1.0,"tensor_norms":[0.3333333333333333,2.5]}"#,
                r#"{"step":2,"loss":"NaN","learning_rate":0.30000000000000004,"grad_norm":7.41691286169067e-309,"clip_factor":1.0,"skipped":true,"tensor_norms":[0.3333333333333333,"NaN"]}"#,
            ]
        );
    }

    /// The error that reading gives after a change of the text.
    fn error(change: impl Fn(&str) -> String) -> TraceError {
        Trace::from_json_lines(&change(&trace(&[3.0, 2.0, 1.0]).to_json_lines())).unwrap_err()
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line_and_a_remedy() {
        let said = |change: &dyn Fn(&str) -> String| error(change).to_string();
        let replaced = |from: &'static str, to: &'static str| {
            move |text: &str| {
                assert!(text.contains(from));
                text.replacen(from, to, 1)
            }
        };
        assert!(matches!(error(|_| String::new()), TraceError::Empty));
        assert!(matches!(
            error(|text| text[..text.len() - 20].to_owned()),
            TraceError::Truncated { line: 4 }
        ));
        assert!(matches!(error(|text| text.trim_end().to_owned()), TraceError::Truncated { line: 4 }));
        assert!(matches!(
            error(|text| text.split_inclusive('\n').take(3).collect()),
            TraceError::Steps { found: 2, declared: 3 }
        ));
        let schema = error(replaced("lossproof-trace/1", "lossproof-trace/2"));
        assert!(
            matches!(&schema, TraceError::Schema { found } if found == "\"lossproof-trace/2\""),
            "{schema}"
        );
        assert!(matches!(error(replaced("\"schema\"", "\"scheme\"")), TraceError::Schema { .. }));
        let unknown = said(&replaced("\"loss\":3.0", "\"lost\":3.0"));
        assert!(
            unknown.starts_with("line 2: unknown field `lost`") && unknown.contains("column"),
            "{unknown}"
        );
        let unknown = said(&replaced("\"seed\"", "\"seeds\""));
        assert!(
            unknown.starts_with("line 1: unknown field `seeds`") && unknown.contains("column"),
            "{unknown}"
        );
        assert!(said(&replaced("\"loss\":3.0,", "")).starts_with("line 2: missing field `loss`"));
        assert!(
            said(&replaced("\"loss\":3.0", "\"loss\":null"))
                .starts_with("line 2: expected a number, \"NaN\"")
        );
        assert!(
            said(&replaced("\"loss\":3.0", "\"loss\":\"nan\""))
                .starts_with("line 2: expected a number, \"NaN\"")
        );
        assert!(said(&replaced("\"bf16\"", "\"fp8\"")).contains("there is no dtype `fp8`"));
        for bare in ["NaN", "Infinity", "-Infinity"] {
            let error = error(|text| text.replacen("\"loss\":2.0", &format!("\"loss\":{bare}"), 1));
            assert!(matches!(error, TraceError::Bare { line: 3, found } if found == bare), "{error}");
        }
        assert!(matches!(
            error(replaced("\"step\":2", "\"step\":3")),
            TraceError::Order { line: 3, found: 3, expected: 2 }
        ));
        assert!(matches!(
            error(replaced(",3.0]", "]")),
            TraceError::Norms { line: 2, found: 1, parameters: 2 }
        ));
        assert!(matches!(error(replaced("\"z_loss\":0.0", "\"z_loss\":-1.0")), TraceError::Loss(_)));
    }

    #[test]
    fn what_could_not_be_read_again_is_no_trace() {
        let Trace { mut header, steps } = trace(&[1.0]);
        header.plan.segments[0].steps = 0;
        assert!(matches!(Trace::new(header.clone(), vec![]), Err(TraceError::NoStep)));
        header.plan.segments[0].steps = 1;
        let clip = Some(Clip { max_norm: f64::INFINITY, epsilon: 0.0 });
        header.plan.segments[0].optimizer.clip = clip;
        assert!(matches!(Trace::new(header, steps), Err(TraceError::Header)));
    }

    #[test]
    fn two_parameters_of_one_name_make_no_trace() {
        let Trace { mut header, steps } = trace(&[1.0]);
        header.parameters = vec!["a".to_owned(), "a".to_owned()];
        assert!(matches!(
            Trace::new(header, steps),
            Err(TraceError::RepeatedParameter { name }) if name == "a"
        ));
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.jsonl");
        let before = trace(&[3.0, 2.0]);
        before.write(&path).unwrap();
        assert_eq!(Trace::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let nowhere = directory.path().join("nowhere/run.jsonl");
        assert!(matches!(before.write(&nowhere), Err(TraceError::Write { .. })));
        assert!(matches!(Trace::read(&nowhere), Err(TraceError::Read { .. })));
        fs::write(&path, "{}\n").unwrap();
        assert!(matches!(Trace::read(&path), Err(TraceError::File { .. })));
    }
}
