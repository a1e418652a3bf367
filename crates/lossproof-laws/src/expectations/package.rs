//! A package for tests: its folder, with expectations and a kept case.

use super::{Broken, Draw, Expectations, ExpectationsError, FILE, Outcome};
use crate::Verdict;
use lossproof_cases::{Case, CaseFile, Scale};
use lossproof_numerics::Violation;
use lossproof_spec::{GlobalBatch, LossSpec, Sequence};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// The law that the kept case broke.
pub(super) const BROKEN: &str = "loss-scaling";

/// What `lossproof.toml` begins with that declares the failure.
pub(super) const DECLARED: &str = "[[subject.mine.fails]]\nlaw = \"loss-scaling\"\n";

pub(super) struct Package {
    folder: TempDir,
    /// The kept case, relative to the folder.
    pub(super) case: String,
}

impl Package {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let batch = GlobalBatch::single(Sequence::new(vec![1, 2], vec![1, 2]).unwrap());
        let spec = LossSpec::token_mean();
        let case = Case { batch, spec, scale: Scale::Probe, upstream: vec![1.0], seed: 0 };
        let file = CaseFile { law: BROKEN.to_owned(), found: "it was 2".to_owned(), case };
        let path = file.write(&folder.path().join("cases")).unwrap();
        let case = path.strip_prefix(folder.path()).unwrap().display().to_string();
        Self { folder, case }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, text: &str) {
        fs::write(self.path(FILE), text).unwrap();
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.path(FILE)).unwrap()
    }

    pub(super) fn read(&self) -> Result<Expectations, ExpectationsError> {
        Expectations::read(&self.path(FILE)).map(Option::unwrap)
    }
}

/// An outcome on the test's own cases, without a case or an error.
pub(super) fn outcome(law: &'static str, verdict: Verdict) -> Outcome {
    let (broken, elsewhere) = (Broken::default(), Broken::default());
    Outcome {
        law,
        verdict,
        why: None,
        error: None,
        broken,
        elsewhere,
        case: None,
        replay: None,
        draw: Draw::Own,
    }
}

/// What of a law is broken: each unit the given multiple of what it should be.
pub(super) fn broken(units: &[(&str, f64)]) -> Broken {
    let violation = |&(unit, ratio): &(&str, f64)| Violation {
        unit: unit.to_owned(),
        statement: "one is the other".to_owned(),
        error: 1.0,
        bound: 1e-9,
        pair: None,
        ratio: Some(ratio),
    };
    Broken::of(&units.iter().map(violation).collect::<Vec<_>>())
}
