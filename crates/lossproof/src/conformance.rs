//! The laws as tests of a trainer's own `cargo test`: one named, filterable test per law and subject.

use crate::{
    card::{Card, selects},
    law_test::{LawTest, chain},
    options::Options,
    outcome::{Outcomes, shortened},
    stand::Stand,
    supervised::{self, FAILED, GREEN, MISUSED, UNCERTIFIED},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lossproof_cases::CaseFile;
#[cfg(feature = "diagnosis")]
use lossproof_diagnosis::Diagnostician;
use lossproof_laws::{
    Campaign, Examiner, LAWS, Law, RememberingExaminer,
    expectations::{Expectations, FILE},
    floor,
};
#[cfg(feature = "diagnosis")]
use lossproof_subject::SubjectError;
use lossproof_subject::{Limits, Subject, Watchdog};
use std::{
    collections::BTreeSet,
    env,
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// The test, beside those of the laws, of what no expectation can pin away.
const FLOOR: &str = "floor";

/// The test, beside those of the subjects, of what is kept in `files`.
const CASE_FILES: &str = "case files";

/// Set to `write`, the run drafts the expectations.
const EXPECT: &str = "LOSSPROOF_EXPECT";

/// Subjects and the laws they are held to. [`conformance!`](crate::conformance) makes one and runs it.
pub struct Conformance {
    subjects: Vec<Stand>,
    files: Option<PathBuf>,
    /// Folder of the package, which its expectations are in.
    package: Option<PathBuf>,
    /// How cargo is told to run this test and no other.
    target: String,
    examiner: Option<Arc<dyn Examiner>>,
}

impl Default for Conformance {
    fn default() -> Self {
        Self::new()
    }
}

impl Conformance {
    /// No subject yet.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(feature = "diagnosis")]
        let examiner: Option<Arc<dyn Examiner>> = Some(Arc::new(Diagnostician::default()));
        #[cfg(not(feature = "diagnosis"))]
        let examiner = None;
        Self { subjects: Vec::new(), files: None, package: None, target: String::new(), examiner }
    }

    /// Adds a subject: the prefix of its tests' names, how many random cases each law is tried on, and how it
    /// is made. No two may have one name.
    #[must_use]
    pub fn subject<E: Display>(
        mut self,
        name: &str,
        cases: u32,
        make: impl Fn() -> Result<Box<dyn Subject>, E> + Send + Sync + 'static,
    ) -> Self {
        self.subjects.push(Stand::new(name, cases, make));
        self
    }

    /// Where failing cases are kept as files, and replayed from first.
    #[must_use]
    pub fn files(mut self, directory: impl Into<PathBuf>) -> Self {
        self.files = Some(directory.into());
        self
    }

    /// The package that the test is in: its folder, where `lossproof.toml` is looked for, its name and that
    /// of the test's crate, which together say how to run one test again.
    #[must_use]
    pub fn package(mut self, folder: impl Into<PathBuf>, name: &str, test: &str) -> Self {
        self.package = Some(folder.into());
        // The crate of a target with a hyphen has an underscore; cargo takes patterns here.
        self.target = format!("-p {name} --test '{}' ", test.replace('_', "?"));
        self
    }

    /// A trainer with the same parameters that is taken to be right: with it the diagnosis of a subject that
    /// fails also says what is wrong with its backward pass.
    #[cfg(feature = "diagnosis")]
    #[must_use]
    pub fn reference(
        mut self,
        make: impl Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync + 'static,
    ) -> Self {
        self.examiner = Some(Arc::new(Diagnostician::with_reference(make)));
        self
    }

    /// Runs the tests that the arguments of this process select, as libtest does, and says what they certify.
    /// It succeeds only where nothing is red and, if a law ran at all, one passed or failed as expected. The
    /// tests run in a child of this process, which a trainer cannot end in green.
    ///
    /// Besides libtest's own arguments: `--cases N` tries every law on N random cases, `--seed N` draws
    /// others. With `LOSSPROOF_EXPECT=write` the run drafts `lossproof.toml`.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let (arguments, inside) = supervised::arguments();
        let options = match self.distinct().and_then(|()| Options::parse(arguments)) {
            Ok(options) => options,
            Err(message) => return ExitCode::from(misused(&message)),
        };
        // Read outside too: what asks for help, or is no argument of libtest's, ends here.
        let arguments = Arguments::from_iter(options.rest.clone());
        if !inside {
            return supervised::supervise();
        }
        supervised::seal(self.run(&options, &arguments).unwrap_or_else(|message| misused(&message)))
    }

    /// Two subjects of one name would be told apart by nobody.
    fn distinct(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        match self.subjects.iter().find(|subject| !names.insert(&subject.name)) {
            Some(twice) => Err(format!("two subjects are called `{}`", twice.name)),
            None => Ok(()),
        }
    }

    /// The run itself, and its exit code.
    fn run(&self, options: &Options, arguments: &Arguments) -> Result<u8, String> {
        Watchdog::time_limit()?;
        check_expect()?;
        let expectations = self.expectations()?;
        let outcomes = Outcomes::default();
        let trials = self.trials(options, arguments, expectations.as_ref(), &outcomes);
        let conclusion = libtest_mimic::run(arguments, trials);
        if arguments.list {
            return Ok(GREEN);
        }
        let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.ignored;
        let names: Vec<&str> = self.subjects.iter().map(|subject| subject.name.as_str()).collect();
        let mut green = outcomes.tell(&names, whole);
        if whole && let Some(expectations) = &expectations {
            for error in expectations.untested(&names) {
                eprintln!("error: {error}");
                green = false;
            }
        }
        if writes()
            && let Some(package) = &self.package
        {
            match Expectations::write(&package.join(FILE), &outcomes.drafted()) {
                Ok(draft) => eprintln!("{draft}"),
                Err(error) => {
                    eprintln!("error: {error}");
                    green = false;
                }
            }
        }
        Ok(match (conclusion.has_failed(), green) {
            (true, _) => FAILED,
            (false, true) => GREEN,
            (false, false) => UNCERTIFIED,
        })
    }

    fn expectations(&self) -> Result<Option<Expectations>, String> {
        let Some(package) = &self.package else { return Ok(None) };
        let path = package.join(FILE);
        let read = if writes() { Expectations::read_draft(&path) } else { Expectations::read(&path) };
        read.map_err(|error| chain(&error))
    }

    fn trials(
        &self,
        options: &Options,
        arguments: &Arguments,
        expectations: Option<&Expectations>,
        outcomes: &Outcomes,
    ) -> Vec<Trial> {
        let mut trials = Vec::new();
        let mut limits = Vec::new();
        let kept = self.files.as_ref().filter(|_| selects(arguments, CASE_FILES));
        for stand in &self.subjects {
            let campaign = Campaign {
                // A list says what the test's own cases say, however many others are asked for.
                cases: options.cases.filter(|_| !arguments.list).unwrap_or(stand.cases),
                seed: options.seed.unwrap_or(0),
                files: self.files.clone(),
                examiner: self
                    .examiner
                    .clone()
                    .map(|examiner| Arc::new(RememberingExaminer::new(examiner)) as Arc<dyn Examiner>),
                exhaustive: writes(),
                ..Campaign::default()
            };
            let named = |test: &str| format!("{}::{test}", stand.name);
            let selected: Vec<&Law> =
                LAWS.iter().filter(|law| selects(arguments, &named(law.id()))).collect();
            let card = if selected.is_empty() && kept.is_none() {
                None
            } else {
                Card::of(stand, &campaign, selected)
            };
            if let Some(card) = &card {
                limits.push(card.limits);
                outcomes.sized(&stand.name, campaign.size.within(&card.limits));
            }
            let (of_floor, on_floor) = (stand.clone(), campaign.clone());
            trials.push(Trial::test(named(FLOOR), move || {
                let held = of_floor.hold(FLOOR, on_floor, |campaign, subject| {
                    floor(campaign, subject).map_err(|what| format!("no green without this: {what}"))
                });
                held.map_err(Failed::from)
            }));
            let expected = expectations.and_then(|expectations| expectations.of(&stand.name));
            for law in LAWS {
                // What the card rules out is ignored, unless something else is expected of it: then the test
                // has to say so.
                let demanded =
                    expected.is_some_and(|own| own.pins(law.id()) || own.declared(law.id()).is_some());
                let lacking = card.as_ref().and_then(|card| card.lacking(law)).filter(|_| !demanded);
                if let Some(what) = lacking {
                    outcomes.ruled_out(&stand.name, law, what);
                    trials.push(ignored(named(law.id()), what));
                    continue;
                }
                let test = LawTest {
                    law,
                    stand: stand.clone(),
                    campaign: campaign.clone(),
                    expected: expected.cloned(),
                    draw: options.draw(),
                    rerun: format!("rerun: cargo test {}-- {}", self.target, options.again(&named(law.id()))),
                    outcomes: outcomes.clone(),
                };
                trials.push(Trial::ignorable_test(named(law.id()), move || test.run()));
            }
        }
        if let Some(directory) = self.files.clone() {
            trials.push(Trial::test(CASE_FILES, move || stale(&directory, &limits)));
        }
        trials
    }
}

