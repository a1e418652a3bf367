//! Which shared libraries a program needs, and who brings them to the machine it will run on.

use crate::failure::{Failure, IoContext as _};
use object::elf::{DT_NEEDED, DynamicTag, FileHeader64};
use object::read::{ReadCache, elf::ElfFile};
use std::fs::File;
use std::path::Path;

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
    let libraries = dynamic_strings(program, DT_NEEDED)?;
    let libraries: Vec<_> = libraries.iter().map(String::as_str).collect();
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

/// What the dynamic section of a program or library says under `tag`, such as [`DT_NEEDED`]. A file without a
/// dynamic section, which a static program is, says nothing.
///
/// # Errors
/// When the file cannot be opened, or is no 64-bit ELF file.
fn dynamic_strings(file: &Path, tag: DynamicTag) -> Result<Vec<String>, Failure> {
    let opened = File::open(file).context("read", file)?;
    read_dynamic_strings(opened, tag).map_err(|error| {
        Failure::new(
            format!("{}: {error}", file.display()),
            "the file is no program for 64-bit Linux: build it again",
        )
    })
}

/// Reads only the parts it needs: with its debugging information a program has hundreds of megabytes.
fn read_dynamic_strings(file: File, tag: DynamicTag) -> object::Result<Vec<String>> {
    let cache = ReadCache::new(file);
    let program = ElfFile::<FileHeader64<object::Endianness>, _>::parse(&cache)?;
    let dynamic = program.elf_dynamic_table()?;
    let mut strings = Vec::new();
    for entry in &dynamic {
        if entry.tag == tag {
            strings.push(String::from_utf8_lossy(dynamic.string(entry)?).into_owned());
        }
    }
    Ok(strings)
}

/// The name that a library gives itself, in the words of `readelf --dynamic`.
#[cfg(test)]
pub(super) fn dynamic_section(file: &Path) -> Result<String, Failure> {
    let sonames = dynamic_strings(file, object::elf::DT_SONAME)?;
    Ok(format!("Library soname: [{}]", sonames.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_libraries_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libown.so");
        // Linked with a search path and a name of its own, which stand in the dynamic section, too.
        let output = std::process::Command::new("cc")
            .args(["-shared", "-nostdlib", "-x", "c", "/dev/null", "-Wl,--no-as-needed"])
            .args(["-Wl,-soname,libown.so.1", "-Wl,-rpath,/somewhere/lib", "-lm", "-lc", "-o"])
            .arg(&library)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(dynamic_strings(&library, DT_NEEDED).unwrap(), ["libm.so.6", "libc.so.6"]);
        assert_eq!(dynamic_section(&library).unwrap(), "Library soname: [libown.so.1]");
    }

    #[test]
    fn this_very_program_needs_the_c_library() {
        let libraries = dynamic_strings(&std::env::current_exe().unwrap(), DT_NEEDED).unwrap();
        assert!(libraries.iter().any(|library| library == "libc.so.6"), "{libraries:?}");
    }

    #[test]
    fn a_file_that_is_no_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lossproof");
        // The last begins like a program and ends there.
        for content in ["", "no program", "\x7fELF\x02\x01\x01"] {
            std::fs::write(&file, content).unwrap();
            let failure = dynamic_strings(&file, DT_NEEDED).unwrap_err().to_string();
            assert!(failure.contains("lossproof: "), "{failure}");
        }
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
