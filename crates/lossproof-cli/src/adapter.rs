//! A trainer in a process of its own, as the command line names it.

use lossproof_process::Adapter;
use miette::IntoDiagnostic;
use std::path::PathBuf;

/// Which trainer in a process is judged, and whether its answers are kept.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "A trainer in a process of its own")]
pub(crate) struct AdapterArgs {
    /// Judge the trainer that this command answers for, over its standard input and output as docs/adapters.md
    /// describes. It is split into words as a shell does, and no shell is started.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) adapter: Option<String>,
    /// Keep its answers in this file.
    #[arg(long, value_name = "FILE", requires = "adapter")]
    record: Option<PathBuf>,
    /// Judge by the answers in this file, without the trainer.
    #[arg(long, value_name = "FILE", conflicts_with = "adapter")]
    replay: Option<PathBuf>,
}

impl AdapterArgs {
    /// Whether a trainer in a process is named.
    #[cfg(feature = "trainers")]
    pub(crate) fn is_given(&self) -> bool {
        self.adapter.is_some() || self.replay.is_some()
    }

    /// Starts what is named; `None` where nothing is.
    ///
    /// # Errors
    /// When it does not start, or cannot say what it is.
    pub(crate) fn open(&self) -> miette::Result<Option<Adapter>> {
        let opened = match (&self.adapter, &self.record, &self.replay) {
            (Some(command), None, _) => Adapter::start(command),
            (Some(command), Some(file), _) => Adapter::recorded(command, file),
            (None, _, Some(file)) => Adapter::replayed(file),
            (None, _, None) => return Ok(None),
        };
        opened.map(Some).into_diagnostic()
    }

    /// The same, where there is no other trainer to judge.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when nothing is named.
    pub(crate) fn required(&self) -> miette::Result<Adapter> {
        let nobody = || {
            miette::miette!(
                help = "name the command that answers for it, as in --adapter \"python -m my_adapter\"",
                "no trainer is named"
            )
        };
        self.open()?.ok_or_else(nobody)
    }
}
