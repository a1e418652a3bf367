//! The arguments of `lossproof train`, and the settings they make.

use crate::verify::Dtype;
use lossproof_gpt2::Config;
use lossproof_loop::{
    Length, Objective, Remainder, Schedule, Semantics, Settings, adam_w,
    semantics::{DecayGroups, Tracking},
};
use lossproof_spec::Clip;
use std::path::PathBuf;

/// Train a GPT-2 on a text by one of the two trainers, and say what was logged and what it means.
///
/// The loop is that of Hugging Face's `run_clm_no_trainer.py`: a text is cut into blocks, blocks are visited in a
/// seeded order, and the losses of micro-batches are accumulated into updates. What it means by its words is either
/// lawful, which is the default, or what the script does, quirk by quirk. Ends with 0 when
/// every planned update was made, and with 1 when some were skipped and are missing at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof train\n  \
                        lossproof train --trainer libtorch --epochs 2 --accumulate 8 --dropout 0.1\n  \
                        lossproof train --semantics run-clm-no-trainer --ranks 2\n  \
                        lossproof train --checkpoints run --checkpoint-every 10 --keep 2\n  \
                        lossproof train --resume run --trace run.jsonl\n  \
                        mpirun -n 4 lossproof train\n  \
                        lossproof train --recording fixtures/loop/one-process")]
pub(crate) struct Args {
    /// Model: gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl.
    #[arg(long, value_name = "NAME", default_value = "gpt2-nano")]
    pub(super) config: Config,
    /// The trainer under the loop: the reference on dfdx, or the one on libtorch.
    #[arg(long, value_enum, default_value = "reference")]
    pub(super) trainer: TrainerName,
    /// Arithmetic.
    #[arg(long, value_enum, default_value = "f64")]
    pub(super) dtype: Dtype,
    /// Text to learn, the shipped one by default. gpt2-small and larger read it in GPT-2's byte pairs, others in
    /// bytes.
    #[arg(long, value_name = "FILE")]
    pub(super) text: Option<PathBuf>,
    /// Take only the beginning of the text.
    #[arg(long, value_name = "BYTES")]
    pub(super) text_bytes: Option<usize>,
    /// Tokens of a block; by default 64, or as many positions as the model has.
    #[arg(long, value_name = "N")]
    block: Option<usize>,
    /// What becomes of tokens that fill no block.
    #[arg(long, value_enum, default_value = "dropped")]
    remainder: RemainderName,
    /// How many hundredths of the lines are kept for validation.
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    validation: u32,
    /// Blocks of a micro-batch on one rank.
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Blocks of a validation batch on one rank; by default those of a micro-batch.
    #[arg(long, value_name = "N")]
    evaluation_batch: Option<usize>,
    /// Micro-batches of an update on one rank.
    #[arg(long, value_name = "K", default_value_t = 4)]
    accumulate: usize,
    /// Number of ranks. They are simulated one after the other; under `mpirun` each is a process, and there are as
    /// many as processes unless fewer are asked for.
    #[arg(long, value_name = "R")]
    ranks: Option<usize>,
    /// Give each rank a gradient of its own, and add them in rank order: the same bits whether ranks are processes or
    /// not.
    #[arg(long, conflicts_with = "recording")]
    pub(super) in_rank_order: bool,
    /// How often to go through the text; 3 unless updates are given.
    #[arg(long, value_name = "N", conflicts_with = "updates")]
    epochs: Option<u32>,
    /// How many updates to make, however many epochs that are.
    #[arg(long, value_name = "N")]
    updates: Option<u64>,
    /// Base learning rate of `AdamW`.
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    learning_rate: f64,
    /// How the learning rate changes.
    #[arg(long, value_enum, default_value = "linear")]
    schedule: ScheduleName,
    /// Updates of warm-up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warm_up: u64,
    /// Weight decay of `AdamW`.
    #[arg(long, value_name = "LAMBDA", default_value_t = 0.0)]
    weight_decay: f64,
    /// Clip the gradient to this norm, as PyTorch's `clip_grad_norm_` does.
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// Probability of dropout.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    dropout: f64,
    /// In a backward pass compute each block's activations a second time instead of keeping them; with `--trainer
    /// libtorch`.
    #[arg(long, conflicts_with = "recording")]
    pub(super) recompute: bool,
    /// Label smoothing while training; a validation is never smoothed.
    #[arg(long, value_name = "EPSILON", default_value_t = 0.0)]
    smoothing: f64,
    /// What is learnt.
    #[arg(long, value_enum, default_value = "causal")]
    objective: ObjectiveName,
    /// What the loop means by an epoch, a window, a schedule and a logged loss.
    #[arg(long, value_enum, default_value = "lawful")]
    semantics: SemanticsName,
    /// Of the script's loop: the loss it tracks, before or after transformers #41904.
    #[arg(long, value_enum, default_value = "after-41904")]
    tracking: TrackingName,
    /// Of the script's loop: the parameters it decays, before or after transformers #42769.
    #[arg(long, value_enum, default_value = "after-42769")]
    decay_groups: DecayGroupsName,
    /// Validate after every so many updates, too.
    #[arg(long, value_name = "N", default_value_t = 0)]
    evaluate_every: u64,
    /// Fixes initial parameters, order, dropout and masks.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Folder that checkpoints are written to.
    #[arg(long, value_name = "DIR")]
    pub(super) checkpoints: Option<PathBuf>,
    /// Write a checkpoint after every so many updates; without it, after every epoch.
    #[arg(long, value_name = "N", requires = "checkpoints", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) checkpoint_every: Option<u64>,
    /// Keep the newest so many checkpoints only.
    #[arg(long, value_name = "N", requires = "checkpoints", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) keep: Option<u32>,
    /// Go on from this checkpoint, or from the newest of this folder of checkpoints.
    #[arg(long, value_name = "DIR")]
    pub(super) resume: Option<PathBuf>,
    /// Hold the loop on both trainers to this recording of Hugging Face's, number by number, instead: the recording
    /// has all settings.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["resume", "checkpoints", "trace"])]
    pub(super) recording: Option<PathBuf>,
    /// Say how much of the run's time was spent outside of passes, updates and validations.
    #[arg(long)]
    pub(super) timing: bool,
    /// Write what is logged into this file, a line of JSON per event. A resumed run continues its file.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
}

