//! The release's trainer with parameters that are put in and read by name.

use crate::{Rows, failed};
use entrenar::{
    Tensor,
    train::{CausalLMLoss, LMBatch, LossFn as _, TransformerTrainConfig, TransformerTrainer},
    transformer::{Transformer, TransformerConfig},
};
use lossproof::{MicroBatch, ParameterInfo, Sequence, SubjectError};
use std::collections::BTreeMap;

/// Values by the names of parameters.
pub(crate) type Values = BTreeMap<String, Vec<f32>>;

/// Micro-batches of a window: a setting of the release's trainer.
pub(crate) const WINDOW: usize = 2;

/// The tokens that the release fills up with, and puts behind what it fills up.
const FILL: u32 = 0;
const END: u32 = 1;

/// As small as shows everything.
pub(crate) fn pico(blocks: usize) -> TransformerConfig {
    TransformerConfig {
        hidden_size: 8,
        intermediate_size: 16,
        num_hidden_layers: blocks,
        vocab_size: 20,
        max_position_embeddings: 8,
        ..TransformerConfig::tiny()
    }
}

/// All parameters, in the release's order.
pub(crate) fn parameters(config: &TransformerConfig) -> Result<Vec<ParameterInfo>, SubjectError> {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let info = |(name, tensor): (String, &Tensor)| {
        let shape = match name.rsplit('.').nth(1).unwrap_or(&name) {
            "embed_tokens" => vec![config.vocab_size, width],
            "gate_proj" | "up_proj" => vec![inner, width],
            "down_proj" => vec![width, inner],
            "q_proj" | "k_proj" | "v_proj" | "o_proj" => vec![width, width],
            _ => vec![width],
        };
        if shape.iter().product::<usize>() != tensor.len() {
            return Err(failed(format!("`{name}` has {} elements, expected {shape:?}", tensor.len())));
        }
        let tied_to = (name == "model.embed_tokens.weight").then(|| "lm_head.weight".to_owned());
        Ok(ParameterInfo { tied_to, ..ParameterInfo::named(&name, &shape) })
    };
    Transformer::new(config).named_parameters().into_iter().map(info).collect()
}

/// A trainer with these parameters.
pub(crate) fn trainer(config: TransformerTrainConfig, values: &Values) -> TransformerTrainer {
    let mut trainer = TransformerTrainer::new(config);
    put(&mut trainer, values);
    trainer
}

pub(crate) fn put(trainer: &mut TransformerTrainer, values: &Values) {
    for (name, values) in values {
        trainer.model_mut().set_named_parameter(name, Tensor::from_vec(values.clone(), true));
    }
}

pub(crate) fn read(trainer: &TransformerTrainer) -> Values {
    let values = |(name, tensor): (String, &Tensor)| (name, tensor.data().to_vec());
    trainer.model().named_parameters().into_iter().map(values).collect()
}

/// What is in the parameters after a window, zero where nothing is.
pub(crate) fn gradients(trainer: &TransformerTrainer) -> Values {
    let gradient = |(name, tensor): (String, &Tensor)| {
        (name, tensor.grad().map_or_else(|| vec![0.0; tensor.len()], |gradient| gradient.to_vec()))
    };
    trainer.model().named_parameters().into_iter().map(gradient).collect()
}

/// One step on a window. Returns the loss that the trainer logs.
pub(crate) fn window<'a>(
    trainer: &mut TransformerTrainer,
    rows: Rows,
    micro_batches: impl Iterator<Item = &'a MicroBatch>,
) -> Result<f64, SubjectError> {
    for micro_batch in micro_batches {
        let batch = match (rows, micro_batch.sequences()) {
            (Rows::Single, [row]) => {
                LMBatch::single(row.input_ids()[..row.len() - 1].to_vec(), row.targets()[1..].to_vec())
            }
            (_, rows) => {
                let rows: Vec<_> = rows.iter().map(|row| row.input_ids().to_vec()).collect();
                LMBatch::from_sequences(&rows, FILL, END)
            }
        };
        trainer.train_batch(&batch);
    }
    let logged = trainer.metrics.losses.last().copied();
    logged.map(f64::from).ok_or_else(|| failed("no step was taken"))
}

/// The release's loss of each token by itself.
pub(crate) fn token_losses(trainer: &TransformerTrainer, sequence: &Sequence) -> Vec<f64> {
    let (inputs, labels) = (&sequence.input_ids()[..sequence.len() - 1], &sequence.targets()[1..]);
    let (_, _, logits) = trainer.forward_single(inputs, labels);
    let loss = CausalLMLoss::new(logits.len() / labels.len());
    let of_token = |(row, &label): (&[f32], &u32)| {
        let label = Tensor::from_vec(vec![label as f32], false);
        f64::from(loss.forward(&Tensor::from_vec(row.to_vec(), false), &label).data()[0])
    };
    let logits = logits.data().to_vec();
    logits.chunks_exact(logits.len() / labels.len()).zip(labels).map(of_token).collect()
}
