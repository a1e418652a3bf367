//! Feeds every reader of foreign bytes with changed inputs, and puts the table of what became of them into
//! docs/fuzzing.md.

use crate::failure::{Failure, IoContext as _};
use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

/// The page, and what the table stands between.
const PAGE: &str = "docs/fuzzing.md";
const BEGIN: &str = "<!-- fuzz -->\n";
const END: &str = "<!-- /fuzz -->";

/// How much is tried, and when.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Inputs for each reader.
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// The day that the page gives, as YYYY-MM-DD; today's without.
    #[arg(long)]
    date: Option<String>,
}

/// Runs `lossproof-fuzz`, and writes the page where nothing was found.
///
/// # Errors
/// A finding, a program that cannot be built, and a page that cannot be written.
pub(crate) fn fuzz(root: &Path, options: &Options) -> Result<ExitCode, Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--profile", "thorough", "--package", "lossproof-fuzz", "--", "--inputs"]);
    cargo.arg(options.inputs.to_string()).arg("--findings").arg(root.join("target/fuzz"));
    let table =
        printed(cargo.current_dir(root), "each line above names the reader and the file with its input")?;
    let date = match &options.date {
        Some(date) => date.clone(),
        None => printed(Command::new("date").args(["-u", "+%F"]), "give the day with --date")?,
    };
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).context("read", &path)?;
    let text = format!("Run on {}, with {} inputs for each reader.\n\n{table}", date.trim(), options.inputs);
    let page = replaced(&page, &text).ok_or_else(|| {
        Failure::new(format!("{PAGE} has no place for the table"), format!("put {BEGIN}{END} there"))
    })?;
    let mut file = tempfile::NamedTempFile::new_in(root.join("docs")).context("write", &path)?;
    file.write_all(page.as_bytes()).context("write", &path)?;
    file.persist(&path).map_err(|error| error.error).context("write", &path)?;
    Ok(ExitCode::SUCCESS)
}

/// What a command prints.
fn printed(command: &mut Command, help: &str) -> Result<String, Failure> {
    let program = command.get_program().to_owned();
    let output = command.stderr(Stdio::inherit()).output().context("run", Path::new(&program))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{} ended with {}", program.display(), output.status), help));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The page with this in the place of its table.
fn replaced(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, behind) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{text}{END}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_place_for_the_table_and_nothing_else_changes() {
        let page = fs::read_to_string(crate::workspace_root().join(PAGE)).expect("it is there");
        let once = replaced(&page, "a\n").expect("it has the place");
        assert!(once.contains("<!-- fuzz -->\na\n<!-- /fuzz -->"));
        assert_eq!(replaced(&once, "a\n"), Some(once));
        assert_eq!(replaced("no place", "a"), None);
    }
}
