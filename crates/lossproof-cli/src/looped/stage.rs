//! What the runs have in common: models, corpora and settings.

use crate::{source_text::SourceText, subjects};
use lossproof_gpt2::Config;
use lossproof_loop::{
    Corpus, Event, Length, Objective, Remainder, Run, Schedule, SeededSampler, Semantics, Settings,
    TextCorpus, adam_w,
};
use lossproof_spec::{BatchError, Dtype};
use lossproof_subject::{LoopTrainer, Sample, SamplePlace};
use miette::IntoDiagnostic;

/// Both semantics, what is lawful first.
pub(super) const BOTH: [Semantics; 2] = [Semantics::LAWFUL, Semantics::RUN_CLM_NO_TRAINER];

/// A model on libtorch in double precision, at the initial parameters of seed 0.
///
/// # Errors
/// When libtorch fails.
pub(super) fn trainer(config: Config) -> miette::Result<Box<dyn LoopTrainer>> {
    subjects::theirs_for_a_loop(config, Dtype::F64, &*subjects::initial(config, 0))
}

/// Settings in which nothing divides: a micro-batch has 3 blocks, an update 4 micro-batches, a validation batch 8
/// blocks.
pub(super) fn settings(semantics: Semantics, block: usize) -> Settings {
    Settings {
        semantics,
        objective: Objective::Causal,
        block,
        remainder: Remainder::Dropped,
        validation_percent: 20,
        batch: 3,
        evaluation_batch: 8,
        accumulate: 4,
        ranks: 1,
        length: Length::Epochs(3),
        seed: 0,
        rule: adam_w(0.1),
        learning_rate: 0.01,
        schedule: Schedule::Linear,
        warm_up: 2,
        clip: None,
        label_smoothing: 0.0,
        dropout: 0.0,
        evaluate_every: 0,
    }
}

/// The first blocks of the shipped text, so many of them.
pub(super) struct FirstBlocks {
    text: TextCorpus,
    training: usize,
    validation: usize,
}

impl FirstBlocks {
    /// So many blocks of the model's tokens to train on, and so many to validate with.
    ///
    /// # Errors
    /// When the text has not that many.
    pub(super) fn new(
        config: Config,
        block: usize,
        training: usize,
        validation: usize,
    ) -> miette::Result<Self> {
        let vocabulary = config.shape().vocabulary;
        let lines = SourceText::read(None)?.lines(vocabulary)?;
        let settings = settings(Semantics::LAWFUL, block);
        let text = TextCorpus::new(&lines, u32::try_from(vocabulary).into_diagnostic()?, &settings);
        let text = text.into_diagnostic()?;
        if text.training_blocks().len() < training || text.validation_blocks().len() < validation {
            miette::bail!("the shipped text has no {training} and {validation} blocks of {block} tokens");
        }
        Ok(Self { text, training, validation })
    }

    /// A block, the first being number 0.
    pub(super) fn block(&self, number: usize) -> &[u32] {
        &self.text.training_blocks()[number]
    }
}

impl Corpus for FirstBlocks {
    fn training_samples(&self) -> usize {
        self.training
    }

    fn validation_samples(&self) -> usize {
        self.validation
    }

    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError> {
        self.text.training(index, place)
    }

    fn validation(&self, index: usize, epoch: u32) -> Result<Sample, BatchError> {
        self.text.validation(index, epoch)
    }
}

/// A whole run of a fresh model.
///
/// # Errors
/// When the trainer fails.
pub(super) fn run(config: Config, corpus: &dyn Corpus, settings: &Settings) -> miette::Result<Vec<Event>> {
    let mut trainer = trainer(config)?;
    let sampler = SeededSampler::new(corpus.training_samples(), settings);
    let mut run = Run::new(&mut *trainer, corpus, &sampler, settings).into_diagnostic()?;
    run.finish().into_diagnostic()
}
