//! The release's model, its loss, and the parameters of both.

use crate::failed;
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hermes_llm::{
    Config,
    model::{GPT, cross_entropy_loss},
};
use lossproof::{GradientSink, GradientView, ParameterInfo, Role, SubjectError};
use std::collections::BTreeMap;
use std::path::Path;

/// As small as shows everything.
pub(crate) fn pico() -> Config {
    Config {
        vocab_size: 20,
        max_seq_len: 8,
        hidden_size: 8,
        num_layers: 2,
        num_heads: 2,
        intermediate_size: 16,
        // Its masks are drawn without a seed.
        dropout: 0.0,
        ..Config::nano()
    }
}

/// Rows of input tokens and of labels, as the release's loader hands them over.
pub(crate) type Rows = (Tensor, Tensor);

/// Rows of one length.
pub(crate) fn rows(inputs: &[&[u32]], labels: &[&[u32]]) -> Result<Rows, SubjectError> {
    let shape = (inputs.len(), inputs.first().map_or(0, |row| row.len()));
    let tensor = |rows: &[&[u32]]| Tensor::from_vec(rows.concat(), shape, &Device::Cpu).map_err(failed);
    Ok((tensor(inputs)?, tensor(labels)?))
}

/// Gradients by the names of parameters.
pub(crate) type Gradients = BTreeMap<String, Vec<f32>>;

pub(crate) struct Model {
    pub(crate) variables: VarMap,
    gpt: GPT,
}

impl Model {
    pub(crate) fn new(config: &Config) -> Result<Self, SubjectError> {
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let gpt = GPT::new(config, builder).map_err(failed)?;
        Ok(Self { variables, gpt })
    }

    /// All parameters, in the order of their names.
    pub(crate) fn parameters(&self) -> Vec<ParameterInfo> {
        let mut infos = Vec::new();
        for (name, variable) in self.sorted() {
            let info = ParameterInfo::named(&name, variable.dims());
            let role = role(&name).unwrap_or(info.role);
            infos.push(ParameterInfo { role, block: block(&name), ..info });
        }
        infos
    }

    fn sorted(&self) -> BTreeMap<String, Tensor> {
        let variables = self.variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect()
    }

    pub(crate) fn set(&mut self, name: &str, values: &[f32]) -> Result<(), SubjectError> {
        let shape = self.sorted().get(name).map(|tensor| tensor.dims().to_vec());
        let shape = shape.ok_or_else(|| failed(format!("no parameter `{name}`")))?;
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).map_err(failed)?;
        self.variables.set_one(name, tensor).map_err(failed)
    }

    /// Another model with the same parameters.
    pub(crate) fn copy(&self, config: &Config) -> Result<Self, SubjectError> {
        let mut copy = Self::new(config)?;
        copy.take(self)?;
        Ok(copy)
    }

    /// Takes the parameters of another model.
    pub(crate) fn take(&mut self, other: &Self) -> Result<(), SubjectError> {
        let taken = other.sorted();
        taken.iter().try_for_each(|(name, tensor)| self.variables.set_one(name, tensor).map_err(failed))
    }

    pub(crate) fn hand_over(&self, name: &str, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let parameters = self.sorted();
        let tensor = parameters.get(name).ok_or_else(|| failed(format!("no parameter `{name}`")))?;
        sink.receive(name, tensor.dims(), GradientView::F32(&flat(tensor)?))?;
        Ok(())
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), SubjectError> {
        self.variables.save(path).map_err(failed)
    }

    pub(crate) fn load(&mut self, path: &Path) -> Result<(), SubjectError> {
        self.variables.load(path).map_err(failed)
    }

    /// The release's loss of one micro-batch.
    pub(crate) fn loss(&self, (inputs, labels): &Rows) -> Result<Tensor, SubjectError> {
        cross_entropy_loss(&self.gpt.forward(inputs, 0, true).map_err(failed)?, labels).map_err(failed)
    }

    /// The release's loss of each token by itself, of one row.
    pub(crate) fn token_losses(&self, (inputs, labels): &Rows) -> Result<Vec<f64>, SubjectError> {
        let logits = self.gpt.forward(inputs, 0, false).map_err(failed)?;
        let mut losses = Vec::new();
        for position in 0..labels.dim(1).map_err(failed)? {
            let one = |tensor: &Tensor| tensor.narrow(1, position, 1).map_err(failed);
            losses.push(value(&cross_entropy_loss(&one(&logits)?, &one(labels)?).map_err(failed)?)?);
        }
        Ok(losses)
    }

    /// What candle hands to the optimizer for this loss, zero where it hands nothing.
    pub(crate) fn gradients(&self, loss: &Tensor) -> Result<Gradients, SubjectError> {
        let store = loss.backward().map_err(failed)?;
        let gradient = |(name, tensor): (String, Tensor)| match store.get(&tensor) {
            Some(gradient) => Ok((name, flat(gradient)?)),
            None => Ok((name, vec![0.0; tensor.elem_count()])),
        };
        self.sorted().into_iter().map(gradient).collect()
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>, SubjectError> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(failed)
}

/// A loss as a number.
pub(crate) fn value(loss: &Tensor) -> Result<f64, SubjectError> {
    loss.to_scalar::<f32>().map(f64::from).map_err(failed)
}

/// What the release's names do in its model, where they are not Hugging Face's.
fn role(name: &str) -> Option<Role> {
    let in_block = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let role = match in_block.map_or(name, |(_, rest)| rest) {
        "embedding.weight" => Role::TokenEmbedding,
        "attention.q_proj.weight" => Role::Query,
        "attention.k_proj.weight" => Role::Key,
        "attention.q_proj.bias" => Role::QueryBias,
        "attention.k_proj.bias" => Role::KeyBias,
        "attention.v_proj.bias" => Role::ValueBias,
        "attention.o_proj.weight" | "feed_forward.down_proj.weight" => Role::BlockOutput,
        "attention.o_proj.bias" | "feed_forward.down_proj.bias" => Role::BlockOutputBias,
        _ => return None,
    };
    Some(role)
}

/// The block of a parameter.
pub(crate) fn block(name: &str) -> Option<usize> {
    name.strip_prefix("layers.")?.split_once('.')?.0.parse().ok()
}

/// What the tests of several modules begin with.
#[cfg(test)]
pub(crate) mod probe {
    use super::{Model, pico};
    use lossproof::{Collect, TensorSet};
    use lossproof_subject::probe_initial_of;

    /// A model whose parameters hide nothing.
    pub(crate) fn model() -> Model {
        let mut model = Model::new(&pico()).unwrap();
        for (name, tensor) in probe_initial_of(&model.parameters(), 1) {
            #[expect(clippy::cast_possible_truncation, reason = "these values are exact in f32")]
            let values: Vec<f32> = tensor.to_f64().into_iter().map(|value| value as f32).collect();
            model.set(&name, &values).unwrap();
        }
        model
    }

    /// All parameters of a model.
    pub(crate) fn parameters(model: &Model) -> TensorSet {
        let mut all = Collect::default();
        model.parameters().iter().for_each(|info| model.hand_over(&info.name, &mut all).unwrap());
        all.into_tensors()
    }
}
