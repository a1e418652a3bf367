//! The pinned wheels.

use super::{Part, Recipe};
use crate::failure::Failure;
use std::fmt::Write as _;

/// The pins as pip reads them: the only place where versions and hashes are written.
const REQUIREMENTS: &str = include_str!("../../requirements.txt");

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

/// The pins of the wheels that `recipe` takes a part from, in the order of `xtask/requirements.txt`.
///
/// # Errors
/// A line there that is not `name==version --hash=sha256:HEX`, and a wheel that is not pinned there.
pub(crate) fn pins(recipe: &Recipe) -> Result<Vec<Pin>, Failure> {
    let mut pins = parse(REQUIREMENTS)?;
    if let Some(part) = recipe.parts.iter().find(|part| pins.iter().all(|pin| pin.name != part.wheel)) {
        return Err(Failure::new(
            format!("xtask/requirements.txt has no pin of {}, which {} is made of", part.wheel, recipe.name),
            "add the line name==version --hash=sha256:HEX there",
        ));
    }
    pins.retain(|pin| recipe.parts.iter().any(|part| part.wheel == pin.name));
    Ok(pins)
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

/// `pins` as pip reads them.
pub(crate) fn requirements(pins: &[Pin]) -> String {
    let mut text = String::new();
    for Pin { name, version, sha256 } in pins {
        let _ = writeln!(text, "{name}=={version} --hash=sha256:{sha256}");
    }
    text
}

/// What a finished folder says it was made from. It differs whenever a pin or a part differs.
pub(crate) fn stamp(pins: &[Pin], parts: &[Part]) -> String {
    let mut stamp = String::new();
    for Pin { name, version, sha256 } in pins {
        let _ = writeln!(stamp, "{name} {version} {sha256}");
    }
    for Part { wheel, source, target } in parts {
        let _ = writeln!(stamp, "{wheel}:{source} -> {target}");
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recipe of these parts.
    fn of(parts: &'static [Part]) -> Recipe {
        Recipe { parts, ..crate::libtorch::RECIPE }
    }

    #[test]
    fn the_committed_requirements_are_well_formed_and_pip_reads_them_back() {
        let pins = parse(REQUIREMENTS).unwrap();
        assert!(pins.len() > 3);
        let text = requirements(&pins).leak();
        assert_eq!(parse(text).unwrap(), pins);
    }

    #[test]
    fn a_recipe_gets_the_pins_of_its_own_parts_alone() {
        const CUPTI: [Part; 2] = [
            Part { wheel: "nvidia-cuda-cupti", source: "a", target: "a" },
            Part { wheel: "nvidia-cuda-cupti", source: "b", target: "b" },
        ];
        let names: Vec<_> = pins(&of(&CUPTI)).unwrap().iter().map(|pin| pin.name).collect();
        assert_eq!(names, ["nvidia-cuda-cupti"]);
    }

    #[test]
    fn a_part_of_a_wheel_without_a_pin_is_refused() {
        const UNPINNED: [Part; 1] = [Part { wheel: "nvidia-nothing", source: "a", target: "a" }];
        let failure = pins(&of(&UNPINNED)).unwrap_err().to_string();
        assert!(failure.contains("no pin of nvidia-nothing"), "{failure}");
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
    fn the_stamp_changes_with_a_hash_and_with_a_part() {
        let pin = |sha256| [Pin { name: "torch", version: "2.11.0", sha256 }];
        let part = |target| [Part { wheel: "torch", source: "torch/lib/libc10.so", target }];
        let first = stamp(&pin("a"), &part("lib/libc10.so"));
        assert_ne!(first, stamp(&pin("b"), &part("lib/libc10.so")));
        assert_ne!(first, stamp(&pin("a"), &part("lib/libc10.so.1")));
    }
}
