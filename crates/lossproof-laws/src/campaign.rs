//! A law on many random cases: replay what failed before, search, shrink, report.

use super::{
    Examiner, Law, Stop, Tried, Violation, Worst,
    check::Check,
    trial::{Facts, Trial},
};
use crate::distance;
use lossproof_cases::{
    Case, CaseFile, CaseFileError,
    strategies::{self, Size},
};
use lossproof_subject::{Subject, SubjectError, Tensor};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Steps that shrinking may take. Each is one trial of the law.
const SHRINKING: u32 = 4096;

/// Holds a subject to laws on random cases.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Random cases per law.
    pub cases: u32,
    /// Fixes them.
    pub seed: u64,
    /// How large they are.
    pub size: Size,
    /// Whether a failing case is made as small as it can be. Without, the first one found is reported.
    pub shrink: bool,
    /// Where cases that failed are kept, and replayed from first. Nothing is read or written where this is `None`.
    pub files: Option<PathBuf>,
    /// Who says what a subject that fails looks like. Nobody where this is `None`.
    pub examiner: Option<Arc<dyn Examiner>>,
}

impl Default for Campaign {
    /// 256 cases of the usual size from seed 0, shrunk, without case files and without an examiner.
    fn default() -> Self {
        Self { cases: 256, seed: 0, size: Size::default(), shrink: true, files: None, examiner: None }
    }
}

/// What became of a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every comparison of every case is within its bound, and everything compared was certified at least once.
    Pass,
    /// A case broke the law.
    Fail,
    /// The subject lacks something the law needs.
    Unsupported,
    /// Nothing was compared, no case could have told a violation, or the effect of something lay below its bound in every
    /// case. Never a pass.
    Unchecked,
    /// The subject failed where it should not.
    Errored,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Unsupported => "unsupported",
            Self::Unchecked => "UNCHECKED",
            Self::Errored => "ERRORED",
        })
    }
}

/// What a campaign found of one law.
#[derive(Clone, Debug)]
pub struct Report {
    /// The law.
    pub law: &'static Law,
    /// The verdict.
    pub verdict: Verdict,
    /// Cases tried before the first failure, replayed ones included.
    pub cases: usize,
    /// Those that could have told a violation.
    pub told: usize,
    /// Numbers and tensors compared.
    pub compared: usize,
    /// The comparison closest to its bound.
    pub worst: Option<Worst>,
    /// The smallest relative error of anything compared that some case was certain to catch.
    pub power: f64,
    /// What two identical calls differed by, relative to the gradient.
    pub noise: f64,
    /// The smallest case that fails, and how.
    pub failure: Option<Failure>,
    /// Why the law was not decided, where it was not.
    pub reason: Option<String>,
}

/// A case that breaks a law.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case, shrunk.
    pub case: Case,
    /// The comparisons outside their bounds, the worst first.
    pub violations: Vec<Violation>,
    /// The error of a subject that failed.
    pub error: Option<String>,
    /// Where the case was written, or replayed from.
    pub file: Option<PathBuf>,
    /// Why it could not be written, where it was to be.
    pub unwritten: Option<String>,
    /// What the subject looks like, where an examiner was asked.
    pub diagnosis: Option<String>,
}

/// Adds up trials.
#[derive(Default)]
struct Tally {
    check: Check,
    cases: usize,
    told: usize,
    unsupported: Option<String>,
}

impl Tally {
    fn add(&mut self, tried: Tried) {
        self.cases += 1;
        self.told += usize::from(tried.told());
        if let Some(what) = tried.unsupported() {
            self.unsupported = Some(what.to_owned());
        }
        self.check.merge(tried.check);
    }
}

