//! The release's list of parameters under names, with roles.

use crate::{GptConfig, failed};
use lossproof::{ParameterInfo, Role, SubjectError};
use ndarray::ArrayD;
use rusty_gradients::tensor::Tensor;

/// One parameter of the release.
pub(crate) struct Parameter {
    pub(crate) info: ParameterInfo,
    tensor: Tensor,
    /// Whether rows here are columns there.
    transposed: bool,
}

impl Parameter {
    /// Of the shape that is declared, whose dimensions of one the release keeps.
    fn new(info: ParameterInfo, tensor: Tensor) -> Result<Self, SubjectError> {
        let transposed = info.role == Role::Head;
        let mut own = tensor.data.borrow().shape().to_vec();
        if info.shape.len() == 1 && own.first() == Some(&1) {
            own.remove(0);
        }
        if transposed {
            own.reverse();
        }
        if own != info.shape {
            return Err(failed(format!("`{}` has the shape {own:?}", info.name)));
        }
        Ok(Self { info, tensor, transposed })
    }

    /// Row-major, as the laws see it.
    fn seen(&self, values: &ArrayD<f32>) -> Vec<f32> {
        if self.transposed { values.t().iter().copied().collect() } else { values.iter().copied().collect() }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        self.seen(&self.tensor.data.borrow())
    }

    /// What backward passes have left in it.
    pub(crate) fn gradient(&self) -> Result<Vec<f32>, SubjectError> {
        let gradient = self.tensor.grad.as_ref();
        let gradient = gradient.ok_or_else(|| failed(format!("no gradient for `{}`", self.info.name)))?;
        Ok(self.seen(&gradient.borrow()))
    }

    pub(crate) fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }

    pub(crate) fn set(&self, values: &[f32]) {
        let mut own = self.tensor.data.borrow_mut();
        let place = |(own, &value): (&mut f32, &f32)| *own = value;
        if self.transposed {
            own.view_mut().reversed_axes().iter_mut().zip(values).for_each(place);
        } else {
            own.iter_mut().zip(values).for_each(place);
        }
    }
}

/// All parameters in the order of the release's `GPTModel::parameters`.
pub(crate) fn named(config: &GptConfig, tensors: Vec<Tensor>) -> Result<Vec<Parameter>, SubjectError> {
    let (v, c) = (config.vocab_size, config.embedding_dim);
    let mut list = vec![
        info("token_embedding", &[v, c], Role::TokenEmbedding, None),
        info("position_embedding", &[config.block_size, c], Role::PositionEmbedding, None),
    ];
    for block in 0..config.num_layers {
        let mut add = |name: &str, shape: &[usize], role| {
            list.push(info(&format!("blocks.{block}.{name}"), shape, role, Some(block)));
        };
        for (name, weights, bias) in [
            ("attention.w_q", Role::Query, Role::QueryBias),
            ("attention.w_k", Role::Key, Role::KeyBias),
            ("attention.w_v", Role::Weight, Role::ValueBias),
            ("attention.w_o", Role::BlockOutput, Role::BlockOutputBias),
        ] {
            add(&format!("{name}.weights"), &[c, c], weights);
            add(&format!("{name}.bias"), &[c], bias);
        }
        add("norm1.gamma", &[c], Role::NormGain);
        add("norm1.beta", &[c], Role::NormBias);
        add("feed_forward.linear1.weights", &[c, 4 * c], Role::Weight);
        add("feed_forward.linear1.bias", &[4 * c], Role::Bias);
        add("feed_forward.linear2.weights", &[4 * c, c], Role::BlockOutput);
        add("feed_forward.linear2.bias", &[c], Role::BlockOutputBias);
        add("norm2.gamma", &[c], Role::NormGain);
        add("norm2.beta", &[c], Role::NormBias);
    }
    list.push(info("final_ln.gamma", &[c], Role::FinalNormGain, None));
    list.push(info("final_ln.beta", &[c], Role::FinalNormBias, None));
    list.push(info("output_head.weights", &[v, c], Role::Head, None));
    list.push(info("output_head.bias", &[v], Role::HeadBias, None));
    if list.len() != tensors.len() {
        return Err(failed(format!("the model has {} parameters, not {}", tensors.len(), list.len())));
    }
    list.into_iter().zip(tensors).map(|(info, tensor)| Parameter::new(info, tensor)).collect()
}

fn info(name: &str, shape: &[usize], role: Role, block: Option<usize>) -> ParameterInfo {
    ParameterInfo { role, block, ..ParameterInfo::named(name, shape) }
}
