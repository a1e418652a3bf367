//! Loss and gradient of a model with [`KnownLogits`], in closed form.

use crate::{
    final_norm::FinalNorm,
    known_logits::KnownLogits,
    trial::{CaseOutcome, Computed, Ended, Trial, values},
};
use lossproof_cases::edit::edit_freely;
use lossproof_numerics::{CrossEntropy, norm};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, LossSpec, TokenWeights};
use std::collections::BTreeMap;

/// What a final bias is multiplied with where a model is to be sure of itself: its mistakes cost tens of nats.
pub(super) const SURE: f64 = 16.0;

/// Where rounding may take more than this part of a gradient nothing is compared with it.
const COARSE: f64 = 0.125;

/// Weight of every label: `Σ w_t` over the supervised tokens with it.
pub(super) fn label_weights(spec: &LossSpec, batch: &GlobalBatch) -> Result<BTreeMap<usize, f64>, Ended> {
    let weights =
        TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?.per_prediction(batch);
    let mut labels = BTreeMap::new();
    for (prediction, weight) in batch.predictions().zip(weights).filter(|(p, _)| p.supervised) {
        *labels.entry(prediction.target as usize).or_default() += weight;
    }
    Ok(labels)
}

/// The gradient of a model with known logits in closed form: `∂ℓ/∂z = p − q`, so `∇b = Σ w·Wᵀ(p − q)` and
/// `∇W = Σ w·(p − q)·bᵀ`; a gain of zero lets nothing through to anything else.
pub(crate) fn closed_form_gradient(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let known = trial.known_logits(|trial, _| trial.random_bias())?;
    let looked = trial.closed_form_with_gradient("known logits", &spec, &batch, &known, 0.0)?;
    trial.unequal_losses(&spec, &batch)?;
    Ok(looked)
}

