//! The weights of a scan as a picture, by the drawing that `explain` has.

use super::Asked;
use crate::{
    number::{fraction, to_f64},
    picture::{BarLayout, Bars, PictureError, Row, picture},
};
use lossproof_diagnosis::{inference::Measurement, tomography::Scan};
use lossproof_spec::{GlobalBatch, Prediction, TokenWeights};

/// Draws what is declared, and below it what was recovered.
///
/// # Errors
/// When there is nothing to draw, or more than can be told apart.
pub(super) fn drawing(asked: &Asked, scan: &Scan) -> Result<String, PictureError> {
    let batch = &asked.case.batch;
    let layout = batch.layout();
    let mut rows = Vec::new();
    if let Ok(weights) = TokenWeights::new(&asked.case.spec, &layout) {
        let declared = |prediction: Prediction, _: usize| {
            let weight = weights.of_sequence(prediction.sequence);
            if prediction.supervised { (to_f64(weight), fraction(weight)) } else { (0.0, String::new()) }
        };
        rows.push(row(format!("declared: {}", asked.case.spec), batch, declared));
    }
    let measured = [
        ("in the gradient", scan.gradient.as_ref().ok().map(|reading| &reading.measured)),
        ("in the logged loss", scan.log.as_ref().ok().map(|reading| &reading.measured)),
        ("in a plain SGD step", scan.step.as_ref().ok().map(|reading| &reading.measured)),
    ];
    for (title, measured) in measured {
        // A mean of nothing leaves no weights.
        let Some(measured) = measured.filter(|measured| !measured.is_empty()) else { continue };
        let weight = |_: Prediction, place: usize| shown(&measured[place]);
        rows.push(row(title.to_owned(), batch, weight));
    }
    picture(&BarLayout { layout: &layout, bars: |shape| shape.positions - 1 }, &rows)
}

/// How high a measured weight is drawn, and what is written above it.
fn shown(measured: &Measurement) -> (f64, String) {
    if measured.error.is_infinite() {
        return (0.0, "?".to_owned());
    }
    if measured.value.abs() <= measured.error {
        return (0.0, String::new());
    }
    let label =
        measured.fraction().map_or_else(|| format!("{:.4}", measured.value), |exact| exact.to_string());
    (measured.value, label)
}

/// A row with the weight and the label of every prediction, by its place. Above a sequence stands the label
/// that all its tokens with a weight have.
fn row(title: String, batch: &GlobalBatch, weight: impl Fn(Prediction, usize) -> (f64, String)) -> Row {
    let mut sequences: Vec<Bars> =
        batch.sequences().map(|_| Bars { weights: Vec::new(), label: String::new() }).collect();
    for (place, prediction) in batch.predictions().enumerate() {
        let (height, label) = weight(prediction, place);
        let bars = &mut sequences[prediction.sequence];
        bars.weights.push(height);
        if bars.label.is_empty() {
            bars.label = label;
        } else if !label.is_empty() && bars.label != label {
            "…".clone_into(&mut bars.label);
        }
    }
    for bars in &mut sequences {
        if bars.label.is_empty() && !bars.weights.is_empty() {
            "0".clone_into(&mut bars.label);
        }
    }
    Row { title, sequences }
}
