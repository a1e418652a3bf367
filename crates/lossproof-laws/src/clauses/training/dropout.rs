//! The clause about dropout in a training.

use super::plan::{DROPOUT, together};
use super::validation::{same_updates, validations};
use crate::trial::{CaseOutcome, Ended, Trial, replace, values};
use lossproof_cases::edit::id;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, Role, Rule, Sequence};
use lossproof_subject::{Tensor, TensorSet, TrainingPlan, TrainingTrace};

/// Updates over one sample, whose masks are compared.
const UPDATES: u32 = 4;

/// So many elements at least must be dropped or kept in every update before it is said that all have the same masks. By
/// chance they have with a probability of `(p² + (1 − p)²)` to the power of this times the other updates: 7e-10.
const MASKED_ELEMENTS: usize = 15;

/// How often an element of a block's output may be dropped on its way: by attention, inside the block, behind it.
const SITES: i32 = 3;

impl Trial<'_> {
    /// Holds the masks of two seeds to be others, where all samples are one and in one update: then no order makes a
    /// difference, and what has the same masks leaves the same bits.
    fn masks_of_another_seed(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<(), Ended> {
        let accumulate = plan.training.len().div_ceil(plan.batch);
        let limits = self.facts.info.limits;
        let one = TrainingPlan {
            training: vec![plan.training[0].clone(); plan.training.len()],
            validation: Vec::new(),
            evaluate_every: 0,
            accumulate,
            ranks: 1,
            epochs: 1,
            ..plan.clone()
        };
        let takes_it = limits.micro_batches.contains(accumulate) && limits.ranks.contains(1);
        let unit = "masks of another seed";
        if !takes_it || self.training()?.accepts(&one).is_err() {
            self.comparisons.require(unit);
            return Ok(());
        }
        let other = TrainingPlan { seed: one.seed + 1, ..one.clone() };
        let (first, second) = (self.train(spec, &one, None)?, self.train(spec, &other, None)?);
        if !moves(&first) || !moves(&second) {
            self.comparisons.require(unit);
            return Ok(());
        }
        self.fact(unit, !same_updates(&first, &second), || {
            "the same samples under another seed have the same masks of dropout".to_owned()
        });
        Ok(())
    }

    /// Holds what is kept of a block's output to be divided by the probability that it is kept with, and the masks of
    /// different updates to be others.
    ///
    /// One sample has one prediction, made at its first position. Its token and position are embedded as zero, norms
    /// have no bias and blocks write nothing, so that the residual stream is zero whatever is dropped, and the gradient
    /// that reaches it is always the same. Then the gradient of what a block writes with is, element by element, what
    /// it is without dropout, times zero or `1/(1 − p)`, once for every mask on the way.
    fn scale_of_what_is_kept(&mut self, spec: &LossSpec, plan: &TrainingPlan) -> Result<(), Ended> {
        let Some((sample, parameters)) = self.a_silent_stream()? else { return Ok(()) };
        let one = TrainingPlan {
            training: vec![sample.clone()],
            validation: Vec::new(),
            evaluate_every: 0,
            batch: 1,
            accumulate: 1,
            ranks: 1,
            epochs: UPDATES,
            rule: Rule::Sgd { momentum: 0.0, weight_decay: 0.0 },
            learning_rate: 1.0 / 64.0,
            dropout: DROPOUT,
            ..plan.clone()
        };
        let without = TrainingPlan { dropout: 0.0, ..one.clone() };
        if self.training()?.accepts(&one).is_err() || self.training()?.accepts(&without).is_err() {
            return Ok(());
        }
        let own = self.start_of_training()?;
        self.load(&parameters)?;
        let (dropped, kept) = (self.train(spec, &one, None)?, self.train(spec, &without, None)?);
        self.load(&own)?;
        if [&dropped, &kept].iter().any(|trace| trace.updates().any(|update| update.skipped)) {
            return Ok(());
        }
        let batch = GlobalBatch::single(sample);
        let mut masks = Masks::default();
        let writes = |role: Role| matches!(role, Role::BlockOutput | Role::BlockOutputBias);
        let writers: Vec<_> =
            self.facts.parameters.iter().filter(|info| writes(info.role)).cloned().collect();
        for info in writers {
            let Some(moves) = moves_of(&parameters, &dropped, &info.name) else { return Ok(()) };
            let Some(expected) = moves_of(&parameters, &kept, &info.name) else { return Ok(()) };
            let (Some(first), Some(expected)) = (moves.first(), expected.first()) else { return Ok(()) };
            let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
            let error = 8.0 * self.gradient_bound(&batch, &info.name) * largest;
            let looked_at: Vec<usize> =
                (0..expected.len()).filter(|&at| expected[at].abs() > 64.0 * error).collect();
            if let Some(wrong) = wrong_scale(&looked_at, (first, expected), error) {
                self.fact("scale of what is kept", false, || {
                    format!(
                        "with dropout {DROPOUT} the gradient of {} is {wrong} times what it is without, and must \
                         be 0 or {} times that",
                        info.name,
                        1.0 / (1.0 - DROPOUT)
                    )
                });
            } else if looked_at.iter().any(|&at| first[at] == 0.0) {
                self.fact("scale of what is kept", true, String::new);
                if info.role == Role::BlockOutputBias {
                    masks.add(&looked_at, &moves);
                }
            }
        }
        if masks.elements >= MASKED_ELEMENTS {
            self.fact("masks of an update", !masks.same, || {
                format!("{UPDATES} updates over the same sample all have the same masks of dropout")
            });
        }
        Ok(())
    }

    /// A sample with one prediction, and parameters at which the residual stream is zero where that is made. `None`
    /// where the limits do not take the sample by itself, or roles do not say what writes into the stream.
    fn a_silent_stream(&mut self) -> Result<Option<(Sequence, TensorSet)>, Ended> {
        let limits = self.facts.info.limits;
        let length = limits.lengths.nearest(2);
        let alone =
            limits.sequences.contains(1) && limits.micro_batches.contains(1) && limits.ranks.contains(1);
        let declared = |role: Role| self.facts.parameters.iter().any(|info| info.role == role);
        let frozen = self.facts.info.model.frozen.iter().any(|info| silent(info.role));
        if !alone
            || length < 2
            || length > limits.positions
            || (length > 2 && !limits.ignore_index)
            || self.vocabulary() < 2
            || frozen
            || !declared(Role::BlockOutput)
            || !declared(Role::TokenEmbedding)
        {
            return Ok(None);
        }
        let tokens: Vec<u32> = (0..length).map(|position| id(usize::from(position > 0))).collect();
        let label = |position: usize| if position == 1 { 1 } else { IGNORE_INDEX };
        let labels =
            if length == 2 && !limits.ignore_index { vec![0, 1] } else { (0..length).map(label).collect() };
        let sample = Sequence::new(tokens, labels).map_err(|_| Ended::NotApplicable)?;
        let mut parameters = self.start_of_training()?;
        let infos = self.facts.parameters.clone();
        for info in infos {
            let mut now = values(&parameters, &info.name)?;
            let width = info.shape.last().copied().unwrap_or(1);
            match info.role {
                // The first token, and the first position.
                Role::TokenEmbedding | Role::PositionEmbedding => {
                    now.iter_mut().take(width).for_each(|value| *value = 0.0);
                }
                role if silent(role) => now.fill(0.0),
                _ => continue,
            }
            replace(&mut parameters, &info.name, now)?;
        }
        Ok(Some((sample, parameters)))
    }
}