/// A test that says why it is ignored, even when ignored tests are asked for.
fn ignored(name: String, lacking: &str) -> Trial {
    let (kind, reason) = (format!("unsupported: {}", shortened(lacking)), format!("unsupported: {lacking}"));
    Trial::ignorable_test(name, || Ok(Completion::ignored_with(reason)))
        .with_kind(kind)
        .with_ignored_flag(true)
}

/// The exit code of a run that could not begin, for a reason that is printed.
fn misused(message: &str) -> u8 {
    eprintln!("error: {message}");
    MISUSED
}

/// Whether this run drafts the expectations.
fn writes() -> bool {
    env::var_os(EXPECT).is_some_and(|value| value == "write")
}

/// Fails where the variable asks for something else than a draft: a run that is meant to write must not pass
/// by not doing so.
fn check_expect() -> Result<(), String> {
    match env::var_os(EXPECT) {
        Some(value) if value != "write" && !value.is_empty() => {
            Err(format!("{EXPECT} is `write` or not set, not `{}`", value.to_string_lossy()))
        }
        _ => Ok(()),
    }
}

/// Fails where a kept case is replayed by no law: it would guard nothing, in silence.
fn stale(directory: &Path, limits: &[Limits]) -> Result<(), Failed> {
    let laws: Vec<&str> = LAWS.iter().map(Law::id).collect();
    let stale = CaseFile::stale(directory, &laws, limits).map_err(|error| chain(&error))?;
    if stale.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = stale.iter().map(|file| chain(file)).collect();
    Err(lines.join("\n").into())
}

