//! Who is wrong, and in which part: from the rows that failed and those that hold.
//!
//! A row relates answers, and each answer comes about by parts of a trainer (`cause.rs` names them). A row
//! that fails is a *conflict*: one of the parts that it depends on is wrong. A row that holds *clears* the
//! parts whose mistake it would have shown, if it is certain to catch an error as small as the one in
//! conflict. What is left is a puzzle of few pieces: the smallest set of parts that explains every conflict
//! is blamed (Reiter, *A theory of diagnosis from first principles*, Artificial Intelligence 32, 1987). Where
//! several smallest sets explain everything, what they have in common is blamed, and the rest is undecided.
//!
//! It follows, for instance, that a trainer whose evaluation alone is wrong is not blamed for its backward
//! pass, although its gradient differs from finite differences, which are taken of evaluated losses: that its
//! losses and gradients equal those of an independent implementation clears everything they come about by,
//! and the evaluation is what remains.

mod blamed;
mod cause;
mod search;
mod words;

pub use blamed::{Blame, BlamedPart};
pub(crate) use cause::{Parties, Party};
pub(crate) use search::blames;

#[cfg(test)]
mod tests;
