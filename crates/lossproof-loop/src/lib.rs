//! The training loop without a framework: text becomes blocks, blocks become samples in a seeded order, micro-batches
//! are accumulated into updates, and what is learnt is tracked, validated, kept and resumed.
//!
//! It is the loop of Hugging Face's `run_clm_no_trainer.py`, taken apart: how token losses become one update, and the
//! numbers that are logged. The loop decides when, at which rate and which parameters decay; a
//! [`LoopTrainer`](lossproof_subject::LoopTrainer) owns the passes and the update rule. Each choice that changes a
//! number has a name in [`Semantics`], and two sets of them are given: what is lawful, and what the script
//! does.
//!
//! A [`Run`] goes on event by event.

pub mod checkpoint;
mod corpus;
mod decay;
mod divergence;
mod error;
mod evaluation;
mod event;
mod objective;
mod pass;
mod plan;
mod ranks;
pub mod recording;
mod run;
mod sampler;
mod schedule;
pub mod semantics;
mod settings;
mod subject;
mod tracking;

pub use corpus::{Corpus, CorpusError, TextCorpus};
pub use decay::undecayed;
pub use divergence::{Change, Divergence, Number, divergence};
pub use error::RunError;
pub use evaluation::{Reductions, Validation, reductions};
pub use event::{Epoch, Event, MicroBatchRecord, Update};
pub use objective::Objective;
pub use plan::Plan;
pub use ranks::{Gathered, OneProcess, Ranks, RanksInTurn, added};
pub use run::{Progress, Run};
pub use sampler::{Cut, EpochSample, GlobalMicroBatch, RowsReversed, Sampler, SeededSampler};
pub use schedule::Schedule;
pub use semantics::Semantics;
pub use settings::{Length, Remainder, Settings, SettingsError, adam_w};
pub use subject::{Around, LoopParts, LoopSubject};
pub use tracking::Tracked;
