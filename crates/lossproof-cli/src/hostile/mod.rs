//! `lossproof hostile`: subjects that must never come out green, and what comes of each.

mod render;
mod trial;

use crate::{exit::Exit, output, report_files::ReportFiles};
use lossproof_cases::strategies::Size;
use lossproof_faults::hostile::Hostile;
use lossproof_laws::Campaign;
use std::{panic, path::PathBuf, sync::Mutex, thread, time::Duration};
use trial::Trial;

/// Hold trainers that try to fool the suite to the laws, or to a verification, and show what comes of each.
///
/// Ends with 0 when none comes out green, each comes out as it must and what is said of it names what it
/// does, with 1 otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this hostile trainer, by its id; can be given more than once.
    #[arg(long, value_name = "ID")]
    hostile: Vec<String>,
    /// Random cases per law, where a trainer does not hide from fewer.
    #[arg(long, value_name = "N", default_value_t = 32)]
    cases: u32,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write what came of each as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// How long a call of a hostile trainer may take. An honest one needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the hostile trainers and reports what came of them on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let selected = selected(&args.hostile)?;
    output::check_writable(args.json.as_deref())?;
    args.files.check_writable()?;
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    let campaign =
        Campaign { cases: args.cases, seed: args.seed, size, shrink: false, ..Campaign::default() };
    // What panics is a trainer that is to panic: it is said in the table, and not on stderr as ours.
    let announce = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let trials = all(&selected, &campaign);
    panic::set_hook(announce);
    output::print(&render::text(&trials, &campaign))?;
    if let Some(path) = &args.json {
        output::write_json(path, &render::json(&trials, &campaign))?;
    }
    let right = trials.iter().all(|trial| trial.deviation().is_none());
    let exit = if right { Exit::Conforms } else { Exit::Deviates };
    args.files.write(|| render::report(&trials, exit))?;
    Ok(exit)
}

/// Tries every hostile trainer, as many at a time as there are processors. The threads are not those of a
/// pool that trainers compute on: each of them waits, and some of them for long.
fn all(selected: &[&'static Hostile], campaign: &Campaign) -> Vec<Trial> {
    let left = Mutex::new(selected.iter().enumerate());
    let trials = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = left.lock().expect("invariant: nothing panics under the lock").next();
            let Some((place, hostile)) = next else { return };
            let trial = trial::of(hostile, campaign, PATIENCE);
            trials.lock().expect("invariant: nothing panics under the lock").push((place, trial));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut trials = trials.into_inner().expect("invariant: nothing panics under the lock");
    trials.sort_by_key(|(place, _)| *place);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

fn selected(ids: &[String]) -> miette::Result<Vec<&'static Hostile>> {
    if ids.is_empty() {
        return Ok(Hostile::all().collect());
    }
    let mut selected = Vec::new();
    for id in ids {
        let Some(hostile) = Hostile::named(id) else {
            let known: Vec<_> = Hostile::all().map(|hostile| hostile.id).collect();
            return Err(miette::miette!(
                help = format!("the hostile trainers are {}", known.join(", ")),
                "there is no hostile trainer `{id}`"
            ));
        };
        selected.push(hostile);
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_trainer_that_does_not_exist_is_named() {
        assert_eq!(selected(&[]).unwrap().len(), Hostile::all().count());
        assert_eq!(selected(&["threefold".to_owned()]).unwrap()[0].id, "threefold");
        let error = selected(&["fourfold".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no hostile trainer `fourfold`");
    }
}
