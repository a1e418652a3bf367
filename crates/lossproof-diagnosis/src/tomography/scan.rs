//! Everything that tomography says of one trainer on one batch, by the instruments that its card allows.

use super::{
    Basis, Observed, Precision, ReportedLosses, Tomogram, TomographyError,
    basis::singles,
    disagreement, label_swaps,
    reading::{Agreement, DeviatingRegion, GradientReading, Instrument, LogReading},
    recover, recover_by_region,
    tomogram::{WeightSource, measurements},
};
use crate::inference::{EmptyMean, Measurement, infer};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};
use lossproof_subject::{Subject, SubjectError, TensorSet};

/// Fixes the tokens of the batches by which a reported loss is probed.
const SEED: u64 = 2;

/// What a trainer is asked about, and who is asked besides.
pub struct ScanSetup<'a> {
    /// The batch.
    pub batch: &'a GlobalBatch,
    /// The semantics that is asked for, and that the weights are held to.
    pub declared: LossSpec,
    /// Loaded where the trainer takes parameters, and into the reference.
    pub parameters: &'a TensorSet,
    /// A trainer with the same parameters that is taken to be right, where there is one.
    pub reference: Option<&'a mut dyn Subject>,
}

/// What tomography says of a trainer on a batch. What is an `Err` was not covered, for the reason it says.
#[derive(Clone, Debug)]
pub struct Scan {
    /// How the gradient was read.
    pub instrument: Result<Instrument, String>,
    /// The gradient that is handed over.
    pub gradient: Result<GradientReading, String>,
    /// The regions of a gradient that no weights explain as a whole, where these have weights of their own.
    pub regions: Vec<DeviatingRegion>,
    /// The loss that is reported.
    pub log: Result<LogReading, String>,
    /// The gradient that a plain SGD step applies.
    pub step: Result<GradientReading, String>,
}

impl Scan {
    /// Asks a trainer for the gradient, the reported losses and a step on a batch. Parameters are loaded
    /// where it takes them, and it is left reset.
    ///
    /// # Errors
    /// When it does not have the semantics that is asked for, or does not answer.
    pub fn of(subject: &mut dyn Subject, setup: ScanSetup<'_>) -> Result<Self, TomographyError> {
        let ScanSetup { batch, declared, parameters, mut reference } = setup;
        let loaded = match subject.parameter_loading() {
            Some(loader) => {
                loader.load(parameters)?;
                true
            }
            None => false,
        };
        subject.configure(&declared)?;
        let scanner = Scanner { batch, declared, parameters: loaded.then_some(parameters) };
        let observed = match Observed::of(subject, batch) {
            Err(TomographyError::Subject(SubjectError::EmptyGroup(_))) => {
                return Ok(Self::of_empty_mean(batch, EmptyMean::Refused, &declared));
            }
            observed => observed?,
        };
        let numbers = observed.gradient.values().all(|tensor| tensor.to_f64().iter().all(|v| v.is_finite()));
        // Where NaN is declared, the loss has it; the gradient need not.
        let of_nothing = TokenWeights::new(&declared, &batch.layout()).is_err_and(|empty| empty.nan);
        if !numbers || (of_nothing && observed.observation.loss.is_nan()) {
            return Ok(Self::of_empty_mean(batch, EmptyMean::Nan, &declared));
        }
        if !loaded {
            reference = None;
        }
        if let Some(reference) = borrowed(&mut reference)
            && let Some(loader) = reference.parameter_loading()
        {
            loader.load(parameters)?;
        }
        let log = scanner.log(subject, borrowed(&mut reference), &observed);
        let sight = scanner.sight(subject, borrowed(&mut reference), &observed);
        let scan = match sight {
            Err(why) => Self {
                instrument: Err(why.clone()),
                gradient: Err(why.clone()),
                regions: Vec::new(),
                step: Err(why),
                log: log
                    .and_then(|logged| scanner.logged(logged, &scanner.places(), None))
                    .map_err(|error| said(&error)),
            },
            Ok(sight) => scanner.scan(subject, &sight, &observed, log)?,
        };
        subject.reset()?;
        Ok(scan)
    }

