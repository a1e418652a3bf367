//! Ranks as processes: a training loop and a subject whose ranks meet over MPI.
//!
//! A [`World`] is what one process knows of all. Where ranks have to meet, each says to the first where it has come
//! and what it brings, and the first says what all of them have brought: so a rank that failed, does not come, or is
//! elsewhere is known by its number. Only then is a gradient reduced, by the [`Engine`]'s own all-reduce.
//!
//! [`ProcessRanks`] are the ranks of a loop, one in each process. A [`RankedSubject`] is a subject whose batches are
//! computed so: it stands in the first process, and the others [`serve`] it.
//!
//! With the feature `engine` there is `Mpi`, an engine over the MPI that is installed. [`threads`] are one of
//! the threads of a process, for what needs ranks and no processes.

mod digest;
mod engine;
mod failure;
mod in_force;
mod meetings;
#[cfg(feature = "engine")]
mod mpi_engine;
mod note;
mod numbers;
mod order;
mod process_ranks;
mod ranked_subject;
mod reduction;
mod serve;
mod share;
mod thread_engine;
mod world;

pub use engine::{Engine, EngineError, started};
pub use failure::{Failure, RankError};
#[cfg(feature = "engine")]
pub use mpi_engine::Mpi;
pub use order::Order;
pub use process_ranks::ProcessRanks;
pub use ranked_subject::RankedSubject;
pub use serve::serve;
pub use thread_engine::{ThreadEngine, on_threads, threads};
pub use world::World;
