//! Stand-ins for what the driver would install: an `nvidia-smi` to ask and a `libcuda.so` to link with.
//!
//! dfdx's build script asks `nvidia-smi` for the GPU whatever else it is told, and cudarc links the driver's
//! library. Neither stand-in leaves the build: programs get the driver's own library on the machine they run on.

use super::ComputeCap;
use crate::failure::{Failure, IoContext as _};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Where `nvidia-smi` lies, under the toolkit.
pub(super) const PROGRAMS: &str = "stand-ins";

/// Where the toolkit's own placeholder for the driver's library would lie, and cudarc's build script looks.
const LIBRARIES: &str = "lib64/stubs";

/// Writes both under `toolkit`; `cudarc` is the folder of that package's sources.
///
/// # Errors
/// A file that cannot be read or written, or a C compiler that is missing or fails.
pub(super) fn write(toolkit: &Path, cudarc: &Path, compute_cap: ComputeCap) -> Result<(), Failure> {
    nvidia_smi(&toolkit.join(PROGRAMS), compute_cap)?;
    let bindings = cudarc.join("src/driver/sys.rs");
    let text = fs::read_to_string(&bindings).context("read", &bindings)?;
    libcuda(&toolkit.join(LIBRARIES), &declared(&text))
}

fn nvidia_smi(folder: &Path, compute_cap: ComputeCap) -> Result<(), Failure> {
    fs::create_dir_all(folder).context("create", folder)?;
    let path = folder.join("nvidia-smi");
    let script = format!("#!/bin/sh\necho compute_cap\necho {compute_cap}\n");
    fs::write(&path, script).context("write", &path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).context("make executable", &path)
}

/// The driver's functions that cudarc declares, so that whatever dfdx calls is there.
fn declared(bindings: &str) -> Vec<&str> {
    let functions = bindings.lines().filter_map(|line| line.trim_start().strip_prefix("pub fn "));
    let names = functions.filter_map(|function| Some(function.split_once('(')?.0));
    names.filter(|name| name.starts_with("cu")).collect()
}

fn libcuda(folder: &Path, functions: &[&str]) -> Result<(), Failure> {
    fs::create_dir_all(folder).context("create", folder)?;
    let source = folder.join("libcuda.c");
    let text = functions.iter().fold(String::new(), |mut text, function| {
        let _ = writeln!(text, "void {function}(void) {{}}");
        text
    });
    fs::write(&source, text).context("write", &source)?;
    let made = folder.join("libcuda.so.new");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(&made)
        .arg(&source)
        .output()
        .context("run cc on", &source)?;
    if !output.status.success() {
        return Err(Failure::new(
            format!("cc {}: {}", source.display(), String::from_utf8_lossy(&output.stderr).trim()),
            "a C compiler for shared libraries is needed (Debian: apt install build-essential)",
        ));
    }
    let library = folder.join("libcuda.so");
    fs::rename(&made, &library).context("rename to", &library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvidia_smi_says_what_dfdx_reads() {
        let folder = tempfile::tempdir().unwrap();
        nvidia_smi(folder.path(), "9.0".parse().unwrap()).unwrap();
        let program = folder.path().join("nvidia-smi");
        assert_ne!(fs::metadata(&program).unwrap().permissions().mode() & 0o111, 0);
        // Through the shell: the kernel refuses a program that another thread's fork still holds open for writing.
        let output = Command::new("sh")
            .arg(program)
            .args(["--query-gpu=compute_cap", "--format=csv"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "compute_cap\n9.0\n");
    }

    #[test]
    fn only_the_drivers_functions_are_declared() {
        let bindings = "extern \"C\" {\n    pub fn cuInit(Flags: c_uint) -> CUresult;\n\
                        #[must_use]\n    pub fn cuMemAlloc_v2(\n        dptr: *mut CUdeviceptr,\n\
                        pub struct cudaArray;\npub fn other(cu: u32);\n";
        assert_eq!(declared(bindings), ["cuInit", "cuMemAlloc_v2"]);
    }

    #[test]
    fn the_library_has_the_drivers_name_and_its_functions() {
        let folder = tempfile::tempdir().unwrap();
        libcuda(folder.path(), &["cuInit", "cuMemAlloc_v2"]).unwrap();
        let library = folder.path().join("libcuda.so");
        let dynamic = super::super::needed::dynamic_section(&library).unwrap();
        assert!(dynamic.contains("Library soname: [libcuda.so.1]"), "{dynamic}");
        let bytes = fs::read(library).unwrap();
        for function in ["cuInit", "cuMemAlloc_v2"] {
            assert!(bytes.windows(function.len()).any(|part| part == function.as_bytes()), "{function}");
        }
    }
}
