//! Ragged sequences as the rectangle libtorch computes on.

use crate::dim;
use lossproof_spec::{IGNORE_INDEX, MicroBatch, Sequence};
use lossproof_subject::{BatchDropout, Dropout, DropoutSite, TrainingBatch};
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
    /// Of each row, how many positions from the start every position sees.
    prefixes: Vec<usize>,
    /// What is dropped in training mode.
    dropped: Option<BatchDropout>,
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
            prefixes: vec![0; rows],
            dropped: None,
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

    /// Rows for a batch that a loop hands over, in training mode under this dropout.
    pub(crate) fn training(batch: &TrainingBatch, dropout: &Dropout) -> Self {
        let padded = Self::supervised(batch.micro_batch());
        let dropped = dropout.drops().then(|| BatchDropout::new(*dropout, batch.places(), padded.width));
        Self { prefixes: batch.prefixes().to_vec(), dropped, ..padded }
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

    /// Which keys a query does not see, `[n, 1, l, l]`: later ones that are not of the prefix, and those of another
    /// document.
    pub(crate) fn hidden_keys(&self, device: Device) -> Result<Tensor, TchError> {
        let mut hidden = Vec::with_capacity(self.rows * self.width * self.width);
        for (documents, &prefix) in self.documents.chunks(self.width).zip(&self.prefixes) {
            for (query, own) in documents.iter().enumerate() {
                for (key, other) in documents.iter().enumerate() {
                    let later = key > query && key >= prefix;
                    // Padding sees itself alone: what stands after it is padding too.
                    hidden.push(later || other != own || (*own == 0 && key > query));
                }
            }
        }
        let (n, l) = (dim(self.rows), dim(self.width));
        Tensor::f_from_slice(&hidden)?.f_view([n, 1, l, l])?.f_to_device(device)
    }

    /// The dropout factors of what a site has for every position, `[n·l, channels]`; `None` where nothing is dropped.
    pub(crate) fn dropped_channels(
        &self,
        site: DropoutSite,
        channels: i64,
        like: &Tensor,
    ) -> Result<Option<Tensor>, TchError> {
        let size = usize::try_from(channels).unwrap_or_default();
        let factors = self.dropped.as_ref().and_then(|dropped| dropped.channels(site, size));
        let shape = [dim(self.rows * self.width), channels];
        factors.map(|factors| on(&factors, &shape, like)).transpose()
    }

    /// The dropout factors of the attention weights of a block, `[n, heads, l, l]`; `None` where nothing is dropped.
    pub(crate) fn dropped_attention(
        &self,
        layer: u32,
        heads: i64,
        like: &Tensor,
    ) -> Result<Option<Tensor>, TchError> {
        let size = usize::try_from(heads).unwrap_or_default();
        let factors = self.dropped.as_ref().and_then(|dropped| dropped.attention(layer, size));
        let (n, l) = (dim(self.rows), dim(self.width));
        factors.map(|factors| on(&factors, &[n, heads, l, l], like)).transpose()
    }

    /// [`labels`](Self::labels) as a tensor, `[n·(l − 1)]`.
    pub(crate) fn label_tensor(&self, device: Device) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(&self.labels)?.f_to_device(device)
    }
}

/// Values as a tensor of a shape, of the kind and on the device of another.
fn on(values: &[f64], shape: &[i64], like: &Tensor) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_view(shape)?.f_to_kind(like.kind())?.f_to_device(like.device())
}
