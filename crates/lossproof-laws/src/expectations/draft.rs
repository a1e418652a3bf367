//! Drafting `lossproof.toml` from what a run found.

use super::{ExpectationsError, FILE, Outcome, Replay, read::TO_BE_WRITTEN};
use crate::Verdict;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// Laws that fail and could not be declared, each with its subject.
pub type Undrafted = Vec<(String, &'static str)>;

/// A draft that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The file.
    pub path: PathBuf,
    /// Laws that fail and could not be declared, each with its subject: no case of theirs was kept.
    pub undrafted: Undrafted,
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drafted {}: write the reasons that begin with {TO_BE_WRITTEN}", self.path.display())?;
        for (subject, law) in &self.undrafted {
            write!(
                f,
                "\nnot drafted: {subject}::{law} fails, and no case of it was kept (`files:` keeps them)"
            )?;
        }
        Ok(())
    }
}

/// Drafts the file at `path`, which is replaced atomically.
pub(super) fn write(path: &Path, outcomes: &[(String, Outcome)]) -> Result<Draft, ExpectationsError> {
    let failed = |source| ExpectationsError::Write { path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ExpectationsError::Read { path: path.to_owned(), source }),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let (text, undrafted) = draft(&text, folder, outcomes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(Draft { path: path.to_owned(), undrafted })
}

/// The text of the file after a run. Comments and reasons that are there stay, and so do the tables of other subjects; laws that
/// the run did not try stay as they are.
fn draft(
    text: &str,
    folder: &Path,
    outcomes: &[(String, Outcome)],
) -> Result<(String, Undrafted), toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let mut undrafted = Vec::new();
    if document.is_empty() {
        document.decor_mut().set_prefix(format!(
            "# What `cargo test` expects of the trainers of this package. LOSSPROOF_EXPECT=write cargo test drafts {FILE};\n\
             # the reasons are yours.\n\n"
        ));
    }
    let mut by_subject: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for (subject, outcome) in outcomes {
        by_subject.entry(subject).or_default().push(outcome);
    }
    for (subject, outcomes) in by_subject {
        let subjects = document.entry("subject").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let own = &mut subjects[subject];
        if own.is_none() {
            *own = Item::Table(Table::new());
        }
        let Some(own) = own.as_table_mut() else { continue };
        let mut decides: BTreeSet<String> = own
            .get("decides")
            .and_then(Item::as_array)
            .map(|laws| laws.iter().filter_map(|law| law.as_str().map(ToOwned::to_owned)).collect())
            .unwrap_or_default();
        let mut fails = own.get("fails").and_then(Item::as_array_of_tables).cloned().unwrap_or_default();
        for outcome in outcomes {
            let declared = fails.iter().position(|table| law_of(table) == Some(outcome.law));
            decides.remove(outcome.law);
            let still = matches!(outcome.replay, Some(Replay::Fails | Replay::Errors(_)));
            match (outcome.verdict, declared) {
                (_, Some(_)) if still => {}
                (Verdict::Fail | Verdict::Errored, found) => {
                    let Some(case) = &outcome.case else {
                        undrafted.push((subject.to_owned(), outcome.law));
                        continue;
                    };
                    let case = case.strip_prefix(folder).unwrap_or(case).display().to_string();
                    if let Some(table) = found.and_then(|index| fails.get_mut(index)) {
                        table["case"] = value(case);
                    } else {
                        fails.push(declaration(outcome, &case));
                    }
                }
                (verdict, found) => {
                    if let Some(index) = found {
                        fails.remove(index);
                    }
                    if verdict == Verdict::Pass {
                        decides.insert(outcome.law.to_owned());
                    }
                }
            }
        }
        own["decides"] = value(lines(&decides));
        if fails.is_empty() {
            own.remove("fails");
        } else {
            own["fails"] = Item::ArrayOfTables(fails);
        }
    }
    Ok((document.to_string(), undrafted))
}

fn law_of(table: &Table) -> Option<&str> {
    table.get("law").and_then(Item::as_str)
}

fn declaration(outcome: &Outcome, case: &str) -> Table {
    let mut table = Table::new();
    table["law"] = value(outcome.law);
    table["reason"] = value(format!("{TO_BE_WRITTEN}: why is this law broken?"));
    table["case"] = value(case);
    if let (Verdict::Errored, Some(why)) = (outcome.verdict, &outcome.why) {
        table["error"] = value(why);
    }
    table
}

/// A list with a line for each law, as the draft before it was sorted.
fn lines(laws: &BTreeSet<String>) -> Array {
    let mut array = Array::new();
    for law in laws {
        array.push(law.as_str());
    }
    for law in array.iter_mut() {
        law.decor_mut().set_prefix("\n    ");
    }
    array.set_trailing("\n");
    array.set_trailing_comma(true);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expectations::Draw;

    fn outcome(law: &'static str, verdict: Verdict, case: Option<&str>) -> (String, Outcome) {
        let case = case.map(|case| Path::new("/package").join(case));
        let outcome = Outcome { law, verdict, why: None, case, replay: None, draw: Draw::Own };
        ("mine".to_owned(), outcome)
    }

    #[test]
    fn a_draft_pins_what_decides_and_leaves_reasons_to_be_written() {
        let found = [
            outcome("sum", Verdict::Pass, None),
            outcome("counting", Verdict::Fail, Some("cases/counting/1.json")),
            outcome("ratios", Verdict::Unsupported, None),
            outcome("linearity", Verdict::Fail, None),
        ];
        let (text, undrafted) = draft("", Path::new("/package"), &found).unwrap();
        assert!(text.contains("decides = [\n    \"sum\",\n]"), "{text}");
        assert!(text.contains("case = \"cases/counting/1.json\"") && text.contains("TODO"), "{text}");
        assert_eq!(undrafted, [("mine".to_owned(), "linearity")]);
    }

    #[test]
    fn reasons_comments_and_other_subjects_stay() {
        let before = "# mine to say\n[subject.other]\ndecides = [\"sum\"]\n\n[[subject.mine.fails]]\nlaw = \"counting\"\n\
                      reason = \"issue 7\"\ncase = \"old.json\"\n";
        let found = [outcome("counting", Verdict::Fail, Some("new.json"))];
        let (text, _) = draft(before, Path::new("/package"), &found).unwrap();
        assert!(text.starts_with("# mine to say\n[subject.other]"), "{text}");
        assert!(
            text.contains("issue 7") && text.contains("new.json") && !text.contains("old.json"),
            "{text}"
        );
    }
}
