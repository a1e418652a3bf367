//! A basis from the subject itself.

use super::{
    Basis, Precision, TomographyError,
    basis::{singles, supervising},
    decimal_places::half_of_a_place,
    precision::{accumulated, checked},
};
use lossproof_cases::edit::{alone, padded};
use lossproof_numerics::{norm, sweep, vector};
use lossproof_spec::{GlobalBatch, LossSpec, Sequence, SequenceFields};
use lossproof_subject::{Discard, Subject, Tensor, TensorSet};

/// The largest vocabulary of which every label is tried at one position.
pub(super) const VOCABULARY: usize = 4096;

/// First step of the finite difference, in units of a unit vector over all parameters.
const FIRST_STEP: f64 = 0.125;

/// Halvings of the step.
const HALVINGS: usize = 8;

/// A positive factor and the relative error it is known to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Factor {
    pub(super) const ONE: Self = Self { value: 1.0, error: 0.0 };

    pub(super) fn times(self, other: Self) -> Self {
        Self { value: self.value * other.value, error: self.error + other.error }
    }
}

impl Basis {
    /// The token losses of a batch as the subject itself differentiates them, without any reference.
    ///
    /// Every prediction is probed in a batch of its own: one rank, one micro-batch, one sequence (copies of it where
    /// the subject takes no fewer, [`alone`]), padded to the width of the longest one, a single label given and label 0
    /// ignored. There sum, token mean, sequence mean and batch mean coincide, and so do micro-batches, ranks and their
    /// averages; what remains is one factor c on all of them, fixed by two facts:
    ///
    /// 1. *Probabilities sum to one.* The reported losses of all labels y at one position are
    ///    `r_y = c·(−log p_y)`, so c is the root of `Σ_y exp(−r_y/c) = 1`. That needs plain cross-entropy and
    ///    a vocabulary of at most 4096.
    /// 2. *A gradient is a slope.* Along the gradient g' of one probe the reported loss rises by `dr`, and
    ///    `g'·v/dr` is the gradient's factor over the loss's, by one finite difference. That needs
    ///    `parameters`, the ones the subject holds, and that it takes parameters one by one.
    ///
    /// The subject is asked about `spec`; `precision` is its own on the batch, noise included
    /// ([`Observed`](super::Observed)); on the smaller probes it is no worse.
    ///
    /// What could not be fixed, and what the subject's own basis cannot show, is in
    /// [`Tomogram::undetermined`](super::Tomogram::undetermined).
    ///
    /// # Errors
    /// When the subject takes no ignored labels (then [`label_swaps`](super::label_swaps) serves), fails, or
    /// reports losses that are no cross-entropies.
    pub fn self_calibrated(
        subject: &mut dyn Subject,
        parameters: Option<&TensorSet>,
        batch: &GlobalBatch,
        spec: &LossSpec,
        precision: &Precision,
    ) -> Result<Self, TomographyError> {
        let subject = &mut checked(subject)?;
        subject.configure(spec)?;
        let info = subject.info();
        if !info.limits.ignore_index {
            return Err(TomographyError::Lacks {
                subject: info.name,
                capability: "ignore labels",
                remedy: "recover its weights from label swaps",
            });
        }
        subject.reset()?;
        let width = batch.sequences().map(Sequence::len).max().unwrap_or(0);
        let ragged = batch.sequences().any(|sequence| sequence.len() < width);
        let pads = info.limits.segments && !info.limits.lengths.is_exact();
        let (singles, mut open) = singles(batch);
        let mut gradients = Vec::new();
        let mut first = None;
        for single in singles {
            let missing = if pads { width.saturating_sub(single.sequence.len()) } else { 0 };
            let sequence = padded(&single.sequence, 0, missing, 0);
            let gradient = accumulated(subject, &alone(&sequence, &info.limits))?.1;
            if first.is_none() {
                first = Some((sequence, single.prediction.position, gradient.clone()));
            }
            gradients.push((single.name, gradient));
        }
        let basis = Self::new(gradients, precision.gradient)?;
        open.push(OWN.to_owned());
        if ragged && !pads {
            open.push(UNPADDED.to_owned());
        }
        let Some((sequence, position, gradient)) = first else { return Ok(basis.leaving_open(open)) };
        let batch = alone(&sequence, &info.limits);
        let loss = loss_factor(subject, spec, (&sequence, position), precision)?;
        let tie = gradient_factor(subject, parameters, &Lone { batch, gradient, loss }, precision)?;
        open.extend(undetermined(loss, tie));
        let factor = loss.unwrap_or(Factor::ONE).times(tie.unwrap_or(Factor::ONE));
        Ok(basis.over(factor.value, factor.error).leaving_open(open))
    }
}

