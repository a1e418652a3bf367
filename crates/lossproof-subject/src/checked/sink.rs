//! A sink that looks at every tensor before it passes it on.

use crate::{Breach, Call, GradientSink, GradientView, ParameterInfo, SinkError};
use lossproof_spec::Dtype;

/// Holds tensors to the declared parameters: names, order, shapes, each once, element type, finiteness.
pub(super) struct CheckedSink<'a> {
    inner: &'a mut dyn GradientSink,
    call: Call,
    parameters: &'a [ParameterInfo],
    /// The element type of a parameter that has none of its own.
    dtype: Dtype,
    /// Whether every value must be finite.
    finite: bool,
    /// Whether values that must be finite and are not are refused.
    withholds: bool,
    received: Vec<bool>,
    /// The parameter whose turn it is.
    next: usize,
    out_of_order: Option<Breach>,
    breach: Option<Breach>,
    not_finite: Option<Breach>,
}

impl<'a> CheckedSink<'a> {
    pub(super) fn new(
        inner: &'a mut dyn GradientSink,
        call: Call,
        parameters: &'a [ParameterInfo],
        dtype: Dtype,
        finite: bool,
        withholds: bool,
    ) -> Self {
        Self {
            inner,
            call,
            parameters,
            dtype,
            finite,
            withholds,
            received: vec![false; parameters.len()],
            next: 0,
            out_of_order: None,
            breach: None,
            not_finite: None,
        }
    }

    /// The first breach, after a call that `succeeded` (only then every parameter must have come), and the
    /// first value that must be finite and is not.
    pub(super) fn finish(self, succeeded: bool) -> (Option<Breach>, Option<Breach>) {
        let missing = || {
            let index = self.received.iter().position(|received| !received)?;
            let name = self.parameters[index].name.clone();
            Some(Breach::MissingTensor { call: self.call, name })
        };
        let missing = if succeeded { missing() } else { None };
        (self.breach.or(missing).or(self.out_of_order), self.not_finite)
    }

    fn look(&mut self, name: &str, shape: &[usize], values: &GradientView<'_>) -> Result<(), Breach> {
        let (call, named) = (self.call, || name.to_owned());
        let index = self.parameters.iter().position(|parameter| parameter.name == name);
        let index = index.ok_or_else(|| Breach::UnknownTensor { call, name: named() })?;
        if self.received[index] {
            return Err(Breach::RepeatedTensor { call, name: named() });
        }
        self.received[index] = true;
        if index != self.next && self.out_of_order.is_none() {
            let expected = self.parameters.get(self.next).map_or_else(String::new, |p| p.name.clone());
            self.out_of_order = Some(Breach::TensorOrder { call, name: named(), expected });
        }
        self.next = index + 1;
        let declared = &self.parameters[index].shape;
        if shape != declared.as_slice() {
            let (found, expected) = (shape.to_vec(), declared.clone());
            return Err(Breach::TensorShape { call, name: named(), found, expected });
        }
        let elements = declared.iter().product();
        if values.len() != elements {
            let found = values.len();
            return Err(Breach::TensorValues { call, name: named(), found, expected: elements });
        }
        let (found, finite) = match values {
            GradientView::F64(values) => (Dtype::F64, !self.finite || values.iter().all(|v| v.is_finite())),
            GradientView::F32(values) => (Dtype::F32, !self.finite || values.iter().all(|v| v.is_finite())),
        };
        // Half precision is handed over widened to single.
        let expected = self.parameters[index].dtype.unwrap_or(self.dtype);
        if (found == Dtype::F64) != (expected == Dtype::F64) {
            return Err(Breach::TensorDtype { call, name: named(), found, expected });
        }
        if !finite {
            self.not_finite.get_or_insert(Breach::NotFinite { call, what: format!("a value of `{name}`") });
        }
        Ok(())
    }
}

impl GradientSink for CheckedSink<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        if let Err(breach) = self.look(name, shape, &values) {
            self.breach.get_or_insert(breach);
            return Err(SinkError::Unknown { name: name.to_owned() });
        }
        if self.withholds && self.not_finite.is_some() {
            return Err(SinkError::Unknown { name: name.to_owned() });
        }
        self.inner.receive(name, shape, values)
    }
}
