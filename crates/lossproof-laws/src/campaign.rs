//! A law on many random cases: replay what failed before, search, shrink, report.

use crate::{
    Examiner, Failure, Law, Report, Tried, Verdict,
    control::Taped,
    distance,
    dry_run::CardOnly,
    tally::Tally,
    tape::{Recorder, Tape},
    trial::{Ended, Facts, Trial, Turn},
};
use lossproof_cases::{
    Case, CaseFile, CaseFileError,
    strategies::{self, Size},
};
use lossproof_numerics::{Comparisons, FACT, Violation};
use lossproof_subject::{Breach, Checked, Subject, SubjectError, Tensor, Watchdog};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, Reason, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{
    cell::{Cell, RefCell},
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
    /// How long a call of the subject may take, and who hears when it is over.
    pub watchdog: Watchdog,
    /// Whether a law that holds is put to the negative control.
    pub control: bool,
}

impl Default for Campaign {
    /// 256 cases of the usual size from seed 0, shrunk, without case files and without an examiner.
    fn default() -> Self {
        Self {
            cases: 256,
            seed: 0,
            size: Size::default(),
            shrink: true,
            files: None,
            examiner: None,
            watchdog: Watchdog::default(),
            control: true,
        }
    }
}

impl Campaign {
    /// Holds a subject to one law. The subject is asked through [`Checked`].
    ///
    /// # Errors
    /// When case files cannot be read. What the subject does wrong is in the report.
    pub fn run(&self, law: &'static Law, subject: &mut dyn Subject) -> Result<Report, CaseFileError> {
        let mut subject = match Checked::watched(subject, self.watchdog.clone()) {
            Ok(subject) => subject,
            Err(breach) => return Ok(Report::undecided(law, Verdict::Fail, breach.to_string(), 0.0)),
        };
        let mut facts = Facts::of(&subject);
        let unsupported = self.unsupported(law, &mut subject);
        if let Some(breach) = subject.take_breach() {
            return Ok(Report::undecided(law, Verdict::Fail, breach.to_string(), 0.0));
        }
        if let Some(what) = unsupported {
            return Ok(Report::undecided(law, Verdict::Unsupported, what, 0.0));
        }
        let strategy = strategies::case(&facts.info.limits, self.size.clone());
        let first = match first_to_compute(&strategy, &mut self.runner(law)) {
            Ok(case) => case,
            Err(reason) => {
                return Ok(Report::undecided(law, Verdict::Unsupported, reason.to_string(), 0.0));
            }
        };
        match noise(&mut subject, &first, &facts) {
            Ok(noise) if noise <= facts.model(&first.batch).gradient_bound(facts.info.dtype) => {
                facts.noise = noise;
            }
            // Where calls differ because one leaves something to the next, these laws say so best.
            Ok(_) if ["determinism", "zero-grad"].contains(&law.id()) => {}
            Ok(noise) => {
                let reason =
                    format!("not deterministic: two identical calls differ by {noise:.1e} (dropout?)");
                return Ok(Report::undecided(law, Verdict::Errored, reason, noise));
            }
            // The cases meet the same, and say so with a case that shows it.
            Err(SubjectError::Breach(_)) => {}
            Err(error) => return Ok(Report::undecided(law, Verdict::Errored, error.to_string(), 0.0)),
        }
        subject.take_breach();

        let tally = RefCell::new(Tally::default());
        let subject = RefCell::new(subject);
        let replayed = match &self.files {
            Some(directory) => CaseFile::of_law(directory, law.id())?,
            None => Vec::new(),
        };
        for (file, kept) in replayed {
            let turn = Turn::ALONE;
            let (tried, tape) = attempt(law, &mut subject.borrow_mut(), &kept.case, &facts.at(turn));
            if broken(&tried) {
                let mut failure = failure(kept.case, &tried, Some(file));
                failure.diagnosis = self.diagnose(subject.borrow_mut().inner());
                return Ok(tally.into_inner().report(law, &facts, Some(failure), self.control));
            }
            tally.borrow_mut().add(tried, Taped { case: kept.case, tape, turn });
        }

        let crashed = Cell::new(false);
        // What the last case that broke the law showed: a subject with a memory may not show it again.
        let shown: RefCell<Option<Failure>> = RefCell::new(None);
        // By how much a case must break the law: while it is made simpler it must not become a matter of
        // rounding, which an honest subject would be convicted by when the case is replayed.
        let clearly = Cell::new(0.0);
        let failing = Cell::new(None);
        let searched = self.runner(law).run(&strategy, |case| {
            // What panicked is reported as it was found: to shrink it would panic thousands of times.
            if crashed.get() {
                return Ok(());
            }
            // A case is made simpler under the eyes that it failed under.
            let turn = failing.get().unwrap_or(self.turn(tally.borrow().cases));
            let (tried, tape) = attempt(law, &mut subject.borrow_mut(), &case, &facts.at(turn));
            if broken(&tried) && excess(&tried) >= clearly.get() {
                failing.set(Some(turn));
                clearly.set(excess(&tried).min(CLEAR));
                *shown.borrow_mut() = Some(failure(case.clone(), &tried, None));
                crashed.set(matches!(tried.error(), Some(SubjectError::Breach(Breach::Panicked { .. }))));
                return Err(TestCaseError::fail(law.id()));
            }
            tally.borrow_mut().add(tried, Taped { case, tape, turn });
            Ok(())
        });
        let found = match searched {
            Ok(()) => None,
            Err(TestError::Fail(_, case)) => {
                // What is kept is replayed alone, so it is shown as it fails alone.
                let (tried, _) = attempt(law, &mut subject.borrow_mut(), &case, &facts.at(Turn::ALONE));
                let mut failure = match shown.into_inner() {
                    Some(shown) if !broken(&tried) || excess(&tried) < clearly.get() => shown,
                    _ => failure(case, &tried, None),
                };
                failure.diagnosis = self.diagnose(subject.borrow_mut().inner());
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
                return Ok(Report::undecided(law, Verdict::Unchecked, reason.to_string(), facts.noise));
            }
        };
        Ok(tally.into_inner().report(law, &facts, found, self.control))
    }

