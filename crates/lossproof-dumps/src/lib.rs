//! Gradients that a trainer left in files: what is wrong with them, and whether they are those that it should have had.
//!
//! - [`Gradients`] reads a dump, [`inspect`] says which parameters got no gradient, a zero one, one that is
//!   no number, or
//!   one that is out of line: for that nothing has to be known of the trainer.
//! - [`export`] writes a model, batches, and what a trainer that claims a loss must make of them; [`check`] reads what
//!   one made, and recovers what each token weighed in it.

mod answer;
mod batches;
mod check;
mod export;
mod findings;
mod folder;
mod gradients;
mod llm_c;
mod parameters;
mod readme;
mod state;

pub use answer::Answer;
pub use batches::{Batches, batches};
pub use check::{CheckedCase, CheckedLoss, Outcome, check};
pub use export::{Exported, export};
pub use findings::{Finding, Inspection, MissingBecause, inspect};
pub use folder::{Folder, FolderError, Manifest, Model};
pub use gradients::{DumpError, DumpedLoss, Gradients, LARGEST_DUMP};
pub use llm_c::Sizes;
pub use parameters::parameter_names;
pub use state::State;
