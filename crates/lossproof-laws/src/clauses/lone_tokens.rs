//! Clauses that need neither parameters nor an architecture: what the trainer says of one token by itself.
//!
//! They anchor what a comparison of a trainer with itself leaves open: that a lone token's loss is its weight
//! times a normalised −ln p over the labels, that the label is that of the next position, and that the score
//! has mean zero.

use crate::{
    confidence::{cut_off_at, every_row_is_a_token, make_sure},
    second_look::Totals,
    trial::{CaseOutcome, Computed, Ended, Trial},
};
use lossproof_cases::edit::{alone, cut_off, edit_freely, id};
use lossproof_numerics::{Violation, norm};
use lossproof_spec::{CompensatedSum, GlobalBatch, LossSpec, Prediction, Sequence};
use lossproof_subject::TensorSet;
use rand::{RngExt, seq::IndexedRandom};
use std::collections::BTreeMap;

/// The largest vocabulary of which every label is tried.
const VOCABULARY: usize = 4096;

/// Cases of a campaign in which every label is tried: each costs as many passes as there are labels.
const CASES: usize = 16;

/// Numbers that the gradients of all labels may hold together: they are written down for the control.
const NUMBERS: usize = 1 << 24;

/// Tokens of a sequence that are taken by themselves, beside its first and last ones and those beside an
/// ignored one.
const SAMPLED: usize = 2;

/// A sequence in which one label is not ignored, or which has no other.
struct LoneToken {
    sequence: Sequence,
    /// Index of the label.
    at: usize,
}

impl LoneToken {
    /// The same with another label. Where the label's token is the last of the sequence no prediction sees
    /// it, and it is the label.
    fn labelled(&self, label: u32) -> Sequence {
        edit_freely(&self.sequence, |fields| {
            fields.targets[self.at] = label;
            if self.at + 1 == fields.input_ids.len() {
                fields.input_ids[self.at] = label;
            }
        })
    }
}

/// One label of a lone token.
struct Labelled {
    label: u32,
    /// The token loss: what is reported over the weight.
    loss: f64,
    computed: Computed,
}

impl Trial<'_> {
    /// A token of the batch by itself, drawn at random: its sequence cut off behind it, where the limits take
    /// sequences of that length.
    fn lone_token(&mut self) -> Result<Option<LoneToken>, Ended> {
        let limits = self.facts.info.limits;
        let shortest = limits.lengths.least.max(2);
        if !limits.ignore_index && shortest > 2 {
            return Err(Ended::Unsupported("ignored labels, or sequences of two tokens".to_owned()));
        }
        let supervised: Vec<Prediction> =
            self.case.batch.predictions().filter(|prediction| prediction.supervised).collect();
        let fits = |prediction: &&Prediction| limits.ignore_index || prediction.position == 0;
        let fitting: Vec<Prediction> = supervised.iter().filter(fits).copied().collect();
        let Some(prediction) = fitting.choose(&mut self.random) else { return Ok(None) };
        let sequence = self.case.batch.sequences().nth(prediction.sequence).ok_or(Ended::NotApplicable)?;
        let at = prediction.position + 1;
        let length = (at + 1).max(shortest).min(sequence.len());
        let sequence = cut_off(sequence, length).supervise_only(|position| position + 1 == at);
        if !limits.free_labels && at + 1 < sequence.len() {
            return Ok(None);
        }
        Ok(Some(LoneToken { sequence, at }))
    }

    /// Semantics without z-loss, which makes probabilities out of losses.
    fn without_z_loss(&self) -> Result<LossSpec, Ended> {
        if self.vocabulary() > VOCABULARY {
            return Err(Ended::Unsupported(format!("a vocabulary of at most {VOCABULARY} tokens")));
        }
        let all = self.facts.parameters.iter().chain(&self.facts.info.model.frozen);
        if !every_row_is_a_token(all, self.vocabulary()) {
            return Err(Ended::Unsupported("a head of which every row is a token".to_owned()));
        }
        self.claimed(&LossSpec { z_loss: 0.0, ..self.case.spec })
    }

    /// Whether it is this case's turn to try every label.
    fn tries_every_label(&self) -> bool {
        self.facts.turn.among(CASES).is_some()
    }

    fn labelled(&mut self, spec: &LossSpec, lone: &LoneToken, label: u32) -> Result<Labelled, Ended> {
        let batch = alone(&lone.labelled(label), &self.facts.info.limits);
        let logged = self.facts.info.log_policy.weights(&batch, spec).map_err(|_| Ended::NotApplicable)?;
        let computed = self.gradient(spec, &batch)?;
        Ok(Labelled { label, loss: computed.loss() / logged.iter().sum::<f64>(), computed })
    }
}

