//! Whether a run fits into memory, asked before it starts.

use lossproof_gpt2::ModelShape;
use miette::Diagnostic;

/// Bytes a streamed verification needs at its peak: the f64 truth's parameters, gradient and the kept copy of it, and for
/// each judged subject of `size` bytes per element its parameters and a gradient per rank; the shared f32 parameters; and
/// the activations, of which the logits and their gradient dominate.
pub(crate) fn streamed(
    shape: ModelShape,
    judged: usize,
    size: usize,
    ranks: usize,
    positions: usize,
) -> usize {
    let parameters = shape.parameter_count();
    let truth = 3 * 8 * parameters;
    let subjects = judged * size * (2 + ranks) * parameters;
    let logits = 6 * 8 * positions * shape.vocabulary;
    truth + subjects + 4 * parameters + logits
}

/// Refuses a run that needs more than the machine has available.
///
/// # Errors
/// When it does. Where the machine does not say, nothing is refused.
pub(crate) fn check(needed: usize) -> Result<(), TooLarge> {
    match available() {
        Some(available) if needed > available => {
            Err(TooLarge { needed: gib(needed), available: gib(available) })
        }
        _ => Ok(()),
    }
}

/// `MemAvailable` of the Linux kernel: what can be had without swapping.
fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

fn gib(bytes: usize) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

/// The run does not fit.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("this verification needs about {needed:.1} GiB of memory, {available:.1} GiB are available")]
#[diagnostic(help("take a smaller `--config`, or fewer or shorter sequences"))]
pub(crate) struct TooLarge {
    needed: f64,
    available: f64,
}
