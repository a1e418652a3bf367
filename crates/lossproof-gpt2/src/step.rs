//! One optimizer step: the gradient is measured first, and only then is anything changed.

use crate::{
    Element,
    accumulate::Accumulated,
    config::Gpt2Config,
    failure::{NAME, failed},
    hand_over::{HandOver, Parameters, Source},
    kernels::Kernels,
    named::Visitor,
    optimizer::{Moments, Update},
    started::Started,
    subject::Reference,
};
use dfdx::prelude::{ConstShape, HasShape, Tensor};
use lossproof_spec::{CompensatedSum, GlobalBatch, Optimizer, Rule};
use lossproof_subject::{
    GradientSink, GradientView, Observation, OptimizerSteps, SinkError, StepReport, SubjectError, Unsupported,
};

impl<K: Gpt2Config, E: Element, D: Kernels<E>> OptimizerSteps for Reference<K, E, D> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.started = None;
        check(optimizer).map_err(|what| Unsupported::new(NAME, what))?;
        self.started = Some(Started { optimizer: *optimizer, steps: 0, moments: Vec::new() });
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let loss_scale = self.started()?.0.loss_scale;
        let (gradient, observation) = self.accumulated(batch, loss_scale)?;
        self.step_of(gradient, observation)
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.model.visit(&mut HandOver::<E, _>::new(&mut Parameters, parameters))
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Reference<K, E, D> {
    /// The optimizer in force, and how many steps it has taken.
    pub(crate) fn started(&self) -> Result<(Optimizer, u32), SubjectError> {
        let Some(Started { optimizer, steps, .. }) = &self.started else {
            return Err(failed(
                "no optimizer was started: call `OptimizerSteps::start` first, and again after a reset",
            ));
        };
        Ok((*optimizer, *steps))
    }

    /// One step from a gradient.
    pub(crate) fn step_of(
        &mut self,
        mut gradient: Accumulated<E, D>,
        observation: Observation,
    ) -> Result<StepReport, SubjectError> {
        let (optimizer, steps) = self.started()?;
        let mut norms = Norms::new();
        self.model.visit(&mut HandOver::new(&mut gradient, &mut norms))?;
        let grad_norm = norms.total.value().sqrt();
        let skipped = !norms.finite;
        let clip_factor = match optimizer.clip {
            Some(clip) if !skipped => clip.factor(grad_norm),
            _ => 1.0,
        };
        if let Some(started) = self.started.as_mut().filter(|_| !skipped) {
            // Every gradient was read once already: nothing fails half-way.
            let rule = &optimizer.rule;
            let decays = |_: &str, shape: &[usize]| decays_by_shape(rule, shape);
            let mut apply = Apply {
                gradient: &mut gradient,
                clip_factor: E::round(clip_factor),
                update: Update::new(rule, optimizer.learning_rate_at(steps), steps),
                decays: &decays,
                moves: &|_| true,
                moments: &mut started.moments,
                index: 0,
                buffers: [Vec::new(), Vec::new()],
            };
            self.model.visit(&mut apply).map_err(failed)?;
            started.steps = steps.saturating_add(1);
        }
        let learning_rate = optimizer.learning_rate_at(steps);
        Ok(StepReport {
            observation,
            learning_rate,
            grad_norm,
            tensor_norms: norms.tensors,
            clip_factor,
            skipped,
        })
    }
}

/// Whether the numbers are those of an optimizer: the ranges that PyTorch's constructors accept.
fn check(optimizer: &Optimizer) -> Result<(), String> {
    not_negative("learning rate", optimizer.learning_rate)?;
    if let Some(clip) = optimizer.clip {
        not_negative("largest norm", clip.max_norm)?;
        not_negative("clipping epsilon", clip.epsilon)?;
    }
    if optimizer.loss_scale.is_nan() || optimizer.loss_scale <= 0.0 {
        return Err(format!("a loss scale of {}: give a positive one", optimizer.loss_scale));
    }
    check_rule(&optimizer.rule)
}

fn not_negative(what: &str, value: f64) -> Result<(), String> {
    if value >= 0.0 { Ok(()) } else { Err(format!("a {what} of {value}: give one that is not negative")) }
}

