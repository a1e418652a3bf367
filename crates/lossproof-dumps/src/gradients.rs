//! A dump of gradients as it is read: safetensors, or llm.c's debug state.

use crate::llm_c::{self, Sizes};
use lossproof_cases::{ReadError, read_bytes};
use lossproof_spec::Dtype;
use lossproof_subject::{
    Tensor,
    safetensors::{CodecError, decode_widened},
};
use std::{collections::BTreeMap, path::Path};

/// The most bytes of a dump, or of the model it is of, that are read: a billion numbers in double precision.
pub const LARGEST_DUMP: u64 = 8 << 30;

/// Gradients by the names of their parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// The tensors. Those of half precision are widened.
    pub tensors: BTreeMap<String, Tensor>,
    /// The element type that each had in the file.
    pub dtypes: BTreeMap<String, Dtype>,
    /// The loss that was dumped with them.
    pub loss: Option<DumpedLoss>,
}

/// A loss that was dumped beside gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DumpedLoss {
    /// The loss.
    pub value: f64,
    /// The element type that it had.
    pub dtype: Dtype,
}

/// Why a file holds no gradients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It cannot be read at all.
    #[error("the dump could not be read")]
    Read(#[from] ReadError),
    /// It is neither form.
    #[error("{name} is neither safetensors nor a debug state of llm.c")]
    Form {
        /// The file.
        name: String,
        /// Why it is no safetensors.
        source: CodecError,
    },
    /// A debug state of llm.c with a mistake in it.
    #[error("{name} is no whole debug state of llm.c: {problem}")]
    State {
        /// The file.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// The tensor that is the loss, and no gradient.
pub(crate) const LOSS: &str = "loss";

impl Gradients {
    /// Reads a dump. `sizes` are those of the model, for a debug state of llm.c of a model that is no GPT-2
    /// of OpenAI's.
    ///
    /// # Errors
    /// When it cannot be read, or holds no gradients.
    pub fn read(path: &Path, sizes: Option<&Sizes>) -> Result<Self, DumpError> {
        Self::of_bytes(&path.display().to_string(), &read_bytes(path, LARGEST_DUMP)?, sizes)
    }

    /// The same of the bytes of a file of this name.
    ///
    /// # Errors
    /// When they hold no gradients.
    pub fn of_bytes(name: &str, bytes: &[u8], sizes: Option<&Sizes>) -> Result<Self, DumpError> {
        if llm_c::is_state(bytes) {
            let llm_c::DebugState { tensors, loss } = llm_c::read(bytes, sizes)
                .map_err(|problem| DumpError::State { name: name.to_owned(), problem })?;
            let dtypes = tensors.keys().map(|name| (name.clone(), Dtype::F32)).collect();
            let loss = loss.map(|value| DumpedLoss { value, dtype: Dtype::F32 });
            return Ok(Self { tensors, dtypes, loss });
        }
        let decoded =
            decode_widened(bytes).map_err(|source| DumpError::Form { name: name.to_owned(), source })?;
        let mut gradients = Self { tensors: BTreeMap::new(), dtypes: BTreeMap::new(), loss: None };
        for (name, (tensor, dtype)) in decoded {
            if name == LOSS && tensor.elements() == 1 {
                gradients.loss = Some(DumpedLoss { value: tensor.get(0), dtype });
                continue;
            }
            gradients.dtypes.insert(name.clone(), dtype);
            gradients.tensors.insert(name, tensor);
        }
        Ok(gradients)
    }

    /// The coarsest element type; F32 where there is no tensor.
    #[must_use]
    pub fn coarsest(&self) -> Dtype {
        self.dtypes.values().copied().reduce(coarser).unwrap_or(Dtype::F32)
    }
}

/// The coarser of two element types.
pub(crate) fn coarser(one: Dtype, other: Dtype) -> Dtype {
    if other.unit_roundoff() > one.unit_roundoff() { other } else { one }
}

#[cfg(test)]
mod tests;
