//! `lossproof train`: the training loop on one of the two trainers.

mod args;
mod parity;
mod render;
mod trace_file;

use crate::{exit::Exit, output, progress::ProgressDisplay, ranks, source_text::SourceText, subjects};
pub(crate) use args::Args;
use args::TrainerName;
use lossproof_gpt2::Config;
use lossproof_loop::{
    Event, OneProcess, Progress, Ranks, RanksInTurn, Run, SeededSampler, Settings, TextCorpus,
    checkpoint::{self, Checkpoint, Environment},
    reductions,
};
use lossproof_mpi::{Order, ProcessRanks, World};
use lossproof_spec::Dtype;
use lossproof_subject::{LoopTrainer, ParameterSource, state_of};
use miette::{Diagnostic, IntoDiagnostic, WrapErr};
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use trace_file::{Header, TraceFile};

/// Why there is no such run.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum UsageError {
    #[error("a block of {block} tokens takes {positions} positions, {config} has {most}")]
    #[diagnostic(help("give a smaller --block, or another --config"))]
    Block { block: usize, positions: usize, config: &'static str, most: usize },
    #[error("there is no checkpoint in {}", path.display())]
    #[diagnostic(help("--resume takes a checkpoint, or a folder that --checkpoints has written to"))]
    NoCheckpoint { path: PathBuf },
    #[error("{} has a checkpoint that this run does not go on from, {}", folder.display(), newest.display())]
    #[diagnostic(help("go on from it with --resume, or give --checkpoints another folder"))]
    Occupied { folder: PathBuf, newest: PathBuf },
    #[error(transparent)]
    #[diagnostic(help("give the settings of that run, or start another one without --resume"))]
    Mismatch(#[from] checkpoint::Mismatch),
}

/// Trains and reports on stdout.
///
/// # Errors
/// When an argument or a file is unusable, or the trainer fails.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    if let Some(folder) = &args.recording {
        ranks::alone("`train --recording`")?;
        return parity::run(args, folder);
    }
    let order = if args.in_rank_order { Order::Ranks } else { Order::Engine };
    match ranks::joined(order)? {
        Some(world) => ranks::concluded(&world, train(args, Some(&world))),
        None => train(args, None),
    }
}

/// Trains, in one process or in each of a world. What is written and printed, the first one writes and prints.
fn train(args: &Args, world: Option<&World>) -> miette::Result<Exit> {
    let first = world.is_none_or(|world| world.rank() == 0);
    let settings = args.settings(world.map_or(1, World::size));
    settings.check().into_diagnostic()?;
    let shape = args.config.shape();
    let positions = settings.objective.positions(settings.block);
    if positions > shape.positions {
        let (block, config, most) = (settings.block, args.config.name(), shape.positions);
        return Err(UsageError::Block { block, positions, config, most }.into());
    }
    let text = SourceText::read(args.text.as_deref())?.cut(args.text_bytes);
    let lines = text.lines(shape.vocabulary)?;
    let vocabulary = u32::try_from(shape.vocabulary).unwrap_or(u32::MAX);
    let corpus = TextCorpus::new(&lines, vocabulary, &settings)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} is nothing to train on", text.name))?;
    let mut trainer = trainer(args)?;
    let environment = environment(args, &*trainer, &text);
    let kept = args.resume.as_deref().map(|path| read(path, &settings, &environment)).transpose()?;
    let (place, kept) = kept.unzip();
    let keeper = first.then(|| Keeper::new(args, settings, environment.clone(), place.as_deref()));
    let mut keeper = keeper.transpose()?;
    if let Some(world) = world {
        let progress = kept.as_ref().map(|kept| kept.progress);
        let own = serde_json::to_vec(&(&settings, &environment, progress)).into_diagnostic()?;
        world.agree("the beginning of a run", "other settings or another text", own).into_diagnostic()?;
    }

    let sampler = SeededSampler::new(lossproof_loop::Corpus::training_samples(&corpus), &settings);
    let mut ranks = ranks_of_run(args, world);
    let frozen = BTreeSet::new();
    let run = Run::over(&mut *trainer, &corpus, &sampler, &settings, &frozen, &mut *ranks);
    let mut run = run.into_diagnostic()?;
    if let Some(kept) = &kept {
        run.trainer().restore(&kept.state).into_diagnostic()?;
        run.resume(kept.progress);
    }
    // Last: a run that cannot begin leaves every file as it was.
    let header = Header::new(&settings, &environment, &run.plan());
    let events = kept.as_ref().map(|kept| kept.progress.events);
    let traced = args.trace.as_deref().filter(|_| first);
    let mut trace = traced.map(|path| TraceFile::new(path, &header, events)).transpose()?;
    let mut report = render::Report::new(
        args.config.name(),
        &corpus,
        &settings,
        &run.plan(),
        kept.map(|kept| kept.progress),
    );
    let started = Instant::now();
    let shown = first.then(|| ProgressDisplay::of_updates(run.plan().updates));
    while let Some(event) = run.advance().into_diagnostic()? {
        if let Some(trace) = &mut trace {
            trace.event(&event)?;
        }
        if let Some(keeper) = &mut keeper {
            keeper.keep(&mut run, &event, trace.as_ref())?;
        }
        if let Some(shown) = &shown {
            shown.step(run.progress().updates, "update");
        }
        report.add(&event);
    }
    if let Some(shown) = shown {
        shown.finish();
    }
    if !first {
        return Ok(Exit::Conforms);
    }
    let (whole, in_trainer) = (started.elapsed(), run.time_in_trainer());
    let of_validation = reductions(&mut *trainer, &corpus, &settings).into_diagnostic()?;
    output::print(&report.text(&of_validation))?;
    if args.timing {
        output::print(&render::timing(whole, in_trainer))?;
    }
    Ok(if report.is_complete() { Exit::Conforms } else { Exit::Deviates })
}

