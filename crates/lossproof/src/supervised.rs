//! The run as a child of the process that answers for it.
//!
//! A trainer that ends its process in the middle of a run would end it in green: whoever started the test
//! sees the exit code alone. So the laws run in a child, and only the end of the run gives the exit codes
//! that its parent passes on.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode, ExitStatus},
};

/// First argument of the child. No variable of the environment: a trainer that runs the tests of another
/// would hand that on.
const INSIDE: &str = "--lossproof-inside";

/// Exit codes of a run: nothing is red and something is certified, nothing is certified, it could not begin,
/// a test failed.
pub(crate) const GREEN: u8 = 0;
pub(crate) const UNCERTIFIED: u8 = 1;
pub(crate) const MISUSED: u8 = 2;
pub(crate) const FAILED: u8 = 101;

/// What the end of a run in a child adds to its exit code, so that no other end is taken for it by chance:
/// a number that no convention gives a meaning to. Against a trainer that means to deceive nothing helps here,
/// because it shares the process with what examines it.
const SEAL: u8 = 147;

/// The arguments of this process without the mark of a child, and whether that was there.
pub(crate) fn arguments() -> (Vec<OsString>, bool) {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let inside = arguments.get(1).is_some_and(|first| first == INSIDE);
    if inside {
        arguments.remove(1);
    }
    (arguments, inside)
}

/// The exit code of a child whose run is over, with this code of the run.
pub(crate) fn seal(code: u8) -> ExitCode {
    ExitCode::from(SEAL + code)
}

/// Runs this process again as a child, with the same arguments, and ends as its run does.
pub(crate) fn supervise() -> ExitCode {
    let child = env::current_exe()
        .and_then(|program| Command::new(program).arg(INSIDE).args(env::args_os().skip(1)).status());
    let ended = match child {
        Ok(status) => unseal(status),
        Err(error) => Err(format!("the test could not start itself for the run: {error}")),
    };
    ended.map_or_else(
        |message| {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

/// The exit code of a child's run, or what ended the child before the run was over.
fn unseal(status: ExitStatus) -> Result<u8, String> {
    let Some(code) = status.code() else {
        return Err(format!("the process was ended before the run was over ({status})"));
    };
    let run = [GREEN, UNCERTIFIED, MISUSED, FAILED].into_iter().find(|run| i32::from(SEAL + run) == code);
    run.ok_or_else(|| format!("the process was ended from inside before the run was over ({status})"))
}
