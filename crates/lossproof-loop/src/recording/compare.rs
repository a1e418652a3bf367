//! A recording and our loop, quantity by quantity.
//!
//! Two implementations round in their own ways, so that "equal" needs a bound, and it is measured: our loop runs twice,
//! the second time with the rows of every micro-batch the other way round, which changes nothing but the order of sums.
//! The recording must lie within 16 times what that moves any quantity, and never further than 1e-12. Learning
//! rates are exact, or within 2 units in the last place where a cosine, a square root or a power is in them.
//! Losses that the script tracks in single precision are held to that.
//!
//! The bias of the keys has a gradient of exactly zero in theory. Adam divides the rounding that is there
//! instead by its own size and ε, so that those elements wander: they are held to `Σ_k lr_k·noise_k/ε`
//! absolutely, the noise of an update being 16 units of rounding of the gradient of the tensor they are in.

use super::{
    file::{Number, Recording, RecordingError, RecordingJson},
    quantities::{Followed, PROJECTIONS, follow, structural_zeros},
    row::{Differences, Row},
    structure::structure,
};
use crate::{RowsReversed, RunError, Schedule, Settings};
use lossproof_spec::Rule;
use lossproof_subject::{LoopTrainer, ParameterInfo, Tensor, TensorSet};

/// How many times the measured spread two implementations may be apart.
const SPREADS: f64 = 16.0;
/// And never further than this.
const FURTHEST: f64 = 1e-12;
/// Units of rounding in a gradient that is zero in theory.
const NOISE: f64 = 16.0;

/// A recording and our loop, quantity by quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// How far the trainer moves between two orders of summation.
    pub spread: f64,
    /// The quantities.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Whether every quantity is within its bound.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A recording that cannot be used.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Our loop failed.
    #[error("our loop could not follow the recording")]
    Run(#[from] RunError),
}

/// Holds our loop on a trainer to a recording of the text, which is given whole.
///
/// # Errors
/// When the recording cannot be used, or the trainer fails.
pub fn compare(
    trainer: &mut dyn LoopTrainer,
    recording: &Recording,
    text: &[u8],
) -> Result<Comparison, CompareError> {
    let settings = recording.settings()?;
    let vocabulary = u32::try_from(trainer.info().limits.vocabulary).unwrap_or(u32::MAX);
    let corpus = recording.corpus(text, vocabulary)?;
    let sampler = recording.sampler();
    let ours = follow(trainer, recording, &corpus, &sampler, &settings)?;
    let reversed = follow(trainer, recording, &corpus, &RowsReversed(sampler), &settings)?;
    let spread = numbers_of(&ours).apart(&numbers_of(&reversed), &ours, &settings);
    let spread = spread.iter().map(|row| row.worst).fold(0.0, f64::max);
    let bound = (SPREADS * spread).min(FURTHEST);

    let mut rows = structure(recording, &ours, &settings, sampler);
    rows.push(rates(recording, &ours, &settings));
    for row in recorded_numbers(recording, &ours).apart(&numbers_of(&ours), &ours, &settings) {
        rows.push(Row { bound, ..row });
    }
    rows.extend(epochs(recording, &ours, bound));
    rows.extend(whole(recording, &ours, &settings, bound));
    Ok(Comparison { spread, rows })
}

/// The numbers of all updates.
struct Numbers {
    losses: Vec<Vec<f64>>,
    gradient_norms: Vec<Vec<f64>>,
    parameter_norms: Vec<Vec<f64>>,
    projections: Vec<Vec<f64>>,
}

fn numbers_of(followed: &Followed) -> Numbers {
    let updates = &followed.updates;
    Numbers {
        losses: updates.iter().map(|update| update.losses.concat()).collect(),
        gradient_norms: updates.iter().map(|update| update.gradient_norms.clone()).collect(),
        parameter_norms: updates.iter().map(|update| update.parameter_norms.clone()).collect(),
        projections: updates.iter().map(|update| update.projections.concat()).collect(),
    }
}

