//! Named values: a gradient, or parameters.

use lossproof_numerics::vector;
use lossproof_spec::Dtype;
use lossproof_subject::{GradientSink, GradientView, SinkError};
use std::collections::BTreeMap;

/// Values of tensors in row-major order, by the tensor's name; in f64 but where a model computes with them.
#[derive(Clone, Debug)]
pub(crate) struct NamedTensors<T = f64>(BTreeMap<String, Vec<T>>);

impl<T> Default for NamedTensors<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy> NamedTensors<T> {
    /// Tensors of the same names and sizes, with these values.
    pub(crate) fn map<U>(&self, value: impl Fn(T) -> U) -> NamedTensors<U> {
        let mapped = |values: &Vec<T>| values.iter().map(|&own| value(own)).collect();
        NamedTensors(self.0.iter().map(|(name, values)| (name.clone(), mapped(values))).collect())
    }

    /// The values of one tensor; none where the model has no such tensor.
    pub(crate) fn of(&self, name: &str) -> &[T] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The values of one tensor, to be changed; none where the model has no such tensor.
    pub(crate) fn of_mut(&mut self, name: &str) -> &mut [T] {
        self.0.get_mut(name).map_or(&mut [], Vec::as_mut_slice)
    }
}

impl NamedTensors {
    /// One tensor by itself.
    pub(crate) fn single(name: &str, values: Vec<f64>) -> Self {
        Self(BTreeMap::from([(name.to_owned(), values)]))
    }

    /// Every tensor with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Every tensor with its name, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut [f64])> {
        self.0.iter_mut().map(|(name, values)| (name.as_str(), values.as_mut_slice()))
    }

    /// All values.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.0.values().flatten().copied()
    }

    /// All values, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        self.0.values_mut().flatten()
    }

    /// Adds `factor` times the others, tensor by tensor.
    pub(crate) fn add(&mut self, factor: f64, others: &Self) {
        for (name, values) in &others.0 {
            let own = self.0.entry(name.clone()).or_insert_with(|| vec![0.0; values.len()]);
            vector::add_scaled(own, factor, values);
        }
    }

    /// Takes the values of tensors that others have too, those whose names are picked.
    pub(crate) fn take_from(&mut self, others: &Self, picks: impl Fn(&str) -> bool) {
        for (name, values) in self.iter_mut().filter(|(name, _)| picks(name)) {
            values.copy_from_slice(others.of(name));
        }
    }

    /// Multiplies all values.
    pub(crate) fn scale(&mut self, factor: f64) {
        for values in self.0.values_mut() {
            vector::scale(values, factor);
        }
    }

    /// Norm over all tensors.
    pub(crate) fn norm(&self) -> f64 {
        vector::norm_of_parts(self.0.values().map(Vec::as_slice))
    }

    /// Hands one tensor to a sink in the trainer's own dtype.
    pub(crate) fn hand_over(
        &self,
        name: &str,
        shape: &[usize],
        dtype: Dtype,
        sink: &mut dyn GradientSink,
    ) -> Result<(), SinkError> {
        let values = self.of(name);
        if dtype == Dtype::F64 {
            return sink.receive(name, shape, GradientView::F64(values));
        }
        let rounded: Vec<f32> = values.iter().map(|&value| single(value)).collect();
        sink.receive(name, shape, GradientView::F32(&rounded))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the trainer's dtype is what is meant")]
fn single(value: f64) -> f32 {
    value as f32
}

/// A value as the trainer's dtype holds it.
pub(crate) fn rounded(value: f64, dtype: Dtype) -> f64 {
    if dtype == Dtype::F64 { value } else { f64::from(single(value)) }
}

impl GradientSink for NamedTensors {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let expected: usize = shape.iter().product();
        if values.len() != expected {
            let (found, expected) = (shape.to_vec(), shape.to_vec());
            return Err(SinkError::Shape { name: name.to_owned(), found, values: values.len(), expected });
        }
        let values = values.to_f64();
        match self.0.insert(name.to_owned(), values) {
            None => Ok(()),
            Some(_) => Err(SinkError::Twice { name: name.to_owned() }),
        }
    }
}
