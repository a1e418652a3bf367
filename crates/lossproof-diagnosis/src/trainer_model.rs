//! A trainer as a hypothesis models it: which token losses it weighs with what, and where it leaves the
//! honest way.

use crate::{
    call::{TrainerCall, Weighing, honest_terms},
    gradient_comparison::GradientComparison,
    reported_loss::ReportedLoss,
    score::Grade,
    simulated_optimizer::StepMistake,
    validation::CorpusLosses,
};
use lossproof_numerics::{CrossEntropy, vector};
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Role, Sequence};
use lossproof_subject::{Evaluated, Limits};

/// A token loss that is weighed: its logits, its label, its weight and the numbers of the loss.
#[derive(Clone, Copy)]
pub(crate) struct ScoredToken<'a> {
    pub(crate) logits: &'a [f64],
    pub(crate) label: usize,
    pub(crate) weight: f64,
    pub(crate) token_loss: CrossEntropy,
}

/// A token's part of the loss, and the gradient of that part by the logits.
type TokenPart = (f64, Vec<f64>);

/// What computes a token's part of the loss; `None` where the numbers are not those of a loss.
pub(crate) type TokenKernel = fn(&ScoredToken<'_>) -> Option<TokenPart>;

/// A change of a parameter's gradient: its role and shape, its values, and those of the call before.
type GradientChange = fn(Role, &[usize], &mut [f64], Option<&[f64]>);

/// A loss kernel that is not the cross-entropy that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct LossKernel {
    /// Which token losses it computes otherwise.
    pub(crate) of: fn(&CrossEntropy) -> bool,
    pub(crate) computes: TokenKernel,
    /// Whether it takes probabilities for logits.
    pub(crate) of_probabilities: bool,
}