/// The probabilities that the losses of all labels of one token say, which add up to one: with label
/// smoothing ε, `p = exp(−(ℓ − ε·mean ℓ)/(1 − ε))`. In every other case the model is sure of itself
/// first, since a loss that is cut off, or the logarithm of a probability that is, differs from −ln p where
/// mistakes are dear.
pub(crate) fn normalisation(trial: &mut Trial<'_>) -> CaseOutcome {
    let spec = trial.without_z_loss()?;
    let turn = trial.facts.turn.among(CASES);
    let Some((lone, turn)) = trial.lone_token()?.zip(turn) else { return Ok(false) };
    let alone = turn.cases < 2;
    let sure = (alone || turn.case % 2 == 1) && trial.can_be_sure();
    if alone || !sure {
        trial.probabilities_of_labels(&spec, &lone, None)?;
    }
    if sure {
        let losses = trial.be_sure(&spec, &lone)?;
        trial.probabilities_of_labels(&spec, &lone, Some(&losses))?;
    }
    Ok(trial.vocabulary() > 1)
}

impl Trial<'_> {
    /// Whether the model can be made sure of itself, and its numbers have digits enough to see what that changes.
    fn can_be_sure(&mut self) -> bool {
        !self.facts.is_coarse() && self.subject.parameter_loading().is_some()
    }

    /// Loads parameters under which the losses of some labels are far apart, if there are any. What they are is
    /// returned.
    fn be_sure(&mut self, spec: &LossSpec, lone: &LoneToken) -> Result<BTreeMap<usize, f64>, Ended> {
        let (parameters, declared) = (self.parameters()?, self.facts.parameters.clone());
        let declared = (declared.as_slice(), self.vocabulary());
        let losses = |parameters: &TensorSet, labels: &[usize]| -> Result<Vec<f64>, Ended> {
            self.load(parameters)?;
            labels.iter().map(|label| Ok(self.labelled(spec, lone, id(*label))?.loss)).collect()
        };
        Ok(make_sure(&parameters, declared, losses)?.1)
    }

    /// Holds the sum of the probabilities of all labels of one token to one, some of whose losses are known where the
    /// model was made sure of itself.
    fn probabilities_of_labels(
        &mut self,
        spec: &LossSpec,
        lone: &LoneToken,
        sure: Option<&BTreeMap<usize, f64>>,
    ) -> Result<(), Ended> {
        let mut losses = Vec::new();
        for label in 0..self.vocabulary() {
            losses.push(match sure.and_then(|losses| losses.get(&label)) {
                Some(loss) => *loss,
                None => self.labelled(spec, lone, id(label))?.loss,
            });
        }
        let sure = sure.is_some();
        // Of a head that is not drawn labels may have the same logit.
        if sure && self.facts.info.model.frozen.is_empty() {
            let cut_off = cut_off_at(&losses);
            // No answer of it alone would change that, so that nothing is certified.
            self.comparisons.fact("losses of all labels", cut_off.is_none(), || {
                let (most, alike) = cut_off.unwrap_or_default();
                format!(
                    "{spec}: {alike} labels have one loss, {most:.4}, and none a larger: losses are cut off"
                )
            });
        }
        let count = losses.len() as f64;
        let smoothing = spec.label_smoothing;
        let probabilities = |losses: &[f64]| -> Vec<f64> {
            let mean = losses.iter().copied().collect::<CompensatedSum>().value() / count;
            losses.iter().map(|loss| (-(loss - smoothing * mean) / (1.0 - smoothing)).exp()).collect()
        };
        // The label whose loss counts most is asked for again, so that it is the last answer of the case.
        let effect = |(p, loss): (&f64, &f64)| p * loss.abs();
        let effects: Vec<f64> = probabilities(&losses).iter().zip(&losses).map(effect).collect();
        let largest = (0..effects.len()).max_by(|&a, &b| effects[a].total_cmp(&effects[b]));
        let Some(largest) = largest else { return Ok(()) };
        let last = self.labelled(spec, lone, id(largest))?;
        losses[largest] = last.loss;
        let found = probabilities(&losses);
        let total = found.iter().copied().collect::<CompensatedSum>().value();
        // A loss errs by its bound times max(ℓ, 1), and moves its own probability and, by the mean, all others.
        // Where the model is sure, small losses are differences of large logits, which are about as large as the
        // largest loss.
        let largest_loss = losses.iter().map(|loss| loss.abs()).fold(1.0, f64::max);
        let least = if sure { largest_loss } else { 1.0 };
        let size = |loss: &f64| loss.abs().max(least);
        let mean_size = losses.iter().map(size).sum::<f64>() / count;
        let sizes = found.iter().zip(&losses);
        let scale: f64 =
            sizes.map(|(p, loss)| p * (size(loss) + smoothing * mean_size) / (1.0 - smoothing)).sum();
        let bound = self.loss_bound(&last.computed.origin.batch);
        let error = (total - 1.0).abs() / scale;
        let effect_of_one = effect((&found[largest], &losses[largest])) / scale;
        let of_what = if sure { " of a model that is sure of itself" } else { "" };
        self.comparisons.compare("loss", bound, effect_of_one, error, || Violation {
            unit: "loss".to_owned(),
            statement: format!("{spec}: probabilities of all labels of one token{of_what}, together"),
            error,
            bound,
            pair: Some((total, 1.0)),
            ratio: None,
        });
        Ok(())
    }
}

