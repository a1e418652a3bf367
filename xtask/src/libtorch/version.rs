//! Which release a libtorch folder holds.

use super::VERSION;
use crate::failure::Failure;
use std::fs;
use std::path::Path;

/// Files that hold nothing but the version: libtorch archives have the first, older layouts the second.
const VERSION_FILES: [&str; 2] = ["build-version", "version.txt"];

/// Headers that define `TORCH_VERSION_MAJOR`, `_MINOR` and `_PATCH`, new layout first.
const VERSION_HEADERS: [&str; 3] = [
    "include/torch/headeronly/version.h",
    "include/torch/csrc/api/include/torch/version.h",
    "include/torch/version.h",
];

/// Accepts a folder that holds libtorch [`VERSION`], of any build (`+cpu`, `+cu130`).
///
/// # Errors
/// Another version, or none that can be found.
pub(crate) fn check(libtorch: &Path) -> Result<(), Failure> {
    let help = format!(
        "set LIBTORCH to an unpacked libtorch {VERSION}, or unset it and let `cargo xtask setup` fetch that version"
    );
    match find(libtorch) {
        Some(version) if release(&version) == VERSION => Ok(()),
        Some(version) => Err(Failure::new(
            format!(
                "LIBTORCH ({}) holds libtorch {version}, but tch is made for {VERSION}",
                libtorch.display()
            ),
            help,
        )),
        None => Err(Failure::new(
            format!(
                "cannot tell which libtorch LIBTORCH ({}) holds: it has neither {} nor include/torch/…/version.h",
                libtorch.display(),
                VERSION_FILES.join(" nor ")
            ),
            help,
        )),
    }
}

/// The version without its build tag: `2.11.0` of `2.11.0+cu130`.
fn release(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

fn find(libtorch: &Path) -> Option<String> {
    let from_file = VERSION_FILES.iter().find_map(|file| fs::read_to_string(libtorch.join(file)).ok());
    from_file.map(|text| text.trim().to_owned()).or_else(|| {
        VERSION_HEADERS.iter().find_map(|header| in_header(&fs::read_to_string(libtorch.join(header)).ok()?))
    })
}

fn in_header(header: &str) -> Option<String> {
    let part = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())?
        })
    };
    let [major, minor, patch] =
        ["MAJOR", "MINOR", "PATCH"].map(|name| part(&format!("TORCH_VERSION_{name}")));
    Some(format!("{}.{}.{}", major?, minor?, patch?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch_with(file: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        folder
    }

    #[test]
    fn the_pinned_release_is_accepted_in_every_layout_and_build() {
        let header = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n\
                      #define TORCH_VERSION_PATCH 0\n#define TORCH_VERSION_ABI_TAG 0\n";
        for (file, text) in [
            ("build-version", "2.11.0\n"),
            ("build-version", "2.11.0+cpu\n"),
            ("version.txt", "2.11.0+cu130"),
            ("include/torch/headeronly/version.h", header),
            ("include/torch/csrc/api/include/torch/version.h", header),
        ] {
            let libtorch = libtorch_with(file, text);
            assert!(check(libtorch.path()).is_ok(), "{file}: {text}");
        }
    }

    #[test]
    fn another_release_is_refused_by_name() {
        for (file, text, version) in [
            ("build-version", "2.1.0", "2.1.0"),
            ("build-version", "2.11.0.dev1", "2.11.0.dev1"),
            (
                "include/torch/headeronly/version.h",
                "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 12\n#define TORCH_VERSION_PATCH 1\n",
                "2.12.1",
            ),
        ] {
            let libtorch = libtorch_with(file, text);
            let failure = check(libtorch.path()).unwrap_err().to_string();
            assert!(failure.contains(&format!("libtorch {version},")), "{failure}");
        }
    }

    #[test]
    fn a_folder_without_a_version_is_refused_with_a_remedy() {
        let libtorch = libtorch_with("include/torch/headeronly/version.h", "#define TORCH_VERSION_MAJOR 2\n");
        let failure = check(libtorch.path()).unwrap_err().to_string();
        assert!(failure.contains("cannot tell") && failure.contains("help: set LIBTORCH"), "{failure}");
    }
}
