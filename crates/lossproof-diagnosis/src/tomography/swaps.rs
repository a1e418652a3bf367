//! Weights from label swaps, for subjects that take no ignored labels.

use super::{
    Basis, Precision, Tomogram, TomographyError, Unexplained, Weight, WeightGroup,
    basis::prediction_name,
    calibration::{Factor, Lone, gradient_factor, loss_factor, relabelled, undetermined},
    difference::minus,
    evaluated::evaluated_share,
    precision::{accumulated, checked},
    recover::recover_above,
    tomogram::WeightSource,
};
use lossproof_cases::edit::{alone, cut_off};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, Prediction, Sequence};
use lossproof_subject::{Subject, Tensor, TensorSet};
use std::collections::BTreeMap;

/// Recovers the weights of the supervised predictions of a batch by swapping their labels, one at a time.
///
/// Two batches that differ in the label of prediction t alone have gradients that differ by
/// `w_t·(∇ℓ_t(y) − ∇ℓ_t(y'))`; the same swap in that sequence alone differs by `u_i·(∇ℓ_t(y) − ∇ℓ_t(y'))`, so
/// the ratio of the two is `w_t/u_i`. The weight `u_i` that a token has when sequence i is alone follows from
/// the sequence cut off behind its first supervised prediction: there the same swap has the weight `c` of a
/// lone token, and since a prediction does not see what follows it, the ratio is `u_i/c`. Then c is fixed as
/// in [`Basis::self_calibrated`].
///
/// A subject whose sequences cannot be cut off may evaluate token losses instead: what a label changes in the
/// reported loss of the sequence alone, over what it changes in the token loss, is `u_i` there. The gradient is tied
/// to the reported loss as before.
///
/// The subject is asked about `spec`; `precision` is its own on the batch, noise included
/// ([`Observed`](super::Observed)); on the smaller probes it is no worse.
///
/// Labels are swapped, inputs stay. A swap that changes nothing when its sequence is alone tells nothing, and
/// leaves its weight undetermined: a group of its own. With a subject that makes its labels from its inputs
/// that is every weight.
///
/// # Errors
/// When the subject fails, has a vocabulary of one, or the batch supervises nothing.
pub fn label_swaps(
    subject: &mut dyn Subject,
    parameters: Option<&TensorSet>,
    batch: &GlobalBatch,
    spec: &LossSpec,
    precision: &Precision,
) -> Result<Tomogram, TomographyError> {
    let subject = &mut checked(subject)?;
    subject.configure(spec)?;
    let info = subject.info();
    let vocabulary = u32::try_from(info.limits.vocabulary).unwrap_or(u32::MAX);
    let supervised: Vec<(usize, Prediction)> =
        batch.predictions().enumerate().filter(|(_, prediction)| prediction.supervised).collect();
    let predictions: Vec<Prediction> = supervised.iter().map(|&(_, prediction)| prediction).collect();
    if supervised.is_empty() || vocabulary < 2 {
        let remedy = "give a batch with supervised tokens and a vocabulary of two at least";
        return Err(TomographyError::Nothing { what: "label to swap", remedy });
    }
    subject.reset()?;
    let open = undetermined_by_swaps(batch);
    let mut swapper = Swapper {
        subject,
        spec,
        parameters,
        vocabulary,
        precision,
        factors: BTreeMap::new(),
        always_open: open.len(),
        undetermined: open,
    };
    let together = swapper.swaps_together(batch, &predictions)?;
    let mut ratios = Vec::new();
    for (index, sequence) in batch.sequences().enumerate() {
        let own: Vec<_> = supervised.iter().filter(|(_, p)| p.sequence == index).collect();
        let Some((_, first)) = own.first() else { continue };
        let predictions: Vec<Prediction> = own.iter().map(|(_, prediction)| *prediction).collect();
        let swaps = swapper.swaps_alone(sequence, &predictions)?;
        // Up to the token that its first prediction is about.
        let lone = cut_off(sequence, first.position + 2);
        let unit = if info.limits.lengths.contains(lone.len()) {
            let lone_swap = swapper.swaps_alone(&lone, &predictions[..1])?;
            let c = swapper.lone_weight(&lone, first.position)?;
            let relative = swapper.ratio(&swaps, 0, &lone_swap, 0)?;
            told_from_zero(&relative.weights[0]).map(|relative| c.times(relative))
        } else {
            Some(swapper.evaluated_weight(sequence, first)?)
        };
        for (place, prediction) in own.into_iter().enumerate() {
            ratios.push((
                prediction_name(prediction.0, &prediction.1),
                unit,
                swapper.ratio(&together, ratios.len(), &swaps, place)?,
            ));
        }
    }
    Ok(assemble(ratios, swapper.undetermined))
}

