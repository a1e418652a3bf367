//! The samples of a recording, in their order.

use super::file::{Masked, MaskedRow, Recording, RecordingError};
use crate::{Corpus, EpochSample, GlobalMicroBatch, Sampler, TextCorpus, checkpoint::sha256};
use lossproof_spec::BatchError;
use lossproof_subject::{Sample, SamplePlace};

impl Recording {
    /// The samples of the text that was recorded, which is given whole.
    ///
    /// # Errors
    /// When it is another text, or our blocks are not as many as those recorded.
    pub fn corpus(&self, text: &[u8], vocabulary: u32) -> Result<RecordedCorpus<'_>, RecordingError> {
        let recorded = &self.json.settings;
        let text = &text[..text.len().min(recorded.text_bytes)];
        if sha256(text) != recorded.text_sha256 {
            return Err(RecordingError::Text);
        }
        let modulus = vocabulary.min(256);
        let line = |line: &[u8]| line.iter().map(|&byte| u32::from(byte) % modulus).collect::<Vec<u32>>();
        let lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').map(line).collect();
        let blocks = TextCorpus::new(&lines, vocabulary, &self.settings()?)?;
        let found = [blocks.training_blocks().len(), blocks.validation_blocks().len()];
        let expected = [self.json.training_blocks, self.json.validation_blocks];
        if found != expected {
            return Err(RecordingError::Blocks { found, expected });
        }
        Ok(RecordedCorpus { blocks, masked: self.json.masked.as_ref(), recording: self })
    }

    /// The recorded order of the samples.
    #[must_use]
    pub fn sampler(&self) -> RecordedSampler<'_> {
        RecordedSampler { recording: self }
    }
}

/// The recorded order of the samples. The micro-batches that a resumed run has skipped are empty.
#[derive(Clone, Copy, Debug)]
pub struct RecordedSampler<'a> {
    pub(super) recording: &'a Recording,
}

impl Sampler for RecordedSampler<'_> {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        let mut micro_batches = vec![Vec::new(); self.recording.skipped(epoch)];
        let settings = &self.recording.json.settings;
        let per_step = u32::try_from(settings.batch * settings.ranks).unwrap_or(u32::MAX);
        let skipped = u32::try_from(micro_batches.len()).unwrap_or(u32::MAX);
        let mut places = skipped.saturating_mul(per_step)..;
        for ranks in self.recording.epoch(epoch).map(|one| one.order.as_slice()).unwrap_or_default() {
            let mut placed = Vec::with_capacity(ranks.len());
            for rank in ranks {
                let sample = |(&index, place)| EpochSample { index, place };
                placed.push(rank.iter().zip(places.by_ref()).map(sample).collect());
            }
            micro_batches.push(placed);
        }
        micro_batches
    }
}

/// The recorded samples: blocks of the text, and what a collator has made of them.
#[derive(Debug)]
pub struct RecordedCorpus<'a> {
    pub(super) blocks: TextCorpus,
    pub(super) masked: Option<&'a Masked>,
    pub(super) recording: &'a Recording,
}

impl RecordedCorpus<'_> {
    /// Row number `row` of an epoch, of those that the collator made for training or for a validation.
    fn masked_row(&self, rows: &[Vec<Vec<Vec<MaskedRow>>>], epoch: u32, row: usize) -> Option<MaskedRow> {
        let epochs = &self.recording.json.epochs;
        let epoch = epochs.iter().position(|one| one.epoch == epoch)?;
        rows.get(epoch)?.iter().flatten().flatten().nth(row).cloned()
    }
}

impl Corpus for RecordedCorpus<'_> {
    fn training_samples(&self) -> usize {
        self.blocks.training_samples()
    }

    fn validation_samples(&self) -> usize {
        self.blocks.validation_samples()
    }

    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError> {
        // Rows are those that were trained on: what a resume has skipped is not among them.
        let settings = &self.recording.json.settings;
        let skipped = self.recording.skipped(place.epoch) * settings.batch * settings.ranks;
        let row = usize::try_from(place.sample).unwrap_or(usize::MAX).saturating_sub(skipped);
        match self.masked.and_then(|rows| self.masked_row(&rows.training, place.epoch, row)) {
            Some(MaskedRow { input_ids, labels }) => Sample::masked(input_ids, labels, place),
            None => self.blocks.training(index, place),
        }
    }

    fn validation(&self, index: usize, epoch: u32) -> Result<Sample, BatchError> {
        match self.masked.and_then(|rows| self.masked_row(&rows.validation, epoch, index)) {
            Some(MaskedRow { input_ids, labels }) => {
                Sample::masked(input_ids, labels, SamplePlace::default())
            }
            None => self.blocks.validation(index, epoch),
        }
    }
}
