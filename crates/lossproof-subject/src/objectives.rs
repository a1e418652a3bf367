//! What is learnt where it is not the next token, and the capability to learn it.
//!
//! Distillation learns a distribution at every position, BERT the tokens that were masked, and a prefix language model
//! the continuation of a source that it sees whole. Their losses are means over what is scored, as every per-token
//! mean is; what is scored, and what a position sees, is what trainers get wrong.

use crate::{Count, GradientSink, Limits, Observation, Sample, SamplePlace, SubjectError, TrainingBatch};
use lossproof_spec::{BatchError, GlobalBatch, IGNORE_INDEX, MicroBatch, Sequence};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is learnt, where it is not the next token at every position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// Distributions over the vocabulary instead of labels, as in distillation.
    SoftTargets,
    /// The tokens at masked positions.
    Masked,
    /// The continuation of a source that is seen whole.
    Prefix,
}

impl ObjectiveKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::SoftTargets, Self::Masked, Self::Prefix];

    /// What a trainer has that learns this.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftTargets => "soft targets",
            Self::Masked => "masked language modelling",
            Self::Prefix => "prefix language modelling",
        }
    }
}

impl fmt::Display for ObjectiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One micro-batch, and what is learnt of it.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectiveBatch {
    /// A causal model learns a distribution wherever a token is supervised. The loss of such a token is
    /// `−Σ_c q_c·log p_c`.
    SoftTargets {
        /// The sequences. Their labels say which tokens are supervised, and nothing else.
        micro_batch: MicroBatch,
        /// The distributions `q`, of as many probabilities as the vocabulary has tokens: one for each supervised
        /// token, in the order of [`GlobalBatch::predictions`](lossproof_spec::GlobalBatch::predictions).
        targets: Vec<Vec<f64>>,
    },
    /// A model whose positions all see each other learns the labels. Its loss of a label is `−log p` of the label as
    /// predicted *at its own position*, without a shift: the first position has one, too.
    Masked {
        /// The sequences, each one document without padding, with its masks among its tokens.
        micro_batch: MicroBatch,
    },
    /// A model whose positions see what stands before them, and all of the source, learns what follows the source:
    /// the prediction made at a position is scored against the label of the next one, as in a causal model.
    Prefix {
        /// The sequences, each one document without padding. A label inside the source is not scored, whether it is
        /// ignored or not.
        micro_batch: MicroBatch,
        /// Positions of each sequence that are its source.
        prefixes: Vec<usize>,
    },
}

impl ObjectiveBatch {
    /// What is learnt.
    #[must_use]
    pub fn kind(&self) -> ObjectiveKind {
        match self {
            Self::SoftTargets { .. } => ObjectiveKind::SoftTargets,
            Self::Masked { .. } => ObjectiveKind::Masked,
            Self::Prefix { .. } => ObjectiveKind::Prefix,
        }
    }

    /// The sequences.
    #[must_use]
    pub fn micro_batch(&self) -> &MicroBatch {
        match self {
            Self::SoftTargets { micro_batch, .. }
            | Self::Masked { micro_batch }
            | Self::Prefix { micro_batch, .. } => micro_batch,
        }
    }

    /// What the mean is divided by: the supervised tokens, the labels that are given, or those behind the source.
    #[must_use]
    pub fn scored(&self) -> usize {
        let given = |sequence: &Sequence, from: usize| {
            sequence.labels().iter().skip(from).filter(|&&label| label != IGNORE_INDEX).count()
        };
        match self {
            Self::SoftTargets { micro_batch, .. } => {
                micro_batch.sequences().iter().map(Sequence::supervised).sum()
            }
            Self::Masked { micro_batch } => micro_batch.sequences().iter().map(|s| given(s, 0)).sum(),
            Self::Prefix { micro_batch, prefixes } => {
                // Nothing predicts the first position.
                let behind = |(s, &prefix): (&Sequence, &usize)| given(s, prefix.max(1));
                micro_batch.sequences().iter().zip(prefixes).map(behind).sum()
            }
        }
    }

