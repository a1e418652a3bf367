//! What a trainer made of a case, under the names that the export has for its parameters.

use crate::{DumpError, DumpedLoss, Gradients, gradients::LOSS};
use lossproof_spec::Dtype;
use lossproof_subject::{Tensor, TensorSet, TensorValues};
use std::{collections::BTreeSet, path::Path};

/// What compilers and data parallelism put into the names of parameters.
const WRAPPERS: [&str; 4] = ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// What the model around a base model puts before the names of its parameters.
const PREFIXES: [&str; 3] = ["model.", "transformer.", "gradients/"];

/// The names of weights that PyTorch's `Linear` has transposed.
const PROJECTIONS: [&str; 4] =
    ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];

/// What a trainer made of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The gradients, in the shapes of the parameters; zero where there is none.
    pub gradients: TensorSet,
    /// The loss, where there is one.
    pub loss: Option<DumpedLoss>,
    /// Parameters without a gradient.
    pub missing: Vec<String>,
    /// Tensors that are no parameter's gradient.
    pub surplus: Vec<String>,
    /// Tensors of another shape than their parameter's, with both: they are taken for missing.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Whether projections were transposed, as PyTorch's `Linear` has them.
    pub transposed: bool,
    /// The coarsest element type.
    pub dtype: Dtype,
}

impl Answer {
    /// Reads an answer to a case whose gradient has the tensors of `expected`.
    ///
    /// # Errors
    /// When the file cannot be read or holds no tensors.
    pub fn read(path: &Path, expected: &TensorSet) -> Result<Self, DumpError> {
        Ok(Self::of(Gradients::read(path, None)?, expected))
    }

    /// An answer out of a dump.
    #[must_use]
    pub fn of(dump: Gradients, expected: &TensorSet) -> Self {
        let dtype = dump.coarsest();
        let mut given = TensorSet::new();
        let mut twice = Vec::new();
        for (name, tensor) in dump.tensors {
            let plain = plain(&name, expected);
            if given.insert(plain.clone(), tensor).is_some() {
                twice.push(plain);
            }
        }
        let is_projection = |name: &str| PROJECTIONS.iter().any(|projection| name.ends_with(projection));
        // A square one does not tell: all of them are one way or the other.
        let transposed = expected.iter().any(|(name, expected)| {
            let reversed: Vec<usize> = expected.shape().iter().rev().copied().collect();
            let found = given.get(name).map(Tensor::shape);
            is_projection(name) && reversed != expected.shape() && found == Some(reversed.as_slice())
        });
        let mut answer = Self {
            gradients: TensorSet::new(),
            loss: dump.loss,
            missing: Vec::new(),
            surplus: Vec::new(),
            misshapen: Vec::new(),
            transposed,
            dtype,
        };
        for (name, expected) in expected {
            let found = given.remove(name).map(|tensor| {
                if transposed && is_projection(name) { turned(&tensor).unwrap_or(tensor) } else { tensor }
            });
            let tensor = match found {
                Some(tensor) if tensor.shape() == expected.shape() => tensor,
                Some(tensor) => {
                    let shapes = (tensor.shape().to_vec(), expected.shape().to_vec());
                    answer.misshapen.push((name.clone(), shapes.0, shapes.1));
                    zeros(expected)
                }
                None => {
                    answer.missing.push(name.clone());
                    zeros(expected)
                }
            };
            answer.gradients.insert(name.clone(), tensor);
        }
        // Which of two gradients of one parameter is meant is not known, and a loss of several numbers is none.
        answer.missing.extend(twice);
        if let Some(loss) = given.remove(LOSS) {
            answer.misshapen.push((LOSS.to_owned(), loss.shape().to_vec(), Vec::new()));
        }
        answer.surplus = given.into_keys().collect::<BTreeSet<_>>().into_iter().collect();
        answer
    }

    /// Whether there is a gradient of every parameter.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }
}

/// A name without anything that wrappers may have put into it.
pub(crate) fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let name = parts.join(".");
    let mut rest = name.as_str();
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rest.to_owned()
}

/// The name of a parameter, without what wrappers put into it; any other name as it is.
fn plain(name: &str, expected: &TensorSet) -> String {
    let plain = unwrapped(name);
    if expected.contains_key(&plain) { plain } else { name.to_owned() }
}

/// A gradient of nothing, in the shape of a parameter.
fn zeros(like: &Tensor) -> Tensor {
    let values = TensorValues::F64(vec![0.0; like.elements()]);
    Tensor::new(like.shape().to_vec(), values).expect("invariant: as many zeros as elements")
}

/// A matrix with its rows as columns.
fn turned(tensor: &Tensor) -> Option<Tensor> {
    let &[rows, columns] = tensor.shape() else { return None };
    let mut values = Vec::with_capacity(tensor.elements());
    for column in 0..columns {
        values.extend((0..rows).map(|row| tensor.get(row * columns + column)));
    }
    Tensor::new(vec![columns, rows], TensorValues::F64(values)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn tensor(shape: &[usize], first: f64) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|index| first + index as f64).collect();
        Tensor::new(shape.to_vec(), TensorValues::F64(values)).unwrap()
    }

    fn expected() -> TensorSet {
        TensorSet::from([
            ("h.0.attn.c_attn.weight".to_owned(), tensor(&[2, 6], 0.0)),
            ("h.0.attn.c_proj.weight".to_owned(), tensor(&[2, 2], 0.0)),
            ("wte.weight".to_owned(), tensor(&[3, 2], 0.0)),
        ])
    }

    fn dump(tensors: &[(&str, Tensor)]) -> Gradients {
        let tensors: BTreeMap<_, _> =
            tensors.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
        let dtypes = tensors.keys().map(|name| (name.clone(), Dtype::F64)).collect();
        Gradients { tensors, dtypes, loss: None }
    }

    #[test]
    fn names_are_found_behind_what_wrappers_put_before_them() {
        let given = dump(&[
            ("module._orig_mod.transformer.wte.weight", tensor(&[3, 2], 5.0)),
            ("lm_head.weight", tensor(&[3, 2], 9.0)),
        ]);
        let answer = Answer::of(given, &expected());
        assert_eq!(answer.gradients["wte.weight"], tensor(&[3, 2], 5.0));
        assert_eq!(answer.surplus, ["lm_head.weight"]);
        assert_eq!(answer.missing, ["h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight"]);
        assert!(!answer.is_whole() && !answer.transposed);
    }

    #[test]
    fn projections_are_transposed_together() {
        let given = dump(&[
            ("h.0.attn.c_attn.weight", tensor(&[6, 2], 0.0)),
            ("h.0.attn.c_proj.weight", tensor(&[2, 2], 0.0)),
            ("wte.weight", tensor(&[3, 2], 0.0)),
        ]);
        let answer = Answer::of(given, &expected());
        assert!(answer.transposed && answer.is_whole());
        assert_eq!(answer.gradients["h.0.attn.c_attn.weight"].shape(), [2, 6]);
        assert_eq!(answer.gradients["h.0.attn.c_attn.weight"].to_f64()[..3], [0.0, 2.0, 4.0]);
        assert_eq!(answer.gradients["h.0.attn.c_proj.weight"].to_f64(), [0.0, 2.0, 1.0, 3.0]);
        let other = dump(&[("wte.weight", tensor(&[2, 3], 0.0))]);
        let answer = Answer::of(other, &expected());
        assert_eq!(answer.misshapen, [("wte.weight".to_owned(), vec![2, 3], vec![3, 2])]);
    }
}
