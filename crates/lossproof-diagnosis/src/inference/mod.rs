//! From measured token weights back to the semantics: which loss specs weigh the tokens of a batch like this.
//!
//! Reading goes against [`TokenWeights`](lossproof_spec::TokenWeights): a weight was measured for every
//! prediction of a batch, with an error bound, and there are finitely many loss specs. Each either has these
//! weights or has not, in exact arithmetic; the answer is the list of those that have, and what the batch
//! leaves undecided.
//!
//! ```
//! use lossproof_diagnosis::inference::{Measurement, infer};
//! use lossproof_spec::{GlobalBatch, MicroBatch, Rank, Sequence};
//!
//! // Two sequences of 4 and 2 tokens make 3 and 1 predictions, in one micro-batch each.
//! let sequence = |ids: Vec<u32>| Sequence::new(ids.clone(), ids.into_iter().map(i64::from).collect());
//! let first = MicroBatch::new(vec![sequence(vec![5, 6, 7, 8])?])?;
//! let second = MicroBatch::new(vec![sequence(vec![9, 4])?])?;
//! let batch = GlobalBatch::new(vec![Rank::new(vec![first, second])?])?;
//!
//! let measured = [0.166_67, 0.166_66, 0.166_67, 0.500_01].map(|value| Measurement { value, error: 1e-4 });
//! let inference = infer(&batch, &measured)?;
//! let found = inference.to_string();
//! assert!(found.starts_with("per-sequence mean over the global batch: supervised tokens weigh from 0.1667 = 1/6"));
//! // With one sequence in each micro-batch it may as well be another semantics.
//! assert!(found.contains("the same on this batch: naive accumulated mean"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod consequences;
mod log_policies;
mod ratio;
mod spec_classes;
mod weight_comparison;
mod words;

pub use consequences::Consequences;
pub use log_policies::LogComparison;
pub(crate) use log_policies::{LOG_POLICIES, due_weights, logged_by, logged_by_one_of};
pub use ratio::{BeyondLayout, explain_ratio};
pub use spec_classes::{Choice, SpecClass};
pub use weight_comparison::{MeasuredRatio, WeightComparison};

use lossproof_spec::{GlobalBatch, Layout, Prediction, SequenceShape, to_f64};
use ratio::named_ratios;
use spec_classes::classes;
pub(crate) use spec_classes::{loss_specs, words as spec_words};

/// A number and how far the truth may be from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// The number.
    pub value: f64,
    /// Bound of its error, not negative; infinite when nothing is known. Rounding to f64 need not be in it.
    pub error: f64,
}

impl Measurement {
    fn low(&self) -> f64 {
        self.value - self.reach()
    }

    fn high(&self) -> f64 {
        self.value + self.reach()
    }
}

/// What a trainer gives instead of a gradient where a mean was taken over nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyMean {
    /// Loss and gradient are NaN.
    Nan,
    /// It refuses the batch.
    Refused,
}

/// Whose tokens a normaliser was counted from, where the trained positions are not the supervised ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedFrom {
    /// From the labels of the batch.
    Labels,
    /// From the positions that were trained.
    Trained,
}

/// Semantics that have the measured weights.
#[derive(Clone, Debug, PartialEq)]
pub struct SemanticsMatch {
    /// Loss specs with these weights.
    pub class: SpecClass,
    /// What they were counted from.
    pub counted: CountedFrom,
}

/// Semantics of which the measured weights are a multiple.
#[derive(Clone, Debug, PartialEq)]
pub struct SemanticsMultiple {
    /// Loss specs with weights in the right proportions.
    pub class: SpecClass,
    /// What they were counted from.
    pub counted: CountedFrom,
    /// The measured weights divided by theirs.
    pub factor: Measurement,
    /// What the factor is on this layout, as [`explain_ratio`] says it.
    pub explained: Option<String>,
}

/// What measured token weights say about the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    layout: Layout,
    readings: Vec<Reading>,
    empty_mean: Option<EmptyMean>,
    matches: Vec<SemanticsMatch>,
    multiples: Vec<SemanticsMultiple>,
}

/// One prediction and what was found about it.
#[derive(Clone, Debug, PartialEq)]
struct Reading {
    prediction: Prediction,
    measured: Measurement,
    /// Whether it has a weight. Where the error is too large to tell, as the label says.
    trained: bool,
}

/// What the trained positions of a sequence may all weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Span {
    /// There are none.
    Untrained,
    /// Anything between these.
    Between(f64, f64),
    /// They do not all weigh the same.
    Uneven,
}

