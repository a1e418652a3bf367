//! Relations between calls that hold whatever the parameters of a trainer are, and whatever its architecture.
//!
//! The same few sequences are given in many batches. Under a hypothesis every answer is `Σ_t w_t·ℓ_t` with weights
//! `w` that it knows and token losses `ℓ` that nobody knows, but that are the same in all calls; and so for the
//! gradient, element by element. That makes more equations than there are unknowns, and a hypothesis whose equations
//! have no solution cannot have made the answers. Neither a reference nor known logits are needed, nor that parameters
//! can be loaded.

mod calls;
mod fit;
mod system;
mod words;

pub(crate) use words::statements;

use crate::{
    measuring::accumulate,
    named_values::global_norm,
    probes::Probe,
    score::{Grade, Score},
    trainer_model::{BackwardEffect, TokenGradients, TrainerModel},
};
use fit::{AnswerFit, Answers, Fit};
use lossproof_numerics::Rademacher;
use lossproof_spec::{Dtype, LossSpec, Role};
use lossproof_subject::{Claims, Limits, LogPolicy, ParameterInfo, Subject, SubjectError};
use system::{Quantity, System};

/// Projections that are kept of the gradient of a parameter, each along random signs.
const PROJECTIONS: usize = 4;

/// Fixes the signs.
const SEED: u64 = 17;

/// Semantics that are looked at of one subject, at most.
const SEMANTICS: usize = 3;

/// What came of a call.
pub(crate) struct RelatedAnswer {
    pub(crate) probe: Probe,
    pub(crate) loss: f64,
    /// Norm of the whole gradient.
    norm: f64,
    /// Projections of the gradient of each parameter, one parameter after another.
    projections: Vec<f64>,
}

/// The answers of a subject to calls that are related.
#[derive(Default)]
pub(crate) struct Relations {
    pub(crate) answers: Vec<RelatedAnswer>,
    roles: Vec<Role>,
}

/// Who is held to the relations: the limits and precision of the subject, and the loss that it logs.
#[derive(Clone, Copy)]
pub(crate) struct RelationTerms<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) log_policy: LogPolicy,
    pub(crate) dtype: Dtype,
}

/// Fits that were asked for before, since most hypotheses say the same of most calls: with the system, the gradients
/// that were fitted (losses where there are none).
#[derive(Default)]
pub(crate) struct KnownFits(Vec<(System, Vec<bool>, Fit)>);

impl Relations {
    /// Asks a subject; `claims` says which semantics it has.
    ///
    /// # Errors
    /// When the subject fails, with the name of what it was asked. What it had answered until then is kept.
    pub(crate) fn ask(
        &mut self,
        subject: &mut dyn Subject,
        (claims, limits): (&Claims, &Limits),
        parameters: &[ParameterInfo],
    ) -> Result<(), (&'static str, SubjectError)> {
        self.roles = parameters.iter().map(|parameter| parameter.role).collect();
        let specs: Vec<LossSpec> = match claims {
            Claims::Any => vec![claims.first()],
            listed => listed.listed().iter().take(SEMANTICS).copied().collect(),
        };
        for probe in calls::calls(limits, &specs) {
            if subject.configure(&probe.spec).is_err() {
                continue;
            }
            let name = probe.name;
            self.answers.push(answer(subject, probe, parameters).map_err(|error| (name, error))?);
        }
        Ok(())
    }

    fn probes(&self) -> Vec<&Probe> {
        self.answers.iter().map(|answer| &answer.probe).collect()
    }

    /// Holds the answers to what a model makes of them.
    pub(crate) fn score(
        &self,
        model: &TrainerModel,
        terms: RelationTerms<'_>,
        known: &mut KnownFits,
        score: &mut Score,
    ) {
        if self.answers.is_empty() {
            return;
        }
        self.hold(Quantity::Loss, model, &[], terms, known, score);
        let all = vec![true; self.roles.len()];
        match model.backward {
            BackwardEffect::Weighed(picks, weighing) => {
                let picked: Vec<bool> = self.roles.iter().map(|role| picks(*role)).collect();
                let others: Vec<bool> = picked.iter().map(|picked| !picked).collect();
                self.hold(Quantity::Gradient(model.gradient), model, &others, terms, known, score);
                self.hold(Quantity::Gradient(weighing), model, &picked, terms, known, score);
            }
            // What an operator makes of the gradient of a token loss is the same in every call.
            _ if model.token_gradients == TokenGradients::Same => {
                self.hold(Quantity::Gradient(model.gradient), model, &all, terms, known, score);
            }
            // It says nothing that these could contradict, so it explains them no better than a bug that nobody knows.
            _ => score.unforecast(self.surprises(terms).iter().filter(|(is_loss, ..)| !is_loss).count()),
        }
    }

