//! libtorch for this workspace: the user's own, checked, or the pinned one, provisioned under the workspace root.

pub(crate) mod smoke;
mod version;

use crate::failure::{Failure, IoContext as _};
use crate::provision::{self, Part, Recipe};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The libtorch release that `tch` in the root manifest is made for.
pub(crate) const VERSION: &str = "2.11.0";

/// The provisioned folder, under the workspace root. `.cargo/config.toml` points `LIBTORCH` at it.
const FOLDER: &str = ".libtorch";

/// A libtorch without CUDA. `libtorch_cuda.so` must stay out: its mere presence makes torch-sys link it.
/// The other folders of `torch/include/` belong to libraries that libtorch has inside; torch-sys reads none of them.
pub(crate) const RECIPE: Recipe = Recipe {
    name: "libtorch 2.11.0",
    folder: FOLDER,
    parts: &[
        Part { wheel: "torch", source: "torch/include/ATen/", target: "include/ATen/" },
        Part { wheel: "torch", source: "torch/include/c10/", target: "include/c10/" },
        Part { wheel: "torch", source: "torch/include/caffe2/", target: "include/caffe2/" },
        Part { wheel: "torch", source: "torch/include/torch/", target: "include/torch/" },
        Part { wheel: "torch", source: "torch/lib/libtorch_cpu.so", target: "lib/libtorch_cpu.so" },
        Part { wheel: "torch", source: "torch/lib/libc10.so", target: "lib/libc10.so" },
        Part { wheel: "torch", source: "torch/lib/libgomp.so.1", target: "lib/libgomp.so.1" },
        Part {
            wheel: "nvidia-cuda-runtime",
            source: "nvidia/cu13/lib/libcudart.so.13",
            target: "lib/libcudart.so.13",
        },
        Part {
            wheel: "nvidia-cuda-cupti",
            source: "nvidia/cu13/lib/libcupti.so.13",
            target: "lib/libcupti.so.13",
        },
    ],
    download: "544 MB",
    disk: "1.2 GB",
    instead: "or set LIBTORCH to a libtorch 2.11.0 of your own",
    finish,
};

/// Adds what the wheels lack, then has the dynamic loader load it all.
fn finish(libtorch: &Path) -> Result<(), Failure> {
    // The wheel's own libtorch.so would pull in CUDA; torch-sys asks the linker for this name.
    let script = libtorch.join("lib/libtorch.so");
    fs::write(&script, "INPUT(-ltorch_cpu)\n").context("write", &script)?;
    write_version(libtorch)?;
    smoke::loads(&libtorch.join("lib"))
}

/// Writes the file without which torch-sys checks no version.
pub(crate) fn write_version(libtorch: &Path) -> Result<(), Failure> {
    let path = libtorch.join("build-version");
    fs::write(&path, format!("{VERSION}\n")).context("write", &path)
}

/// Makes sure that the libtorch the build will use is there, is the right release, and loads.
///
/// # Errors
/// Says what is wrong with the user's `LIBTORCH`, or why the pinned one could not be provisioned.
pub(crate) fn setup(root: &Path) -> Result<(), Failure> {
    match users_own(root) {
        Some(libtorch) => check(&libtorch),
        None => provision::provision(root, &RECIPE),
    }
}

/// `LIBTORCH`, unless it names the workspace's own folder: cargo sets it to that one for everything it runs.
fn users_own(root: &Path) -> Option<PathBuf> {
    let libtorch = PathBuf::from(env::var_os("LIBTORCH")?);
    (!is_workspaces(&libtorch, root)).then_some(libtorch)
}

fn is_workspaces(libtorch: &Path, root: &Path) -> bool {
    let workspaces = root.join(FOLDER);
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
    eprintln!("libtorch {}: using LIBTORCH ({})", VERSION, libtorch.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspaces_own_folder_is_known_before_and_after_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(FOLDER);
        assert!(is_workspaces(&own, root.path()));
        assert!(!is_workspaces(&root.path().join("elsewhere"), root.path()));

        fs::create_dir(&own).unwrap();
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
