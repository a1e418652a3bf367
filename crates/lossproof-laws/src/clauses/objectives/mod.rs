//! Clauses 1.8, 1.9 and 1.13: what a trainer learns where it is not the next token, held to what it computes of hard
//! labels under the reductions that it claims.

mod masked;
mod prefix;
mod soft_targets;

pub(crate) use masked::masked_tokens;
pub(crate) use prefix::prefix_source;
pub(crate) use soft_targets::soft_targets;

use crate::trial::{Computed, Ended, Origin, TOKEN_COUNT, Trial};
use lossproof_cases::edit::assemble;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Sequence, TokenWeights};
use lossproof_subject::{Collect, ObjectiveBatch, SubjectError, Tensor};
use std::rc::Rc;

/// A batch of a causal model whose tokens and positions reach the gradient where those of this batch do.
pub(crate) fn influences(batch: &ObjectiveBatch) -> GlobalBatch {
    let micro_batch = match batch {
        // Of a row with a label every position is seen, the last one too; of another none.
        ObjectiveBatch::Masked { micro_batch } => {
            micro_batch_of(micro_batch.sequences().iter().map(|sequence| {
                let learnt = sequence.labels().iter().any(|&label| label != IGNORE_INDEX);
                let label = |&token: &u32| if learnt { i64::from(token) } else { IGNORE_INDEX };
                let labels: Vec<i64> = sequence.input_ids().iter().map(label).collect();
                followed(sequence, &labels)
            }))
        }
        ObjectiveBatch::SoftTargets { micro_batch, .. } | ObjectiveBatch::Prefix { micro_batch, .. } => {
            micro_batch.clone()
        }
    };
    GlobalBatch::of_micro_batch(micro_batch)
}

/// A sequence with a last token that nothing sees, and these labels one position later than they are given.
fn followed(sequence: &Sequence, labels: &[i64]) -> Sequence {
    let tokens = sequence.input_ids();
    let last = tokens.last().copied().unwrap_or_default();
    let tokens = tokens.iter().copied().chain([last]).collect();
    let labels = [IGNORE_INDEX].into_iter().chain(labels.iter().copied()).collect();
    plain(tokens, labels)
}

/// One document without padding.
fn plain(tokens: Vec<u32>, labels: Vec<i64>) -> Sequence {
    Sequence::new(tokens, labels).expect("invariant: one label for each of the tokens")
}

fn micro_batch_of(sequences: impl IntoIterator<Item = Sequence>) -> MicroBatch {
    MicroBatch::new(sequences.into_iter().collect()).expect("invariant: a micro-batch has sequences")
}

/// Parts that the labels of a batch are divided into.
const PARTS: usize = 6;

/// Every `PARTS`th label.
fn one_part(labels: &[Vec<i64>], part: usize) -> Vec<Vec<i64>> {
    let mut own = labels.to_vec();
    let given = own.iter_mut().flatten().filter(|label| **label != IGNORE_INDEX);
    for (number, label) in given.enumerate() {
        if number % PARTS != part {
            *label = IGNORE_INDEX;
        }
    }
    own
}

/// Labels that are not ignored.
fn given(labels: &[Vec<i64>]) -> usize {
    labels.iter().flatten().filter(|&&label| label != IGNORE_INDEX).count()
}

