//! Drafting `lossproof.toml` from what a run found.

use super::{
    ContentFault, Draw, ExpectationsError, FILE, Outcome,
    decides::Pins,
    declarations::Declarations,
    read::{Located, TO_BE_WRITTEN, line},
};
use crate::Verdict;
use lossproof_cases::read_text;
use std::{
    collections::BTreeMap,
    fmt, fs, mem,
    path::{Path, PathBuf},
};
use toml_edit::{DocumentMut, Item, Table};

/// A draft that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The file.
    pub path: PathBuf,
    /// Reasons in it that are still to be written: until they are,
    /// [`Expectations::read`](super::Expectations::read) refuses the file.
    pub unexplained: usize,
    /// Laws that are broken and could not be declared.
    pub undrafted: Vec<Undrafted>,
}

/// A law that is broken and could not be declared, because a declaration needs a case that every machine
/// finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undrafted {
    /// The subject.
    pub subject: String,
    /// The law.
    pub law: &'static str,
    /// What is missing.
    pub why: String,
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drafted {}", self.path.display())?;
        match self.unexplained {
            0 => {}
            1 => write!(f, ": write the reason in it that begins with {TO_BE_WRITTEN}")?,
            many => write!(f, ": write the {many} reasons in it that begin with {TO_BE_WRITTEN}")?,
        }
        for Undrafted { subject, law, why } in &self.undrafted {
            write!(f, "\nnot drafted: {subject}::{law} is broken, but {why}")?;
        }
        Ok(())
    }
}

/// Drafts the file at `path`, or the one that a link there leads to, which is replaced atomically.
pub(super) fn write(path: &Path, outcomes: &[(String, Outcome)]) -> Result<Draft, ExpectationsError> {
    if outcomes.iter().any(|(_, outcome)| outcome.draw == Draw::Other) {
        return Err(ExpectationsError::OtherCases { path: path.to_owned() });
    }
    let failed = |source| ExpectationsError::Write { path: path.to_owned(), source };
    // A link stays one, and who shares the file that it leads to reads the draft.
    let written = if path.is_symlink() { fs::canonicalize(path).map_err(failed)? } else { path.to_owned() };
    // Every test may be a process of its own, and the last to write must not undo what the others wrote.
    #[cfg(unix)]
    let _lock = {
        let folder = fs::File::open(folder_of(&written)).map_err(failed)?;
        folder.lock().map_err(failed)?;
        folder
    };
    let before = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.is_missing() => String::new(),
        Err(error) => return Err(error.into()),
    };
    let misplaced = |Located { bytes, fault }| ExpectationsError::Content {
        path: path.to_owned(),
        line: line(&before, bytes.start),
        fault: Box::new(fault),
    };
    // Cases are named from where the package is, wherever its file may lie.
    let Drafted { text, unexplained, undrafted } =
        draft(&before, folder_of(path), outcomes).map_err(misplaced)?;
    if text != before {
        lossproof_files::write(&written, text.as_bytes()).map_err(failed)?;
    }
    Ok(Draft { path: path.to_owned(), unexplained, undrafted })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The text of a draft, and what is left to do about it.
#[derive(Debug)]
struct Drafted {
    text: String,
    unexplained: usize,
    undrafted: Vec<Undrafted>,
}

/// The text of the file after a run. Reasons and comments stay where a law stays, and so do the tables of
/// other subjects; laws that the run did not try are left as they are.
fn draft(before: &str, folder: &Path, outcomes: &[(String, Outcome)]) -> Result<Drafted, Located> {
    let mut document: DocumentMut = before.parse().map_err(|error: toml_edit::TomlError| Located {
        bytes: error.span().unwrap_or_default(),
        fault: ContentFault::Form(error.message().to_owned()),
    })?;
    let mut by_subject: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for (subject, outcome) in outcomes {
        by_subject.entry(subject).or_default().push(outcome);
    }
    if document.is_empty() && !by_subject.is_empty() {
        let remarks = document.trailing().as_str().unwrap_or_default().trim_end().to_owned();
        let remarks = if remarks.is_empty() {
            format!(
                "# What `cargo test` expects of this package's trainers. `LOSSPROOF_EXPECT=write cargo test` drafts \
                 {FILE};\n# the reasons are yours."
            )
        } else {
            remarks
        };
        document.set_trailing("");
        document.decor_mut().set_prefix(format!("{remarks}\n\n"));
    }
    let mut undrafted = Vec::new();
    for (subject, outcomes) in by_subject {
        let subjects = table(document.as_table_mut(), "subject", true)?;
        let own = table(subjects, subject, false)?;
        let mut pins = Pins::take(own);
        let mut declarations = Declarations::take(own)?;
        for outcome in outcomes {
            match outcome.verdict {
                _ if declarations.keep(outcome) => pins.remove(outcome.law),
                Verdict::Pass => {
                    declarations.remove(outcome.law);
                    pins.insert(outcome.law);
                }
                Verdict::Unsupported | Verdict::Unchecked => {
                    declarations.remove(outcome.law);
                    pins.remove(outcome.law);
                }
                Verdict::Fail | Verdict::Errored | Verdict::ExpectedFailure | Verdict::UnexpectedPass => {
                    match case(outcome, folder) {
                        Ok(case) => {
                            declarations.declare(outcome, &case);
                            pins.remove(outcome.law);
                        }
                        Err(why) => {
                            undrafted.push(Undrafted { subject: subject.to_owned(), law: outcome.law, why });
                        }
                    }
                }
            }
        }
        pins.give_back(own);
        declarations.give_back(own);
    }
    let text = document.to_string();
    let unexplained = unexplained(&document);
    Ok(Drafted { text, unexplained, undrafted })
}

/// The table under a key, which is made where there is none, and spread over lines where it is written in
/// one.
fn table<'a>(of: &'a mut Table, key: &str, implicit: bool) -> Result<&'a mut Table, Located> {
    let item = of.entry(key).or_insert_with(|| {
        let mut made = Table::new();
        made.set_implicit(implicit);
        Item::Table(made)
    });
    if !item.is_table()
        && let Ok(spread) = mem::take(item).into_table()
    {
        *item = Item::Table(spread);
    }
    item.as_table_mut()
        .ok_or_else(|| Located { bytes: 0..0, fault: ContentFault::Form(format!("`{key}` is no table")) })
}

/// The case that broke the law, relative to the folder of the file.
fn case(outcome: &Outcome, folder: &Path) -> Result<String, String> {
    let Some(case) = &outcome.case else {
        let why = "no case of it was kept: `files:` of `conformance!` says where to keep cases";
        return Err(match &outcome.why {
            Some(found) => format!("{why} ({found})"),
            None => why.to_owned(),
        });
    };
    let Ok(relative) = case.strip_prefix(folder) else {
        return Err(format!("its case {} lies outside the package", case.display()));
    };
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    Ok(parts.join("/"))
}

/// How many reasons of a document are still to be written.
fn unexplained(document: &DocumentMut) -> usize {
    let mut unexplained = 0;
    for (_, own) in
        document.get("subject").and_then(Item::as_table_like).into_iter().flat_map(|all| all.iter())
    {
        for declared in own.get("fails").and_then(Item::as_array_of_tables).into_iter().flatten() {
            let reason = declared.get("reason").and_then(Item::as_str).unwrap_or_default();
            unexplained += usize::from(reason.starts_with(TO_BE_WRITTEN));
        }
    }
    unexplained
}

#[cfg(test)]
mod tests;