/// Whether a parameter with this role is zero where the residual stream is.
fn silent(role: Role) -> bool {
    role.is_norm_bias() || matches!(role, Role::BlockOutput | Role::BlockOutputBias | Role::LowRankOut)
}

/// What a parameter moves by in each update; `None` where one of them is not finite.
fn moves_of(start: &TensorSet, trace: &TrainingTrace, name: &str) -> Option<Vec<Vec<f64>>> {
    let mut before = start.get(name)?.to_f64();
    let mut moves = Vec::new();
    for update in trace.updates() {
        let after = update.parameters.get(name).map(Tensor::to_f64)?;
        moves.push(after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<f64>>());
        before = after;
    }
    moves.iter().flatten().all(|value| value.is_finite()).then_some(moves)
}

/// The factor of an element that is neither dropped nor divided by the probability that it is kept with, once or more
/// often. Without a mask on the way every factor is one.
fn wrong_scale(looked_at: &[usize], (found, expected): (&[f64], &[f64]), error: f64) -> Option<f64> {
    let is = |at: usize, factor: f64| (found[at] - factor * expected[at]).abs() <= error;
    let dropped = looked_at.iter().any(|&at| found[at] == 0.0);
    let keep = 1.0 / (1.0 - DROPOUT);
    let wrong = looked_at.iter().find(|&&at| {
        let scaled = (1..=SITES).any(|sites| is(at, keep.powi(sites)));
        found[at] != 0.0 && !scaled && (dropped || !is(at, 1.0))
    });
    wrong.map(|&at| found[at] / expected[at])
}

