//! libtorch for this workspace: the user's own, checked, or the pinned one, provisioned under the workspace root.

mod install;
mod pins;
mod pip;
pub(crate) mod smoke;
mod version;
mod wheels;

use crate::failure::Failure;
use std::env;
use std::path::{Path, PathBuf};

/// Makes sure that the libtorch the build will use is there, is the right release, and loads.
///
/// # Errors
/// Says what is wrong with the user's `LIBTORCH`, or why the pinned one could not be provisioned.
pub(crate) fn setup(root: &Path) -> Result<(), Failure> {
    match users_own(root) {
        Some(libtorch) => check(&libtorch),
        None => install::provision(root),
    }
}

/// `LIBTORCH`, unless it names the workspace's own folder: cargo sets it to that one for everything it runs.
fn users_own(root: &Path) -> Option<PathBuf> {
    let libtorch = PathBuf::from(env::var_os("LIBTORCH")?);
    (!is_workspaces(&libtorch, root)).then_some(libtorch)
}

fn is_workspaces(libtorch: &Path, root: &Path) -> bool {
    let workspaces = root.join(install::FOLDER);
    // Before the first setup neither path exists, so that they can only be compared by name.
    libtorch == workspaces
        || libtorch.canonicalize().is_ok_and(|path| workspaces.canonicalize().is_ok_and(|own| path == own))
}

fn check(libtorch: &Path) -> Result<(), Failure> {
    if !libtorch.is_absolute() || !libtorch.is_dir() {
        return Err(Failure::new(
            format!("LIBTORCH is `{}`, which is no absolute path of a folder", libtorch.display()),
            "set it to the folder that holds libtorch's include/ and lib/, or unset it to have libtorch provisioned",
        ));
    }
    version::check(libtorch)?;
    let lib = env::var_os("LIBTORCH_LIB").map_or_else(|| libtorch.to_owned(), PathBuf::from).join("lib");
    smoke::loads(&lib)?;
    eprintln!("libtorch {}: using LIBTORCH ({})", pins::VERSION, libtorch.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspaces_own_folder_is_known_before_and_after_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(install::FOLDER);
        assert!(is_workspaces(&own, root.path()));
        assert!(!is_workspaces(&root.path().join("elsewhere"), root.path()));

        std::fs::create_dir(&own).unwrap();
        assert!(is_workspaces(&root.path().join("./.libtorch/../.libtorch"), root.path()));
    }

    #[test]
    fn a_relative_or_missing_libtorch_is_refused() {
        assert!(Path::new("src").is_dir(), "tests run in the package's folder");
        for path in ["", "src", "/nowhere/libtorch"] {
            let failure = check(Path::new(path)).unwrap_err().to_string();
            assert!(failure.contains("LIBTORCH is"), "{failure}");
        }
    }
}
