//! What a weighted sum of token losses and its gradient truly are: in closed form where the logits are known,
//! or as a reference with the same parameters computes them.

use crate::{
    call::Term,
    named_values::{NamedValues, global_norm},
    trainer_model::{LossKernel, ScoredToken, TokenKernel, honest_kernel},
    weighed::Weighed,
};
use lossproof_laws::{FinalNorm, KnownLogits};
use lossproof_numerics::{norm, vector};
use std::rc::Rc;

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
    pub(crate) differentiated: Rc<Weighed>,
    /// What they are.
    pub(crate) optimised: Rc<LossAndGradient>,
    /// The sums that it reports, by its log policy.
    pub(crate) logged: Rc<Weighed>,
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
            vector::add_scaled(&mut by_logit, 1.0, &gradient);
        }
    }
    let by_logit = known.gradient(&by_logit);
    let mut gradient = NamedValues::from([(known.head().to_owned(), by_logit.embedding)]);
    if let Some(FinalNorm { bias, .. }) = known.final_norm() {
        gradient.insert(bias.clone(), by_logit.bias);
    }
    Some(LossAndGradient { loss, gradient })
}

/// Whether the gradient of the head is along the last activations, which are the same at every position: whatever
/// tokens weigh, it is. Of what is no number nothing is said.
pub(crate) fn is_along_the_last_activations(known: &KnownLogits, gradient: &[f64], tolerance: f64) -> bool {
    let along = known.gradient(&known.by_logit(gradient)).embedding;
    let apart = vector::distance(gradient, &along);
    apart.is_nan() || apart <= tolerance * norm(&along)
}
