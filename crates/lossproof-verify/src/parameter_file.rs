//! Parameters in a file, of which one tensor at a time is in memory.

use lossproof_subject::{ParameterSource, SourceError, Tensor, TensorValues};
use rayon::prelude::*;
use safetensors::{
    Dtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

/// Parameters in single precision in a safetensors file, of which one tensor at a time is in memory.
#[derive(Debug)]
pub struct ParameterFile {
    file: File,
    tensors: BTreeMap<String, Stored>,
}

/// Where one tensor is.
#[derive(Debug)]
struct Stored {
    shape: Vec<usize>,
    /// First byte in the file.
    start: u64,
}

/// Tensors drawn at a time, by all cores; the largest of gpt2-xl has 0.3 GB.
const DRAWN_AT_ONCE: usize = 8;

/// Bytes read and written at a time.
const PIECE: usize = 1 << 20;

impl ParameterFile {
    /// Writes the parameters of these names and shapes into an empty file as `draw(index)` makes them, a few
    /// at a time: the header is known before the first value is. The file is complete when this returns; a
    /// temporary one that was never given a name is as atomic as one that is renamed at the end, and cannot
    /// be left behind.
    ///
    /// # Errors
    /// When the file cannot be written; [`io::ErrorKind::StorageFull`] when it does not fit.
    pub fn write(
        file: File,
        parameters: &[(String, Vec<usize>)],
        draw: impl Fn(usize) -> Vec<f32> + Sync,
    ) -> Result<Self, WriteError> {
        let mut end = 0;
        let info = |(name, shape): &(String, Vec<usize>)| {
            let start = end;
            end += shape.iter().product::<usize>() * size_of::<f32>();
            let info = TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (start, end) };
            (name.clone(), info)
        };
        let infos: Vec<_> = parameters.iter().map(info).collect();
        let header = serde_json::to_vec(&Metadata::new(None, infos.clone())?).map_err(io::Error::from)?;
        // The format aligns the data by spaces after the header.
        let padded = header.len().next_multiple_of(size_of::<u64>());
        let mut writer = &file;
        writer.write_all(&(padded as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        writer.write_all(&vec![b' '; padded - header.len()])?;
        let mut bytes = Vec::new();
        for first in (0..parameters.len()).step_by(DRAWN_AT_ONCE) {
            let some = first..parameters.len().min(first + DRAWN_AT_ONCE);
            let drawn: Vec<_> = some.into_par_iter().map(&draw).collect();
            for values in drawn.iter().flat_map(|values| values.chunks(PIECE / size_of::<f32>())) {
                bytes.resize(size_of_val(values), 0);
                for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                    *bytes = value.to_le_bytes();
                }
                writer.write_all(&bytes)?;
            }
        }
        let data = (size_of::<u64>() + padded) as u64;
        let stored = |(name, info): (String, TensorInfo)| {
            (name, Stored { shape: info.shape, start: data + info.data_offsets.0 as u64 })
        };
        Ok(Self { file, tensors: infos.into_iter().map(stored).collect() })
    }

    /// Bytes of the values of parameters of these shapes.
    #[must_use]
    pub fn size(parameters: &[(String, Vec<usize>)]) -> usize {
        parameters.iter().map(|(_, shape)| shape.iter().product::<usize>() * size_of::<f32>()).sum()
    }
}

impl ParameterSource for ParameterFile {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, stored)| (name.clone(), stored.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor, SourceError> {
        let stored = self.tensors.get(name).ok_or_else(|| SourceError::Missing { name: name.to_owned() })?;
        let elements: usize = stored.shape.iter().product();
        let mut values = Vec::with_capacity(elements);
        let mut bytes = vec![0; PIECE];
        while values.len() < elements {
            let done = values.len() * size_of::<f32>();
            let some = PIECE.min(elements * size_of::<f32>() - done);
            let read = self.file.read_exact_at(&mut bytes[..some], stored.start + done as u64);
            read.map_err(|source| SourceError::Io { name: name.to_owned(), source })?;
            values.extend(bytes[..some].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        }
        Ok(Tensor::new(stored.shape.clone(), TensorValues::F32(values))?)
    }
}

/// Why parameters could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    #[error("the parameters could not be written")]
    Io(#[from] io::Error),
    /// Names and shapes that make no safetensors file.
    #[error("the parameters make no safetensors file")]
    Format(#[from] SafeTensorError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use std::io::{Read, Seek};

    fn shapes() -> Vec<(String, Vec<usize>)> {
        let shape = |(index, shape): (usize, &[usize])| (format!("p{index}"), shape.to_vec());
        // The last is longer than what is read at a time, and not a multiple of it.
        [[3, 5].as_slice(), &[7], &[], &[300_001]].into_iter().enumerate().map(shape).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "small integers")]
    fn drawn(index: usize) -> Vec<f32> {
        let elements = shapes()[index].1.iter().product();
        (0..elements).map(|i: usize| (i as f32).mul_add(0.5, index as f32)).collect()
    }

    #[test]
    fn what_is_written_is_read_tensor_by_tensor_and_is_a_safetensors_file() {
        let mut plain = tempfile::tempfile().unwrap();
        let written = ParameterFile::write(plain.try_clone().unwrap(), &shapes(), drawn).unwrap();
        let mut bytes = Vec::new();
        plain.rewind().unwrap();
        plain.read_to_end(&mut bytes).unwrap();
        let whole = SafeTensors::deserialize(&bytes).unwrap();
        for (index, (name, shape)) in shapes().iter().enumerate() {
            let expected = Tensor::new(shape.clone(), TensorValues::F32(drawn(index))).unwrap();
            assert_eq!(written.read(name).unwrap(), expected);
            let view = whole.tensor(name).unwrap();
            let values: Vec<f32> =
                view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            assert_eq!((view.shape(), values), (shape.as_slice(), drawn(index)));
        }
        assert!(matches!(written.read("p9"), Err(SourceError::Missing { .. })));
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let written = ParameterFile::write(file.try_clone().unwrap(), &shapes(), drawn).unwrap();
        file.set_len(ParameterFile::size(&shapes()) as u64).unwrap();
        assert!(written.read("p0").is_ok());
        assert!(matches!(written.read("p3"), Err(SourceError::Io { .. })));
    }
}
