//! What models forecast of a probe: sums of token losses and their gradients, in closed form or by the reference.

use super::Scorer;
use crate::{
    call::{Term, TrainerCall},
    half_digits::Forecast,
    reported_loss::Summed,
    trainer_model::{LossKernel, TrainerModel},
    truth::{HonestAnswer, LossAndGradient, in_closed_form},
    weighed::Weighed,
};
use lossproof_subject::SubjectError;
use std::{ptr, rc::Rc};

impl Scorer<'_, '_> {
    /// What an honest trainer gives for a probe; `None` where nobody can tell.
    pub(super) fn honest_answer(
        &mut self,
        index: usize,
        call: &TrainerCall<'_>,
    ) -> Result<Option<HonestAnswer>, SubjectError> {
        let model = TrainerModel::HONEST;
        let differentiated = self.weighed[index].by(&model, Summed::Batch(model.gradient), call);
        let logged = self.weighed[index].by(&model, model.reports.summed(model.gradient), call);
        let (Some(terms), Some(logged_terms)) = (&differentiated.terms, &logged.terms) else {
            return Ok(None);
        };
        let Some(optimised) = self.truth(index, None, terms)? else { return Ok(None) };
        let reported = if logged_terms == terms {
            optimised.loss
        } else {
            let Some(reported) = self.truth(index, None, logged_terms)? else { return Ok(None) };
            reported.loss
        };
        Ok(Some(HonestAnswer { differentiated, optimised, logged, reported }))
    }

    /// What these sums and their gradients are on a probe; `None` where nobody can tell.
    fn truth(
        &mut self,
        index: usize,
        kernel: Option<LossKernel>,
        terms: &[Term],
    ) -> Result<Option<Rc<LossAndGradient>>, SubjectError> {
        if let Some(honest) = self.honest[index].as_ref().filter(|_| kernel.is_none())
            && are_same(honest.differentiated.terms.as_deref(), Some(terms))
        {
            return Ok(Some(Rc::clone(&honest.optimised)));
        }
        let state = self.seen.results[index].probe.state;
        if let Some(known) = self.parameters.known_logits(state) {
            return Ok(in_closed_form(known, kernel, terms).map(Rc::new));
        }
        self.reference.as_mut().map_or(Ok(None), |reference| reference.truth(index, kernel, terms))
    }

    /// The same of a probe as a model weighs it.
    pub(super) fn forecast(
        &mut self,
        index: usize,
        kernel: Option<LossKernel>,
        weighed: &Rc<Weighed>,
    ) -> Result<Forecast<Rc<LossAndGradient>>, SubjectError> {
        if let Some((known, forecast)) = self.last[index].as_ref().filter(|_| kernel.is_none())
            && Rc::ptr_eq(known, weighed)
        {
            return Ok(forecast.clone());
        }
        let Some(terms) = &weighed.terms else { return Ok(Forecast::NoNumber) };
        let truth = self.truth(index, kernel, terms)?.map_or(Forecast::Unsaid, Forecast::Value);
        if kernel.is_none() {
            self.last[index] = Some((Rc::clone(weighed), truth.clone()));
        }
        Ok(truth)
    }

    /// The loss that is reported of a probe, if it is these sums, beside what is differentiated and the loss of that.
    pub(super) fn reported(
        &mut self,
        index: usize,
        kernel: Option<LossKernel>,
        logged: Option<&[Term]>,
        (differentiated, optimised): (Option<&[Term]>, Forecast<f64>),
    ) -> Result<Forecast<f64>, SubjectError> {
        if let Some(honest) = self.honest[index].as_ref().filter(|_| kernel.is_none())
            && are_same(honest.logged.terms.as_deref(), logged)
        {
            return Ok(Forecast::Value(honest.reported));
        }
        if are_same(logged, differentiated) {
            return Ok(optimised);
        }
        let Some(terms) = logged else { return Ok(Forecast::NoNumber) };
        let truth = self.truth(index, kernel, terms)?;
        Ok(truth.map_or(Forecast::Unsaid, |reported| Forecast::Value(reported.loss)))
    }
}

/// Whether sums are the same. Most are those of an honest trainer, made once, which is seen without a look at them.
fn are_same(one: Option<&[Term]>, other: Option<&[Term]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => ptr::eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}
