//! Clauses of group 8: what a validation prints. It is a mean over tokens, however they come in batches, and
//! the exponential of that.

use crate::trial::{CaseOutcome, Ended, TOKEN_COUNT, Trial, replace, values};
use lossproof_cases::edit::{assemble, edit, given, id};
use lossproof_spec::{CompensatedSum, GlobalBatch, LossSpec, MicroBatch, Optimizer, Sequence};
use lossproof_subject::{Count, Evaluated, Limits, Tensor, TensorSet};
use rand::{RngExt, seq::SliceRandom};

impl Trial<'_> {
    /// What the trainer prints of these batches.
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, Ended> {
        // How a window is divided says nothing of how many batches a validation has.
        let limits = Limits { ranks: Count::ANY, micro_batches: Count::ANY, ..self.facts.info.limits };
        for batch in batches {
            limits.check(&GlobalBatch::of_micro_batch(batch.clone()))?;
        }
        let evaluation = self.subject.evaluation();
        Ok(evaluation.ok_or_else(|| Ended::Unsupported("validation".to_owned()))?.validate(batches)?)
    }

    /// Holds what was printed to what is expected of it.
    fn printed(&mut self, what: &str, batch: &GlobalBatch, found: Evaluated, expected: Evaluated) {
        let (bound, losses) = (self.loss_bound(batch), (found.loss, expected.loss));
        self.number(&format!("{what}: loss"), "loss", bound, losses, expected.loss.max(1.0));
        self.exponential(what, batch, found, expected);
        self.count(what, found, expected.tokens);
    }

    /// The same of the perplexity alone.
    fn exponential(&mut self, what: &str, batch: &GlobalBatch, found: Evaluated, expected: Evaluated) {
        let (bound, perplexities) = (self.loss_bound(batch), (found.perplexity, expected.perplexity));
        // Of a finite loss that is large enough it is beyond every number, as it should be: that tells nothing.
        let beyond = |perplexity: f64| perplexity.is_infinite() && perplexity > 0.0;
        if expected.loss.is_finite() && beyond(found.perplexity) && beyond(expected.perplexity) {
            return;
        }
        // An absolute error of the loss is a relative one of its exponential.
        let scale = expected.loss.max(1.0) * expected.perplexity;
        self.number(&format!("{what}: perplexity"), "perplexity", bound, perplexities, scale);
    }

    fn count(&mut self, what: &str, found: Evaluated, expected: usize) {
        let counted = found.tokens;
        self.fact(TOKEN_COUNT, counted == expected, || {
            format!("{what}: {counted} tokens were counted of {expected}")
        });
    }
}

/// What is to be printed of a mean loss.
fn of_mean(loss: f64, tokens: usize) -> Evaluated {
    Evaluated { loss, perplexity: loss.exp(), tokens }
}

/// The micro-batches of a batch, as a validation gets them.
pub(super) fn batches(batch: &GlobalBatch) -> Vec<MicroBatch> {
    batch.micro_batches().cloned().collect()
}

fn batch_of(sequences: &[Sequence]) -> MicroBatch {
    MicroBatch::new(sequences.to_vec()).expect("invariant: a batch has sequences")
}

/// Perplexity is the exponential of the mean that is printed beside it.
pub(crate) fn perplexity(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let found = trial.validate(&batches(&batch))?;
    let tokens = batch.layout().supervised();
    if tokens == 0 {
        return Ok(false);
    }
    trial.exponential("beside the loss", &batch, found, of_mean(found.loss, tokens));
    // Of one token every mean is the same.
    Ok(tokens > 1)
}

/// The loss is the mean of the token losses over the supervised tokens.
pub(crate) fn validation_loss(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let found = trial.validate(&batches(&batch))?;
    let losses = trial.token_losses(&batch)?;
    let supervised = batch.predictions().zip(losses).filter(|(prediction, _)| prediction.supervised);
    let sum = supervised.map(|(_, loss)| loss).collect::<CompensatedSum>().value();
    let tokens = batch.layout().supervised();
    if tokens == 0 {
        return Ok(false);
    }
    trial.printed("the mean of the token losses", &batch, found, of_mean(sum / tokens as f64, tokens));
    Ok(batch.sequences().count() > 1)
}

