//! One call of a trainer, and the weighted sums of token losses that it differentiates or reports.

use lossproof_cases::edit::edit_freely;
use lossproof_numerics::CrossEntropy;
use lossproof_spec::{
    Counting, GlobalBatch, Layout, LossSpec, Sequence, SequenceShape, TokenWeights, to_f64,
};
use lossproof_subject::{Limits, LogPolicy};

/// How a trainer is taken to reduce and to log its losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Semantics {
    /// Which loss it logs.
    pub(crate) log_policy: LogPolicy,
    /// The loss that it computes, where that is another than it is asked for.
    pub(crate) spec: Option<LossSpec>,
}

impl Semantics {
    /// Those of a trainer that computes what it is asked for.
    pub(crate) fn as_asked(log_policy: LogPolicy) -> Self {
        Self { log_policy, spec: None }
    }
}

/// What a trainer is asked for in one call.
#[derive(Clone, Copy)]
pub(crate) struct TrainerCall<'a> {
    pub(crate) spec: &'a LossSpec,
    pub(crate) batch: &'a GlobalBatch,
    pub(crate) limits: &'a Limits,
    /// Which loss it logs.
    pub(crate) log_policy: LogPolicy,
    /// What it was called with since its last reset, the oldest first.
    pub(crate) before: &'a [GlobalBatch],
    /// The weight of every prediction, where it comes from above and not from the spec.
    pub(crate) upstream: Option<&'a [f64]>,
}

impl TrainerCall<'_> {
    /// The batches whose losses, each by itself, have the loss to be reported as their mean. A sum whose
    /// weights come from above is reported as it is.
    pub(crate) fn logged(&self) -> Vec<GlobalBatch> {
        if self.upstream.is_some() {
            return vec![self.batch.clone()];
        }
        self.log_policy.logged(self.batch, self.spec)
    }
}

/// `Σ_t w_t·ℓ_t` on a batch, `weights` holding `w_t` for every prediction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) batch: GlobalBatch,
    pub(crate) weights: Vec<f64>,
    /// ε of the token loss.
    pub(crate) label_smoothing: f64,
    /// ζ of the token loss.
    pub(crate) z_loss: f64,
}

/// What a trainer differentiates or reports on a batch that it saw; `None` where the mean of nothing leaves
/// no number.
pub(crate) type Weighing = fn(&TrainerCall<'_>) -> Option<Vec<Term>>;

impl Term {
    /// The token loss that is weighed.
    pub(crate) fn token_loss(&self) -> CrossEntropy {
        CrossEntropy { label_smoothing: self.label_smoothing, z_loss: self.z_loss }
    }
}

/// The weight of every prediction: that of the calculus, or that from above. `None` where the mean of nothing
/// leaves none.
pub(crate) fn weights(spec: &LossSpec, call: &TrainerCall<'_>) -> Option<Vec<f64>> {
    if let Some(upstream) = call.upstream {
        let supervised = call.batch.predictions().map(|p| f64::from(u8::from(p.supervised)));
        return Some(upstream.iter().zip(supervised).map(|(u, s)| u * s).collect());
    }
    TokenWeights::new(spec, &call.batch.layout()).ok().map(|weights| weights.per_prediction(call.batch))
}

/// A sum over the batch of a call with the token loss of a spec.
pub(crate) fn term(call: &TrainerCall<'_>, spec: &LossSpec, weights: Vec<f64>) -> Term {
    Term { batch: call.batch.clone(), weights, label_smoothing: spec.label_smoothing, z_loss: spec.z_loss }
}

/// The one sum that a spec makes of the batch of a call.
pub(crate) fn under(spec: &LossSpec, call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    Some(vec![term(call, spec, weights(spec, call)?)])
}

/// The sum of a trainer that scores each prediction against another label than it should, or against none: `label` has
/// the token by sequence and position, padding included.
pub(crate) fn scored_against(
    call: &TrainerCall<'_>,
    label: impl Fn(&Sequence, usize) -> Option<u32>,
) -> Option<Vec<Term>> {
    let labels: Vec<Option<u32>> = call
        .batch
        .sequences()
        .flat_map(|sequence| (0..sequence.len() - 1).map(move |at| (sequence, at)))
        .map(|(sequence, at)| label(sequence, at))
        .collect();
    let mut rest = labels.iter();
    let batch = call.batch.map_sequences(|sequence| {
        edit_freely(sequence, |fields| {
            for (target, label) in fields.targets.iter_mut().skip(1).zip(&mut rest) {
                *target = label.unwrap_or(*target);
            }
        })
    });
    let weights = match call.upstream {
        Some(upstream) => upstream.to_vec(),
        None => weights_of_labels(call, &labels)?,
    };
    let weights = weights.iter().zip(&labels).map(|(w, label)| if label.is_some() { *w } else { 0.0 });
    let LossSpec { label_smoothing, z_loss, .. } = *call.spec;
    Some(vec![Term { batch, weights: weights.collect(), label_smoothing, z_loss }])
}

/// What a spec weighs every prediction with, if those are supervised that have a label.
fn weights_of_labels(call: &TrainerCall<'_>, labels: &[Option<u32>]) -> Option<Vec<f64>> {
    let mut rest = labels;
    let mut shape = |sequence: &Sequence| {
        let (own, others) = rest.split_at(sequence.len() - 1);
        rest = others;
        let supervised = own.iter().flatten().count();
        SequenceShape { positions: sequence.len(), supervised, first_label: false }
    };
    let mut ranks = Vec::new();
    for rank in call.batch.ranks() {
        let window = rank.micro_batches().iter();
        ranks.push(window.map(|one| one.sequences().iter().map(&mut shape).collect()).collect());
    }
    let spec = LossSpec { counting: Counting::Supervised, ..*call.spec };
    let weights = TokenWeights::new(&spec, &Layout::new(ranks).ok()?).ok()?;
    let sequences = call.batch.sequences().zip(weights.sequences());
    Some(sequences.flat_map(|(sequence, (weight, _))| vec![to_f64(weight); sequence.len() - 1]).collect())
}

/// The sum that an honest trainer differentiates.
pub(crate) fn honest_terms(call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    under(&LossSpec { counting: Counting::Supervised, ..*call.spec }, call)
}
