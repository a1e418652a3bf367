//! The checks of a report as JUnit XML, for programs that collect the results of tests.

use crate::model::{Check, CheckOutcome, Checks, Report};
use crate::{number, text};
use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::writer::{ElementWriter, Writer};
use std::io;
use std::time::Duration;

/// Why a report is not JUnit XML.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as JUnit XML: {0}; write it as JSON lines, which take any text")]
pub struct JunitError(#[from] io::Error);

/// The checks of a report as JUnit XML: a suite for each list of checks, a test case for each check.
///
/// What is unchecked is an error, because it never counts as passed. The line that tries a check again is its
/// property `rerun`, and what was measured are properties too. There are no dates in it.
///
/// The elements are those that [Jenkins](https://github.com/jenkinsci/junit-plugin) reads.
///
/// # Errors
/// When the library that writes the XML refuses.
pub fn junit(report: &Report) -> Result<String, JunitError> {
    let mut document = Xml::new_with_indent(Vec::new(), b' ', 4);
    document.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let title = text::line(&report.title, text::LINE);
    let mut attributes = vec![("name", title)];
    attributes.extend(counts(report.checks().flat_map(|checks| &checks.checks)));
    element(&mut document, "testsuites", &attributes, |document| {
        report.checks().try_for_each(|checks| suite(document, checks))
    })?;
    document.write_indent()?;
    let written = String::from_utf8(document.into_inner());
    Ok(written.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?)
}

type Xml = Writer<Vec<u8>>;

/// The beginning of an element.
fn begin<'a>(
    document: &'a mut Xml,
    name: &'a str,
    attributes: &[(&str, String)],
) -> ElementWriter<'a, Vec<u8>> {
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    document.create_element(name).with_attributes(attributes)
}

/// An element with the elements that `content` writes.
fn element(
    document: &mut Xml,
    name: &str,
    attributes: &[(&str, String)],
    content: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<()> {
    begin(document, name, attributes).write_inner_content(content)?;
    Ok(())
}

/// How many test cases there are, and how many of each sort that did not pass.
fn counts<'a>(checks: impl Iterator<Item = &'a Check>) -> [(&'static str, String); 4] {
    let [mut all, mut skipped, mut failures, mut errors] = [0_usize; 4];
    for check in checks {
        all += 1;
        match check.outcome {
            CheckOutcome::Passed => {}
            CheckOutcome::Failed(_) => failures += 1,
            CheckOutcome::Errored(_) | CheckOutcome::Unchecked(_) => errors += 1,
            CheckOutcome::Skipped(_) => skipped += 1,
        }
    }
    [("tests", all), ("skipped", skipped), ("failures", failures), ("errors", errors)]
        .map(|(name, count)| (name, count.to_string()))
}

fn suite(document: &mut Xml, checks: &Checks) -> io::Result<()> {
    let name = text::line(&checks.name, text::LINE);
    let mut attributes = vec![("name", name.clone())];
    attributes.extend(counts(checks.checks.iter()));
    element(document, "testsuite", &attributes, |document| {
        checks.checks.iter().try_for_each(|check| case(document, check, &name))
    })
}

fn case(document: &mut Xml, check: &Check, suite: &str) -> io::Result<()> {
    let mut attributes = vec![("name", text::line(&check.id, text::LINE)), ("classname", suite.to_owned())];
    // A duration that is negative or not a number is not known.
    if let Some(time) = check.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        attributes.push(("time", format!("{:.3}", time.as_secs_f64())));
    }
    element(document, "testcase", &attributes, |document| {
        element(document, "properties", &[], |document| properties(document, check))?;
        status(document, check)
    })
}

fn properties(document: &mut Xml, check: &Check) -> io::Result<()> {
    let mut properties = vec![("what".to_owned(), text::line(&check.what, text::SENTENCE))];
    for measure in &check.measures {
        properties.push((text::line(&measure.name, text::LINE), number::exact(measure.value)));
    }
    if let Some(rerun) = &check.rerun {
        properties.push(("rerun".to_owned(), text::line(rerun, text::COMMAND)));
    }
    for (name, value) in properties {
        begin(document, "property", &[("name", name), ("value", value)]).write_empty()?;
    }
    Ok(())
}

/// What became of a check: an element of its own, unless it passed.
fn status(document: &mut Xml, check: &Check) -> io::Result<()> {
    let mut description = text::block(&check.details, text::BLOCK);
    let name = match check.outcome {
        CheckOutcome::Passed if description.is_empty() => return Ok(()),
        CheckOutcome::Passed => {
            document.create_element("system-out").write_text_content(BytesText::new(&description))?;
            return Ok(());
        }
        CheckOutcome::Failed(_) => "failure",
        CheckOutcome::Errored(_) | CheckOutcome::Unchecked(_) => "error",
        CheckOutcome::Skipped(_) => "skipped",
    };
    let mut attributes = Vec::new();
    if let Some(reason) = check.outcome.reason() {
        attributes.push(("message", text::line(reason, text::SENTENCE)));
    }
    attributes.push(("type", check.outcome.word().to_owned()));
    if let Some(rerun) = &check.rerun {
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str("rerun: ");
        description.push_str(&text::line(rerun, text::COMMAND));
    }
    let element = begin(document, name, &attributes);
    if description.is_empty() {
        element.write_empty()?;
    } else {
        element.write_text_content(BytesText::new(&description))?;
    }
    Ok(())
}
