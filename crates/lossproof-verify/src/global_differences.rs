//! Finite differences of the truth's token losses along directions through all parameters at once.

use super::{
    Progress, VerifyError,
    alteration::{Alteration, Answer, seen},
    capability::{evaluator, loader},
    row::{Measurement, RowBuilder},
    semantics::Semantics,
    statement::{BoundFrom, Statement, StatementRow},
};
use lossproof_numerics::{Rademacher, Slope, Sweep, sweep};
use lossproof_spec::{CompensatedSum, GlobalBatch};
use lossproof_subject::{GradientSink, GradientView, ParameterSource, SinkError, Subject, TensorValues};
use std::collections::BTreeMap;

/// Number of directions.
const DIRECTIONS: usize = 3;

/// First step of a sweep: each parameter changes by 0.1 % of its tensor's size, all at once.
const FIRST_STEP: f64 = 0.001;

/// How often the step is halved: twice gives two estimates, whose difference is the uncertainty; each more
/// costs two forward passes of the whole model in f64.
const HALVINGS: usize = 2;

/// The derivatives of all token losses along one random direction through all parameters.
pub(crate) struct Derivative {
    /// The direction within each parameter, at the scale of its values.
    direction: BTreeMap<String, Rademacher>,
    /// Its norm.
    norm: f64,
    elements: usize,
    sweep: Sweep,
    /// Its inner product with the gradient of the sum of each sequence's token losses.
    pub(crate) inner: Vec<f64>,
}

/// Differentiates the truth's token losses. The parameters are left displaced: reset it afterwards.
pub(crate) fn differentiate(
    truth: &mut dyn Subject,
    batch: &GlobalBatch,
    parameters: &dyn ParameterSource,
    seed: u64,
    progress: &mut Progress<'_>,
) -> Result<Vec<Derivative>, VerifyError> {
    let stage = format!("{} f64: finite differences of the forward", truth.info().name);
    let shapes = parameters.shapes();
    let mut directions = vec![BTreeMap::new(); DIRECTIONS];
    for (stream, (name, _)) in (0..).zip(&shapes) {
        let tensor = parameters.read(name)?;
        for (number, direction) in (0..).zip(&mut directions) {
            let seed = seed.wrapping_add(number);
            let within = match tensor.values() {
                TensorValues::F32(values) => Rademacher::new(seed, stream, values),
                TensorValues::F64(values) => Rademacher::new(seed, stream, values),
            };
            direction.insert(name.clone(), within);
        }
    }
    let mut derivatives = Vec::new();
    // Reused from tensor to tensor: touching fresh memory costs more than the arithmetic.
    let mut values = Vec::new();
    for direction in directions {
        progress(&stage, derivatives.len(), DIRECTIONS);
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
            for (name, along) in &direction {
                parameters.read(name)?.copy_to_f64(&mut values);
                along.displace(&mut values, step);
                loader(truth)?.set(name, &values)?;
            }
            Ok(evaluator(truth)?.evaluate(batch)?)
        })?;
        let sizes = || shapes.iter().map(|(_, shape)| shape.iter().product::<usize>());
        let square = |((name, _), size): (&(String, _), usize)| direction[name].scale().powi(2) * size as f64;
        let norm = shapes.iter().zip(sizes()).map(square).collect::<CompensatedSum>().value().sqrt();
        derivatives.push(Derivative { norm, elements: sizes().sum(), sweep, direction, inner: Vec::new() });
    }
    Ok(derivatives)
}

/// Takes the inner product of a passing gradient with every direction.
pub(crate) struct Inner<'a> {
    derivatives: &'a [Derivative],
    sums: Vec<CompensatedSum>,
    received: usize,
}

impl<'a> Inner<'a> {
    pub(crate) fn new(derivatives: &'a [Derivative]) -> Self {
        Self { derivatives, sums: vec![CompensatedSum::default(); derivatives.len()], received: 0 }
    }

    /// One inner product per direction, NaN when a parameter was not handed over.
    pub(crate) fn finish(self) -> Vec<f64> {
        let value = |(derivative, sum): (&Derivative, &CompensatedSum)| {
            if self.received == derivative.direction.len() { sum.value() } else { f64::NAN }
        };
        self.derivatives.iter().zip(&self.sums).map(value).collect()
    }
}

impl GradientSink for Inner<'_> {
    fn receive(&mut self, name: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        self.received += 1;
        for (derivative, sum) in self.derivatives.iter().zip(&mut self.sums) {
            let within = derivative.direction.get(name);
            let within = within.ok_or_else(|| SinkError::Unknown { name: name.to_owned() })?;
            sum.add(match values {
                GradientView::F32(values) => within.dot(values),
                GradientView::F64(values) => within.dot(values),
            });
        }
        Ok(())
    }
}

/// Holds the truth's gradient, whose norm is estimated, to the derivatives of its own token losses.
pub(crate) fn row(
    name: &str,
    derivatives: &[Derivative],
    number: usize,
    meaning: &Semantics,
    gradient_norm: f64,
) -> StatementRow {
    let text = "∇ = finite differences, 3 global directions".to_owned();
    let (statement, from) = (Statement::FiniteDifferences, BoundFrom::Plateau);
    let mut row = RowBuilder::new(statement, Some(meaning.name), name, text, from);
    let bound = Slope::bound();
    let answer = Answer::WholeGradient(number);
    let measure = |alteration: Option<&Alteration<'_>>| {
        let gradient_norm = seen(alteration, answer, gradient_norm);
        let mut measurements = Vec::new();
        for derivative in derivatives {
            let terms = derivative.inner.iter().zip(&meaning.weights).map(|(inner, weight)| inner * weight);
            let inner = seen(alteration, answer, terms.collect::<CompensatedSum>().value());
            let plateau = derivative.sweep.contract(&meaning.per_prediction);
            let slope = Slope::new(inner, gradient_norm, derivative.norm, derivative.elements, plateau);
            if !slope.is_undecided(bound) {
                let (error, effect) = (slope.error(1.0), slope.effect());
                measurements.push(Measurement::Compared { error, bound, effect });
            }
        }
        measurements
    };
    row.unit("the whole gradient", measure, |power| vec![Alteration::scaled(answer, power)]);
    row.finish()
}