/// Equal logits make the perplexity V.
pub(crate) fn uniform_perplexity(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    trial.known_logits(|_, _| 0.0)?;
    let found = trial.validate(&batches(&batch))?;
    let tokens = batch.layout().supervised();
    if tokens == 0 {
        return Ok(false);
    }
    let vocabulary = trial.vocabulary() as f64;
    let expected = Evaluated { loss: vocabulary.ln(), perplexity: vocabulary, tokens };
    trial.printed("uniform logits", &batch, found, expected);
    Ok(trial.vocabulary() > 1)
}

/// The same sequences in other batches, of other sizes, the last one short.
pub(crate) fn validation_batches(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let limits = trial.facts.info.limits;
    let mut sequences: Vec<Sequence> = batch.sequences().cloned().collect();
    sequences.shuffle(&mut trial.random);
    let tokens = batch.layout().supervised();
    let most = limits.sequences.most.min(sequences.len());
    let size = trial.random.random_range(limits.sequences.least.min(most)..=most);
    let expected = trial.validate(&batches(&batch))?;
    let other: Vec<MicroBatch> = sequences.chunks(size).map(batch_of).collect();
    let found = trial.validate(&other)?;
    if tokens == 0 {
        return Ok(false);
    }
    let what = format!("in batches of {size} sequences");
    trial.printed(&what, &batch, found, Evaluated { tokens, ..expected });
    Ok(sequences.len() > size)
}

/// A validation leaves no trace in training, nor training in a validation: not a bit, where calls repeat to
/// the bit.
///
/// Training is accumulation of the batch, accumulation of a batch with other counts, and a step: a divisor
/// that a validation has from the last window of training shows between the first two.
pub(crate) fn validation_trace(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let other = of_other_counts(&batch);
    let spec = trial.spec(&[&batch, &other])?;
    let corpus = batches(&batch);
    let before = trial.gradient(&spec, &batch)?;
    let first = trial.validate(&corpus)?;
    let after = trial.gradient(&spec, &batch)?;
    trial.same("after a validation", &batch, &after, &before);
    if trial.facts.noise <= 0.0 {
        let bits = |gradient: &TensorSet| -> Vec<u64> {
            gradient.values().flat_map(Tensor::to_f64).map(f64::to_bits).collect()
        };
        let same = after.loss().to_bits() == before.loss().to_bits()
            && bits(&after.gradient) == bits(&before.gradient);
        trial.fact("step after validation", same, || {
            "a validation changes loss or gradient of the next step".to_owned()
        });
    }
    let second = trial.validate(&corpus)?;
    trial.same_validation("the same window", &batch, second, first);
    if trial.facts.info.limits.check(&other).is_ok() {
        trial.gradient(&spec, &other)?;
        let third = trial.validate(&corpus)?;
        trial.same_validation("a window of other counts", &batch, third, first);
        if trial.step_and_back(&spec, &other)? {
            let last = trial.validate(&corpus)?;
            trial.same_validation("a step, its parameters loaded anew", &batch, last, first);
        }
    }
    Ok(before.total > 0.0)
}

impl Trial<'_> {
    /// Holds what was printed after some training to what was printed before.
    fn same_validation(
        &mut self,
        training: &str,
        batch: &GlobalBatch,
        found: Evaluated,
        expected: Evaluated,
    ) {
        if expected.loss.is_finite() && expected.perplexity.is_finite() {
            self.printed(&format!("after {training}"), batch, found, expected);
        }
        let bits = |of: Evaluated| (of.loss.to_bits(), of.perplexity.to_bits(), of.tokens);
        if self.facts.noise <= 0.0 {
            self.fact("validation after training", bits(found) == bits(expected), || {
                format!("a validation gives {expected}, and {found} after {training}")
            });
        }
    }

    /// Takes a step and puts the parameters in force again that were before it. Tells whether the trainer
    /// can.
    fn step_and_back(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> CaseOutcome {
        if self.subject.optimizer_steps().is_none() || self.subject.parameter_loading().is_none() {
            return Ok(false);
        }
        let optimizer = Optimizer::sgd(self.sgd_rate(spec, batch)?);
        let taken = self.take_steps(&optimizer, spec, &[batch]);
        self.return_to_the_trial()?;
        match taken {
            Ok(_) => Ok(true),
            Err(Ended::Unsupported(_)) => Ok(false),
            Err(ended) => Err(ended),
        }
    }
}