    /// Checks the batch against the limits of a subject. How a step is divided plays no part: this is one micro-batch.
    ///
    /// # Errors
    /// [`SubjectError::Limit`] and its kin naming what is outside, and [`SubjectError::Number`] where there is not a
    /// distribution for each supervised token or not a prefix for each sequence.
    pub fn check(&self, limits: &Limits) -> Result<(), SubjectError> {
        let labels_of_its_own = self.kind() == ObjectiveKind::Masked;
        let limits = Limits {
            ranks: Count::ANY,
            micro_batches: Count::ANY,
            free_labels: limits.free_labels || labels_of_its_own,
            ignore_index: limits.ignore_index || labels_of_its_own,
            ..*limits
        };
        limits.check(&GlobalBatch::of_micro_batch(self.micro_batch().clone()))?;
        let exactly = |what: &str, found: usize, expected: usize| {
            let (takes, what) = (Count::exactly(expected), what.to_owned());
            if found == expected { Ok(()) } else { Err(SubjectError::Number { what, found, takes }) }
        };
        match self {
            Self::SoftTargets { targets, .. } => {
                exactly("distributions", targets.len(), self.scored())?;
                let of = "probabilities of a distribution";
                targets.iter().try_for_each(|target| exactly(of, target.len(), limits.vocabulary))
            }
            Self::Masked { .. } => Ok(()),
            Self::Prefix { micro_batch, prefixes } => {
                exactly("prefixes", prefixes.len(), micro_batch.sequences().len())
            }
        }
    }

    /// The same for a trainer whose model knows [prefixes](Sample::prefix), which is what a
    /// [`LoopTrainer`](crate::LoopTrainer) has: labels one position later than they are predicted.
    ///
    /// # Errors
    /// When there is not one prefix for each sequence.
    pub fn training_batch(&self) -> Result<TrainingBatch, BatchError> {
        let place = SamplePlace::default();
        let mut samples = Vec::new();
        for (index, sequence) in self.micro_batch().sequences().iter().enumerate() {
            samples.push(match self {
                Self::SoftTargets { .. } => Sample { sequence: sequence.clone(), place, prefix: 0 },
                Self::Masked { .. } => {
                    Sample::masked(sequence.input_ids().to_vec(), sequence.labels().to_vec(), place)?
                }
                Self::Prefix { prefixes, .. } => {
                    let prefix = prefixes.get(index).copied().unwrap_or_default();
                    Sample { sequence: behind(sequence, prefix), place, prefix }
                }
            });
        }
        TrainingBatch::new(samples)
    }
}

/// The sequence without the labels of its source.
fn behind(sequence: &Sequence, source: usize) -> Sequence {
    sequence.supervise_only(|position| position + 1 >= source)
}

/// The capability to learn something else than the next token.
pub trait Objectives {
    /// Whether it learns this.
    fn learns(&mut self, kind: ObjectiveKind) -> bool;

    /// Forward and backward of one micro-batch: hands the gradient of its mean loss over as
    /// [`Subject::accumulate`](crate::Subject::accumulate) does, and reports that loss. It is the mean over
    /// [what is scored](ObjectiveBatch::scored) of plain cross-entropies, whatever loss spec is configured, and nothing
    /// is dropped.
    ///
    /// # Errors
    /// When it does not learn this, nothing is scored, the batch is outside the subject's
    /// [`Limits`](crate::Limits), or the trainer fails.
    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(input_ids: &[u32], labels: &[i64]) -> MicroBatch {
        let sequence = Sequence::new(input_ids.to_vec(), labels.to_vec()).expect("a label for each token");
        MicroBatch::new(vec![sequence]).expect("a sequence")
    }

    #[test]
    fn what_is_scored_is_what_is_learnt() {
        let labelled = one(&[7, 4, 7], &[3, IGNORE_INDEX, 5]);
        let masked = ObjectiveBatch::Masked { micro_batch: labelled.clone() };
        let prefix =
            |source| ObjectiveBatch::Prefix { micro_batch: labelled.clone(), prefixes: vec![source] };
        let soft = ObjectiveBatch::SoftTargets { micro_batch: labelled.clone(), targets: Vec::new() };
        for (batch, scored) in [(masked, 2), (prefix(0), 1), (prefix(2), 1), (prefix(3), 0), (soft, 1)] {
            assert_eq!(batch.scored(), scored, "{batch:?}");
            assert_eq!(batch.training_batch().expect("samples").supervised(), scored, "{batch:?}");
        }
    }
}
