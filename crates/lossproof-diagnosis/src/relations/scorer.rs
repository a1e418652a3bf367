//! Scores hypotheses by the relations: what their models make of related calls, held to the answers.

use super::{
    PROJECTIONS, Relations,
    fit::{AnswerFit, Fit},
    system::{Quantity, System},
};
use crate::{
    call::Semantics,
    probes::Probe,
    reported_loss::Summed,
    score::{Grade, Score},
    trainer_model::{BackwardEffect, DataPath, SightOf, TokenGradients, TrainerModel},
    weighed::WeighedCall,
};
use lossproof_spec::Dtype;
use lossproof_subject::Limits;
use std::{ptr::fn_addr_eq, rc::Rc};

/// Who is held to the relations: the limits and precision of the subject, and the loss that it logs.
#[derive(Clone, Copy)]
pub(crate) struct RelationTerms<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) semantics: Semantics,
    pub(crate) dtype: Dtype,
}

/// An answer that does not follow from those to the calls before it, if the subject is an honest trainer.
pub(crate) struct Surprise<'a> {
    /// Whether it is the loss, and not the gradient.
    pub(crate) is_loss: bool,
    call: usize,
    pub(crate) probe: &'a Probe,
    /// How far it is off, relative to its size.
    pub(crate) apart: f64,
}

/// The answers of a subject, and what an honest trainer makes of them.
pub(crate) struct RelationScorer<'a> {
    relations: &'a Relations,
    systems: Systems<'a>,
    honest_loss: Rc<System>,
    honest_gradient: Rc<System>,
    surprises: Vec<Surprise<'a>>,
    fits: Fits<'a>,
}

/// The systems that models make of the answers, each made once.
struct Systems<'a> {
    relations: &'a Relations,
    terms: RelationTerms<'a>,
    /// By call.
    weighed: Vec<WeighedCall>,
    known: Vec<(DataPath, SightOf, Summed, Rc<System>)>,
}

/// The fits of systems, each made once, since most hypotheses say the same of most calls.
struct Fits<'a> {
    relations: &'a Relations,
    dtype: Dtype,
    /// With the system, and the parameters whose gradients were fitted (the losses where there are none).
    known: Vec<(Rc<System>, Vec<bool>, Rc<Fit>)>,
}

impl<'a> RelationScorer<'a> {
    /// Holds the answers to an honest trainer.
    pub(crate) fn new(relations: &'a Relations, terms: RelationTerms<'a>) -> Self {
        let honest = TrainerModel::HONEST;
        let weighed = relations.answers.iter().map(|_| WeighedCall::default()).collect();
        let mut systems = Systems { relations, terms, weighed, known: Vec::new() };
        let honest_loss = systems.of(Quantity::Loss, &honest);
        let honest_gradient = systems.of(Quantity::Gradient(honest.gradient), &honest);
        let mut surprises = Vec::new();
        for (is_loss, system, gradients) in
            [(true, &honest_loss, vec![]), (false, &honest_gradient, vec![true; relations.roles.len()])]
        {
            for (call, apart) in relations.answers_of(&gradients, terms.dtype).surprises(system) {
                surprises.push(Surprise { is_loss, call, probe: &relations.answers[call].probe, apart });
            }
        }
        let fits = Fits { relations, dtype: terms.dtype, known: Vec::new() };
        Self { relations, systems, honest_loss, honest_gradient, surprises, fits }
    }

    /// The answers that do not follow from those before them: losses, then gradients.
    pub(crate) fn surprises(&self) -> &[Surprise<'a>] {
        &self.surprises
    }

    /// Parameters whose gradient does not follow where that of all together is a surprise, and how many there are.
    pub(crate) fn parameters_of(&self, surprise: &Surprise<'_>) -> (Vec<&'a str>, usize) {
        let names = &self.relations.names;
        let is_surprise =
            |call: &usize| self.surprises.iter().any(|other| !other.is_loss && other.call == *call);
        let mut calls: Vec<usize> = (0..surprise.call).filter(|call| !is_surprise(call)).collect();
        calls.push(surprise.call);
        let gradients = self.relations.answers_of(&vec![true; names.len()], self.fits.dtype);
        let off = gradients.coordinates_off(&self.honest_gradient, &calls);
        let of_parameters = names.iter().zip(off.chunks(PROJECTIONS));
        let off = of_parameters.filter(|(_, off)| off.contains(&true)).map(|(name, _)| name.as_str());
        (off.collect(), names.len())
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
        let system = self.systems.of(quantity, model);
        let fitted = self.fits.of(&system, gradients);
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

impl Systems<'_> {
    /// The equations that a model makes of the answers.
    fn of(&mut self, quantity: Quantity, model: &TrainerModel) -> Rc<System> {
        let summed = quantity.summed(model);
        let same = |(sees, sight, known, _): &&(DataPath, SightOf, Summed, _)| {
            fn_addr_eq(*sees, model.sees) && fn_addr_eq(*sight, model.sight) && *known == summed
        };
        if let Some((.., system)) = self.known.iter().find(same) {
            return Rc::clone(system);
        }
        let RelationTerms { limits, semantics, .. } = self.terms;
        let calls = self.relations.answers.iter().zip(&mut self.weighed);
        let weighed =
            calls.map(|(answer, call)| call.by(model, summed, &answer.probe.call(limits, &semantics)));
        let system = Rc::new(System::new(model, weighed));
        self.known.push((model.sees, model.sight, summed, Rc::clone(&system)));
        system
    }
}

impl Fits<'_> {
    fn of(&mut self, system: &Rc<System>, gradients: &[bool]) -> Rc<Fit> {
        let same = |other: &Rc<System>| Rc::ptr_eq(other, system) || other == system;
        let found = self.known.iter().find(|(other, of, _)| of == gradients && same(other));
        if let Some((.., fit)) = found {
            return Rc::clone(fit);
        }
        let fit = Rc::new(self.relations.answers_of(gradients, self.dtype).fit(system));
        self.known.push((Rc::clone(system), gradients.to_vec(), Rc::clone(&fit)));
        fit
    }
}
