//! Optimizer steps: what each mistake makes of the gradients that a trainer itself computes.

use super::oracle::Values;
use lossproof_numerics::norm;
use lossproof_spec::{Adam, Decayed, EpsilonPlacement, Optimizer, Rule};

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    ClippedPerMicroBatch,
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
    ShortWindowDropped,
    TiedWeightTwice,
}

/// What a step was made from.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Parameters before the step.
    pub(super) before: Values,
    /// The gradient of the whole window at them.
    pub(super) gradient: Values,
    /// What each micro-batch adds to it.
    pub(super) contributions: Vec<Values>,
    /// Micro-batches of the longest rank.
    pub(super) micro_batches: u32,
}

/// What a step shows. `None` is what a hypothesis does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) values: Option<Values>,
    pub(super) grad_norm: Option<f64>,
    pub(super) clip_factor: Option<f64>,
    pub(super) learning_rate: Option<f64>,
    pub(super) skipped: Option<bool>,
}

/// A trainer's optimizer under a mistake.
pub(super) struct Simulation<'a> {
    mistake: Mistake,
    optimizer: Optimizer,
    /// The largest finite number of the trainer's dtype.
    largest: f64,
    dimensions: &'a dyn Fn(&str) -> usize,
    steps: u32,
    skipped: u32,
    micro_batches: u32,
    longest: u32,
    first: Values,
    second: Values,
    uncleared: Values,
}

fn global_norm(gradient: &Values) -> f64 {
    norm(gradient.values().flatten())
}

fn scale(gradient: &mut Values, factor: f64) {
    gradient.values_mut().flatten().for_each(|value| *value *= factor);
}

fn add(sum: &mut Values, factor: f64, other: &Values) {
    for (name, values) in other {
        let own = sum.entry(name.clone()).or_insert_with(|| vec![0.0; values.len()]);
        own.iter_mut().zip(values).for_each(|(own, value)| *own += factor * value);
    }
}

impl<'a> Simulation<'a> {
    /// `dimensions` says how many dimensions a parameter has: decay groups hang on it.
    pub(super) fn new(
        mistake: Mistake,
        optimizer: &Optimizer,
        largest: f64,
        dimensions: &'a dyn Fn(&str) -> usize,
    ) -> Self {
        let (first, second, uncleared) = (Values::new(), Values::new(), Values::new());
        let (steps, skipped, micro_batches, longest) = (0, 0, 0, 0);
        let optimizer = *optimizer;
        Self {
            mistake,
            optimizer,
            largest,
            dimensions,
            steps,
            skipped,
            micro_batches,
            longest,
            first,
            second,
            uncleared,
        }
    }

    /// The step made from a window.
    pub(super) fn step(&mut self, window: &Window) -> Shown {
        let mut gradient = self.accumulated(window);
        let finite = |value: &f64| (value * self.optimizer.loss_scale).abs() <= self.largest;
        let overflows = !gradient.values().flatten().all(finite);
        let skipped = overflows && self.mistake != Mistake::OverflowNotSkipped;
        let learning_rate = self.optimizer.learning_rate_at(match self.mistake {
            Mistake::OverflowAdvancesSchedule => self.steps + self.skipped,
            Mistake::SchedulePerMicroBatch => self.micro_batches,
            _ => self.steps,
        });
        if overflows {
            self.skipped += u32::from(skipped);
            self.steps += u32::from(!skipped);
            let values = skipped.then(|| window.before.clone());
            return Shown {
                values,
                learning_rate: Some(learning_rate),
                skipped: Some(skipped),
                ..Shown::default()
            };
        }
        let dropped = self.mistake == Mistake::ShortWindowDropped && window.micro_batches < self.longest;
        self.longest = self.longest.max(window.micro_batches);
        if dropped {
            return Shown { values: Some(window.before.clone()), ..Shown::default() };
        }
        let (grad_norm, factor) = self.clip(&mut gradient);
        self.steps += 1;
        let mut values = window.before.clone();
        for (name, values) in &mut values {
            let Some(gradient) = gradient.get(name) else { continue };
            self.update(name, values, gradient, learning_rate);
        }
        self.micro_batches += window.micro_batches;
        let plain = matches!(self.optimizer.rule, Rule::Sgd { weight_decay, .. } if weight_decay <= 0.0);
        if self.mistake == Mistake::TiedWeightTwice && !plain {
            values.remove(lossproof_laws::names::EMBEDDING);
        }
        Shown {
            values: Some(values),
            grad_norm: Some(grad_norm),
            clip_factor: Some(factor),
            learning_rate: Some(learning_rate),
            skipped: Some(false),
        }
    }

