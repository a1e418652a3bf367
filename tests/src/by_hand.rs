//! A trainer that takes its optimizer steps by hand: the gradient is an honest subject's, the update is written here
//! in f64 as the papers write it. It is a third optimizer beside those of the reference and libtorch, and the place
//! to make mistakes in.

use lossproof_spec::{Adam, CompensatedSum, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{
    Collect, GradientSink, Observation, OptimizerSteps, ParameterInfo, StepReport, Subject, SubjectError,
    SubjectInfo, Tensor, TensorSet, TensorValues, Unsupported,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

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

/// A trainer whose steps are taken by hand, for subjects that load parameters and take steps themselves.
pub struct ByHand {
    inner: Box<dyn Subject>,
    mistake: Mistake,
    started: Option<Started>,
}

struct Started {
    optimizer: Optimizer,
    steps: u32,
    /// What the schedule counts.
    scheduled: u32,
    parameters: TensorSet,
    /// First and second moment of each parameter.
    moments: BTreeMap<String, [Vec<f64>; 2]>,
}

type Gradient = BTreeMap<String, Vec<f64>>;

impl ByHand {
    /// Takes the steps of a subject.
    #[must_use]
    pub fn new(inner: Box<dyn Subject>, mistake: Mistake) -> Self {
        Self { inner, mistake, started: None }
    }

    fn gradient(&mut self, batch: &GlobalBatch) -> Result<(Observation, Gradient), SubjectError> {
        let mut sink = Collect::default();
        let observation = self.inner.accumulate(batch, &mut sink)?;
        let values = |(name, tensor): (String, Tensor)| (name, tensor.to_f64());
        Ok((observation, sink.into_tensors().into_iter().map(values).collect()))
    }

    /// The gradient of a step before its clipping, with the mistakes that are made by then.
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        started: &Started,
    ) -> Result<(Observation, Gradient), SubjectError> {
        let (observation, mut gradient) = self.gradient(batch)?;
        match self.mistake {
            Mistake::ScaledGradients(by) => {
                for values in gradient.values_mut() {
                    scale(values, by);
                }
            }
            Mistake::ScaledGradient(name, by) => {
                scale(gradient.get_mut(name).expect("a parameter of the subject"), by);
            }
            Mistake::Rounded { relative, seed } => round(&mut gradient, relative, seed, started.steps),
            Mistake::ClippedPerMicroBatch => {
                gradient = self.clipped_as_it_grows(batch, &started.optimizer)?;
            }
            Mistake::Nothing | Mistake::SchedulePerMicroBatch => {}
        }
        Ok((observation, gradient))
    }

    /// The gradient of the per-token mean, clipped after every micro-batch but the last.
    fn clipped_as_it_grows(
        &mut self,
        batch: &GlobalBatch,
        optimizer: &Optimizer,
    ) -> Result<Gradient, SubjectError> {
        let spec = self.inner.info().spec;
        assert_eq!(spec, LossSpec::token_mean(), "the mistake is written for this spec");
        let tokens = batch.layout().sequences().map(|sequence| sequence.supervised).sum::<usize>() as f64;
        self.inner.configure(&LossSpec::sum()).expect("every subject has the sum");
        let mut grown = Gradient::new();
        for micro_batch in batch.micro_batches() {
            let factor = clip_factor(optimizer, total(&norms(&grown)));
            for values in grown.values_mut() {
                scale(values, factor);
            }
            let alone = GlobalBatch::of_micro_batch(micro_batch.clone());
            for (name, values) in self.gradient(&alone)?.1 {
                let grown = grown.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                for (grown, value) in grown.iter_mut().zip(values) {
                    *grown += value / tokens;
                }
            }
        }
        self.inner.configure(&spec).expect("it was in force");
        Ok(grown)
    }
}

fn clip_factor(optimizer: &Optimizer, norm: f64) -> f64 {
    optimizer.clip.map_or(1.0, |clip| clip.factor(norm))
}

fn scale(values: &mut [f64], by: f64) {
    for value in values {
        *value *= by;
    }
}

fn norms(gradient: &Gradient) -> BTreeMap<&str, f64> {
    let norm = |values: &Vec<f64>| {
        values.iter().map(|value| value * value).collect::<CompensatedSum>().value().sqrt()
    };
    gradient.iter().map(|(name, values)| (name.as_str(), norm(values))).collect()
}

fn total(norms: &BTreeMap<&str, f64>) -> f64 {
    norms.values().map(|norm| norm * norm).collect::<CompensatedSum>().value().sqrt()
}

/// Adds `relative` of the root mean square to every element of every tensor, up or down.
fn round(gradient: &mut Gradient, relative: f64, seed: u64, step: u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::from(step));
    for values in gradient.values_mut() {
        let mean_square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        let size = relative * mean_square.sqrt();
        for value in values.iter_mut() {
            *value += if random.random::<bool>() { size } else { -size };
        }
    }
}