/// The probabilities' mean of the gradients of all labels of one token is nothing, or with label smoothing ε
/// times their plain mean: `Σ_y p_y·∇ℓ(y) = ε·mean_y ∇ℓ(y)`.
pub(crate) fn mean_zero_score(trial: &mut Trial<'_>) -> CaseOutcome {
    let spec = trial.without_z_loss()?;
    let elements: usize = trial.facts.parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    if trial.vocabulary().saturating_mul(elements) > NUMBERS {
        return Err(Ended::Unsupported("a smaller vocabulary, or fewer parameters".to_owned()));
    }
    let Some(lone) = trial.lone_token()?.filter(|_| trial.tries_every_label()) else { return Ok(false) };
    let smoothing = spec.label_smoothing;
    let vocabulary = trial.vocabulary();
    // Up to one factor on all of them, these are the probabilities.
    let likelihood = |of: &Labelled| (-of.loss / (1.0 - smoothing)).exp();
    let (mut others, mut plain) = (Totals::default(), Totals::default());
    let mut sizes: BTreeMap<String, f64> = BTreeMap::new();
    let mut longest: BTreeMap<String, f64> = BTreeMap::new();
    let mut total = 0.0;
    let mut likeliest: Option<Labelled> = None;
    for label in 0..vocabulary {
        let of = trial.labelled(&spec, &lone, id(label))?;
        let batch = &of.computed.origin.batch;
        let loss_bound = trial.loss_bound(batch);
        total += likelihood(&of);
        plain.add(1.0 / vocabulary as f64, &of.computed.gradient);
        for (name, tensor) in of.computed.gradient.iter() {
            let length = norm(&tensor.to_f64());
            // A likelihood errs by the error of its loss.
            let relative = loss_bound / trial.gradient_bound(batch, name);
            let own = likelihood(&of) * (1.0 + relative * of.loss.abs().max(1.0) / (1.0 - smoothing));
            *sizes.entry(name.clone()).or_default() += own * length;
            let largest = longest.entry(name.clone()).or_default();
            *largest = length.max(*largest);
        }
        match &mut likeliest {
            Some(best) if likelihood(best) >= likelihood(&of) => {
                others.add(likelihood(&of), &of.computed.gradient);
            }
            best => {
                if let Some(before) = best.replace(of) {
                    others.add(likelihood(&before), &before.computed.gradient);
                }
            }
        }
    }
    let Some(label) = likeliest.map(|best| best.label) else { return Ok(false) };
    let best = trial.labelled(&spec, &lone, label)?;
    let whole = norm(&sizes.values().copied().collect::<Vec<_>>());
    for (name, tensor) in best.computed.gradient.iter() {
        let bound = trial.gradient_bound(&best.computed.origin.batch, name);
        let actual: Vec<f64> = tensor.to_f64().iter().map(|g| likelihood(&best) * g).collect();
        let rest = others.of(name, actual.len());
        let plain = plain.of(name, actual.len());
        let due = rest.iter().zip(&plain).map(|(rest, plain)| smoothing * total * plain - rest);
        let due: Vec<f64> = due.collect();
        // The gradient of a label that is nearly certain is a difference of what nearly cancels, p − 1, and
        // rounds as the gradients of the others do.
        let longest = longest.get(name).copied().unwrap_or(0.0);
        let scale = sizes.get(name).copied().unwrap_or(0.0).max(total * longest);
        // What is zero but for the rounding of the rest of the model says nothing.
        if scale > bound * whole {
            let what = format!("{spec}: gradient of {name}, the likeliest label against all others");
            trial.elements(&what, name, bound, &actual, &due, scale);
        }
    }
    Ok(vocabulary > 1)
}