/// Those of a recording, parameters in our order.
fn recorded_numbers(recording: &Recording, ours: &Followed) -> Numbers {
    let json = &recording.json;
    let mut numbers = Numbers {
        losses: windows(json),
        gradient_norms: Vec::new(),
        parameter_norms: Vec::new(),
        projections: Vec::new(),
    };
    for update in &json.updates {
        let [mut gradients, mut parameters, mut projections] = [const { Vec::new() }; 3];
        for info in &ours.parameters {
            // A parameter that was not recorded has numbers that equal nothing.
            let place = json.parameters.iter().position(|name| *name == info.name).unwrap_or(usize::MAX);
            let missing = [Number(f64::NAN); PROJECTIONS as usize];
            gradients.push(update.gradient_norms.get(place).map_or(f64::NAN, |norm| norm.0));
            parameters.push(update.parameter_norms.get(place).map_or(f64::NAN, |norm| norm.0));
            let row = update.projections.get(place).map_or(missing.as_slice(), Vec::as_slice);
            projections.extend(row.iter().map(|one| one.0));
        }
        numbers.gradient_norms.push(gradients);
        numbers.parameter_norms.push(parameters);
        numbers.projections.push(projections);
    }
    numbers
}

/// The losses of each update's window: as many micro-batches of its epoch as the update has, one after the other.
fn windows(json: &RecordingJson) -> Vec<Vec<f64>> {
    let mut windows = Vec::with_capacity(json.updates.len());
    for (epoch, losses) in json.epochs.iter().zip(&json.micro_batch_losses) {
        let mut rest = losses.as_slice();
        for update in json.updates.iter().filter(|update| update.epoch == epoch.epoch) {
            let (window, others) = rest.split_at(update.micro_batches.min(rest.len()));
            windows.push(window.iter().flatten().map(|loss| loss.0).collect());
            rest = others;
        }
    }
    windows
}

impl Numbers {
    /// The worst difference of each quantity, without its bound.
    fn apart(&self, others: &Self, ours: &Followed, settings: &Settings) -> Vec<Row> {
        let wandering = wandering(ours, settings);
        let name = |index: usize| ours.parameters.get(index).map_or("?", |info| info.name.as_str());
        let count =
            |index: usize| ours.parameters.get(index).map_or(0, |info| structural_zeros(info).len()) as f64;
        let mut rows = [
            Differences::new("loss of a micro-batch"),
            Differences::new("gradient norm of a tensor"),
            Differences::new("norm of a parameter"),
            Differences::new("projection of a parameter"),
        ];
        for (index, update) in ours.updates.iter().enumerate() {
            let at = |what: &str| format!("update {}{what}", update.update);
            let slack = wandering[index];
            let row = |numbers: &[Vec<f64>]| numbers.get(index).cloned().unwrap_or_default();
            rows[0].all(&row(&self.losses), &row(&others.losses), |_| 0.0, |_, value| value, |_| at(""));
            rows[1].all(
                &row(&self.gradient_norms),
                &row(&others.gradient_norms),
                |_| 0.0,
                |_, value| value,
                |place| at(&format!(", {}", name(place))),
            );
            rows[2].all(
                &row(&self.parameter_norms),
                &row(&others.parameter_norms),
                |place| slack * count(place).sqrt(),
                |_, value| value,
                |place| at(&format!(", {}", name(place))),
            );
            let each = PROJECTIONS as usize;
            let norms = row(&others.parameter_norms);
            rows[3].all(
                &row(&self.projections),
                &row(&others.projections),
                |place| slack * count(place / each),
                |place, value| norms.get(place / each).copied().unwrap_or(value),
                |place| at(&format!(", {}", name(place / each))),
            );
        }
        rows.into_iter().map(|worst| worst.row(0.0)).collect()
    }
}

/// How far an element whose gradient is rounding alone may have wandered, after each update.
fn wandering(ours: &Followed, settings: &Settings) -> Vec<f64> {
    let epsilon = match settings.rule {
        Rule::Adam(adam) | Rule::AdamW(adam) => adam.epsilon,
        Rule::Sgd { .. } => 1.0,
    };
    let mut total = 0.0;
    let mut after = Vec::with_capacity(ours.updates.len());
    for update in &ours.updates {
        let own = |(info, norm): (&ParameterInfo, &f64)| {
            if structural_zeros(info).is_empty() { 0.0 } else { *norm }
        };
        let norm = ours.parameters.iter().zip(&update.gradient_norms).map(own).fold(0.0, f64::max);
        total += update.learning_rate * NOISE * f64::EPSILON * norm / epsilon;
        after.push(total);
    }
    after
}

