//! `lossproof verify`: the reference against libtorch and finite differences, on real text.

mod batch;
mod memory;
mod page;
mod render;
mod run;
mod storage;

use crate::{adapter::AdapterArgs, exit::Exit, report_files::ReportFiles};
use lossproof_gpt2::Config;
use lossproof_subject::Device;
use std::path::PathBuf;

/// Verify the reference trainer against libtorch, finite differences and the exact ratios of the loss calculus.
///
/// Reads a text, makes a ragged global batch from it, and checks the loss and every parameter's gradient under six loss
/// semantics. Ends with 0 when everything conforms, 1 when something does not, 3 when something could not be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model: gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl.
    #[arg(long, value_name = "NAME", default_value = "gpt2-nano")]
    pub(crate) config: Config,
    /// Arithmetic; by default f64 for pico and nano, f32 for the others.
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Where the models run: cpu, cuda or cuda:INDEX.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
    /// Text to make the batch from; by default the one that is shipped.
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Sequences in the global batch; by default 10 for pico and nano, 2 for xl, 4 for the others.
    #[arg(long, value_name = "N")]
    pub(crate) sequences: Option<usize>,
    /// Tokens in the longest sequence; by default 16 for pico, 24 for nano, 64 for small and medium, 32 for
    /// large and xl.
    #[arg(long, value_name = "N")]
    pub(crate) length: Option<usize>,
    /// Fixes every random choice: passages, parameters, directions of finite differences.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) files: ReportFiles,
    /// A trainer that takes the place of the reference: a GPT-2 of the same configuration in f64, with Hugging Face's
    /// names, that has every loss semantics.
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
}

/// The arithmetic of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dtype {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl From<Dtype> for lossproof_spec::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
        }
    }
}

/// Runs the verification and reports it on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    run::run(args)
}
