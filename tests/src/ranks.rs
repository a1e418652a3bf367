//! Ranks that are threads of a test, each with a trainer of its own.

use lossproof_mpi::{Engine, Order, World, threads};
use std::{panic::resume_unwind, thread, time::Duration};

/// How long ranks of a test wait for each other.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Does the same on all ranks but one, which has its engine to itself: that is how it misbehaves.
///
/// # Panics
/// When another does.
pub fn beside_one<T: Send>(
    ranks: usize,
    wrong: usize,
    limit: Duration,
    misbehave: impl FnOnce(&mut dyn Engine) + Send,
    act: impl Fn(World) -> T + Sync,
) -> Vec<T> {
    let act = &act;
    thread::scope(|scope| {
        let mut others = Vec::new();
        let mut misbehave = Some(misbehave);
        for mut engine in threads(ranks) {
            if engine.rank() == wrong {
                if let Some(misbehave) = misbehave.take() {
                    scope.spawn(move || misbehave(&mut engine));
                }
                continue;
            }
            others.push(scope.spawn(move || act(World::new(Box::new(engine), limit, Order::Engine))));
        }
        others.into_iter().map(|rank| rank.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
