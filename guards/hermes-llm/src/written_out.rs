//! The lines of the release's `Trainer::train_epoch_distributed` between two steps, for windows of any rows.

use crate::{
    failed,
    model::{Model, Rows, value},
};
use candle_core::Tensor;
use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW};
use hermes_llm::config::TrainingConfig;
use lossproof::SubjectError;

/// What the loop has computed when it comes to a step.
pub(crate) struct Window {
    /// The loss that is logged.
    pub(crate) logged: f64,
    /// The loss that is differentiated.
    pub(crate) last: Tensor,
}

/// The loop up to a step: every micro-batch is run forward.
pub(crate) fn forward(model: &Model, micro_batches: &[Rows]) -> Result<Window, SubjectError> {
    let mut accumulated_loss = 0.0;
    let mut last = None;
    for rows in micro_batches {
        let loss = model.loss(rows)?;
        accumulated_loss += value(&loss)?;
        last = Some(loss);
    }
    let last = last.ok_or_else(|| failed("a window without a micro-batch"))?;
    Ok(Window { logged: accumulated_loss / micro_batches.len() as f64, last })
}

/// The loop's optimizer and what it does to the parameters after each of its steps.
pub(crate) struct WrittenOut {
    optimizer: AdamW,
    grad_clip: f64,
}

impl WrittenOut {
    pub(crate) fn new(training: &TrainingConfig, model: &Model) -> Result<Self, SubjectError> {
        let params = ParamsAdamW {
            lr: training.learning_rate,
            beta1: training.beta1,
            beta2: training.beta2,
            weight_decay: training.weight_decay,
            eps: 1e-8,
        };
        let optimizer = AdamW::new(model.variables.all_vars(), params).map_err(failed)?;
        Ok(Self { optimizer, grad_clip: training.grad_clip })
    }

    /// The loop at a step.
    pub(crate) fn step(&mut self, model: &Model, loss: &Tensor) -> Result<(), SubjectError> {
        self.optimizer.backward_step(loss).map_err(failed)?;
        if self.grad_clip > 0.0 {
            self.clip(model).map_err(failed)?;
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "as the release does")]
    fn clip(&self, model: &Model) -> candle_core::Result<()> {
        for var in model.variables.all_vars() {
            let grad = var.as_tensor();
            let norm = grad.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
            if norm > self.grad_clip as f32 {
                let scale = self.grad_clip as f32 / norm;
                let _ = var.set(&grad.affine(f64::from(scale), 0.0)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            pico,
            probe::{model, parameters},
            rows,
        },
        shipped::Shipped,
    };

    const TEXT: [u32; 17] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2];
    const ROW: usize = 5;

    /// The micro-batches that the release's loader cuts out of the text.
    fn cut(batch: usize) -> Vec<Rows> {
        let places: Vec<usize> = (0..TEXT.len() - ROW).collect();
        let micro_batch = |places: &[usize]| {
            let inputs: Vec<&[u32]> = places.iter().map(|&place| &TEXT[place..][..ROW]).collect();
            let labels: Vec<&[u32]> = places.iter().map(|&place| &TEXT[place + 1..][..ROW]).collect();
            rows(&inputs, &labels).unwrap()
        };
        places.chunks_exact(batch).map(micro_batch).collect()
    }

    #[test]
    fn the_written_out_loop_leaves_the_parameters_of_the_released_one_to_the_bit() {
        for (micro_batches, batch) in [(1, 1), (1, 3), (2, 1), (3, 2), (4, 3)] {
            for grad_clip in [0.0, 0.5] {
                let training = TrainingConfig {
                    gradient_accumulation_steps: micro_batches,
                    grad_clip,
                    learning_rate: 0.0625,
                    ..TrainingConfig::default()
                };
                let own = model();
                let mut written_out = WrittenOut::new(&training, &own).unwrap();
                let mut total = 0.0;
                let (batches, mut steps) = (cut(batch), 0);
                for window in batches.chunks_exact(micro_batches) {
                    let Window { logged, last } = forward(&own, window).unwrap();
                    written_out.step(&own, &last).unwrap();
                    total += logged;
                    steps += 1;
                }
                let mut released = model();
                let mut shipped = Shipped::new(&pico(), training, &released, 0).unwrap();
                let loss = shipped.epoch(&mut released, &TEXT, ROW, batch).unwrap();
                let start = parameters(&model());
                assert!(steps > 0 && parameters(&own) != start);
                assert_eq!(
                    parameters(&own),
                    parameters(&released),
                    "{micro_batches} of {batch}, {grad_clip}"
                );
                assert_eq!((total / f64::from(steps)).to_bits(), loss.to_bits());
            }
        }
    }
}
