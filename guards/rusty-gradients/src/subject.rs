//! The trainer as a subject: its card, its parameters, backward passes and steps.

use crate::{
    GptConfig, NAME, failed,
    parameters::{self, Parameter},
};
use lossproof::{
    Count, EpsilonPlacement, GlobalBatch, GradientSink, GradientView, Limits, LoadParameters, LossSpec,
    Observation, Optimizer as Declared, OptimizerSteps, ParameterInfo, Rule, Sequence, StepReport, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
};
use lossproof_subject::probe_initial_of;
use ndarray::{ArrayD, Axis, Slice};
use rusty_gradients::{
    losses::cross_entropy_loss,
    models::gpt::GPTModel,
    nn::Module,
    optim::{Adam, Optimizer, SGD},
    tensor::Tensor,
};

pub(crate) struct RustyGradients {
    config: GptConfig,
    model: GPTModel,
    parameters: Vec<Parameter>,
    /// What [`Subject::reset`] returns to.
    initial: Vec<Vec<f32>>,
    optimizer: Option<(Box<dyn Optimizer>, f64)>,
}

impl RustyGradients {
    pub(crate) fn new(config: GptConfig) -> Result<Self, SubjectError> {
        let model = GPTModel::new(config.clone());
        let parameters = parameters::named(&config, model.parameters())?;
        let infos: Vec<ParameterInfo> = parameters.iter().map(|parameter| parameter.info.clone()).collect();
        let mut new = Self { config, model, parameters, initial: Vec::new(), optimizer: None };
        new.load(&probe_initial_of(&infos, 1))?;
        Ok(new)
    }

    fn limits(&self) -> Limits {
        Limits {
            vocabulary: self.config.vocab_size,
            // The last token of a sequence is a label alone.
            positions: self.config.block_size + 1,
            lengths: Count { least: 2, most: self.config.block_size + 1 },
            ignore_index: false,
            free_labels: true,
            segments: false,
            sequences: Count::exactly(1),
            micro_batches: Count::ANY,
            ranks: Count::exactly(1),
        }
    }

    fn logits(&self, sequence: &Sequence) -> Result<Tensor, SubjectError> {
        let inputs = &sequence.input_ids()[..sequence.len() - 1];
        self.model.forward(&whole_numbers(&[1, inputs.len()], inputs)?).map_err(failed)
    }

    /// The loop's forward and backward pass over one sequence.
    fn backward(&self, sequence: &Sequence) -> Result<f64, SubjectError> {
        let labels = &sequence.targets()[1..];
        let loss = cross_entropy_loss(&self.logits(sequence)?, &whole_numbers(&[labels.len()], labels)?);
        loss.backward();
        let value = loss.data.borrow().sum();
        Ok(f64::from(value))
    }

    fn window(&self, batch: &GlobalBatch) -> Result<Observation, SubjectError> {
        self.limits().check(batch)?;
        self.zero_grad();
        let loss = batch.sequences().map(|sequence| self.backward(sequence)).sum::<Result<f64, _>>()?;
        Ok(Observation { loss, token_losses: None, supervised_tokens: None })
    }

    /// The release sets gradients to zero by any optimizer that has the parameters.
    fn zero_grad(&self) {
        SGD::new(self.model.parameters(), 0.0).zero_grad();
    }

    fn parameter(&self, name: &str) -> Result<&Parameter, SubjectError> {
        let found = self.parameters.iter().find(|parameter| parameter.info.name == name);
        found.ok_or_else(|| refused(name, "there is no such parameter"))
    }
}

/// Token ids, which the release takes as numbers in f32.
fn whole_numbers(shape: &[usize], ids: &[u32]) -> Result<Tensor, SubjectError> {
    let values = ids.iter().map(|&id| rounded(f64::from(id))).collect();
    Ok(Tensor::new(ArrayD::from_shape_vec(shape, values).map_err(failed)?, false))
}

#[expect(clippy::cast_possible_truncation, reason = "values are rounded to what it computes in")]
fn rounded(value: f64) -> f32 {
    value as f32
}

fn refused(name: &str, problem: &str) -> SubjectError {
    SubjectError::Parameter { name: name.to_owned(), problem: problem.to_owned() }
}