/// Holds trainers to every law, each law a test of its own. The `main` of a test with `harness = false`:
///
/// ```no_run
/// # use lossproof::{Subject, SubjectError};
/// # fn my_trainer() -> Result<Box<dyn Subject>, SubjectError> { unimplemented!() }
/// lossproof::conformance! {
///     files: "fixtures/cases", // failing cases are kept here and replayed first
///     "my trainer": my_trainer, cases: 256;
/// }
/// ```
///
/// Paths of `files` are relative to the package. `cargo test` then has tests such as
/// `my trainer::token-mean`, which it and `cargo nextest` list and filter as any other;
/// `cargo test --test NAME -- --cases 10000` tries each law on more cases. A law that the subject's card
/// rules out is ignored and says what is lacking. What is expected of a trainer, the laws that decide and
/// those it is known to break, stands in `lossproof.toml` beside the package's `Cargo.toml`, which
/// `LOSSPROOF_EXPECT=write cargo test` drafts. A law that fails says which known bug it looks like; with
/// `reference: make_another,` after `files`, a trainer with the same parameters that is taken to be right,
/// it can say so of the backward pass too. The run ends with what it certifies and what it does not cover,
/// and a run in which nothing passed is no success. Nor is one that a trainer ends, by exiting or aborting.
#[macro_export]
macro_rules! conformance {
    (
        $(files: $files:expr,)?
        $(reference: $reference:expr,)?
        $($name:literal: $make:expr, cases: $cases:expr;)+
    ) => {
        fn main() -> ::std::process::ExitCode {
            $crate::Conformance::new()
                .package(env!("CARGO_MANIFEST_DIR"), env!("CARGO_PKG_NAME"), env!("CARGO_CRATE_NAME"))
                $(.files(::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($files)))?
                $(.reference($reference))?
                $(.subject($name, $cases, $make))+
                .main()
        }
    };
}
