//! What the lines of the protocol look like, as JSON schemas.

use crate::{Accumulated, Card, Failure, Nothing, Request, Stepped, Trained, Validated};
use schemars::{JsonSchema, Schema, schema_for};

/// The line of a question.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is written down and never made")]
struct QuestionLine {
    /// Number of the question.
    id: u64,
    /// Bytes of tensors behind the line.
    #[schemars(default)]
    tensors: u64,
    /// What is asked.
    request: Request<'static>,
}

/// The line of an answer: either `answer`, whose form depends on the question, or `error`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is written down and never made")]
struct AnswerLine {
    /// Number of the question.
    id: u64,
    /// Bytes of tensors behind the line.
    #[schemars(default)]
    tensors: u64,
    /// What is answered.
    #[schemars(default)]
    answer: Option<Answer>,
    /// Why there is no answer.
    #[schemars(default)]
    error: Option<Failure>,
}

/// What is answered, by what was asked.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is written down and never made")]
enum Answer {
    /// To `hello`.
    Card(Box<Card>),
    /// To `accumulate`, `backward` and `learn`.
    Accumulated(Accumulated),
    /// To `step`.
    Stepped(Stepped),
    /// To `validate`.
    Validated(Validated),
    /// To `train` and `resume`.
    Trained(Trained),
    /// To everything else.
    Nothing(Nothing),
}

/// The schemas of the lines of the protocol, by the names of their files.
#[must_use]
pub fn schemas() -> [(&'static str, Schema); 2] {
    [("question.json", schema_for!(QuestionLine)), ("answer.json", schema_for!(AnswerLine))]
}