impl Trial<'_> {
    /// Holds the loss of a model with known logits to the closed form.
    pub(super) fn closed_form(
        &mut self,
        what: &str,
        spec: &LossSpec,
        batch: &GlobalBatch,
        known: &KnownLogits,
    ) -> Result<Computed, Ended> {
        let cross_entropy = CrossEntropy { label_smoothing: spec.label_smoothing, z_loss: spec.z_loss };
        let actual = self.gradient(spec, batch)?;
        let mut expected = CompensatedSum::default();
        for (label, weight) in label_weights(spec, batch)? {
            expected
                .add(weight * cross_entropy.loss(known.logits(), label).map_err(|_| Ended::NotApplicable)?);
        }
        let expected = expected.value();
        let scale = expected.abs().max(actual.total);
        self.loss(what, batch, &actual, expected, scale);
        Ok(actual)
    }

    /// Holds loss and gradient to the closed form where losses are of different sizes: all labels but one cost
    /// next to nothing and that one tens of nats, and then all of them do. Whatever drops, skips or bounds
    /// tokens, micro-batches or updates by the size of a loss shows in one of the two.
    fn unequal_losses(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<(), Ended> {
        let known = self.known_logits(|trial, _| SURE * trial.random_bias())?;
        let labels = || 0_u32..;
        let by_logit = |one: &(u32, &f64), other: &(u32, &f64)| one.1.total_cmp(other.1);
        let cheapest = labels().zip(known.logits()).max_by(by_logit);
        let dearest = labels().zip(known.logits()).min_by(by_logit);
        let (Some((cheap, highest)), Some((dear, lowest))) = (cheapest, dearest) else { return Ok(()) };
        let spread = highest - lowest;
        let all_dear = self.with_labels(batch, |_| dear);
        let one_dear = self.with_labels(batch, |number| if number == 0 { dear } else { cheap });
        let limits = self.facts.info.limits;
        if limits.check(&all_dear).is_err() {
            return Ok(());
        }
        if one_dear != all_dear {
            self.closed_form_with_gradient("one dear label", spec, &one_dear, &known, spread)?;
        }
        self.closed_form_with_gradient("dear labels", spec, &all_dear, &known, spread)?;
        Ok(())
    }

    /// The batch with these labels where a token is supervised, by their number in it. Where labels are the tokens
    /// themselves these are replaced: known logits do not depend on them.
    fn with_labels(&self, batch: &GlobalBatch, label: impl Fn(usize) -> u32) -> GlobalBatch {
        let free = self.facts.info.limits.free_labels;
        let mut number = 0;
        batch.map_sequences(|sequence| {
            edit_freely(sequence, |fields| {
                for at in 1..fields.labels.len() {
                    if !sequence.supervises(at - 1) {
                        continue;
                    }
                    let token = label(number);
                    number += 1;
                    (fields.labels[at], fields.targets[at]) = (i64::from(token), token);
                    if !free {
                        fields.input_ids[at] = token;
                    }
                }
            })
        })
    }

    /// Holds loss and gradient of a model with known logits to the closed form. Whether there is something to hold.
    ///
    /// `spread` is between the highest logit and the lowest where these are far apart: rounding moves a probability by
    /// the rounding of its logit, which is as many times as large.
    fn closed_form_with_gradient(
        &mut self,
        what: &str,
        spec: &LossSpec,
        batch: &GlobalBatch,
        known: &KnownLogits,
        spread: f64,
    ) -> Result<bool, Ended> {
        let actual = self.closed_form(&format!("{spec}, {what}"), spec, batch, known)?;
        let cross_entropy = CrossEntropy { label_smoothing: spec.label_smoothing, z_loss: spec.z_loss };
        let mut by_class = vec![CompensatedSum::default(); known.logits().len()];
        let mut size = 0.0;
        for (label, weight) in label_weights(spec, batch)? {
            let gradient = cross_entropy.gradient(known.logits(), label).map_err(|_| Ended::NotApplicable)?;
            // A probability of 1 is rounded whatever is left of it behind p − q.
            let own = if spread > 0.0 { norm(&gradient).max(1.0) } else { norm(&gradient) };
            size += weight.abs() * known.steepest() * own;
            for (sum, g) in by_class.iter_mut().zip(gradient) {
                sum.add(weight * g);
            }
        }
        let by_class: Vec<f64> = by_class.iter().map(CompensatedSum::value).collect();
        let gradient = known.gradient(&by_class);
        let head = known.head();
        let largest_row = known.embedding_rows().map(norm).fold(0.0, f64::max);
        // Where logits are scaled, p − q is too on its way back. ‖Wᵀ(p − q)‖ is at most the largest row's norm times
        // ‖p − q‖₁, and that at most min(√V, 2)·‖p − q‖: without smoothing, ‖p − q‖₁ = 2(1 − p_y) and
        // ‖p − q‖ ≥ 1 − p_y.
        let mut expected = vec![(head, gradient.embedding, size * norm(known.bias()))];
        if let Some(FinalNorm { bias, .. }) = known.final_norm() {
            let scale = size * largest_row * (known.logits().len() as f64).sqrt().min(2.0);
            expected.push((bias.as_str(), gradient.bias, scale));
        }
        for (name, expected, scale) in &expected {
            let found = values(&actual.gradient, name)?;
            let bound = (1.0 + spread) * self.gradient_bound(batch, name);
            if spread == 0.0 || bound < COARSE {
                let what = format!("{spec}, {what}: gradient of {name}");
                self.elements(&what, name, bound, &found, expected, *scale);
            }
        }
        let reach = expected.iter().map(|(_, values, _)| norm(values)).fold(0.0, f64::max);
        // A final gain of zero lets nothing through; one that is not does.
        let below = |name: &&String| {
            known.final_norm().is_some_and(|norm| ![head, &norm.gain, &norm.bias].contains(&name.as_str()))
        };
        for name in actual.gradient.keys().filter(below) {
            let found = norm(&values(&actual.gradient, name)?);
            // A product with zero is zero in half precision, too.
            let bound =
                self.facts.model(batch).gradient_bound(Dtype::F32).min(self.gradient_bound(batch, name));
            self.fact("gradient below the head", found <= bound * reach, || {
                format!(
                    "a final gain of zero lets nothing through, but the gradient of {name} has norm {found:.1e}"
                )
            });
        }
        Ok(size > 0.0)
    }
}
