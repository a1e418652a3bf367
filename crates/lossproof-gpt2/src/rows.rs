//! Ragged sequences as the rectangle a forward pass works on.

use lossproof_spec::Sequence;

/// Sequences padded on the right to the width of the longest, flattened row by row.
pub(crate) struct Rows {
    /// Number of sequences.
    pub(crate) count: usize,
    /// Positions per row, padding included.
    pub(crate) width: usize,
    /// Token ids, `count × width`.
    pub(crate) input_ids: Vec<usize>,
    /// Rows of the position embedding, `count × width`.
    pub(crate) position_ids: Vec<usize>,
    /// Document numbers, `count × width`; 0 is padding.
    segment_ids: Vec<u32>,
}

impl Rows {
    pub(crate) fn new(sequences: &[&Sequence]) -> Self {
        let width = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        // Token 0 and position 0 stand in for padding: nothing attends to it and nothing is predicted from it.
        let flat = |field: fn(&Sequence) -> &[u32]| -> Vec<u32> {
            let padded =
                |s: &&Sequence| field(s).iter().copied().chain(std::iter::repeat(0)).take(width).collect();
            sequences.iter().flat_map(|s| -> Vec<u32> { padded(s) }).collect()
        };
        let indices = |values: Vec<u32>| values.into_iter().map(|value| value as usize).collect();
        Self {
            count: sequences.len(),
            width,
            input_ids: indices(flat(Sequence::input_ids)),
            position_ids: indices(flat(Sequence::position_ids)),
            segment_ids: flat(Sequence::segment_ids),
        }
    }

    /// What is added to the attention scores, `count × width (query) × width (key)`: 0 where the query may see the key,
    /// −∞ elsewhere. A query sees the keys of its own document up to itself; padding sees itself, so that no row of the
    /// softmax is empty.
    pub(crate) fn attention_bias(&self) -> Vec<f64> {
        let mut bias = vec![f64::NEG_INFINITY; self.count * self.width * self.width];
        for (row, segments) in self.segment_ids.chunks_exact(self.width).enumerate() {
            for (query, &document) in segments.iter().enumerate() {
                let start = (row * self.width + query) * self.width;
                for (key, &other) in segments[..=query].iter().enumerate() {
                    if key == query || (document != 0 && document == other) {
                        bias[start + key] = 0.0;
                    }
                }
            }
        }
        bias
    }
}