/// What every basis of the subject's own leaves open.
const OWN: &str = "which token a prediction is scored against and what it sees, and whether each backward pass is right: the \
                   basis is the subject's own and has the same shift, mask and errors";

const UNPADDED: &str = "a factor for each length of a sequence, where padded positions are counted: the subject takes no \
                        padding, so the sequences could not be brought to one width";

/// What is open because a factor could not be fixed.
pub(super) fn undetermined(loss: Option<Factor>, tie: Option<Factor>) -> impl Iterator<Item = String> {
    let loss = loss.is_none().then_some(
        "one factor on all weights: it takes plain cross-entropy and a vocabulary of at most 4096 to fix it by \
         probabilities summing to one",
    );
    let tie = tie.is_none().then_some(
        "whether the gradient is that of the reported loss, as the weights suppose, or a multiple of it: it takes \
         parameters that can be set to measure a slope",
    );
    loss.into_iter().chain(tie).map(str::to_owned)
}

/// c of the reported losses `r_y = c·(−log p_y)` of every label y of one position of a sequence, of which no
/// other is supervised; `None` where c cannot be told.
pub(super) fn loss_factor(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    (sequence, position): (&Sequence, usize),
    precision: &Precision,
) -> Result<Option<Factor>, TomographyError> {
    let info = subject.info();
    let plain = spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
    if !plain || info.limits.vocabulary > VOCABULARY {
        return Ok(None);
    }
    let mut reported = Vec::new();
    for label in 0..info.limits.vocabulary {
        let label = u32::try_from(label).unwrap_or(u32::MAX);
        let Some(probe) = labelled(sequence, position, label, info.limits.ignore_index) else { continue };
        reported.push(subject.accumulate(&alone(&probe, &info.limits), &mut Discard)?.loss);
    }
    let problem = |problem: &str| TomographyError::Calibration {
        subject: info.name.clone(),
        problem: format!("the reported losses of the labels of one position {problem}"),
    };
    if reported.iter().any(|loss| !loss.is_finite() || *loss < 0.0) {
        return Err(problem("are not all finite and positive: no factor makes them cross-entropies"));
    }
    let root = root(&reported).ok_or_else(|| problem("sum to no probability of one under any factor"))?;
    // Each r_y errs by precision·max(r_y, c): with s = 1/c, δ(log Σ exp(−s·r_y)) = −Σ p_y·(s·δr_y + r_y·δs).
    let weigh = |loss: f64| (-loss / root).exp();
    let places = half_of_a_place(&reported, precision.loss);
    let error = |loss: f64| weigh(loss) * (precision.loss * loss.max(root) + places);
    let error: f64 = reported.iter().map(|&loss| error(loss)).sum();
    let slope: f64 = reported.iter().map(|&loss| weigh(loss) * loss).sum();
    Ok(Some(Factor { value: root, error: error / slope }))
}

/// A sequence with another label at one position, the other labels ignored where the subject lets them be.
fn labelled(sequence: &Sequence, position: usize, label: u32, ignores: bool) -> Option<Sequence> {
    if ignores { supervising(sequence, position, label) } else { relabelled(sequence, position, label) }
}

/// A sequence with the label of one prediction replaced.
pub(super) fn relabelled(sequence: &Sequence, position: usize, label: u32) -> Option<Sequence> {
    let mut fields = SequenceFields::from(sequence.clone());
    fields.labels[position + 1] = i64::from(label);
    fields.targets[position + 1] = label;
    Sequence::from_fields(fields).ok()
}

/// The c with `Σ_y exp(−r_y/c) = 1`.
///
/// `h(s) = log Σ_y exp(−s·r_y)` is convex and falling with `h(0) = log V > 0`, so Newton's iteration from 0
/// rises to the root without overshooting.
fn root(losses: &[f64]) -> Option<f64> {
    let mut s = 0.0;
    for _ in 0..200 {
        let smallest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let terms = losses.iter().map(|loss| (-s * (loss - smallest)).exp());
        let sum: f64 = terms.clone().sum();
        let slope = -terms.zip(losses).map(|(term, loss)| term * loss).sum::<f64>() / sum;
        let step = -(sum.ln() - s * smallest) / slope;
        if !step.is_finite() {
            return None;
        }
        s += step;
        if step.abs() <= 2.0 * f64::EPSILON * s {
            return Some(1.0 / s);
        }
    }
    None
}

