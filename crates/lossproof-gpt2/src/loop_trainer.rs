//! The reference as a training loop drives it, call by call.

use crate::{
    Element, ModelShape,
    accumulate::{Accumulated, never, scalar},
    begun::Begun,
    config::Gpt2Config,
    failure::{NAME, failed},
    hand_over::{HandOver, Source, last_dimension},
    kernels::Kernels,
    loss::{Counts, reduce},
    named::{Visitor, split},
    optimizer::{Moments, Update},
    rows::Rows,
    step::{Apply, Norms, check_rule},
    subject::Reference,
};
use dfdx::prelude::*;
use lossproof_spec::{EmptyGroup, EmptyPolicy, Group, LossSpec, Reduction, Rule, Scope, Sequence};
use lossproof_subject::{
    Dropout, GradientSink, LoopTrainer, Moment, Observation, OptimizerSteps, SubjectError, TensorSet,
    TrainerState, TrainingBatch, Unsupported, check_gradient, check_state,
};
use std::{collections::BTreeSet, convert::Infallible};

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Reference<K, E, D> {
    fn no_gradient(&mut self) -> Result<Accumulated<E, D>, SubjectError> {
        self.model.alloc_gradients().map(Accumulated::of_one).map_err(failed)
    }

    /// A gradient that was added up over all ranks, as a step takes it.
    pub(crate) fn gradient_of_ranks(&mut self, from: &TensorSet) -> Result<Accumulated<E, D>, SubjectError> {
        let zeros = self.model.alloc_gradients().map_err(failed)?;
        let mut write = WriteGradient { from, gradients: Some(zeros) };
        self.model.visit(&mut write).map_err(failed)?;
        write.gradients.map(Accumulated::of_one).ok_or_else(|| failed(GRADIENT_LOST))
    }

    /// Takes what was begun out, so that the model can be borrowed beside it. It is put back by who took it.
    fn take_begun(&mut self) -> Result<Begun<E, D>, SubjectError> {
        self.begun.take().ok_or_else(|| {
            failed(
                "no training was begun: call `LoopTrainer::begin` first, and again after a reset or a load",
            )
        })
    }

    /// Does something with what was begun and the model.
    fn with_begun<R>(
        &mut self,
        act: impl FnOnce(&mut Self, &mut Begun<E, D>) -> Result<R, SubjectError>,
    ) -> Result<R, SubjectError> {
        let mut begun = self.take_begun()?;
        let result = act(self, &mut begun);
        self.begun = Some(begun);
        result
    }

    /// Forward and backward of one micro-batch, onto the gradients of what was begun.
    fn backward_onto(
        &mut self,
        begun: &mut Begun<E, D>,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Result<Observation, SubjectError> {
        let sequences: Vec<&Sequence> = batch.micro_batch().sequences().iter().collect();
        let per_sequence: Vec<usize> = sequences.iter().map(|sequence| sequence.supervised()).collect();
        let found_nan = empty_means(&per_sequence, loss)?;
        let tokens: usize = per_sequence.iter().sum();
        if tokens == 0 {
            let loss = if found_nan { f64::NAN } else { 0.0 };
            return Ok(Observation { loss, token_losses: Some(Vec::new()), supervised_tokens: Some(0) });
        }
        let counted = |&&own: &&usize| own > 0 || loss.empty != EmptyPolicy::ZeroSkipped;
        let counts = Counts { tokens, sequences: per_sequence.iter().filter(counted).count() };
        let own = LossSpec { scope: Scope::MicroBatch, ..*loss };

        let gradients = begun.gradient.ranks.pop().ok_or_else(|| failed(GRADIENT_LOST))?;
        let backward = || {
            let tape = self.model.wte.trace(gradients).split_tape().1;
            let losses = self.model.losses_of(&Rows::of(batch, dropout), &sequences, loss, tape)?;
            let token_losses: Vec<f64> = losses.as_vec().into_iter().map(E::widen).collect();
            let reduced = reduce(losses, &per_sequence, &own, counts)?;
            let loss = scalar(&reduced).widen();
            let gradients = reduced.try_mul(E::round(factor))?.try_backward()?;
            Ok::<_, D::Err>((loss, token_losses, gradients))
        };
        let (loss, token_losses, gradients) = backward().map_err(failed)?;
        begun.gradient.ranks.push(gradients);
        Ok(Observation {
            loss: if found_nan { f64::NAN } else { loss },
            token_losses: Some(token_losses),
            supervised_tokens: Some(tokens),
        })
    }
}

const GRADIENT_LOST: &str =
    "a backward pass failed and took the gradient with it: call `zero_gradient` first";

/// Whether a mean is taken of nothing, and the empty policy makes that NaN.
fn empty_means(per_sequence: &[usize], loss: &LossSpec) -> Result<bool, SubjectError> {
    let group = match loss.reduction {
        Reduction::TokenMean => per_sequence.iter().all(|&own| own == 0).then_some(Group::MicroBatch(0)),
        Reduction::SequenceMean => per_sequence.iter().position(|&own| own == 0).map(Group::Sequence),
        Reduction::Sum | Reduction::BatchMean => None,
    };
    match (group, loss.empty) {
        (None, _) | (_, EmptyPolicy::ZeroCounted | EmptyPolicy::ZeroSkipped) => Ok(false),
        (Some(_), EmptyPolicy::Nan) => Ok(true),
        (Some(group), EmptyPolicy::Error) => Err(SubjectError::EmptyGroup(EmptyGroup { group, nan: false })),
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> LoopTrainer for Reference<K, E, D> {
    fn begin(
        &mut self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<(), Unsupported> {
        self.begun = None;
        let refuse = |what: String| Unsupported::new(NAME, what);
        check_rule(rule).map_err(refuse)?;
        let known: BTreeSet<String> =
            ModelShape::of::<K>().parameters().into_iter().map(|(name, _)| name).collect();
        if let Some(name) = undecayed.difference(&known).next() {
            return Err(refuse(format!("leaving `{name}` undecayed: it has no such parameter")));
        }
        if let Some(name) = frozen.difference(&known).next() {
            return Err(refuse(format!("freezing `{name}`: it has no such parameter")));
        }
        let gradient = self.no_gradient().map_err(|error| refuse(error.to_string()))?;
        let (undecayed, frozen) = (undecayed.clone(), frozen.clone());
        let (rule, moments) = (*rule, Vec::new());
        self.begun = Some(Begun { rule, undecayed, frozen, updates: 0, moments, gradient });
        Ok(())
    }

    fn backward(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Result<Observation, SubjectError> {
        Self::limits().check(&batch.global())?;
        self.with_begun(|own, begun| own.backward_onto(begun, batch, loss, factor, dropout))
    }

    fn gradient_norms(&mut self) -> Result<Vec<f64>, SubjectError> {
        let mut norms = Norms::new();
        self.read_gradient(&mut norms)?;
        Ok(norms.tensors)
    }

    fn read_gradient(&mut self, gradient: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.with_begun(|own, begun| own.model.visit(&mut HandOver::new(&mut begun.gradient, gradient)))
    }

    fn write_gradient(&mut self, gradient: &TensorSet) -> Result<(), SubjectError> {
        check_gradient(self, gradient)?;
        self.with_begun(|own, begun| {
            begun.gradient = own.gradient_of_ranks(gradient)?;
            Ok(())
        })
    }

    fn update(&mut self, learning_rate: f64, factor: f64) -> Result<(), SubjectError> {
        self.with_begun(|own, begun| {
            let undecayed = &begun.undecayed;
            let decays = |name: &str, _: &[usize]| !undecayed.contains(name);
            let moves = |name: &str| !begun.frozen.contains(name);
            let mut apply = Apply {
                gradient: &mut begun.gradient,
                clip_factor: E::round(factor),
                update: Update::new(&begun.rule, learning_rate, begun.updates),
                decays: &decays,
                moves: &moves,
                moments: &mut begun.moments,
                index: 0,
                buffers: [Vec::new(), Vec::new()],
            };
            own.model.visit(&mut apply).map_err(failed)?;
            begun.updates = begun.updates.saturating_add(1);
            Ok(())
        })
    }

    fn zero_gradient(&mut self) -> Result<(), SubjectError> {
        self.with_begun(|own, begun| {
            begun.gradient = own.no_gradient()?;
            Ok(())
        })
    }

    fn supervised_losses(&mut self, batch: &TrainingBatch) -> Result<Vec<f64>, SubjectError> {
        Self::limits().check(&batch.global())?;
        if batch.supervised() == 0 {
            return Ok(Vec::new());
        }
        let sequences: Vec<&Sequence> = batch.micro_batch().sequences().iter().collect();
        let rows = Rows::of(batch, &Dropout::NONE);
        let losses = self.model.losses_of(&rows, &sequences, &LossSpec::sum(), NoneTape).map_err(failed)?;
        Ok(losses.as_vec().into_iter().map(E::widen).collect())
    }

    fn read_parameters(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        OptimizerSteps::read(self, parameters)
    }

    fn read_moments(&mut self, moment: Moment, moments: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.with_begun(|own, begun| {
            if !moment.belongs_to(&begun.rule) {
                return Ok(());
            }
            let mut source = ReadMoments { moments: &begun.moments, moment, index: 0 };
            own.model.visit(&mut HandOver::<E, _>::new(&mut source, moments))
        })
    }

    fn updates(&self) -> u32 {
        self.begun.as_ref().map_or(0, |begun| begun.updates)
    }

    fn restore(&mut self, state: &TrainerState) -> Result<(), SubjectError> {
        let begun = self.take_begun()?;
        if let Err(error) = check_state(self, &begun.rule, state) {
            self.begun = Some(begun);
            return Err(error);
        }
        let mut moments = RestoreMoments { state, moments: Vec::new() };
        if state.updates > 0 {
            never(self.model.visit(&mut moments));
        }
        for (name, tensor) in &state.parameters {
            self.write(|known| (known == name).then(|| elements(tensor)));
        }
        self.begun = Some(Begun {
            updates: state.updates,
            moments: moments.moments,
            gradient: self.no_gradient()?,
            ..begun
        });
        Ok(())
    }
}

/// The values of a tensor in the element type.
fn elements<E: Element>(tensor: &lossproof_subject::Tensor) -> Vec<E> {
    (0..tensor.elements()).map(|index| E::round(tensor.get(index))).collect()
}

/// Fills a gradient that is zero from a set.
struct WriteGradient<'a, E: Element, D: Device<E>> {
    from: &'a TensorSet,
    /// Out of here only while a tensor is written.
    gradients: Option<Gradients<E, D>>,
}

impl<E: Element, D: Kernels<E>> WriteGradient<'_, E, D> {
    fn put<S: ConstShape>(&mut self, parameter: &Tensor<S, E, D>, values: &[E]) -> Result<(), D::Err> {
        if let Some(gradients) = self.gradients.take() {
            self.gradients = Some(D::put_gradient(gradients, parameter, values)?);
        }
        Ok(())
    }

    fn values(&self, name: &str) -> Vec<E> {
        self.from.get(name).map(elements).unwrap_or_default()
    }
}

impl<E: Element, D: Kernels<E>> Visitor<E, D> for WriteGradient<'_, E, D> {
    type Error = D::Err;

    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), D::Err> {
        let values = self.values(name);
        self.put(tensor, &values)
    }

    fn fused<S: ConstShape>(&mut self, name: &str, parts: &mut [Tensor<S, E, D>; 3]) -> Result<(), D::Err> {
        let columns = last_dimension(&parts[0]);
        for (part, values) in parts.iter().zip(split(&self.values(name), columns)) {
            self.put(part, &values)?;
        }
        Ok(())
    }
}

/// One moment of every parameter, zero where there is none yet.
struct ReadMoments<'a, E> {
    moments: &'a [Moments<E>],
    moment: Moment,
    /// Of the tensor whose turn it is.
    index: usize,
}

