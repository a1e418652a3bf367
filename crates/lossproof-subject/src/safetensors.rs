//! Named tensors as safetensors, in F32 and F64; half precision is read, and never written.

use crate::{
    Tensor, TensorError, TensorSet, TensorValues,
    half_precision::{of_bf16, of_f16},
};
use lossproof_spec::{concise, shortened};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View, tensor::TensorView};
use std::{borrow::Cow, collections::BTreeMap};

/// The bytes of a safetensors file of these tensors, under their names.
///
/// # Errors
/// When the format cannot hold one.
pub fn encode(tensors: &TensorSet) -> Result<Vec<u8>, CodecError> {
    encode_named(tensors.iter().map(|(name, tensor)| (name.clone(), tensor)))
}

/// The same under other names.
///
/// # Errors
/// When the format cannot hold one.
pub fn encode_named<'a>(
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
) -> Result<Vec<u8>, CodecError> {
    let stored = tensors.into_iter().map(|(name, tensor)| (name, Stored(tensor)));
    Ok(safetensors::serialize(stored, None)?)
}

/// The tensors of a safetensors file.
///
/// # Errors
/// When it is not whole, or a tensor is neither F32 nor F64.
pub fn decode(bytes: &[u8]) -> Result<TensorSet, CodecError> {
    decode_where(bytes, |_| true)
}

/// Those tensors of a safetensors file whose name is asked for; the others may be of any element type.
///
/// # Errors
/// When it is not whole, or a tensor that is asked for is neither F32 nor F64.
pub fn decode_where(bytes: &[u8], asked: impl Fn(&str) -> bool) -> Result<TensorSet, CodecError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = TensorSet::new();
    for (name, view) in file.iter().filter(|(name, _)| asked(name)) {
        tensors.insert(name.to_owned(), tensor(name, &view)?);
    }
    Ok(tensors)
}

/// The tensors of a safetensors file, those of half precision widened to F32, each with the element type it had.
///
/// # Errors
/// When it is not whole, or a tensor has an element type that is none of a [`Dtype`](lossproof_spec::Dtype).
pub fn decode_widened(bytes: &[u8]) -> Result<BTreeMap<String, (Tensor, lossproof_spec::Dtype)>, CodecError> {
    use lossproof_spec::Dtype as Kept;
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let chunks = view.data().as_chunks().0.iter();
        let (widened, dtype) = match view.dtype() {
            Dtype::BF16 => {
                (Some(chunks.map(|&bytes| of_bf16(u16::from_le_bytes(bytes))).collect()), Kept::Bf16)
            }
            Dtype::F16 => (Some(chunks.map(|&bytes| of_f16(u16::from_le_bytes(bytes))).collect()), Kept::F16),
            Dtype::F32 => (None, Kept::F32),
            _ => (None, Kept::F64),
        };
        let tensor = match widened {
            Some(values) => Tensor::new(view.shape().to_vec(), TensorValues::F32(values))
                .map_err(|problem| CodecError::Shape { name: shortened(name), problem })?,
            None => tensor(name, &view)?,
        };
        tensors.insert(name.to_owned(), (tensor, dtype));
    }
    Ok(tensors)
}

fn tensor(name: &str, view: &TensorView<'_>) -> Result<Tensor, CodecError> {
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F32 => {
            TensorValues::F32(data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        }
        Dtype::F64 => {
            TensorValues::F64(data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
        }
        other => return Err(CodecError::Dtype { name: shortened(name), dtype: format!("{other:?}") }),
    };
    Tensor::new(view.shape().to_vec(), values)
        .map_err(|problem| CodecError::Shape { name: shortened(name), problem })
}

/// A tensor as the serialiser wants to see it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.0.values() {
            TensorValues::F32(_) => Dtype::F32,
            TensorValues::F64(_) => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.0.values() {
            TensorValues::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorValues::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        let size = match self.0.values() {
            TensorValues::F32(_) => size_of::<f32>(),
            TensorValues::F64(_) => size_of::<f64>(),
        };
        self.0.elements() * size
    }
}

/// Why bytes are no tensors, or tensors cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not a whole safetensors file.
    #[error("is not a whole safetensors file: fetch or write it again")]
    Format(#[source] SafeTensorError),
    /// A tensor in a format that is not read.
    #[error("`{name}` is {dtype}: convert it to F32 or F64")]
    Dtype {
        /// Name of the tensor.
        name: String,
        /// Its dtype.
        dtype: String,
    },
    /// A tensor whose values are not those of its shape.
    #[error("`{name}` has other values than its shape says")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// What is wrong with it.
        #[source]
        problem: TensorError,
    },
}

impl From<SafeTensorError> for CodecError {
    /// With what it repeats of the file shortened.
    fn from(error: SafeTensorError) -> Self {
        Self::Format(match error {
            SafeTensorError::InvalidHeaderDeserialization(error) => {
                SafeTensorError::InvalidHeaderDeserialization(concise(error))
            }
            SafeTensorError::InvalidOffset(name) => SafeTensorError::InvalidOffset(shortened(&name)),
            SafeTensorError::TensorNotFound(name) => SafeTensorError::TensorNotFound(shortened(&name)),
            other => other,
        })
    }
}
