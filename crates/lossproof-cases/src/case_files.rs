//! Cases that failed once, kept as files and replayed from then on: `DIRECTORY/LAW/HASH.json`.

use crate::{Case, InvalidCase};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    mem,
    path::{Path, PathBuf},
};

/// A case that failed a law once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Id of the law.
    pub law: String,
    /// What was found when it failed, in words.
    pub found: String,
    /// The case, shrunk.
    pub case: Case,
}

impl CaseFile {
    /// Writes the case under `directory`, atomically, and returns where.
    ///
    /// The name of the file is a hash of the case alone: a case found again replaces the file it is in, and no two cases
    /// that were found in different places conflict.
    ///
    /// # Errors
    /// When the case is invalid, the law's id is no file name, or the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, CaseFileError> {
        self.case.validate()?;
        let directory = directory_of(directory, &self.law)?;
        let path = directory.join(format!("{}.json", short_hash(&self.case)));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&directory)?;
            let mut file = tempfile::NamedTempFile::new_in(&directory)?;
            file.write_all(pretty(self)?.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| CaseFileError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Reads one case file.
    ///
    /// # Errors
    /// When it cannot be read or holds no valid case.
    pub fn read(path: &Path) -> Result<Self, CaseFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| CaseFileError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| CaseFileError::Content { path: path.to_owned(), source })
    }

    /// Every case of a law under `directory`, each beside its file, in the order of the files' names; none where the law
    /// has no files. Files whose names do not end in `.json` are no case files.
    ///
    /// # Errors
    /// At the first file that cannot be read, holds no valid case, or names another law.
    pub fn of_law(directory: &Path, law: &str) -> Result<Vec<(PathBuf, Self)>, CaseFileError> {
        let directory = directory_of(directory, law)?;
        let listed = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()),
        };
        let mut paths = listed.map_err(|source| CaseFileError::Read { path: directory, source })?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let read = |path: PathBuf| {
            let file = Self::read(&path)?;
            if file.law == law { Ok((path, file)) } else { Err(CaseFileError::Law { path, law: file.law }) }
        };
        paths.into_iter().map(read).collect()
    }
}

/// Why a case file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseFileError {
    /// A law whose id is no name for a directory.
    #[error(
        "law id `{0}` names no directory: write lowercase letters, digits, `-`, `_` and `.`, the first no `.`"
    )]
    LawId(String),
    /// A case that could not be read again.
    #[error("an invalid case is not written")]
    Case(#[from] InvalidCase),
    /// The file or its directory cannot be written.
    #[error("could not write case file {}: is the directory writable?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file or its directory cannot be read.
    #[error("could not read {}: make it readable, or remove it", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no valid case. The source names the place.
    #[error(
        "{}:{}:{} holds no valid case: mend it there, or remove the file",
        path.display(), source.line(), source.column()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file stands in the directory of another law.
    #[error("{} is a case of the law `{law}`: move it to the directory of that name", path.display())]
    Law {
        /// The file.
        path: PathBuf,
        /// The law it names.
        law: String,
    },
}

fn directory_of(directory: &Path, law: &str) -> Result<PathBuf, CaseFileError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if law.is_empty() || law.starts_with('.') || !law.bytes().all(allowed) {
        return Err(CaseFileError::LawId(law.to_owned()));
    }
    Ok(directory.join(law))
}