impl<E: Element, D: Device<E>> Source<E, D> for ReadMoments<'_, E> {
    fn append<S: Shape>(&mut self, parameter: &Tensor<S, E, D>, values: &mut Vec<E>) -> Result<(), D::Err> {
        let own = self.moments.get(self.index).map(|moments| match self.moment {
            Moment::First => &moments.first,
            Moment::Second => &moments.second,
        });
        match own {
            Some(own) if !own.is_empty() => values.extend_from_slice(own),
            _ => values.resize(values.len() + parameter.shape().num_elements(), E::default()),
        }
        self.index += 1;
        Ok(())
    }
}

/// Collects the moments of a state in the model's order.
struct RestoreMoments<'a, E> {
    state: &'a TrainerState,
    moments: Vec<Moments<E>>,
}

impl<E: Element> RestoreMoments<'_, E> {
    /// Both moments of a parameter; empty where the rule keeps none.
    fn of(&self, name: &str) -> [Vec<E>; 2] {
        let values = |set: &TensorSet| set.get(name).map(elements).unwrap_or_default();
        [values(&self.state.first_moments), values(&self.state.second_moments)]
    }
}

impl<E: Element, D: Device<E>> Visitor<E, D> for RestoreMoments<'_, E> {
    type Error = Infallible;

    fn tensor<S: ConstShape>(&mut self, name: &str, _: &mut Tensor<S, E, D>) -> Result<(), Infallible> {
        let [first, second] = self.of(name);
        self.moments.push(Moments { first, second });
        Ok(())
    }

    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), Infallible> {
        let columns = last_dimension(&parts[0]);
        let [first, second] = self.of(name).map(|values| split(&values, columns));
        for (first, second) in first.into_iter().zip(second) {
            self.moments.push(Moments { first, second });
        }
        Ok(())
    }
}
