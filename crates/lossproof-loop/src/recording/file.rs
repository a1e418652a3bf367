//! The files of a recording.

use crate::{
    Length, Objective, Remainder, Schedule, Semantics, Settings, adam_w,
    corpus::CorpusError,
    semantics::{DecayGroups, Tracking},
};
use lossproof_spec::{concise, shortened};
use lossproof_subject::{
    TensorSet, TrainerState,
    safetensors::{self, CodecError},
};
use serde::{Deserialize, Deserializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// The format that is read.
const FORMAT: u64 = 1;

/// A recorded run.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    pub(super) json: RecordingJson,
    /// Parameters at the beginning of the run.
    pub(super) initial: TensorSet,
    /// The state that the recorded part begins with, where it is the rest of an interrupted run.
    pub(super) resumed: Option<TrainerState>,
    /// Whole states, by update.
    pub(super) whole: BTreeMap<u64, TrainerState>,
}

/// `recording.json`.
#[derive(Debug, Deserialize)]
pub(super) struct RecordingJson {
    format: u64,
    pub(super) how: String,
    pub(super) settings: RecordedSettings,
    pub(super) training_blocks: usize,
    pub(super) validation_blocks: usize,
    pub(super) parameters: Vec<String>,
    pub(super) undecayed: Vec<String>,
    pub(super) resumed: Option<Resumed>,
    pub(super) epochs: Vec<RecordedEpoch>,
    pub(super) micro_batch_losses: Vec<Vec<Vec<Number>>>,
    pub(super) updates: Vec<RecordedUpdate>,
    whole: BTreeSet<u64>,
    pub(super) masked: Option<Masked>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordedSettings {
    pub(super) config: String,
    pub(super) text_bytes: usize,
    pub(super) text_sha256: String,
    block: usize,
    pub(super) batch: usize,
    evaluation_batch: usize,
    validation_percent: u32,
    accumulate: usize,
    pub(super) ranks: usize,
    epochs: u32,
    /// Where the run is not as long as its epochs.
    max_updates: Option<u64>,
    learning_rate: f64,
    schedule: Schedule,
    warm_up: u64,
    weight_decay: f64,
    seed: u64,
    dropout: f64,
    tracking: String,
    decay_groups: String,
    objective: Objective,
}

#[derive(Debug, Deserialize)]
pub(super) struct Resumed {
    pub(super) updates: u64,
    pub(super) starting_epoch: u32,
    pub(super) skipped: usize,
    /// Which of the script's checkpoints.
    pub(super) from: ScriptCheckpoint,
}

/// The two names that the script gives a checkpoint, which is all that it keeps of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ScriptCheckpoint {
    /// `step_N`: after so many updates.
    Step,
    /// `epoch_E`: at the end of an epoch, after its validation.
    Epoch,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordedEpoch {
    pub(super) epoch: u32,
    /// Of each micro-batch, for each rank its samples.
    pub(super) order: Vec<Vec<Vec<usize>>>,
    pub(super) train_loss: Number,
    pub(super) evaluation_loss: Number,
    pub(super) perplexity: Number,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordedUpdate {
    pub(super) update: u64,
    pub(super) epoch: u32,
    pub(super) micro_batches: usize,
    pub(super) learning_rate: f64,
    pub(super) gradient_norms: Vec<Number>,
    pub(super) parameter_norms: Vec<Number>,
    pub(super) projections: Vec<Vec<Number>>,
}

/// What the collator made of the samples of a masked language model.
#[derive(Debug, Deserialize)]
pub(super) struct Masked {
    /// Of each epoch, micro-batch and rank, its rows.
    pub(super) training: Vec<Vec<Vec<Vec<MaskedRow>>>>,
    pub(super) validation: Vec<Vec<Vec<Vec<MaskedRow>>>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct MaskedRow {
    pub(super) input_ids: Vec<u32>,
    pub(super) labels: Vec<i64>,
}

/// A number, which JSON has not for all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        lossproof_trace::number::any::deserialize(from).map(Self)
    }
}

impl Recording {
    /// Reads a folder.
    ///
    /// # Errors
    /// Naming the file and what is wrong with it.
    pub fn read(folder: &Path) -> Result<Self, RecordingError> {
        let path = folder.join("recording.json");
        let bytes = read(&path)?;
        let json: RecordingJson = serde_json::from_slice(&bytes)
            .map_err(|error| RecordingError::Json { path: path.clone(), source: concise(error) })?;
        if json.format != FORMAT {
            return Err(RecordingError::Format { path, found: json.format });
        }
        let initial = tensors(&folder.join("initial.safetensors"))?;
        let mut whole = BTreeMap::new();
        for &update in &json.whole {
            whole.insert(update, state(&folder.join(format!("update-{update}.safetensors")), update)?);
        }
        let resumed = match &json.resumed {
            Some(resumed) => Some(state(&folder.join("resumed.safetensors"), resumed.updates)?),
            None => None,
        };
        Ok(Self { path, json, initial, resumed, whole })
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.json.settings.config
    }

