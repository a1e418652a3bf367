//! Bugs of what is learnt where it is not the next token: each is an honest trainer that is handed other samples or
//! other distributions, or whose mean is divided by something else.

use crate::kit::HandedOver;
use lossproof_diagnosis::Bug;
use lossproof_spec::{EmptyPolicy, GlobalBatch, IGNORE_INDEX, LossSpec, Rule, Sequence, SequenceFields};
use lossproof_subject::{
    Dropout, GradientSink, LoadParameters, LoopTrainer, ObjectiveBatch, ObjectiveKind, Objectives,
    Observation, ParameterInfo, Sample, SamplePlace, Subject, SubjectError, SubjectInfo, TrainingBatch,
    Unsupported,
};
use std::{collections::BTreeSet, fmt};

/// A bug of an objective, and what a trainer with it does.
#[derive(Clone, Copy)]
pub struct ObjectiveFault {
    /// The bug.
    pub bug: &'static Bug,
    kind: ObjectiveKind,
    parts: Parts,
}

/// What a trainer makes of a batch of one kind.
#[derive(Clone, Copy)]
struct Parts {
    /// The distribution that is learnt instead of this one.
    target: fn(&[f64]) -> Vec<f64>,
    /// The samples that are learnt.
    samples: fn(&ObjectiveBatch) -> Vec<Sample>,
    /// The samples whose gradient is handed over, where they are others.
    backward: Option<fn(&ObjectiveBatch) -> Vec<Sample>>,
    /// Whether the mean over labels is one of means over those of each sequence.
    means_of_sequences: bool,
    /// What loss and gradient are multiplied by, with a vocabulary of so many tokens.
    factor: fn(&ObjectiveBatch, usize) -> f64,
    /// What is added to the loss that is reported.
    reported: fn(&ObjectiveBatch) -> f64,
}

const HONEST: Parts = Parts {
    target: <[f64]>::to_vec,
    samples: |batch| samples(batch, |sequence, prefix| sample(sequence.clone(), prefix)),
    backward: None,
    means_of_sequences: false,
    factor: |_, _| 1.0,
    reported: |_| 0.0,
};

const fn fault(kind: ObjectiveKind, id: &str, parts: Parts) -> ObjectiveFault {
    ObjectiveFault { bug: Bug::of_objectives_named(id), kind, parts }
}

use ObjectiveKind::{Masked, Prefix, SoftTargets};

const FAULTS: &[ObjectiveFault] = &[
    fault(
        SoftTargets,
        "soft-targets-mean-over-elements",
        Parts { factor: |_, vocabulary| 1.0 / vocabulary as f64, ..HONEST },
    ),
    fault(SoftTargets, "soft-targets-mean-over-sequences", Parts { factor: over_sequences, ..HONEST }),
    fault(SoftTargets, "soft-targets-mean-over-positions", Parts { factor: over_predictions, ..HONEST }),
    fault(
        SoftTargets,
        "soft-targets-likeliest-only",
        Parts { target: |target| largest(target, 1, true), ..HONEST },
    ),
    fault(
        SoftTargets,
        "soft-targets-truncated",
        Parts { target: |target| largest(target, 2, false), ..HONEST },
    ),
    fault(SoftTargets, "soft-targets-softmaxed-twice", Parts { target: softmaxed, ..HONEST }),
    fault(SoftTargets, "soft-targets-divergence-reported", Parts { reported: minus_entropy, ..HONEST }),
    fault(Masked, "mlm-labels-shifted", Parts { samples: shifted, ..HONEST }),
    fault(Masked, "mlm-causal-mask-left-on", Parts { samples: masked_but_causal, ..HONEST }),
    fault(Masked, "mlm-loss-on-all", Parts { samples: all_learnt, ..HONEST }),
    fault(Masked, "mlm-mean-over-positions", Parts { factor: over_positions, ..HONEST }),
    fault(Masked, "mlm-mean-over-sequences", Parts { factor: over_sequences, ..HONEST }),
    fault(Masked, "mlm-mean-of-sequence-means", Parts { means_of_sequences: true, ..HONEST }),
    fault(Masked, "mlm-padding-seen", Parts { samples: padding_seen, ..HONEST }),
    fault(Masked, "mlm-causal-backward", Parts { backward: Some(masked_but_causal), ..HONEST }),
    fault(Masked, "mlm-none-masked-nan", Parts { factor: nan_of_nothing, ..HONEST }),
    fault(Prefix, "prefix-causal-mask-left-on", Parts { samples: |batch| seeing(batch, |_, _| 0), ..HONEST }),
    fault(
        Prefix,
        "prefix-one-too-short",
        Parts { samples: |batch| seeing(batch, |source, _| source.max(1) - 1), ..HONEST },
    ),
    fault(
        Prefix,
        "prefix-one-too-long",
        Parts { samples: |batch| seeing(batch, |source, _| source + 1), ..HONEST },
    ),
    fault(
        Prefix,
        "prefix-target-seen",
        Parts { samples: |batch| seeing(batch, |_, length| length), ..HONEST },
    ),
    fault(Prefix, "prefix-source-scored", Parts { samples: source_scored, ..HONEST }),
    fault(Prefix, "prefix-first-target-unscored", Parts { samples: first_target_unscored, ..HONEST }),
];

