//! The checks of a report as JSON lines, for programs that read one check after the other.

use crate::model::{Check, Checks, Report};
use crate::number;
use serde::{Serialize, Serializer, ser::SerializeMap};

/// The form of the lines, as it stands in the first of them.
pub const SCHEMA: &str = "lossproof-report/1";

/// Why a report is not JSON lines.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as JSON lines: {0}; write it as HTML or as JUnit XML instead")]
pub struct JsonError(#[from] serde_json::Error);

/// The head of a report, then its checks, one a line. Text is given whole, and a number that is not finite is
/// one of the strings `"NaN"`, `"inf"` and `"-inf"`.
///
/// # Errors
/// When the library that writes the JSON refuses.
pub fn json_lines(report: &Report) -> Result<String, JsonError> {
    let header = Header {
        title: &report.title,
        command: &report.command,
        subject: &report.subject,
        outcome: report.outcome.word(),
        summary: &report.summary,
        checks: report.checks().map(|checks| checks.checks.len()).sum(),
    };
    let mut lines = serde_json::to_string(&First { schema: SCHEMA, header })?;
    lines.push('\n');
    for checks in report.checks() {
        for check in &checks.checks {
            lines.push_str(&serde_json::to_string(&Line::of(check, checks))?);
            lines.push('\n');
        }
    }
    Ok(lines)
}

#[derive(Serialize)]
struct First<'a> {
    schema: &'a str,
    header: Header<'a>,
}

#[derive(Serialize)]
struct Header<'a> {
    title: &'a str,
    command: &'a str,
    subject: &'a [String],
    outcome: &'a str,
    summary: &'a str,
    /// How many lines follow, so that a file that was cut short is noticed.
    checks: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    suite: &'a str,
    id: &'a str,
    what: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<Number>,
    #[serde(skip_serializing_if = "Measures::is_empty")]
    measures: Measures<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(check: &'a Check, checks: &'a Checks) -> Self {
        Self {
            suite: &checks.name,
            id: &check.id,
            what: &check.what,
            outcome: check.outcome.word(),
            reason: check.outcome.reason(),
            seconds: check.seconds.map(Number),
            measures: Measures(check),
            details: &check.details,
            rerun: check.rerun.as_deref(),
        }
    }
}

/// A number as JSON has it, or a string where JSON has none.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(number::not_finite(self.0))
        }
    }
}

/// What a check measured, as an object in the order in which it was measured.
struct Measures<'a>(&'a Check);

impl Measures<'_> {
    fn is_empty(&self) -> bool {
        self.0.measures.is_empty()
    }
}

impl Serialize for Measures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.measures.len()))?;
        for measure in &self.0.measures {
            map.serialize_entry(&measure.name, &Number(measure.value))?;
        }
        map.end()
    }
}
