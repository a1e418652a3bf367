//! The names of the parameters that a file of parameters has.

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::collections::{BTreeSet, HashSet};

/// The parameters in the bytes of a safetensors file, by name, without their values: what is of whole numbers is none,
/// and a matrix that is there twice is one parameter, tied.
///
/// # Errors
/// When the file is not whole.
pub fn parameter_names(bytes: &[u8]) -> Result<BTreeSet<String>, SafeTensorError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut names: Vec<&str> = file.names().into_iter().collect();
    // Embeddings before heads, by the alphabet backwards: `wte.weight` before `lm_head.weight`.
    names.sort_unstable_by(|one, other| other.cmp(one));
    let (mut parameters, mut seen) = (BTreeSet::new(), HashSet::new());
    for name in names {
        let view = file.tensor(name)?;
        let floating = matches!(view.dtype(), Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let is_matrix = view.shape().len() > 1;
        if floating && (!is_matrix || seen.insert(view.data())) {
            parameters.insert(name.to_owned());
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_subject::{Tensor, TensorSet, TensorValues, safetensors::encode};

    #[test]
    fn a_tied_matrix_is_one_parameter() {
        let tensor = |shape: &[usize], values: &[f32]| {
            Tensor::new(shape.to_vec(), TensorValues::F32(values.to_vec())).unwrap()
        };
        let matrix = tensor(&[1, 2], &[1.0, 2.0]);
        let tensors = TensorSet::from([
            ("lm_head.weight".to_owned(), matrix.clone()),
            ("wte.weight".to_owned(), matrix),
            ("a.bias".to_owned(), tensor(&[1], &[0.0])),
            ("b.bias".to_owned(), tensor(&[1], &[0.0])),
        ]);
        let names = parameter_names(&encode(&tensors).unwrap()).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a.bias", "b.bias", "wte.weight"]);
        assert!(parameter_names(b"none").is_err());
    }
}
