//! The engine over MPI.
//!
//! Nothing here waits inside MPI, whose calls have no time-out: what is begun is asked after until it is done or
//! its time is over. A collective that does not end cannot be taken back; whoever is told so ends all ranks.

use crate::{Engine, EngineError};
use mpi::{
    Threading,
    collective::SystemOperation,
    environment::Universe,
    point_to_point::MatchedReceiveVec,
    request::{Request, Scope, scope},
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives, Destination, Equivalence, Source},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a wait looks before it sleeps between two looks: what comes at once is taken at once, and who waits
/// for long leaves the cores to those who compute.
const LOOKS: u32 = 200;

/// How long it sleeps.
const PAUSE: Duration = Duration::from_micros(50);

/// The engine over MPI, for as long as it lives: there is one in a process.
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

impl Mpi {
    /// Joins those that were started with this process; `None` where it has joined before.
    ///
    /// Every call of MPI has to be made on this thread.
    #[must_use]
    pub fn join() -> Option<Self> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)?;
        Some(Self { world: universe.world(), _universe: universe })
    }

    fn sum<T: Equivalence + Copy + Default>(
        &mut self,
        values: &mut Vec<T>,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let mut sum = vec![T::default(); values.len()];
        let done = scope(|scope| {
            let request = self.world.immediate_all_reduce_into(
                scope,
                values.as_slice(),
                sum.as_mut_slice(),
                SystemOperation::sum(),
            );
            self.wait(request, limit)
        });
        done?;
        *values = sum;
        Ok(())
    }

    /// Asks after a request until it is done. One that is not done in time takes all ranks with it, for what it
    /// writes to cannot be given back.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(
        &self,
        request: Request<'a, D, S>,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let begun = Instant::now();
        let mut request = request;
        let mut looks = 0;
        loop {
            match request.test() {
                Ok(_) => return Ok(()),
                Err(again) => request = again,
            }
            if begun.elapsed() > limit {
                eprintln!(
                    "error: rank {}: a collective or a message did not end within {} s",
                    self.world.rank(),
                    limit.as_secs_f64()
                );
                self.world.abort(1);
            }
            pause(&mut looks);
        }
    }
}

fn pause(looks: &mut u32) {
    if *looks < LOOKS {
        *looks += 1;
        thread::yield_now();
    } else {
        thread::sleep(PAUSE);
    }
}

/// A rank as MPI counts them.
fn number(rank: usize) -> Result<i32, EngineError> {
    i32::try_from(rank).map_err(|_| EngineError::Gone)
}

fn size(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

impl Engine for Mpi {
    fn rank(&self) -> usize {
        size(self.world.rank())
    }

    fn size(&self) -> usize {
        size(self.world.size())
    }

    fn send(&mut self, to: usize, message: Vec<u8>, limit: Duration) -> Result<(), EngineError> {
        let to = self.world.process_at_rank(number(to)?);
        scope(|scope| self.wait(to.immediate_send(scope, message.as_slice()), limit))
    }

    fn receive(&mut self, from: usize, limit: Option<Duration>) -> Result<Vec<u8>, EngineError> {
        let from = self.world.process_at_rank(number(from)?);
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            if let Some(message) = from.immediate_matched_probe() {
                let (bytes, _) = message.matched_receive_vec::<u8>();
                return Ok(bytes);
            }
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                return Err(EngineError::Late);
            }
            pause(&mut looks);
        }
    }

    fn sum_f32(&mut self, values: &mut Vec<f32>, limit: Duration) -> Result<(), EngineError> {
        self.sum(values, limit)
    }

    fn sum_f64(&mut self, values: &mut Vec<f64>, limit: Duration) -> Result<(), EngineError> {
        self.sum(values, limit)
    }

    fn end(&mut self, status: i32) {
        self.world.abort(status);
    }
}

impl Drop for Mpi {
    /// MPI ends where all ranks end it, and one that panics does not come there: it takes the others with it.
    fn drop(&mut self) {
        if thread::panicking() {
            self.world.abort(70);
        }
    }
}
