//! A trainer that takes its optimizer steps by hand: the gradient is an honest subject's, the update is the
//! one that laws are judged by. It is a third optimizer beside those of the reference and libtorch, and the
//! place to make mistakes in.

use crate::Door;
use lossproof_faults::kit::{HandedOver, Hooks, wrap};
use lossproof_numerics::{Updated, norm, vector::norm_of_parts};
use lossproof_spec::{GlobalBatch, LossSpec, Optimizer};
use lossproof_subject::{Observation, StepReport, Subject, SubjectError, SubjectInfo};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// What a trainer does wrong in its optimizer step.
#[derive(Clone, Copy)]
pub enum Mistake {
    /// Nothing.
    Nothing,
    /// Every gradient is multiplied by a factor.
    ScaledGradients(f64),
    /// The gradient of one parameter is multiplied by a factor.
    ScaledGradient(&'static str, f64),
    /// The learning rate's schedule advances with every micro-batch.
    SchedulePerMicroBatch,
    /// The accumulated gradient is clipped after every micro-batch. For the per-token mean over the global batch.
    ClippedPerMicroBatch,
    /// Every gradient is rounded more coarsely: `relative` of its tensor's root mean square is added to each element,
    /// with signs that the seed fixes.
    Rounded {
        /// Size of the rounding.
        relative: f64,
        /// Of the signs.
        seed: u64,
    },
}

/// A subject whose steps are taken by hand, with this mistake. It must load parameters and hand them over.
#[must_use]
pub fn by_hand(inner: Door, mistake: Mistake) -> Door {
    let hooks = Hooks {
        info: |_, info| SubjectInfo { name: "by hand".to_owned(), ..info },
        configure: |by_hand: &mut ByHand, inner, spec| {
            by_hand.spec = *spec;
            inner.configure(spec)
        },
        reset: |by_hand, inner| {
            by_hand.started = None;
            inner.reset()
        },
        start: |by_hand, inner, optimizer| {
            by_hand.started = Some(Started::new(inner, optimizer));
            Ok(())
        },
        step: ByHand::step,
        ..Hooks::IDENTITY
    };
    let spec = inner.info().claims.first();
    wrap(inner, ByHand { mistake, spec, started: None }, hooks)
}

struct ByHand {
    mistake: Mistake,
    spec: LossSpec,
    started: Option<Started>,
}

struct Started {
    optimizer: Optimizer,
    steps: u32,
    /// What the schedule counts.
    scheduled: u32,
    parameters: Vec<Updated>,
}

impl Started {
    fn new(inner: &mut dyn Subject, optimizer: &Optimizer) -> Self {
        let mut read = HandedOver::default();
        let steps = inner.optimizer_steps().expect("an honest subject takes steps");
        steps.read(&mut read).expect("an honest subject hands its parameters over");
        let parameters = read.tensors.into_iter().map(|tensor| Updated::new(tensor.values, tensor.shape));
        Self { optimizer: *optimizer, steps: 0, scheduled: 0, parameters: parameters.collect() }
    }
}

impl ByHand {
    fn step(&mut self, inner: &mut dyn Subject, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let mut started = self.started.take().expect("an optimizer was started");
        let optimizer = started.optimizer;
        let (observation, mut gradient) = self.backward(inner, batch, &started)?;
        let tensor_norms: Vec<f64> = gradient.tensors.iter().map(|tensor| norm(&tensor.values)).collect();
        let grad_norm = norm(&tensor_norms);
        let clip_factor = clip_factor(&optimizer, grad_norm);
        gradient.scale(clip_factor);
        let learning_rate = optimizer.learning_rate_at(started.scheduled);
        started.steps += 1;
        started.scheduled += match self.mistake {
            Mistake::SchedulePerMicroBatch => {
                u32::try_from(batch.ranks()[0].micro_batches().len()).expect("a few")
            }
            _ => 1,
        };
        let loader = inner.parameter_loading().expect("an honest subject loads parameters");
        for (updated, gradient) in started.parameters.iter_mut().zip(&gradient.tensors) {
            let before = updated.values.clone();
            updated.step(&optimizer, learning_rate, &before, &gradient.values);
            loader.set(&gradient.name, &updated.values)?;
        }
        self.started = Some(started);
        Ok(StepReport { observation, learning_rate, grad_norm, tensor_norms, clip_factor, skipped: false })
    }

    /// The gradient of a step before its clipping, with the mistakes that are made by then.
    fn backward(
        &self,
        inner: &mut dyn Subject,
        batch: &GlobalBatch,
        started: &Started,
    ) -> Result<(Observation, HandedOver), SubjectError> {
        let mut gradient = HandedOver::default();
        let observation = inner.accumulate(batch, &mut gradient)?;
        match self.mistake {
            Mistake::ScaledGradients(by) => gradient.scale(by),
            Mistake::ScaledGradient(name, by) => gradient.tensor(name).scale(by),
            Mistake::Rounded { relative, seed } => round(&mut gradient, relative, seed, started.steps),
            Mistake::ClippedPerMicroBatch => {
                assert_eq!(self.spec, LossSpec::token_mean(), "the mistake is written for this spec");
                gradient = clipped_as_it_grows(inner, batch, &started.optimizer)?;
            }
            Mistake::Nothing | Mistake::SchedulePerMicroBatch => {}
        }
        Ok((observation, gradient))
    }
}

/// The gradient of the per-token mean, clipped after every micro-batch but the last.
fn clipped_as_it_grows(
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    optimizer: &Optimizer,
) -> Result<HandedOver, SubjectError> {
    let tokens = batch.layout().supervised() as f64;
    inner.configure(&LossSpec::sum()).expect("every subject has the sum");
    let mut grown: Option<HandedOver> = None;
    for micro_batch in batch.micro_batches() {
        let mut gradient = HandedOver::default();
        inner.accumulate(&GlobalBatch::of_micro_batch(micro_batch.clone()), &mut gradient)?;
        gradient.scale(1.0 / tokens);
        if let Some(former) = &grown {
            let norm = norm_of_parts(former.tensors.iter().map(|tensor| tensor.values.as_slice()));
            gradient.add(clip_factor(optimizer, norm), former);
        }
        grown = Some(gradient);
    }
    inner.configure(&LossSpec::token_mean()).expect("it was in force");
    Ok(grown.expect("a batch has micro-batches"))
}

fn clip_factor(optimizer: &Optimizer, norm: f64) -> f64 {
    optimizer.clip.map_or(1.0, |clip| clip.factor(norm))
}

/// Adds `relative` of the root mean square to every element of every tensor, up or down.
fn round(gradient: &mut HandedOver, relative: f64, seed: u64, step: u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::from(step));
    for tensor in &mut gradient.tensors {
        let size = relative * norm(&tensor.values) / (tensor.values.len() as f64).sqrt();
        for value in &mut tensor.values {
            *value += if random.random::<bool>() { size } else { -size };
        }
    }
}