    /// Tries a law on one case alone, which nothing is drawn for: the case of a declared failure.
    pub fn replay(&self, law: &'static Law, subject: &mut dyn Subject, case: &Case) -> Tried {
        let mut subject = match Checked::watched(subject, self.watchdog.clone()) {
            Ok(subject) => subject,
            Err(breach) => {
                let told = Err(Ended::Failed(breach.into()));
                return Tried { comparisons: Comparisons::default(), told };
            }
        };
        let mut facts = Facts::of(&subject);
        facts.noise = noise(&mut subject, case, &facts).unwrap_or(0.0);
        subject.take_breach();
        attempt(law, &mut subject, case, &facts).0
    }

    /// What a subject's card lacks for a law, if it does, without computing anything: a capability, or every
    /// spec and optimizer that the law's cases ask for.
    pub fn unsupported(&self, law: &'static Law, subject: &mut dyn Subject) -> Option<String> {
        if let Some(what) = law.lacking(subject) {
            return Some(what.to_owned());
        }
        let in_force = subject.info().spec;
        let mut card = CardOnly::subject(subject);
        let facts = Facts::of(&card);
        let strategy = strategies::case(&facts.info.limits, self.size.clone());
        let mut runner = self.runner(law);
        let mut reason = None;
        for number in 0..self.cases as usize {
            let case = match strategy.new_tree(&mut runner) {
                Ok(tree) => tree.current(),
                Err(reason) => return Some(reason.to_string()),
            };
            let tried = law.try_with(&mut card, &case, &facts.at(self.turn(number)));
            match tried.unsupported() {
                Some(what) if tried.comparisons.compared() == 0 => reason = Some(what.to_owned()),
                _ => {
                    reason = None;
                    break;
                }
            }
        }
        // What was in force is in force again; a subject that refuses its own spec has said so by now.
        let _ = subject.configure(&in_force);
        reason
    }

    /// The turn of a case that was drawn, counted from 0.
    fn turn(&self, case: usize) -> Turn {
        Turn { case, cases: (self.cases as usize).max(1) }
    }

    fn diagnose(&self, subject: &mut dyn Subject) -> Option<String> {
        self.examiner.as_ref().map(|examiner| examiner.examine(subject, &self.watchdog))
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

/// Tries a law on one case, and keeps what the subject answers. A breach makes the case one that breaks the
/// law.
fn attempt(law: &Law, subject: &mut Checked<'_>, case: &Case, facts: &Facts) -> (Tried, Tape) {
    let mut recorder = Recorder::new(subject);
    let mut tried = law.try_with(&mut recorder, case, facts);
    let tape = recorder.into_tape();
    if let Some(breach) = subject.take_breach() {
        tried.comparisons.fact(FACT, false, || breach.to_string());
        tried.told = Err(Ended::Failed(breach.into()));
    }
    (tried, tape)
}

/// What two identical calls differ by, relative to the gradient.
fn noise(subject: &mut dyn Subject, case: &Case, facts: &Facts) -> Result<f64, SubjectError> {
    let measured = (|| -> Result<f64, Ended> {
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
        Err(Ended::Failed(error)) => Err(error),
        // The law itself meets the same and says so.
        Err(Ended::Unsupported(_) | Ended::NotApplicable) => Ok(0.0),
    }
}

/// Cases that are drawn to find one with a gradient.
const DRAWN: usize = 64;

/// The first case with a supervised token: one without shows no noise.
fn first_to_compute(strategy: &impl Strategy<Value = Case>, runner: &mut TestRunner) -> Result<Case, Reason> {
    let first = strategy.new_tree(runner)?.current();
    let mut case = first.clone();
    for _ in 0..DRAWN {
        if case.batch.layout().supervised() > 0 {
            return Ok(case);
        }
        case = strategy.new_tree(runner)?.current();
    }
    Ok(first)
}

/// An error of so many times its bound is none of rounding, which is expected to stay below an eighth of it.
const CLEAR: f64 = 8.0;

/// The largest error over its bound; infinite where the subject failed or the bound is zero.
fn excess(tried: &Tried) -> f64 {
    if tried.error().is_some() {
        return f64::INFINITY;
    }
    let mut largest = 0.0_f64;
    for Violation { error, bound, .. } in tried.violations() {
        let ratio = error / bound;
        largest = if ratio.is_nan() { f64::INFINITY } else { largest.max(ratio) };
    }
    largest
}

/// Whether a trial is what shrinking looks for.
fn broken(tried: &Tried) -> bool {
    tried.error().is_some() || tried.comparisons.is_violated()
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