    /// Reads a gradient that a trainer left behind, over the token gradients of a `reference` at the same
    /// parameters: `basis` is of every prediction of the batch, in order. A loss and a step are not looked at.
    ///
    /// # Errors
    /// When gradient and basis have not the same tensors, or the gradient is not finite.
    pub fn of_dump(
        batch: &GlobalBatch,
        declared: &LossSpec,
        basis: &Basis,
        gradient: &TensorSet,
        precision: &Precision,
        reference: String,
    ) -> Result<Self, TomographyError> {
        let tomogram = recover(basis, gradient, precision)?;
        let regions = if tomogram.is_explained() {
            Vec::new()
        } else {
            deviating_regions(batch, declared, basis, gradient, precision)?
        };
        let reading = GradientReading::of_weights(batch, &places(batch), tomogram, declared)?;
        let alone = || "a gradient alone was left behind".to_owned();
        Ok(Self {
            instrument: Ok(Instrument::Reference { name: reference }),
            gradient: Ok(reading),
            regions,
            log: Err(alone()),
            step: Err(alone()),
        })
    }

    fn of_empty_mean(batch: &GlobalBatch, empty_mean: EmptyMean, declared: &LossSpec) -> Self {
        let nothing = || "there is no gradient of numbers on this batch".to_owned();
        Self {
            instrument: Err(nothing()),
            gradient: Ok(GradientReading::of_empty_mean(batch, empty_mean, declared)),
            regions: Vec::new(),
            log: Err(nothing()),
            step: Err(nothing()),
        }
    }

    /// Whether all that was read is as declared: undecided where the gradient was not covered.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let log = self.log.as_ref().map_or(Agreement::Agrees, |log| {
            if log.agrees() { Agreement::Agrees } else { Agreement::Disagrees }
        });
        let step = self.step.as_ref().map_or(Agreement::Agrees, GradientReading::agreement);
        let gradient = self.gradient.as_ref().map_or(Agreement::Undecided, GradientReading::agreement);
        let all = [gradient, log, step];
        for agreement in [Agreement::Disagrees, Agreement::Undecided] {
            if all.contains(&agreement) {
                return agreement;
            }
        }
        Agreement::Agrees
    }

    /// What the weights leave open, in words.
    #[must_use]
    pub fn undetermined(&self) -> Vec<&str> {
        let mut open: Vec<&str> = Vec::new();
        let gradient = self.gradient.as_ref().ok().and_then(|reading| reading.tomogram.as_ref());
        let log = self.log.as_ref().ok().map(|reading| &reading.tomogram);
        for tomogram in gradient.into_iter().chain(log) {
            open.extend(tomogram.undetermined.iter().map(String::as_str));
        }
        open
    }
}

/// What a gradient is read with.
enum Sight {
    Basis(Instrument, Basis),
    Swaps(Tomogram),
}

struct Scanner<'a> {
    batch: &'a GlobalBatch,
    declared: LossSpec,
    /// Those that the subject holds, where they are known.
    parameters: Option<&'a TensorSet>,
}

