//! Carrying out a verification from the command line.

use super::{
    Args, Dtype,
    batch::{Text, ragged},
    memory, render,
};
use crate::{exit::Exit, output};
use indicatif::{ProgressBar, ProgressStyle};
use lossproof::{
    Device, Recorded, Subject, TensorSet,
    verify::{
        Directions, Progress, Report, Streamed, ThirdForward, Verdict, Verification, verify, verify_streamed,
    },
};
use lossproof_gpt2::{Config, ModelShape, probe_initial, reference};
use lossproof_numerics::ErrorModel;
use lossproof_spec::GlobalBatch;
use lossproof_torch::{Gpt2Config, libtorch};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::{io::Write, path::Path, time::Instant};

/// What Hugging Face's GPT-2 computed for these two models.
const PICO: &[u8] = include_bytes!("../../../../fixtures/third-forward/gpt2-pico.safetensors");
const NANO: &[u8] = include_bytes!("../../../../fixtures/third-forward/gpt2-nano.safetensors");

type Door = Box<dyn Subject>;

pub(super) fn run(args: &Args) -> miette::Result<Exit> {
    let started = Instant::now();
    let shape = args.config.shape();
    let small = matches!(args.config, Config::Pico | Config::Nano);
    let dtype = match args.dtype.unwrap_or(if small { Dtype::F64 } else { Dtype::F32 }) {
        Dtype::F32 => lossproof::Dtype::F32,
        Dtype::F64 => lossproof::Dtype::F64,
    };
    let sequences = args.sequences.unwrap_or(if small { 10 } else { 4 });
    let length = args.length.unwrap_or(match args.config {
        Config::Pico => 16,
        Config::Nano => 24,
        _ => 64,
    });
    let text = Text::read(args.text.as_deref())?;
    let batch = ragged(&text, shape, sequences, length, args.seed)?;
    let model = error_model(shape, &batch);
    let bar = progress_bar();
    let progress = &mut |stage: &str, done: usize, of: usize| {
        bar.set_message(format!("{stage} {done}/{of}"));
        bar.tick();
    };
    let inputs = Inputs { config: args.config, device: args.device, batch: &batch, model, seed: args.seed };
    let report = if small && dtype == lossproof::Dtype::F64 {
        inputs.exact(progress)?
    } else {
        let judged = if dtype == lossproof::Dtype::F64 { 1 } else { 2 };
        let size = if dtype == lossproof::Dtype::F64 { 8 } else { 4 };
        let positions = batch.sequences().count() * length;
        memory::check(memory::streamed(shape, judged, size, batch.ranks().len(), positions))?;
        inputs.streamed(dtype, progress)?
    };
    bar.finish_and_clear();
    let heading = render::Heading { text: &text.name, config: args.config, batch: &batch };
    output::print(&render::report(&heading, &report, started.elapsed(), peak_memory()))?;
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(verdict(&report))
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
    fn exact(&self, progress: &mut Progress<'_>) -> miette::Result<Report> {
        let parameters = self.parameters();
        let third = Third::new(self.config, self.device)?;
        let (mut third_reference, mut third_oracle) = third.subjects()?;
        let mut reference = ours(self.config, lossproof::Dtype::F64, self.device)?;
        let mut oracle = theirs(self.config, lossproof::Dtype::F64, self.device)?;
        let directions =
            if self.config == Config::Pico { Directions::EveryCoordinate } else { Directions::PerTensor(2) };
        let verification = Verification {
            reference: &mut *reference,
            oracle: &mut *oracle,
            third: Some(third.held_to(&mut *third_reference, &mut *third_oracle)),
            parameters: &parameters,
            batch: self.batch,
            model: self.model,
            directions,
            seed: self.seed,
        };
        verify(verification, progress).into_diagnostic()
    }

    /// Gradients passing by, held to libtorch's in f64.
    fn streamed(&self, dtype: lossproof::Dtype, progress: &mut Progress<'_>) -> miette::Result<Report> {
        let third = Third::new(self.config, self.device)?;
        let (mut third_reference, mut third_oracle) = third.subjects()?;
        progress("drawing parameters", 0, 1);
        // Each of these takes a second or more of one core at the size of gpt2-small.
        let (parameters, reference, oracle, truth) = std::thread::scope(|scope| {
            let oracle = |dtype| scope.spawn(move || theirs(self.config, dtype, self.device));
            let parameters = scope.spawn(|| self.parameters());
            let second = (dtype != lossproof::Dtype::F64).then(|| oracle(dtype));
            let truth = oracle(lossproof::Dtype::F64);
            (joined(parameters), ours(self.config, dtype, self.device), second.map(joined), joined(truth))
        });
        let mut judged = vec![reference?];
        if let Some(oracle) = oracle {
            judged.push(oracle?);
        }
        let mut truth = truth?;
        let verification = Streamed {
            judged: judged.iter_mut().map(|subject| &mut **subject as &mut dyn Subject).collect(),
            truth: &mut *truth,
            third: Some(third.held_to(&mut *third_reference, &mut *third_oracle)),
            parameters: &parameters,
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
        let dtype = lossproof::Dtype::F64;
        Ok((ours(self.config, dtype, self.device)?, theirs(self.config, dtype, self.device)?))
    }

    fn held_to<'a>(
        &'a self,
        reference: &'a mut dyn Subject,
        oracle: &'a mut dyn Subject,
    ) -> ThirdForward<'a> {
        let model = error_model(self.config.shape(), &self.recorded.batch);
        ThirdForward { recorded: &self.recorded, subjects: vec![reference, oracle], model }
    }
}

/// What a thread computed; its panic is ours.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ours(config: Config, dtype: lossproof::Dtype, device: Device) -> miette::Result<Door> {
    reference(config, dtype, device).into_diagnostic()
}

fn theirs(
    config: Config,
    dtype: lossproof::Dtype,
    device: Device,
) -> miette::Result<Box<dyn Subject + Send>> {
    let named = Gpt2Config::named(config.name());
    let named = named.ok_or_else(|| miette!("libtorch's side has no configuration `{config}`"))?;
    libtorch(&named, dtype, device).into_diagnostic()
}

fn error_model(shape: ModelShape, batch: &GlobalBatch) -> ErrorModel {
    ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, batch)
}

/// A line on stderr while the verification works; nothing where stderr is not a terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

fn verdict(report: &Report) -> Exit {
    let controls_caught = report.rows.iter().all(|row| row.verdict != Verdict::Pass || row.control_caught);
    if report.count(Verdict::Fail) > 0 || !controls_caught {
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

/// Writes the report atomically: whole or not at all.
fn write_json(path: &Path, report: &Report) -> miette::Result<()> {
    let write = || -> std::io::Result<()> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, report)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().into_diagnostic().wrap_err_with(|| format!("could not write {}", path.display()))
}