/// A batch whose ranks, micro-batches, sequences and tokens are fewer than those of this one: one of its
/// sequences. Where it has no more than that, a batch with twice as many sequences and micro-batches.
fn of_other_counts(batch: &GlobalBatch) -> GlobalBatch {
    let mut sequences = batch.sequences();
    let supervised = |sequence: &&Sequence| sequence.supervised() > 0;
    let sequence = sequences.find(supervised).or_else(|| batch.sequences().next());
    let sequence = sequence.expect("invariant: a batch has sequences").clone();
    if batch.sequences().count() > 1 {
        GlobalBatch::single(sequence)
    } else {
        assemble(vec![vec![vec![sequence.clone()], vec![sequence]]])
    }
}

/// A batch without a supervised token changes nothing, and of nothing there is no mean.
pub(crate) fn nothing_validated(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let corpus = batches(&batch);
    let ignored = batch.map_sequences(|sequence| sequence.supervise_only(|_| false));
    let nothing = batches(&ignored);
    let of_nothing = trial.validate(&nothing)?;
    trial.count("nothing supervised", of_nothing, 0);
    trial.fact("mean of nothing", of_nothing.loss.is_nan() && of_nothing.perplexity.is_nan(), || {
        format!("nothing is supervised, and a mean of nothing is no number: found is {of_nothing}")
    });
    let tokens = batch.layout().supervised();
    if tokens == 0 {
        return Ok(false);
    }
    let alone = trial.validate(&corpus)?;
    let mut mixed = corpus;
    for empty in nothing {
        let place = trial.random.random_range(0..=mixed.len());
        mixed.insert(place, empty);
    }
    let found = trial.validate(&mixed)?;
    trial.printed("beside batches without a supervised token", &batch, found, Evaluated { tokens, ..alone });
    Ok(true)
}

/// A mean loss of 768 nats and more: finite, while its exponential exceeds the range of every dtype. The
/// first token's logit is 0, the others' are 768, and the first token is what follows everywhere.
pub(crate) fn perplexity_overflow(trial: &mut Trial<'_>) -> CaseOutcome {
    let head = trial.embedding_for_a_head()?;
    let scale = trial.exact_logit_scale()?;
    let far = 768.0;
    let vocabulary = trial.vocabulary();
    let batch = trial.case.batch.map_sequences(|sequence| {
        edit(sequence, |fields| {
            fields.targets.fill(id(0));
            fields.labels.iter_mut().filter(|label| given(**label)).for_each(|label| *label = 0);
        })
    });
    let tokens = batch.layout().supervised();
    let mut parameters = trial.parameters()?;
    let width = values(&parameters, &trial.final_norm()?.bias)?.len();
    if tokens == 0 || vocabulary < 2 || width == 0 {
        return Ok(false);
    }
    let mut bias = vec![0.0; width];
    bias[0] = far / scale;
    let mut embedding = values(&parameters, &head)?;
    for (token, row) in embedding.chunks_exact_mut(width).enumerate() {
        row[0] = if token == 0 { 0.0 } else { 1.0 };
    }
    replace(&mut parameters, &head, embedding)?;
    trial.load_known_logits(&mut parameters, bias)?;
    let found = trial.validate(&batches(&batch))?;
    let loss = far + ((vocabulary - 1) as f64).ln();
    let bound = trial.loss_bound(&batch);
    trial.number("the loss of what is nearly impossible", "loss", bound, (found.loss, loss), loss);
    trial.fact("infinite perplexity", found.perplexity.is_infinite() && found.perplexity > 0.0, || {
        format!("the exponential of {} is beyond f64, but the perplexity is {}", found.loss, found.perplexity)
    });
    trial.count("an infinite perplexity", found, tokens);
    Ok(true)
}
