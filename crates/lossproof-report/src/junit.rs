//! The checks of a report as JUnit XML, for programs that collect the results of tests.

use crate::model::{Check, CheckOutcome, Report};
use crate::{number, text};
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// Why a report is not JUnit XML.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as JUnit XML: {0}; write it as JSON lines, which take any text")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The checks of a report as JUnit XML: a suite for each list of checks, a test case for each check.
///
/// What is unchecked is an error, because it never counts as passed. The line that tries a check again is its
/// property `rerun`, and what was measured are properties too. There are no dates in it.
///
/// # Errors
/// When the library that writes the XML refuses.
pub fn junit(report: &Report) -> Result<String, JunitError> {
    let mut document = quick_junit::Report::new(text::line(&report.title, text::LINE));
    for checks in report.checks() {
        let name = text::line(&checks.name, text::LINE);
        let mut suite = TestSuite::new(name.as_str());
        for check in &checks.checks {
            suite.add_test_case(case(check, &name));
        }
        document.add_test_suite(suite);
    }
    Ok(document.to_string()?)
}

fn case(check: &Check, suite: &str) -> TestCase {
    let mut case = TestCase::new(text::line(&check.id, text::LINE), status(check));
    case.set_classname(suite);
    // A duration that is negative or not a number is not known.
    if let Some(time) = check.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        case.set_time(time);
    }
    case.add_property(Property::new("what", text::line(&check.what, text::SENTENCE)));
    for measure in &check.measures {
        case.add_property(Property::new(text::line(&measure.name, text::LINE), number::exact(measure.value)));
    }
    if let Some(rerun) = &check.rerun {
        case.add_property(Property::new("rerun", text::line(rerun, text::COMMAND)));
    }
    if matches!(check.outcome, CheckOutcome::Passed) && !check.details.is_empty() {
        case.set_system_out(text::block(&check.details, text::BLOCK));
    }
    case
}

fn status(check: &Check) -> TestCaseStatus {
    let mut status = match check.outcome {
        CheckOutcome::Passed => return TestCaseStatus::success(),
        CheckOutcome::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        CheckOutcome::Errored(_) | CheckOutcome::Unchecked(_) => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
        CheckOutcome::Skipped(_) => TestCaseStatus::skipped(),
    };
    status.set_type(check.outcome.word());
    if let Some(reason) = check.outcome.reason() {
        status.set_message(text::line(reason, text::SENTENCE));
    }
    let mut description = text::block(&check.details, text::BLOCK);
    if let Some(rerun) = &check.rerun {
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str("rerun: ");
        description.push_str(&text::line(rerun, text::COMMAND));
    }
    if !description.is_empty() {
        status.set_description(description);
    }
    status
}
