//! Clause 6.13: along a trainer's own first step its reported loss changes by the integral of its gradient.
//!
//! The first step of every rule is proportional to the learning rate. So steps at rates from 0 to η, each taken
//! from the same start, lead to places of one straight line, and loss and gradient can be asked for at each of
//! them. No parameter has to be loaded for that: `reset` leads back. Without decay the line follows the gradient,
//! and an element that is missing from the gradient does not move; with decay everything moves that is not zero.

use crate::{
    clauses::{derivative::SLOPES, step::norm_of},
    trial::{CaseOutcome, Computed, Ended, Trial, replace, values},
};
use lossproof_numerics::{Integral, Slope, integrate, norm};
use lossproof_spec::{
    Adam, CompensatedSum, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule,
};
use lossproof_subject::{Tensor, TensorSet};
use std::f64::consts::SQRT_2;

/// What a step may take off the loss, to first order, as a share of it, in turn: smaller ones where the curvature on
/// the way demands them. In f64 a short way is long enough, and the rule for the
/// integral is then good to the last digits on five nodes; a longer one is for losses that have fewer digits.
const SHARES_F64: [f64; 3] = [1.0 / 512.0, 1.0 / 4096.0, 1.0 / 64.0];
const SHARES_F32: [f64; 3] = [0.25, 0.125, 0.0625];

/// A step is no longer than this share of all parameters together, or of 1 where they are smaller.
const LONGEST: f64 = 0.125;

/// The largest bound that decides anything in f32. In f64 it is that of slopes.
const DECISIVE_F32: f64 = 1e-3;

/// A first step, which is proportional to the learning rate.
#[derive(Clone, Copy)]
struct FirstStep {
    rule: Rule,
    decays: bool,
    /// About how far it leads at a learning rate of 1.
    length: f64,
}

impl FirstStep {
    /// What is certified.
    const fn unit(self) -> &'static str {
        if self.decays { "loss along its steps with decay" } else { "loss along its steps" }
    }
}

/// The loss changes by the integral of the gradient along the trainer's own first step, without decay and
/// with it.
pub(crate) fn step_slope(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let (shares, decisive) = match trial.facts.coarsest() {
        Dtype::F64 => (SHARES_F64, Slope::bound()),
        Dtype::F32 => (SHARES_F32, DECISIVE_F32),
        _ => return Err(Ended::Unsupported("single or double precision".to_owned())),
    };
    let computed = trial.gradient(&spec, &batch)?;
    let gradient = norm_of(&computed.gradient);
    let parameters = trial.read()?;
    let steps = trial.first_steps(gradient, &parameters)?;
    let whole = trial.facts.info.log_policy.logged(&batch, &spec) == [batch.clone()];
    let is_its_turn = trial.facts.turn.among(SLOPES).is_some();
    if gradient <= 0.0 || !gradient.is_finite() || !whole || !is_its_turn {
        return Ok(false);
    }
    let longest = LONGEST * norm_of(&parameters).max(1.0);
    let mut told = false;
    for step in steps {
        for share in shares {
            let length = (share * computed.loss_scale() / gradient).min(longest);
            let optimizer = Optimizer { rule: step.rule, ..Optimizer::sgd(length / step.length) };
            let line = Line { spec: &spec, batch: &batch, optimizer };
            if trial.integral_of_the_gradient(step, &line, decisive)? {
                told = true;
                break;
            }
        }
    }
    Ok(told)
}

/// The line that first steps at different rates lead along.
struct Line<'a> {
    spec: &'a LossSpec,
    batch: &'a GlobalBatch,
    /// With the rate that leads to its end.
    optimizer: Optimizer,
}

/// What is found along a line.
#[derive(Default)]
struct Way {
    /// By how much every parameter has moved at the end.
    moved: TensorSet,
    /// The losses at its ends.
    end: f64,
    start: f64,
    /// What an error of a loss is relative to.
    loss_scale: f64,
    /// `Σ ‖g‖·‖d‖` over the parameters, the largest of any place: what an error of a slope is relative to.
    slope_scale: f64,
    /// The slope along a random direction as long as this one.
    typical: f64,
}

