//! Parameters that are read one tensor at a time, so that a large model never needs a second copy of itself.

use crate::{Tensor, TensorError, TensorSet};
use std::io;

/// Where parameters come from.
pub trait ParameterSource: Send + Sync {
    /// Names and shapes of all of them.
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;

    /// The values of one parameter.
    ///
    /// # Errors
    /// When there is no such parameter, or it cannot be read.
    fn read(&self, name: &str) -> Result<Tensor, SourceError>;
}

impl ParameterSource for TensorSet {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor, SourceError> {
        self.get(name).cloned().ok_or_else(|| SourceError::Missing { name: name.to_owned() })
    }
}

/// Why a parameter could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing under that name.
    #[error("there are no values for parameter `{name}`")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// The file could not be read.
    #[error("parameter `{name}` could not be read from its file")]
    Io {
        /// The parameter.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// A shape that does not hold its values.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
