//! Which shared libraries a program needs, and who brings them to the machine it will run on.

use crate::failure::{Failure, IoContext as _};
use std::path::Path;
use std::process::Command;

/// Who brings which libraries. A program that needs another one does not start there.
const BROUGHT: [(&str, &[&str]); 4] = [
    (
        "PyTorch",
        &[
            "libtorch.so",
            "libtorch_cpu.so",
            "libtorch_cuda.so",
            "libc10.so",
            "libc10_cuda.so",
            "libgomp.so.1",
        ],
    ),
    (
        "the packages PyTorch depends on",
        &["libcublas.so.13", "libcublasLt.so.13", "libnvrtc.so.13", "libcudart.so.13"],
    ),
    ("the driver", &["libcuda.so.1"]),
    (
        "the system",
        &[
            "libc.so.6",
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "libgcc_s.so.1",
            "libstdc++.so.6",
            "ld-linux-x86-64.so.2",
        ],
    ),
];

/// Without the first libtorch sees no GPU, without the others dfdx does not.
const INDISPENSABLE: [&str; 4] = ["libtorch_cuda.so", "libcuda.so.1", "libcublas.so.13", "libnvrtc.so.13"];

/// Checks that `program` needs CUDA's libraries, and none that nobody brings.
///
/// # Errors
/// Names the libraries that are missing or too many, or why the program cannot be read.
pub(super) fn check(program: &Path) -> Result<(), Failure> {
    let dynamic = dynamic_section(program)?;
    let libraries = needed(&dynamic);
    eprintln!("cuda: {} needs", program.display());
    for (who, brought) in &BROUGHT {
        let theirs: Vec<_> = libraries.iter().copied().filter(|library| brought.contains(library)).collect();
        eprintln!("        from {who}: {}", theirs.join(" "));
    }
    judge(&libraries).map_err(|what| {
        Failure::new(
            format!("{}: {what}", program.display()),
            "what is linked is decided by the build scripts and .cuda/, who brings what by xtask/src/cuda/needed.rs",
        )
    })
}

fn judge(libraries: &[&str]) -> Result<(), String> {
    let missing: Vec<_> =
        INDISPENSABLE.iter().copied().filter(|library| !libraries.contains(library)).collect();
    if !missing.is_empty() {
        return Err(format!("built without {}", missing.join(" and ")));
    }
    let brought: Vec<_> = BROUGHT.iter().flat_map(|(_, brought)| *brought).collect();
    let unknown: Vec<_> = libraries.iter().copied().filter(|library| !brought.contains(&library)).collect();
    if !unknown.is_empty() {
        return Err(format!("needs {}, which nobody brings", unknown.join(" and ")));
    }
    Ok(())
}

/// What `readelf -d` (of binutils, as the linker is) says of `file`.
pub(super) fn dynamic_section(file: &Path) -> Result<String, Failure> {
    let output = Command::new("readelf")
        .args(["--dynamic", "--wide"])
        .arg(file)
        .env("LC_ALL", "C")
        .output()
        .context("run readelf on", file)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(
        format!("readelf {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim()),
        "the file is no program: build it again",
    ))
}

/// The libraries of the `NEEDED` entries.
fn needed(dynamic: &str) -> Vec<&str> {
    let entries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    entries.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: &str = "\
Dynamic section at offset 0x1fb8 contains 30 entries:
  Tag        Type                         Name/Value
 0x000000000000001d (RUNPATH)            Library runpath: [/somewhere/lib]
 0x0000000000000001 (NEEDED)             Shared library: [libtorch_cuda.so]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000c (INIT)               0x1000
";

    #[test]
    fn needed_libraries_are_read_and_nothing_else() {
        assert_eq!(needed(DYNAMIC), ["libtorch_cuda.so", "libc.so.6"]);
    }

    #[test]
    fn this_very_program_needs_the_c_library() {
        let dynamic = dynamic_section(&std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&dynamic).contains(&"libc.so.6"), "{dynamic}");
    }

    #[test]
    fn a_file_that_is_no_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lossproof");
        std::fs::write(&file, "no program").unwrap();
        assert!(dynamic_section(&file).is_err());
    }

    #[test]
    fn a_program_without_libtorchs_cuda_is_refused() {
        let mut libraries = INDISPENSABLE.to_vec();
        assert_eq!(judge(&libraries), Ok(()));
        libraries.remove(0);
        assert_eq!(judge(&libraries), Err("built without libtorch_cuda.so".to_owned()));
    }

    #[test]
    fn a_library_that_nobody_brings_is_refused_by_name() {
        let libraries = [INDISPENSABLE.as_slice(), &["libc.so.6", "libssl.so.3"]].concat();
        assert_eq!(judge(&libraries), Err("needs libssl.so.3, which nobody brings".to_owned()));
    }
}
