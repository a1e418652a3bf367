//! Clauses of group 1: the token loss. The model is made to give known logits, which the closed forms need.

use super::closed_form::{SURE, label_weights};
use crate::{
    final_norm::FinalNorm,
    trial::{CaseOutcome, Computed, Ended, Trial, replace, values},
};
use lossproof_cases::edit::{assemble, edit, given};
use lossproof_numerics::{CrossEntropy, norm};
use lossproof_spec::{CompensatedSum, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence};
use rand::RngExt;

/// Each prediction is scored against the label of the next position, and the first label against nothing.
pub(crate) fn shift(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let flipped = batch.map_sequences(|sequence| {
        edit(sequence, |fields| {
            let padding = fields.segment_ids[0] == 0;
            fields.labels[0] =
                if given(fields.labels[0]) || padding { IGNORE_INDEX } else { i64::from(fields.targets[0]) };
        })
    });
    // Where labels cannot be ignored, the first one is always given.
    if trial.facts.info.limits.check(&flipped).is_ok() {
        trial.unchanged_by("first labels given or not", &spec, &batch, &flipped)?;
    }
    // With the same logits everywhere the loss depends on which labels are scored, and on nothing else.
    let known = trial.known_logits(|trial, _| trial.random_bias())?;
    let sum = trial.reduction(LossSpec::sum()).unwrap_or(spec);
    trial.closed_form("losses of the labels of the next positions", &sum, &batch, &known)?;
    let scored = |offset: usize| -> Vec<i64> {
        let mut labels: Vec<i64> = batch
            .sequences()
            .flat_map(|s| s.labels().iter().skip(offset).copied())
            .filter(|&l| given(l))
            .collect();
        labels.sort_unstable();
        labels
    };
    Ok(scored(1) != scored(0) && scored(1) != scored(2))
}

/// Minus the logarithm of the softmax probability: against the closed form, and as probabilities that add up
/// to one.
pub(crate) fn token_loss(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    if trial.subject.token_losses().is_some() {
        trial.probabilities(&batch)?;
    }
    let own = trial.spec(&[&batch])?;
    let spec = trial.facts.claim(&LossSpec::sum()).unwrap_or(own);
    let known = trial.known_logits(|trial, _| trial.random_bias())?;
    trial.closed_form("token losses", &spec, &batch, &known)?;
    let sure = trial.known_logits(|trial, _| SURE * trial.random_bias())?;
    trial.closed_form("token losses of confident mistakes", &spec, &batch, &sure)?;
    let mut parameters = trial.parameters()?;
    trial.load_known_logits(&mut parameters, known.bias().to_vec())?;
    if trial.subject.token_losses().is_some() {
        let plain = CrossEntropy::default();
        let loss = |p: lossproof_spec::Prediction| plain.loss(known.logits(), p.target as usize);
        let expected: Vec<f64> =
            batch.predictions().map(loss).collect::<Result<_, _>>().map_err(|_| Ended::NotApplicable)?;
        let actual = trial.token_losses(&batch)?;
        let bound = trial.loss_bound(&batch);
        let scale = expected.iter().map(|l| l.max(1.0).powi(2)).sum::<f64>().sqrt();
        trial.elements("token losses", "token losses", bound, &actual, &expected, scale);
    }
    Ok(batch.layout().supervised() > 0)
}

impl Trial<'_> {
    /// `Σ_y exp(−ℓ(y)) = 1` at one prediction of a model whose logits are not known.
    fn probabilities(&mut self, batch: &GlobalBatch) -> Result<(), Ended> {
        let limits = self.facts.info.limits;
        let fits = |s: &&Sequence| s.len() > 1 && !limits.lengths.is_exact();
        let Some(sequence) = batch.sequences().find(fits) else { return Ok(()) };
        if !limits.sequences.contains(limits.vocabulary) || !limits.ignore_index {
            return Ok(());
        }
        let position = self.random.random_range(0..sequence.len() - 1);
        let with_target = |target: u32| {
            edit(sequence, |fields| {
                fields.labels.fill(IGNORE_INDEX);
                fields.targets[position + 1] = target;
            })
        };
        let rows: Vec<Sequence> = (0_u32..).take(limits.vocabulary).map(with_target).collect();
        let rank = vec![rows; limits.micro_batches.least.max(1)];
        let losses = self.token_losses(&assemble(vec![rank; limits.ranks.least.max(1)]))?;
        // Of the copies, where the subject takes no fewer, the first.
        let rows = losses.chunks_exact(sequence.len() - 1).take(limits.vocabulary);
        let here = rows.map(|row| (-row[position]).exp());
        let total = here.collect::<CompensatedSum>().value();
        let bound = self.loss_bound(batch);
        self.number("probabilities of all labels", "probabilities", bound, (total, 1.0), 1.0);
        Ok(())
    }
}