/// Whether a rule without groups of its own decays a parameter of this shape.
fn decays_by_shape(rule: &Rule, shape: &[usize]) -> bool {
    match rule {
        Rule::Sgd { .. } => true,
        Rule::Adam(adam) | Rule::AdamW(adam) => adam.decayed.includes(shape),
    }
}

/// Whether the numbers are those of a rule: the ranges that PyTorch's constructors accept.
pub(crate) fn check_rule(rule: &Rule) -> Result<(), String> {
    match *rule {
        Rule::Sgd { momentum, weight_decay } => {
            not_negative("momentum", momentum)?;
            not_negative("weight decay", weight_decay)
        }
        Rule::Adam(adam) | Rule::AdamW(adam) => {
            for beta in [adam.beta_1, adam.beta_2] {
                if !(0.0..1.0).contains(&beta) {
                    return Err(format!("Adam with a β of {beta}: give one in [0, 1)"));
                }
            }
            not_negative("ε", adam.epsilon)?;
            not_negative("weight decay", adam.weight_decay)
        }
    }
}

/// Measures a gradient.
pub(crate) struct Norms {
    /// Norm of each parameter's.
    pub(crate) tensors: Vec<f64>,
    /// Sum of all squares.
    total: CompensatedSum,
    /// Whether every element is finite.
    finite: bool,
}

/// Elements whose squares are added plainly before the sum is compensated.
const PLAIN: usize = 64;

impl Norms {
    pub(crate) fn new() -> Self {
        Self { tensors: Vec::new(), total: CompensatedSum::default(), finite: true }
    }

    fn measure<E: Element>(&mut self, values: &[E]) {
        let squares = |some: &[E]| some.iter().map(|value| value.widen() * value.widen()).sum::<f64>();
        let square = values.chunks(PLAIN).map(squares).collect::<CompensatedSum>().value();
        self.finite &= values.iter().all(|value| value.widen().is_finite());
        self.tensors.push(square.sqrt());
        self.total.add(square);
    }
}

impl GradientSink for Norms {
    fn receive(&mut self, _: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        match values {
            GradientView::F32(values) => self.measure(values),
            GradientView::F64(values) => self.measure(values),
        }
        Ok(())
    }
}

/// Updates every parameter.
pub(crate) struct Apply<'a, E: Element, D: Kernels<E>> {
    pub(crate) gradient: &'a mut Accumulated<E, D>,
    pub(crate) clip_factor: E,
    pub(crate) update: Update<E>,
    /// Whether a parameter of this name and shape decays.
    pub(crate) decays: &'a dyn Fn(&str, &[usize]) -> bool,
    /// Whether a parameter of this name is trained.
    pub(crate) moves: &'a dyn Fn(&str) -> bool,
    pub(crate) moments: &'a mut Vec<Moments<E>>,
    /// Of the tensor whose turn it is.
    pub(crate) index: usize,
    /// A parameter's values and its gradient's, reused from tensor to tensor.
    pub(crate) buffers: [Vec<E>; 2],
}

impl<E: Element, D: Kernels<E>> Visitor<E, D> for Apply<'_, E, D> {
    type Error = D::Err;

    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), D::Err> {
        if self.moments.len() == self.index {
            self.moments.push(Moments::default());
        }
        if !(self.moves)(name) {
            self.index += 1;
            return Ok(());
        }
        let [values, gradient] = &mut self.buffers;
        values.clear();
        gradient.clear();
        Parameters.append(tensor, values)?;
        self.gradient.append(tensor, gradient)?;
        if self.clip_factor != E::ONE {
            for value in &mut *gradient {
                *value *= self.clip_factor;
            }
        }
        let shape: Vec<_> = tensor.shape().concrete().into_iter().collect();
        let decays = (self.decays)(name, &shape);
        self.update.apply(decays, values, gradient, &mut self.moments[self.index]);
        tensor.copy_from(values);
        self.index += 1;
        Ok(())
    }

    fn fused<S: ConstShape>(&mut self, name: &str, parts: &mut [Tensor<S, E, D>; 3]) -> Result<(), D::Err> {
        parts.iter_mut().try_for_each(|part| self.tensor(name, part))
    }
}
