//! Exit codes, and the one place where results, errors and panics become one.

use std::{
    io::Write,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It conforms, or the question was answered.
    Conforms = 0,
    /// It does not conform.
    Deviates = 1,
    /// The arguments or a file make no sense. Clap uses the same code.
    Usage = 2,
    /// Nothing failed, but something was not checked.
    Unchecked = 3,
    /// A defect of this program.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Makes a panic say in one line what happened and that it is not the user's fault.
pub(crate) fn announce_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        complain(&format!("internal error{place}: {message}. Please report it with the command you ran."));
    }));
}

/// Runs a command: an error is shown on stderr and is the user's to mend, a panic is ours.
pub(crate) fn of(command: impl FnOnce() -> miette::Result<Exit>) -> Exit {
    // Nothing the command touched is used after a panic.
    match panic::catch_unwind(AssertUnwindSafe(command)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(report)) => {
            complain(&format!("{report:?}"));
            Exit::Usage
        }
        Err(_) => Exit::Internal,
    }
}

/// Writes to stderr. That nobody reads it changes nothing about how the command ends, so unlike `eprintln!` it does not
/// panic then.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_users_and_panics_ours() {
        assert_eq!(of(|| Ok(Exit::Conforms)), Exit::Conforms);
        assert_eq!(of(|| Err(miette::miette!("no such file"))), Exit::Usage);
        assert_eq!(of(|| panic!("a defect")), Exit::Internal);
    }
}
