//! Another loss of the calculus than the claimed one: what a trainer computes that is right but for what it claims.

use crate::{
    call::Semantics,
    inference::{loss_specs, spec_words},
    scorer::Scorer,
    trainer_model::TrainerModel,
};
use lossproof_spec::{Counting, LossSpec};
use lossproof_subject::SubjectError;

/// Another loss than the claimed one, by which everything that was seen is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OtherLoss {
    /// What the card claims.
    pub claimed: LossSpec,
    /// What is computed. Of several that nothing seen tells apart, the plainest.
    pub computed: LossSpec,
}

impl OtherLoss {
    /// What to change.
    pub(crate) const REMEDY: &str =
        "claim on the card the loss that the trainer computes, or compute the one that is claimed";

    /// Looks for it, where the subject has one claim. The scorer is left as it was.
    ///
    /// # Errors
    /// When the reference fails.
    pub(crate) fn seen(scorer: &mut Scorer<'_, '_>) -> Result<Option<Self>, SubjectError> {
        let Some(claimed) = scorer.seen.only_spec() else { return Ok(None) };
        let before = scorer.semantics();
        let mut found = None;
        // What weighs every probe alike is not tried twice, and not what is claimed.
        let as_claimed = scorer.seen.weights(&claimed);
        let mut tried = vec![as_claimed.clone()];
        for spec in loss_specs() {
            let LossSpec { label_smoothing, z_loss, .. } = claimed;
            let computed = LossSpec { label_smoothing, z_loss, ..spec };
            // A wrong count is a bug with a name.
            if computed.counting != Counting::Supervised || computed.validate().is_err() {
                continue;
            }
            let weights = scorer.seen.weights(&computed);
            // A probe of which a loss says nothing would not be held to it.
            let is_silent = as_claimed.iter().zip(&weights).any(|(due, own)| due.is_some() && own.is_none());
            if is_silent || tried.contains(&weights) {
                continue;
            }
            tried.push(weights);
            scorer.take_for(Semantics { spec: Some(computed), ..before })?;
            let score = scorer.score(&TrainerModel::HONEST)?;
            if score.total() > 0 && score.cost() <= 0.0 {
                found = Some(Self { claimed, computed });
                break;
            }
        }
        scorer.take_for(before)?;
        Ok(found)
    }

    /// What it is, in words.
    pub(crate) fn statement(&self) -> String {
        let (computed, claimed) = (spec_words(&self.computed), spec_words(&self.claimed));
        format!(
            "the {computed}, or what weighs alike all that was looked at, where the card claims the {claimed}; \
             nothing else that was looked at is wrong"
        )
    }
}
