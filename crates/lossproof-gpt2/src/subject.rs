//! The reference as a subject.

use crate::{
    Element, Gpt2, ModelShape,
    accumulate::{Accumulated, Failure},
    config::Gpt2Config,
    named::{Visitor, fuse, split},
};
use dfdx::prelude::{ConstShape, Device as DfdxDevice, Gradients, HasShape, Shape, Tensor};
use lossproof::{
    Device, GradientSink, Limits, LoadParameters, Observation, ParameterInfo, SinkError, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
};
use lossproof_spec::{Counting, GlobalBatch, LossSpec};
use std::fmt::Display;

/// Name of the reference in reports.
const NAME: &str = "reference";

/// The reference trainer for one configuration, element type and device.
pub(crate) struct Reference<K: Gpt2Config, E: Element, D: DfdxDevice<E>> {
    model: Gpt2<K, E, D>,
    initial: TensorSet,
    spec: LossSpec,
    device: Device,
}

impl<K: Gpt2Config, E: Element, D: DfdxDevice<E>> Reference<K, E, D> {
    pub(crate) fn new(dfdx: &D, device: Device, initial: TensorSet) -> Result<Self, SubjectError> {
        let model = Gpt2::zeros(dfdx).map_err(failed)?;
        let mut reference = Self { model, initial, spec: LossSpec::token_mean(), device };
        reference.reset()?;
        Ok(reference)
    }

    fn limits() -> Limits {
        let shape = ModelShape::of::<K>();
        Limits::of_model(shape.vocabulary, shape.positions)
    }

    /// Copies values into the parameters for which `values` has some.
    fn write<'a>(&mut self, values: impl FnMut(&str) -> Option<Vec<E>> + 'a) {
        crate::accumulate::never(self.model.visit(&mut Write { values }));
    }
}

fn failed(error: impl Display) -> SubjectError {
    SubjectError::Failed { subject: NAME.to_owned(), message: error.to_string() }
}

impl<K: Gpt2Config, E: Element, D: DfdxDevice<E>> Subject for Reference<K, E, D> {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            framework: "dfdx 0.13.0".to_owned(),
            dtype: E::DTYPE,
            device: self.device,
            spec: self.spec,
            limits: Self::limits(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        let info = |(name, shape): (String, _)| {
            let tied_to = (name == "wte.weight").then(|| "lm_head.weight".to_owned());
            ParameterInfo { name, shape, tied_to }
        };
        ModelShape::of::<K>().parameters().into_iter().map(info).collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        let initial = std::mem::take(&mut self.initial);
        self.write(|name| {
            let tensor = initial.get(name)?;
            Some((0..tensor.elements()).map(|index| E::round(tensor.get(index))).collect())
        });
        self.initial = initial;
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        let unsupported = |what: String| Unsupported { subject: NAME.to_owned(), what };
        if spec.counting != Counting::Supervised {
            return Err(unsupported(format!("the loss spec `{spec}`")));
        }
        spec.validate().map_err(|error| unsupported(error.to_string()))?;
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        Self::limits().check(batch)?;
        let accumulated = self.model.accumulate(batch, &self.spec).map_err(|failure| match failure {
            Failure::Empty(group) => SubjectError::EmptyGroup(group),
            Failure::Device(error) => failed(error),
        })?;
        let Accumulated { ranks, rank_factor, loss, token_losses } = accumulated;
        self.model.visit(&mut HandOver {
            ranks: &ranks,
            rank_factor,
            sink: gradients,
            buffer: Vec::new(),
        })?;
        let supervised_tokens = Some(token_losses.len());
        Ok(Observation { loss, token_losses: Some(token_losses), supervised_tokens })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }
}

