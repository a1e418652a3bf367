//! The folder that is carried to the machine with a GPU.

use super::build::{Programs, Sources};
use super::run_script;
use crate::failure::{Failure, IoContext as _};
use crate::provision;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The most the folder may hold, in bytes: 60 MB.
const MAX_SIZE: u64 = 60_000_000;

/// What the kernels that dfdx compiles at run time include: from its own sources, then from the toolkit. dfdx
/// looks for them where they lay when it was built, and NVRTC in the current folder, so that is where `run` goes.
const KERNEL_HEADERS: [&str; 2] =
    ["src/tensor_ops/utilities/cuda_utils.cuh", "src/tensor_ops/utilities/compatibility.cuh"];
const TOOLKIT_HEADERS: [&str; 1] = ["include/cuda_fp16.h"];

/// Fills `folder` anew, whole or not at all, and returns its size in words.
///
/// # Errors
/// A file that cannot be copied, or a folder larger than [`MAX_SIZE`].
pub(super) fn fill(
    folder: &Path,
    programs: &Programs,
    sources: &Sources,
    toolkit: &Path,
    built_from: &str,
) -> Result<String, Failure> {
    let scratch = folder.with_extension(format!("tmp-{}", std::process::id()));
    fs::create_dir_all(&scratch).context("create", &scratch)?;
    let new = scratch.join("new");
    let filled = copy_all(&new, programs, sources, toolkit, built_from)
        .and_then(|()| size(&new))
        .and_then(|bytes| judge(bytes, &new))
        .and_then(|words| provision::replace(folder, &new, &scratch.join("replaced")).map(|()| words));
    fs::remove_dir_all(&scratch).context("remove", &scratch)?;
    filled
}

fn copy_all(
    folder: &Path,
    programs: &Programs,
    sources: &Sources,
    toolkit: &Path,
    built_from: &str,
) -> Result<(), Failure> {
    let include = folder.join("include");
    fs::create_dir_all(&include).context("create", &include)?;
    copy(&programs.lossproof, &folder.join("lossproof"))?;
    copy(&programs.conformance, &folder.join("conformance"))?;
    let headers = KERNEL_HEADERS.iter().map(|header| sources.dfdx.join(header));
    for header in headers.chain(TOOLKIT_HEADERS.iter().map(|header| toolkit.join(header))) {
        let name = header.file_name().unwrap_or_default();
        copy(&header, &include.join(name))?;
    }
    for (name, text, mode) in [("run", run_script::TEXT, 0o755), ("built-from", built_from, 0o644)] {
        let path = folder.join(name);
        fs::write(&path, text).context("write", &path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode)).context("set the mode of", &path)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to).context("copy", from)?;
    Ok(())
}

/// Bytes of all files under `folder`.
fn size(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let path: PathBuf = entry.context("list", &folder)?.path();
            let metadata = path.symlink_metadata().context("look at", &path)?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

fn judge(bytes: u64, folder: &Path) -> Result<String, Failure> {
    let words = format!("{:.1} MB", bytes as f64 / 1e6);
    if bytes <= MAX_SIZE {
        return Ok(words);
    }
    Err(Failure::new(
        format!("{} would hold {words}, {} MB at most", folder.display(), MAX_SIZE / 1_000_000),
        "look which program grew: ls -l target/cuda/debug; debug information is stripped already",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with everything the folder is filled from, each file holding its own name.
    fn ingredients(root: &Path) -> (Programs, Sources, PathBuf) {
        let file = |path: PathBuf| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
            path
        };
        let programs = Programs {
            lossproof: file(root.join("debug/lossproof")),
            conformance: file(root.join("debug/deps/conformance-0123")),
        };
        let sources = Sources { cudarc: root.join("cudarc"), dfdx: root.join("dfdx") };
        for header in KERNEL_HEADERS {
            file(sources.dfdx.join(header));
        }
        file(root.join("toolkit/include/cuda_fp16.h"));
        (programs, sources, root.join("toolkit"))
    }

    #[test]
    fn the_folder_holds_programs_headers_and_the_script_under_their_plain_names() {
        let root = tempfile::tempdir().unwrap();
        let (programs, sources, toolkit) = ingredients(root.path());
        let folder = root.path().join("dist/cuda");
        for built_from in ["commit a\n", "commit b\n"] {
            fill(&folder, &programs, &sources, &toolkit, built_from).unwrap();
            assert_eq!(fs::read_to_string(folder.join("built-from")).unwrap(), built_from);
        }
        for name in
            ["include/cuda_utils.cuh", "include/compatibility.cuh", "include/cuda_fp16.h", "lossproof"]
        {
            assert!(folder.join(name).is_file(), "{name}");
        }
        assert_eq!(fs::read_to_string(folder.join("conformance")).unwrap(), "conformance-0123");
        assert_eq!(fs::metadata(folder.join("run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(root.path().join("dist")).unwrap().count(), 1, "no temporary folder is left");
    }

    #[test]
    fn a_missing_ingredient_leaves_the_folder_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let (programs, sources, toolkit) = ingredients(root.path());
        let folder = root.path().join("dist/cuda");
        fill(&folder, &programs, &sources, &toolkit, "commit a\n").unwrap();
        fs::remove_file(&programs.conformance).unwrap();
        assert!(fill(&folder, &programs, &sources, &toolkit, "commit b\n").is_err());
        assert_eq!(fs::read_to_string(folder.join("built-from")).unwrap(), "commit a\n");
    }

    #[test]
    fn the_size_counts_every_file_and_the_limit_is_60_mb() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("include")).unwrap();
        fs::write(root.path().join("include/a"), [0; 100]).unwrap();
        fs::write(root.path().join("b"), [0; 23]).unwrap();
        assert_eq!(size(root.path()).unwrap(), 123);
        assert_eq!(judge(60_000_000, root.path()).unwrap(), "60.0 MB");
        let failure = judge(60_000_001, root.path()).unwrap_err().to_string();
        assert!(failure.contains("60 MB at most"), "{failure}");
    }
}
