//! From tokens to blocks, and from blocks to the samples that a loop trains on.

use crate::{Objective, Remainder, Settings, semantics::BlockSource};
use lossproof_spec::BatchError;
use lossproof_subject::{Sample, SamplePlace};

/// Lines that `run_clm_no_trainer.py` maps at once, `datasets`' own default.
const MAPPED_LINES: usize = 1000;

/// The epoch that the masks of a validation belong to: they are the same at every validation.
const VALIDATION_EPOCH: u32 = u32::MAX;

/// What a loop trains on and is validated with.
pub trait Corpus {
    /// Number of samples of an epoch.
    fn training_samples(&self) -> usize;

    /// Number of samples of a validation.
    fn validation_samples(&self) -> usize;

    /// The sample with this index, below [`training_samples`](Self::training_samples), at its place in an
    /// epoch.
    ///
    /// # Errors
    /// When it makes no sequence.
    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError>;

    /// The sample with this index, below [`validation_samples`](Self::validation_samples), as the validation of an
    /// epoch has it. Ours is the same in all of them; scripts may mask it anew.
    ///
    /// # Errors
    /// When it makes no sequence.
    fn validation(&self, index: usize, epoch: u32) -> Result<Sample, BatchError>;
}

/// The blocks of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextCorpus {
    training: Vec<Vec<u32>>,
    validation: Vec<Vec<u32>>,
    objective: Objective,
    vocabulary: u32,
    seed: u64,
}

impl TextCorpus {
    /// The blocks of a text, given as the tokens of its lines: the first of them are kept for validation.
    ///
    /// # Errors
    /// When no block is left to train on, or a token is not of the vocabulary.
    pub fn new(lines: &[Vec<u32>], vocabulary: u32, settings: &Settings) -> Result<Self, CorpusError> {
        let tokens = lines.iter().flatten();
        if let Some(&token) = tokens.clone().find(|&&token| token >= vocabulary) {
            return Err(CorpusError::Vocabulary { token, vocabulary });
        }
        let held_out = percent_of(lines.len(), settings.validation_percent);
        let (validation, training) = lines.split_at(held_out.min(lines.len()));
        let corpus = Self {
            training: blocks(training, settings),
            validation: blocks(validation, settings),
            objective: settings.objective,
            vocabulary,
            seed: settings.seed,
        };
        if corpus.training.is_empty() {
            let tokens = tokens.count();
            return Err(CorpusError::TooShort { tokens, block: settings.block });
        }
        Ok(corpus)
    }

    /// The blocks that are trained on.
    #[must_use]
    pub fn training_blocks(&self) -> &[Vec<u32>] {
        &self.training
    }

    /// The blocks of a validation.
    #[must_use]
    pub fn validation_blocks(&self) -> &[Vec<u32>] {
        &self.validation
    }
}

impl Corpus for TextCorpus {
    fn training_samples(&self) -> usize {
        self.training.len()
    }

    fn validation_samples(&self) -> usize {
        self.validation.len()
    }

    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError> {
        self.objective.sample(&self.training[index], place, self.vocabulary, self.seed)
    }

    fn validation(&self, index: usize, _: u32) -> Result<Sample, BatchError> {
        let sample = u32::try_from(index).unwrap_or(u32::MAX);
        let place = SamplePlace { epoch: VALIDATION_EPOCH, sample };
        self.objective.sample(&self.validation[index], place, self.vocabulary, self.seed)
    }
}

/// So many hundredths of some lines, to the nearest line and from the middle to an even one: as Python rounds, and so
/// `datasets` the slice `train[:5%]`.
fn percent_of(lines: usize, percent: u32) -> usize {
    let hundredths = lines * percent as usize;
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    whole + usize::from(rest > 50 || (rest == 50 && !whole.is_multiple_of(2)))
}

/// The blocks of some lines, as declared.
fn blocks(lines: &[Vec<u32>], settings: &Settings) -> Vec<Vec<u32>> {
    let at_once = match settings.semantics.blocks {
        BlockSource::WholeText => lines.len().max(1),
        BlockSource::ThousandLines => MAPPED_LINES,
    };
    let mut blocks = Vec::new();
    for lines in lines.chunks(at_once) {
        let tokens: Vec<u32> = lines.iter().flatten().copied().collect();
        for block in tokens.chunks(settings.block) {
            let short = block.len() < settings.block;
            if !short || (settings.remainder == Remainder::Kept && block.len() >= 2) {
                blocks.push(block.to_vec());
            }
        }
    }
    blocks
}

/// Why a text is nothing to train on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// Not one block.
    #[error(
        "a text of {tokens} tokens leaves no block of {block} to train on: give a longer text or a shorter block"
    )]
    TooShort {
        /// Tokens of the whole text.
        tokens: usize,
        /// Tokens of a block.
        block: usize,
    },
    /// A token that the model does not know.
    #[error("token {token} is not of a vocabulary of {vocabulary}: take a larger model or other tokens")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Number of tokens of the model.
        vocabulary: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rounded_as_python_rounds() {
        let kept = [(10, 5), (30, 5), (50, 5), (102, 15), (463, 5), (7, 0)];
        assert_eq!(kept.map(|(lines, percent)| percent_of(lines, percent)), [0, 2, 2, 15, 23, 0]);
    }
}