/// Learning rates, in units in the last place.
fn rates(recording: &Recording, ours: &Followed, settings: &Settings) -> Row {
    let mut worst = Differences::new("learning rate");
    for (recorded, own) in recording.json.updates.iter().zip(&ours.updates) {
        let scale = recorded.learning_rate * f64::EPSILON;
        worst.one(own.learning_rate, recorded.learning_rate, 0.0, scale, || format!("update {}", own.update));
    }
    let bound = match settings.schedule {
        Schedule::Constant | Schedule::Linear => 0.0,
        Schedule::Cosine | Schedule::Polynomial | Schedule::InverseSquareRoot => 2.0,
    };
    worst.row(bound)
}

/// What is reported at the end of an epoch.
fn epochs(recording: &Recording, ours: &Followed, bound: f64) -> Vec<Row> {
    let mut rows = [
        Differences::new("training loss of an epoch"),
        Differences::new("validation loss"),
        Differences::new("perplexity"),
    ];
    for (recorded, own) in recording.json.epochs.iter().zip(&ours.epochs) {
        let pairs = [
            (own.training_loss, recorded.train_loss.0),
            (own.validation.loss, recorded.evaluation_loss.0),
            (own.validation.perplexity, recorded.perplexity.0),
        ];
        for (row, (own, expected)) in rows.iter_mut().zip(pairs) {
            row.one(own, expected, 0.0, expected, || format!("epoch {}", recorded.epoch));
        }
    }
    if recording.json.epochs.len() != ours.epochs.len() {
        rows[0].largest = f64::INFINITY;
        rows[0].place = format!("{} epochs for {}", ours.epochs.len(), recording.json.epochs.len());
    }
    let [training, validation, perplexity] = rows;
    vec![training.row(f64::from(f32::EPSILON)), validation.row(bound), perplexity.row(bound)]
}

/// Parameters and moments, whole, each element as part of the largest of its tensor.
fn whole(recording: &Recording, ours: &Followed, settings: &Settings, bound: f64) -> Vec<Row> {
    let wandering = wandering(ours, settings);
    let mut rows = [
        Differences::new("parameters, whole"),
        Differences::new("first moments, whole"),
        Differences::new("second moments, whole"),
    ];
    for (update, recorded) in &recording.whole {
        let Some(own) = ours.whole.get(update) else {
            rows[0].largest = f64::INFINITY;
            rows[0].place = format!("there is no update {update}");
            continue;
        };
        let index = ours.updates.iter().position(|one| one.update == *update);
        let slack = index.map_or(0.0, |index| wandering[index]);
        let norms = index.map(|index| ours.updates[index].gradient_norms.clone()).unwrap_or_default();
        let parts: [(&TensorSet, &TensorSet); 3] = [
            (&own.parameters, &recorded.parameters),
            (&own.first_moments, &recorded.first_moments),
            (&own.second_moments, &recorded.second_moments),
        ];
        for (part, (row, (own, recorded))) in rows.iter_mut().zip(parts).enumerate() {
            for (info, norm) in ours.parameters.iter().zip(&norms) {
                let noise = NOISE * f64::EPSILON * norm;
                let slack = [slack, noise, noise * noise][part];
                let place = || format!("update {update}, {}", info.name);
                tensors(row, own.get(&info.name), recorded.get(&info.name), info, slack, place);
            }
        }
    }
    if recording.whole.is_empty() {
        return Vec::new();
    }
    rows.into_iter().map(|row| row.row(bound)).collect()
}

fn tensors(
    row: &mut Differences,
    own: Option<&Tensor>,
    recorded: Option<&Tensor>,
    info: &ParameterInfo,
    slack: f64,
    place: impl Fn() -> String,
) {
    let own = own.map(Tensor::to_f64).unwrap_or_default();
    let recorded = recorded.map(Tensor::to_f64).unwrap_or_default();
    let zeros = structural_zeros(info);
    let largest = recorded.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    row.all(
        &own,
        &recorded,
        |index| if zeros.contains(&index) { slack } else { 0.0 },
        |_, _| largest,
        |_| place(),
    );
}
