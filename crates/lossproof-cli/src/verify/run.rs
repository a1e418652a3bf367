//! Carrying out a verification from the command line.

use super::{
    Args, Dtype,
    batch::{PARTS, ragged},
    memory, page, render, storage,
};
use crate::{
    exit::Exit,
    output,
    progress::ProgressDisplay,
    source_text::SourceText,
    subjects::{self, named, ours as trainer, theirs as reference},
};
use lossproof_cases::Recorded;
use lossproof_gpt2::{Config, ModelShape, probe_initial, reference_at};
use lossproof_numerics::ErrorModel;
use lossproof_process::Adapter;
use lossproof_spec::GlobalBatch;
use lossproof_subject::{Device, ParameterSource, Subject, TensorSet};
use lossproof_torch::libtorch_at;
use lossproof_verify::{
    Directions, Make, Progress, Report, Streamed, ThirdForward, Verdict, Verification, verify,
    verify_streamed,
};
use miette::{IntoDiagnostic, WrapErr};
use std::{sync::Arc, time::Instant};

/// What Hugging Face's GPT-2 computed for these two models.
const PICO: &[u8] = include_bytes!("../../shipped/gpt2-pico.safetensors");
const NANO: &[u8] = include_bytes!("../../shipped/gpt2-nano.safetensors");

type Door = Box<dyn Subject>;

pub(super) fn run(args: &Args) -> miette::Result<Exit> {
    let started = Instant::now();
    subjects::check_device(args.device)?;
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    let shape = args.config.shape();
    let small = matches!(args.config, Config::Pico | Config::Nano);
    let dtype = args.dtype.unwrap_or(if small { Dtype::F64 } else { Dtype::F32 }).into();
    let (default_sequences, default_length) = default_batch(args.config);
    let sequences = args.sequences.unwrap_or(default_sequences);
    let length = args.length.unwrap_or(default_length);
    let text = SourceText::read(args.text.as_deref())?;
    // A longer sequence is refused below.
    let longest = length.min(shape.positions);
    let exact = small && dtype == lossproof_spec::Dtype::F64;
    let run = memory::Run {
        shape,
        size: if dtype == lossproof_spec::Dtype::F64 { 8 } else { 4 },
        truth: !exact && has_truth(args.config),
        ranks: PARTS.min(sequences),
        positions: sequences.saturating_mul(longest),
        longest,
    };
    memory::check(run.peak())?;
    let batch = ragged(&text, shape, sequences, length, args.seed)?;
    let model = error_model(shape, &batch);
    let shown = ProgressDisplay::spinner();
    let progress = &mut |stage: &str, done: usize, of: usize| shown.at(&format!("{stage} {done}/{of}"));
    let inputs = Inputs { config: args.config, device: args.device, batch: &batch, model, seed: args.seed };
    let report = match args.adapter.open()? {
        Some(adapter) if exact => inputs.behind_a_process(adapter, progress)?,
        Some(_) => {
            return Err(miette::miette!(
                help = "take --config gpt2-pico or gpt2-nano, and leave --dtype out",
                "a trainer in a process is verified element by element, which is for small models in f64"
            ));
        }
        None if exact => {
            inputs.exact(&mut *trainer(args.config, lossproof_spec::Dtype::F64, args.device)?, progress)?
        }
        None => inputs.streamed(dtype, progress)?,
    };
    shown.finish();
    let heading = render::Heading { text: &text.name, config: args.config, batch: &batch };
    output::print(&render::report(&heading, &report, started.elapsed(), peak_memory()))?;
    if let Some(path) = &args.json {
        output::write_json(path, &report)?;
    }
    let exit = verdict(&report);
    args.files.write(|| page::report(&args.config.to_string(), &report, exit))?;
    Ok(exit)
}

/// Sequences, and tokens in the longest: so that each size ends within minutes.
fn default_batch(config: Config) -> (usize, usize) {
    match config {
        Config::Pico => (10, 16),
        Config::Nano => (10, 24),
        Config::Small | Config::Medium => (4, 64),
        Config::Large => (4, 32),
        Config::Xl => (2, 32),
    }
}

/// Whether an f64 model with its gradient fits into the 24 GiB a verification may count on.
fn has_truth(config: Config) -> bool {
    config != Config::Xl
}

struct Inputs<'a> {
    config: Config,
    device: Device,
    batch: &'a GlobalBatch,
    model: ErrorModel,
    seed: u64,
}