/// A batch with one supervised prediction.
pub(super) struct Lone {
    pub(super) batch: GlobalBatch,
    pub(super) gradient: TensorSet,
    /// The factor of its reported loss, where that is known.
    pub(super) loss: Option<Factor>,
}

/// The factor of the gradient over that of the reported loss of one batch, by a finite difference along the
/// gradient; `None` without parameters to set. The subject is left reset.
pub(super) fn gradient_factor(
    subject: &mut dyn Subject,
    parameters: Option<&TensorSet>,
    Lone { batch, gradient, loss }: &Lone,
    precision: &Precision,
) -> Result<Option<Factor>, TomographyError> {
    let Some(parameters) = parameters else { return Ok(None) };
    if subject.parameter_loading().is_none() {
        return Ok(None);
    }
    let lengths: Vec<f64> = gradient.values().map(|tensor| norm(&tensor.to_f64())).collect();
    let length = norm(&lengths);
    let problem = |problem: String| {
        let subject = subject.info().name;
        TomographyError::Calibration { subject, problem }
    };
    if !(length > 0.0 && length.is_finite()) {
        return Err(problem("the gradient of one token loss is zero or not finite".to_owned()));
    }
    if let Some(name) = gradient.keys().find(|name| !parameters.contains_key(*name)) {
        return Err(problem(format!("no values were given for parameter `{name}`")));
    }
    let mut seen = Vec::new();
    let swept = sweep(FIRST_STEP, HALVINGS, |step| {
        if let Some(loader) = subject.parameter_loading() {
            for (name, slope) in gradient {
                loader.set(name, &moved(&parameters[name], slope, step / length))?;
            }
        }
        let loss = subject.accumulate(batch, &mut Discard)?.loss;
        seen.push(loss);
        Ok::<_, TomographyError>(vec![loss])
    });
    subject.reset()?;
    let slope = swept?.contract(&[1.0]);
    let reported = subject.accumulate(batch, &mut Discard)?.loss;
    // A loss r = c·ℓ errs by precision·c·max(ℓ, 1).
    let c = loss.unwrap_or(Factor::ONE).value;
    let rounding = precision.loss * reported.abs().max(c) + half_of_a_place(&seen, precision.loss);
    let uncertainty = slope.uncertainty + rounding / slope.step;
    let error = uncertainty / slope.value.abs() + precision.gradient;
    if slope.value > 0.0 && error < 0.5 {
        return Ok(Some(Factor { value: length / slope.value, error }));
    }
    let subject = subject.info().name;
    let measured = format!("its slope is {:e} ± {uncertainty:.1e}", slope.value);
    let problem = if slope.value > 0.0 {
        format!(
            "the slope of the reported loss along its gradient is too uncertain for a factor: {measured}. Take a dtype with \
             less rounding, or give no parameters and leave the factor open"
        )
    } else {
        format!("the reported loss does not rise along its gradient: {measured}")
    };
    Err(TomographyError::Calibration { subject, problem })
}

