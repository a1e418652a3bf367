//! Ranks as processes, where the command was started as several of them.

use crate::exit::{Exit, complain};
use lossproof_mpi::{Failure, Order, World};
use lossproof_subject::Watchdog;
use miette::{IntoDiagnostic, Report};
use std::{thread, time::Duration};

/// The world of the processes that `mpirun` has started, if it has.
///
/// # Errors
/// When there are several, and this build has no MPI.
#[cfg(feature = "mpi")]
pub(crate) fn joined(order: Order) -> miette::Result<Option<World>> {
    if lossproof_mpi::started().is_none() {
        return Ok(None);
    }
    let engine = lossproof_mpi::Mpi::join();
    let engine = engine.ok_or_else(|| miette::miette!("this process has joined the others before"))?;
    Ok(Some(World::new(Box::new(engine), limit(), order)))
}

/// The world of the processes that `mpirun` has started, if it has.
///
/// # Errors
/// When there are several, and this build has no MPI.
#[cfg(not(feature = "mpi"))]
pub(crate) fn joined(_: Order) -> miette::Result<Option<World>> {
    match lossproof_mpi::started() {
        None | Some(1) => Ok(None),
        Some(processes) => Err(miette::miette!(
            help = "`cargo xtask mpi` builds one that has; docs/ranks.md says how to run it",
            "this build has no MPI, and it was started as {processes} processes"
        )),
    }
}

/// Refuses to be several processes that all do the same.
///
/// # Errors
/// When there are several.
pub(crate) fn alone(what: &str) -> miette::Result<()> {
    match lossproof_mpi::started() {
        None | Some(1) => Ok(()),
        Some(processes) => Err(miette::miette!(
            help = "start it once, without mpirun",
            "{what} is for one process, and it was started as {processes}"
        )),
    }
}

/// How long ranks wait for each other: less than a call of a subject may take, so that it is a rank that is named,
/// and not the call.
fn limit() -> Duration {
    Watchdog::time_limit().unwrap_or(Duration::from_mins(10)) / 3
}

/// Ends what all processes of a world have done. A failure is shown by the first of them, which ends the others
/// wherever they are.
///
/// # Errors
/// When another process has failed.
pub(crate) fn concluded(world: &World, result: miette::Result<Exit>) -> miette::Result<Exit> {
    let met = result.and_then(|exit| {
        world.meet_at_last("the end of the command").into_diagnostic()?;
        Ok(exit)
    });
    let report = match met {
        Ok(exit) => return Ok(if world.rank() == 0 { exit } else { Exit::Conforms }),
        Err(report) => report,
    };
    world.leave(&Failure::Failed { message: message(&report) });
    if world.rank() > 0 {
        // The first one says why all end, and takes this one with it: whoever is first to end is all that is heard of.
        thread::sleep(limit().saturating_mul(3));
    }
    complain(&format!("{report:?}"));
    world.abort(Exit::Usage as i32);
    Err(report)
}

/// What a report says, in one line.
fn message(report: &Report) -> String {
    report.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