    /// How it was recorded.
    #[must_use]
    pub fn how(&self) -> &str {
        &self.json.how
    }

    /// The settings of our loop that the recorded ones are.
    ///
    /// # Errors
    /// When a switch has a value that is not known.
    pub fn settings(&self) -> Result<Settings, RecordingError> {
        let recorded = &self.json.settings;
        let tracking = match recorded.tracking.as_str() {
            "before-41904" => Tracking::MeansOverWholeEpoch,
            "after-41904" => Tracking::SamplesOfFirstRank,
            other => return Err(self.switch("tracking", other)),
        };
        let decay = match recorded.decay_groups.as_str() {
            "before-42769" => DecayGroups::NotLayerNormByName,
            "after-42769" => DecayGroups::NotNorms,
            other => return Err(self.switch("decay_groups", other)),
        };
        Ok(Settings {
            semantics: Semantics { tracking, decay, ..Semantics::RUN_CLM_NO_TRAINER },
            objective: recorded.objective,
            block: recorded.block,
            remainder: Remainder::Dropped,
            validation_percent: recorded.validation_percent,
            batch: recorded.batch,
            evaluation_batch: recorded.evaluation_batch,
            accumulate: recorded.accumulate,
            ranks: recorded.ranks,
            length: recorded.max_updates.map_or(Length::Epochs(recorded.epochs), Length::Updates),
            seed: recorded.seed,
            rule: adam_w(recorded.weight_decay),
            learning_rate: recorded.learning_rate,
            schedule: recorded.schedule,
            warm_up: recorded.warm_up,
            clip: None,
            label_smoothing: 0.0,
            dropout: recorded.dropout,
            evaluate_every: 0,
        })
    }

    fn switch(&self, name: &'static str, value: &str) -> RecordingError {
        RecordingError::Switch { path: self.path.clone(), name, value: shortened(value) }
    }

    /// Micro-batches that a resumed run has skipped in this epoch.
    pub(super) fn skipped(&self, epoch: u32) -> usize {
        let resumed = self.json.resumed.as_ref().filter(|resumed| resumed.starting_epoch == epoch);
        resumed.map_or(0, |resumed| resumed.skipped)
    }

    pub(super) fn epoch(&self, epoch: u32) -> Option<&RecordedEpoch> {
        self.json.epochs.iter().find(|one| one.epoch == epoch)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RecordingError> {
    fs::read(path).map_err(|source| RecordingError::Io { path: path.to_owned(), source })
}

fn tensors(path: &Path) -> Result<TensorSet, RecordingError> {
    safetensors::decode(&read(path)?)
        .map_err(|source| RecordingError::Tensors { path: path.to_owned(), source })
}

/// Parameters and moments of one file.
fn state(path: &Path, updates: u64) -> Result<TrainerState, RecordingError> {
    let mut state =
        TrainerState { updates: u32::try_from(updates).unwrap_or(u32::MAX), ..TrainerState::default() };
    for (name, tensor) in tensors(path)? {
        let parts = [
            ("parameters.", &mut state.parameters),
            ("first.", &mut state.first_moments),
            ("second.", &mut state.second_moments),
        ];
        for (prefix, part) in parts {
            if let Some(name) = name.strip_prefix(prefix) {
                part.insert(name.to_owned(), tensor.clone());
            }
        }
    }
    Ok(state)
}

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// A file that cannot be read.
    #[error("{} could not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// A file that is no recording.
    #[error("{} is no recording", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A format that is not read.
    #[error("{} is of format {found}, format {FORMAT} is read: record it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Tensors that cannot be read.
    #[error("{}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A switch with a value that is not known.
    #[error("{}: its {name} is `{value}`, which is not known: record it again", path.display())]
    Switch {
        /// The file.
        path: PathBuf,
        /// The switch.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Another text than the one that was recorded.
    #[error("this is not the text that was recorded: give that one with --text")]
    Text,
    /// Our blocks are not as many as those recorded.
    #[error("{found:?} blocks to train on and to validate with, recorded are {expected:?}")]
    Blocks {
        /// What our loop cuts.
        found: [usize; 2],
        /// What was recorded.
        expected: [usize; 2],
    },
    /// No blocks at all.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
}
