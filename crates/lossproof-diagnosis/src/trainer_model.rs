//! A trainer as a hypothesis has it: which token losses it weighs with what, and where it leaves the honest way.

use super::{
    beside::Beside,
    steps::Mistake,
    validation::{self, Corpus},
};
use lossproof_numerics::CrossEntropy;
use lossproof_spec::{Counting, GlobalBatch, LossSpec, MicroBatch, Sequence, TokenWeights};
use lossproof_subject::{Evaluated, Limits};

/// One call of a trainer: what it is asked for.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) spec: &'a LossSpec,
    pub(super) batch: &'a GlobalBatch,
    pub(super) limits: &'a Limits,
    /// What it was called with since its last reset, the oldest first.
    pub(super) before: &'a [GlobalBatch],
    /// The weight of every prediction, where it comes from above and not from the spec.
    pub(super) upstream: Option<&'a [f64]>,
}

/// `Σ_t w_t·ℓ_t` on a batch, `weights` holding `w_t` for every prediction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) batch: GlobalBatch,
    pub(super) weights: Vec<f64>,
    /// ε of the token loss.
    pub(super) label_smoothing: f64,
    /// ζ of the token loss.
    pub(super) z_loss: f64,
}

impl Term {
    pub(super) fn token_loss(&self) -> CrossEntropy {
        CrossEntropy { label_smoothing: self.label_smoothing, z_loss: self.z_loss }
    }
}

/// A token loss that is weighed: its logits, its label, its weight and the numbers of the loss.
#[derive(Clone, Copy)]
pub(super) struct Scored<'a> {
    pub(super) logits: &'a [f64],
    pub(super) label: usize,
    pub(super) weight: f64,
    pub(super) token_loss: CrossEntropy,
}

/// A token's part of the loss, and its gradient by the logits; `None` where the numbers are not those of a loss.
pub(super) type Part = (f64, Vec<f64>);

/// The sums that a trainer differentiates or reports on a batch that it saw; `None` where the mean of nothing leaves no
/// number.
type Sums = fn(&Call<'_>) -> Option<Vec<Term>>;

/// A change of a parameter's gradient: its name and shape, the values, and those of the call before.
type Change = fn(&str, &[usize], &mut [f64], Option<&[f64]>);

/// A loss kernel that is not the cross-entropy that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Which token losses it computes otherwise.
    pub(super) of: fn(&CrossEntropy) -> bool,
    pub(super) computes: fn(&Scored<'_>) -> Option<Part>,
}

/// What the backward operators make of the gradient.
#[derive(Clone, Copy)]
pub(super) enum Operators {
    Honest,
    /// They turn the honest gradient of each parameter into another.
    Exact(Change),
    /// Those parameters whose name this picks weigh the token losses otherwise.
    Weighed(fn(&str) -> bool, Sums),
    /// The hypothesis knows where the gradient is wrong but not its numbers: how a parameter's measured gradient fits.
    Pattern(fn(&Beside<'_>) -> Fit),
    /// The same, of one parameter alone, whichever it is.
    OfOne(fn(&Beside<'_>) -> Fit),
}

/// How well a measurement fits what a hypothesis says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is what was predicted.
    Exactly,
    /// It is of the kind that was predicted.
    Loosely,
    /// It is right where it was to be wrong.
    Poorly,
    /// The hypothesis cannot have made it.
    Not,
}

/// The parts of a trainer.
#[derive(Clone, Copy)]
pub(super) struct Model {
    /// What it makes of a sequence before the model sees it, with the spec it was asked for.
    pub(super) sees: fn(&Sequence, &LossSpec, &Limits) -> Sequence,
    /// What it differentiates.
    pub(super) gradient: Sums,
    /// What it reports; the same where there is nothing here.
    pub(super) loss: Option<Sums>,
    /// Its loss kernel, where that is wrong.
    pub(super) kernel: Option<Kernel>,
    /// Whether the kernel loses the digits of logits with a large offset.
    pub(super) cancels: bool,
    /// Its backward operators.
    pub(super) operators: Operators,
    /// Whether the token loss at position `t` depends on the input at `j`; `None` where the hypothesis does not say.
    pub(super) attends: fn(&Sequence, usize, usize) -> Option<bool>,
    /// On which micro-batches nobody can say what the model computes: its token losses there are not an honest model's.
    pub(super) untold: fn(&MicroBatch) -> bool,
    /// What is wrong with its step.
    pub(super) step: Mistake,
    /// What it prints of a corpus.
    pub(super) validate: fn(&Corpus) -> Evaluated,
    /// Whether the loss of a validation is in the next loss that is reported.
    pub(super) leaks: bool,
    /// Whether two identical calls give the same.
    pub(super) repeatable: bool,
}

impl Model {
    /// Nothing is wrong with it.
    pub(super) const HONEST: Self = Self {
        sees: |sequence, _, _| sequence.clone(),
        gradient: honest_terms,
        loss: None,
        kernel: None,
        cancels: false,
        operators: Operators::Honest,
        attends: |sequence, position, input| Some(honest_attention(sequence, position, input)),
        untold: |_| false,
        step: Mistake::None,
        validate: validation::honest,
        leaks: false,
        repeatable: true,
    };

    /// The batch behind its data path.
    pub(super) fn seen(&self, call: &Call<'_>) -> GlobalBatch {
        call.batch.map_sequences(|sequence| (self.sees)(sequence, call.spec, call.limits))
    }
}

/// A position attends to those before it, and to itself, in its own document.
pub(super) fn honest_attention(sequence: &Sequence, position: usize, input: usize) -> bool {
    let document = sequence.segment_ids();
    input == position || input < position && document[input] == document[position] && document[position] > 0
}

pub(super) fn honest_kernel(scored: &Scored<'_>) -> Option<Part> {
    let loss = scored.token_loss.loss(scored.logits, scored.label).ok()?;
    let mut gradient = scored.token_loss.gradient(scored.logits, scored.label).ok()?;
    for value in &mut gradient {
        *value *= scored.weight;
    }
    Some((scored.weight * loss, gradient))
}

/// The weights of the calculus, or those from above.
pub(super) fn weights(spec: &LossSpec, call: &Call<'_>) -> Option<Vec<f64>> {
    if let Some(upstream) = call.upstream {
        let supervised = call.batch.predictions().map(|p| f64::from(u8::from(p.supervised)));
        return Some(upstream.iter().zip(supervised).map(|(u, s)| u * s).collect());
    }
    TokenWeights::new(spec, &call.batch.layout()).ok().map(|weights| weights.per_prediction(call.batch))
}

/// One sum over the batch, under a spec.
pub(super) fn under(spec: &LossSpec, call: &Call<'_>) -> Option<Vec<Term>> {
    Some(vec![term(call, spec, weights(spec, call)?)])
}

/// A sum over the batch of a call.
pub(super) fn term(call: &Call<'_>, spec: &LossSpec, weights: Vec<f64>) -> Term {
    Term { batch: call.batch.clone(), weights, label_smoothing: spec.label_smoothing, z_loss: spec.z_loss }
}

pub(super) fn honest_terms(call: &Call<'_>) -> Option<Vec<Term>> {
    under(&LossSpec { counting: Counting::Supervised, ..*call.spec }, call)
}

/// The probabilities of logits.
pub(super) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|value| value / sum).collect()
}