impl ObjectiveFault {
    /// Every fault, kind by kind.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAULTS.iter()
    }

    /// The fault of the bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.bug.id == id)
    }

    /// This trainer with the fault.
    #[must_use]
    pub fn inject(&self, trainer: Box<dyn LoopTrainer>) -> Box<dyn Subject> {
        Box::new(OtherObjectives { trainer, kind: self.kind, parts: self.parts })
    }
}

impl fmt::Debug for ObjectiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectiveFault").field("bug", &self.bug).finish_non_exhaustive()
    }
}

/// A trainer that is honest but for what it learns beside the next token. Built on the calls that a loop makes, which
/// say of every sample how much of it is seen whole.
struct OtherObjectives {
    trainer: Box<dyn LoopTrainer>,
    /// What it learns wrongly; the rest it learns as it should.
    kind: ObjectiveKind,
    parts: Parts,
}

impl Subject for OtherObjectives {
    fn info(&self) -> SubjectInfo {
        self.trainer.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.trainer.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.trainer.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.trainer.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.trainer.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.trainer.parameter_loading()
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        Some(self)
    }
}

impl Objectives for OtherObjectives {
    fn learns(&mut self, _: ObjectiveKind) -> bool {
        true
    }

    fn learn(
        &mut self,
        batch: &ObjectiveBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let info = self.trainer.info();
        let parts = if batch.kind() == self.kind { self.parts } else { HONEST };
        let factor = (parts.factor)(batch, info.limits.vocabulary);
        let mut kept = HandedOver::default();
        let mut observation = match batch {
            ObjectiveBatch::SoftTargets { micro_batch, targets } => {
                let targets = targets.iter().map(|target| (parts.target)(target)).collect();
                let batch = ObjectiveBatch::SoftTargets { micro_batch: micro_batch.clone(), targets };
                let objectives = self.trainer.objectives();
                let lacking =
                    || SubjectError::failed(&info.name, "the trainer inside learns no distributions");
                objectives.ok_or_else(lacking)?.learn(&batch, &mut kept)?
            }
            _ => self.learn_samples(&parts, batch, factor.is_nan(), &mut kept)?,
        };
        kept.scale(factor);
        kept.hand_over(gradients)?;
        observation.loss = observation.loss * factor + (parts.reported)(batch);
        Ok(observation)
    }
}

impl OtherObjectives {
    /// Forward and backward of the samples. Of nothing there is no mean: that is refused, or is a gradient of zeros
    /// where it is to become none.
    fn learn_samples(
        &mut self,
        parts: &Parts,
        batch: &ObjectiveBatch,
        of_nothing: bool,
        gradient: &mut HandedOver,
    ) -> Result<Observation, SubjectError> {
        let name = self.trainer.info().name;
        let failed = |error: &dyn fmt::Display| SubjectError::failed(&name, error);
        let samples = TrainingBatch::new((parts.samples)(batch)).map_err(|error| failed(&error))?;
        if samples.supervised() == 0 && !of_nothing {
            return Err(failed(&"nothing is scored"));
        }
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let nothing = BTreeSet::new();
        self.trainer.begin(&rule, &nothing, &nothing).map_err(|refused| failed(&refused))?;
        let spec = if parts.means_of_sequences { LossSpec::sequence_mean() } else { LossSpec::token_mean() };
        let spec = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..spec };
        let observation = self.trainer.backward(&samples, &spec, 1.0, &Dropout::NONE)?;
        if let Some(others) = parts.backward {
            self.trainer.zero_gradient()?;
            let samples = TrainingBatch::new(others(batch)).map_err(|error| failed(&error))?;
            self.trainer.backward(&samples, &spec, 1.0, &Dropout::NONE)?;
        }
        self.trainer.read_gradient(gradient)?;
        Ok(observation)
    }
}

fn over_sequences(batch: &ObjectiveBatch, _: usize) -> f64 {
    batch.scored() as f64 / batch.micro_batch().sequences().len() as f64
}

fn over_predictions(batch: &ObjectiveBatch, _: usize) -> f64 {
    let predictions: usize = batch.micro_batch().sequences().iter().map(|sequence| sequence.len() - 1).sum();
    batch.scored() as f64 / predictions as f64
}

fn over_positions(batch: &ObjectiveBatch, _: usize) -> f64 {
    let positions: usize = batch.micro_batch().sequences().iter().map(Sequence::len).sum();
    batch.scored() as f64 / positions as f64
}

fn nan_of_nothing(batch: &ObjectiveBatch, _: usize) -> f64 {
    if batch.scored() == 0 { f64::NAN } else { 1.0 }
}

