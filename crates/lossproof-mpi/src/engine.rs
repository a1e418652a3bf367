//! What carries bytes between ranks and adds up their numbers.

use std::{env, time::Duration};

/// How a process is told how many `mpirun` has started: by Open MPI, by MPICH and its like.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// How many processes were started together, where this is one that `mpirun` has started.
#[must_use]
pub fn started() -> Option<usize> {
    SIZES.into_iter().find_map(|name| env::var(name).ok()?.parse().ok())
}

/// What carries bytes between ranks and adds up their numbers. Every wait has an end.
pub trait Engine {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends a message to another rank, within a time.
    ///
    /// # Errors
    /// [`EngineError::Late`] when it is not taken in time, [`EngineError::Gone`] when nobody is there.
    fn send(&mut self, to: usize, message: Vec<u8>, limit: Duration) -> Result<(), EngineError>;

    /// The next message of another rank, within a time where there is one.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn receive(&mut self, from: usize, limit: Option<Duration>) -> Result<Vec<u8>, EngineError>;

    /// Adds up the numbers of all ranks, place by place: every rank has the sum then. All have as many.
    ///
    /// # Errors
    /// [`EngineError::Late`] when it does not end in time, [`EngineError::Gone`] when a rank is not there.
    fn sum_f32(&mut self, values: &mut Vec<f32>, limit: Duration) -> Result<(), EngineError>;

    /// The same in double precision.
    ///
    /// # Errors
    /// As [`sum_f32`](Self::sum_f32).
    fn sum_f64(&mut self, values: &mut Vec<f64>, limit: Duration) -> Result<(), EngineError>;

    /// Ends every rank, wherever it is: this process with the status. An engine without processes of its own does
    /// nothing.
    fn end(&mut self, status: i32);
}

/// Why an engine carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The time is over.
    #[error("nothing came in time")]
    Late,
    /// A message is longer than the engine takes.
    #[error("a message of {bytes} bytes is longer than MPI takes: leave the order of the ranks to it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The other end is not there any more.
    #[error("the other end is gone")]
    Gone,
}
