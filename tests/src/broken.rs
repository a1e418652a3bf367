//! Trainers with one thing wrong: an honest subject, and what is changed on its way in or out.

use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{
    GradientSink, GradientView, LoadParameters, Observation, ParameterInfo, SinkError, Subject, SubjectError,
    SubjectInfo, Tensor, TensorSet, TensorValues, TokenLosses, Unsupported,
};

/// What is wrong with a trainer.
#[derive(Clone, Copy)]
pub enum Break {
    /// The gradient of one parameter comes out multiplied by a factor.
    ScaledGradient(&'static str, f64),
    /// One element of the gradient of one parameter is lost.
    LostElement(&'static str, usize),
    /// The gradient of one parameter is not handed over.
    MissingGradient(&'static str),
    /// One square weight is used transposed, forward and backward: the trainer is consistent with itself, and wrong.
    TransposedWeight(&'static str),
    /// Another loss spec than the declared one is computed.
    Reduction(fn(&LossSpec) -> LossSpec),
    /// The loss that is reported is the one that is optimised times a factor.
    ReportedLoss(f64),
}

/// An honest subject with one thing wrong.
pub struct Broken {
    inner: Box<dyn Subject>,
    broken: Break,
}

impl Broken {
    /// Breaks a subject.
    #[must_use]
    pub fn new(inner: Box<dyn Subject>, broken: Break) -> Self {
        Self { inner, broken }
    }

    fn incoming(&self, name: &str, values: &[f64]) -> Vec<f64> {
        match self.broken {
            Break::TransposedWeight(broken) if broken == name => transposed(values),
            _ => values.to_vec(),
        }
    }
}

fn transposed(values: &[f64]) -> Vec<f64> {
    let side = values.len().isqrt();
    (0..side).flat_map(|row| (0..side).map(move |column| values[column * side + row])).collect()
}

impl Subject for Broken {
    fn info(&self) -> SubjectInfo {
        self.inner.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.inner.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.inner.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        match self.broken {
            Break::Reduction(other) => self.inner.configure(&other(spec)),
            _ => self.inner.configure(spec),
        }
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let mut observation =
            self.inner.accumulate(batch, &mut BrokenSink { sink: gradients, broken: self.broken })?;
        if let Break::ReportedLoss(factor) = self.broken {
            observation.loss *= factor;
        }
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.inner.token_losses()
    }
}

impl LoadParameters for Broken {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        let changed = |(name, tensor): (&String, &Tensor)| {
            let values = TensorValues::F64(self.incoming(name, &tensor.to_f64()));
            let tensor = Tensor::new(tensor.shape().to_vec(), values).expect("the same number of values");
            (name.clone(), tensor)
        };
        let parameters = parameters.iter().map(changed).collect();
        self.inner.parameter_loading().expect("an honest subject loads parameters").load(&parameters)
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let values = self.incoming(name, values);
        self.inner.parameter_loading().expect("an honest subject loads parameters").set(name, &values)
    }
}

struct BrokenSink<'a> {
    sink: &'a mut dyn GradientSink,
    broken: Break,
}

impl GradientSink for BrokenSink<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let mut changed: Vec<f64> = (0..values.len()).map(|index| values.get(index)).collect();
        match self.broken {
            Break::MissingGradient(broken) if broken == name => return Ok(()),
            Break::ScaledGradient(broken, factor) if broken == name => {
                for value in &mut changed {
                    *value *= factor;
                }
            }
            Break::LostElement(broken, index) if broken == name => changed[index] = 0.0,
            Break::TransposedWeight(broken) if broken == name => changed = transposed(&changed),
            _ => return self.sink.receive(name, shape, values),
        }
        self.sink.receive(name, shape, GradientView::F64(&changed))
    }
}
