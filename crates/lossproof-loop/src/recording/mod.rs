//! Recordings of Hugging Face's loop, and our loop held to them number by number.
//!
//! A recording is a folder that `fixtures/generators/run_clm.py` writes: `recording.json` with the settings,
//! the order of the samples and every number of the run, the initial parameters, and whole states after some
//! updates. Our loop starts at the recorded parameters, follows the recorded order of samples, and everything
//! else it works out by itself: windows, factors, learning rates, fill-ups, groups, what is tracked and what
//! a validation reports.

mod compare;
mod file;
mod quantities;
mod replay;
mod row;
mod structure;

pub use compare::{CompareError, Comparison, compare};
pub use file::{Recording, RecordingError};
pub use replay::{RecordedCorpus, RecordedSampler};
pub use row::Row;