    fn accumulated(&mut self, window: &Window) -> Values {
        match (self.mistake, self.optimizer.clip) {
            (Mistake::ClippedPerMicroBatch, Some(clip)) => {
                let mut sum = Values::new();
                for part in &window.contributions {
                    add(&mut sum, clip.factor(global_norm(part)), part);
                }
                sum
            }
            (Mistake::NeverCleared, _) => {
                add(&mut self.uncleared, 1.0, &window.gradient);
                self.uncleared.clone()
            }
            _ => window.gradient.clone(),
        }
    }

    /// Clips, and returns the norm and the factor that are reported.
    fn clip(&self, gradient: &mut Values) -> (f64, f64) {
        let loss_scale = self.optimizer.loss_scale;
        let measured = match self.mistake {
            Mistake::ClippedBeforeUnscale => loss_scale * global_norm(gradient),
            Mistake::ScaleNotUndone => {
                scale(gradient, loss_scale);
                global_norm(gradient)
            }
            _ => global_norm(gradient),
        };
        let Some(clip) = self.optimizer.clip else { return (measured, 1.0) };
        let factor = match self.mistake {
            Mistake::SquaredNormCompared if measured * measured <= clip.max_norm => 1.0,
            Mistake::SquaredNormCompared => clip.max_norm / (measured + clip.epsilon),
            _ => clip.factor(measured),
        };
        if self.mistake == Mistake::ClippedPerTensor {
            for values in gradient.values_mut() {
                let own = clip.factor(norm(&*values));
                for value in values {
                    *value *= own;
                }
            }
        } else {
            scale(gradient, factor);
        }
        let reported =
            if self.mistake == Mistake::NormAfterClipping { global_norm(gradient) } else { measured };
        (reported, factor)
    }

    fn update(&mut self, name: &str, values: &mut [f64], gradient: &[f64], learning_rate: f64) {
        let zeros = || vec![0.0; values.len()];
        let mut first = self.first.remove(name).unwrap_or_else(zeros);
        let mut second = self.second.remove(name).unwrap_or_else(zeros);
        self.updated(name, values, gradient, learning_rate, (&mut first, &mut second));
        self.first.insert(name.to_owned(), first);
        self.second.insert(name.to_owned(), second);
    }

    fn updated(
        &self,
        name: &str,
        values: &mut [f64],
        gradient: &[f64],
        learning_rate: f64,
        (first, second): (&mut [f64], &mut [f64]),
    ) {
        let sign = if self.mistake == Mistake::DecayGrows { -1.0 } else { 1.0 };
        let (adam, decoupled) = match self.optimizer.rule {
            Rule::Sgd { momentum, weight_decay } => {
                let start = self.steps == 1;
                let fresh =
                    if start && self.mistake == Mistake::MomentumDampened { 1.0 - momentum } else { 1.0 };
                let kept = if start { 0.0 } else { momentum };
                for ((value, g), velocity) in values.iter_mut().zip(gradient).zip(first) {
                    *velocity = kept * *velocity + fresh * g + sign * weight_decay * *value;
                    *value -= learning_rate * *velocity;
                }
                return;
            }
            Rule::Adam(adam) => (adam, false),
            Rule::AdamW(adam) => (adam, self.mistake != Mistake::DecayCoupled),
        };
        let all = self.mistake == Mistake::EverythingDecays || adam.decayed == Decayed::All;
        let decays = all || (self.dimensions)(name) >= 2;
        let decay = if decays { sign * adam.weight_decay } else { 0.0 };
        let (c1, c2) = self.corrections(&adam);
        for (((value, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = if decoupled { g } else { g + decay * *value };
            if decoupled {
                *value -= learning_rate * decay * *value;
            }
            *m = adam.beta_1 * *m + (1.0 - adam.beta_1) * g;
            *v = adam.beta_2 * *v + (1.0 - adam.beta_2) * g * g;
            let denominator = match (self.mistake, adam.epsilon_placement) {
                (Mistake::EpsilonInsideRoot, _) => (*v / c2 + adam.epsilon).sqrt(),
                (_, EpsilonPlacement::AfterCorrection) => (*v / c2).sqrt() + adam.epsilon,
                (_, EpsilonPlacement::BeforeCorrection) => (v.sqrt() + adam.epsilon) / c2.sqrt(),
            };
            *value -= learning_rate * (*m / c1) / denominator;
        }
    }

    fn corrections(&self, adam: &Adam) -> (f64, f64) {
        let number = match self.mistake {
            Mistake::AdamStartsAtZero => self.steps - 1,
            Mistake::AdamUncorrected => return (1.0, 1.0),
            _ => self.steps,
        };
        let power = |beta: f64| beta.powi(i32::try_from(number).unwrap_or(i32::MAX));
        (1.0 - power(adam.beta_1), 1.0 - power(adam.beta_2))
    }
}
