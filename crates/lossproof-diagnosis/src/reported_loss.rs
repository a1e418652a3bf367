//! What a model of a trainer reports as its loss: by its log policy, or otherwise.

use crate::call::{Term, TrainerCall, Weighing, honest_terms};
use std::ptr::fn_addr_eq;

/// What is summed over.
#[derive(Clone, Copy)]
pub(crate) enum Summed {
    /// The batch of the call.
    Batch(Weighing),
    /// The batches that are logged, each by itself, of which the mean is taken.
    Logged(Weighing),
}

impl PartialEq for Summed {
    /// Functions at one address are one function. The same function at two addresses is called once more than it need
    /// be.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Batch(one), Self::Batch(two)) | (Self::Logged(one), Self::Logged(two)) => {
                fn_addr_eq(*one, *two)
            }
            (Self::Batch(_), Self::Logged(_)) | (Self::Logged(_), Self::Batch(_)) => false,
        }
    }
}

impl Summed {
    /// The sums of a call whose batch a trainer saw; `None` where the mean of nothing leaves no number.
    pub(crate) fn terms(self, call: &TrainerCall<'_>) -> Option<Vec<Term>> {
        match self {
            Self::Batch(weighing) => weighing(call),
            Self::Logged(weighing) => mean_of_logged(weighing, call),
        }
    }
}

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
        self.summed(own).terms(call)
    }

    /// What is reported, `own` being what a trainer differentiates.
    pub(crate) fn summed(self, own: Weighing) -> Summed {
        match self {
            Self::Own => Summed::Logged(own),
            Self::Right => Summed::Logged(honest_terms),
            Self::Sum(weighing) => Summed::Batch(weighing),
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