/// The first 64 bits of the SHA-256 of the serialised case.
fn short_hash(case: &Case) -> String {
    let json = serde_json::to_vec(case).expect("invariant: a case has string keys only");
    Sha256::digest(json).iter().take(8).fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// Indented JSON with each list of numbers on one line, one token below the other.
fn pretty(file: &CaseFile) -> serde_json::Result<String> {
    let spread = serde_json::to_string_pretty(file)?;
    let mut text = String::new();
    // The lines since the last `[`, as long as they may be a list of numbers.
    let mut list: Vec<&str> = Vec::new();
    for line in spread.lines() {
        let item = line.trim_start();
        if item.starts_with(']') && !list.is_empty() {
            let mut list = mem::take(&mut list).into_iter();
            text.extend(list.next());
            let items: Vec<_> = list.map(str::trim_start).collect();
            text.push_str(&items.join(" "));
            text.push_str(item);
            text.push('\n');
            continue;
        }
        if !item.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            for held in mem::take(&mut list) {
                text.extend([held, "\n"]);
            }
        }
        if item.ends_with('[') || !list.is_empty() {
            list.push(line);
        } else {
            text.extend([line, "\n"]);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;
    use lossproof_spec::{GlobalBatch, LossSpec, Sequence};
    use lossproof_subject::{Limits, SubjectError};
    use std::error::Error;

    fn file(seed: u64) -> CaseFile {
        let sequence = Sequence::new(vec![5, 6, 7], vec![-100, 6, 7]).unwrap();
        let case = Case {
            batch: GlobalBatch::single(sequence),
            spec: LossSpec { z_loss: 1e-4, ..LossSpec::token_mean() },
            scale: Scale::Probe,
            upstream: vec![0.1, -2.0],
            seed,
        };
        CaseFile { law: "sum-is-additive".to_owned(), found: "it was 2 [not 1]".to_owned(), case }
    }

    /// The error that a file with `from` replaced by `to` is refused with, and what it says.
    fn refused(from: &str, to: &str) -> (CaseFileError, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = file(0).write(directory.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = CaseFile::of_law(directory.path(), "sum-is-additive").unwrap_err();
        let said = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
        assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
        (error, said)
    }

    #[test]
    fn cases_come_back_as_they_were_and_in_a_stable_order() {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<_> = [u64::MAX, 0, 1, 2].map(file).into();
        let mut written: Vec<_> =
            files.iter().map(|file| (file.write(directory.path()).unwrap(), file.clone())).collect();
        written.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(CaseFile::of_law(directory.path(), "sum-is-additive").unwrap(), written);
        assert!(CaseFile::of_law(directory.path(), "another-law").unwrap().is_empty());
    }

    #[test]
    fn a_case_found_again_is_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = file(3).write(directory.path()).unwrap();
        let again = CaseFile { found: "it was 3".to_owned(), ..file(3) };
        assert_eq!(again.write(directory.path()).unwrap(), first);
        let directory = first.parent().unwrap();
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
        assert_eq!(CaseFile::read(&first).unwrap(), again);
    }

    #[test]
    fn a_case_file_can_be_read_by_a_person() {
        insta::assert_snapshot!(pretty(&file(7)).unwrap(), @r#"
        {
          "law": "sum-is-additive",
          "found": "it was 2 [not 1]",
          "case": {
            "batch": [
              [
                [
                  {
                    "input_ids": [5, 6, 7],
                    "labels": [-100, 6, 7],
                    "segment_ids": [1, 1, 1],
                    "position_ids": [0, 1, 2],
                    "targets": [5, 6, 7]
                  }
                ]
              ]
            ],
            "spec": {
              "reduction": "token-mean",
              "scope": "global",
              "micro_batches": "add",
              "ranks": "add",
              "empty": "zero-counted",
              "counting": "supervised",
              "label_smoothing": 0.0,
              "z_loss": 0.0001
            },
            "scale": "probe",
            "upstream": [0.1, -2.0],
            "seed": 7
          }
        }
        "#);
    }

    #[test]
    fn damaged_files_are_refused_where_they_are_damaged() {
        let (_, cut) = refused("\"seed\": 0", "\"seed\":");
        assert!(cut.contains("expected value at line"), "{cut}");
        let (_, unknown) = refused("\"seed\": 0", "\"seed\": 0, \"speed\": 1");
        assert!(unknown.contains("unknown field `speed`"), "{unknown}");
        let (_, unknown) = refused("\"found\"", "\"remark\": 1, \"found\"");
        assert!(unknown.contains("unknown field `remark`"), "{unknown}");
        let (_, label) = refused("-100, 6, 7", "-100, -6, 7");
        assert!(
            label.contains("label -6 at position 1 is neither a token id nor the ignore index"),
            "{label}"
        );
        let (_, upstream) = refused("[0.1, -2.0]", "[]");
        assert!(upstream.contains("`upstream` is empty: give at least one weight"), "{upstream}");
        let (_, smoothing) = refused("\"label_smoothing\": 0.0", "\"label_smoothing\": 1.0");
        assert!(smoothing.contains("label smoothing 1 is outside [0, 1)"), "{smoothing}");
        let (law, said) = refused("sum-is-additive", "sum-is-sum");
        assert!(matches!(law, CaseFileError::Law { .. }), "{said}");
    }

    #[test]
    fn the_place_of_the_damage_is_named() {
        let (error, said) = refused("\"seed\": 0", "\"seed\": -1");
        let CaseFileError::Content { source, .. } = error else { panic!("{said}") };
        assert!(said.contains(&format!(".json:{}:{} ", source.line(), source.column())), "{said}");
        assert!(source.line() > 10, "{said}");
    }

    #[test]
    fn a_token_the_subject_does_not_know_is_caught_by_its_limits() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(0).write(directory.path()).unwrap();
        let case = CaseFile::read(&path).unwrap().case;
        assert!(Limits::of_model(8, 16).check(&case.batch).is_ok());
        let error = Limits::of_model(7, 16).check(&case.batch).unwrap_err();
        assert!(matches!(error, SubjectError::Limit { what: "token id", position: 2, .. }), "{error}");
    }

    #[test]
    fn a_law_cannot_write_outside_its_directory() {
        for law in ["", "..", "a/b", "/", "a\\b", "A"] {
            let error = CaseFile { law: law.to_owned(), ..file(0) }.write(Path::new("unused")).unwrap_err();
            assert!(matches!(error, CaseFileError::LawId(_)), "{error}");
        }
    }

    #[test]
    fn a_case_in_memory_is_validated_as_one_in_a_file() {
        let valid = file(0).case;
        assert!(valid.validate().is_ok());
        let no_number = Case { upstream: vec![1.0, f64::NAN], ..valid.clone() };
        assert!(no_number.validate().unwrap_err().to_string().starts_with("upstream weight 1 is NaN"));
        let no_weight = CaseFile { case: Case { upstream: Vec::new(), ..valid }, ..file(0) };
        let error = no_weight.write(Path::new("unused")).unwrap_err();
        assert!(matches!(error, CaseFileError::Case(InvalidCase::NoUpstream)), "{error}");
    }
}