/// Reads the semantics off `measured`, one weight per prediction in the order of
/// [`GlobalBatch::predictions`], ignored ones included. A weight that is NaN means that the whole gradient
/// is: [`infer_empty_mean`] of [`EmptyMean::Nan`]. Weights are those of a gradient; what a reported loss
/// weighs is held to log policies, as [`LogComparison`] says it.
///
/// # Errors
/// When there is another number of weights than of predictions, or an error bound is negative or NaN.
pub fn infer(batch: &GlobalBatch, measured: &[Measurement]) -> Result<Inference, InferenceError> {
    let predictions: Vec<Prediction> = batch.predictions().collect();
    if predictions.len() != measured.len() {
        return Err(InferenceError::Number { found: measured.len(), expected: predictions.len() });
    }
    if let Some((index, bad)) = measured.iter().enumerate().find(|(_, m)| m.error.is_nan() || m.error < 0.0) {
        return Err(InferenceError::Bound { index, error: bad.error });
    }
    if measured.iter().any(|m| m.value.is_nan()) {
        return Ok(infer_empty_mean(batch, EmptyMean::Nan));
    }
    let layout = batch.layout();
    let least = least_weight(&layout);
    let reading = |(prediction, &measured): (Prediction, &Measurement)| {
        let near_zero = measured.value.abs() <= measured.error;
        let trained =
            if near_zero && measured.error >= least / 2.0 { prediction.supervised } else { !near_zero };
        Reading { prediction, measured, trained }
    };
    let readings = predictions.into_iter().zip(measured).map(reading).collect();
    let mut inference = Inference { layout, readings, empty_mean: None, matches: vec![], multiples: vec![] };
    inference.read();
    Ok(inference)
}

/// Reads the semantics off a trainer that gives no weights, because a mean was taken over nothing.
#[must_use]
pub fn infer_empty_mean(batch: &GlobalBatch, empty_mean: EmptyMean) -> Inference {
    let layout = batch.layout();
    let outcome = Err(empty_mean == EmptyMean::Nan);
    let classes = classes(&layout).into_iter().filter(|class| class.outcome == outcome);
    let matches = classes.map(|class| SemanticsMatch { class, counted: CountedFrom::Labels }).collect();
    Inference { layout, readings: vec![], empty_mean: Some(empty_mean), matches, multiples: vec![] }
}

/// No spec gives a token of any layout with these sequences less, whatever is supervised: `1/(R·K·n·L)`.
fn least_weight(layout: &Layout) -> f64 {
    let most = |counts: &mut dyn Iterator<Item = usize>| counts.max().unwrap_or(1) as f64;
    let micro_batches = most(&mut layout.ranks().iter().map(Vec::len));
    let positions = most(&mut layout.sequences().map(|s| s.positions));
    let sequences = layout.sequences().count() as f64;
    (layout.ranks().len() as f64 * micro_batches * sequences * positions).recip()
}

impl Inference {
    fn read(&mut self) {
        let spans = self.spans();
        if spans.contains(&Span::Uneven) || spans.iter().all(|span| *span == Span::Untrained) {
            return;
        }
        let mut readings = vec![(CountedFrom::Labels, self.layout.clone())];
        if self.readings.iter().any(|reading| reading.trained != reading.prediction.supervised) {
            readings.push((CountedFrom::Trained, self.trained_layout()));
        }
        let named = named_ratios(&self.layout, BeyondLayout::default());
        let mut multiples: Vec<(usize, SemanticsMultiple)> = Vec::new();
        for (counted, layout) in readings {
            for class in classes(&layout) {
                let Some(factor) = class.factor(&spans) else { continue };
                if class.has(&spans) {
                    self.matches.push(SemanticsMatch { class, counted });
                    continue;
                }
                let name = ratio::name_of(&named, &factor);
                let (place, explained) =
                    name.map_or((usize::MAX, None), |(place, words)| (place, Some(words)));
                multiples.push((place, SemanticsMultiple { class, counted, factor, explained }));
            }
        }
        if self.matches.is_empty() {
            multiples.sort_by_key(|(place, _)| *place);
            self.multiples = multiples.into_iter().map(|(_, multiple)| multiple).collect();
        }
    }