impl Inputs<'_> {
    /// Everything compared element by element, in f64.
    fn exact(&self, trainer: &mut dyn Subject, progress: &mut Progress<'_>) -> miette::Result<Report> {
        let parameters = self.parameters();
        let third = Third::new(self.config, self.device)?;
        let (mut third_trainer, mut third_reference) = third.subjects()?;
        let mut reference = reference(self.config, lossproof_spec::Dtype::F64, self.device)?;
        let directions =
            if self.config == Config::Pico { Directions::EveryCoordinate } else { Directions::Random(2) };
        let verification = Verification {
            trainer,
            reference: &mut *reference,
            third: Some(third.held_to(&mut *third_trainer, &mut *third_reference)),
            parameters: &parameters,
            batch: self.batch,
            model: self.model,
            directions,
            seed: self.seed,
        };
        verify(verification, progress).into_diagnostic()
    }

    /// The same of a trainer in a process of its own.
    fn behind_a_process(&self, mut adapter: Adapter, progress: &mut Progress<'_>) -> miette::Result<Report> {
        let report = self.exact(&mut adapter, progress);
        adapter.finish().into_diagnostic()?;
        report
    }

    /// Gradients passing by, held to libtorch's in f64.
    fn streamed(&self, dtype: lossproof_spec::Dtype, progress: &mut Progress<'_>) -> miette::Result<Report> {
        let third = Third::new(self.config, self.device)?;
        let (mut third_trainer, mut third_reference) = third.subjects()?;
        progress("drawing parameters", 0, 1);
        let parameters: Arc<dyn ParameterSource> = Arc::new(storage::store(self.config.shape(), self.seed)?);
        let (config, device) = (self.config, self.device);
        let libtorch = |dtype| -> Make<'_> {
            Box::new(move |source: Arc<dyn ParameterSource>| {
                Ok(libtorch_at(&named(config), dtype, device, &*source)?)
            })
        };
        let verification = Streamed {
            trainer: Box::new(move |source| reference_at(config, dtype, device, source)),
            // In f64 the truth is libtorch already.
            reference: (dtype != lossproof_spec::Dtype::F64).then(|| libtorch(dtype)),
            truth: has_truth(config).then(|| libtorch(lossproof_spec::Dtype::F64)),
            third: Some(third.held_to(&mut *third_trainer, &mut *third_reference)),
            parameters,
            batch: self.batch,
            model: self.model,
            seed: self.seed,
        };
        verify_streamed(verification, progress).into_diagnostic()
    }

    fn parameters(&self) -> TensorSet {
        probe_initial(self.config.shape(), self.seed)
    }
}

/// The recording both implementations are held to: of the model itself where there is one, of gpt2-nano otherwise.
struct Third {
    config: Config,
    device: Device,
    recorded: Recorded,
}

impl Third {
    fn new(config: Config, device: Device) -> miette::Result<Self> {
        let (config, bytes) = if config == Config::Pico { (config, PICO) } else { (Config::Nano, NANO) };
        let recorded =
            Recorded::parse(bytes).into_diagnostic().wrap_err("the shipped recording is damaged")?;
        Ok(Self { config, device, recorded })
    }

    fn subjects(&self) -> miette::Result<(Door, Door)> {
        let dtype = lossproof_spec::Dtype::F64;
        // libtorch first, and before anything else: that it sees no GPU must not hide behind what dfdx says.
        let reference = reference(self.config, dtype, self.device)?;
        Ok((trainer(self.config, dtype, self.device)?, reference))
    }

    fn held_to<'a>(
        &'a self,
        trainer: &'a mut dyn Subject,
        reference: &'a mut dyn Subject,
    ) -> ThirdForward<'a> {
        let model = error_model(self.config.shape(), &self.recorded.batch);
        ThirdForward { recorded: &self.recorded, subjects: vec![trainer, reference], model }
    }
}

fn error_model(shape: ModelShape, batch: &GlobalBatch) -> ErrorModel {
    ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, batch)
}

fn verdict(report: &Report) -> Exit {
    if report.count(Verdict::Fail) > 0 {
        Exit::Deviates
    } else if report.count(Verdict::Unchecked) > 0 {
        Exit::Unchecked
    } else {
        Exit::Conforms
    }
}

/// Peak resident memory of this process in bytes, where the system says.
fn peak_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use crate::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn a_build_without_cuda_refuses_the_device_and_names_the_remedy() {
        let Command::Verify(args) = Cli::parse_from(["lossproof", "verify", "--device", "cuda:1"]).command
        else {
            panic!("it is verify that was asked for");
        };
        let report = super::run(&args).unwrap_err();
        assert_eq!(report.to_string(), "this build has no CUDA, and cuda:1 was asked for");
        assert!(report.help().unwrap().to_string().contains("cargo xtask cuda"));
    }
}
