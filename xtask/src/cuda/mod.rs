//! A folder that verifies on a machine with a GPU, built on one without. docs/cuda.md is its manual.

mod build;
mod compute_cap;
mod folder;
mod needed;
mod run_script;
mod stand_ins;
mod toolkit;

pub(crate) use compute_cap::ComputeCap;

use crate::failure::Failure;
use crate::provision;
use std::path::Path;

/// The folder that is made, under the workspace root.
const FOLDER: &str = "dist/cuda";

/// Provisions what the build needs, builds the product with CUDA for both implementations, and fills [`FOLDER`].
///
/// # Errors
/// Says which step failed: fetching the wheels, compiling, a library that nobody would bring, or a folder too large.
pub(crate) fn cuda(root: &Path, compute_cap: ComputeCap) -> Result<(), Failure> {
    provision::provision(root, &toolkit::RECIPE)?;
    let toolkit = root.join(toolkit::FOLDER);
    let sources = build::sources(root)?;
    stand_ins::write(&toolkit, &sources.cudarc, compute_cap)?;
    let programs = build::build(root, &toolkit, compute_cap)?;
    for program in programs.all() {
        needed::check(program)?;
    }
    let built_from = build::built_from(root, compute_cap)?;
    let size = folder::fill(&root.join(FOLDER), &programs, &sources, &toolkit, &built_from)?;
    eprintln!("cuda: {FOLDER} holds {size}; docs/cuda.md says how to run it on a machine with a GPU");
    Ok(())
}