impl Campaign {
    /// Holds a subject to one law.
    ///
    /// # Errors
    /// When case files cannot be read. What the subject does wrong is in the report.
    pub fn run(&self, law: &'static Law, subject: &mut dyn Subject) -> Result<Report, CaseFileError> {
        let mut facts = Facts::of(subject);
        let undecided = |verdict, reason: String, noise| Report {
            law,
            verdict,
            cases: 0,
            told: 0,
            compared: 0,
            worst: None,
            power: f64::INFINITY,
            noise,
            failure: None,
            reason: Some(reason),
        };
        if let Some(what) = law.lacking(subject) {
            return Ok(undecided(Verdict::Unsupported, what.to_owned(), 0.0));
        }
        let mut runner = self.runner(law);
        let strategy = strategies::case(&facts.info.limits, self.size.clone());
        let first = match strategy.new_tree(&mut self.runner(law)) {
            Ok(tree) => tree.current(),
            Err(reason) => return Ok(undecided(Verdict::Unsupported, reason.to_string(), 0.0)),
        };
        match noise(subject, &first, &facts) {
            Ok(noise) if noise <= facts.model(&first.batch).gradient_bound(facts.info.dtype) => {
                facts.noise = noise;
            }
            // Where calls differ because one leaves something to the next, these laws say so best.
            Ok(_) if ["determinism", "zero-grad"].contains(&law.id()) => {}
            Ok(noise) => {
                let reason =
                    format!("not deterministic: two identical calls differ by {noise:.1e} (dropout?)");
                return Ok(undecided(Verdict::Errored, reason, noise));
            }
            Err(error) => return Ok(undecided(Verdict::Errored, error.to_string(), 0.0)),
        }

        let tally = RefCell::new(Tally::default());
        let subject = RefCell::new(subject);
        let replayed = match &self.files {
            Some(directory) => CaseFile::of_law(directory, law.id())?,
            None => Vec::new(),
        };
        for (file, kept) in replayed {
            let tried = law.try_with(&mut **subject.borrow_mut(), &kept.case, &facts);
            if broken(&tried) {
                let mut failure = failure(kept.case, &tried, Some(file));
                failure.diagnosis = self.diagnose(&mut **subject.borrow_mut());
                return Ok(tally.into_inner().report(law, facts.noise, Some(failure)));
            }
            tally.borrow_mut().add(tried);
        }

        let searched = runner.run(&strategy, |case| {
            let tried = law.try_with(&mut **subject.borrow_mut(), &case, &facts);
            if broken(&tried) {
                return Err(TestCaseError::fail(law.id()));
            }
            tally.borrow_mut().add(tried);
            Ok(())
        });
        let found = match searched {
            Ok(()) => None,
            Err(TestError::Fail(_, case)) => {
                let tried = law.try_with(&mut **subject.borrow_mut(), &case, &facts);
                let mut failure = failure(case, &tried, None);
                failure.diagnosis = self.diagnose(&mut **subject.borrow_mut());
                if let Some(directory) = &self.files {
                    match write(directory, law, &failure) {
                        Ok(file) => failure.file = Some(file),
                        // What was found must not be lost because it cannot be kept.
                        Err(error) => failure.unwritten = Some(error.to_string()),
                    }
                }
                Some(failure)
            }
            Err(TestError::Abort(reason)) => {
                return Ok(undecided(Verdict::Unchecked, reason.to_string(), facts.noise));
            }
        };
        Ok(tally.into_inner().report(law, facts.noise, found))
    }

    fn diagnose(&self, subject: &mut dyn Subject) -> Option<String> {
        self.examiner.as_ref().map(|examiner| examiner.examine(subject))
    }