fn undetermined_by_swaps(batch: &GlobalBatch) -> Vec<String> {
    let mut open = vec![
        "which token a prediction is scored against and what it sees, and backward errors that are the same in every \
         batch: the subject is compared with itself"
            .to_owned(),
        "weights that differ within a sequence when it is alone: there its supervised predictions are taken to weigh the \
         same"
        .to_owned(),
    ];
    if batch.predictions().any(|prediction| !prediction.supervised) {
        open.push("the weights of ignored predictions: they have no label to swap".to_owned());
    }
    open
}

struct Swapper<'a> {
    subject: &'a mut dyn Subject,
    spec: &'a LossSpec,
    parameters: Option<&'a TensorSet>,
    vocabulary: u32,
    precision: &'a Precision,
    /// The weight of a lone token, by the length of its sequence and whether label 0 is given.
    factors: BTreeMap<(usize, bool), Factor>,
    undetermined: Vec<String>,
    /// How many of these are open whatever is found.
    always_open: usize,
}

/// What swaps of labels change in the gradient of one batch.
struct Swaps {
    /// One a label.
    differences: Vec<TensorSet>,
    /// What the error of a difference is relative to, by parameter: an estimate of
    /// `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` of the gradients it is a difference of. The summands themselves are not
    /// seen. For the logits their swaps are as large as they may be, `‖e_y' − e_y‖ = √2 ≥ ‖p − e_y‖`, and the
    /// backward pass takes both the same way; so the swaps stand for the summands, without a proof that a
    /// parameter sees them alike.
    scales: BTreeMap<String, f64>,
}

impl Swapper<'_> {
    /// The swaps of predictions of a batch.
    fn swaps_together(
        &mut self,
        batch: &GlobalBatch,
        predictions: &[Prediction],
    ) -> Result<Swaps, TomographyError> {
        self.swaps(batch, predictions, |swapper, prediction| {
            let mut index = 0;
            batch.map_sequences(|sequence| {
                index += 1;
                let here = index - 1 == prediction.sequence;
                if here { swapper.swapped(sequence, prediction) } else { sequence.clone() }
            })
        })
    }

    /// The swaps of predictions of one sequence when it is alone, in all of its copies where the subject takes no batch
    /// of one.
    fn swaps_alone(
        &mut self,
        sequence: &Sequence,
        predictions: &[Prediction],
    ) -> Result<Swaps, TomographyError> {
        let limits = self.subject.info().limits;
        self.swaps(&alone(sequence, &limits), predictions, |swapper, prediction| {
            alone(&swapper.swapped(sequence, prediction), &limits)
        })
    }

    /// The sequence with another label of one prediction.
    fn swapped(&self, sequence: &Sequence, prediction: &Prediction) -> Sequence {
        let label = (prediction.target + self.vocabulary / 2) % self.vocabulary;
        relabelled(sequence, prediction.position, label).unwrap_or_else(|| sequence.clone())
    }

    fn swaps(
        &mut self,
        batch: &GlobalBatch,
        predictions: &[Prediction],
        swapped: impl Fn(&Self, &Prediction) -> GlobalBatch,
    ) -> Result<Swaps, TomographyError> {
        let before = self.gradient(batch)?;
        let mut differences = Vec::new();
        for prediction in predictions {
            let swapped = swapped(self, prediction);
            differences.push(minus(&before, &self.gradient(&swapped)?)?);
        }
        let mut scales = BTreeMap::new();
        for (name, tensor) in &before {
            let size = |tensor: &Tensor| lossproof_numerics::norm(&tensor.to_f64());
            let swaps = differences.iter().filter_map(|difference| difference.get(name)).map(size);
            scales.insert(name.clone(), size(tensor).max(swaps.sum()));
        }
        Ok(Swaps { differences, scales })
    }

    /// c: what the gradient of the only supervised token of a sequence is multiplied with.
    fn lone_weight(&mut self, lone: &Sequence, position: usize) -> Result<Factor, TomographyError> {
        let layout = (lone.len(), lone.labels()[0] != IGNORE_INDEX);
        if let Some(&known) = self.factors.get(&layout) {
            return Ok(known);
        }
        let batch = alone(lone, &self.subject.info().limits);
        let loss = loss_factor(self.subject, self.spec, (lone, position), self.precision)?;
        let gradient = self.gradient(&batch)?;
        let tie =
            gradient_factor(self.subject, self.parameters, &Lone { batch, gradient, loss }, self.precision)?;
        if self.factors.is_empty() {
            self.undetermined.extend(undetermined(loss, tie));
        }
        let factor = loss.unwrap_or(Factor::ONE).times(tie.unwrap_or(Factor::ONE));
        self.factors.insert(layout, factor);
        Ok(factor)
    }

    /// `u_i`: what a token weighs in the gradient of its sequence alone, by token losses that the subject
    /// evaluates.
    fn evaluated_weight(
        &mut self,
        sequence: &Sequence,
        prediction: &Prediction,
    ) -> Result<Factor, TomographyError> {
        let batch = alone(sequence, &self.subject.info().limits);
        let loss = evaluated_share(self.subject, self.spec, (sequence, prediction.position), self.precision)?;
        let gradient = self.gradient(&batch)?;
        let lone = Lone { batch, gradient, loss: Some(loss) };
        let tie = gradient_factor(self.subject, self.parameters, &lone, self.precision)?;
        if self.undetermined.len() == self.always_open {
            self.undetermined.extend(undetermined(Some(loss), tie));
        }
        Ok(loss.times(tie.unwrap_or(Factor::ONE)))
    }

    fn gradient(&mut self, batch: &GlobalBatch) -> Result<TensorSet, TomographyError> {
        Ok(accumulated(self.subject, batch)?.1)
    }

    /// By what a swap in one batch is to be multiplied to give the same swap in another.
    fn ratio(&self, of: &Swaps, index: usize, to: &Swaps, place: usize) -> Result<Tomogram, TomographyError> {
        let basis = Basis::new([(String::new(), to.differences[place].clone())], 0.0)?;
        let exact = Precision { gradient: f64::EPSILON, loss: 0.0 };
        let first = recover_above(&basis, &of.differences[index], &exact, &BTreeMap::new())?;
        // Both sides are differences of two gradients, each as exact as its size allows.
        let ratio = first.weights[0].value.abs();
        let own = |name: &String| to.scales.get(name).copied().unwrap_or(0.0);
        let floor = |(name, scale): (&String, &f64)| {
            (name.clone(), 2.0 * self.precision.gradient * (scale + ratio * own(name)))
        };
        recover_above(&basis, &of.differences[index], &exact, &of.scales.iter().map(floor).collect())
    }
}

