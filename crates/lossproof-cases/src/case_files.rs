//! Cases that failed once, kept as files and replayed from then on: `DIRECTORY/LAW/HASH.json`.
//!
//! A kept case guards against a defect only while something replays it. [`CaseFile::stale`] finds the files
//! that nothing replays, whoever asks for it treats them as failures: each is a guard that went without a
//! word, and a rename or a deletion settles it. A case that one subject cannot take may be another's;
//! [`CaseFile::of_law_within`] tells them apart.
//!
//! A link to a folder is not followed: two of them that lead back are an endless number of folders.

mod text;

pub use text::{LARGEST, ReadError, read_bytes, read_text};

use crate::{Case, InvalidCase};
use lossproof_spec::{concise, shortened};
use lossproof_subject::{Limits, SubjectError};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    fs, io, mem,
    path::{Component, Path, PathBuf},
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
    /// The name of the file is a hash of the case alone: a case found again replaces the file it is in, and
    /// no two cases that were found in different places conflict.
    ///
    /// # Errors
    /// When the case is invalid, the law's id is no file name, or the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, CaseFileError> {
        self.case.validate()?;
        let directory = directory_of(directory, &self.law)?;
        let path = directory.join(format!("{}.json", short_hash(&self.case)));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&directory)?;
            lossproof_files::write(&path, pretty(self)?.as_bytes())
        };
        write().map_err(|source| CaseFileError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Reads one case file.
    ///
    /// # Errors
    /// When it is no regular file, is larger than [`LARGEST`], cannot be read or holds no valid case.
    pub fn read(path: &Path) -> Result<Self, CaseFileError> {
        let text = read_text(path)?;
        serde_json::from_str(&text)
            .map_err(|error| CaseFileError::Content { path: path.to_owned(), source: concise(error) })
    }

    /// Every case of a law under `directory`, each beside its file, in the order of the files' names; none
    /// where the law has no files. Files whose names do not end in `.json` are no case files.
    ///
    /// # Errors
    /// At the first file that cannot be read, holds no valid case, or names another law.
    pub fn of_law(directory: &Path, law: &str) -> Result<Vec<(PathBuf, Self)>, CaseFileError> {
        let directory = directory_of(directory, law)?;
        let mut paths = listed(&directory)?;
        paths.retain(|path| is_json(path));
        let mut files = Vec::new();
        for path in paths {
            let file = Self::read_for(&path, law)?;
            files.push((path, file));
        }
        Ok(files)
    }

    /// Every case of a law under `directory`, parted by whether its batch lies inside `limits`: what
    /// [`Self::of_law`] reads for one subject to replay, and what the subject cannot.
    ///
    /// # Errors
    /// Those of [`Self::of_law`].
    pub fn of_law_within(directory: &Path, law: &str, limits: &Limits) -> Result<KeptCases, CaseFileError> {
        let mut kept = KeptCases::default();
        for (path, file) in Self::of_law(directory, law)? {
            match limits.check(&file.case.batch) {
                Ok(()) => kept.taken.push((path, file)),
                Err(refusal) => kept.refused.push(RefusedCase { path, refusal }),
            }
        }
        Ok(kept)
    }

    /// The files under `directory` that nothing replays, in the order of their names: those of laws that are
    /// not among `laws`, those that [`Self::of_law`] would not read, those that no law's folder holds, and
    /// those whose batch lies outside the limits of every one of `subjects`. (With no subject at all, limits
    /// are not looked at.) A link to a folder is one of them, for all that it leads to. The directory is taken
    /// to hold case files only; what does not end in `.json` is left alone, and so is a directory that is not
    /// there.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn stale(
        directory: &Path,
        laws: &[&str],
        subjects: &[Limits],
    ) -> Result<Vec<StaleCaseFile>, CaseFileError> {
        let mut stale = Vec::new();
        // The folder of an unknown law that was reported last: one report tells of all its files.
        let mut unknown = None;
        for path in json_files(directory)? {
            if path.is_dir() {
                stale.push(StaleCaseFile::Unreadable(CaseFileError::Linked { path }));
                continue;
            }
            let Some(folder) = law_folder(directory, &path) else {
                stale.push(StaleCaseFile::Misplaced { path });
                continue;
            };
            let law = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !laws.contains(&law.as_str()) {
                if unknown.as_ref() != Some(&folder) {
                    unknown = Some(folder.clone());
                    stale.push(StaleCaseFile::UnknownLaw { folder, law });
                }
                continue;
            }
            let case = match Self::read_for(&path, &law) {
                Ok(file) => file.case,
                Err(error) => {
                    stale.push(StaleCaseFile::Unreadable(error));
                    continue;
                }
            };
            let mut refusals = Vec::new();
            for limits in subjects {
                refusals.extend(limits.check(&case.batch).err());
            }
            if refusals.len() == subjects.len()
                && let Some(refusal) = refusals.into_iter().next()
            {
                stale.push(StaleCaseFile::TakenByNone { path, refusal });
            }
        }
        Ok(stale)
    }

    /// Reads a file that lies in the folder of `law`.
    fn read_for(path: &Path, law: &str) -> Result<Self, CaseFileError> {
        let file = Self::read(path)?;
        if file.law == law {
            Ok(file)
        } else {
            Err(CaseFileError::Law { path: path.to_owned(), law: shortened(&file.law) })
        }
    }
}

