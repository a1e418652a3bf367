//! Follows docs/plugging-in.md as a stranger would: in a package outside the workspace, block by block.

mod package;
mod shown;
mod steps;

use crate::failure::{Failure, IoContext as _};
use package::Package;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use steps::{Action, Step};

/// The page that is followed.
const PAGE: &str = "docs/plugging-in.md";

/// The package that it leads to, whose `src/` is the trainer that it starts with.
const EXAMPLE: &str = "examples/plugging-in";

/// Where packages outside the workspace are built that share what they compile.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join("target").join("stranger")
}

/// Does what the page says and holds what is printed to what it shows, and the files in the end to those of the
/// example. With `write` the example's files become those.
///
/// # Errors
/// The first step that does not go as the page says, with its line.
pub(crate) fn plug_in(root: &Path, write: bool) -> Result<(), Failure> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).context("read", &path)?;
    let steps = steps::steps(&page).map_err(|what| wrong(&what))?;
    let package = Package::new(root, &root.join(EXAMPLE))?;
    let (mut files, mut commands) = (0, 0);
    for Step { line, action } in &steps {
        let at = |what: String| wrong(&format!("line {line}: {what}"));
        if let Action::Run { command, shows } = action {
            let start = Instant::now();
            let printed = package.run(command, &target(root))?;
            shown::compare(shows, &printed).map_err(|what| {
                eprintln!("{printed}");
                at(format!("`{command}` does not print what is shown: {what}"))
            })?;
            eprintln!("plug-in: {command}: as shown, {:.1} s", start.elapsed().as_secs_f64());
            commands += 1;
        } else {
            package.edit(action)?.map_err(at)?;
            files += 1;
        }
    }
    if commands == 0 {
        return Err(wrong("no command is run: are the marks in front of the blocks other ones?"));
    }
    package.hold_to(&root.join(EXAMPLE), write)?;
    eprintln!("plug-in: {files} edits and {commands} commands, and {EXAMPLE} is what comes out");
    Ok(())
}

/// The page does not lead where it says.
fn wrong(what: &str) -> Failure {
    Failure::new(
        format!("{PAGE}: {what}"),
        "make the page say what is true; `cargo xtask plug-in --write` renews the files of the example",
    )
}
