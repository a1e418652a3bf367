//! The memory of a step of the reference beside that of one of libtorch.

use clap::ValueEnum;
use lossproof_benches::batch;
use lossproof_gpt2::{Config, reference_at};
use lossproof_spec::Dtype;
use lossproof_subject::{Device, Discard, Subject, probe_values};
use lossproof_torch::{Gpt2Config, libtorch};
use lossproof_verify::ParameterFile;
use std::{env, error::Error, fmt::Write as _, fs, process::Command, sync::Arc};

const MODEL: Config = Config::Small;
/// Sequences and tokens of each micro-batch.
const SIZES: [(u32, u32); 2] = [(4, 64), (8, 128)];
const MIB: f64 = 1024.0;

const INTRODUCTION: &str = "
## Memory of a step

Forward and backward as above, each in a process of its own: what is resident at most during the second of two steps,
parameters included, less what the process had before it made the trainer. Freed memory goes back to the kernel as glibc does it by
itself.

| model | dtype | sequences × tokens | reference | libtorch | reference ÷ libtorch |
|---|---|---|---|---|---|
";

/// Whose step is measured, in a process that has nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trainer {
    /// Ours on dfdx.
    Reference,
    /// The independent one.
    Libtorch,
}

/// Each step in a process of its own: what one trainer has touched would be there for the other.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let mut text = INTRODUCTION.to_owned();
    for (sequences, length) in SIZES {
        let [ours, theirs] = [Trainer::Reference, Trainer::Libtorch];
        let (ours, theirs) = (peak_of(ours, sequences, length)?, peak_of(theirs, sequences, length)?);
        let _ = writeln!(
            text,
            "| {MODEL} | {} | {sequences} × {length} | {ours:.0} MiB | {theirs:.0} MiB | **{:.2}** |",
            Dtype::F32,
            ours / theirs
        );
    }
    Ok(text)
}

/// The peak of a step in another process, in MiB.
fn peak_of(trainer: Trainer, sequences: u32, length: u32) -> Result<f64, Box<dyn Error>> {
    let trainer = trainer.to_possible_value().ok_or("a trainer without a name")?;
    let mut child = Command::new(env::current_exe()?);
    child.args(["--peak-of", trainer.get_name()]);
    child.args(["--sequences", &sequences.to_string(), "--length", &length.to_string()]);
    // Cargo sets these, so that tensors are reused.
    child.env_remove("MALLOC_MMAP_THRESHOLD_").env_remove("MALLOC_TRIM_THRESHOLD_");
    let output = child.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The peak of a step in this process, in MiB.
pub(crate) fn peak(trainer: Trainer, sequences: u32, length: u32) -> Result<f64, Box<dyn Error>> {
    let before = resident("VmRSS:")?;
    let batch = batch(MODEL, sequences, length)?;
    let mut subject: Box<dyn Subject> = match trainer {
        Trainer::Reference => {
            // It goes back to them by reading them again, and a set of all would be a second copy.
            let shapes = MODEL.shape().parameters();
            let draw = |index| probe_values(&shapes, index, 0);
            let initial = ParameterFile::write(tempfile::tempfile()?, &shapes, draw)?;
            reference_at(MODEL, Dtype::F32, Device::Cpu, Arc::new(initial))?
        }
        Trainer::Libtorch => {
            let named = Gpt2Config::named(MODEL.name()).ok_or("libtorch has no such model")?;
            libtorch(&named, Dtype::F32, Device::Cpu)?
        }
    };
    subject.accumulate(&batch, &mut Discard)?;
    // From here on the highest is that of the second step.
    fs::write("/proc/self/clear_refs", "5")?;
    subject.accumulate(&batch, &mut Discard)?;
    Ok(resident("VmHWM:")? - before)
}

/// What the kernel says of the memory of this process, in MiB.
fn resident(what: &str) -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("the kernel does not say")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / MIB)
}
