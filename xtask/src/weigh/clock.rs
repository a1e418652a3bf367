//! What a command costs in seconds.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Instant;

/// Ticks of processor time in a second, as Linux counts them for programs on every architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// The seconds that a command took.
#[derive(Clone, Copy)]
pub(super) struct Spent {
    /// By the clock on the wall.
    pub(super) wall: f64,
    /// On all processors together, with all that it started; `None` where the system does not say.
    pub(super) processor: Option<f64>,
}

/// Cargo in a folder.
pub(super) fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder);
    cargo
}

/// Has `cargo` build from nothing: `target` is a folder in which nothing was built.
///
/// # Errors
/// When it cannot be started.
pub(super) fn build(cargo: &mut Command, target: &Path) -> std::io::Result<(ExitStatus, Spent)> {
    cargo.args(["--quiet", "--target-dir"]).arg(target);
    // A wrapper would hand over what it has compiled before.
    cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    time(cargo)
}

/// Runs `command` to its end.
///
/// # Errors
/// When it cannot be started.
fn time(command: &mut Command) -> std::io::Result<(ExitStatus, Spent)> {
    let before = children_seconds();
    let start = Instant::now();
    let status = command.status()?;
    let wall = start.elapsed().as_secs_f64();
    let processor = children_seconds().zip(before).map(|(after, before)| after - before);
    Ok((status, Spent { wall, processor }))
}

/// Processor time of all children so far that have ended, and of theirs. Only Linux has the file.
fn children_seconds() -> Option<f64> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The sum of `cutime` and `cstime`, the 16th and 17th field. The 2nd, the program's name, can hold spaces.
fn parse(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(13);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn the_time_of_children_is_read() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 200 0 0 11 12 250 50 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(3.0));
        assert_eq!(parse("7 (x) S 1"), None);
    }

    #[test]
    fn a_command_takes_time() {
        let (status, spent) = time(Command::new("rustc").arg("--version").stdout(Stdio::null())).unwrap();
        assert!(status.success() && spent.wall > 0.0 && spent.processor.is_none_or(|seconds| seconds >= 0.0));
    }
}
