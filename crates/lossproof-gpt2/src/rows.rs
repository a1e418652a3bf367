//! Ragged sequences as the rectangle a forward pass works on.

use lossproof_spec::Sequence;
use lossproof_subject::{BatchDropout, Dropout, DropoutSite, TrainingBatch};

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
    /// Of each row, how many positions from the start every position sees.
    prefixes: Vec<usize>,
    /// What is dropped in training mode.
    dropped: Option<BatchDropout>,
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
            prefixes: vec![0; sequences.len()],
            dropped: None,
        }
    }

    /// The rows of a batch that a loop hands over, in training mode under this dropout.
    pub(crate) fn of(batch: &TrainingBatch, dropout: &Dropout) -> Self {
        let sequences: Vec<_> = batch.micro_batch().sequences().iter().collect();
        let rows = Self::new(&sequences);
        let dropped = dropout.drops().then(|| BatchDropout::new(*dropout, batch.places(), rows.width));
        Self { prefixes: batch.prefixes().to_vec(), dropped, ..rows }
    }

    /// The dropout factors of what a site has for every position, `count × width × channels`; `None` where nothing
    /// is dropped.
    pub(crate) fn dropped_channels(&self, site: DropoutSite, channels: usize) -> Option<Vec<f64>> {
        self.dropped.as_ref()?.channels(site, channels)
    }

    /// The dropout factors of the attention weights of a block, `count × heads × width × width`; `None` where
    /// nothing is dropped.
    pub(crate) fn dropped_attention(&self, layer: u32, heads: usize) -> Option<Vec<f64>> {
        self.dropped.as_ref()?.attention(layer, heads)
    }

    /// What is added to the attention scores, `count × width (query) × width (key)`: 0 where the query may see the key,
    /// −∞ elsewhere. A query sees the keys of its own document up to itself and those of the prefix; padding
    /// sees itself, so that no row of the softmax is empty.
    pub(crate) fn attention_bias(&self) -> Vec<f64> {
        let mut bias = vec![f64::NEG_INFINITY; self.count * self.width * self.width];
        for (row, segments) in self.segment_ids.chunks_exact(self.width).enumerate() {
            for (query, &document) in segments.iter().enumerate() {
                let start = (row * self.width + query) * self.width;
                let seen = self.prefixes[row].clamp(query + 1, self.width);
                for (key, &other) in segments[..seen].iter().enumerate() {
                    if key == query || (document != 0 && document == other) {
                        bias[start + key] = 0.0;
                    }
                }
            }
        }
        bias
    }
}
