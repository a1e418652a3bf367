//! Scores hypotheses by the relations: what their models make of related calls, held to the answers.

use super::{
    Relations,
    fit::{AnswerFit, Fit},
    system::{Quantity, System},
};
use crate::{
    probes::Probe,
    score::{Grade, Score},
    trainer_model::{BackwardEffect, TokenGradients, TrainerModel},
};
use lossproof_spec::Dtype;
use lossproof_subject::{Limits, LogPolicy};

/// Who is held to the relations: the limits and precision of the subject, and the loss that it logs.
#[derive(Clone, Copy)]
pub(crate) struct RelationTerms<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) log_policy: LogPolicy,
    pub(crate) dtype: Dtype,
}

/// An answer that does not follow from those to the calls before it, if the subject is an honest trainer.
pub(crate) struct Surprise<'a> {
    /// Whether it is the loss, and not the gradient.
    pub(crate) is_loss: bool,
    pub(crate) probe: &'a Probe,
    /// How far it is off, relative to its size.
    pub(crate) apart: f64,
}

/// The answers of a subject, and what an honest trainer makes of them.
pub(crate) struct RelationScorer<'a> {
    relations: &'a Relations,
    terms: RelationTerms<'a>,
    honest_loss: System,
    honest_gradient: System,
    surprises: Vec<Surprise<'a>>,
    fits: Fits<'a>,
}

/// The fits of systems, each made once, since most hypotheses say the same of most calls.
struct Fits<'a> {
    relations: &'a Relations,
    dtype: Dtype,
    /// With the system, and the parameters whose gradients were fitted (the losses where there are none).
    known: Vec<(System, Vec<bool>, Fit)>,
}

impl<'a> RelationScorer<'a> {
    /// Holds the answers to an honest trainer.
    pub(crate) fn new(relations: &'a Relations, terms: RelationTerms<'a>) -> Self {
        let honest = TrainerModel::HONEST;
        let honest_loss = system(relations, terms, Quantity::Loss, &honest);
        let honest_gradient = system(relations, terms, Quantity::Gradient(honest.gradient), &honest);
        let mut surprises = Vec::new();
        for (is_loss, system, gradients) in
            [(true, &honest_loss, vec![]), (false, &honest_gradient, vec![true; relations.roles.len()])]
        {
            for (call, apart) in relations.answers_of(&gradients, terms.dtype).surprises(system) {
                surprises.push(Surprise { is_loss, probe: &relations.answers[call].probe, apart });
            }
        }
        let fits = Fits { relations, dtype: terms.dtype, known: Vec::new() };
        Self { relations, terms, honest_loss, honest_gradient, surprises, fits }
    }

    /// The answers that do not follow from those before them: losses, then gradients.
    pub(crate) fn surprises(&self) -> &[Surprise<'a>] {
        &self.surprises
    }

    /// Holds the answers to what a model makes of them.
    pub(crate) fn score(&mut self, model: &TrainerModel, score: &mut Score) {
        let roles = &self.relations.roles;
        if self.relations.answers.is_empty() {
            return;
        }
        let all = vec![true; roles.len()];
        self.hold(Quantity::Loss, model, &[], score);
        match model.backward {
            BackwardEffect::Weighed(picks, weighing) => {
                let picked: Vec<bool> = roles.iter().map(|role| picks(*role)).collect();
                let others: Vec<bool> = picked.iter().map(|picked| !picked).collect();
                self.hold(Quantity::Gradient(model.gradient), model, &others, score);
                self.hold(Quantity::Gradient(weighing), model, &picked, score);
            }
            // What an operator makes of the gradient of a token loss is the same in every call.
            _ if matches!(model.token_gradients, TokenGradients::Same | TokenGradients::Kept) => {
                self.hold(Quantity::Gradient(model.gradient), model, &all, score);
            }
            // It says nothing that these could contradict, so it explains them no better than a bug that nobody knows.
            _ => score.unforecast(self.surprises.iter().filter(|surprise| !surprise.is_loss).count()),
        }
    }

    /// Holds the losses, or the gradients of some parameters, to a system of a model.
    fn hold(&mut self, quantity: Quantity, model: &TrainerModel, gradients: &[bool], score: &mut Score) {
        let fitted = self.fits.of(&system(self.relations, self.terms, quantity, model), gradients);
        for (answer, fit) in self.relations.answers.iter().zip(&fitted.answers) {
            let grade = match fit {
                AnswerFit::Free => continue,
                AnswerFit::Holds => Grade::Exact,
                AnswerFit::Broken(_) => Grade::Impossible,
            };
            let of = if gradients.is_empty() { "the loss" } else { "the gradient" };
            score.add(grade, || format!("{of} of {} under {}", answer.probe.name, answer.probe.spec));
        }
        // A hypothesis that leaves more open than an honest trainer does can be contradicted by less.
        let honest = match quantity {
            Quantity::Loss => &self.honest_loss,
            Quantity::Gradient(_) => &self.honest_gradient,
        };
        score.leave_open(fitted.dimension.saturating_sub(self.fits.of(honest, gradients).dimension));
    }
}

impl Fits<'_> {
    fn of(&mut self, system: &System, gradients: &[bool]) -> Fit {
        let found = self.known.iter().find(|(other, of, _)| of == gradients && other == system);
        if let Some((.., fit)) = found {
            return fit.clone();
        }
        let fit = self.relations.answers_of(gradients, self.dtype).fit(system);
        self.known.push((system.clone(), gradients.to_vec(), fit.clone()));
        fit
    }
}

/// The equations that a model makes of the answers.
fn system(
    relations: &Relations,
    terms: RelationTerms<'_>,
    quantity: Quantity,
    model: &TrainerModel,
) -> System {
    let probes: Vec<&Probe> = relations.answers.iter().map(|answer| &answer.probe).collect();
    System::new(model, quantity, &probes, (terms.limits, terms.log_policy))
}
