//! What parameters differ in: whether they are trained, and the element type they are held in.

use crate::architecture::Declared;
use crate::{Failure, kinds};
use lossproof_spec::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use tch::Kind;

/// Parameters that are treated otherwise than the rest of a model, by their names.
///
/// ```
/// use lossproof_spec::Dtype;
/// use lossproof_torch::Mixture;
///
/// let mut mixture = Mixture::default();
/// mixture.frozen.insert("embed_tokens.weight".to_owned());
/// mixture.dtypes.insert("norm.weight".to_owned(), Dtype::F32);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mixture {
    /// Those that are not trained, as with `requires_grad=False` in PyTorch: the model computes with them, and
    /// they have no gradient, no part in the gradient's norm and none in a step.
    pub frozen: BTreeSet<String>,
    /// Those that are held in an element type of their own: f64, f32 or bf16. They are converted to the one that
    /// the model computes in where they are used, and their gradient is converted back.
    pub dtypes: BTreeMap<String, Dtype>,
    /// The element type of master weights, in which all others are held and their gradients added up, where it is
    /// not the one that the model computes in: f32 beside bf16 is what mixed precision is.
    pub masters: Option<Dtype>,
}

/// How one parameter is held.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) trained: bool,
    /// The element type, where it is its own.
    pub(crate) dtype: Option<Dtype>,
    pub(crate) kind: Kind,
}

impl Mixture {
    /// How each of these parameters is held in a model that computes in `kind`.
    pub(crate) fn held(&self, declared: &[Declared], kind: Kind) -> Result<Vec<Held>, Failure> {
        let mut named = self.frozen.iter().chain(self.dtypes.keys());
        if let Some(unknown) = named.find(|name| !declared.iter().any(|one| one.name == **name)) {
            return Err(Failure::new(format!(
                "`{unknown}` is to be frozen or to have an element type of its own, and the model has no such \
                 parameter"
            )));
        }
        let kind = self.masters.map_or(Ok(kind), kinds::of)?;
        let mut held = Vec::with_capacity(declared.len());
        for one in declared {
            let dtype = self.dtypes.get(&one.name).copied();
            let trained = one.trained && !self.frozen.contains(&one.name);
            held.push(Held { trained, dtype, kind: dtype.map_or(Ok(kind), kinds::of)? });
        }
        if !held.iter().any(|one| one.trained) {
            return Err(Failure::new("every parameter is frozen: leave one to be trained".to_owned()));
        }
        Ok(held)
    }
}
