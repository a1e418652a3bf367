//! The loss calculus, exactly and without tensors.
//!
//! Every reduction of per-token losses is a linear functional `L = Σ_t w_t·ℓ_t`, so `∇L = Σ_t w_t·∇ℓ_t`. The weight
//! vector `w` depends on the layout of the batch alone and *is* the semantics of a loss. This crate states it:
//!
//! - [`GlobalBatch`] is what a trainer sees in one optimizer step: ranks × micro-batches × sequences × positions;
//! - [`Layout`] is what the calculus needs of it: how many positions and supervised tokens each sequence has;
//! - [`LossSpec`] names a semantics: reduction, scope of the normaliser, combination of micro-batches and
//!   ranks, empty policy;
//! - [`TokenWeights`] computes `w` in exact rational arithmetic, [`WeightRatio`] compares two of them;
//! - [`Optimizer`] declares an optimizer step: loss scale, clipping, schedule and update rule;
//! - [`Perplexity`] is the one correct way from losses to perplexity;
//! - [`CLAUSES`] are the numbered statements of `docs/SPEC.md`.
//!
//! ```
//! use lossproof_spec::{Layout, LossSpec, SequenceShape, TokenWeights, WeightRatio};
//!
//! // One rank, two micro-batches with one sequence each: 3 and 1 supervised tokens.
//! let layout = Layout::new(vec![vec![vec![SequenceShape::full(4)], vec![SequenceShape::full(2)]]])?;
//! let mean = TokenWeights::new(&LossSpec::token_mean(), &layout)?;
//! let naive = TokenWeights::new(&LossSpec::naive_accumulated_mean(), &layout)?;
//! assert_eq!(mean.of_sequence(0).to_string(), "1/4");
//! assert_eq!(naive.of_sequence(0).to_string(), "1/6"); // half of 1/3
//! assert_eq!(naive.of_sequence(1).to_string(), "1/2"); // half of 1: twice what this token should weigh
//! assert!(matches!(WeightRatio::between(&naive, &mean), WeightRatio::Varies { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod clause;
mod dtype;
mod foreign;
mod layout;
mod loss;
mod optimizer;
mod perplexity;
mod role;
mod sum;
mod weights;

pub use batch::{
    BatchError, GlobalBatch, IGNORE_INDEX, MicroBatch, Prediction, Rank, Sequence, SequenceFields,
};
pub use clause::{CLAUSES, Clause, Level};
pub use dtype::{Dtype, Dtypes};
pub use foreign::{concise, printable, shortened};
pub use layout::{Layout, LayoutError, SequenceShape};
pub use loss::{Combine, Counting, EmptyPolicy, InvalidSpec, LossSpec, Reduction, Scope};
pub use optimizer::{Adam, Clip, Decayed, EpsilonPlacement, Optimizer, Rule};
pub use perplexity::{Perplexity, PerplexityError};
pub use role::Role;
pub use sum::CompensatedSum;
pub use weights::{EmptyGroup, Fraction, Group, TokenWeights, WeightRatio, to_f64};
