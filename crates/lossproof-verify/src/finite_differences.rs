//! Finite differences of a subject's evaluated token losses, one derivative per token.
//!
//! A direction through all parameters at once costs what a direction through one of them does, and what the
//! inner products of the other gradients leave of its derivative is what each has to account for. Where that
//! disagrees, or does not resolve a parameter, parameters are differentiated one by one, so that the one that
//! is wrong is named.

use super::{
    VerifyError,
    answers::Answers,
    capability::{evaluator, loader},
    derivative::{Derivative, Direction, Part, norm},
    semantics::Semantics,
    slopes::{Judgement, Slopes},
};
use lossproof_laws::blocks::elements;
use lossproof_numerics::{Block, FIRST_STEP, HALVINGS, Rademacher, rademacher, sweep};
use lossproof_spec::GlobalBatch;
use lossproof_subject::{Subject, Tensor, TensorSet};
use std::collections::BTreeMap;

/// First step of a sweep through all parameters at once. Some two dozen tensors that move independently move the losses
/// about five times as far as one does.
const FIRST_STEP_TOGETHER: f64 = FIRST_STEP / 4.0;

/// The most that a parameter moves further than others. What it computes changes by 6 % then, at the first step.
const LARGEST_AMPLIFICATION: f64 = 64.0;

/// Which directions finite differences are taken along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Every coordinate of every parameter. For models with a few thousand parameters.
    EveryCoordinate,
    /// This many random ones, but at least one, and the direction of the gradient: through all parameters at once,
    /// and per parameter where that does not decide.
    Random(usize),
}

/// What is differentiated at which parameters, and the gradients that the derivatives are held to.
pub(crate) struct Differentiated<'a> {
    pub(crate) batch: &'a GlobalBatch,
    pub(crate) parameters: &'a TensorSet,
    pub(crate) semantics: &'a [Semantics],
    pub(crate) answers: &'a Answers,
    pub(crate) directions: Directions,
    pub(crate) seed: u64,
}

