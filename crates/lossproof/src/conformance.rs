//! The laws as tests of a trainer's own `cargo test`: one named, filterable test per law and subject.

use libtest_mimic::{Arguments, Failed, Trial};
#[cfg(feature = "diagnosis")]
use lossproof_diagnosis::Diagnostician;
use lossproof_laws::{Campaign, Examiner, LAWS, Law, Verdict};
use lossproof_subject::Subject;
#[cfg(feature = "diagnosis")]
use lossproof_subject::SubjectError;
use std::{env, ffi::OsString, fmt::Display, path::PathBuf, process::ExitCode, sync::Arc};

/// Makes one subject. Called once per test: tests run on threads of their own, and a subject need not be `Send`.
type Constructor = Arc<dyn Fn() -> Result<Box<dyn Subject>, String> + Send + Sync>;

/// Subjects and the laws they are held to. [`conformance!`](crate::conformance) makes one and runs it.
pub struct Conformance {
    subjects: Vec<(String, u32, Constructor)>,
    files: Option<PathBuf>,
    examiner: Option<Arc<dyn Examiner>>,
}

impl Conformance {
    /// No subject yet.
    #[must_use]
    pub fn new() -> Self {
        #[cfg(feature = "diagnosis")]
        let examiner: Option<Arc<dyn Examiner>> = Some(Arc::new(Diagnostician::default()));
        #[cfg(not(feature = "diagnosis"))]
        let examiner = None;
        Self { subjects: Vec::new(), files: None, examiner }
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

    /// Runs the tests that the arguments of this process select, as libtest does, and says whether all passed.
    ///
    /// Besides libtest's own arguments: `--cases N` tries every law on N random cases, `--seed N` draws others.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let options = match Options::parse(env::args_os()) {
            Ok(options) => options,
            Err(message) => {
                eprintln!("error: {message}");
                return ExitCode::from(2);
            }
        };
        let arguments = Arguments::from_iter(options.rest.clone());
        let trials = self.trials(&options);
        libtest_mimic::run(&arguments, trials).exit_code()
    }

    fn trials(&self, options: &Options) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (name, cases, make) in &self.subjects {
            let campaign = Campaign {
                cases: options.cases.unwrap_or(*cases),
                seed: options.seed.unwrap_or(0),
                files: self.files.clone(),
                examiner: self.examiner.clone(),
                ..Campaign::default()
            };
            // Asked once, for what it lacks; a subject that cannot be made fails each of its tests, which say why.
            let mut probe = make().ok();
            for law in LAWS {
                let lacks = probe.as_mut().and_then(|subject| law.lacking(&mut **subject));
                let (make, campaign) = (Arc::clone(make), campaign.clone());
                let trial = Trial::test(format!("{name}::{}", law.id()), move || hold(law, &campaign, &make));
                trials.push(match lacks {
                    Some(what) => trial.with_kind(format!("unsupported: {what}")).with_ignored_flag(true),
                    None => trial,
                });
            }
        }
        trials
    }
}

/// One test.
fn hold(law: &'static Law, campaign: &Campaign, make: &Constructor) -> Result<(), Failed> {
    let mut subject = make().map_err(|error| format!("the subject could not be made: {error}"))?;
    let report = campaign.run(law, &mut *subject)?;
    match report.verdict {
        // Said by the subject only when asked for a spec, so the test was not ignored beforehand.
        Verdict::Pass | Verdict::Unsupported => Ok(()),
        Verdict::Fail | Verdict::Unchecked | Verdict::Errored => {
            let info = subject.info();
            let rerun = format!(
                "rerun: cargo test -- {} --seed {} --cases {}",
                law.id(),
                campaign.seed,
                campaign.cases
            );
            Err(format!(
                "{} {} ({}, {})\n{report}\n{rerun}",
                info.name, info.version, info.dtype, info.device
            )
            .into())
        }
    }
}

/// What libtest does not know.
struct Options {
    cases: Option<u32>,
    seed: Option<u64>,
    /// Everything else.
    rest: Vec<OsString>,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { cases: None, seed: None, rest: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if !matches!(name, "--cases" | "--seed") {
                options.rest.push(argument);
                continue;
            }
            let value = inline
                .or_else(|| arguments.next().map(|value| value.to_string_lossy().into_owned()))
                .ok_or_else(|| format!("{name} needs a number"))?;
            let wrong = || format!("{name} takes a number, not `{value}`");
            match name {
                "--cases" => options.cases = Some(value.parse().map_err(|_| wrong())?),
                _ => options.seed = Some(value.parse().map_err(|_| wrong())?),
            }
        }
        Ok(options)
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
/// law that a subject lacks the capabilities for is ignored and says what is lacking. A law that fails says which known bug it
/// looks like; with `reference: make_another,` after `files`, a trainer with the same parameters that is taken to be right, it
/// can say so of the backward pass too.
#[macro_export]
macro_rules! conformance {
    (
        $(files: $files:expr,)?
        $(reference: $reference:expr,)?
        $($name:literal: $make:expr, cases: $cases:expr;)+
    ) => {
        fn main() -> ::std::process::ExitCode {
            $crate::Conformance::new()
                $(.files(::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($files)))?
                $(.reference($reference))?
                $(.subject($name, $cases, $make))+
                .main()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (Option<u32>, Option<u64>, Vec<String>);

    fn parse(arguments: &[&str]) -> Result<Parsed, String> {
        let options = Options::parse(arguments.iter().map(OsString::from))?;
        let rest = options.rest.iter().map(|argument| argument.to_string_lossy().into_owned());
        Ok((options.cases, options.seed, rest.collect()))
    }

    #[test]
    fn own_arguments_are_taken_out_and_the_others_left() {
        let rest = |arguments: &[&str]| arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            parse(&["test", "--cases", "9", "ratios", "--list", "--seed=4"]),
            Ok((Some(9), Some(4), rest(&["test", "ratios", "--list"])))
        );
        assert_eq!(parse(&["test", "--exact"]), Ok((None, None, rest(&["test", "--exact"]))));
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        assert_eq!(parse(&["test", "--cases"]), Err("--cases needs a number".to_owned()));
        assert_eq!(parse(&["test", "--cases=many"]), Err("--cases takes a number, not `many`".to_owned()));
    }
}