impl Subject for RustyGradients {
    /// The mean over each micro-batch, and micro-batches added: what several backward passes leave behind.
    fn info(&self) -> SubjectInfo {
        let claim = LossSpec::forgotten_division();
        SubjectInfo::of_one(NAME, "0.2.0", "rusty-gradients 0.2.0", claim, self.limits())
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.iter().map(|parameter| parameter.info.clone()).collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.optimizer = None;
        self.zero_grad();
        self.parameters.iter().zip(&self.initial).for_each(|(parameter, values)| parameter.set(values));
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let observation = self.window(batch)?;
        for parameter in &self.parameters {
            let ParameterInfo { name, shape, .. } = &parameter.info;
            gradients.receive(name, shape, GradientView::F32(&parameter.gradient()?))?;
        }
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }
}

impl LoadParameters for RustyGradients {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        for name in parameters.keys() {
            self.parameter(name)?;
        }
        let mut initial = Vec::new();
        for Parameter { info: ParameterInfo { name, shape, .. }, .. } in &self.parameters {
            let tensor = parameters.get(name).ok_or_else(|| refused(name, "is missing"))?;
            if tensor.shape() != shape {
                return Err(refused(name, &format!("has shape {:?}, expected {shape:?}", tensor.shape())));
            }
            let values: Vec<f32> = tensor.to_f64().into_iter().map(rounded).collect();
            if !values.iter().all(|value| value.is_finite()) {
                return Err(refused(name, "is not finite"));
            }
            initial.push(values);
        }
        self.initial = initial;
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let parameter = self.parameter(name)?;
        if values.len() != parameter.elements() {
            let problem = format!("got {} values, expected {}", values.len(), parameter.elements());
            return Err(refused(name, &problem));
        }
        let values: Vec<f32> = values.iter().copied().map(rounded).collect();
        parameter.set(&values);
        Ok(())
    }
}

impl TokenLosses for RustyGradients {
    /// The release's loss of each position by itself.
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(batch)?;
        let mut losses = Vec::new();
        for sequence in batch.sequences() {
            let logits = self.logits(sequence)?;
            let logits = logits.data.borrow();
            for (position, label) in sequence.targets().iter().skip(1).enumerate() {
                let row = logits.slice_axis(Axis(1), Slice::from(position..=position)).to_owned();
                let loss = cross_entropy_loss(&Tensor::new(row, false), &whole_numbers(&[1], &[*label])?);
                let value = loss.data.borrow().sum();
                losses.push(f64::from(value));
            }
        }
        Ok(losses)
    }
}

impl OptimizerSteps for RustyGradients {
    fn start(&mut self, declared: &Declared) -> Result<(), Unsupported> {
        self.optimizer = None;
        let rate = rounded(declared.learning_rate);
        let zero = |value: f64| value.to_bits() == 0.0_f64.to_bits();
        let plain = declared.clip.is_none() && declared.warm_up <= 1 && zero(declared.loss_scale - 1.0);
        let parameters = self.model.parameters();
        let optimizer: Option<Box<dyn Optimizer>> = match declared.rule {
            Rule::Sgd { momentum, weight_decay } if zero(momentum) && zero(weight_decay) => {
                Some(Box::new(SGD::new(parameters, rate)))
            }
            // Without decay Adam and AdamW are one.
            Rule::Adam(adam) | Rule::AdamW(adam)
                if zero(adam.weight_decay) && adam.epsilon_placement == EpsilonPlacement::AfterCorrection =>
            {
                let betas = (rounded(adam.beta_1), rounded(adam.beta_2));
                Some(Box::new(Adam::new(parameters, rate, Some(betas), Some(rounded(adam.epsilon)))))
            }
            _ => None,
        };
        let unsupported = || Unsupported::new(NAME, format!("{declared:?}"));
        let optimizer = optimizer.filter(|_| plain).ok_or_else(unsupported)?;
        self.optimizer = Some((optimizer, declared.learning_rate));
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        if self.optimizer.is_none() {
            return Err(failed("no optimizer was started"));
        }
        let observation = self.window(batch)?;
        let mut tensor_norms = Vec::new();
        for parameter in &self.parameters {
            let squares = parameter.gradient()?.into_iter().map(|element| f64::from(element).powi(2));
            tensor_norms.push(squares.sum::<f64>().sqrt());
        }
        let Some((optimizer, learning_rate)) = &mut self.optimizer else {
            return Err(failed("no optimizer was started"));
        };
        optimizer.step();
        optimizer.zero_grad();
        Ok(StepReport {
            observation,
            learning_rate: *learning_rate,
            grad_norm: tensor_norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
            tensor_norms,
            clip_factor: 1.0,
            skipped: false,
        })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        for parameter in &self.parameters {
            let ParameterInfo { name, shape, .. } = &parameter.info;
            parameters.receive(name, shape, GradientView::F32(&parameter.values()))?;
        }
        Ok(())
    }
}
