//! The engine over MPI.
//!
//! Nothing here waits inside MPI, whose calls have no time-out: what is begun is asked after until it is done or
//! its time is over. A collective or a message that does not end cannot be taken back, and all ranks are ended.

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

/// What a message is: something that a rank says, the question of the first whether a rank still waits, and that it
/// does.
const NOTE: i32 = 0;
const QUESTION: i32 = 1;
const WAITS: i32 = 2;

/// How long the first waits for the answers.
const ANSWERS: Duration = Duration::from_secs(1);

/// How often a wait looks before it sleeps between two looks: what comes at once is taken at once, and who waits
/// for long leaves the cores to those who compute.
const LOOKS: u32 = 200;

/// How long a message may take that has begun to come, where nothing else limits it.
const TRANSFER: Duration = Duration::from_mins(10);

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

    /// The all-reduce. It does not come back where it does not end: then all ranks are ended, and the missing
    /// one is named.
    fn sum<T: Equivalence + Copy + Default>(&mut self, values: &mut Vec<T>, limit: Duration) {
        let first = self.world.rank() == 0;
        let limit = self.patience(limit);
        let mut sum = vec![T::default(); values.len()];
        scope(|scope| {
            let request = self.world.immediate_all_reduce_into(
                scope,
                values.as_slice(),
                sum.as_mut_slice(),
                SystemOperation::sum(),
            );
            if !self.done(request, limit) {
                let seconds = limit.as_secs_f64();
                let missing = if first { self.missing() } else { Some(0) };
                self.lose(&match missing {
                    Some(rank) => format!("rank {rank} did not come to the all-reduce within {seconds} s"),
                    None => {
                        format!("the all-reduce did not end within {seconds} s, and all ranks wait in it")
                    }
                });
            }
        });
        *values = sum;
    }

    /// How long this rank waits: the others longer than the first, who names the one that is missing and ends them.
    fn patience(&self, limit: Duration) -> Duration {
        if self.world.rank() == 0 { limit } else { limit.saturating_mul(2).saturating_add(ANSWERS) }
    }

    /// The first rank that does not answer, whatever it waits for.
    fn missing(&self) -> Option<i32> {
        let others = 1..self.world.size();
        for rank in others.clone() {
            let to = self.world.process_at_rank(rank);
            scope(|scope| self.done(to.immediate_send_with_tag(scope, &[0_u8][..], QUESTION), ANSWERS));
        }
        let begun = Instant::now();
        let mut silent: Vec<i32> = others.collect();
        while !silent.is_empty() && begun.elapsed() < ANSWERS {
            silent.retain(|&rank| !self.has_come(rank, WAITS));
            thread::sleep(PAUSE);
        }
        silent.first().copied()
    }

    /// Takes a message of a kind that says nothing by its bytes, if there is one.
    fn has_come(&self, from: i32, kind: i32) -> bool {
        let message = self.world.process_at_rank(from).immediate_matched_probe_with_tag(kind);
        message.map(MatchedReceiveVec::matched_receive_vec::<u8>).is_some()
    }

    /// Between two looks: at once, or after a sleep, where the first is answered that this rank waits.
    fn pause(&self, looks: &mut u32) {
        if *looks < LOOKS {
            *looks += 1;
            thread::yield_now();
            return;
        }
        if self.world.rank() > 0 && self.has_come(0, QUESTION) {
            let first = self.world.process_at_rank(0);
            scope(|scope| self.done(first.immediate_send_with_tag(scope, &[0_u8][..], WAITS), ANSWERS));
        }
        thread::sleep(PAUSE);
    }

    /// Asks after a request until it is done; false where its time is over before. Then whoever asked ends the process.
    fn done<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>, limit: Duration) -> bool {
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            match request.test() {
                Ok(_) => return true,
                Err(again) => request = again,
            }
            if begun.elapsed() > limit {
                // It is neither waited for nor taken back: memory that it writes to is there until the process ends.
                std::mem::forget(request);
                return false;
            }
            self.pause(&mut looks);
        }
    }

    /// Ends all ranks.
    fn lose(&self, why: &str) {
        eprintln!("error: {why}");
        self.world.abort(2);
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
        let process = self.world.process_at_rank(number(to)?);
        if i32::try_from(message.len()).is_err() {
            return Err(EngineError::TooLong { bytes: message.len() });
        }
        let limit = self.patience(limit);
        scope(|scope| {
            let request = process.immediate_send_with_tag(scope, message.as_slice(), NOTE);
            if !self.done(request, limit) {
                self.lose(&format!("rank {to} did not take a message within {} s", limit.as_secs_f64()));
            }
        });
        Ok(())
    }

    fn receive(&mut self, rank: usize, limit: Option<Duration>) -> Result<Vec<u8>, EngineError> {
        let from = self.world.process_at_rank(number(rank)?);
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            if let Some((message, status)) = from.immediate_matched_probe_with_tag(NOTE) {
                let mut bytes = vec![0_u8; size(status.count(u8::equivalent_datatype()))];
                let limit = self.patience(limit.unwrap_or(TRANSFER));
                scope(|scope| {
                    let request = message.immediate_matched_receive_into(scope, &mut bytes[..]);
                    if !self.done(request, limit) {
                        let seconds = limit.as_secs_f64();
                        self.lose(&format!("rank {rank} did not end its message within {seconds} s"));
                    }
                });
                return Ok(bytes);
            }
            if limit.is_some_and(|limit| begun.elapsed() > limit) {
                return Err(EngineError::Late);
            }
            self.pause(&mut looks);
        }
    }

    fn sum_f32(&mut self, values: &mut Vec<f32>, limit: Duration) -> Result<(), EngineError> {
        self.sum(values, limit);
        Ok(())
    }

    fn sum_f64(&mut self, values: &mut Vec<f64>, limit: Duration) -> Result<(), EngineError> {
        self.sum(values, limit);
        Ok(())
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
