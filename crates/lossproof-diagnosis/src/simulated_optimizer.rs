//! Optimizer steps as a trainer with a mistake takes them, from the gradients that it computes itself.

use crate::named_values::{NamedValues, global_norm};
use lossproof_numerics::{Updated, norm, vector};
use lossproof_spec::{Adam, Decayed, Dtype, EpsilonPlacement, Optimizer, Role, Rule};
use lossproof_subject::ParameterInfo;
use std::collections::BTreeMap;

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepMistake {
    None,
    ClippedPerMicroBatch,
    /// And their sum is not clipped.
    ClippedPerMicroBatchAlone,
    SquaredNormCompared,
    ClippedPerTensor,
    ClippedBeforeUnscale,
    NormAfterClipping,
    ScaleNotUndone,
    OverflowNotSkipped,
    OverflowAdvancesSchedule,
    SchedulePerMicroBatch,
    MomentumDampened,
    DecayGrows,
    AdamStartsAtZero,
    AdamUncorrected,
    EpsilonInsideRoot,
    DecayCoupled,
    EverythingDecays,
    NeverCleared,
    /// Gradients are added to those of every call since the start, steps or none.
    KeptBetweenCalls,
    ShortWindowDropped,
    TiedWeightTwice,
}

/// What a step was made from.
#[derive(Clone, Debug)]
pub(crate) struct StepInputs {
    /// Parameters before the step.
    pub(crate) before: NamedValues,
    /// The gradient of the whole window at them.
    pub(crate) gradient: NamedValues,
    /// What each micro-batch adds to it.
    pub(crate) contributions: Vec<NamedValues>,
    /// Micro-batches of the longest rank.
    pub(crate) micro_batches: u32,
}

/// What came of a step. `None` is what a mistake does not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepOutcome {
    /// Parameters after the step.
    pub(crate) values: Option<NamedValues>,
    pub(crate) grad_norm: Option<f64>,
    pub(crate) clip_factor: Option<f64>,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) skipped: Option<bool>,
}

/// The optimizer of a trainer that makes a mistake in its steps.
pub(crate) struct SimulatedOptimizer<'a> {
    mistake: StepMistake,
    /// With the mistake in its rule, where that is where it is.
    optimizer: Optimizer,
    /// The largest finite number of the trainer's dtype.
    largest: f64,
    parameters: &'a [ParameterInfo],
    steps: u32,
    skipped: u32,
    micro_batches: u32,
    longest: u32,
    /// Optimizer state by parameter.
    states: BTreeMap<String, Updated>,
    /// The gradient that was not cleared.
    uncleared: NamedValues,
}

fn scale(gradient: &mut NamedValues, factor: f64) {
    for values in gradient.values_mut() {
        vector::scale(values, factor);
    }
}

fn add(sum: &mut NamedValues, factor: f64, other: &NamedValues) {
    for (name, values) in other {
        let own = sum.entry(name.clone()).or_insert_with(|| vec![0.0; values.len()]);
        vector::add_scaled(own, factor, values);
    }
}

/// The rule that runs where this one is declared.
fn mistaken_rule(mistake: StepMistake, rule: Rule) -> Rule {
    let mistaken = |adam: Adam| match mistake {
        StepMistake::DecayGrows => Adam { weight_decay: -adam.weight_decay, ..adam },
        StepMistake::EverythingDecays => Adam { decayed: Decayed::All, ..adam },
        _ => adam,
    };
    match rule {
        Rule::Sgd { momentum, weight_decay } if mistake == StepMistake::DecayGrows => {
            Rule::Sgd { momentum, weight_decay: -weight_decay }
        }
        Rule::Sgd { .. } => rule,
        Rule::AdamW(adam) if mistake != StepMistake::DecayCoupled => Rule::AdamW(mistaken(adam)),
        Rule::Adam(adam) | Rule::AdamW(adam) => Rule::Adam(mistaken(adam)),
    }
}

