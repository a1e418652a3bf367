//! Why expectations could not be read or written.

use super::FILE;
use lossproof_cases::{CaseFileError, ReadError};
use std::{io, path::PathBuf};

/// Why expectations could not be read or written. Each says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectationsError {
    /// The file is there and cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be written.
    #[error("could not write {}: is its folder writable?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A draft of what `--seed` or `--cases` found.
    #[error(
        "{} is drafted from the test's own cases, which it pins: leave out --seed and --cases", path.display()
    )]
    OtherCases {
        /// The file.
        path: PathBuf,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        fault: Box<ContentFault>,
    },
}

/// What is wrong in a file of expectations.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentFault {
    /// No TOML, or none of this form: an unknown key, a missing one, a value of another type.
    #[error("{0}: write it as docs/laws.md shows, or start from a draft: LOSSPROOF_EXPECT=write cargo test")]
    Form(String),
    /// A law that there is not.
    #[error("there is no law `{law}`: correct its id, or delete it; every test is named after its law")]
    UnknownLaw {
        /// The id that was written.
        law: String,
    },
    /// A law that is pinned twice.
    #[error("`{law}` is pinned twice: delete one")]
    PinnedTwice {
        /// The law.
        law: &'static str,
    },
    /// A law with two declarations.
    #[error("`{law}` is declared to fail twice: keep the declaration whose case and reason are right")]
    DeclaredTwice {
        /// The law.
        law: &'static str,
    },
    /// A law that is pinned, and declared to fail.
    #[error("`{law}` is declared to fail, which decides it: delete it from `decides`")]
    PinnedAndDeclared {
        /// The law.
        law: &'static str,
    },
    /// A declared failure without a reason.
    #[error(
        "`{law}` is declared to fail for no reason: write a reason, such as the issue that reports the defect"
    )]
    NoReason {
        /// The law.
        law: &'static str,
    },
    /// A declared failure whose reason is that of a draft.
    #[error("the reason why `{law}` fails is still to be written: write a reason in place of \"{reason}\"")]
    DraftedReason {
        /// The law.
        law: &'static str,
        /// What is written.
        reason: String,
    },
    /// A declared error whose message is empty, which every error contains.
    #[error(
        "`error` of `{law}` is empty: write a part of the error's message, or delete it if the law is broken"
    )]
    NoError {
        /// The law.
        law: &'static str,
    },
    /// A law that is declared to be broken, without a word on what of it.
    #[error(
        "`{law}` is declared to fail, and not what of it: draft its `units` (LOSSPROOF_EXPECT=write cargo test), \
         or write them as docs/laws.md shows"
    )]
    NoUnits {
        /// The law.
        law: &'static str,
    },
    /// A unit that is named twice.
    #[error("`{unit}` is named twice among the `units` of `{law}`: delete one")]
    UnitTwice {
        /// The law.
        law: &'static str,
        /// The unit.
        unit: String,
    },
    /// A number of a unit to which nothing can be held.
    #[error(
        "{number} of a unit of `{law}` is no finite number: draft it (LOSSPROOF_EXPECT=write cargo test), or delete it"
    )]
    NoNumber {
        /// The law.
        law: &'static str,
        /// What is written.
        number: f64,
    },
    /// The path of a case that another machine would not find.
    #[error("the case of `{law}` has an absolute path: write it relative to the folder of {FILE}")]
    AbsoluteCase {
        /// The law.
        law: &'static str,
    },
    /// A path that no case file has.
    #[error(
        "the case of `{law}` is in no file: `{written}` is too long, or has a character that cannot be seen; \
         write where the case file is"
    )]
    NoPath {
        /// The law.
        law: &'static str,
        /// What is written.
        written: String,
    },
    /// A case file that is not there.
    #[error("there is no {}: restore the case of `{law}`, or delete the declaration", path.display())]
    MissingCase {
        /// The law.
        law: &'static str,
        /// Where the case file should be.
        path: PathBuf,
    },
    /// A case file that is damaged.
    #[error("the case of `{law}` cannot be replayed: {source}{}", cause(source))]
    Case {
        /// The law.
        law: &'static str,
        /// Why it cannot be read, with the file.
        source: CaseFileError,
    },
    /// A case file of another law.
    #[error("{} is a case of the law `{found}`: name one of `{law}`, or declare `{found}`", path.display())]
    CaseOfAnotherLaw {
        /// The law that is declared to fail.
        law: &'static str,
        /// The case file.
        path: PathBuf,
        /// The law it names.
        found: String,
    },
    /// A subject that no test has.
    #[error("no test has a subject named \"{subject}\": give the table the subject's new name, or delete it")]
    UnknownSubject {
        /// The subject.
        subject: String,
    },
}

/// What is behind an error, in words: it is printed on one line.
fn cause(error: &CaseFileError) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}