    /// A runner that draws the same cases for a law every time.
    fn runner(&self, law: &Law) -> TestRunner {
        let config = Config {
            cases: self.cases,
            failure_persistence: None,
            max_shrink_iters: if self.shrink { SHRINKING } else { 0 },
            ..Config::default()
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        // A law's own cases: their number does not hang on which other laws run.
        for (index, byte) in law.id().bytes().enumerate() {
            seed[8 + index % 24] ^= byte.rotate_left(u32::from(index >= 24));
        }
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}

/// What two identical calls differ by, relative to the gradient.
fn noise(subject: &mut dyn Subject, case: &Case, facts: &Facts) -> Result<f64, SubjectError> {
    let measured = (|| -> Result<f64, Stop> {
        let mut trial = Trial::new(subject, case, facts)?;
        let spec = trial.spec(&[&case.batch]);
        let (one, other) = (trial.gradient(&spec, &case.batch)?, trial.gradient(&spec, &case.batch)?);
        // A gradient that is no number twice is not noise; the law finds it and says so.
        let finite = |t: &Tensor| (0..t.elements()).all(|index| t.get(index).is_finite());
        let broken = [&one, &other].iter().all(|computed| !computed.gradient.values().all(finite));
        Ok(if broken { 0.0 } else { distance(&one.gradient, &other.gradient) })
    })();
    match measured {
        Ok(noise) => Ok(noise),
        Err(Stop::Failed(error)) => Err(error),
        // The law itself meets the same and says so.
        Err(Stop::Unsupported(_) | Stop::Void) => Ok(0.0),
    }
}

/// Whether a trial is what shrinking looks for.
fn broken(tried: &Tried) -> bool {
    tried.error().is_some() || tried.check.is_violated()
}

fn failure(case: Case, tried: &Tried, file: Option<PathBuf>) -> Failure {
    Failure {
        case,
        violations: tried.violations(),
        error: tried.error().map(ToString::to_string),
        file,
        unwritten: None,
        diagnosis: None,
    }
}

fn write(directory: &Path, law: &Law, failure: &Failure) -> Result<PathBuf, CaseFileError> {
    let found = match (&failure.error, failure.violations.first()) {
        (Some(error), _) => error.clone(),
        (None, Some(violation)) => violation.statement.clone(),
        (None, None) => "it did not fail when tried again".to_owned(),
    };
    CaseFile { law: law.id().to_owned(), found, case: failure.case.clone() }.write(directory)
}

impl Tally {
    fn report(self, law: &'static Law, noise: f64, failure: Option<Failure>) -> Report {
        let Self { check, cases, told, unsupported } = self;
        let (verdict, reason) = match &failure {
            Some(Failure { error: Some(error), violations, .. }) if violations.is_empty() => {
                (Verdict::Errored, Some(error.clone()))
            }
            Some(_) => (Verdict::Fail, None),
            None if check.compared() == 0 => match unsupported {
                Some(what) => (Verdict::Unsupported, Some(what)),
                None => (Verdict::Unchecked, Some("nothing was compared".to_owned())),
            },
            None if told == 0 => (Verdict::Unchecked, Some("no case could have told a violation".to_owned())),
            None => match check.uncertified() {
                Some(what) => (
                    Verdict::Unchecked,
                    Some(format!("the effect of {what} lies below its bound in every case")),
                ),
                None => (Verdict::Pass, None),
            },
        };
        let (compared, worst, power) = (check.compared(), check.worst().cloned(), check.power());
        Report { law, verdict, cases, told, compared, worst, power, noise, failure, reason }
    }
}

/// One line for what passed, everything there is to know about what did not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.law.id(), self.verdict)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        if self.cases > 0 {
            write!(f, "; {} cases, {} telling, {} comparisons", self.cases, self.told, self.compared)?;
        }
        if let (Some(worst), None) = (&self.worst, &self.failure) {
            write!(
                f,
                "; worst {:.1e} of {:.1e} ({}); power {:.1e}",
                worst.error, worst.bound, worst.at, self.power
            )?;
        }
        for clause in self.law.clauses().filter(|_| self.failure.is_some()) {
            write!(f, "\n{} {}", clause.id, clause.sentence)?;
        }
        if let Some(failure) = &self.failure {
            write!(f, "\n{failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smallest failing case: {}", self.case)?;
        if let Some(error) = &self.error {
            write!(f, "\nthe subject failed: {error}")?;
        }
        if let Some(violation) = self.violations.first() {
            write!(f, "\n{violation}")?;
        }
        if self.violations.len() > 1 {
            write!(f, "\n({} more comparisons fail)", self.violations.len() - 1)?;
        }
        if let Some(file) = &self.file {
            write!(f, "\ncase file: {}", file.display())?;
        }
        if let Some(error) = &self.unwritten {
            write!(f, "\nno case file: {error}")?;
        }
        if let Some(diagnosis) = &self.diagnosis {
            write!(f, "\n{diagnosis}")?;
        }
        Ok(())
    }
}
