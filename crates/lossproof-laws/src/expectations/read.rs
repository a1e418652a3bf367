//! From the text of `lossproof.toml` to expectations that are consistent.

use super::{
    ContentFault, DeclaredFailure, DeclaredUnit, Expectations, ExpectationsError, SubjectExpectations,
    broken::Units,
};
use crate::Law;
use lossproof_cases::{CaseFile, CaseFileError, read_text};
use lossproof_spec::shortened;
use serde::Deserialize;
use serde_spanned::Spanned;
use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

/// What a reason begins with that a draft left to be written.
pub(super) const TO_BE_WRITTEN: &str = "TODO";

/// Bytes of the path of a case.
const LONGEST_PATH: usize = 1024;

/// Whether every declared failure must say why, and what fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reasons {
    /// It must.
    Written,
    /// A draft may have left the reason to be written, and is about to name what fails.
    Drafted,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    subject: BTreeMap<Spanned<String>, SubjectTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectTable {
    #[serde(default)]
    decides: Vec<Spanned<String>>,
    #[serde(default)]
    fails: Vec<FailureTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureTable {
    law: Spanned<String>,
    reason: Spanned<String>,
    case: Spanned<PathBuf>,
    error: Option<Spanned<String>>,
    units: Option<Spanned<Vec<UnitTable>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitTable {
    name: Spanned<String>,
    ratio: Option<Spanned<f64>>,
    deviation: Option<Spanned<f64>>,
}

/// A fault, and the bytes of the file it is in.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) bytes: Range<usize>,
    pub(super) fault: ContentFault,
}

impl Located {
    fn at<T>(place: &Spanned<T>, fault: ContentFault) -> Self {
        Self { bytes: place.span(), fault }
    }
}

pub(super) fn read(path: &Path, reasons: Reasons) -> Result<Option<Expectations>, ExpectationsError> {
    let text = match read_text(path) {
        Ok(text) => text,
        // A link to a file that is gone does not mean that nothing is expected.
        Err(error) if error.is_missing() && !path.is_symlink() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    match subjects(&text, folder, reasons) {
        Ok(subjects) => Ok(Some(Expectations { path: path.to_owned(), subjects })),
        Err(Located { bytes, fault }) => Err(ExpectationsError::Content {
            path: path.to_owned(),
            line: line(&text, bytes.start),
            fault: Box::new(fault),
        }),
    }
}

/// The line that a byte is in, counted from 1.
pub(super) fn line(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&byte| byte == b'\n').count()
}

fn subjects(
    text: &str,
    folder: &Path,
    reasons: Reasons,
) -> Result<BTreeMap<String, SubjectExpectations>, Located> {
    let tables: Tables = toml_edit::de::from_str(text).map_err(|error| Located {
        bytes: error.span().unwrap_or_default(),
        fault: ContentFault::Form(shortened(error.message())),
    })?;
    let mut subjects = BTreeMap::new();
    for (name, table) in tables.subject {
        let line = line(text, name.span().start);
        subjects.insert(name.into_inner(), subject(line, table, folder, reasons)?);
    }
    Ok(subjects)
}

fn subject(
    line: usize,
    table: SubjectTable,
    folder: &Path,
    reasons: Reasons,
) -> Result<SubjectExpectations, Located> {
    let mut expectations = SubjectExpectations { line, ..SubjectExpectations::default() };
    for pinned in &table.decides {
        let law = law(pinned)?;
        if !expectations.decides.insert(law) {
            return Err(Located::at(pinned, ContentFault::PinnedTwice { law }));
        }
    }
    for declared in table.fails {
        let law = law(&declared.law)?;
        if expectations.decides.contains(law) {
            return Err(Located::at(&declared.law, ContentFault::PinnedAndDeclared { law }));
        }
        if expectations.fails.contains_key(law) {
            return Err(Located::at(&declared.law, ContentFault::DeclaredTwice { law }));
        }
        expectations.fails.insert(law, failure(law, declared, folder, reasons)?);
    }
    Ok(expectations)
}

fn law(id: &Spanned<String>) -> Result<&'static str, Located> {
    match Law::named(id.as_ref()) {
        Some(law) => Ok(law.id()),
        None => Err(Located::at(id, ContentFault::UnknownLaw { law: shortened(id.as_ref()) })),
    }
}

fn failure(
    law: &'static str,
    table: FailureTable,
    folder: &Path,
    reasons: Reasons,
) -> Result<DeclaredFailure, Located> {
    let reason = table.reason.as_ref().trim();
    if reason.is_empty() {
        return Err(Located::at(&table.reason, ContentFault::NoReason { law }));
    }
    if reasons == Reasons::Written && reason.starts_with(TO_BE_WRITTEN) {
        let fault = ContentFault::DraftedReason { law, reason: shortened(reason) };
        return Err(Located::at(&table.reason, fault));
    }
    if let Some(error) = &table.error
        && error.as_ref().trim().is_empty()
    {
        return Err(Located::at(error, ContentFault::NoError { law }));
    }
    let units = units(law, &table)?;
    if reasons == Reasons::Written && units.is_empty() && table.error.is_none() {
        return Err(match &table.units {
            Some(empty) => Located::at(empty, ContentFault::NoUnits { law }),
            None => Located::at(&table.law, ContentFault::NoUnits { law }),
        });
    }
    if table.case.as_ref().is_absolute() {
        return Err(Located::at(&table.case, ContentFault::AbsoluteCase { law }));
    }
    let written = table.case.as_ref().to_string_lossy();
    if written.len() > LONGEST_PATH || written.chars().any(char::is_control) {
        let fault = ContentFault::NoPath { law, written: shortened(&written) };
        return Err(Located::at(&table.case, fault));
    }
    let path = folder.join(table.case.as_ref());
    let kept = match CaseFile::read(&path) {
        Ok(kept) => kept,
        Err(CaseFileError::Read(error)) if error.is_missing() => {
            return Err(Located::at(&table.case, ContentFault::MissingCase { law, path }));
        }
        Err(source) => return Err(Located::at(&table.case, ContentFault::Case { law, source })),
    };
    if kept.law != law {
        let fault = ContentFault::CaseOfAnotherLaw { law, path, found: shortened(&kept.law) };
        return Err(Located::at(&table.case, fault));
    }
    Ok(DeclaredFailure {
        reason: reason.to_owned(),
        file: table.case.into_inner(),
        case: kept.case,
        error: table.error.map(Spanned::into_inner),
        units,
    })
}

fn units(law: &'static str, table: &FailureTable) -> Result<Units, Located> {
    let mut units = Units::new();
    for unit in table.units.iter().flat_map(Spanned::as_ref) {
        let (ratio, deviation) = (number(law, unit.ratio.as_ref())?, number(law, unit.deviation.as_ref())?);
        let name = unit.name.as_ref();
        if units.insert(name.clone(), DeclaredUnit { ratio, deviation }).is_some() {
            let fault = ContentFault::UnitTwice { law, unit: shortened(name) };
            return Err(Located::at(&unit.name, fault));
        }
    }
    Ok(units)
}

/// A number that another can be held to: infinity is as near to everything.
fn number(law: &'static str, written: Option<&Spanned<f64>>) -> Result<Option<f64>, Located> {
    let Some(written) = written else { return Ok(None) };
    let number = *written.as_ref();
    if !number.is_finite() {
        return Err(Located::at(written, ContentFault::NoNumber { law, number }));
    }
    Ok(Some(number))
}

#[cfg(test)]
mod tests;