impl<'a> SimulatedOptimizer<'a> {
    /// An optimizer that has taken no step, over parameters of a dtype.
    pub(crate) fn new(
        mistake: StepMistake,
        optimizer: &Optimizer,
        dtype: Dtype,
        parameters: &'a [ParameterInfo],
    ) -> Self {
        Self {
            mistake,
            optimizer: Optimizer { rule: mistaken_rule(mistake, optimizer.rule), ..*optimizer },
            largest: if dtype == Dtype::F64 { f64::MAX } else { f64::from(f32::MAX) },
            parameters,
            steps: 0,
            skipped: 0,
            micro_batches: 0,
            longest: 0,
            states: BTreeMap::new(),
            uncleared: NamedValues::new(),
        }
    }

    /// What comes of a step.
    pub(crate) fn step(&mut self, inputs: &StepInputs) -> StepOutcome {
        let mut gradient = self.accumulated(inputs);
        // NaN overflows too.
        let fits = |values: &[f64]| {
            vector::is_finite(values)
                && (vector::largest(values) * self.optimizer.loss_scale).abs() <= self.largest
        };
        let overflows = !gradient.values().all(|values| fits(values));
        let skipped = overflows && self.mistake != StepMistake::OverflowNotSkipped;
        let learning_rate = self.optimizer.learning_rate_at(match self.mistake {
            StepMistake::OverflowAdvancesSchedule => self.steps + self.skipped,
            StepMistake::SchedulePerMicroBatch => self.micro_batches,
            _ => self.steps,
        });
        if overflows {
            self.skipped += u32::from(skipped);
            self.steps += u32::from(!skipped);
            let values = skipped.then(|| inputs.before.clone());
            return StepOutcome {
                values,
                learning_rate: Some(learning_rate),
                skipped: Some(skipped),
                ..StepOutcome::default()
            };
        }
        let dropped = self.mistake == StepMistake::ShortWindowDropped && inputs.micro_batches < self.longest;
        self.longest = self.longest.max(inputs.micro_batches);
        if dropped {
            return StepOutcome { values: Some(inputs.before.clone()), ..StepOutcome::default() };
        }
        let (grad_norm, factor) = self.clip(&mut gradient);
        self.steps += 1;
        let mut values = inputs.before.clone();
        for (name, values) in &mut values {
            let Some(gradient) = gradient.get_mut(name).filter(|g| g.len() == values.len()) else { continue };
            self.update(name, values, gradient, learning_rate);
        }
        self.micro_batches += inputs.micro_batches;
        let plain = matches!(self.optimizer.rule, Rule::Sgd { weight_decay, .. } if weight_decay <= 0.0);
        if self.mistake == StepMistake::TiedWeightTwice && !plain {
            for tied in self.parameters.iter().filter(|parameter| parameter.role == Role::TokenEmbedding) {
                values.remove(&tied.name);
            }
        }
        StepOutcome {
            values: Some(values),
            grad_norm: Some(grad_norm),
            clip_factor: Some(factor),
            learning_rate: Some(learning_rate),
            skipped: Some(false),
        }
    }

    /// The gradient that a step has of its window.
    fn accumulated(&mut self, inputs: &StepInputs) -> NamedValues {
        match (self.mistake, self.optimizer.clip) {
            (StepMistake::ClippedPerMicroBatch | StepMistake::ClippedPerMicroBatchAlone, Some(clip)) => {
                let mut sum = NamedValues::new();
                for part in &inputs.contributions {
                    add(&mut sum, clip.factor(global_norm(part)), part);
                }
                sum
            }
            (StepMistake::NeverCleared, _) => {
                add(&mut self.uncleared, 1.0, &inputs.gradient);
                self.uncleared.clone()
            }
            (StepMistake::KeptBetweenCalls, _) => {
                // What was looked at before a step is in the gradient that it is taken with, and what was kept until
                // then is in both.
                let mut kept = inputs.gradient.clone();
                if !self.uncleared.is_empty() {
                    scale(&mut kept, 2.0);
                    add(&mut kept, -1.0, &self.uncleared);
                }
                self.uncleared = kept.clone();
                kept
            }
            _ => inputs.gradient.clone(),
        }
    }