/// The trainer under the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TrainerName {
    /// The reference, on dfdx.
    Reference,
    /// The independent one, on libtorch.
    Libtorch,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RemainderName {
    Dropped,
    Kept,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ScheduleName {
    Constant,
    Linear,
    Cosine,
    Polynomial,
    InverseSquareRoot,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ObjectiveName {
    Causal,
    Masked,
    Prefix,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SemanticsName {
    Lawful,
    RunClmNoTrainer,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TrackingName {
    #[value(name = "before-41904")]
    Before,
    #[value(name = "after-41904")]
    After,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DecayGroupsName {
    #[value(name = "before-42769")]
    Before,
    #[value(name = "after-42769")]
    After,
}

impl Args {
    /// The settings of the run, on so many processes.
    pub(super) fn settings(&self, processes: usize) -> Settings {
        let objective = match self.objective {
            ObjectiveName::Causal => Objective::Causal,
            ObjectiveName::Masked => Objective::Masked,
            ObjectiveName::Prefix => Objective::Prefix,
        };
        // A masked block takes one position more than it has tokens.
        let most = self.config.shape().positions - (objective.positions(1) - 1);
        Settings {
            semantics: self.semantics(),
            objective,
            block: self.block.unwrap_or(most.min(64)),
            remainder: match self.remainder {
                RemainderName::Dropped => Remainder::Dropped,
                RemainderName::Kept => Remainder::Kept,
            },
            validation_percent: self.validation,
            batch: self.batch,
            evaluation_batch: self.evaluation_batch.unwrap_or(self.batch),
            accumulate: self.accumulate,
            ranks: self.ranks.unwrap_or(processes),
            length: match self.updates {
                Some(updates) => Length::Updates(updates),
                None => Length::Epochs(self.epochs.unwrap_or(3)),
            },
            seed: self.seed,
            rule: adam_w(self.weight_decay),
            learning_rate: self.learning_rate,
            schedule: match self.schedule {
                ScheduleName::Constant => Schedule::Constant,
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Polynomial => Schedule::Polynomial,
                ScheduleName::InverseSquareRoot => Schedule::InverseSquareRoot,
            },
            warm_up: self.warm_up,
            clip: self.clip.map(|max_norm| Clip { max_norm, epsilon: 1e-6 }),
            label_smoothing: self.smoothing,
            dropout: self.dropout,
            evaluate_every: self.evaluate_every,
        }
    }

    fn semantics(&self) -> Semantics {
        match self.semantics {
            SemanticsName::Lawful => Semantics::LAWFUL,
            SemanticsName::RunClmNoTrainer => Semantics {
                tracking: match self.tracking {
                    TrackingName::Before => Tracking::MeansOverWholeEpoch,
                    TrackingName::After => Tracking::SamplesOfFirstRank,
                },
                decay: match self.decay_groups {
                    DecayGroupsName::Before => DecayGroups::NotLayerNormByName,
                    DecayGroupsName::After => DecayGroups::NotNorms,
                },
                ..Semantics::RUN_CLM_NO_TRAINER
            },
        }
    }
}