impl Scanner<'_> {
    /// The most exact instrument that the card allows, or why there is none.
    fn sight(
        &self,
        subject: &mut dyn Subject,
        reference: Option<&mut dyn Subject>,
        observed: &Observed,
    ) -> Result<Sight, String> {
        if let Some(reference) = reference {
            let name = reference.info().name;
            let basis = Basis::of_reference(reference, &self.declared, self.batch);
            return basis
                .map(|basis| Sight::Basis(Instrument::Reference { name }, basis))
                .map_err(|error| said(&error));
        }
        let limits = subject.info().limits;
        if !limits.ignore_index && !limits.free_labels {
            let why = "it takes neither ignored labels nor labels that are not its tokens, so that no token \
                       can be looked at alone; parameters and a reference that holds them are needed";
            return Err(why.to_owned());
        }
        let mut see = |parameters: Option<&TensorSet>| {
            let (batch, spec, precision) = (self.batch, &self.declared, &observed.precision);
            if limits.ignore_index {
                Basis::self_calibrated(subject, parameters, batch, spec, precision)
                    .map(|basis| Sight::Basis(Instrument::Own, basis))
            } else {
                label_swaps(subject, parameters, batch, spec, precision).map(Sight::Swaps)
            }
        };
        let seen = match see(self.parameters) {
            // A slope that is too uncertain leaves a factor open, which is then said.
            Err(TomographyError::Calibration { .. }) if self.parameters.is_some() => see(None),
            seen => seen,
        };
        seen.map_err(|error| said(&error))
    }

    fn log(
        &self,
        subject: &mut dyn Subject,
        reference: Option<&mut dyn Subject>,
        observed: &Observed,
    ) -> Result<Tomogram, TomographyError> {
        let precision = &observed.precision;
        ReportedLosses::of(subject, reference, self.batch, &self.declared, precision, SEED)?.recover()
    }

    fn places(&self) -> Vec<usize> {
        places(self.batch)
    }

    fn scan(
        &self,
        subject: &mut dyn Subject,
        sight: &Sight,
        observed: &Observed,
        log: Result<Tomogram, TomographyError>,
    ) -> Result<Scan, TomographyError> {
        let (batch, declared) = (self.batch, &self.declared);
        let places = self.places();
        let (instrument, gradient, regions, step) = match sight {
            Sight::Swaps(tomogram) => {
                let supervised =
                    batch.predictions().enumerate().filter(|(_, p)| p.supervised).map(|(place, _)| place);
                let supervised: Vec<usize> = supervised.collect();
                let reading = GradientReading::of_weights(batch, &supervised, tomogram.clone(), declared)?;
                let step = "the gradient of a step is read over a basis, and label swaps have none";
                (Instrument::LabelSwaps, reading, Vec::new(), Err(step.to_owned()))
            }
            Sight::Basis(instrument, basis) => {
                let tomogram = recover(basis, &observed.gradient, &observed.precision)?;
                let regions = if tomogram.is_explained() {
                    Vec::new()
                } else {
                    deviating_regions(batch, declared, basis, &observed.gradient, &observed.precision)?
                };
                let reading = GradientReading::of_weights(batch, &places, tomogram, declared)?;
                let step = self.step(subject, basis, observed, &places).map_err(|error| said(&error));
                (instrument.clone(), reading, regions, step)
            }
        };
        let optimised = gradient.tomogram.as_ref();
        let log = match log {
            Err(error) => Err(said(&error)),
            Ok(logged) => Ok(self.logged(logged, &places, optimised)?),
        };
        Ok(Scan { instrument: Ok(instrument), gradient: Ok(gradient), regions, log, step })
    }

    fn step(
        &self,
        subject: &mut dyn Subject,
        basis: &Basis,
        observed: &Observed,
        places: &[usize],
    ) -> Result<GradientReading, TomographyError> {
        subject.configure(&self.declared)?;
        let applied = Observed::of_step(subject, self.batch, &observed.gradient)?;
        let tomogram = recover(basis, &applied.gradient, &applied.precision)?;
        GradientReading::of_weights(self.batch, places, tomogram, &self.declared)
    }

    fn logged(
        &self,
        tomogram: Tomogram,
        places: &[usize],
        optimised: Option<&Tomogram>,
    ) -> Result<LogReading, TomographyError> {
        debug_assert_eq!(tomogram.source, WeightSource::ReportedLoss);
        let measured = measurements(self.batch, places, &tomogram.weights);
        let unknown = Measurement { value: f64::NAN, error: f64::INFINITY };
        let mut due = vec![unknown; measured.len()];
        if let Some(policy) = &tomogram.policy {
            for (&place, &value) in places.iter().zip(&policy.due) {
                due[place] = Measurement { value, error: 0.0 };
            }
        }
        let by_policy = tomogram.policy.as_ref().is_some_and(|policy| policy.comparison.agrees());
        let named = tomogram.is_explained() && !by_policy;
        let inference = if named { Some(infer(self.batch, &measured)?) } else { None };
        let comparable = optimised.filter(|other| other.weights.len() == tomogram.weights.len());
        let disagreement = comparable.and_then(|optimised| disagreement(optimised, &tomogram));
        Ok(LogReading { tomogram, measured, due, inference, disagreement })
    }
}

/// What each unknown of a batch's basis is the weight of.
fn places(batch: &GlobalBatch) -> Vec<usize> {
    singles(batch).0.iter().map(|single| single.place).collect()
}

/// The regions of a gradient that have weights of their own, where these are not those that are declared.
fn deviating_regions(
    batch: &GlobalBatch,
    declared: &LossSpec,
    basis: &Basis,
    gradient: &TensorSet,
    precision: &Precision,
) -> Result<Vec<DeviatingRegion>, TomographyError> {
    let places = places(batch);
    let mut deviating = Vec::new();
    for region in recover_by_region(basis, gradient, precision)? {
        if !region.tomogram.is_explained() {
            continue;
        }
        let measured = measurements(batch, &places, &region.tomogram.weights);
        let comparison = infer(batch, &measured)?.against(declared);
        if !comparison.agrees {
            deviating.push(DeviatingRegion { region, comparison });
        }
    }
    Ok(deviating)
}

/// A reference for one use.
fn borrowed<'a>(reference: &'a mut Option<&mut dyn Subject>) -> Option<&'a mut dyn Subject> {
    match reference {
        Some(reference) => Some(&mut **reference),
        None => None,
    }
}

/// An error with its causes, in one line.
fn said(error: &TomographyError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