/// Which elements were dropped, update by update.
struct Masks {
    elements: usize,
    same: bool,
}

impl Default for Masks {
    fn default() -> Self {
        Self { elements: 0, same: true }
    }
}

impl Masks {
    /// Adds elements of what one parameter moved by in each update.
    fn add(&mut self, elements: &[usize], moves: &[Vec<f64>]) {
        self.elements += elements.len();
        let dropped = |of: &[f64]| -> Vec<bool> { elements.iter().map(|&at| of[at] == 0.0).collect() };
        self.same &= moves.windows(2).all(|pair| dropped(&pair[0]) == dropped(&pair[1]));
    }
}

/// Whether an update of a training was made.
fn moves(trace: &TrainingTrace) -> bool {
    trace.updates().any(|update| !update.skipped)
}

/// Dropout acts in training, divides what is kept by what it is kept with, has other masks in every update and under
/// another seed, and does not act in a validation.
pub(crate) fn dropout(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.facts.noise > 0.0 {
        return Err(Ended::Unsupported("repeatable gradients".to_owned()));
    }
    if !trial.trains() {
        return Ok(false);
    }
    let spec = trial.case.spec;
    let mut plan = TrainingPlan { dropout: DROPOUT, ..trial.plan()? };
    plan.validation = trial.validation_of(&plan);
    let plan = trial.accepted_with_validations(&spec, &plan)?;
    let without = TrainingPlan { dropout: 0.0, ..plan.clone() };
    trial.training()?.accepts(&without)?;
    let dropped = trial.train(&spec, &plan, None)?;
    let kept = trial.train(&spec, &without, None)?;
    let again = trial.train(&spec, &plan, None)?;
    let start = trial.start_of_training()?;
    if !moves(&dropped) || !moves(&kept) {
        return Ok(false);
    }
    trial.fact("dropout in training", !same_updates(&dropped, &kept), || {
        format!("a training with dropout {DROPOUT} is the one without")
    });
    trial.fact("masks of a seed", same_updates(&dropped, &again), || {
        "the same training twice has other masks of dropout".to_owned()
    });
    trial.masks_of_another_seed(&spec, &plan)?;
    trial.scale_of_what_is_kept(&spec, &plan)?;
    // At the same parameters a validation is the same with dropout and without.
    let all = together(&plan.validation).ok_or(Ended::NotApplicable)?;
    let bound = trial.loss_bound(&all);
    for (parameters, found) in validations(&start, &dropped) {
        let expected = trial.plain_mean(parameters, &plan.validation)?;
        let scale = expected.max(1.0);
        trial.number("validation under dropout", "loss", bound, (found.loss, expected), scale);
    }
    trial.load(&start)?;
    Ok(true)
}