    /// Clips, and returns the norm and the factor that are reported.
    fn clip(&self, gradient: &mut NamedValues) -> (f64, f64) {
        let loss_scale = self.optimizer.loss_scale;
        let measured = match self.mistake {
            StepMistake::ClippedBeforeUnscale => loss_scale * global_norm(gradient),
            StepMistake::ScaleNotUndone => {
                scale(gradient, loss_scale);
                global_norm(gradient)
            }
            _ => global_norm(gradient),
        };
        let clip = self.optimizer.clip.filter(|_| self.mistake != StepMistake::ClippedPerMicroBatchAlone);
        let Some(clip) = clip else { return (measured, 1.0) };
        let factor = match self.mistake {
            StepMistake::SquaredNormCompared if measured * measured <= clip.max_norm => 1.0,
            StepMistake::SquaredNormCompared => clip.max_norm / (measured + clip.epsilon),
            _ => clip.factor(measured),
        };
        if self.mistake == StepMistake::ClippedPerTensor {
            for values in gradient.values_mut() {
                let own = clip.factor(norm(values));
                vector::scale(values, own);
            }
        } else {
            scale(gradient, factor);
        }
        let reported =
            if self.mistake == StepMistake::NormAfterClipping { global_norm(gradient) } else { measured };
        (reported, factor)
    }

    /// Updates the values of a parameter: by the honest rule, and where the mistake lies in what Adam makes
    /// of its moments, by that.
    fn update(&mut self, name: &str, values: &mut [f64], gradient: &mut [f64], learning_rate: f64) {
        if let Rule::Sgd { momentum, .. } = self.optimizer.rule
            && self.mistake == StepMistake::MomentumDampened
            && self.steps == 1
        {
            vector::scale(gradient, 1.0 - momentum);
        }
        let shape = self.parameters.iter().find(|parameter| parameter.name == name);
        let shape = shape.map_or(&[][..], |parameter| &parameter.shape);
        let fresh = || Updated::new(values.to_vec(), shape.to_vec());
        let state = self.states.entry(name.to_owned()).or_insert_with(fresh);
        if state.values.len() != values.len() {
            return;
        }
        state.step(&self.optimizer, learning_rate, values, gradient);
        let (adam, decoupled) = match self.optimizer.rule {
            Rule::Adam(adam) => (adam, false),
            Rule::AdamW(adam) => (adam, true),
            Rule::Sgd { .. } => return values.copy_from_slice(&state.values),
        };
        let Some(mistaken) = AdamMistake::of(self.mistake, &adam, self.steps) else {
            return values.copy_from_slice(&state.values);
        };
        let decays = decoupled && adam.decayed.includes(shape);
        let decay = if decays { learning_rate * adam.weight_decay } else { 0.0 };
        for (value, (first, second)) in values.iter_mut().zip(state.moments()) {
            *value -= decay * *value;
            *value -= learning_rate * (first / mistaken.first_correction) / mistaken.denominator(second);
        }
    }
}

/// What Adam makes of its moments where that is what is wrong.
struct AdamMistake {
    epsilon: f64,
    epsilon_placement: EpsilonPlacement,
    /// Whether ε is under the root.
    inside: bool,
    first_correction: f64,
    second_correction: f64,
}

impl AdamMistake {
    /// The mistake in step number `step`; `None` where it is another one.
    fn of(mistake: StepMistake, adam: &Adam, step: u32) -> Option<Self> {
        let correction = |beta: f64, number: u32| 1.0 - beta.powi(i32::try_from(number).unwrap_or(i32::MAX));
        let both = |number| (correction(adam.beta_1, number), correction(adam.beta_2, number));
        let (first_correction, second_correction) = match mistake {
            StepMistake::AdamStartsAtZero => both(step - 1),
            StepMistake::AdamUncorrected => (1.0, 1.0),
            StepMistake::EpsilonInsideRoot => both(step),
            _ => return None,
        };
        let Adam { epsilon, epsilon_placement, .. } = *adam;
        let inside = mistake == StepMistake::EpsilonInsideRoot;
        Some(Self { epsilon, epsilon_placement, inside, first_correction, second_correction })
    }

    /// What the corrected first moment is divided by, from the second moment before its correction.
    fn denominator(&self, second: f64) -> f64 {
        match self.epsilon_placement {
            _ if self.inside => (second / self.second_correction + self.epsilon).sqrt(),
            EpsilonPlacement::AfterCorrection => (second / self.second_correction).sqrt() + self.epsilon,
            EpsilonPlacement::BeforeCorrection => {
                (second.sqrt() + self.epsilon) / self.second_correction.sqrt()
            }
        }
    }
}
