//! The list of a checkpoint's files, with the length and the SHA-256 of each.

use super::Problem;
use hmac_sha256::Hash;
use lossproof_spec::shortened;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write};

/// The file it lies in.
pub(super) const NAME: &str = "manifest.json";

/// Bytes of the name of a file.
const LONGEST_NAME: usize = 64;

/// The version of the format that is written and read.
const FORMAT: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u64,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: usize,
    sha256: String,
}

/// The first thing that is read of a manifest of any version.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

impl Manifest {
    pub(super) fn of(files: &[(String, Vec<u8>)]) -> Self {
        let entry = |(name, bytes): &(String, Vec<u8>)| (name.clone(), Entry::of(bytes));
        Self { format: FORMAT, files: files.iter().map(entry).collect() }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let Version { format } = serde_json::from_slice(bytes).map_err(Problem::json)?;
        if format != FORMAT {
            return Err(Problem::Version { found: format, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(Problem::json)?;
        match manifest.files.keys().find(|name| !is_file(name)) {
            Some(file) => Err(Problem::Foreign { file: shortened(file) }),
            None => Ok(manifest),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Whether a file has the bytes it was written with.
    pub(super) fn check(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let Some(entry) = self.files.get(name) else {
            return Err(Problem::Missing { file: name.to_owned() });
        };
        if entry.bytes != bytes.len() {
            let what = format!("has {} bytes, the manifest says {}", bytes.len(), entry.bytes);
            return Err(Problem::Altered { what });
        }
        if *entry != Entry::of(bytes) {
            return Err(Problem::Altered { what: "has other bytes than the manifest says".to_owned() });
        }
        Ok(())
    }
}

/// Whether a file of this name lies in the folder of the checkpoint, and may be named to a person.
fn is_file(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.len() <= LONGEST_NAME && name.bytes().all(plain)
}

impl Entry {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len(), sha256: sha256(bytes) }
    }
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Hash::hash(bytes) {
        write!(digits, "{byte:02x}").expect("invariant: a string takes everything");
    }
    digits
}
