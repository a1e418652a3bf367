//! Whether a run fits into memory, asked before it starts.

use lossproof_gpt2::ModelShape;
use miette::Diagnostic;

/// What decides how much memory a streamed verification needs. One model is in memory at a time.
pub(crate) struct Run {
    pub(crate) shape: ModelShape,
    /// Bytes of an element of the judged subjects.
    pub(crate) size: usize,
    /// Whether there is an f64 truth.
    pub(crate) truth: bool,
    pub(crate) ranks: usize,
    /// Positions of the batch, and of its longest sequence.
    pub(crate) positions: usize,
    pub(crate) longest: usize,
}

/// Two libraries, their threads and the code: what a run of any size needs.
const BASE: usize = 1 << 29;

/// Bytes of an element of the truth.
const DOUBLE: usize = 8;

impl Run {
    /// Bytes at the peak: parameters, and at the same time
    /// - of the truth the gradient of one sequence, or a displaced copy of the parameters;
    /// - of a judged subject the gradient of each rank;
    ///
    /// the largest tensor a few times over, on its way in or out (more often in the truth, whose parameters are also
    /// displaced); and the activations, of which the logits, their probabilities and their gradient dominate.
    pub(crate) fn peak(&self) -> usize {
        let parameters = self.shape.parameter_count();
        let largest = self.shape.vocabulary * self.shape.width;
        let phase = |size: usize, copies: usize, passing: usize, positions: usize| {
            let logits = positions.saturating_mul(3 * self.shape.vocabulary);
            let elements = logits.saturating_add(copies * parameters + passing * largest);
            elements.saturating_mul(size)
        };
        let judged = phase(self.size, 1 + self.ranks, 3, self.positions);
        let truth = if self.truth { phase(DOUBLE, 2, 7, self.longest) } else { 0 };
        judged.max(truth).saturating_add(BASE)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_gpt2::Config;

    #[test]
    fn every_size_fits_into_the_machine_it_is_meant_for() {
        let peak = |config: Config, size, truth, ranks, positions, longest| {
            gib(Run { shape: config.shape(), size, truth, ranks, positions, longest }.peak())
        };
        // Measured: 18.7 GiB, parameters and two gradients of 5.8 each among them.
        let xl = peak(Config::Xl, 4, false, 2, 64, 32);
        assert!((18.7..20.0).contains(&xl), "{xl}");
        // Measured: 15.4 GiB, the truth's parameters and gradient of 5.8 each among them.
        let large = peak(Config::Large, 4, true, 2, 128, 32);
        assert!((15.3..17.0).contains(&large), "{large}");
        // An f64 truth of gpt2-xl would not fit.
        assert!(peak(Config::Xl, 4, true, 2, 64, 32) > 23.0);
    }
}
