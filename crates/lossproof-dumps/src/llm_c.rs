//! The debug state of llm.c (`gpt2_124M_debug_state.bin`): one batch, its logits, its loss and its gradients.
//!
//! Follows `write_state` and `write_tensors` in `train_gpt2.py` of karpathy/llm.c at f1e2ace: 256 integers,
//! of which the third and fourth are B and T; B × T tokens and as many targets; B × T × V logits; the loss;
//! then the gradients in single precision, parameter by parameter and layer by layer, weights as PyTorch's
//! `Linear` has them. The file does not say how large the model is: OpenAI's four are known by the size of the file.

use lossproof_subject::{Tensor, TensorValues};
use std::collections::BTreeMap;

const STATE: i32 = 20_240_327;
const MODEL: i32 = 20_240_326;
/// Integers of a header.
const HEADER: usize = 256;
const WORD: usize = 4;

/// The sizes of a GPT-2 in llm.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Positions that the model has.
    pub positions: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Rows of the embedding, filled up.
    pub padded_vocabulary: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
}

/// OpenAI's GPT-2 of 124M, 355M, 774M and 1558M parameters: layers and width.
const GPT2: [(usize, usize); 4] = [(12, 768), (24, 1024), (36, 1280), (48, 1600)];

impl Sizes {
    fn gpt2(layers: usize, width: usize) -> Self {
        Self { positions: 1024, vocabulary: 50_257, padded_vocabulary: 50_304, layers, width }
    }

    /// The sizes in the header of a model of llm.c (`gpt2_124M.bin`).
    ///
    /// # Errors
    /// When it is none.
    pub fn of_model(bytes: &[u8]) -> Result<Self, String> {
        let header = header(bytes).filter(|header| header[0] == MODEL);
        let header = header.ok_or("it is no model of llm.c: give the .bin file beside the debug state")?;
        let size = |index: usize| {
            usize::try_from(header[index]).map_err(|_| format!("integer {index} of its header is negative"))
        };
        Ok(Self {
            positions: size(2)?,
            vocabulary: size(3)?,
            layers: size(4)?,
            width: size(6)?,
            padded_vocabulary: size(7)?,
        })
    }

    /// The gradients in the order of the file: name without the block's number, shape, whether there is one
    /// in each block.
    fn tensors(&self) -> [(&'static str, Vec<usize>, bool); 16] {
        let c = self.width;
        [
            ("wte.weight", vec![self.padded_vocabulary, c], false),
            ("wpe.weight", vec![self.positions, c], false),
            ("ln_1.weight", vec![c], true),
            ("ln_1.bias", vec![c], true),
            ("attn.c_attn.weight", vec![c.saturating_mul(3), c], true),
            ("attn.c_attn.bias", vec![c.saturating_mul(3)], true),
            ("attn.c_proj.weight", vec![c, c], true),
            ("attn.c_proj.bias", vec![c], true),
            ("ln_2.weight", vec![c], true),
            ("ln_2.bias", vec![c], true),
            ("mlp.c_fc.weight", vec![c.saturating_mul(4), c], true),
            ("mlp.c_fc.bias", vec![c.saturating_mul(4)], true),
            ("mlp.c_proj.weight", vec![c, c.saturating_mul(4)], true),
            ("mlp.c_proj.bias", vec![c], true),
            ("ln_f.weight", vec![c], false),
            ("ln_f.bias", vec![c], false),
        ]
    }

    /// Bytes of a debug state of such a model; `None` where there is no such model, or no such file. Without a width
    /// any number of blocks would take no bytes.
    fn state_bytes(&self, batch: usize, length: usize) -> Option<usize> {
        if [self.width, self.layers, self.vocabulary].contains(&0) {
            return None;
        }
        let tokens = batch.checked_mul(length)?;
        let mut words = tokens.checked_mul(2)?.checked_add(tokens.checked_mul(self.vocabulary)?)?;
        words = words.checked_add(HEADER + 1)?;
        for (_, shape, in_blocks) in self.tensors() {
            let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
            let copies = if in_blocks { self.layers } else { 1 };
            words = words.checked_add(elements.checked_mul(copies)?)?;
        }
        words.checked_mul(WORD)
    }
}

/// The integers at the beginning of a file.
fn header(bytes: &[u8]) -> Option<[i32; HEADER]> {
    let mut header = [0; HEADER];
    let words = bytes.get(..HEADER * WORD)?.as_chunks().0;
    for (word, &bytes) in header.iter_mut().zip(words) {
        *word = i32::from_le_bytes(bytes);
    }
    Some(header)
}

/// Whether bytes begin like a debug state.
pub(crate) fn is_state(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|&first| i32::from_le_bytes(first) == STATE)
}

/// What a debug state holds.
#[derive(Debug)]
pub(crate) struct DebugState {
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) loss: Option<f64>,
}