/// The so many largest probabilities, made up to one or as they were.
fn largest(target: &[f64], many: usize, made_up: bool) -> Vec<f64> {
    let mut order: Vec<usize> = (0..target.len()).collect();
    order.sort_by(|&one, &other| target[other].total_cmp(&target[one]));
    let mut kept = vec![0.0; target.len()];
    for &token in order.iter().take(many) {
        kept[token] = target[token];
    }
    let total: f64 = if made_up { kept.iter().sum() } else { 1.0 };
    kept.into_iter().map(|probability| probability / total).collect()
}

fn softmaxed(target: &[f64]) -> Vec<f64> {
    let raised: Vec<f64> = target.iter().map(|probability| probability.exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.into_iter().map(|value| value / total).collect()
}

fn minus_entropy(batch: &ObjectiveBatch) -> f64 {
    let ObjectiveBatch::SoftTargets { targets, .. } = batch else { return 0.0 };
    let logarithms = targets.iter().flatten().filter(|&&p| p > 0.0).map(|p| p * p.ln());
    logarithms.sum::<f64>() / targets.len().max(1) as f64
}

/// The sequences of a batch as a causal model has them, each with the length of its prefix, made into samples.
fn samples(batch: &ObjectiveBatch, sample: impl Fn(&Sequence, usize) -> Sample) -> Vec<Sample> {
    let Ok(rows) = batch.training_batch() else { return Vec::new() };
    let sequences = rows.micro_batch().sequences().iter().zip(rows.prefixes());
    sequences.map(|(sequence, &prefix)| sample(sequence, prefix)).collect()
}

fn sample(sequence: Sequence, prefix: usize) -> Sample {
    Sample { sequence, place: SamplePlace::default(), prefix }
}

/// The same samples with other labels: `label(position, its own)`, where a label stands one position after the
/// prediction that is scored against it.
fn relabelled(sequence: &Sequence, label: impl Fn(usize, &SequenceFields) -> i64) -> Sequence {
    let mut fields = SequenceFields::from(sequence.clone());
    let labels = (0..sequence.len()).map(|position| label(position, &fields)).collect();
    fields.labels = labels;
    fields.targets = Vec::new();
    Sequence::from_fields(fields).unwrap_or_else(|_| sequence.clone())
}

/// Masked labels, each scored by the prediction before its own position; that of the first position is lost.
fn shifted(batch: &ObjectiveBatch) -> Vec<Sample> {
    let earlier = |position: usize, fields: &SequenceFields| {
        if position == 0 {
            IGNORE_INDEX
        } else {
            fields.labels.get(position + 1).copied().unwrap_or(IGNORE_INDEX)
        }
    };
    samples(batch, |sequence, prefix| sample(relabelled(sequence, earlier), prefix))
}

fn masked_but_causal(batch: &ObjectiveBatch) -> Vec<Sample> {
    samples(batch, |sequence, _| sample(sequence.clone(), 0))
}

/// Where a label is ignored, the token that stands there is learnt.
fn all_learnt(batch: &ObjectiveBatch) -> Vec<Sample> {
    let own = |position: usize, fields: &SequenceFields| match fields.labels[position] {
        IGNORE_INDEX if position > 0 => i64::from(fields.input_ids[position - 1]),
        label => label,
    };
    samples(batch, |sequence, prefix| sample(relabelled(sequence, own), prefix))
}

/// Shorter sequences go on with token 0, up to the length of the longest, in the same document.
fn padding_seen(batch: &ObjectiveBatch) -> Vec<Sample> {
    let micro_batch = batch.micro_batch();
    let longest = micro_batch.sequences().iter().map(Sequence::len).max().unwrap_or_default();
    let padded = |sequence: &Sequence| {
        let (mut tokens, mut labels) = (sequence.input_ids().to_vec(), sequence.labels().to_vec());
        tokens.resize(longest, 0);
        labels.resize(longest, IGNORE_INDEX);
        Sample::masked(tokens, labels, SamplePlace::default()).ok()
    };
    micro_batch.sequences().iter().filter_map(padded).collect()
}

/// Samples of which another part is seen whole: `seen(source, length)`.
fn seeing(batch: &ObjectiveBatch, seen: fn(usize, usize) -> usize) -> Vec<Sample> {
    samples(batch, |sequence, source| {
        sample(sequence.clone(), seen(source, sequence.len()).min(sequence.len()))
    })
}

fn source_scored(batch: &ObjectiveBatch) -> Vec<Sample> {
    let ObjectiveBatch::Prefix { micro_batch, prefixes } = batch else { return (HONEST.samples)(batch) };
    micro_batch.sequences().iter().zip(prefixes).map(|(own, &source)| sample(own.clone(), source)).collect()
}

fn first_target_unscored(batch: &ObjectiveBatch) -> Vec<Sample> {
    samples(batch, |sequence, source| {
        let unscored = |position: usize| source > 0 && position + 1 == source;
        sample(sequence.supervise_only(|position| !unscored(position)), source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_of_an_objective_is_one_fault() {
        let faults: Vec<_> = ObjectiveFault::all().map(|fault| fault.bug.id).collect();
        let bugs: Vec<_> = Bug::of_objectives().map(|bug| bug.id).collect();
        assert_eq!(faults, bugs);
    }
}
