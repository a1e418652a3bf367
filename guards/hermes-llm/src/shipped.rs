//! The release's own trainer. Parameters go in and come out by checkpoints.

use crate::{failed, model::Model};
use candle_core::Device;
use hermes_llm::{
    Config, Trainer,
    config::TrainingConfig,
    data::{DataLoader, Dataset},
};
use lossproof::SubjectError;
use tempfile::TempDir;

pub(crate) struct Shipped {
    trainer: Trainer,
    folder: TempDir,
}

impl Shipped {
    /// With the parameters of the model, the first `frozen` layers frozen.
    pub(crate) fn new(
        config: &Config,
        training: TrainingConfig,
        model: &Model,
        frozen: usize,
    ) -> Result<Self, SubjectError> {
        let trainer = Trainer::new(config.clone(), training, Device::Cpu).map_err(failed)?;
        let mut new = Self { trainer, folder: TempDir::new().map_err(failed)? };
        new.take(model)?;
        if frozen > 0 {
            // In this order in the release's program.
            new.trainer.freeze_layers(frozen).map_err(failed)?;
        }
        Ok(new)
    }

    /// Takes the parameters of the model.
    fn take(&mut self, model: &Model) -> Result<(), SubjectError> {
        let path = self.folder.path().join("taken.safetensors");
        model.save(&path)?;
        self.trainer.load_checkpoint(&path).map_err(failed)
    }

    /// One epoch of the release over a text, in rows of `row` predictions and micro-batches of `rows` of
    /// them. The model has the parameters after it. Returns the loss that the release reports of the epoch.
    pub(crate) fn epoch(
        &mut self,
        model: &mut Model,
        text: &[u32],
        row: usize,
        rows: usize,
    ) -> Result<f64, SubjectError> {
        self.take(model)?;
        let loss = self.train(text, row, rows)?;
        self.give(model)?;
        Ok(loss)
    }

    /// The same with the parameters that the trainer has itself, and keeps.
    pub(crate) fn train(&mut self, text: &[u32], row: usize, rows: usize) -> Result<f64, SubjectError> {
        self.trainer.train_epoch(&mut loader(text, row, rows)).map_err(failed)
    }

    /// Gives its parameters to the model.
    pub(crate) fn give(&self, model: &mut Model) -> Result<(), SubjectError> {
        let path = self.folder.path().join("given.safetensors");
        self.trainer.save_checkpoint(&path).map_err(failed)?;
        model.load(&path)
    }

    /// The updates that it has made.
    pub(crate) fn updates(&self) -> usize {
        self.trainer.global_step()
    }

    /// The loss that it reports of a text, and of how many batches that is.
    pub(crate) fn evaluate(
        &self,
        text: &[u32],
        row: usize,
        rows: usize,
    ) -> Result<(f64, usize), SubjectError> {
        let mut loader = loader(text, row, rows);
        Ok((self.trainer.evaluate(&mut loader).map_err(failed)?, loader.num_batches()))
    }
}

/// The release's loader of a text, in its order.
fn loader(text: &[u32], row: usize, rows: usize) -> DataLoader {
    DataLoader::new(Dataset::new(text.to_vec(), row), rows, false)
}
