//! A recording from the safetensors file it is kept in.

use super::Recorded;
use lossproof_spec::{
    BatchError, GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence, SequenceFields, shortened,
};
use lossproof_subject::{Tensor, TensorError, TensorSet, TensorValues, safetensors::CodecError};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

impl Recorded {
    /// Reads a recording from a safetensors file of the format of `fixtures/third-forward`: parameters as
    /// `parameter/NAME`, gradients as `gradient/NAME`, the right-padded batch as `input_ids`, `labels`,
    /// `attention_mask` and `position_ids` (i64, `[n, L]`), `token_losses` (f64, `[n, L − 1]`) and `loss` (f64, one
    /// value).
    ///
    /// # Errors
    /// When the bytes are not a whole safetensors file, or an entry is missing or contradicts the others.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordedError> {
        let file = SafeTensors::deserialize(bytes).map_err(CodecError::from)?;
        let (parameters, gradient) = (named(&file, "parameter/")?, named(&file, "gradient/")?);
        let batch = batch(&file)?;
        let padded = floats(&file, "token_losses")?;
        let width = padded.shape().last().copied().unwrap_or(0);
        let predictions = batch.predictions();
        let token_losses = predictions
            .map(|p| checked(&padded, p.sequence * width + p.position))
            .collect::<Result<_, _>>()?;
        let loss = checked(&floats(&file, "loss")?, 0)?;
        Ok(Self { parameters, batch, token_losses, loss, gradient })
    }
}

fn checked(tensor: &Tensor, index: usize) -> Result<f64, RecordedError> {
    let contradiction =
        || RecordedError::Contradiction { entry: "token_losses", shape: tensor.shape().to_vec() };
    if index < tensor.elements() { Ok(tensor.get(index)) } else { Err(contradiction()) }
}

fn batch(file: &SafeTensors<'_>) -> Result<GlobalBatch, RecordedError> {
    let shape = view(file, "input_ids")?.shape().to_vec();
    let column = |entry| -> Result<Vec<i64>, RecordedError> {
        let values = integers(file, entry)?;
        if view(file, entry)?.shape() == shape.as_slice() && shape.len() == 2 {
            Ok(values)
        } else {
            Err(RecordedError::Contradiction { entry, shape: shape.clone() })
        }
    };
    let (tokens, labels) = (column("input_ids")?, column("labels")?);
    let (mask, positions) = (column("attention_mask")?, column("position_ids")?);
    let width = shape[1];
    if width == 0 {
        return Err(RecordedError::Contradiction { entry: "input_ids", shape });
    }
    let mut sequences = Vec::new();
    for row in 0..shape[0] {
        let range = row * width..(row + 1) * width;
        let length = mask[range.clone()].iter().take_while(|&&real| real == 1).count();
        let real = range.start..range.start + length;
        let ids = |values: &[i64], entry| -> Result<Vec<u32>, RecordedError> {
            let id = |&value: &i64| u32::try_from(value).map_err(|_| RecordedError::Id { entry, value });
            values.iter().map(id).collect()
        };
        let input_ids = ids(&tokens[real.clone()], "input_ids")?;
        let ignored_or =
            |(&label, &token): (&i64, &u32)| if label == IGNORE_INDEX { i64::from(token) } else { label };
        let targets: Vec<i64> = labels[real.clone()].iter().zip(&input_ids).map(ignored_or).collect();
        sequences.push(Sequence::from_fields(SequenceFields {
            labels: labels[real.clone()].to_vec(),
            position_ids: ids(&positions[real], "position_ids")?,
            targets: ids(&targets, "labels")?,
            input_ids,
            ..SequenceFields::default()
        })?);
    }
    Ok(GlobalBatch::new(vec![Rank::new(vec![MicroBatch::new(sequences)?])?])?)
}

fn named(file: &SafeTensors<'_>, prefix: &str) -> Result<TensorSet, RecordedError> {
    let names = file.names().into_iter().filter_map(|name| name.strip_prefix(prefix));
    names.map(|name| Ok((name.to_owned(), floats(file, &format!("{prefix}{name}"))?))).collect()
}

fn view<'a>(file: &SafeTensors<'a>, entry: &str) -> Result<TensorView<'a>, RecordedError> {
    Ok(file.tensor(entry).map_err(CodecError::from)?)
}

fn floats(file: &SafeTensors<'_>, entry: &str) -> Result<Tensor, RecordedError> {
    let view = typed(file, entry, Dtype::F64)?;
    let values = view.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    Ok(Tensor::new(view.shape().to_vec(), TensorValues::F64(values))?)
}

fn integers(file: &SafeTensors<'_>, entry: &str) -> Result<Vec<i64>, RecordedError> {
    let view = typed(file, entry, Dtype::I64)?;
    Ok(view.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
}

fn typed<'a>(file: &SafeTensors<'a>, entry: &str, expected: Dtype) -> Result<TensorView<'a>, RecordedError> {
    let view = view(file, entry)?;
    if view.dtype() == expected {
        Ok(view)
    } else {
        Err(RecordedError::Dtype { entry: shortened(entry), found: format!("{:?}", view.dtype()) })
    }
}

/// Why bytes are not a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedError {
    /// Not a safetensors file, or an entry is missing.
    #[error("the recording is not a whole safetensors file or lacks an entry")]
    Format(#[from] CodecError),
    /// An entry with another element type than the format's.
    #[error("entry `{entry}` is {found}: floats are F64 and ids I64 in a recording")]
    Dtype {
        /// The entry.
        entry: String,
        /// Its element type.
        found: String,
    },
    /// An id that is negative or too large.
    #[error("entry `{entry}` holds {value}, which is not an id")]
    Id {
        /// The entry.
        entry: &'static str,
        /// The value.
        value: i64,
    },
    /// An entry whose shape does not fit the others'.
    #[error("entry `{entry}` does not fit a batch of shape {shape:?}")]
    Contradiction {
        /// The entry.
        entry: &'static str,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A shape that does not hold its values.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Sequences that make no batch.
    #[error("the recording's batch is not one")]
    Batch(#[from] BatchError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICO: &[u8] = include_bytes!("../../../../fixtures/third-forward/gpt2-pico.safetensors");

    #[test]
    fn the_shipped_recording_is_read_whole() {
        let recorded = Recorded::parse(PICO).unwrap();
        let lengths: Vec<_> = recorded.batch.sequences().map(Sequence::len).collect();
        assert_eq!(lengths, [9, 5, 2, 7]);
        assert_eq!(recorded.token_losses.len(), 8 + 4 + 1 + 6);
        assert_eq!(recorded.batch.layout().supervised(), 17);
        assert!(recorded.parameters.keys().eq(recorded.gradient.keys()));
    }

    #[test]
    fn a_damaged_recording_is_an_error_and_never_a_panic() {
        for cut in [0, 7, 100, PICO.len() - 1] {
            assert!(matches!(Recorded::parse(&PICO[..cut]), Err(RecordedError::Format(_))), "cut at {cut}");
        }
        // The same file with one entry renamed, of the same length so that the header stays whole.
        let renamed = |from: &str, to: &str| {
            let at = PICO.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            let mut bytes = PICO.to_vec();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            Recorded::parse(&bytes)
        };
        assert!(matches!(renamed("\"token_losses\"", "\"token_lossez\""), Err(RecordedError::Format(_))));
        assert!(matches!(renamed("\"F64\"", "\"I64\""), Err(RecordedError::Dtype { .. })));
    }
}