impl Trial<'_> {
    /// Holds a batch to the mean of its labels, in parts of which each has some. All of them are scored.
    fn made_of_its_labels(
        &mut self,
        labels: &[Vec<i64>],
        batch_of: impl Fn(&[Vec<i64>]) -> ObjectiveBatch,
    ) -> Result<(), Ended> {
        let whole = batch_of(labels);
        let of_whole = self.learn(&whole)?;
        let all = given(labels);
        let mut parts = Vec::new();
        for part in 0..PARTS.min(all) {
            let own = one_part(labels, part);
            parts.push((given(&own) as f64 / all as f64, self.learn(&batch_of(&own))?));
        }
        let parts: Vec<_> = parts.iter().map(|(share, part)| (*share, part)).collect();
        self.combination("labels by themselves", &influences(&whole), &of_whole, &parts, &[]);
        self.slope_of_objective(&whole, &influences(&whole), &of_whole)
    }

    /// The tokens of the sequences of one micro-batch of the case, each as one document without padding.
    fn rows_of_tokens(&self) -> Vec<Vec<u32>> {
        let micro_batch = self.case.batch.micro_batches().next();
        let sequences = micro_batch.map(MicroBatch::sequences).unwrap_or_default();
        sequences.iter().map(|sequence| sequence.input_ids().to_vec()).collect()
    }

    /// What the trainer computes of a batch.
    pub(super) fn learn(&mut self, batch: &ObjectiveBatch) -> Result<Computed, Ended> {
        batch.check(&self.facts.info.limits)?;
        let lacking = || Ended::Unsupported(batch.kind().name().to_owned());
        let mut sink = Collect::default();
        let observation = self.subject.objectives().ok_or_else(lacking)?.learn(batch, &mut sink)?;
        let expected = batch.scored();
        if let Some(counted) = observation.supervised_tokens {
            self.fact(TOKEN_COUNT, counted == expected, || {
                format!("{}: {counted} labels were counted of {expected}", batch.kind())
            });
        }
        let origin = Origin {
            spec: LossSpec::token_mean(),
            batch: influences(batch),
            // It is a weighted sum, whatever is logged of a step; and its single tokens cannot be asked for again.
            upstream: Some(Vec::new()),
            loads: usize::MAX,
        };
        Ok(Computed { observation, gradient: Rc::new(sink.into_tensors()), total: 1.0, origin })
    }

    /// What one of several comparisons found. That a batch inside the limits is refused in it is a violation, and the
    /// others still say something.
    fn continued<T>(&mut self, found: Result<T, Ended>) -> Result<Option<T>, Ended> {
        match found {
            Err(Ended::Failed(error)) if !matches!(error, SubjectError::Breach(_)) => {
                self.fact("refused", false, || format!("a batch inside the limits is refused: {error}"));
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// Loss and gradient of a micro-batch with hard labels, and the factor that makes a mean over its tokens of them:
    /// under whatever claim, as long as all tokens weigh the same.
    fn hard(&mut self, micro_batch: &MicroBatch) -> Result<(f64, Computed), Ended> {
        let limits = self.facts.info.limits;
        let rank = vec![micro_batch.sequences().to_vec(); limits.micro_batches.least.max(1)];
        let batch = assemble(vec![rank; limits.ranks.least.max(1)]);
        let spec = self.even(&batch)?;
        let computed = self.gradient(&spec, &batch)?;
        Ok((1.0 / computed.total, computed))
    }

    /// A claim of a plain cross-entropy under which all tokens of a batch weigh the same.
    fn even(&self, batch: &GlobalBatch) -> Result<LossSpec, Ended> {
        let own = LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..self.case.spec };
        let wanted = [LossSpec::token_mean(), LossSpec::sum(), own];
        let claims: Vec<LossSpec> = wanted.iter().filter_map(|wanted| self.facts.claim(wanted)).collect();
        if claims.is_empty() {
            return Err(Ended::Unsupported("a loss without label smoothing and z-loss".to_owned()));
        }
        let even = |spec: &LossSpec| {
            let Ok(weights) = TokenWeights::new(spec, &batch.layout()) else { return false };
            let mut supervised =
                weights.sequences().filter(|(_, tokens)| *tokens > 0).map(|(weight, _)| weight);
            let first = supervised.next();
            first.is_some() && supervised.all(|weight| Some(weight) == first)
        };
        claims.into_iter().find(even).ok_or(Ended::NotApplicable)
    }

    /// Whether what was computed is another than what was computed of a batch in which something is changed that must
    /// be seen; `None` where calls do not repeat, and the losses differ by no more than rounding.
    fn differs(&mut self, one: &Computed, other: &Computed) -> Option<bool> {
        let bits = |computed: &Computed| -> Vec<u64> {
            let values = computed.gradient.values().flat_map(Tensor::to_f64);
            std::iter::once(computed.loss()).chain(values).map(f64::to_bits).collect()
        };
        if self.facts.noise <= 0.0 {
            return Some(bits(one) != bits(other));
        }
        let bound = self.loss_bound(&other.origin.batch) * other.loss_scale();
        ((one.loss() - other.loss()).abs() > bound).then_some(true)
    }
}