    fn system(&self, quantity: Quantity, model: &TrainerModel, terms: RelationTerms<'_>) -> System {
        System::new(model, quantity, &self.probes(), (terms.limits, terms.log_policy))
    }

    /// Holds the losses, or the gradients of some parameters, to a system of a model.
    fn hold(
        &self,
        quantity: Quantity,
        model: &TrainerModel,
        gradients: &[bool],
        terms: RelationTerms<'_>,
        known: &mut KnownFits,
        score: &mut Score,
    ) {
        let system = self.system(quantity, model, terms);
        let fitted = self.fit(&system, gradients, terms.dtype, known);
        for (answer, fit) in self.answers.iter().zip(&fitted.answers) {
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
            Quantity::Loss => Quantity::Loss,
            Quantity::Gradient(_) => Quantity::Gradient(TrainerModel::HONEST.gradient),
        };
        let honest = self.system(honest, &TrainerModel::HONEST, terms);
        let open = self.fit(&honest, gradients, terms.dtype, known).dimension;
        score.leave_open(fitted.dimension.saturating_sub(open));
    }

    fn fit(&self, system: &System, gradients: &[bool], dtype: Dtype, known: &mut KnownFits) -> Fit {
        let found = known.0.iter().find(|(other, of, _)| of == gradients && other == system);
        if let Some((.., fit)) = found {
            return fit.clone();
        }
        let fit = self.answers_of(gradients, dtype).fit(system);
        known.0.push((system.clone(), gradients.to_vec(), fit.clone()));
        fit
    }
}

impl Relations {
    /// The losses, or the gradients of some parameters.
    fn answers_of(&self, gradients: &[bool], dtype: Dtype) -> Answers {
        let (mut values, mut sizes) = (Vec::new(), Vec::new());
        for answer in &self.answers {
            if gradients.is_empty() {
                values.push(vec![answer.loss]);
                sizes.push(answer.loss.abs());
            } else {
                values.push(answer.of_gradients(gradients));
                sizes.push(answer.norm);
            }
        }
        Answers { values, sizes, dtype, losses: gradients.is_empty() }
    }

    /// What does not follow from the answers before it, if the subject is an honest trainer: whether it is the
    /// loss, the call, and how far it is off.
    pub(crate) fn surprises(&self, terms: RelationTerms<'_>) -> Vec<(bool, &Probe, f64)> {
        let honest = TrainerModel::HONEST;
        let all = vec![true; self.roles.len()];
        let kinds = [(Quantity::Loss, Vec::new()), (Quantity::Gradient(honest.gradient), all)];
        let mut surprises = Vec::new();
        for (quantity, gradients) in kinds {
            let system = self.system(quantity, &honest, terms);
            for (call, apart) in self.answers_of(&gradients, terms.dtype).surprises(&system) {
                surprises.push((gradients.is_empty(), &self.answers[call].probe, apart));
            }
        }
        surprises
    }
}

impl RelatedAnswer {
    /// The projections of the gradients of some parameters.
    fn of_gradients(&self, picked: &[bool]) -> Vec<f64> {
        let of_parameter = self.projections.chunks(PROJECTIONS).zip(picked);
        of_parameter.filter(|(_, picked)| **picked).flat_map(|(values, _)| values).copied().collect()
    }
}

/// Has a subject make the calls of a probe from fresh, at its own parameters.
fn answer(
    subject: &mut dyn Subject,
    probe: Probe,
    parameters: &[ParameterInfo],
) -> Result<RelatedAnswer, SubjectError> {
    subject.reset()?;
    for batch in &probe.before {
        accumulate(subject, batch)?;
    }
    let (loss, gradient) = accumulate(subject, &probe.batch)?;
    let mut projections = Vec::new();
    for (stream, parameter) in (0..).zip(parameters) {
        let values = gradient.get(&parameter.name).map_or(&[][..], Vec::as_slice);
        for projection in 0..PROJECTIONS as u64 {
            // Of a tensor of ones each element of the direction is plus or minus one.
            let signs = Rademacher::new(SEED + projection, stream, &[1.0]);
            projections.push(signs.dot(values));
        }
    }
    Ok(RelatedAnswer { probe, loss, norm: global_norm(&gradient), projections })
}
