//! Folders made from pinned wheels: fetched through pip, checked against their hashes, and put in place whole
//! or not at all.

mod install;
mod pins;
mod pip;
mod wheels;

pub(crate) use install::{provision, replace};

use crate::failure::Failure;
use std::path::Path;

/// What a folder under the workspace root is made of.
pub(crate) struct Recipe {
    /// What it holds, in messages: a name and a version.
    pub(crate) name: &'static str,
    /// The folder, under the workspace root. Its lock and temporary folder lie beside it and extend its name.
    pub(crate) folder: &'static str,
    /// What is taken from which wheel; the wheels themselves are pinned in `xtask/requirements.txt`.
    pub(crate) parts: &'static [Part],
    /// Size of the wheels, for the line that announces the download.
    pub(crate) download: &'static str,
    /// Free space needed at the fullest moment.
    pub(crate) disk: &'static str,
    /// What to do where the wheels cannot be had, as the end of a sentence.
    pub(crate) instead: &'static str,
    /// Adds what the wheels lack to the unpacked folder, and tests it there.
    pub(crate) finish: fn(&Path) -> Result<(), Failure>,
}

/// Something a wheel holds and the folder needs.
pub(crate) struct Part {
    /// The distribution it comes from.
    pub(crate) wheel: &'static str,
    /// A file of the wheel, or a folder when it ends in `/`.
    pub(crate) source: &'static str,
    /// The same file or folder under the provisioned folder.
    pub(crate) target: &'static str,
}
