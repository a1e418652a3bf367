//! The laws as tests of a trainer's own `cargo test`: one named, filterable test per law and subject.

use crate::{
    options::Options,
    outcome::{Decided, Outcomes},
    watched,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lossproof_cases::CaseFile;
#[cfg(feature = "diagnosis")]
use lossproof_diagnosis::Diagnostician;
use lossproof_laws::{
    Campaign, Examiner, LAWS, Law, Report, Verdict,
    expectations::{Draw, Expectations, FILE, Outcome, Replay, Standing, judge},
    floor,
};
#[cfg(feature = "diagnosis")]
use lossproof_subject::SubjectError;
use lossproof_subject::{Checked, Limits, Subject};
use std::{
    env,
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Makes one subject. Called once per test: tests run on threads of their own, and a subject need not be `Send`.
pub(crate) type Constructor = Arc<dyn Fn() -> Result<Box<dyn Subject>, String> + Send + Sync>;

/// The test, beside those of the laws, of what no expectation can pin away.
const FLOOR: &str = "floor";

/// Set to `write`, the run drafts the expectations.
const EXPECT: &str = "LOSSPROOF_EXPECT";

/// Subjects and the laws they are held to. [`conformance!`](crate::conformance) makes one and runs it.
pub struct Conformance {
    subjects: Vec<(String, u32, Constructor)>,
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

    /// Adds a subject: the prefix of its tests' names, how many random cases each law is tried on, and how it is made.
    #[must_use]
    pub fn subject<E: Display>(
        mut self,
        name: &str,
        cases: u32,
        make: impl Fn() -> Result<Box<dyn Subject>, E> + Send + Sync + 'static,
    ) -> Self {
        let make = move || make().map_err(|error| error.to_string());
        self.subjects.push((name.to_owned(), cases, Arc::new(make)));
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

    /// A trainer with the same parameters that is taken to be right: with it the diagnosis of a subject that fails also says what
    /// is wrong with its backward pass.
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
    /// It succeeds only where nothing is red and, if a law ran at all, one passed or failed as expected.
    ///
    /// Besides libtest's own arguments: `--cases N` tries every law on N random cases, `--seed N` draws
    /// others. With `LOSSPROOF_EXPECT=write` the run drafts `lossproof.toml`.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let prepared = Options::parse(env::args_os()).and_then(|options| Ok((self.expectations()?, options)));
        let (expectations, options) = match prepared {
            Ok(prepared) => prepared,
            Err(message) => {
                eprintln!("error: {message}");
                return ExitCode::from(2);
            }
        };
        let arguments = Arguments::from_iter(options.rest.clone());
        let outcomes = Outcomes::default();
        let trials = self.trials(&options, expectations.as_ref(), &outcomes);
        let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
        let conclusion = libtest_mimic::run(&arguments, trials);
        if arguments.list {
            return ExitCode::SUCCESS;
        }
        let names: Vec<&str> = self.subjects.iter().map(|(name, ..)| name.as_str()).collect();
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
        if conclusion.has_failed() {
            return conclusion.exit_code();
        }
        if green { ExitCode::SUCCESS } else { ExitCode::from(1) }
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
        expectations: Option<&Expectations>,
        outcomes: &Outcomes,
    ) -> Vec<Trial> {
        let mut trials = Vec::new();
        let mut limits = Vec::new();
        for (name, cases, make) in &self.subjects {
            let campaign = Campaign {
                cases: options.cases.unwrap_or(*cases),
                seed: options.seed.unwrap_or(0),
                files: self.files.clone(),
                examiner: self.examiner.clone(),
                ..Campaign::default()
            };
            let draw =
                if options.cases.is_none() && options.seed.is_none() { Draw::Own } else { Draw::Other };
            // Asked once, for what its card rules out; a subject that cannot be made fails each of its tests,
            // which say why.
            let mut probe = make().ok();
            let mut probe = probe.as_deref_mut().and_then(|subject| Checked::new(subject).ok());
            if let Some(probe) = &probe {
                limits.push(probe.info().limits);
            }
            let (of_floor, on_floor) = (Arc::clone(make), campaign.clone());
            trials.push(Trial::test(format!("{name}::{FLOOR}"), move || {
                watched::run(on_floor, move |campaign| {
                    floor(campaign, &mut *of_floor()?)
                        .map_err(|what| format!("no green without this: {what}"))
                })
                .map_err(Failed::from)
            }));
            let listed = expectations.and_then(|expectations| expectations.of(name));
            for law in LAWS {
                let lacks = probe.as_mut().and_then(|subject| campaign.unsupported(law, subject));
                let test = LawTest {
                    law,
                    subject: name.clone(),
                    make: Arc::clone(make),
                    campaign: campaign.clone(),
                    expected: listed.cloned(),
                    draw,
                    rerun: format!(
                        "rerun: cargo test {}-- '{name}::{}' --exact --seed {} --cases {}",
                        self.target,
                        law.id(),
                        campaign.seed,
                        campaign.cases
                    ),
                    outcomes: outcomes.clone(),
                };
                // What the card rules out is ignored, unless something else is expected of it: then the test
                // has to say so.
                let expected =
                    listed.is_some_and(|own| own.pins(law.id()) || own.declared(law.id()).is_some());
                let ruled_out = lacks.filter(|_| !expected);
                let full = format!("{name}::{}", law.id());
                trials.push(match ruled_out {
                    Some(what) => {
                        outcomes.ruled_out(name, law, &what);
                        Trial::test(full, || Ok(()))
                            .with_kind(format!("unsupported: {what}"))
                            .with_ignored_flag(true)
                    }
                    None => Trial::ignorable_test(full, move || test.run()),
                });
            }
        }
        if let Some(directory) = self.files.clone() {
            trials.push(Trial::test("case files", move || stale(&directory, &limits)));
        }
        trials
    }
}

/// Whether this run drafts the expectations.
fn writes() -> bool {
    env::var(EXPECT).is_ok_and(|value| value == "write")
}

/// An error with what it is due to.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
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

/// The test of one law on one subject.
struct LawTest {
    law: &'static Law,
    subject: String,
    make: Constructor,
    campaign: Campaign,
    expected: Option<lossproof_laws::expectations::SubjectExpectations>,
    draw: Draw,
    rerun: String,
    outcomes: Outcomes,
}

impl LawTest {
    fn run(self) -> Result<Completion, Failed> {
        let Self { law, subject, make, campaign, expected, draw, rerun, outcomes } = self;
        let declared = expected.as_ref().and_then(|own| own.declared(law.id())).cloned();
        let (info, report, replay) = watched::run(campaign, move |campaign| {
            let mut subject = make().map_err(|error| format!("the subject could not be made: {error}"))?;
            let replay =
                declared.map(|declared| Replay::of(&campaign.replay(law, &mut *subject, &declared.case)));
            let report = campaign.run(law, &mut *subject).map_err(|error| chain(&error))?;
            Ok((subject.info(), report, replay))
        })?;
        let outcome = Outcome::of(&report, replay, draw);
        let judged = judge(expected.as_ref(), &outcome);
        outcomes.add(Decided { subject, report: report.clone(), verdict: judged.verdict, outcome });
        if let Some(warning) = &judged.warning {
            eprintln!("warning: {}: {warning}", law.id());
        }
        match judged.standing {
            Standing::Green => Ok(Completion::Completed),
            Standing::Ignored => {
                let reason = judged.reason.unwrap_or_else(|| "not decided".to_owned());
                Ok(Completion::ignored_with(format!("{}: {reason}", judged.verdict)))
            }
            Standing::Red => {
                let reason = judged
                    .reason
                    .map_or_else(String::new, |reason| format!("{}: {reason}\n", judged.verdict));
                let Report { verdict, .. } = &report;
                let found = if *verdict == Verdict::Pass { String::new() } else { format!("{report}\n") };
                Err(format!(
                    "{} {} ({}, {})\n{reason}{found}{rerun}",
                    info.name, info.version, info.dtype, info.device
                )
                .into())
            }
        }
    }
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
/// Paths of `files` are relative to the package. `cargo test` then has tests such as `my trainer::token-mean`, which it
/// and `cargo nextest` list and filter as any other; `cargo test --test NAME -- --cases 10000` tries each law on more cases. A
/// law that the subject's card rules out is ignored and says what is lacking. What is expected of a trainer,
/// the laws that decide and those it is known to break, stands in `lossproof.toml` beside the package's
/// `Cargo.toml`, which `LOSSPROOF_EXPECT=write cargo test` drafts. A law that fails says which known bug it
/// looks like; with `reference: make_another,` after `files`, a trainer with the same parameters that is
/// taken to be right, it can say so of the backward pass too. The run ends with what it certifies and what it
/// does not cover, and a run in which nothing passed is no success.
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