/// The label of a position is scored by the prediction before it: some label there costs something, no token
/// from there on matters, and where its loss depends on any other token it depends on the one right before it.
pub(crate) fn next_position(trial: &mut Trial<'_>) -> CaseOutcome {
    let Some(lone) = trial.lone_token()? else { return Ok(false) };
    let spec = trial.case.spec;
    let limits = trial.facts.info.limits;
    let vocabulary = trial.vocabulary();
    if vocabulary < 2 {
        return Err(Ended::Unsupported("a vocabulary of two tokens".to_owned()));
    }
    // A model may be certain of one label, whose loss is nothing then, and not of two.
    let first = trial.random.random_range(0..vocabulary);
    let of_label = |trial: &mut Trial<'_>, label: usize| -> Result<f64, Ended> {
        Ok(trial.gradient(&spec, &alone(&lone.labelled(id(label)), &limits))?.loss())
    };
    let second = (first + 1) % vocabulary;
    let costly = if of_label(trial, first)? >= of_label(trial, second)? { first } else { second };
    let loss = of_label(trial, costly)?;
    trial.present("lone token", loss, || {
        format!("{spec}: the loss of any label at position {} of a sequence is nothing", lone.at)
    });
    let of_token = trial.gradient(&spec, &alone(&lone.sequence, &limits))?;
    let shift = trial.random.random_range(1..vocabulary);
    let changed = |places: &dyn Fn(usize) -> bool| {
        edit_freely(&lone.sequence, |fields| {
            for place in (0..fields.input_ids.len()).filter(|&place| places(place)) {
                let token = id((fields.input_ids[place] as usize + shift) % vocabulary);
                fields.input_ids[place] = token;
                if !limits.free_labels && place != lone.at {
                    fields.targets[place] = token;
                }
            }
        })
    };
    let from_there_on = changed(&|place| place > lone.at || place == lone.at && limits.free_labels);
    if from_there_on != lone.sequence {
        let after = trial.gradient(&spec, &alone(&from_there_on, &limits))?;
        trial.same_loss("the same where no token before the label has changed", &after, &of_token);
    }
    let elsewhere = |place: usize| place + 1 != lone.at && (limits.free_labels || place != lone.at);
    let elsewhere = trial.gradient(&spec, &alone(&changed(&elsewhere), &limits))?;
    let elsewhere = elsewhere.loss().to_bits() != of_token.loss().to_bits();
    // In a loss that hardly depends on tokens two may round to the same, but their gradients do not. Of a
    // trainer whose gradients are not twice the same they say nothing.
    let before = trial.gradient(&spec, &alone(&changed(&|place| place + 1 == lone.at), &limits))?;
    let other_loss = before.loss().to_bits() != of_token.loss().to_bits();
    let before = other_loss || trial.facts.noise <= 0.0 && before.is_another_than(&of_token);
    // A model that looks at no token yet, as one with a head of zeros, is no evidence either way.
    if elsewhere {
        trial.fact("token before", before, || {
            format!(
                "{spec}: the loss of the label at position {} depends on tokens, and not on the one right before it",
                lone.at
            )
        });
    }
    Ok(elsewhere || before)
}

