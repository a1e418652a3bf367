//! The sequences of a micro-batch as the rectangle a forward pass works on.

use lossproof_spec::{MicroBatch, Sequence};

/// Sequences padded on the right to the longest of them, flattened row by row.
pub(crate) struct PaddedRows {
    /// Number of sequences.
    pub(crate) count: usize,
    /// Positions per row, padding included.
    pub(crate) width: usize,
    /// Token ids, `count × width`.
    pub(crate) input_ids: Vec<usize>,
    /// Rows of the position embedding, `count × width`.
    pub(crate) position_ids: Vec<usize>,
    /// Document numbers, `count × width`; 0 is padding, the sequences' own or that on the right.
    documents: Vec<u32>,
}

impl PaddedRows {
    pub(crate) fn new(micro_batch: &MicroBatch) -> Self {
        let sequences = micro_batch.sequences();
        let width = sequences.iter().map(Sequence::len).max().unwrap_or(0);
        // Token 0 at position 0 stands in for padding.
        let flat = |field: fn(&Sequence) -> &[u32]| -> Vec<u32> {
            let padded =
                |s| -> Vec<u32> { field(s).iter().copied().chain([0].repeat(width - s.len())).collect() };
            sequences.iter().flat_map(padded).collect()
        };
        let indices = |ids: Vec<u32>| ids.into_iter().map(|id| id as usize).collect();
        Self {
            count: sequences.len(),
            width,
            input_ids: indices(flat(Sequence::input_ids)),
            position_ids: indices(flat(Sequence::position_ids)),
            documents: flat(Sequence::segment_ids),
        }
    }

    /// The document of a position of a row, 0 for padding.
    pub(crate) fn document(&self, row: usize, position: usize) -> u32 {
        self.documents[row * self.width + position]
    }

    /// Whether a position is padding.
    pub(crate) fn padded(&self) -> bool {
        self.documents.contains(&0)
    }
}
