//! Relations between calls that hold whatever the parameters of a trainer are, and whatever its architecture.
//!
//! The same few sequences are given in many batches. Under a hypothesis every answer is `Σ_t w_t·ℓ_t` with weights
//! `w` that it knows and token losses `ℓ` that nobody knows, but that are the same in all calls; and so for the
//! gradient, element by element. That makes more equations than there are unknowns, and a hypothesis whose equations
//! have no solution cannot have made the answers. Neither a reference nor known logits are needed, nor that parameters
//! can be loaded.

mod calls;
mod fit;
mod scorer;
mod system;
mod words;

pub(crate) use scorer::{RelationScorer, RelationTerms};
pub(crate) use words::statements;

use crate::{measuring::accumulate, named_values::global_norm, probes::Probe};
use fit::Answers;
use lossproof_numerics::Rademacher;
use lossproof_spec::{Dtype, LossSpec, Role};
use lossproof_subject::{Claims, Limits, ParameterInfo, Subject, SubjectError};

/// Projections that are kept of the gradient of a parameter, each along random signs.
const PROJECTIONS: usize = 4;

/// Fixes the signs.
const SEED: u64 = 17;

/// Semantics that are looked at of one subject, at most.
const SEMANTICS: usize = 3;

/// What came of a call.
pub(crate) struct RelatedAnswer {
    pub(crate) probe: Probe,
    loss: f64,
    /// Norm of the whole gradient.
    norm: f64,
    /// Projections of the gradient of each parameter, one parameter after another.
    projections: Vec<f64>,
}

/// The answers of a subject to calls that are related.
#[derive(Default)]
pub(crate) struct Relations {
    pub(crate) answers: Vec<RelatedAnswer>,
    /// Names and roles of the parameters.
    names: Vec<String>,
    roles: Vec<Role>,
}

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
        self.names = parameters.iter().map(|parameter| parameter.name.clone()).collect();
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

    /// What was asked.
    pub(crate) fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.answers.iter().map(|answer| &answer.probe)
    }

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
