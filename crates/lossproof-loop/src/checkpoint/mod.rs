//! Checkpoints: everything that the rest of a run depends on, in one folder that is there whole or not at all.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.safetensors` | the parameters, under the trainer's names (Hugging Face's) |
//! | `first-moments.safetensors`, `second-moments.safetensors` | what the update rule remembers, where it does |
//! | `run.json` | settings, environment and progress |
//! | `manifest.json` | the version of this format, and the length and SHA-256 of every other file |
//!
//! A folder is written beside its place under a name that no reader looks at, every file is synced, and the folder is
//! renamed last. What a crash or a full disk leaves behind has that other name, and the next write clears it away.

mod disk;
mod error;
mod folder;
mod manifest;
mod mismatch;

use crate::{Progress, Settings};
pub use disk::{Disk, RealDisk};
pub use error::{CheckpointError, Problem};
pub use folder::{lock, newest, prune};
use lossproof_subject::{TrainerState, safetensors};
use manifest::Manifest;
pub use manifest::sha256;
pub use mismatch::{Difference, Mismatch};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const RUN: &str = "run.json";
const PARAMETERS: &str = "model.safetensors";
const FIRST_MOMENTS: &str = "first-moments.safetensors";
const SECOND_MOMENTS: &str = "second-moments.safetensors";

/// Everything that the rest of a run depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the run was told.
    pub settings: Settings,
    /// With what it ran.
    pub environment: Environment,
    /// How far it had come.
    pub progress: Progress,
    /// Parameters and moments.
    pub state: TrainerState,
}

/// With what a run computes: another one does not give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Name and version of the trainer.
    pub trainer: String,
    /// What it computes with.
    pub framework: String,
    /// The model's configuration.
    pub config: String,
    /// Element type.
    pub dtype: String,
    /// Where it computes.
    pub device: String,
    /// Threads it may use.
    pub threads: usize,
    /// SHA-256 of the text.
    pub text: String,
}

/// The file `run.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    settings: Settings,
    environment: Environment,
    progress: Progress,
    updates_of_rule: u32,
}

impl Checkpoint {
    /// Writes the checkpoint into a folder of checkpoints, and says where it lies.
    ///
    /// # Errors
    /// When something cannot be written. Then all checkpoints that were there still are.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, CheckpointError> {
        self.write_on(folder, &RealDisk)
    }

    /// The same on another disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_on(&self, folder: &Path, disk: &dyn Disk) -> Result<PathBuf, CheckpointError> {
        let name = folder::name(&self.progress);
        let place = folder.join(&name);
        let files = self.files().map_err(|problem| CheckpointError::new(&place, problem))?;
        if place.is_dir() {
            // By bytes: a number that is none equals nothing.
            let manifest = fs::read(place.join(manifest::NAME)).ok();
            let same =
                files.last().map(|(_, bytes)| bytes) == manifest.as_ref() && Self::read(&place).is_ok();
            return if same { Ok(place) } else { Err(CheckpointError::new(&place, Problem::Occupied)) };
        }
        let partial = folder::partial(folder, &name);
        CheckpointError::at(folder, disk.create_folder(folder))?;
        CheckpointError::at(folder, folder::clear_partial(folder, disk))?;
        CheckpointError::at(&partial, disk.create_folder(&partial))?;
        for (file, bytes) in &files {
            let path = partial.join(file);
            CheckpointError::at(&path, disk.write_file(&path, bytes))?;
        }
        CheckpointError::at(&partial, disk.sync_folder(&partial))?;
        CheckpointError::at(&place, disk.rename(&partial, &place))?;
        CheckpointError::at(folder, disk.sync_folder(folder))?;
        Ok(place)
    }

    /// Its files, the manifest last.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>, Problem> {
        let run = RunFile {
            settings: self.settings,
            environment: self.environment.clone(),
            progress: self.progress,
            updates_of_rule: self.state.updates,
        };
        let mut files = vec![
            (PARAMETERS.to_owned(), safetensors::encode(&self.state.parameters)?),
            (RUN.to_owned(), json(&run)?),
        ];
        let moments =
            [(FIRST_MOMENTS, &self.state.first_moments), (SECOND_MOMENTS, &self.state.second_moments)];
        for (name, tensors) in moments {
            if !tensors.is_empty() {
                files.push((name.to_owned(), safetensors::encode(tensors)?));
            }
        }
        let manifest = Manifest::of(&files);
        files.push((manifest::NAME.to_owned(), json(&manifest)?));
        Ok(files)
    }

    /// Reads the checkpoint in this folder.
    ///
    /// # Errors
    /// Naming the file and what is wrong with it.
    pub fn read(place: &Path) -> Result<Self, CheckpointError> {
        let manifest_path = place.join(manifest::NAME);
        let bytes = CheckpointError::at(&manifest_path, fs::read(&manifest_path))?;
        let manifest =
            Manifest::parse(&bytes).map_err(|problem| CheckpointError::new(&manifest_path, problem))?;
        let mut files = BTreeMap::new();
        for name in manifest.files() {
            let path = place.join(name);
            let bytes = CheckpointError::at(&path, fs::read(&path))?;
            manifest.check(name, &bytes).map_err(|problem| CheckpointError::new(&path, problem))?;
            files.insert(name.to_owned(), bytes);
        }
        for needed in [RUN, PARAMETERS] {
            if !files.contains_key(needed) {
                let problem = Problem::Missing { file: needed.to_owned() };
                return Err(CheckpointError::new(&manifest_path, problem));
            }
        }
        let tensors = |name: &str| match files.get(name) {
            None => Ok(BTreeMap::new()),
            Some(bytes) => safetensors::decode(bytes)
                .map_err(|problem| CheckpointError::new(&place.join(name), problem.into())),
        };
        let run: RunFile = serde_json::from_slice(&files[RUN])
            .map_err(|error| CheckpointError::new(&place.join(RUN), Problem::json(error)))?;
        let state = TrainerState {
            updates: run.updates_of_rule,
            parameters: tensors(PARAMETERS)?,
            first_moments: tensors(FIRST_MOMENTS)?,
            second_moments: tensors(SECOND_MOMENTS)?,
        };
        Ok(Self { settings: run.settings, environment: run.environment, progress: run.progress, state })
    }

    /// Whether a run with these settings in this environment goes on as this one would have.
    ///
    /// # Errors
    /// Naming everything that differs.
    pub fn check(&self, settings: &Settings, environment: &Environment) -> Result<(), Mismatch> {
        Mismatch::between(&(&self.settings, &self.environment), &(settings, environment))
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Problem::json)?;
    bytes.push(b'\n');
    Ok(bytes)
}
