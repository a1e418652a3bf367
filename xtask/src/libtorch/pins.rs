//! The pinned wheels and the files taken from them.

use crate::failure::Failure;
use std::fmt::Write as _;

/// The libtorch release that `tch` in the root manifest is made for.
pub(crate) const VERSION: &str = "2.11.0";

/// The pins as pip reads them: the only place where versions and hashes are written.
pub(crate) const REQUIREMENTS: &str = include_str!("../../requirements.txt");

/// One pinned wheel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// The distribution's name, as in `nvidia-cuda-cupti`.
    pub(crate) name: &'static str,
    /// Its exact version.
    pub(crate) version: &'static str,
    /// SHA-256 of the wheel file, lower-case hexadecimal.
    pub(crate) sha256: &'static str,
}

impl Pin {
    /// What the wheel's file name starts with (the binary distribution format writes `-` in names as `_`).
    pub(crate) fn wheel_prefix(&self) -> String {
        format!("{}-{}-", self.name.replace('-', "_"), self.version)
    }
}

/// Something a wheel holds and libtorch needs.
pub(crate) struct Part {
    /// The distribution it comes from.
    pub(crate) wheel: &'static str,
    /// A file of the wheel, or a folder when it ends in `/`.
    pub(crate) source: &'static str,
    /// The same file or folder under the libtorch folder.
    pub(crate) target: &'static str,
}

/// What a libtorch without CUDA consists of. `libtorch_cuda.so` must stay out: its mere presence makes torch-sys link it.
/// The other folders of `torch/include/` belong to libraries that libtorch has inside; torch-sys reads none of them.
pub(crate) const PARTS: [Part; 9] = [
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
];

/// The pins of [`REQUIREMENTS`], in its order.
///
/// # Errors
/// A line that is not `name==version --hash=sha256:HEX`.
pub(crate) fn pins() -> Result<Vec<Pin>, Failure> {
    parse(REQUIREMENTS)
}

fn parse(requirements: &'static str) -> Result<Vec<Pin>, Failure> {
    let is_pin = |line: &&str| !line.is_empty() && !line.starts_with('#');
    requirements.lines().filter(is_pin).map(parse_pin).collect()
}

fn parse_pin(line: &'static str) -> Result<Pin, Failure> {
    line.split_once(" --hash=sha256:")
        .and_then(|(requirement, sha256)| Some((requirement.split_once("==")?, sha256)))
        .filter(|(_, sha256)| sha256.len() == 64)
        .map(|((name, version), sha256)| Pin { name, version, sha256 })
        .ok_or_else(|| {
            Failure::new(
                format!("xtask/requirements.txt: cannot read {line:?}"),
                "write each pin on a line of its own, as name==version --hash=sha256:HEX",
            )
        })
}

/// What a finished libtorch folder says it was made from. It differs whenever a pin or a part differs.
pub(crate) fn stamp(pins: &[Pin]) -> String {
    let mut stamp = String::new();
    for Pin { name, version, sha256 } in pins {
        let _ = writeln!(stamp, "{name} {version} {sha256}");
    }
    for Part { wheel, source, target } in &PARTS {
        let _ = writeln!(stamp, "{wheel}:{source} -> {target}");
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_from_a_pinned_wheel_and_torch_is_the_version_we_claim() {
        let pins = pins().expect("the committed requirements file is well formed");
        for part in &PARTS {
            assert!(pins.iter().any(|pin| pin.name == part.wheel), "{} is not pinned", part.wheel);
        }
        assert!(pins.iter().any(|pin| pin.name == "torch" && pin.version == VERSION));
    }

    #[test]
    fn a_wheel_is_found_by_its_escaped_name() {
        let pin = Pin { name: "nvidia-cuda-cupti", version: "13.0.85", sha256: "" };
        assert_eq!(pin.wheel_prefix(), "nvidia_cuda_cupti-13.0.85-");
    }

    #[test]
    fn a_pin_without_a_whole_hash_is_refused() {
        for line in ["torch==2.11.0", "torch==2.11.0 --hash=sha256:7aa2", "torch>=2 --hash=sha256:7aa2"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_stamp_changes_with_a_hash() {
        let of = |sha256| stamp(&[Pin { name: "torch", version: VERSION, sha256 }]);
        assert_ne!(of("a"), of("b"));
    }
}
