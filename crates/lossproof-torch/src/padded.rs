//! Ragged sequences as the rectangle libtorch computes on.

use crate::dim;
use lossproof_spec::{IGNORE_INDEX, MicroBatch, Sequence};
use tch::{Device, TchError, Tensor};

/// Sequences padded on the right to the longest of them.
pub(crate) struct Padded {
    rows: usize,
    width: usize,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    /// The packed document each position belongs to, 0 for padding, the sequence's own or ours. No token sees padding;
    /// padding sees itself, so that no row of the softmax is empty.
    documents: Vec<u32>,
    labels: Vec<i64>,
}

impl Padded {
    /// Rows for `sequences`, where the prediction made at a position is scored against `label(sequence, position)`.
    pub(crate) fn new<'a>(
        sequences: impl Iterator<Item = &'a Sequence> + Clone,
        label: impl Fn(&Sequence, usize) -> i64,
    ) -> Self {
        let rows = sequences.clone().count();
        let width = sequences.clone().map(Sequence::len).max().unwrap_or(1);
        let mut padded = Self {
            rows,
            width,
            tokens: vec![0; rows * width],
            positions: vec![0; rows * width],
            documents: vec![0; rows * width],
            labels: vec![IGNORE_INDEX; rows * (width - 1)],
        };
        for (row, sequence) in sequences.enumerate() {
            for position in 0..sequence.len() {
                let place = row * width + position;
                padded.tokens[place] = i64::from(sequence.input_ids()[position]);
                padded.positions[place] = i64::from(sequence.position_ids()[position]);
                padded.documents[place] = sequence.segment_ids()[position];
            }
            for position in 0..sequence.len() - 1 {
                padded.labels[row * (width - 1) + position] = label(sequence, position);
            }
        }
        padded
    }

    /// Rows for a micro-batch, every prediction scored against its own label.
    pub(crate) fn supervised(micro_batch: &MicroBatch) -> Self {
        Self::new(micro_batch.sequences().iter(), |sequence, position| sequence.labels()[position + 1])
    }

    /// Number of sequences, `n`.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Positions of each row, `l`.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The label of each prediction, the ignore index where it is not scored: `n` rows of `l − 1`.
    pub(crate) fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// Number of scored predictions per row.
    pub(crate) fn scored(&self) -> impl Iterator<Item = usize> {
        let predictions = self.width - 1;
        (0..self.rows).map(move |row| {
            let labels = &self.labels[row * predictions..][..predictions];
            labels.iter().filter(|&&label| label != IGNORE_INDEX).count()
        })
    }

    /// Token ids, `[n·l]`.
    pub(crate) fn tokens(&self, device: Device) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(&self.tokens)?.f_to_device(device)
    }

    /// Rows of the position embedding, `[n·l]`.
    pub(crate) fn positions(&self, device: Device) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(&self.positions)?.f_to_device(device)
    }

    /// Which keys a query does not see, `[n, 1, l, l]`: later ones, and those of another document.
    pub(crate) fn hidden_keys(&self, device: Device) -> Result<Tensor, TchError> {
        let mut hidden = Vec::with_capacity(self.rows * self.width * self.width);
        for documents in self.documents.chunks(self.width) {
            for (query, own) in documents.iter().enumerate() {
                hidden.extend(documents.iter().enumerate().map(|(key, other)| key > query || other != own));
            }
        }
        let (n, l) = (dim(self.rows), dim(self.width));
        Tensor::f_from_slice(&hidden)?.f_view([n, 1, l, l])?.f_to_device(device)
    }

    /// [`labels`](Self::labels) as a tensor, `[n·(l − 1)]`.
    pub(crate) fn label_tensor(&self, device: Device) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(&self.labels)?.f_to_device(device)
    }
}