/// What the backward operators make of the gradient.
#[derive(Clone, Copy)]
pub(crate) enum BackwardEffect {
    /// What they should.
    Honest,
    /// They turn the honest gradient of each parameter into another.
    Exact(GradientChange),
    /// Those parameters whose role this picks weigh the token losses otherwise.
    Weighed(fn(Role) -> bool, Weighing),
    /// The hypothesis knows where the gradient is wrong but not its numbers: it grades each parameter's.
    Pattern(fn(&GradientComparison<'_>) -> Grade),
    /// The gradient of one parameter alone is wrong, whichever it is: the hypothesis grades each parameter's.
    OfOne(fn(&GradientComparison<'_>) -> Grade),
}

impl BackwardEffect {
    /// How well a parameter's gradient agrees with this effect, `otherwise` being the gradient weighed
    /// otherwise.
    pub(crate) fn grade(&self, comparison: &GradientComparison<'_>, otherwise: Option<&[f64]>) -> Grade {
        if comparison.measured.len() != comparison.honest.len() {
            return Grade::Impossible;
        }
        match self {
            Self::Exact(change) => {
                let mut values = comparison.honest.to_vec();
                change(comparison.role, comparison.shape, &mut values, comparison.former);
                comparison.grade(&values)
            }
            Self::Weighed(picks, _) if picks(comparison.role) => {
                otherwise.map_or(Grade::Impossible, |values| comparison.grade(values))
            }
            Self::Pattern(grade) | Self::OfOne(grade) if comparison.is_finite() => grade(comparison),
            Self::Pattern(_) | Self::OfOne(_) => Grade::Impossible,
            Self::Honest | Self::Weighed(..) => comparison.grade(comparison.honest),
        }
    }
}

/// What becomes of the gradient of a token loss from call to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenGradients {
    /// It is the same in every call, right or wrong, so that the gradient of a batch is a sum of them.
    Same,
    /// The same, and the gradient of each call is added to those of the calls since the last reset.
    Kept,
    /// It depends on what else is in the batch, or was in the one before.
    OfTheBatch,
    /// It is another in every call.
    Random,
}

/// What a token loss depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The inputs of its document up to its position.
    Causal,
    /// Any input of its document.
    Document,
    /// Any input of its sequence, and what its micro-batch is filled up to one width with.
    Everything,
}

/// Whether the token loss at a position of a sequence depends on an input, in a model of so many blocks, where the card
/// says how many; `None` where nobody says.
type Attends = fn(&Sequence, usize, usize, Option<usize>) -> Option<bool>;

/// What a trainer makes of a sequence before the model sees it, with the spec it was asked for.
pub(crate) type DataPath = fn(&Sequence, &LossSpec, &Limits) -> Sequence;

/// What token losses depend on in a micro-batch.
pub(crate) type SightOf = fn(&MicroBatch) -> Sight;

/// A trainer by its parts, as a hypothesis has it.
#[derive(Clone, Copy)]
pub(crate) struct TrainerModel {
    /// Its data path.
    pub(crate) sees: DataPath,
    /// What it differentiates.
    pub(crate) gradient: Weighing,
    /// What it reports.
    pub(crate) reports: ReportedLoss,
    /// Its loss kernel, where that is wrong.
    pub(crate) kernel: Option<LossKernel>,
    /// Whether the kernel loses the digits of logits with a large offset.
    pub(crate) cancels: bool,
    /// Its backward operators.
    pub(crate) backward: BackwardEffect,
    /// Whether the token loss at a position depends on an input, and `None` where the hypothesis does not say; of a
    /// hypothesis that does not speak of attention there is none.
    pub(crate) attends: Option<Attends>,
    /// What token losses depend on in a micro-batch. Where that is more than [`Sight::Causal`], they are not an honest
    /// trainer's, and nobody can say what they are.
    pub(crate) sight: SightOf,
    /// What is wrong with its step.
    pub(crate) step: StepMistake,
    /// What it prints of a corpus; of a hypothesis that does not speak of validations there is nothing.
    pub(crate) validate: Option<fn(&CorpusLosses) -> Evaluated>,
    /// Whether the loss of a validation is in the next loss that is reported.
    pub(crate) leaks: bool,
    /// What becomes of the gradient of a token loss from call to call.
    pub(crate) token_gradients: TokenGradients,
    /// Of a parameter with this role: whether its gradient is missing, and `None` where the hypothesis does not say.
    pub(crate) loses: fn(Role) -> Option<bool>,
}

impl TrainerModel {
    /// Nothing is wrong with it.
    pub(crate) const HONEST: Self = Self {
        sees: |sequence, _, _| sequence.clone(),
        gradient: honest_terms,
        reports: ReportedLoss::Own,
        kernel: None,
        cancels: false,
        backward: BackwardEffect::Honest,
        attends: None,
        sight: |_| Sight::Causal,
        step: StepMistake::None,
        validate: None,
        leaks: false,
        token_gradients: TokenGradients::Same,
        loses: |_| Some(false),
    };

    /// What nobody knows is wrong with its attention: every position sees all of its document, or of the whole
    /// sequence.
    pub(crate) const UNKNOWN_ATTENTION: [Self; 2] = [
        Self {
            sight: |_| Sight::Document,
            attends: Some(|sequence, at, input, _| {
                Some(sequence.segment_ids()[at] == sequence.segment_ids()[input])
            }),
            ..Self::HONEST
        },
        Self { sight: |_| Sight::Everything, attends: Some(|_, _, _, _| Some(true)), ..Self::HONEST },
    ];

    /// Whether nobody can say what the token losses of a batch are.
    pub(crate) fn is_unsaid(&self, batch: &GlobalBatch) -> bool {
        batch.micro_batches().any(|micro_batch| (self.sight)(micro_batch) != Sight::Causal)
    }

    /// The batch behind its data path.
    pub(crate) fn seen(&self, call: &TrainerCall<'_>) -> GlobalBatch {
        call.batch.map_sequences(|sequence| (self.sees)(sequence, call.spec, call.limits))
    }
}

/// Whether a position attends to an input: to those before it, and to itself, in its own document.
pub(crate) fn honest_attention(sequence: &Sequence, position: usize, input: usize) -> bool {
    let document = sequence.segment_ids();
    input == position || input < position && document[input] == document[position] && document[position] > 0
}

/// The cross-entropy that was asked for, and its gradient.
pub(crate) fn honest_kernel(scored: &ScoredToken<'_>) -> Option<TokenPart> {
    let loss = scored.token_loss.loss(scored.logits, scored.label).ok()?;
    let mut gradient = scored.token_loss.gradient(scored.logits, scored.label).ok()?;
    vector::scale(&mut gradient, scored.weight);
    Some((scored.weight * loss, gradient))
}

/// The probabilities of logits.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|value| value / sum).collect()
}