/// The gradients and the loss of a debug state, all in single precision.
pub(crate) fn read(bytes: &[u8], sizes: Option<&Sizes>) -> Result<DebugState, String> {
    let header = header(bytes).ok_or("it ends inside its header: write it again")?;
    let size = |index: usize| usize::try_from(header[index]).unwrap_or(0);
    let (batch, length) = (size(2), size(3));
    let fits = |sizes: &Sizes| sizes.state_bytes(batch, length) == Some(bytes.len());
    let sizes = match sizes {
        Some(sizes) if fits(sizes) => *sizes,
        Some(sizes) => {
            let expected = sizes.state_bytes(batch, length).map_or("no number of".to_owned(), |n| n.to_string());
            return Err(format!(
                "a batch of {batch} × {length} tokens of a model of these sizes makes {expected} bytes, and it has {}: was \
                 it cut short, or is it another model's?",
                bytes.len()
            ));
        }
        None => GPT2.map(|(layers, width)| Sizes::gpt2(layers, width)).into_iter().find(fits).ok_or_else(|| {
            format!(
                "its {} bytes are none of OpenAI's GPT-2 on a batch of {batch} × {length} tokens: give the model's .bin \
                 file with --model, or write it again if it was cut short",
                bytes.len()
            )
        })?,
    };
    Ok(gradients(bytes, &sizes, batch * length))
}

/// Reads what is known to be there.
fn gradients(bytes: &[u8], sizes: &Sizes, tokens: usize) -> DebugState {
    let mut rest = bytes[HEADER * WORD + tokens * (2 + sizes.vocabulary) * WORD..]
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes));
    let loss = rest.next().map(f64::from);
    let mut tensors = BTreeMap::new();
    for (name, shape, in_blocks) in sizes.tensors() {
        let elements = shape.iter().product();
        for block in 0..if in_blocks { sizes.layers } else { 1 } {
            let name = if in_blocks { format!("h.{block}.{name}") } else { name.to_owned() };
            let values = rest.by_ref().take(elements).collect();
            let tensor = Tensor::new(shape.clone(), TensorValues::F32(values));
            tensors.insert(name, tensor.expect("invariant: the size of the file was that of the tensors"));
        }
    }
    DebugState { tensors, loss }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: Sizes =
        Sizes { positions: 4, vocabulary: 5, padded_vocabulary: 8, layers: 2, width: 2 };

    /// A debug state whose k-th gradient is k.
    pub(crate) fn state(sizes: &Sizes, batch: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = [0_i32; HEADER];
        (head[0], head[1]) = (STATE, 2);
        (head[2], head[3]) = (i32::try_from(batch).unwrap(), i32::try_from(length).unwrap());
        bytes.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend((0..2 * batch * length).flat_map(|_| 1_i32.to_le_bytes()));
        bytes.extend((0..batch * length * sizes.vocabulary).flat_map(|_| 0.5_f32.to_le_bytes()));
        bytes.extend(3.5_f32.to_le_bytes());
        let total = sizes.state_bytes(batch, length).unwrap();
        let mut k = 0.0_f32;
        while bytes.len() < total {
            bytes.extend(k.to_le_bytes());
            k += 1.0;
        }
        bytes
    }

    #[test]
    fn gradients_come_layer_by_layer_after_the_logits() {
        let gradients = read(&state(&SMALL, 2, 3), Some(&SMALL)).unwrap();
        assert_eq!(gradients.loss, Some(3.5));
        let first = |name: &str| gradients.tensors[name].get(0);
        // wte has 8 × 2, wpe 4 × 2 values.
        let firsts = |names: [&str; 5]| names.map(first).to_vec();
        let of = ["wte.weight", "wpe.weight", "h.0.ln_1.weight", "h.1.ln_1.weight", "h.0.ln_1.bias"];
        assert_eq!(firsts(of), vec![0.0, 16.0, 24.0, 26.0, 28.0]);
        assert_eq!(gradients.tensors["h.1.mlp.c_proj.weight"].shape(), [2, 8]);
        assert_eq!(gradients.tensors.len(), 4 + 2 * 12);
    }

    #[test]
    fn sizes_are_known_or_given_and_must_fit() {
        let bytes = state(&SMALL, 2, 3);
        assert!(read(&bytes, None).unwrap_err().contains("give the model's .bin file with --model"));
        assert!(read(&bytes[..bytes.len() - 4], Some(&SMALL)).unwrap_err().contains("cut short"));
        assert!(read(&bytes[..100], Some(&SMALL)).unwrap_err().contains("ends inside its header"));
        let huge = Sizes { width: usize::MAX / 2, ..SMALL };
        assert!(read(&bytes, Some(&huge)).unwrap_err().contains("no number of"));
        let mut model = vec![0_u8; HEADER * WORD];
        for (index, word) in [MODEL, 3, 4, 5, 2, 1, 2, 8].into_iter().enumerate() {
            model[index * WORD..(index + 1) * WORD].copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(Sizes::of_model(&model), Ok(SMALL));
        // A million blocks without a width are as long as none.
        let none = Sizes { width: 0, layers: 1_000_000, ..SMALL };
        let bare = &bytes[..(HEADER + 2 * 3 * 7 + 1) * WORD];
        assert!(read(bare, Some(&none)).unwrap_err().contains("of a model of these sizes"));
        assert!(Sizes::of_model(&bytes).is_err());
    }

    #[test]
    fn a_state_of_gpt2_is_known_by_its_size() {
        let sizes = Sizes::gpt2(12, 768);
        // 124 439 808 parameters and 47 rows of padding, one sequence of one token.
        let expected = 4 * (256 + 2 + 50_257 + 1 + 124_439_808 + 47 * 768);
        assert_eq!(sizes.state_bytes(1, 1), Some(expected));
    }
}
