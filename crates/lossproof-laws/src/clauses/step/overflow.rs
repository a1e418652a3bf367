//! A step that is skipped because its gradient overflows, and the step after it.

use super::taken::TakenStep;
use crate::trial::{Ended, Trial};
use lossproof_cases::edit::{alone, regroup};
use lossproof_spec::{Adam, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{Tensor, TensorSet, TensorValues};

/// How often every sequence is repeated in the batch that is to overflow.
const REPEATED: usize = 8;

/// Sequences by themselves that are tried for a small gradient, or for a large one.
const LONE: usize = 4;

/// Loss scales that are tried, each half of the one before.
const SCALES: i32 = 4;

/// What all parameters are multiplied by where no gradient overflows otherwise.
const ENLARGED: f64 = 16.0;

/// Steps of warm-up, so that a schedule which advances on a skipped step shows.
pub(super) const WARM_UP: u32 = 4;

/// Takes a step that is skipped and a good one after it, and holds the good one to the same step taken
/// without the skipped one before it: parameters to the bit, and the learning rate. Tells whether there was
/// such a pair.
///
/// Two batches are needed, and a loss scale under which the gradient of the first overflows and that of the
/// second does not. The first has the largest gradient among some batches, the second the smallest; the scale
/// is the power of two just large enough to carry the largest element of the first out of range. Where a
/// trainer's backward pass overflows on the way to the second, smaller scales are tried. Where no power of
/// two is large enough, as under a mean, parameters are loaded that make every gradient larger.
pub(super) fn overflow(trial: &mut Trial<'_>) -> Result<bool, Ended> {
    trial.return_to_the_trial()?;
    let batch = trial.case.batch.clone();
    let spec = trial.reduction(LossSpec::sum()).map_or_else(|| trial.spec(&[&batch]), Ok)?;
    let mut pair = trial.far_apart(&spec)?;
    let largest_scale = largest_exponent(trial.facts.loss_dtype());
    let small_gradients = pair.as_ref().is_none_or(|(large, _)| large.headroom > largest_scale.into());
    if small_gradients && trial.subject.parameter_loading().is_some() {
        let own = trial.parameters()?;
        trial.load(&enlarged(&own))?;
        pair = trial.far_apart(&spec)?;
        let skipped = pair.map_or(Ok(false), |pair| skipped_and_not(trial, &spec, &pair))?;
        trial.load(&own)?;
        return Ok(skipped);
    }
    pair.map_or(Ok(false), |pair| skipped_and_not(trial, &spec, &pair))
}

/// Tries loss scales until one skips the first batch of a pair and not the second, and holds the second to
/// what it is without the first.
fn skipped_and_not(
    trial: &mut Trial<'_>,
    spec: &LossSpec,
    (large, small): &(Sized, Sized),
) -> Result<bool, Ended> {
    let Some(rule) = trial.rule_with_state()? else { return Ok(false) };
    let rate = trial.adam_rate();
    let highest = exponent(large.headroom, largest_exponent(trial.facts.loss_dtype()));
    for exponent in (highest - SCALES + 1..=highest).rev() {
        let loss_scale = 2.0_f64.powi(exponent);
        let optimizer = Optimizer { rule, loss_scale, warm_up: WARM_UP, ..Optimizer::sgd(rate) };
        trial.return_to_the_trial()?;
        let alone = trial.take_steps(&optimizer, spec, &[&small.batch])?;
        trial.fact_of_overflow(&alone[0]);
        if alone[0].report.skipped {
            continue;
        }
        trial.return_to_the_trial()?;
        let both = trial.take_steps(&optimizer, spec, &[&large.batch, &small.batch])?;
        trial.fact_of_overflow(&both[0]);
        trial.return_to_the_trial()?;
        if both[0].report.skipped {
            trial.fact_of_waiting(&both[1], &alone[0]);
        }
        return Ok(both[0].report.skipped);
    }
    trial.return_to_the_trial()?;
    Ok(false)
}

/// Parameters that make gradients larger: all of them multiplied.
fn enlarged(parameters: &TensorSet) -> TensorSet {
    let mut larger = TensorSet::new();
    for (name, tensor) in parameters {
        let values = tensor.to_f64().iter().map(|value| ENLARGED * value).collect();
        let tensor = Tensor::new(tensor.shape().to_vec(), TensorValues::F64(values));
        larger.insert(name.clone(), tensor.expect("invariant: the shape is that of as many values"));
    }
    larger
}

/// A batch and the power of two that carries the first element of its gradient out of the range of its element
/// type.
struct Sized {
    batch: GlobalBatch,
    headroom: f64,
}

impl Trial<'_> {
    /// Two batches, the gradient of the second of which can be at least twice as much enlarged as that of the
    /// first.
    fn far_apart(&mut self, spec: &LossSpec) -> Result<Option<(Sized, Sized)>, Ended> {
        let batch = self.case.batch.clone();
        let most = batch.micro_batches().map(|own| own.sequences().len()).max().unwrap_or(1);
        let limits = self.facts.info.limits;
        let times = (limits.sequences.most / most).clamp(1, REPEATED);
        let repeated = regroup(&batch, |own| vec![own.sequences(); times].concat());
        let supervised = batch.sequences().filter(|sequence| sequence.supervised() > 0);
        let lone: Vec<GlobalBatch> = supervised.take(LONE).map(|sequence| alone(sequence, &limits)).collect();
        let (mut large, mut small): (Option<Sized>, Option<Sized>) = (None, None);
        for batch in [repeated].into_iter().chain(lone) {
            let headroom = self.headroom(&batch, spec)?;
            if !headroom.is_finite() {
                continue;
            }
            if small.as_ref().is_none_or(|small| headroom > small.headroom) {
                small = Some(Sized { batch: batch.clone(), headroom });
            }
            if large.as_ref().is_none_or(|large| headroom < large.headroom) {
                large = Some(Sized { batch, headroom });
            }
        }
        let pair = large.zip(small);
        Ok(pair.filter(|(large, small)| small.headroom >= large.headroom + 1.0))
    }

    /// The power of two that carries the first element of a gradient out of the range of its element type; not
    /// finite where there is none.
    fn headroom(&mut self, batch: &GlobalBatch, spec: &LossSpec) -> Result<f64, Ended> {
        let mut least = f64::INFINITY;
        for (name, tensor) in self.gradient(spec, batch)?.gradient.iter() {
            let magnitude = largest_magnitude(tensor);
            if magnitude.is_nan() {
                return Ok(f64::NAN);
            }
            let beyond = f64::from(largest_exponent(self.facts.gradient_dtype(name)) + 1);
            least = least.min(beyond - magnitude.log2());
        }
        Ok(least)
    }

    /// The rule with most state that the trainer has: a step count and two moments, or else a velocity.
    pub(super) fn rule_with_state(&mut self) -> Result<Option<Rule>, Ended> {
        let numbers = Adam {
            beta_1: 0.5,
            beta_2: 0.75,
            epsilon: 2.0_f64.powi(-20),
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay: 0.0,
            decayed: Decayed::All,
        };
        let velocity = |momentum| Rule::Sgd { momentum, weight_decay: 0.0 };
        for rule in [Rule::Adam(numbers), Rule::AdamW(numbers), velocity(0.5), velocity(0.0)] {
            if self.offers(rule)? {
                return Ok(Some(rule));
            }
        }
        Ok(None)
    }

    /// A step is skipped and leaves the parameters as they were, or it leaves them finite.
    fn fact_of_overflow(&mut self, step: &TakenStep) {
        if step.report.skipped {
            let kept = step.after == step.before;
            self.fact("overflow", kept, || "a skipped step changed the parameters".to_owned());
        } else {
            let finite = all_finite(&step.after);
            self.fact("overflow", finite, || "a step with an overflowing gradient was taken".to_owned());
        }
    }

    /// The step after a skipped one is the step without it.
    fn fact_of_waiting(&mut self, after: &TakenStep, alone: &TakenStep) {
        self.fact("step after a skip", !after.report.skipped, || {
            "a step after a skipped one is skipped, which is taken where none was skipped".to_owned()
        });
        let (found, expected) = (after.report.learning_rate, alone.report.learning_rate);
        self.fact("learning rate after a skip", (found - expected).abs() <= 1e-6 * expected, || {
            format!("after a skipped step the learning rate is {found}, the first one is {expected}")
        });
        self.fact("step after a skip", after.after == alone.after, || {
            "the step after a skipped one is another than without it: the optimizer did not wait".to_owned()
        });
    }
}