    /// What the trained positions of each sequence may weigh.
    fn spans(&self) -> Vec<Span> {
        let mut spans = vec![Span::Untrained; self.layout.sequences().count()];
        for reading in self.readings.iter().filter(|reading| reading.trained) {
            let (low, high) = (reading.measured.low(), reading.measured.high());
            let span = &mut spans[reading.prediction.sequence];
            *span = match *span {
                Span::Untrained => Span::Between(low, high),
                Span::Between(l, h) if l.max(low) <= h.min(high) => Span::Between(l.max(low), h.min(high)),
                Span::Between(..) | Span::Uneven => Span::Uneven,
            };
        }
        spans
    }

    /// The layout of a batch in which the trained positions are the supervised ones.
    fn trained_layout(&self) -> Layout {
        let mut trained = vec![0; self.layout.sequences().count()];
        for reading in &self.readings {
            trained[reading.prediction.sequence] += usize::from(reading.trained);
        }
        let mut trained = trained.into_iter();
        let mut shape = |s: &SequenceShape| SequenceShape { supervised: trained.next().unwrap_or(0), ..*s };
        let ranks = self.layout.ranks().iter();
        let ranks = ranks.map(|r| r.iter().map(|m| m.iter().map(&mut shape).collect()).collect());
        Layout::new(ranks.collect()).expect("invariant: no more positions are trained than make predictions")
    }

    /// All semantics with these weights, the plainest first. Several mean that they differ by less than the
    /// errors: a better measurement tells them apart, while the members of each cannot be told apart on this
    /// batch at all.
    #[must_use]
    pub fn matches(&self) -> &[SemanticsMatch] {
        &self.matches
    }

    /// Semantics of which these weights are a multiple, those with an explained factor first. Empty when
    /// there are [matches](Self::matches).
    #[must_use]
    pub fn multiples(&self) -> &[SemanticsMultiple] {
        &self.multiples
    }

    /// Ignored positions that have a weight.
    pub fn weight_on_ignored(&self) -> impl Iterator<Item = Prediction> {
        self.deviating(true)
    }

    /// Supervised positions that have none.
    pub fn missing_weight(&self) -> impl Iterator<Item = Prediction> {
        self.deviating(false)
    }

    fn deviating(&self, trained: bool) -> impl Iterator<Item = Prediction> {
        let readings = self.readings.iter();
        let deviating = readings.filter(move |r| r.trained == trained && r.prediction.supervised != trained);
        deviating.map(|reading| reading.prediction)
    }

    /// Sequences whose trained positions do not all weigh the same, which no loss spec does.
    #[must_use]
    pub fn uneven_sequences(&self) -> Vec<usize> {
        let spans = self.spans().into_iter().enumerate();
        spans.filter(|(_, span)| *span == Span::Uneven).map(|(sequence, _)| sequence).collect()
    }
}

impl SemanticsMatch {
    /// The member to call it by.
    #[must_use]
    pub fn representative(&self) -> &lossproof_spec::LossSpec {
        self.class.representative()
    }
}

impl SpecClass {
    /// Its weights beside what was measured, for the sequences that are trained.
    fn trained_weights<'a>(
        &'a self,
        spans: &'a [Span],
    ) -> Option<impl Iterator<Item = (f64, f64, f64)> + 'a> {
        let pairs = self.weights()?.sequences().zip(spans);
        Some(pairs.filter_map(|((weight, _), span)| match span {
            Span::Between(low, high) => Some((to_f64(weight), *low, *high)),
            Span::Untrained | Span::Uneven => None,
        }))
    }

    /// Whether its weights are within what was measured.
    fn has(&self, spans: &[Span]) -> bool {
        self.trained_weights(spans)
            .is_some_and(|mut pairs| pairs.all(|(weight, low, high)| low <= weight && weight <= high))
    }

    /// What all its weights were multiplied by, if it is one number.
    fn factor(&self, spans: &[Span]) -> Option<Measurement> {
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        for (weight, low, high) in self.trained_weights(spans)? {
            if weight == 0.0 {
                return None;
            }
            (least, most) = (least.max(low / weight), most.min(high / weight));
        }
        (least <= most)
            .then(|| Measurement { value: f64::midpoint(least, most), error: (most - least) / 2.0 })
    }
}

/// Why measured weights cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// Not one weight per prediction.
    #[error(
        "{found} weights for a batch of {expected} predictions: give one per prediction, ignored positions included"
    )]
    Number {
        /// Weights given.
        found: usize,
        /// Predictions of the batch.
        expected: usize,
    },
    /// A bound that bounds nothing.
    #[error(
        "the error bound of weight {index} is {error}: it must be 0 or more, infinite when nothing is known"
    )]
    Bound {
        /// Which weight.
        index: usize,
        /// The bound.
        error: f64,
    },
}