/// The kept cases of one law, as one subject meets them.
#[derive(Debug, Default)]
pub struct KeptCases {
    /// Those whose batch lies inside the subject's limits, each with its file.
    pub taken: Vec<(PathBuf, CaseFile)>,
    /// Those whose batch does not.
    pub refused: Vec<RefusedCase>,
}

/// A kept case that a subject cannot take. That is no failure, because another subject of the same test may
/// take it.
#[derive(Debug, thiserror::Error)]
#[error("{} is not replayed: {refusal}", path.display())]
pub struct RefusedCase {
    /// The file.
    pub path: PathBuf,
    /// What of the batch lies outside the subject's limits.
    pub refusal: SubjectError,
}

/// A case file that nothing replays: whatever it guarded against may come back unseen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StaleCaseFile {
    /// The files of a law that there is not, or not any more.
    #[error(
        "nothing replays the cases in {}, because there is no law `{law}`: give the folder, and `law` in its files, the \
         law's new name, or delete it", folder.display()
    )]
    UnknownLaw {
        /// The folder.
        folder: PathBuf,
        /// The law it is named after.
        law: String,
    },
    /// A file that lies in no law's folder.
    #[error(
        "nothing replays {}, because it lies in no law's folder: move it to the folder that its `law` names, or delete it",
        path.display()
    )]
    Misplaced {
        /// The file.
        path: PathBuf,
    },
    /// A file in a law's folder that holds no case of that law, or a link to a folder.
    #[error(transparent)]
    Unreadable(CaseFileError),
    /// A case that lies outside the limits of every subject.
    #[error(
        "nothing replays {}, because no trainer of this test takes its batch ({refusal}): delete it, or widen the limits \
         that the trainer declares", path.display()
    )]
    TakenByNone {
        /// The file.
        path: PathBuf,
        /// Why the first subject does not take it.
        refusal: SubjectError,
    },
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
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A link to a folder, in the place of a law's folder or anywhere below.
    #[error(
        "{} is a link to a folder, which is not followed: put the files there that it leads to, or remove it",
        path.display()
    )]
    Linked {
        /// The link.
        path: PathBuf,
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
    let folder = directory.join(law);
    if folder.is_dir() && folder.is_symlink() {
        Err(CaseFileError::Linked { path: folder })
    } else {
        Ok(folder)
    }
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// What lies in a directory, sorted; nothing where it is not there.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, CaseFileError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| ReadError::System { path: directory.to_owned(), source }.into()),
    }
}

/// The files under a directory whose names end in `.json`, however deep they lie, and the links to folders.
fn json_files(directory: &Path) -> Result<Vec<PathBuf>, CaseFileError> {
    let mut files = Vec::new();
    for path in listed(directory)? {
        if path.is_dir() && path.is_symlink() {
            files.push(path);
        } else if path.is_dir() {
            files.extend(json_files(&path)?);
        } else if is_json(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The folder of a law that `path` lies in, where it is one right below `directory`.
fn law_folder(directory: &Path, path: &Path) -> Option<PathBuf> {
    let below: Vec<_> = path.strip_prefix(directory).ok()?.components().collect();
    match below.as_slice() {
        [Component::Normal(law), Component::Normal(_)] => Some(directory.join(law)),
        _ => None,
    }
}

/// The first 64 bits of the SHA-256 of the serialised case.
fn short_hash(case: &Case) -> String {
    let json = serde_json::to_vec(case).expect("invariant: a case has string keys only");
    hmac_sha256::Hash::hash(&json).iter().take(8).fold(String::new(), |mut hash, byte| {
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
mod tests;