/// A ratio as a factor; `None` where the swap it is over changes nothing, or by no more than its error.
fn told_from_zero(ratio: &Weight) -> Option<Factor> {
    let size = ratio.value.abs();
    (ratio.group.is_none() && size > ratio.error)
        .then(|| Factor { value: ratio.value, error: ratio.error / size })
}

/// One tomogram of the ratios of all swaps, each in units of the weight its token has alone, where that is
/// known.
fn assemble(ratios: Vec<(String, Option<Factor>, Tomogram)>, undetermined: Vec<String>) -> Tomogram {
    let mut unexplained: BTreeMap<String, Unexplained> = BTreeMap::new();
    let (mut weights, mut groups) = (Vec::new(), Vec::new());
    let (mut residual, mut bound, mut equations) = (0.0_f64, 0.0_f64, 0);
    let (mut is_fit, mut is_open) = (false, false);
    for (index, (name, unit, ratio)) in ratios.into_iter().enumerate() {
        equations += ratio.equations;
        is_fit |= ratio.is_fit;
        is_open |= ratio.is_open;
        residual = residual.max(ratio.residual);
        bound = bound.max(ratio.bound);
        for part in ratio.unexplained {
            let worst = unexplained.entry(part.name.clone()).or_insert_with(|| part.clone());
            if part.residual > worst.residual {
                *worst = part;
            }
        }
        let own = &ratio.weights[0];
        let (value, error, group) = if let (Some(unit), None) = (unit, own.group) {
            let value = own.value * unit.value;
            (value, own.error * unit.value.abs() + value.abs() * unit.error, None)
        } else {
            groups.push(WeightGroup { members: vec![index], sum: None });
            (0.0, f64::INFINITY, Some(groups.len() - 1))
        };
        weights.push(Weight { name, value, error, group });
    }
    let mut unexplained: Vec<_> = unexplained.into_values().collect();
    let whole: f64 = unexplained.iter().map(|part| part.residual * part.residual).sum();
    for part in &mut unexplained {
        part.share = part.residual * part.residual / whole;
    }
    unexplained.sort_by(|a, b| b.share.total_cmp(&a.share));
    let source = WeightSource::Gradient;
    Tomogram {
        source,
        weights,
        groups,
        condition: 1.0,
        equations,
        residual,
        bound,
        unexplained,
        is_fit,
        is_open,
        undetermined,
        policy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::toy::{self, Toy};
    use lossproof_spec::{Counting, LossSpec, TokenWeights};
    use lossproof_subject::{Count, Limits};

    fn swapped(mut toy: Toy, masked: bool) -> (Tomogram, Vec<f64>) {
        let batch = toy::batch([5, 3, 4, 3], |index, p| masked && index == 0 && p < 3);
        let held = toy.held();
        let precision = Precision::of(&toy, &batch, 0.0);
        let spec = toy.spec;
        let tomogram = label_swaps(&mut toy, Some(&held), &batch, &spec, &precision).unwrap();
        let truth = TokenWeights::new(&toy.spec, &batch.layout()).unwrap().per_prediction(&batch);
        let supervised = batch.predictions().zip(truth).filter(|(p, _)| p.supervised);
        (tomogram, supervised.map(|(_, weight)| weight).collect())
    }

    #[track_caller]
    fn assert_weights(tomogram: &Tomogram, truth: &[f64]) {
        assert_eq!(tomogram.weights.len(), truth.len());
        for (weight, truth) in tomogram.weights.iter().zip(truth) {
            let error = (weight.value - truth).abs();
            assert!(error <= weight.error && weight.error < 1e-7, "{weight:?}, not {truth}");
        }
        assert!(tomogram.is_explained(), "{tomogram:?}");
    }

    #[test]
    fn weights_are_found_without_an_ignored_label() {
        let before = LossSpec { counting: Counting::BeforeShift, ..LossSpec::token_mean() };
        let all = LossSpec { counting: Counting::AllPositions, ..LossSpec::token_mean() };
        let naive = LossSpec::naive_accumulated_mean();
        for spec in [LossSpec::sum(), LossSpec::sequence_mean(), LossSpec::batch_mean(), naive, before, all] {
            let mut toy = Toy { spec, ..Toy::new() };
            toy.limits.ignore_index = false;
            // One sequence alone, or one on each of two ranks.
            for ranks in [Count::ANY, Count::exactly(2)] {
                let limits = Limits { ranks, ..toy.limits };
                let (tomogram, truth) = swapped(Toy { limits, ..toy.clone() }, false);
                assert_weights(&tomogram, &truth);
            }
        }
    }

    #[test]
    fn sequences_that_cannot_be_cut_off_show_their_weights_in_token_losses() {
        for spec in [LossSpec::sum(), LossSpec::token_mean(), LossSpec::sequence_mean()] {
            for factors in [(1.0, 1.0), (3.0, 0.5)] {
                let mut toy = Toy { spec, factors, ..Toy::new() };
                toy.limits.ignore_index = false;
                toy.limits.lengths = Count::exactly(4);
                let batch = toy::batch([4, 4, 4, 4], |_, _| false);
                let held = toy.held();
                let precision = Precision::of(&toy, &batch, 0.0);
                let tomogram = label_swaps(&mut toy, Some(&held), &batch, &spec, &precision).unwrap();
                let truth = TokenWeights::new(&spec, &batch.layout()).unwrap().per_prediction(&batch);
                let scaled: Vec<f64> = truth.iter().map(|weight| factors.0 * weight).collect();
                assert_weights(&tomogram, &scaled);
            }
        }
    }

    #[test]
    fn swaps_that_change_nothing_leave_every_weight_open() {
        let (tomogram, truth) = swapped(Toy { labels_from_inputs: true, ..Toy::new() }, false);
        assert_eq!(tomogram.weights.len(), truth.len());
        for (index, weight) in tomogram.weights.iter().enumerate() {
            let group = weight.group.unwrap();
            assert_eq!(tomogram.groups[group].members, [index]);
            assert!(weight.error.is_infinite() && weight.value.abs() <= 0.0, "{weight:?}");
        }
        assert_eq!(tomogram.groups[0].to_string(), "unknown 0 is not determined");
    }

    #[test]
    fn ignored_predictions_are_left_out_and_said_to_be() {
        let (tomogram, truth) = swapped(Toy { spec: LossSpec::token_mean(), ..Toy::new() }, true);
        assert_weights(&tomogram, &truth);
        assert!(tomogram.undetermined.iter().any(|open| open.contains("ignored predictions")));
        let mut toy = Toy::new();
        let batch = toy::batch([5, 3, 4, 3], |_, _| true);
        let precision = Precision { gradient: 0.0, loss: 0.0 };
        let error = label_swaps(&mut toy, None, &batch, &LossSpec::token_mean(), &precision).unwrap_err();
        assert!(matches!(error, TomographyError::Nothing { .. }));
    }
}
