//! The model as a function of its parameters.

use super::operators::Operators;
use crate::tensors::NamedTensors;
use lossproof_gpt2::ModelShape;

/// The model as a function of its parameters; the modules beside this one hold its passes, piece by piece.
pub(super) struct Transformer<'a, T> {
    pub(super) shape: ModelShape,
    pub(super) operators: Operators<T>,
    pub(super) parameters: &'a NamedTensors<T>,
}