/// Equal logits make every token loss ln V.
pub(crate) fn uniform_logits(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.claimed(&LossSpec { z_loss: 0.0, ..trial.spec(&[&batch])? })?;
    trial.known_logits(|_, _| 0.0)?;
    let actual = trial.gradient(&spec, &batch)?;
    let expected = (trial.facts.info.limits.vocabulary as f64).ln() * actual.total;
    trial.loss(&format!("{spec}, uniform logits"), &batch, &actual, expected, expected);
    Ok(actual.total > 0.0)
}

/// A constant on all logits changes neither loss nor gradient. The first column of the embedding is set to
/// one, so that the first element of the final bias is such a constant.
pub(crate) fn constant_invariance(trial: &mut Trial<'_>) -> CaseOutcome {
    let head = trial.embedding_for_a_head()?;
    let scale = trial.exact_logit_scale()?;
    let batch = trial.case.batch.clone();
    let spec = trial.claimed(&LossSpec { z_loss: 0.0, ..trial.spec(&[&batch])? })?;
    let mut parameters = trial.parameters()?;
    let norm = trial.final_norm()?;
    let mut bias = values(&parameters, &norm.bias)?;
    let mut embedding = values(&parameters, &head)?;
    let width = bias.len();
    for row in embedding.chunks_exact_mut(width.max(1)) {
        row[0] = 1.0;
    }
    replace(&mut parameters, &head, embedding)?;
    trial.load(&parameters)?;
    let before = trial.gradient(&spec, &batch)?;
    let constant = 4.0 + f64::from(trial.random.random_range(0_u8..8));
    bias[0] += constant / scale;
    replace(&mut parameters, &norm.bias, bias)?;
    trial.load(&parameters)?;
    let after = trial.gradient(&spec, &batch)?;
    // The logits grow by the constant, and so does the rounding error of their differences, and of what
    // follows.
    trial.unchanged("a constant on all logits", 1.0 + constant, &before, &after)?;
    trial.exact_constant(&spec, &batch, scale)?;
    Ok(before.total > 0.0)
}

impl Trial<'_> {
    /// A constant far larger than the logits, to which it can be added without rounding: they are 1/16 apart,
    /// and so are the numbers of the dtype around the constant. Their differences are exact then, and what is
    /// computed of these is what was computed before. The normaliser's exponential overflows, and the
    /// difference between its logarithm and a logit has no digit left.
    fn exact_constant(&mut self, spec: &LossSpec, batch: &GlobalBatch, scale: f64) -> Result<(), Ended> {
        let spacing = 1.0 / 16.0;
        let constant = spacing / (2.0 * self.facts.loss_dtype().unit_roundoff());
        let mut parameters = self.parameters()?;
        let norm = self.final_norm()?;
        let width = values(&parameters, &norm.bias)?.len();
        if width < 2 {
            return Ok(());
        }
        // The logits are bias[0] + column 1, times their scale: every other product is with zero.
        let head = self.embedding_for_a_head()?;
        let mut embedding = values(&parameters, &head)?;
        for row in embedding.chunks_exact_mut(width) {
            row[0] = 1.0;
            row[1] = spacing / scale * f64::from(self.random.random_range(-32_i32..=32));
        }
        replace(&mut parameters, &head, embedding)?;
        let mut bias = vec![0.0; width];
        bias[1] = 1.0;
        self.load_known_logits(&mut parameters, bias.clone())?;
        let before = self.gradient(spec, batch)?;
        bias[0] = constant / scale;
        replace(&mut parameters, &norm.bias, bias)?;
        self.load(&parameters)?;
        let after = self.gradient(spec, batch)?;
        self.unchanged(&format!("{constant} on all logits, exactly"), 1.0, &before, &after)
    }

    /// Holds loss and gradient after a constant was added to those before, the bounds being `growth` times as
    /// large. The constant is the first element of the final bias, and the first column of the embedding is
    /// one.
    fn unchanged(
        &mut self,
        what: &str,
        growth: f64,
        before: &Computed,
        after: &Computed,
    ) -> Result<(), Ended> {
        let batch = &before.origin.batch;
        let loss_bound = growth * self.loss_bound(batch);
        let scale = before.loss().abs().max(before.total);
        self.number(what, "loss", loss_bound, (after.loss(), before.loss()), scale);
        let FinalNorm { gain, bias } = self.final_norm()?;
        for name in [&bias, &gain] {
            let (from, to) = (values(&before.gradient, name)?, values(&after.gradient, name)?);
            // The constant's own direction is null: its element is a sum that cancels.
            let scale = norm(&from).max(before.total);
            let bound = growth * self.gradient_bound(batch, name);
            self.elements(&format!("{what}: gradient of {name}"), name, bound, &to, &from, scale);
        }
        let width = values(&before.gradient, &bias)?.len().max(1);
        // The head's part of the first column is what the constant multiplies.
        let others = |gradient: Vec<f64>| -> Vec<f64> {
            gradient.into_iter().enumerate().filter(|(i, _)| i % width != 0).map(|(_, g)| g).collect()
        };
        let head = self.embedding_for_a_head()?;
        let (from, to) = (others(values(&before.gradient, &head)?), others(values(&after.gradient, &head)?));
        let what = format!("{what}: gradient of {head} but for its first column");
        let bound = growth * self.gradient_bound(batch, &head);
        self.elements(&what, &head, bound, &to, &from, norm(&from).max(before.total));
        Ok(())
    }
}

