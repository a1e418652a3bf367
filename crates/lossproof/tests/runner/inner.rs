//! The run inside: this executable again, as the test of a package that holds a trainer to the laws.

use crate::trainer::{Habit, trainer};
use lossproof::{Conformance, SubjectError};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The trainers of the run inside: `NAME=HABIT`, with commas between.
const TRAINERS: &str = "LOSSPROOF_TEST_TRAINERS";
/// The folder of its package.
const PACKAGE: &str = "LOSSPROOF_TEST_PACKAGE";

/// The run inside, where this process is one.
pub(crate) fn asked_for() -> Option<Conformance> {
    let trainers = env::var(TRAINERS).ok()?;
    let mut test = Conformance::new();
    if let Some(folder) = env::var_os(PACKAGE) {
        test = test.files(Path::new(&folder).join("cases")).package(&folder, "lossproof", "runner");
    }
    for trainer_and_habit in trainers.split(',') {
        let (name, habit) = trainer_and_habit.split_once('=').unwrap();
        let habit: Habit = habit.parse().unwrap();
        test = test.subject(name, 8, move || Ok::<_, SubjectError>(trainer(habit)));
    }
    Some(test)
}

/// A run inside that is to be started.
pub(crate) struct Inner(Command);

impl Inner {
    /// Of these trainers, in a package without a folder.
    pub(crate) fn of(trainers: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(TRAINERS, trainers).env_remove(PACKAGE).env_remove("LOSSPROOF_EXPECT");
        // Long enough for what answers at all, on a machine that has other things to do.
        command.env("LOSSPROOF_TIMEOUT", "4");
        Self(command)
    }

    /// In a package with this folder, where cargo runs tests and failing cases are kept.
    pub(crate) fn in_package(mut self, folder: &Path) -> Self {
        self.0.env(PACKAGE, folder).current_dir(folder);
        self
    }

    pub(crate) fn with(mut self, variable: &str, value: &str) -> Self {
        self.0.env(variable, value);
        self
    }

    /// Runs it with these arguments.
    pub(crate) fn run(mut self, arguments: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = self.0.args(arguments).output().unwrap();
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).join("\n");
        Ended { code: status.code(), said }
    }
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Ended {
    /// Fails unless the run ended with this code and said all of this.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.said);
        for what in said {
            assert!(self.said.contains(what), "`{what}` is not in:\n{}", self.said);
        }
    }

    /// Lines that contain this.
    pub(crate) fn lines(&self, with: &str) -> usize {
        self.said.lines().filter(|line| line.contains(with)).count()
    }
}

/// An empty folder for the package of one test.
pub(crate) fn package(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runner").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
