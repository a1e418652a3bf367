//! A command line as arguments, without a shell.

use std::process::Command;

/// A command that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nothing to start.
    #[error("the adapter's command is empty: name a program and its arguments")]
    Empty,
    /// A quotation that does not end.
    #[error("`{command}` has a quotation that does not end")]
    Quotation {
        /// The command.
        command: String,
    },
}

/// The command that a line names. Words are split and quoted as in a POSIX shell, and nothing else of a shell is
/// there: no variables, no pipes, no redirections.
///
/// # Errors
/// When there is none, or a quotation does not end.
pub(crate) fn command(line: &str) -> Result<Command, CommandError> {
    let words = shlex::split(line).ok_or_else(|| CommandError::Quotation { command: line.to_owned() })?;
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them_and_nothing_is_expanded() {
        let made = command("python -m 'my adapter' \"$HOME\" | tee").expect("words");
        let arguments: Vec<_> = made.get_args().collect();
        assert_eq!(made.get_program(), "python");
        assert_eq!(arguments, ["-m", "my adapter", "$HOME", "|", "tee"]);
        assert_eq!(command("  ").map(drop), Err(CommandError::Empty));
        assert!(matches!(command("a 'b").map(drop), Err(CommandError::Quotation { .. })));
    }
}