impl<K: Gpt2Config, E: Element, D: DfdxDevice<E>> LoadParameters for Reference<K, E, D> {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        crate::checkpoint::check(ModelShape::of::<K>(), parameters)?;
        self.initial.clone_from(parameters);
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let shapes = ModelShape::of::<K>().parameters();
        let problem = match shapes.iter().find(|(known, _)| known == name) {
            None => "there is no such parameter: see `Subject::parameters`".to_owned(),
            Some((_, shape)) if shape.iter().product::<usize>() != values.len() => {
                format!("{} values do not fill its shape {shape:?}", values.len())
            }
            Some(_) => {
                self.write(|known| (known == name).then(|| values.iter().copied().map(E::round).collect()));
                return Ok(());
            }
        };
        Err(SubjectError::Parameter { name: name.to_owned(), problem })
    }
}

impl<K: Gpt2Config, E: Element, D: DfdxDevice<E>> TokenLosses for Reference<K, E, D> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        Self::limits().check(batch)?;
        self.model.evaluate(batch).map_err(failed)
    }
}

/// Copies values into parameters.
struct Write<F> {
    values: F,
}

impl<E: Element, D: DfdxDevice<E>, F: FnMut(&str) -> Option<Vec<E>>> Visitor<E, D> for Write<F> {
    type Error = std::convert::Infallible;

    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), Self::Error> {
        if let Some(values) = (self.values)(name) {
            tensor.copy_from(&values);
        }
        Ok(())
    }

    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), Self::Error> {
        if let Some(values) = (self.values)(name) {
            let columns = last_dimension(&parts[0]);
            for (part, values) in parts.iter_mut().zip(split(&values, columns)) {
                part.copy_from(&values);
            }
        }
        Ok(())
    }
}

/// Hands the combined gradient of all ranks to a sink, one tensor at a time.
struct HandOver<'a, E: Element, D: DfdxDevice<E>> {
    ranks: &'a [Gradients<E, D>],
    rank_factor: f64,
    sink: &'a mut dyn GradientSink,
    /// Reused from tensor to tensor: touching fresh memory costs more than copying.
    buffer: Vec<E>,
}

impl<E: Element, D: DfdxDevice<E>> HandOver<'_, E, D> {
    /// The simulated all-reduce of one tensor, appended to the buffer.
    fn reduce<S: Shape>(&mut self, tensor: &Tensor<S, E, D>) {
        let start = self.buffer.len();
        self.buffer.resize(start + tensor.shape().num_elements(), E::default());
        let sum = &mut self.buffer[start..];
        for (index, gradients) in self.ranks.iter().enumerate() {
            let own = gradients.get(tensor);
            if index == 0 {
                own.copy_into(sum);
            } else {
                for (total, own) in sum.iter_mut().zip(own.as_vec()) {
                    *total += own;
                }
            }
        }
        if self.ranks.len() > 1 {
            let factor = E::round(self.rank_factor);
            for value in sum {
                *value *= factor;
            }
        }
    }
}

impl<E: Element, D: DfdxDevice<E>> Visitor<E, D> for HandOver<'_, E, D> {
    type Error = SinkError;

    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), SinkError> {
        self.buffer.clear();
        self.reduce(tensor);
        self.sink.receive(name, &dimensions(tensor), E::view(&self.buffer))
    }

    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), SinkError> {
        let mut shape = dimensions(&parts[0]);
        let columns = last_dimension(&parts[0]);
        if let Some(last) = shape.last_mut() {
            *last *= 3;
        }
        self.buffer.clear();
        for part in parts.iter() {
            self.reduce(part);
        }
        let each = self.buffer.len() / 3;
        let values =
            fuse([&self.buffer[..each], &self.buffer[each..2 * each], &self.buffer[2 * each..]], columns);
        self.sink.receive(name, &shape, E::view(&values))
    }
}

fn dimensions<S: Shape, E: Element, D: DfdxDevice<E>>(tensor: &Tensor<S, E, D>) -> Vec<usize> {
    tensor.shape().concrete().into_iter().collect()
}

fn last_dimension<S: Shape, E: Element, D: DfdxDevice<E>>(tensor: &Tensor<S, E, D>) -> usize {
    dimensions(tensor).last().copied().unwrap_or(1)
}
