//! What a swap of a label changes in a gradient.

use super::TomographyError;
use lossproof_numerics::vector;
use lossproof_subject::{Tensor, TensorSet, TensorValues};

/// One gradient less another, parameter by parameter.
///
/// # Errors
/// Where the two do not have the same parameters.
pub(super) fn minus(one: &TensorSet, other: &TensorSet) -> Result<TensorSet, TomographyError> {
    if let Some((name, tensor)) = other.iter().find(|(name, _)| !one.contains_key(*name)) {
        let (of, parameter) = ("the gradient before a swap".to_owned(), name.clone());
        return Err(TomographyError::Tensor { of, parameter, shape: tensor.shape().to_vec() });
    }
    let difference = |(name, tensor): (&String, &Tensor)| {
        let missing = || TomographyError::Tensor {
            of: "the gradient after a swap".to_owned(),
            parameter: name.clone(),
            shape: tensor.shape().to_vec(),
        };
        let other = other.get(name).filter(|other| other.shape() == tensor.shape()).ok_or_else(missing)?;
        let values = vector::minus(&tensor.to_f64(), &other.to_f64());
        let difference = Tensor::new(tensor.shape().to_vec(), TensorValues::F64(values));
        Ok((name.clone(), difference.map_err(|_| missing())?))
    };
    one.iter().map(difference).collect()
}