impl Trial<'_> {
    /// The first steps that are tried: by SGD where the trainer has it and otherwise by Adam, which divides
    /// what repeats to the bit by its own size. Decay and the rest of a step are about equally long.
    fn first_steps(&mut self, gradient: f64, parameters: &TensorSet) -> Result<Vec<FirstStep>, Ended> {
        let elements = parameters.values().map(Tensor::elements).sum::<usize>() as f64;
        let size = norm_of(parameters);
        let sgd = |weight_decay| Rule::Sgd { momentum: 0.0, weight_decay };
        let numbers = |weight_decay| Adam {
            beta_1: 0.5,
            beta_2: 0.75,
            epsilon: 1e-8,
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay,
            decayed: Decayed::All,
        };
        let matrices = |weight_decay| Adam { decayed: Decayed::Matrices, ..numbers(weight_decay) };
        let families: [(&dyn Fn(f64) -> Rule, f64); 4] = [
            (&sgd, gradient),
            (&|decay| Rule::AdamW(numbers(decay)), elements.sqrt()),
            (&|decay| Rule::AdamW(matrices(decay)), elements.sqrt()),
            (&|decay| Rule::Adam(numbers(decay)), elements.sqrt()),
        ];
        let usable = if self.facts.noise > 0.0 { 1 } else { families.len() };
        let mut steps = Vec::new();
        for (rule, length) in &families[..usable] {
            let plain = FirstStep { rule: rule(0.0), decays: false, length: *length };
            let decay = (length / size).log2().floor().exp2();
            let decaying = FirstStep { rule: rule(decay), decays: true, length: 2.0 * length };
            for step in [plain, decaying] {
                if (!step.decays || decay.is_normal()) && self.offers(step.rule)? {
                    steps.push(step);
                }
            }
            if !steps.is_empty() {
                return Ok(steps);
            }
        }
        Err(Ended::Unsupported("an update rule whose first step is proportional to its rate".to_owned()))
    }

    /// Holds the change of the loss along a line to the integral of the gradient. `false` where both are not
    /// known well enough to decide anything.
    fn integral_of_the_gradient(
        &mut self,
        step: FirstStep,
        line: &Line<'_>,
        decisive: f64,
    ) -> Result<bool, Ended> {
        let mut way = Way::default();
        let place = |way: &mut Way, place| self.along(line, f64::midpoint(place, 1.0), way);
        // Far below what would leave anything undecided. Whether the two sides agree must not decide what is asked: the
        // control has the answers to what was asked.
        let enough =
            |way: &Way, found: &Integral| found.uncertainty / 2.0 <= decisive * way.scale(found) / 64.0;
        let integral = integrate(&mut way, place, enough);
        self.return_to_the_trial()?;
        let integral = integral?;
        let (change, due) = way.changes(&integral);
        let scale = way.scale(&integral);
        let of_losses = SQRT_2 * self.loss_bound(line.batch) * way.loss_scale;
        let of_slopes = self.whole_gradient_bound(line.batch) * way.slope_scale;
        let of_the_rule = integral.uncertainty / 2.0;
        let bound = (of_losses + of_slopes + of_the_rule) / scale;
        // What the rule says of its own error is worth little where the gradient turns on the way.
        let turns = of_the_rule > decisive * scale / 16.0;
        if bound.is_nan() || bound > decisive || turns {
            return Ok(false);
        }
        let along = if step.decays { "first step with decay" } else { "first step" };
        let what = format!("change of the reported loss along its own {along}");
        self.number(&what, step.unit(), bound, (due, change), scale);
        Ok(true)
    }

    /// The slope at a place of the line, from 0, where nothing has moved, to 1, by the gradient there. The
    /// end comes first: it says what moves.
    fn along(&mut self, line: &Line<'_>, place: f64, way: &mut Way) -> Result<f64, Ended> {
        self.return_to_the_trial()?;
        if place > 0.0 {
            let learning_rate = place * line.optimizer.learning_rate;
            self.start(&Optimizer { learning_rate, ..line.optimizer }, line.spec)?;
            let before = if place >= 1.0 { self.read()? } else { TensorSet::new() };
            let taken = self.step(line.spec, line.batch, before)?;
            if place >= 1.0 {
                way.moved = difference(&taken.before, &taken.after)?;
            }
        }
        let computed = self.gradient(line.spec, line.batch)?;
        way.loss_scale = way.loss_scale.max(computed.loss_scale());
        if place >= 1.0 {
            way.end = computed.loss();
        } else if place <= 0.0 {
            way.start = computed.loss();
        }
        way.slope(&computed)
    }
}

impl Way {
    /// The change of the loss, and the integral of the gradient: the rule is for an interval twice as long.
    fn changes(&self, integral: &Integral) -> (f64, f64) {
        (self.end - self.start, integral.value / 2.0)
    }

    /// What an error of them is relative to.
    fn scale(&self, integral: &Integral) -> f64 {
        let (change, due) = self.changes(integral);
        due.abs().max(change.abs()).max(self.typical)
    }

    /// The inner product of a gradient and the whole way.
    fn slope(&mut self, computed: &Computed) -> Result<f64, Ended> {
        let mut slope = CompensatedSum::default();
        let (mut scale, mut elements) = (0.0, 0);
        for (name, moved) in &self.moved {
            let (gradient, moved) = (values(&computed.gradient, name)?, moved.to_f64());
            scale += norm(&gradient) * norm(&moved);
            elements += moved.len();
            slope.extend(gradient.iter().zip(&moved).map(|(g, d)| g * d));
        }
        let typical = norm_of(&computed.gradient) * norm_of(&self.moved) / (elements.max(1) as f64).sqrt();
        self.slope_scale = self.slope_scale.max(scale);
        self.typical = self.typical.max(typical);
        Ok(slope.value())
    }
}

/// By how much parameters have moved.
fn difference(before: &TensorSet, after: &TensorSet) -> Result<TensorSet, Ended> {
    let mut moved = after.clone();
    for name in after.keys() {
        let (from, to) = (values(before, name)?, values(after, name)?);
        let apart = to.iter().zip(&from).map(|(to, from)| to - from).collect();
        replace(&mut moved, name, apart)?;
    }
    Ok(moved)
}