/// Where the ranks of the run are.
fn ranks_of_run(args: &Args, world: Option<&World>) -> Box<dyn Ranks> {
    match world {
        Some(world) => Box::new(ProcessRanks::new(world.clone())),
        None if args.in_rank_order => Box::new(RanksInTurn::default()),
        None => Box::new(OneProcess),
    }
}

/// The trainer, at the initial parameters of the seed.
fn trainer(args: &Args) -> miette::Result<Box<dyn LoopTrainer>> {
    let initial = subjects::initial(args.config, args.seed);
    if args.recompute {
        return match args.trainer {
            TrainerName::Reference => Err(miette::miette!(
                help = "give --trainer libtorch, or leave --recompute out",
                "the reference keeps its activations: it does not recompute"
            )),
            TrainerName::Libtorch => subjects::theirs_recomputing(args.config, args.dtype.into(), &*initial),
        };
    }
    trainer_at(args.trainer, args.config, args.dtype.into(), initial)
}

/// A trainer at these initial parameters.
fn trainer_at(
    name: TrainerName,
    config: Config,
    dtype: Dtype,
    initial: Arc<dyn ParameterSource>,
) -> miette::Result<Box<dyn LoopTrainer>> {
    match name {
        TrainerName::Reference => subjects::ours_for_a_loop(config, dtype, initial),
        TrainerName::Libtorch => subjects::theirs_for_a_loop(config, dtype, &*initial),
    }
}

fn environment(args: &Args, trainer: &dyn LoopTrainer, text: &SourceText) -> Environment {
    let info = trainer.info();
    Environment {
        trainer: format!("{} {}", info.name, info.version),
        framework: info.framework,
        config: args.config.name().to_owned(),
        dtype: info.dtypes.parameters.to_string(),
        device: info.device.to_string(),
        threads: rayon::current_num_threads(),
        text: checkpoint::sha256(text.bytes()),
    }
}

/// The checkpoint at a path, or the newest of the folder there, if it is of this run.
fn read(
    path: &Path,
    settings: &Settings,
    environment: &Environment,
) -> miette::Result<(PathBuf, Checkpoint)> {
    let place = if path.join("manifest.json").is_file() {
        path.to_owned()
    } else {
        let newest = checkpoint::newest(path).into_diagnostic()?;
        newest.ok_or_else(|| UsageError::NoCheckpoint { path: path.to_owned() })?
    };
    let kept = Checkpoint::read(&place).into_diagnostic().wrap_err("the checkpoint cannot be read")?;
    kept.check(settings, environment).map_err(UsageError::from)?;
    Ok((place, kept))
}

/// Writes checkpoints when they are due.
struct Keeper<'a> {
    args: &'a Args,
    settings: Settings,
    environment: Environment,
    written: u64,
    /// Held as long as the run writes to the folder.
    _lock: Option<File>,
}

impl<'a> Keeper<'a> {
    /// Takes the folder of checkpoints: one without any, or the one whose newest is gone on from.
    fn new(
        args: &'a Args,
        settings: Settings,
        environment: Environment,
        resumed: Option<&Path>,
    ) -> miette::Result<Self> {
        let mut taken = None;
        if let Some(folder) = &args.checkpoints {
            let lock = checkpoint::lock(folder).into_diagnostic();
            taken = Some(lock.wrap_err("the checkpoint could not be written")?);
            let newest = checkpoint::newest(folder).into_diagnostic()?;
            let same = |newest: &Path, resumed: &Path| {
                newest.canonicalize().ok().is_some_and(|newest| Some(newest) == resumed.canonicalize().ok())
            };
            if let Some(newest) = newest
                && !resumed.is_some_and(|resumed| same(&newest, resumed))
            {
                return Err(UsageError::Occupied { folder: folder.clone(), newest }.into());
            }
        }
        Ok(Self { args, settings, environment, written: 0, _lock: taken })
    }

    fn keep(&mut self, run: &mut Run<'_>, event: &Event, trace: Option<&TraceFile>) -> miette::Result<()> {
        let Some(folder) = &self.args.checkpoints else { return Ok(()) };
        let progress @ Progress { updates, .. } = run.progress();
        let due = match (event, self.args.checkpoint_every) {
            (Event::Update(_), Some(every)) => updates > self.written && updates.is_multiple_of(every),
            (Event::Epoch(_), None) => true,
            _ => progress.finished,
        };
        if !due {
            return Ok(());
        }
        self.written = updates;
        if let Some(trace) = trace {
            trace.sync()?;
        }
        let state = state_of(run.trainer()).into_diagnostic()?;
        let (settings, environment) = (self.settings, self.environment.clone());
        let kept = Checkpoint { settings, environment, progress, state };
        kept.write(folder).into_diagnostic().wrap_err("the checkpoint could not be written")?;
        if let Some(keep) = self.args.keep {
            checkpoint::prune(folder, keep as usize).into_diagnostic()?;
        }
        Ok(())
    }
}
