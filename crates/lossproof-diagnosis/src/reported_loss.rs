//! What a model of a trainer reports as its loss: by its log policy, or otherwise.

use crate::call::{Term, TrainerCall, Weighing, honest_terms};

/// What a trainer reports as its loss.
#[derive(Clone, Copy)]
pub(crate) enum ReportedLoss {
    /// What it differentiates, of each batch that its log policy names.
    Own,
    /// What it should differentiate, of each batch that its log policy names.
    Right,
    /// This sum, whatever its log policy.
    Sum(Weighing),
}

impl ReportedLoss {
    /// The sums whose total is reported on a batch that a trainer saw, `own` being what it differentiates;
    /// `None` where the mean of nothing leaves no number.
    pub(crate) fn terms(self, own: Weighing, call: &TrainerCall<'_>) -> Option<Vec<Term>> {
        match self {
            Self::Own => mean_of_logged(own, call),
            Self::Right => mean_of_logged(honest_terms, call),
            Self::Sum(weighing) => weighing(call),
        }
    }
}

/// The mean of what is weighed of each logged batch by itself.
fn mean_of_logged(weighing: Weighing, call: &TrainerCall<'_>) -> Option<Vec<Term>> {
    let logged = call.logged();
    let mut terms = Vec::new();
    for batch in &logged {
        for mut term in weighing(&TrainerCall { batch, ..*call })? {
            for weight in &mut term.weights {
                *weight /= logged.len() as f64;
            }
            terms.push(term);
        }
    }
    Some(terms)
}
