//! A law on many random cases: replay what failed before, search, shrink, report.

use crate::{
    Examination, Examiner, Failure, Law, Report, Tried, Verdict,
    attempt::{CLEAR, attempt, broken, excess, failure, with_breach, write},
    control::Taped,
    dry_run::CardOnly,
    expectations::DeclaredFailure,
    noise::{case_for_noise, noise, undecidable},
    shown::Shown,
    tally::Tally,
    tape::{Recorder, Tape},
    trial::{Ended, Facts, Turn},
};
use lossproof_cases::{
    Case, CaseFile, CaseFileError,
    strategies::{self, Size},
};
use lossproof_numerics::Comparisons;
use lossproof_subject::{Checked, Subject, SubjectError, Watchdog};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
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
    /// What the law is declared to be broken in. A case that shows nothing else does not end the search: it
    /// would hide what others show.
    pub declared: Option<DeclaredFailure>,
    /// Whether all cases are tried after one that failed, for [`Failure::elsewhere`]: what a declaration of the
    /// failure has to list.
    pub exhaustive: bool,
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
            declared: None,
            exhaustive: false,
        }
    }
}

impl Campaign {
    /// The first of some laws that a subject breaks, or on which it cannot be examined because of what it does.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn first_to_fail(
        &self,
        laws: impl IntoIterator<Item = &'static Law>,
        subject: &mut dyn Subject,
    ) -> Result<Option<&'static Law>, CaseFileError> {
        for law in laws {
            let report = self.run(law, subject)?;
            if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                return Ok(Some(law));
            }
        }
        Ok(None)
    }

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
        let strategy = strategies::case(&facts.info.limits, &facts.info.claims, self.size.clone());
        let first = case_for_noise(&strategy, &mut self.runner(law), facts.info.device);
        let first = match first.map_err(|reason| reason.to_string()) {
            Ok(case) => case,
            Err(reason) => return Ok(Report::undecided(law, Verdict::Unsupported, reason, 0.0)),
        };
        if let Some(report) = undecidable(law, &mut subject, &first, &mut facts) {
            return Ok(report);
        }

        let (tally, known) = (RefCell::new(Tally::default()), RefCell::new(Shown::default()));
        let subject = RefCell::new(subject);
        let replayed = self.kept(law)?;
        for (file, kept) in &replayed {
            let turn = Turn::ALONE;
            let (tried, tape) = self.taped(law, &mut subject.borrow_mut(), &kept.case, &facts.at(turn));
            if self.is_declared(&tried) {
                known
                    .borrow_mut()
                    .add_declared(&tried, || failure(kept.case.clone(), &tried, Some(file.clone())));
            } else if broken(&tried) {
                let failure = failure(kept.case.clone(), &tried, Some(file.clone()));
                let (mut subject, mut tally) = (subject.into_inner(), tally.into_inner());
                tally.looks_at(&tried);
                let found = (known.into_inner(), &mut tally);
                let shown = self.elsewhere(law, &mut subject, &facts, &replayed, found);
                let failure = self.examined(law, &mut subject, shown.beside(failure));
                return Ok(tally.report(law, &facts, Some(failure), self.control));
            } else {
                let taped = tape.map(|tape| Taped { case: kept.case.clone(), tape, turn });
                tally.borrow_mut().add(tried, taped);
            }
        }

        let crashed = Cell::new(false);
        // What the last case that broke the law showed: a subject with a memory may not show it again.
        let shown: RefCell<Option<Failure>> = RefCell::new(None);
        // By how much a case must break the law: while it is made simpler it must not become a matter of
        // rounding, which an honest subject would be convicted by when the case is replayed.
        let clearly = Cell::new(0.0);
        let failing = Cell::new(None);
        let drawn = Cell::new(0);
        // A case that is tried in many contexts takes as many times as long.
        let shrinking = match (self.shrink, law.contexts(&facts.at(Turn::ALONE))) {
            (false, _) => 0,
            (true, contexts) => SHRINKING / u32::try_from(contexts).unwrap_or(SHRINKING),
        };
        let searched = self.runner_that_shrinks(law, shrinking).run(&strategy, |case| {
            // What panicked is reported as it was found: to shrink it would panic thousands of times, and a process
            // that has ended fails on everything.
            if crashed.get() {
                return Ok(());
            }
            // A case is made simpler under the eyes that it failed under.
            let turn = failing.get().unwrap_or(self.turn(drawn.get()));
            drawn.set(drawn.get() + 1);
            let (tried, tape) = self.taped(law, &mut subject.borrow_mut(), &case, &facts.at(turn));
            if self.is_declared(&tried) {
                // Without a file: what is declared has one already.
                known.borrow_mut().add_declared(&tried, || failure(case, &tried, None));
                return Ok(());
            }
            if broken(&tried) && excess(&tried) >= clearly.get() {
                failing.set(Some(turn));
                clearly.set(excess(&tried).min(CLEAR));
                *shown.borrow_mut() = Some(failure(case.clone(), &tried, None));
                crashed.set(
                    matches!(tried.error(), Some(SubjectError::Breach(breach)) if breach.ends_a_search()),
                );
                return Err(TestCaseError::fail(law.id()));
            }
            tally.borrow_mut().add(tried, tape.map(|tape| Taped { case, tape, turn }));
            Ok(())
        });
        let (mut subject, mut tally) = (subject.into_inner(), tally.into_inner());
        let known = known.into_inner();
        let found = match searched {
            Ok(()) => known.into_failure(),
            Err(TestError::Fail(_, case)) => {
                // What is kept is replayed alone, so it is shown as it fails alone.
                let tried = attempt(law, &mut subject, &case, &facts.at(Turn::ALONE));
                tally.looks_at(&tried);
                let failure = match shown.into_inner() {
                    Some(shown) if !broken(&tried) || excess(&tried) < clearly.get() => shown,
                    _ => failure(case, &tried, None),
                };
                let found = (known, &mut tally);
                let shown = self.elsewhere(law, &mut subject, &facts, &replayed, found);
                Some(self.examined(law, &mut subject, shown.beside(failure)))
            }
            Err(TestError::Abort(reason)) => {
                return Ok(Report::undecided(law, Verdict::Unchecked, reason.to_string(), facts.noise));
            }
        };
        Ok(tally.report(law, &facts, found, self.control))
    }

    /// Tries a law on one case alone, which nothing is drawn for: the case of a declared failure.
    pub fn replay(&self, law: &'static Law, subject: &mut dyn Subject, case: &Case) -> Tried {
        let mut subject = match Checked::watched(subject, self.watchdog.clone()) {
            Ok(subject) => subject,
            Err(breach) => {
                return Tried::new(Comparisons::default(), Err(Ended::Failed(breach.into())));
            }
        };
        let mut facts = Facts::of(&subject);
        facts.noise = noise(&mut subject, case, &facts).unwrap_or(0.0);
        subject.take_breach();
        attempt(law, &mut subject, case, &facts)
    }

    /// What a subject's card lacks for a law, if it does, without computing anything: a capability, or every
    /// spec and optimizer that the law's cases ask for.
    pub fn unsupported(&self, law: &'static Law, subject: &mut dyn Subject) -> Option<String> {
        if let Some(what) = law.lacking(subject) {
            return Some(what.to_owned());
        }
        let mut card = CardOnly::subject(subject);
        let facts = Facts::of(&card);
        let strategy = strategies::case(&facts.info.limits, &facts.info.claims, self.size.clone());
        let mut runner = self.runner(law);
        let mut reason = None;
        for number in 0..self.cases as usize {
            let case = match strategy.new_tree(&mut runner) {
                Ok(tree) => tree.current(),
                Err(reason) => return Some(reason.to_string()),
            };
            let tried = law.replay(&mut card, &case, &facts.at(self.turn(number)));
            match tried.unsupported() {
                Some(what) if tried.comparisons.compared() == 0 => reason = Some(what.to_owned()),
                _ => {
                    reason = None;
                    break;
                }
            }
        }
        reason
    }

    /// The cases of a law that are kept in files.
    fn kept(&self, law: &Law) -> Result<Vec<(PathBuf, CaseFile)>, CaseFileError> {
        self.files.as_ref().map_or(Ok(Vec::new()), |directory| CaseFile::of_law(directory, law.id()))
    }

    /// Whether a case broke the law in nothing but what is declared.
    fn is_declared(&self, tried: &Tried) -> bool {
        broken(tried) && self.declared.as_ref().is_some_and(|declared| declared.covers(tried))
    }

    /// A failure with what the subject claims and looks like, and its case in a file, where files are kept.
    fn examined(&self, law: &Law, subject: &mut Checked<'_>, mut failure: Failure) -> Failure {
        failure.claims = Some(subject.info().claims);
        // Before the trainer is asked again, in which it may hang.
        if let (Some(directory), None) = (&self.files, &failure.file) {
            match write(directory, law, &failure) {
                Ok(file) => failure.file = Some(file),
                // What was found must not be lost because it cannot be kept.
                Err(error) => failure.unwritten = Some(error.to_string()),
            }
        }
        let examination = Examination { law, cases: self.cases, watchdog: &self.watchdog };
        let examiner = self.examiner.as_ref();
        failure.likeness = examiner.map(|examiner| examiner.examine(subject.inner(), &examination));
        failure
    }

    /// Adds a case that was tried to what is shown, if it broke the law.
    fn show(&self, shown: &mut Shown, tried: &Tried, failure: impl FnOnce() -> Failure) {
        if self.is_declared(tried) {
            shown.add_declared(tried, failure);
        } else if broken(tried) {
            shown.add(tried, failure);
        }
    }

    /// What the law is broken in on other cases: on those that were tried before one failed and, in an
    /// exhaustive campaign, on all.
    fn elsewhere(
        &self,
        law: &Law,
        subject: &mut Checked<'_>,
        facts: &Facts,
        replayed: &[(PathBuf, CaseFile)],
        (mut known, tally): (Shown, &mut Tally),
    ) -> Shown {
        if self.exhaustive {
            for (file, kept) in replayed {
                let tried = attempt(law, subject, &kept.case, &facts.at(Turn::ALONE));
                tally.looks_at(&tried);
                self.show(&mut known, &tried, || failure(kept.case.clone(), &tried, Some(file.clone())));
            }
            let strategy = strategies::case(&facts.info.limits, &facts.info.claims, self.size.clone());
            let state = RefCell::new((subject, &mut known, tally, 0));
            // What cannot be drawn has ended the search.
            let _ = self.runner(law).run(&strategy, |case| {
                let (subject, known, tally, drawn) = &mut *state.borrow_mut();
                let tried = attempt(law, subject, &case, &facts.at(self.turn(*drawn)));
                tally.looks_at(&tried);
                *drawn += 1;
                self.show(known, &tried, || failure(case, &tried, None));
                Ok(())
            });
        }
        known
    }

    /// Tries a law on a case, and keeps what the subject answers where the negative control asks for it: the
    /// answers of a large model fill the memory.
    fn taped(
        &self,
        law: &Law,
        subject: &mut Checked<'_>,
        case: &Case,
        facts: &Facts,
    ) -> (Tried, Option<Tape>) {
        if !self.control {
            return (attempt(law, subject, case, facts), None);
        }
        let mut recorder = Recorder::new(subject);
        let tried = law.try_with(&mut recorder, case, facts);
        let tape = recorder.into_tape();
        (with_breach(tried, subject), Some(tape))
    }

    /// The turn of a case that was drawn, counted from 0.
    fn turn(&self, case: usize) -> Turn {
        Turn { case, cases: (self.cases as usize).max(1) }
    }

    /// A runner that draws the same cases for a law every time.
    fn runner(&self, law: &Law) -> TestRunner {
        self.runner_that_shrinks(law, 0)
    }

    /// The same, which makes a case that fails simpler in so many steps.
    fn runner_that_shrinks(&self, law: &Law, shrinking: u32) -> TestRunner {
        let config = Config {
            cases: self.cases,
            failure_persistence: None,
            max_shrink_iters: shrinking,
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