impl Trial<'_> {
    /// Holds a reported loss, by whatever policy it is logged, to another.
    fn same_loss(&mut self, what: &str, actual: &Computed, expected: &Computed) {
        let bound = self.loss_bound(&actual.origin.batch);
        let scale = actual.loss_scale().max(expected.loss_scale());
        let what = format!("{}: loss of a lone token, {what}", actual.origin.spec);
        self.number(&what, "loss", bound, (actual.loss(), expected.loss()), scale);
    }
}

/// Shares: a batch is the weighted sum of its sequences by themselves.
pub(crate) fn shares(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let computed = trial.calculus(&spec, &batch)?;
    Ok(computed.total > 0.0 && batch.sequences().count() > 1)
}

/// The tokens of a sequence by itself weigh the same: it is the sum of some of its tokens by themselves and
/// of the rest.
pub(crate) fn equal_tokens(trial: &mut Trial<'_>) -> CaseOutcome {
    let longest = trial.case.batch.sequences().max_by_key(|sequence| sequence.supervised());
    let sequence = longest.cloned().ok_or(Ended::NotApplicable)?;
    let supervised: Vec<usize> = (0..sequence.len()).filter(|&p| sequence.supervises(p)).collect();
    let [first, .., last] = supervised[..] else { return Ok(false) };
    let beside = |position: &usize| {
        let ignored = |p: usize| p + 1 < sequence.len() && !sequence.supervises(p);
        ignored(position + 1) || position.checked_sub(1).is_some_and(ignored)
    };
    let mut sampled = vec![first, last];
    sampled.extend(supervised.iter().copied().filter(beside).take(SAMPLED));
    for _ in 0..SAMPLED {
        sampled.extend(supervised.choose(&mut trial.random));
    }
    sampled.sort_unstable();
    sampled.dedup();
    let limits = trial.facts.info.limits;
    let whole = alone(&sequence, &limits);
    let spec = trial.spec(&[&whole])?;
    let only = |chosen: &dyn Fn(usize) -> bool| {
        alone(&sequence.supervise_only(|position| sequence.supervises(position) && chosen(position)), &limits)
    };
    let mut parts: Vec<GlobalBatch> =
        sampled.iter().map(|&token| only(&|position| position == token)).collect();
    if sampled.len() < supervised.len() {
        parts.push(only(&|position| !sampled.contains(&position)));
    }
    trial.parted("a sequence and its tokens", &spec, &whole, &parts)?;
    Ok(true)
}