fn moved(values: &Tensor, along: &Tensor, step: f64) -> Vec<f64> {
    let mut moved = values.to_f64();
    vector::add_scaled(&mut moved, step, &along.to_f64());
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::{
        Observed, recover,
        toy::{self, Toy},
    };
    use lossproof_spec::{Counting, LossSpec, TokenWeights};
    use lossproof_subject::Count;

    fn weights(mut toy: Toy, with_parameters: bool) -> (super::super::Tomogram, Vec<f64>) {
        let batch = toy::batch([5, 3, 4, 3], |index, p| index == 0 && p == 2);
        let held = toy.held();
        let (spec, observed) = (toy.spec, Observed::of(&mut toy, &batch).unwrap());
        let given = with_parameters.then_some(&held);
        let basis = Basis::self_calibrated(&mut toy, given, &batch, &spec, &observed.precision).unwrap();
        let truth = TokenWeights::new(&toy.spec, &batch.layout()).unwrap().per_prediction(&batch);
        (recover(&basis, &observed.gradient, &observed.precision).unwrap(), truth)
    }

    #[track_caller]
    fn assert_weights(tomogram: &super::super::Tomogram, truth: &[f64], factor: f64) {
        for (weight, truth) in tomogram.weights.iter().zip(truth) {
            let error = (weight.value - factor * truth).abs();
            assert!(error <= weight.error && weight.error < 1e-7, "{weight:?}, not {}", factor * truth);
        }
    }

    #[test]
    fn both_factors_are_found() {
        for spec in [LossSpec::sum(), LossSpec::token_mean(), LossSpec::naive_accumulated_mean()] {
            for factors in [(1.0, 1.0), (0.25, 0.25), (3.0, 0.7)] {
                let (tomogram, truth) = weights(Toy { spec, factors, ..Toy::new() }, true);
                assert!(tomogram.is_explained(), "{tomogram:?}");
                assert_weights(&tomogram, &truth, factors.0);
                assert_eq!(tomogram.undetermined.len(), 1, "{tomogram:?}");
            }
        }
    }

    #[test]
    fn a_trainer_that_takes_no_batch_of_one_sequence_is_asked_for_copies() {
        for spec in [LossSpec::sum(), LossSpec::token_mean(), LossSpec::naive_data_parallel()] {
            let mut toy = Toy { spec, factors: (3.0, 0.7), ..Toy::new() };
            toy.limits.ranks = Count::exactly(2);
            let (tomogram, truth) = weights(toy, true);
            assert!(tomogram.is_explained(), "{tomogram:?}");
            assert_weights(&tomogram, &truth, 3.0);
        }
    }

    #[test]
    fn a_width_that_is_counted_is_one_factor_for_all() {
        // Alone, a token of a row padded to 5 positions weighs 1/4.
        let spec = LossSpec { counting: Counting::AllPositions, ..LossSpec::token_mean() };
        let (tomogram, truth) = weights(Toy { spec, ..Toy::new() }, true);
        assert_weights(&tomogram, &truth, 1.0);
    }

    #[test]
    fn without_parameters_the_scale_is_that_of_the_reported_loss_and_said_to_be() {
        for factors in [(3.0, 1.0), (1.0, 3.0)] {
            let (tomogram, truth) = weights(Toy { factors, ..Toy::new() }, false);
            assert_weights(&tomogram, &truth, factors.1);
            assert!(tomogram.undetermined.iter().any(|open| open.contains("reported loss")));
        }
    }

    #[test]
    fn losses_that_are_none_are_refused() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut negative = Toy { factors: (1.0, -1.0), ..Toy::new() };
        let precision = Precision::of(&negative, &batch, 0.0);
        let error = Basis::self_calibrated(&mut negative, None, &batch, &LossSpec::token_mean(), &precision)
            .unwrap_err();
        assert!(matches!(error, TomographyError::Calibration { .. }), "{error}");
        let mut falling = Toy { factors: (-1.0, 1.0), ..Toy::new() };
        let held = falling.held();
        let error =
            Basis::self_calibrated(&mut falling, Some(&held), &batch, &LossSpec::token_mean(), &precision)
                .unwrap_err();
        assert!(error.to_string().contains("does not rise"), "{error}");
        let mut strict = Toy::new();
        strict.limits.ignore_index = false;
        let error = Basis::self_calibrated(&mut strict, None, &batch, &LossSpec::token_mean(), &precision)
            .unwrap_err();
        assert!(matches!(error, TomographyError::Lacks { .. }), "{error}");
    }

    #[test]
    fn noise_widens_the_errors_and_too_much_of_it_is_refused() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut toy = Toy::new();
        let held = toy.held();
        let common = |toy: &mut Toy, noise: f64| {
            let precision = Precision::of(toy, &batch, noise);
            Basis::self_calibrated(toy, Some(&held), &batch, &LossSpec::token_mean(), &precision)
                .map(|basis| basis.common_error())
        };
        let (quiet, noisy) = (common(&mut toy, 0.0).unwrap(), common(&mut toy, 1e-6).unwrap());
        assert!(quiet < 1e-7 && noisy > 1e-6, "{quiet:e} {noisy:e}");
        let error = common(&mut toy, 10.0).unwrap_err();
        assert!(error.to_string().contains("too uncertain"), "{error}");
    }

    #[test]
    fn the_root_is_found_from_tiny_to_huge_factors() {
        let probabilities = [0.5, 0.25, 0.125, 0.1, 0.025];
        for c in [1e-9, 0.04, 1.0, 17.0, 1e12] {
            let losses: Vec<f64> = probabilities.iter().map(|p: &f64| -c * p.ln()).collect();
            let found = root(&losses).unwrap();
            assert!((found / c - 1.0).abs() < 1e-14, "{found} {c}");
        }
    }
}