impl Started {
    fn update(&mut self, gradient: &Gradient, learning_rate: f64) {
        self.steps += 1;
        for (name, tensor) in &mut self.parameters {
            let shape = tensor.shape().to_vec();
            let mut values = tensor.to_f64();
            let gradient = &gradient[name];
            let moments = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| [vec![0.0; values.len()], vec![0.0; values.len()]]);
            let [first, second] = moments;
            for (i, value) in values.iter_mut().enumerate() {
                let mut g = gradient[i];
                match self.optimizer.rule {
                    Rule::Sgd { momentum, weight_decay } => {
                        g += weight_decay * *value;
                        first[i] = if self.steps == 1 { g } else { momentum * first[i] + g };
                        *value -= learning_rate * first[i];
                    }
                    Rule::Adam(adam) | Rule::AdamW(adam) => {
                        let decay = if adam.decayed.includes(&shape) { adam.weight_decay } else { 0.0 };
                        if matches!(self.optimizer.rule, Rule::Adam(_)) {
                            g += decay * *value;
                        } else {
                            *value -= learning_rate * decay * *value;
                        }
                        *value -=
                            learning_rate * direction(&adam, g, [&mut first[i], &mut second[i]], self.steps);
                    }
                }
            }
            *tensor = Tensor::new(shape, TensorValues::F64(values)).expect("the same number of values");
        }
    }
}

fn direction(adam: &Adam, g: f64, [m, v]: [&mut f64; 2], step: u32) -> f64 {
    let correction = |beta: f64| 1.0 - beta.powf(f64::from(step));
    *m = adam.beta_1 * *m + (1.0 - adam.beta_1) * g;
    *v = adam.beta_2 * *v + (1.0 - adam.beta_2) * g * g;
    let (c1, c2) = (correction(adam.beta_1), correction(adam.beta_2));
    *m / c1
        / match adam.epsilon_placement {
            EpsilonPlacement::AfterCorrection => (*v / c2).sqrt() + adam.epsilon,
            EpsilonPlacement::BeforeCorrection => (v.sqrt() + adam.epsilon) / c2.sqrt(),
        }
}

impl Subject for ByHand {
    fn info(&self) -> SubjectInfo {
        SubjectInfo { name: "by hand".to_owned(), ..self.inner.info() }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.inner.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.started = None;
        self.inner.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.inner.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.inner.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn lossproof_subject::LoadParameters> {
        self.inner.parameter_loading()
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }
}

impl OptimizerSteps for ByHand {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let mut parameters = Collect::default();
        self.read(&mut parameters).expect("an honest subject hands its parameters over");
        let parameters = parameters.into_tensors();
        let optimizer = *optimizer;
        self.started =
            Some(Started { optimizer, steps: 0, scheduled: 0, parameters, moments: BTreeMap::new() });
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let mut started = self.started.take().expect("an optimizer was started");
        let optimizer = started.optimizer;
        let (observation, mut gradient) = self.backward(batch, &started)?;
        let norms = norms(&gradient);
        let grad_norm = total(&norms);
        let parameters = self.inner.parameters();
        let tensor_norms = parameters.iter().map(|parameter| norms[parameter.name.as_str()]).collect();
        let clip_factor = clip_factor(&optimizer, grad_norm);
        for values in gradient.values_mut() {
            scale(values, clip_factor);
        }
        let learning_rate = optimizer.learning_rate_at(started.scheduled);
        let micro_batches = batch.ranks()[0].micro_batches().len();
        started.scheduled += match self.mistake {
            Mistake::SchedulePerMicroBatch => u32::try_from(micro_batches).expect("a few"),
            _ => 1,
        };
        started.update(&gradient, learning_rate);
        let loader = self.inner.parameter_loading().expect("an honest subject loads parameters");
        for (name, tensor) in &started.parameters {
            loader.set(name, &tensor.to_f64())?;
        }
        self.started = Some(started);
        Ok(StepReport { observation, learning_rate, grad_norm, tensor_norms, clip_factor, skipped: false })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.inner.optimizer_steps().expect("an honest subject takes steps").read(parameters)
    }
}
