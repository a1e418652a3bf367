//! What laws are tried on: cases, random and kept, and the edits that a law compares a case with.
//!
//! - [`Case`] is one example, [`CaseFile`] one that failed a law once and is replayed from then on;
//! - [`strategies`] draws cases inside what a subject takes and makes failing ones simple;
//! - [`designed_batch`] is the batch on which the most semantics differ;
//! - [`edit`] changes batches: regrouped, relabelled, packed, padded;
//! - [`Recorded`] is a forward and backward pass that was recorded elsewhere.

mod batch_in_words;
mod case;
mod case_files;
mod designed;
pub mod edit;
mod recorded;
pub mod strategies;

pub use batch_in_words::{Counts, Rows};
pub use case::{Case, InvalidCase, Scale};
pub use case_files::{
    CaseFile, CaseFileError, KeptCases, LARGEST, ReadError, RefusedCase, StaleCaseFile, read_bytes, read_text,
};
pub use designed::{batch_of_layout, designed_batch};
pub use recorded::Recorded;
#[cfg(feature = "safetensors")]
pub use recorded::RecordedError;
