//! f64 truth that shares no code with what it judges.
//!
//! - [`CrossEntropy`]: token cross-entropy and its gradient in closed form;
//! - [`sweep`] and [`Sweep::contract`]: fourth-order finite differences, taken once per token and contracted with any
//!   token weights, along directions from [`rademacher`], held to [`directional_bound`];
//! - [`Equations`]: linear least squares, the error of each unknown, and what cannot be told apart;
//! - [`difference`]: how far apart two tensors are, and relative to which scale;
//! - [`vector`]: norms, distances and sums of vectors;
//! - [`Comparisons`]: what was held to which bound, how close it came, and how small an error is certain to be caught;
//! - [`Averages`]: comparisons in half precision, held by their mean over many contexts;
//! - [`gradient_blocks`]: which blocks of a GPT-2 gradient are structurally zero on a batch;
//! - [`ErrorModel`] and [`f32_rule`]: how far rounding may carry a gradient from its exact value.
//!
//! Every bound is derived where it is defined; `docs/tolerances.md` tells the derivations in one place.

mod averages;
mod bounds;
mod coefficients;
mod column_space;
mod comparisons;
mod cross_entropy;
mod direction;
mod finite_difference;
mod judgement;
mod least_squares;
mod matrix;
mod projections;
mod quadrature;
mod reflections;
mod singular_values;
mod slope;
mod structure;
mod tensor;
mod update;
pub mod vector;
mod widen;

pub use averages::{Averages, CONTEXTS, Deviation, QUANTILE, bias};
pub use bounds::{ErrorModel, f32_rule};
pub use coefficients::coefficients;
pub use column_space::ColumnSpace;
pub use comparisons::{Closest, Comparisons, Control, Unit, Violation};
pub use cross_entropy::{CrossEntropy, CrossEntropyError};
pub use direction::{Rademacher, rademacher};
pub use finite_difference::{Plateau, Sweep, directional_bound, sweep};
pub use judgement::{CONTROL, WEAKEST, closeness, exceeds, power};
pub use least_squares::{Equations, LeastSquaresError, Perturbation, Solution, Unresolved};
pub use projections::{PROJECTIONS, ProjectionSums};
pub use quadrature::{Integral, integrate};
pub use slope::{FIRST_STEP, HALVINGS, Slope};
pub use structure::{Block, gradient_blocks};
pub use tensor::{Difference, Worst, difference, difference_in_runs};
pub use update::Updated;
pub use vector::norm;
pub use widen::Widen;