/// The largest power of two in the range of an element type; of half precision that of f32, in which it is
/// handed over.
fn largest_exponent(dtype: Dtype) -> i32 {
    if dtype == Dtype::F64 { 1023 } else { 127 }
}

/// The smallest power of two from this headroom on, or else the largest.
fn exponent(headroom: f64, largest: i32) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "between −1100 and 2200")]
    let smallest = headroom.ceil() as i32;
    smallest.min(largest)
}

/// Whether every element of some tensors is a number.
fn all_finite(tensors: &TensorSet) -> bool {
    tensors.values().all(|tensor| largest_magnitude(tensor).is_finite())
}

/// The largest magnitude of any element; NaN where one is NaN.
fn largest_magnitude(tensor: &Tensor) -> f64 {
    let mut largest = 0.0_f64;
    for element in tensor.to_f64() {
        if element.is_nan() {
            return f64::NAN;
        }
        largest = largest.max(element.abs());
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale_for(dtype: Dtype, magnitude: f64) -> f64 {
        let largest = largest_exponent(dtype);
        2.0_f64.powi(exponent(f64::from(largest + 1) - magnitude.log2(), largest))
    }

    #[test]
    fn a_scale_carries_its_number_out_of_range_and_half_of_it_does_not() {
        for magnitude in [2.5, 3.0, 4.0, 1000.0, 1e30] {
            let scale = scale_for(Dtype::F64, magnitude);
            assert!((magnitude * scale).is_infinite() && (magnitude * (scale / 2.0)).is_finite());
            #[expect(clippy::cast_possible_truncation, reason = "infinite where it is too large")]
            let product = |scale: f64| (magnitude * scale) as f32;
            let scale = scale_for(Dtype::F32, magnitude);
            assert!(product(scale).is_infinite() && product(scale / 2.0).is_finite());
        }
        // No power of two carries 0.5 out of range.
        let expected = [1023, 127].map(|exponent| 2.0_f64.powi(exponent).to_bits());
        assert_eq!([Dtype::F64, Dtype::F32].map(|dtype| scale_for(dtype, 0.5).to_bits()), expected);
    }
}
