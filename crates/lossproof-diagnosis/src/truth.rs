//! What a weighted sum of token losses and its gradient truly are: in closed form where the logits are known,
//! or as a reference with the same parameters computes them.

use crate::{
    call::Term,
    named_values::{NamedValues, global_norm},
    trainer_model::{LossKernel, ScoredToken, TokenKernel, honest_kernel},
};
use lossproof_cases::edit::relabel;
use lossproof_laws::{FinalNorm, KnownLogits};
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Collect, Subject, SubjectError};

/// A loss, and its gradient by those parameters of which it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LossAndGradient {
    pub(crate) loss: f64,
    pub(crate) gradient: NamedValues,
}

impl LossAndGradient {
    /// Norm of the gradient.
    pub(crate) fn norm(&self) -> f64 {
        global_norm(&self.gradient)
    }
}

/// What an honest trainer makes of a call.
pub(crate) struct HonestAnswer {
    /// The sums that it differentiates.
    pub(crate) terms: Vec<Term>,
    /// What they are.
    pub(crate) optimised: LossAndGradient,
    /// The sums that it reports, by its log policy.
    pub(crate) reported_terms: Vec<Term>,
    /// The loss that it reports.
    pub(crate) reported: f64,
}

/// `Σ` of the terms and its gradient under known logits; `None` where a number is not that of a loss.
pub(crate) fn in_closed_form(
    known: &KnownLogits,
    kernel: Option<LossKernel>,
    terms: &[Term],
) -> Option<LossAndGradient> {
    let (mut loss, mut by_logit) = (0.0, vec![0.0; known.logits().len()]);
    for term in terms {
        let token_loss = term.token_loss();
        let computes: TokenKernel = match kernel {
            Some(kernel) if (kernel.of)(&token_loss) => kernel.computes,
            _ => honest_kernel,
        };
        for (prediction, &weight) in term.batch.predictions().zip(&term.weights).filter(|(_, w)| **w != 0.0) {
            let label = prediction.target as usize;
            let (part, gradient) =
                computes(&ScoredToken { logits: known.logits(), label, weight, token_loss })?;
            loss += part;
            by_logit.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
    let by_logit = known.gradient(&by_logit);
    let mut gradient = NamedValues::from([(known.head().to_owned(), by_logit.embedding)]);
    if let Some(FinalNorm { bias, .. }) = known.final_norm() {
        gradient.insert(bias.clone(), by_logit.bias);
    }
    Some(LossAndGradient { loss, gradient })
}

/// `Σ` of the terms and its gradient as another trainer with the same parameters computes them, which is
/// taken to be right; `None` where it cannot say.
///
/// # Errors
/// When it fails.
pub(crate) fn by_reference(
    reference: &mut dyn Subject,
    kernel: Option<LossKernel>,
    terms: &[Term],
) -> Result<Option<LossAndGradient>, SubjectError> {
    let mut sum = LossAndGradient::default();
    for term in terms {
        if kernel.is_some_and(|kernel| (kernel.of)(&term.token_loss())) {
            return Ok(None);
        }
        let spec = LossSpec { label_smoothing: term.label_smoothing, z_loss: term.z_loss, ..LossSpec::sum() };
        if reference.configure(&spec).is_err() || term.weights.iter().any(|weight| weight.is_nan()) {
            return Ok(None);
        }
        let Some(upstream) = reference.upstream_weights() else { return Ok(None) };
        let mut sink = Collect::default();
        let weighed = supervised_where_weighed(&term.batch, &term.weights);
        sum.loss += upstream.backward(&weighed, &term.weights, &mut sink)?;
        for (name, tensor) in sink.into_tensors() {
            let own = sum.gradient.entry(name).or_insert_with(|| vec![0.0; tensor.elements()]);
            own.iter_mut().enumerate().for_each(|(index, value)| *value += tensor.get(index));
        }
    }
    Ok(Some(sum))
}

/// The batch with a label exactly where a prediction weighs something.
fn supervised_where_weighed(batch: &GlobalBatch, weights: &[f64]) -> GlobalBatch {
    let mut rest = weights.iter();
    batch.map_sequences(|sequence| {
        relabel(sequence, |fields, at| {
            let weighs = rest.next().is_some_and(|weight| *weight != 0.0);
            weighs.then(|| fields.targets[at])
        })
    })
}
