//! From downloaded wheels to a folder: each hash is checked, then only what is needed is unpacked.

use super::Part;
use super::pins::Pin;
use crate::failure::{Failure, IoContext as _};
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;
use zip::read::ZipFile;

/// The file of `pin` in `downloads`, after checking that its bytes are the pinned ones.
pub(crate) fn verified(pin: &Pin, downloads: &Path) -> Result<PathBuf, Failure> {
    let wheel = find(pin, downloads)?;
    let actual = sha256(&wheel)?;
    if actual == pin.sha256 {
        return Ok(wheel);
    }
    Err(Failure::new(
        format!("{} has SHA-256 {actual}, pinned is {}", wheel.display(), pin.sha256),
        "the file was changed on its way here: check the package index pip uses, then run it again",
    ))
}

fn find(pin: &Pin, downloads: &Path) -> Result<PathBuf, Failure> {
    let prefix = pin.wheel_prefix();
    for entry in fs::read_dir(downloads).context("list", downloads)? {
        let entry = entry.context("list", downloads)?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(entry.path());
        }
    }
    Err(Failure::new(
        format!("pip reported success but left no {prefix}*.whl in {}", downloads.display()),
        "update pip (python3 -m pip --version should say 21 or later), then run it again",
    ))
}

fn sha256(path: &Path) -> Result<String, Failure> {
    let mut file = File::open(path).context("open", path)?;
    let mut hasher = hmac_sha256::Hash::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk).context("read", path)?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
    }
    Ok(hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Unpacks those of `parts` that come from `pin`'s wheel into `folder`. A part the wheel does not hold is an error.
pub(crate) fn unpack(parts: &[Part], pin: &Pin, wheel: &Path, folder: &Path) -> Result<(), Failure> {
    let broken = |what: String| {
        Failure::new(
            format!("{}: {what}", wheel.display()),
            "xtask/requirements.txt and the recipe's table of parts disagree: bring them together",
        )
    };
    let file = File::open(wheel).context("open", wheel)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| broken(error.to_string()))?;
    for part in parts.iter().filter(|part| part.wheel == pin.name) {
        let files: Vec<_> = archive
            .file_names()
            .flatten()
            .filter_map(|name| target(part, &name).map(|target| (name.into_owned(), target)))
            .collect();
        if files.is_empty() {
            return Err(broken(format!("has no {}", part.source)));
        }
        for (name, target) in files {
            let mut entry = archive.by_name(&name).map_err(|error| broken(error.to_string()))?;
            write(&mut entry, &folder.join(target))?;
        }
    }
    Ok(())
}

/// Where the wheel's file `name` goes under the provisioned folder, if it belongs to `part`.
fn target(part: &Part, name: &str) -> Option<String> {
    if name.ends_with('/') {
        return None;
    }
    let rest = name.strip_prefix(part.source)?;
    (part.source.ends_with('/') || rest.is_empty()).then(|| format!("{}{rest}", part.target))
}

fn write(from: &mut ZipFile<'_, impl io::Read>, to: &Path) -> Result<(), Failure> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).context("create", folder)?;
    }
    let mut file = File::create(to).context("create", to)?;
    io::copy(from, &mut file).context("write", to)?;
    if from.unix_mode().is_some_and(|mode| mode & 0o111 != 0) {
        fs::set_permissions(to, Permissions::from_mode(0o755)).context("make executable", to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const PIN: Pin = Pin {
        name: "torch",
        version: "1.0",
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    #[test]
    fn a_wheel_with_the_pinned_bytes_is_accepted_and_one_changed_byte_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("torch-1.0-py3-none-any.whl");
        fs::write(&wheel, "abc").unwrap();
        assert_eq!(verified(&PIN, folder.path()).unwrap(), wheel);

        fs::write(&wheel, "abd").unwrap();
        let failure = verified(&PIN, folder.path()).unwrap_err().to_string();
        assert!(failure.contains("SHA-256") && failure.contains(PIN.sha256), "{failure}");
    }

    #[test]
    fn a_missing_wheel_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = verified(&PIN, folder.path()).unwrap_err().to_string();
        assert!(failure.contains("torch-1.0-*.whl"), "{failure}");
    }

    #[test]
    fn a_folder_takes_what_is_below_it_and_a_file_only_itself() {
        let folder = Part { wheel: "torch", source: "torch/include/c10/", target: "include/c10/" };
        assert_eq!(
            target(&folder, "torch/include/c10/util/Half.h").as_deref(),
            Some("include/c10/util/Half.h")
        );
        assert_eq!(target(&folder, "torch/include/c10d/Store.h"), None);

        let file = Part { wheel: "torch", source: "torch/lib/libc10.so", target: "lib/libc10.so" };
        assert_eq!(target(&file, "torch/lib/libc10.so").as_deref(), Some("lib/libc10.so"));
        assert_eq!(target(&file, "torch/lib/libc10.so.debug"), None);
    }

    const CUPTI: Pin = Pin { name: "nvidia-cuda-cupti", version: "1.0", sha256: "" };
    const PARTS: [Part; 2] = [
        Part { wheel: "nvidia-cuda-cupti", source: "cu13/lib/libcupti.so.13", target: "lib/libcupti.so" },
        Part { wheel: "torch", source: "torch/lib/libc10.so", target: "lib/libc10.so" },
    ];

    /// Writes a wheel of files with these names and modes, each holding its own name.
    fn write_wheel(wheel: &Path, files: &[(&str, u32)]) {
        let mut archive = zip::ZipWriter::new(File::create(wheel).unwrap());
        for (name, mode) in files {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
            archive.start_file(*name, options).unwrap();
            archive.write_all(name.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn only_the_parts_of_a_wheel_are_unpacked_and_each_must_be_there() {
        let root = tempfile::tempdir().unwrap();
        let wheel = root.path().join("wheel.whl");
        write_wheel(&wheel, &[("cu13/lib/libcupti.so.13", 0o644), ("cu13/lib/libnvperf_host.so", 0o644)]);
        let folder = root.path().join("folder");
        unpack(&PARTS, &CUPTI, &wheel, &folder).unwrap();
        let unpacked: Vec<_> =
            fs::read_dir(folder.join("lib")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(unpacked, ["libcupti.so"]);

        write_wheel(&wheel, &[("cu13/lib/libnvperf_host.so", 0o644)]);
        let failure = unpack(&PARTS, &CUPTI, &wheel, &folder).unwrap_err().to_string();
        assert!(failure.contains("has no cu13/lib/libcupti.so.13"), "{failure}");
    }

    #[test]
    fn a_program_in_a_wheel_can_be_executed_and_nothing_else() {
        const NVVM: Pin = Pin { name: "nvidia-nvvm", version: "1.0", sha256: "" };
        const PARTS: [Part; 1] = [Part { wheel: "nvidia-nvvm", source: "cu13/nvvm/", target: "nvvm/" }];
        let root = tempfile::tempdir().unwrap();
        let wheel = root.path().join("wheel.whl");
        write_wheel(&wheel, &[("cu13/nvvm/bin/cicc", 0o744), ("cu13/nvvm/libdevice/libdevice.10.bc", 0o644)]);
        unpack(&PARTS, &NVVM, &wheel, root.path()).unwrap();
        let executable = |name| {
            fs::metadata(root.path().join("nvvm").join(name)).unwrap().permissions().mode() & 0o111 != 0
        };
        assert!(executable("bin/cicc"));
        assert!(!executable("libdevice/libdevice.10.bc"));
    }
}
