//! `lossproof diagnose`: what a trainer looks like on designed probes, and which known bugs would look the same.

use crate::{
    exit::Exit,
    output,
    text::headline,
    trainer::{Trainer, TrainerArgs},
};
use lossproof_subject::Watchdog;
use std::fmt::Write as _;

/// Look at a trainer on designed probes, and name the known bugs that would show what is seen.
///
/// Ends with 0 when everything looked at is as it should be, with 1 when something is not, with 3 when nothing could be
/// looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof diagnose --fault ga-mean-of-means\n  \
                        lossproof diagnose --adapter \"python -m my_adapter\"")]
pub(crate) struct Args {
    #[command(flatten)]
    trainer: TrainerArgs,
}

/// Diagnoses a trainer and reports it on stdout.
///
/// # Errors
/// When an argument makes no sense, or the trainer does not start.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let Trainer { mut judged, fault, .. } = args.trainer.open()?;
    let info = judged.subject().info();
    let diagnosis = args.trainer.diagnostician().diagnose(judged.subject(), &Watchdog::default());
    judged.finish()?;
    let mut text = headline(&info) + "\n";
    if let Some(fault) = fault {
        let _ = writeln!(text, "with the fault {}: {}", fault.id, fault.what);
    }
    output::print(&format!("{text}\n{diagnosis}\n"))?;
    Ok(match diagnosis {
        _ if diagnosis.sound && diagnosis.examined > 0 => Exit::Conforms,
        _ if diagnosis.evidence.is_empty() => Exit::Unchecked,
        _ => Exit::Deviates,
    })
}
