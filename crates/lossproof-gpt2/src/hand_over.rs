//! Tensors on their way out: to a sink, one at a time, under Hugging Face's names.

use crate::{
    Element,
    accumulate::Accumulated,
    failure::failed,
    kernels::Kernels,
    named::{Visitor, fuse},
};
use dfdx::prelude::{ConstShape, Device, HasShape, Shape, Tensor};
use lossproof_subject::{GradientSink, SubjectError};

/// Where the values that belong to a parameter come from.
pub(crate) trait Source<E: Element, D: Device<E>> {
    /// Appends the values that belong to this parameter, row-major.
    ///
    /// # Errors
    /// When the device fails.
    fn append<S: Shape>(&mut self, parameter: &Tensor<S, E, D>, values: &mut Vec<E>) -> Result<(), D::Err>;
}

/// The parameters themselves.
pub(crate) struct Parameters;

impl<E: Element, D: Device<E>> Source<E, D> for Parameters {
    fn append<S: Shape>(&mut self, parameter: &Tensor<S, E, D>, values: &mut Vec<E>) -> Result<(), D::Err> {
        let start = values.len();
        values.resize(start + parameter.shape().num_elements(), E::default());
        parameter.copy_into(&mut values[start..]);
        Ok(())
    }
}

/// The simulated all-reduce, then the undoing of the loss scale.
impl<E: Element, D: Kernels<E>> Source<E, D> for Accumulated<E, D> {
    fn append<S: Shape>(&mut self, parameter: &Tensor<S, E, D>, values: &mut Vec<E>) -> Result<(), D::Err> {
        let start = values.len();
        for gradients in &mut self.ranks {
            D::with_gradient(gradients, parameter, |own| {
                if values.len() == start {
                    values.extend_from_slice(own);
                } else {
                    for (total, &own) in values[start..].iter_mut().zip(own) {
                        *total += own;
                    }
                }
            })?;
        }
        for divisor in [self.averaged_over as f64, self.loss_scale].map(E::round) {
            if divisor != E::ONE {
                for value in &mut values[start..] {
                    *value /= divisor;
                }
            }
        }
        Ok(())
    }
}

/// Hands what a source has for every parameter to a sink.
pub(crate) struct HandOver<'a, E, V> {
    source: &'a mut V,
    sink: &'a mut dyn GradientSink,
    /// Reused from tensor to tensor: touching fresh memory costs more than copying.
    buffer: Vec<E>,
}

impl<'a, E, V> HandOver<'a, E, V> {
    pub(crate) fn new(source: &'a mut V, sink: &'a mut dyn GradientSink) -> Self {
        Self { source, sink, buffer: Vec::new() }
    }
}

impl<E: Element, D: Device<E>, V: Source<E, D>> Visitor<E, D> for HandOver<'_, E, V> {
    type Error = SubjectError;

    fn tensor<S: ConstShape>(
        &mut self,
        name: &str,
        tensor: &mut Tensor<S, E, D>,
    ) -> Result<(), SubjectError> {
        self.buffer.clear();
        self.source.append(tensor, &mut self.buffer).map_err(failed)?;
        Ok(self.sink.receive(name, &dimensions(tensor), E::view(&self.buffer))?)
    }

    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), SubjectError> {
        let mut shape = dimensions(&parts[0]);
        let columns = last_dimension(&parts[0]);
        if let Some(last) = shape.last_mut() {
            *last *= 3;
        }
        self.buffer.clear();
        for part in parts.iter() {
            self.source.append(part, &mut self.buffer).map_err(failed)?;
        }
        let each = self.buffer.len() / 3;
        let values =
            fuse([&self.buffer[..each], &self.buffer[each..2 * each], &self.buffer[2 * each..]], columns);
        Ok(self.sink.receive(name, &shape, E::view(&values))?)
    }
}

fn dimensions<S: Shape, E: Element, D: Device<E>>(tensor: &Tensor<S, E, D>) -> Vec<usize> {
    tensor.shape().concrete().into_iter().collect()
}

pub(crate) fn last_dimension<S: Shape, E: Element, D: Device<E>>(tensor: &Tensor<S, E, D>) -> usize {
    dimensions(tensor).last().copied().unwrap_or(1)
}
