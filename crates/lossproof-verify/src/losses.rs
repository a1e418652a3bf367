//! The numbers one subject answered: token losses, and the loss under each semantics.

use super::{
    VerifyError,
    alteration::{Alteration, Answer, Identity, seen},
    capability::evaluator,
    logged::LoggedLoss,
    semantics::Semantics,
};
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Observation, Subject};

/// The numbers one subject answered.
pub(crate) struct Losses {
    /// Name in rows.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) dtype: Dtype,
    /// The evaluated loss of every prediction.
    evaluated: Vec<f64>,
    /// What was reported under each semantics.
    observations: Vec<Observation>,
    /// What the loss under each semantics is made of.
    logged: Vec<LoggedLoss>,
}

impl Losses {
    /// Asks a subject for its evaluated token losses.
    pub(crate) fn evaluated(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<Self, VerifyError> {
        let info = subject.info();
        let evaluated = evaluator(subject)?.evaluate(batch)?;
        Ok(Self {
            identity: Identity::of(&info),
            dtype: info.coarsest(&subject.parameters()),
            name: info.name,
            evaluated,
            observations: Vec::new(),
            logged: Vec::new(),
        })
    }

    /// Keeps what a subject reported under the next semantics, and asks it for the token losses that its loss
    /// is made of where those are not the batch's.
    pub(crate) fn observe(
        &mut self,
        subject: &mut dyn Subject,
        meaning: &Semantics,
        observation: Observation,
    ) -> Result<(), VerifyError> {
        self.observations.push(observation);
        self.logged.push(LoggedLoss::of(subject, meaning)?);
        Ok(())
    }

    /// Number of predictions.
    pub(crate) fn predictions(&self) -> usize {
        self.evaluated.len()
    }

    /// Whether the loss under a semantics is that of the whole batch.
    pub(crate) fn logs_the_whole(&self, semantics: usize) -> bool {
        self.logged[semantics].is_whole()
    }

    /// How many token losses were reported under a semantics, if any were.
    pub(crate) fn reported(&self, semantics: usize) -> Option<usize> {
        self.observations[semantics].token_losses.as_ref().map(Vec::len)
    }

    /// These numbers, with one of them altered if there is an alteration.
    pub(crate) fn seen<'a>(&'a self, alteration: Option<&'a Alteration<'a>>) -> SeenLosses<'a> {
        SeenLosses { losses: self, alteration }
    }
}

/// Numbers as a row sees them: as they are, or with one of them altered.
#[derive(Clone, Copy)]
pub(crate) struct SeenLosses<'a> {
    losses: &'a Losses,
    alteration: Option<&'a Alteration<'a>>,
}

impl SeenLosses<'_> {
    /// The evaluated loss of one prediction.
    pub(crate) fn token_loss(&self, prediction: usize) -> f64 {
        seen(self.alteration, Answer::TokenLoss(prediction), self.losses.evaluated[prediction])
    }

    /// The evaluated losses of all predictions.
    pub(crate) fn token_losses(&self) -> Vec<f64> {
        (0..self.losses.evaluated.len()).map(|prediction| self.token_loss(prediction)).collect()
    }

    /// The token loss reported at a place under a semantics, NaN where none was.
    pub(crate) fn reported_token_loss(&self, semantics: usize, place: usize) -> f64 {
        let reported = self.losses.observations[semantics].token_losses.as_ref();
        let own = reported.and_then(|losses| losses.get(place)).copied().unwrap_or(f64::NAN);
        seen(self.alteration, Answer::ReportedTokenLoss(semantics, place), own)
    }

    /// The loss reported under a semantics.
    pub(crate) fn loss(&self, semantics: usize) -> f64 {
        seen(self.alteration, Answer::Loss(semantics), self.losses.observations[semantics].loss)
    }

    /// What the loss under a semantics must be by the evaluated token losses, and what an error of it is
    /// relative to.
    pub(crate) fn expected_loss(&self, semantics: usize, meaning: &Semantics) -> (f64, f64) {
        self.losses.logged[semantics].expected(meaning, &self.token_losses())
    }
}
