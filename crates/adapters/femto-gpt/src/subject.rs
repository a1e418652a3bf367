//! The trainer as a subject: what it says of itself, its parameters, its gradients and its token losses.

use crate::{
    Config, Head, NAME, failed,
    names::{self, Parameter},
    tap::Sample,
    trainer::{Step, Tensors, Trainer},
};
use femto_gpt::tensor::Tensor;
use lossproof_spec::{GlobalBatch, LossSpec, Sequence};
use lossproof_subject::{
    Count, GradientSink, GradientView, Limits, LoadParameters, Observation, ParameterInfo, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses,
};

pub(crate) struct FemtoGpt {
    config: Config,
    trainer: Trainer,
    parameters: Vec<Parameter>,
    /// What [`Subject::reset`] returns to.
    initial: Tensors,
}

impl FemtoGpt {
    pub(crate) fn new(config: Config, head: Head) -> Result<Self, SubjectError> {
        let mut trainer = Trainer::new(config)?;
        let parameters = names::parameters(config, head);
        let mut initial = trainer.parameters()?;
        for parameter in &parameters {
            // Where femto-gpt draws two tensors for what is to be one, both become the first.
            let values = parameter.values(&initial).ok_or_else(|| missing(&parameter.info.name))?;
            initial.extend(parameter.tensors(&values));
        }
        if let Head::Tied { bias } = head {
            initial.insert(names::HEAD_BIAS.to_owned(), Tensor::constant(&[config.vocabulary], bias));
        }
        trainer.load(initial.clone())?;
        Ok(Self { config, trainer, parameters, initial })
    }

    fn limits(&self) -> Limits {
        Limits {
            vocabulary: self.config.vocabulary,
            positions: self.config.predictions + 1,
            lengths: Count::exactly(self.config.predictions + 1),
            ignore_index: false,
            free_labels: true,
            segments: false,
            sequences: Count::ANY,
            micro_batches: Count::exactly(1),
            ranks: Count::exactly(1),
        }
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<Step, SubjectError> {
        self.limits().check(batch)?;
        self.trainer.step(batch.sequences().map(sample).collect())
    }

    fn parameter(&self, name: &str) -> Result<&Parameter, SubjectError> {
        let found = self.parameters.iter().find(|parameter| parameter.info.name == name);
        found.ok_or_else(|| refused(name, "there is no such parameter; the crate's documentation lists them"))
    }
}

fn sample(sequence: &Sequence) -> Sample {
    let index = |&token: &u32| token as usize;
    Sample {
        inputs: sequence.input_ids().iter().take(sequence.len() - 1).map(index).collect(),
        targets: sequence.targets().iter().skip(1).map(index).collect(),
    }
}

fn refused(name: &str, problem: &str) -> SubjectError {
    SubjectError::Parameter { name: name.to_owned(), problem: problem.to_owned() }
}

fn missing(name: &str) -> SubjectError {
    failed(format!("no tensor for `{name}`"))
}

#[expect(clippy::cast_possible_truncation, reason = "femto-gpt computes in f32, to which values are rounded")]
fn rounded(values: impl Iterator<Item = f64>) -> Vec<f32> {
    values.map(|value| value as f32).collect()
}

impl Subject for FemtoGpt {
    fn info(&self) -> SubjectInfo {
        SubjectInfo::of_one(NAME, "0.2.0", "femto-gpt 0.2.0", LossSpec::token_mean(), self.limits())
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.iter().map(|parameter| parameter.info.clone()).collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.trainer.load(self.initial.clone())
    }

    /// Scope, combinations and the empty policy are taken as they come: with one micro-batch of samples that are all
    /// supervised they change no weight.
    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let Step { loss, token_losses, gradient } = self.step(batch)?;
        for parameter in &self.parameters {
            let ParameterInfo { name, shape, .. } = &parameter.info;
            let values = parameter.gradient(&gradient).ok_or_else(|| missing(name))?;
            gradients.receive(name, shape, GradientView::F32(&values))?;
        }
        Ok(Observation {
            loss: f64::from(loss),
            token_losses: Some(token_losses.into_iter().map(f64::from).collect()),
            supervised_tokens: None,
        })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }
}

impl LoadParameters for FemtoGpt {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        for name in parameters.keys() {
            self.parameter(name)?;
        }
        let mut tensors: Vec<(String, Tensor<f32>)> = Vec::new();
        for parameter in &self.parameters {
            let ParameterInfo { name, shape, .. } = &parameter.info;
            let tensor = parameters.get(name).ok_or_else(|| refused(name, "is missing"))?;
            if tensor.shape() != shape {
                let problem = format!("has shape {:?}, expected {shape:?}", tensor.shape());
                return Err(refused(name, &problem));
            }
            let values = tensor.to_f64();
            if !values.iter().all(|value| value.is_finite()) {
                return Err(refused(name, "is not finite"));
            }
            tensors.extend(parameter.tensors(&rounded(values.into_iter())));
        }
        self.initial.extend(tensors);
        self.trainer.load(self.initial.clone())
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let parameter = self.parameter(name)?;
        let elements = parameter.elements();
        if values.len() != elements {
            return Err(refused(name, &format!("got {} values, expected {elements}", values.len())));
        }
        let tensors = parameter.tensors(&rounded(values.iter().copied())).collect();
        self.trainer.load(tensors)
    }
}

impl TokenLosses for FemtoGpt {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        Ok(self.step(batch)?.token_losses.into_iter().map(f64::from).collect())
    }
}
