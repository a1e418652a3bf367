//! What the tests of the reference share.

use lossproof_gpt2::{Config, probe_initial, reference};
use lossproof_spec::{Dtype, GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Sequence};
use lossproof_subject::{Collect, Subject, TensorSet};

/// gpt2-pico where nothing is zero by chance.
pub(crate) fn pico(dtype: Dtype) -> Box<dyn Subject> {
    let mut subject = reference(Config::Pico, dtype, lossproof_subject::Device::Cpu).unwrap();
    subject.parameter_loading().unwrap().load(&probe_initial(Config::Pico.shape(), 3)).unwrap();
    subject
}

/// Two ranks, the first with two micro-batches; lengths, prompts and counts differ everywhere.
pub(crate) fn ragged(seed: u32) -> GlobalBatch {
    let sequence = |length: u32, prompt: u32| {
        let input_ids: Vec<u32> =
            (0..length).map(|p| (seed * 17 + p * p * 7 + length * 5 + p) % 64).collect();
        let label = |(p, &token): (u32, &u32)| if p < prompt { IGNORE_INDEX } else { i64::from(token) };
        let labels = (0..).zip(&input_ids).map(label).collect();
        Sequence::new(input_ids, labels).unwrap()
    };
    let micro_batch = |sequences| MicroBatch::new(sequences).unwrap();
    GlobalBatch::new(vec![
        Rank::new(vec![micro_batch(vec![sequence(9, 3), sequence(4, 0)]), micro_batch(vec![sequence(6, 1)])])
            .unwrap(),
        Rank::new(vec![micro_batch(vec![sequence(12, 5), sequence(2, 0), sequence(5, 5)])]).unwrap(),
    ])
    .unwrap()
}

/// The gradient under the loss spec in force, and the loss.
pub(crate) fn gradient(subject: &mut dyn Subject, batch: &GlobalBatch) -> (f64, TensorSet) {
    let mut gradient = Collect::default();
    let observation = subject.accumulate(batch, &mut gradient).unwrap();
    (observation.loss, gradient.into_tensors())
}
