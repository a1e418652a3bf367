//! The laws, by the groups of clauses in `docs/SPEC.md`.

pub(crate) mod accumulation;
pub(crate) mod closed_form;
pub(crate) mod cross_entropy;
pub(crate) mod derivative;
pub(crate) mod embedding;
pub(crate) mod evaluation;
pub(crate) mod lines;
pub(crate) mod lone_tokens;
pub(crate) mod masks;
pub(crate) mod model;
pub(crate) mod objectives;
pub(crate) mod ranks;
pub(crate) mod reductions;
pub(crate) mod reported;
pub(crate) mod step;
pub(crate) mod step_slope;
pub(crate) mod training;
