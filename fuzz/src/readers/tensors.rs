//! Tensors in files: safetensors of several kinds, and the binary files of llm.c.

use crate::{
    Made, Reader,
    reader::{folder, told},
};
use lossproof_cases::Recorded;
use lossproof_dumps::{Gradients, Sizes};
use lossproof_subject::{
    Tensor, TensorError, TensorSet, TensorValues,
    safetensors::{decode, decode_widened, encode},
};

/// A tensor without a value has some 50 bytes of header: names and descriptions in two maps of the format, a
/// name and a tensor in ours.
pub(super) const OF_TENSORS: usize = 48;

/// Tensors of both element types and several shapes.
pub(super) fn small() -> Result<TensorSet, TensorError> {
    Ok(TensorSet::from([
        ("h.0.ln.weight".to_owned(), Tensor::new(vec![2], TensorValues::F32(vec![1.0, f32::NAN]))?),
        ("loss".to_owned(), Tensor::new(Vec::new(), TensorValues::F64(vec![2.5]))?),
        ("wte.weight".to_owned(), Tensor::new(vec![3, 2], TensorValues::F64(vec![0.5; 6]))?),
        ("none".to_owned(), Tensor::new(vec![0, 4], TensorValues::F32(Vec::new()))?),
    ]))
}

pub(super) fn plain() -> Made {
    let valid = vec![encode(&small()?)?, encode(&TensorSet::new())?];
    Ok(Reader::of_bytes(OF_TENSORS, valid, |bytes| told(decode(bytes))))
}

/// A file of these tensors: name, element type, shape, bytes of the values.
fn file(tensors: &[(&str, &str, &[usize], usize)]) -> Vec<u8> {
    let (mut header, mut end) = (Vec::new(), 0);
    for (name, dtype, shape, bytes) in tensors {
        let start = end;
        end += bytes;
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        ));
    }
    let header = format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0x3c; end]].concat()
}

/// Of half precision, and with what is said of the file itself.
fn half() -> Vec<u8> {
    file(&[
        ("a", "BF16", &[2, 2], 8),
        ("b", "F16", &[1], 2),
        ("loss", "F32", &[], 4),
        ("wte.weight", "F64", &[1], 8),
    ])
}

/// Half precision is widened to twice its bytes.
pub(super) fn widened() -> Made {
    let valid = vec![half(), encode(&small()?)?];
    Ok(Reader::of_bytes(OF_TENSORS, valid, |bytes| told(decode_widened(bytes))))
}

#[expect(clippy::unnecessary_wraps, reason = "made as every reader is")]
pub(super) fn recorded() -> Made {
    let batch = |name| (name, "I64", [1, 3].as_slice(), 24);
    let mut bytes = file(&[
        ("parameter/w", "F64", &[2], 16),
        ("gradient/w", "F64", &[2], 16),
        ("token_losses", "F64", &[1, 2], 16),
        ("loss", "F64", &[], 8),
        batch("input_ids"),
        batch("labels"),
        batch("attention_mask"),
        batch("position_ids"),
    ]);
    // The last is the batch: of every column the same ids, which are a mask of one position.
    let start = bytes.len() - 4 * 24;
    for value in bytes[start..].as_chunks_mut::<8>().0 {
        *value = 1_i64.to_le_bytes();
    }
    Ok(Reader::of_bytes(OF_TENSORS, vec![bytes], |bytes| told(Recorded::parse(bytes))))
}

/// Words of a header of llm.c.
const HEADER: usize = 256;

/// A small GPT-2 in llm.c, and the words of its header.
const SIZES: Sizes = Sizes { positions: 4, vocabulary: 5, padded_vocabulary: 8, layers: 2, width: 2 };
const MODEL: [i32; 8] = [20_240_326, 3, 4, 5, 2, 1, 2, 8];

fn words(first: &[i32], count: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = first.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(count * size_of::<i32>(), 0);
    bytes
}

/// A debug state of one sequence of two tokens: tokens, logits, the loss, and 170 gradients.
fn state() -> Vec<u8> {
    let gradients = 8 * 2 + 4 * 2 + 2 * (4 * 2 + 6 * 2 + 6 + 2 * 2 + 2 + 8 * 2 + 8 + 2 * 8 + 2) + 2 * 2;
    words(&[20_240_327, 2, 1, 2], HEADER + 4 + 2 * 5 + 1 + gradients)
}

/// Of the smallest model, a block's twelve tensors have 13 values in 52 bytes, each with a name and an
/// element type.
const OF_A_DUMP: usize = 128;

pub(super) fn dump() -> Made {
    let valid = vec![encode(&small()?)?, half(), state()];
    Ok(Reader::of_file(folder()?, "gradients.bin", OF_A_DUMP, valid, |path| {
        told(Gradients::read(path, Some(&SIZES)))
    }))
}

/// The model of a debug state that is there already.
#[expect(clippy::unnecessary_wraps, reason = "made as every reader is")]
pub(super) fn llm_c() -> Made {
    let state = state();
    let valid = vec![words(&MODEL, HEADER), words(&MODEL, HEADER + 64)];
    Ok(Reader::of_bytes(OF_A_DUMP, valid, move |bytes| {
        let sizes = Sizes::of_model(bytes)?;
        told(Gradients::of_bytes("a state", &state, Some(&sizes)))
    }))
}