/// Loss and gradient are affine in ε; with known logits the loss is `KL(q‖p) + H(q)`.
pub(crate) fn label_smoothing(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let epsilon = if trial.case.spec.label_smoothing > 0.0 { trial.case.spec.label_smoothing } else { 0.25 };
    let base = LossSpec { z_loss: 0.0, ..trial.spec(&[&batch])? };
    let smoothed = trial.claimed(&LossSpec { label_smoothing: epsilon, ..base })?;
    let far = 0.9;
    let claim = |label_smoothing| trial.facts.claim(&LossSpec { label_smoothing, ..base });
    // A trainer with one smoothing is held to the closed form alone.
    if let (Some(none), Some(much)) = (claim(0.0), claim(far)) {
        let (none, much) = (trial.gradient(&none, &batch)?, trial.gradient(&much, &batch)?);
        let some = trial.gradient(&smoothed, &batch)?;
        let parts = [(1.0 - epsilon / far, &none), (epsilon / far, &much)];
        trial.combination(&format!("affine in ε, at {epsilon}"), &batch, &some, &parts, &[]);
    }

    let known = trial.known_logits(|trial, _| trial.random_bias())?;
    let actual = trial.gradient(&smoothed, &batch)?;
    let plain = CrossEntropy::default();
    let spread = epsilon / known.logits().len() as f64;
    let mut expected = CompensatedSum::default();
    for (label, weight) in label_weights(&smoothed, &batch)? {
        for class in 0..known.logits().len() {
            let q = if class == label { 1.0 - epsilon + spread } else { spread };
            let log_p = -plain.loss(known.logits(), class).map_err(|_| Ended::NotApplicable)?;
            // KL's term and the entropy's: ln q cancels between them, as the clause says.
            expected.extend([weight * q * (q.ln() - log_p), -weight * q * q.ln()]);
        }
    }
    let scale = expected.value().abs().max(actual.total);
    trial.loss("KL(q‖p) + H(q)", &batch, &actual, expected.value(), scale);
    Ok(actual.total > 0.0)
}

/// Loss and gradient are affine in ζ, and with known logits the term is `ζ·(log Σ exp z)²` per supervised
/// token, weighed as its token loss.
pub(crate) fn z_loss(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let zeta = if trial.case.spec.z_loss > 0.0 { trial.case.spec.z_loss } else { 0.01 };
    let base = trial.spec(&[&batch])?;
    let spec = trial.claimed(&LossSpec { z_loss: zeta, ..base })?;
    let claim = |z_loss| trial.facts.claim(&LossSpec { z_loss, ..base });
    let (plain, doubled) = (claim(0.0), claim(2.0 * zeta));
    if let (Some(plain), Some(doubled)) = (plain, doubled) {
        let (none, twice) = (trial.gradient(&plain, &batch)?, trial.gradient(&doubled, &batch)?);
        let once = trial.gradient(&spec, &batch)?;
        let parts = [(0.5, &none), (0.5, &twice)];
        trial.combination(&format!("affine in ζ, at {zeta}"), &batch, &once, &parts, &[]);
    }

    let known = trial.known_logits(|trial, _| trial.random_bias())?;
    // A trainer with one z-loss is held to the closed form of its whole loss.
    let Some(plain) = plain else {
        let with = trial.closed_form(&format!("{spec}, known logits"), &spec, &batch, &known)?;
        return Ok(with.total > 0.0);
    };
    let with = trial.gradient(&spec, &batch)?;
    let without = trial.gradient(&plain, &batch)?;
    // log Σ exp z = ℓ(y) + z_y for any label.
    let label = 0;
    let log_sum_exp =
        CrossEntropy::default().loss(known.logits(), label).map_err(|_| Ended::NotApplicable)?
            + known.logits()[label];
    let expected = without.loss() + with.total * zeta * log_sum_exp * log_sum_exp;
    let scale = expected.abs().max(with.total);
    trial.loss("ζ·(log Σ exp z)²", &batch, &with, expected, scale);
    Ok(with.total > 0.0)
}
