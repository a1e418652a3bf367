//! Ranks as threads of one process, which carry bytes over channels.

use crate::{Engine, EngineError, Order, World};
use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

/// The engine of one thread.
#[derive(Debug)]
pub struct ThreadEngine {
    rank: usize,
    /// To every rank, and from every rank: the one to itself is not used.
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

/// Engines for so many ranks, each for a thread of its own.
#[must_use]
pub fn threads(ranks: usize) -> Vec<ThreadEngine> {
    let mut engines: Vec<ThreadEngine> =
        (0..ranks).map(|rank| ThreadEngine { rank, to: Vec::new(), from: Vec::new() }).collect();
    for sender in 0..ranks {
        for receiver in 0..ranks {
            let (to, from) = channel();
            if let Some(engine) = engines.get_mut(sender) {
                engine.to.push(to);
            }
            if let Some(engine) = engines.get_mut(receiver) {
                engine.from.push(from);
            }
        }
    }
    engines
}

/// Does the same on so many ranks, each a thread: what each answers, in rank order. Ranks wait so long for each other.
///
/// # Panics
/// When one does.
pub fn on_threads<T: Send>(
    ranks: usize,
    order: Order,
    limit: Duration,
    act: impl Fn(World) -> T + Sync,
) -> Vec<T> {
    let act = &act;
    thread::scope(|scope| {
        let begun: Vec<_> = threads(ranks)
            .into_iter()
            .map(|engine| scope.spawn(move || act(World::new(Box::new(engine), limit, order))))
            .collect();
        begun.into_iter().map(|rank| rank.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

impl Engine for ThreadEngine {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn send(&mut self, to: usize, message: Vec<u8>, _: Duration) -> Result<(), EngineError> {
        let channel = self.to.get(to).ok_or(EngineError::Gone)?;
        channel.send(message).map_err(|_| EngineError::Gone)
    }

    fn receive(&mut self, from: usize, limit: Option<Duration>) -> Result<Vec<u8>, EngineError> {
        let channel = self.from.get(from).ok_or(EngineError::Gone)?;
        match limit {
            None => channel.recv().map_err(|_| EngineError::Gone),
            Some(limit) => channel.recv_timeout(limit).map_err(|error| match error {
                RecvTimeoutError::Timeout => EngineError::Late,
                RecvTimeoutError::Disconnected => EngineError::Gone,
            }),
        }
    }

    fn sum_f32(&mut self, values: &mut Vec<f32>, limit: Duration) -> Result<(), EngineError> {
        let (write, read) = (f32::to_le_bytes, f32::from_le_bytes);
        sum(self, values, limit, |value| write(value).to_vec(), |bytes| bytes.try_into().map(read).ok())
    }

    fn sum_f64(&mut self, values: &mut Vec<f64>, limit: Duration) -> Result<(), EngineError> {
        let (write, read) = (f64::to_le_bytes, f64::from_le_bytes);
        sum(self, values, limit, |value| write(value).to_vec(), |bytes| bytes.try_into().map(read).ok())
    }

    fn end(&mut self, _: i32) {}
}

/// Adds up at the first rank, in rank order, and hands the sum to all.
fn sum<T: Copy + std::ops::AddAssign>(
    engine: &mut ThreadEngine,
    values: &mut Vec<T>,
    limit: Duration,
    write: impl Fn(T) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<(), EngineError> {
    let bytes = |values: &[T]| -> Vec<u8> { values.iter().flat_map(|&value| write(value)).collect() };
    let numbers = |bytes: &[u8]| -> Vec<T> { bytes.chunks_exact(size_of::<T>()).filter_map(&read).collect() };
    if engine.rank == 0 {
        for rank in 1..engine.size() {
            for (sum, term) in values.iter_mut().zip(numbers(&engine.receive(rank, Some(limit))?)) {
                *sum += term;
            }
        }
        for rank in 1..engine.size() {
            engine.send(rank, bytes(values), limit)?;
        }
    } else {
        engine.send(0, bytes(values), limit)?;
        *values = numbers(&engine.receive(0, Some(limit))?);
    }
    Ok(())
}