impl Differentiated<'_> {
    /// Differentiates the subject's token losses. The parameters are in force again afterwards. `progress` is
    /// told how much is done, and of how much.
    pub(crate) fn derivatives(
        &self,
        subject: &mut dyn Subject,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Derivative>, VerifyError> {
        let mut derivatives = match self.directions {
            Directions::EveryCoordinate => Vec::new(),
            Directions::Random(count) => self.together(subject, count.max(1), &mut progress)?,
        };
        let undecided = self.undecided(&mut derivatives);
        for (done, &(stream, name, tensor)) in undecided.iter().enumerate() {
            let values = tensor.to_f64();
            for direction in self.within(stream, name, &values) {
                let parameter = Block::whole(name, values.len());
                derivatives.push(self.along(vec![Part { parameter, direction }], FIRST_STEP, subject)?);
            }
            progress(done + 1, undecided.len());
        }
        Ok(derivatives)
    }

    /// Along directions through all parameters at once.
    fn together(
        &self,
        subject: &mut dyn Subject,
        random: usize,
        progress: &mut impl FnMut(usize, usize),
    ) -> Result<Vec<Derivative>, VerifyError> {
        let mut directions: Vec<Vec<Part>> = Vec::new();
        directions.resize_with(random + 1, Vec::new);
        let mut effects = Vec::new();
        for (stream, (name, tensor)) in (0..).zip(self.parameters) {
            let values = tensor.to_f64();
            let parameter = Block::whole(name, values.len());
            // The signs of two such parameters are alike in every second direction, and errors of both cancel in it.
            if values.len() < 2 {
                continue;
            }
            let gradient = norm((0..values.len()).map(elements(self.answers.gradient(0), name)));
            effects.push(gradient * Rademacher::new(self.seed, stream, &values).scale());
            for (parts, direction) in directions.iter_mut().zip(self.within(stream, name, &values)) {
                parts.push(Part { parameter: parameter.clone(), direction });
            }
        }
        let amplifications = amplifications(&effects);
        for parts in &mut directions {
            for (part, amplification) in parts.iter_mut().zip(&amplifications) {
                part.direction.amplify(*amplification);
            }
        }
        let mut derivatives = Vec::new();
        for parts in directions {
            derivatives.push(self.along(parts, FIRST_STEP_TOGETHER, subject)?);
            progress(derivatives.len(), random + 1);
        }
        Ok(derivatives)
    }

    /// The parameters that the derivatives through several do not decide. Where these contradict any gradient, that is
    /// all parameters, and nothing is left of them: each says for itself then whether it is wrong.
    fn undecided(&self, derivatives: &mut Vec<Derivative>) -> Vec<(u64, &str, &Tensor)> {
        let mut judged: BTreeMap<String, Judgement> = BTreeMap::new();
        for (number, meaning) in self.semantics.iter().enumerate() {
            let gradient = self.answers.gradient(number);
            for slopes in Slopes::of(derivatives, meaning, gradient) {
                let name = &slopes.parameter.parameter;
                let own = slopes.judge(elements(gradient, name), self.answers.noise);
                judged.entry(name.clone()).and_modify(|worst| *worst = own.min(*worst)).or_insert(own);
            }
        }
        if judged.values().any(|judgement| *judgement == Judgement::Contradicted) {
            derivatives.clear();
            judged.clear();
        }
        let all = (0..).zip(self.parameters).map(|(stream, (name, tensor))| (stream, name.as_str(), tensor));
        all.filter(|(_, name, _)| judged.get(*name) != Some(&Judgement::Holds)).collect()
    }

    /// The directions within one parameter.
    fn within(&self, stream: u64, name: &str, values: &[f64]) -> Vec<Direction> {
        let random = |k: u64| rademacher(self.seed.wrapping_add(k), stream, values);
        match self.directions {
            Directions::EveryCoordinate => {
                let scale = random(0).first().map_or(1.0, |v| v.abs());
                (0..values.len()).map(|index| Direction::Coordinate { index, scale }).collect()
            }
            Directions::Random(count) => {
                let signs = (0..count.max(1) as u64).map(|k| Direction::Dense(random(k)));
                let gradient = self.answers.gradient(0).get(name);
                signs.chain(gradient.map(|gradient| gradient_direction(gradient, &random(0)))).collect()
            }
        }
    }

    /// The derivative along one direction. The parameters are in force again afterwards.
    fn along(
        &self,
        parts: Vec<Part>,
        first_step: f64,
        subject: &mut dyn Subject,
    ) -> Result<Derivative, VerifyError> {
        let mut values = Vec::new();
        for Part { parameter, .. } in &parts {
            values.push(self.parameters[&parameter.parameter].to_f64());
        }
        let sweep = sweep(first_step, HALVINGS, |step| -> Result<Vec<f64>, VerifyError> {
            for (Part { parameter, direction }, values) in parts.iter().zip(&values) {
                loader(subject)?.set(&parameter.parameter, &direction.displaced(values, step))?;
            }
            Ok(evaluator(subject)?.evaluate(self.batch)?)
        })?;
        for (Part { parameter, .. }, values) in parts.iter().zip(&values) {
            loader(subject)?.set(&parameter.parameter, values)?;
        }
        Ok(Derivative { parts, sweep })
    }
}

/// By how much further each parameter moves in a direction through all of them, from how far each moves the loss by
/// itself: one with a small effect would drown in the rounding of the losses. Never further than makes its
/// effect the middle one's, so that it adds no more curvature than others.
fn amplifications(effects: &[f64]) -> Vec<f64> {
    let mut sorted = effects.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let amplification = |effect: &f64| match middle / effect {
        ratio if ratio.is_nan() => 1.0,
        ratio => ratio.clamp(1.0, LARGEST_AMPLIFICATION),
    };
    effects.iter().map(amplification).collect()
}

/// The gradient, scaled to the root-mean-square element of `like`: all its elements move together, so the
/// loss changes far more per step than along random signs, and a step of the same size per element would
/// leave the linear range.
fn gradient_direction(gradient: &Tensor, like: &[f64]) -> Direction {
    let own = norm((0..gradient.elements()).map(|i| gradient.get(i)));
    let rms = norm(like.iter().copied()) / (like.len() as f64).sqrt();
    let factor = if own > 0.0 { rms / own } else { 0.0 };
    Direction::Dense((0..gradient.elements()).map(|i| factor * gradient.get(i)).collect())
}
