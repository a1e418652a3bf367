//! Which samples an epoch meets, and in which windows.

use super::{LAWFUL, TrainingFault, fault};
use lossproof_loop::{
    Cut, GlobalMicroBatch, LoopParts, Sampler, SeededSampler, Semantics, Settings,
    semantics::{Shards, Window},
};

pub(super) const FAULTS: &[TrainingFault] = &[
    fault(
        "fill-ups-trained-on",
        LoopParts { semantics: Semantics { shards: Shards::FilledUp, ..LAWFUL.semantics }, ..LAWFUL },
    ),
    fault(
        "last-batch-dropped",
        LoopParts {
            sampler: |settings, samples, _| Box::new(Dropping { samples, settings: *settings, whole: false }),
            ..LAWFUL
        },
    ),
    fault(
        "last-window-dropped",
        LoopParts {
            sampler: |settings, samples, _| Box::new(Dropping { samples, settings: *settings, whole: true }),
            ..LAWFUL
        },
    ),
    fault(
        "samples-with-replacement",
        LoopParts {
            sampler: |settings, samples, _| Box::new(Replacing { samples, settings: *settings }),
            ..LAWFUL
        },
    ),
    fault(
        "same-shard-on-every-rank",
        LoopParts {
            sampler: |settings, samples, _| Box::new(OneShard { samples, settings: *settings }),
            ..LAWFUL
        },
    ),
    fault(
        "window-by-configured-micro-batches",
        LoopParts {
            semantics: Semantics { window: Window::ConfiguredMicroBatches, ..LAWFUL.semantics },
            ..LAWFUL
        },
    ),
    fault(
        "step-per-micro-batch",
        LoopParts { settings: |settings| Settings { accumulate: 1, ..settings }, ..LAWFUL },
    ),
];

/// Leaves out the last batch where it is short, or the last window where it is.
struct Dropping {
    samples: usize,
    settings: Settings,
    whole: bool,
}

impl Sampler for Dropping {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        let Settings { batch, accumulate, ranks, .. } = self.settings;
        let mut micro_batches = SeededSampler::new(self.samples, &self.settings).epoch(epoch);
        if self.whole {
            micro_batches.truncate(micro_batches.len() / accumulate * accumulate);
        } else {
            let full =
                |ranks_of: &GlobalMicroBatch| ranks_of.iter().map(Vec::len).sum::<usize>() == batch * ranks;
            micro_batches.retain(full);
        }
        micro_batches
    }
}

/// Draws every sample anew, so that some come twice and some never.
struct Replacing {
    samples: usize,
    settings: Settings,
}

impl Sampler for Replacing {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        let mut micro_batches = SeededSampler::new(self.samples, &self.settings).epoch(epoch);
        for sample in micro_batches.iter_mut().flatten().flatten() {
            sample.index = (sample.index * sample.index + epoch as usize) % self.samples;
        }
        micro_batches
    }
}

/// Nobody divides the samples: every rank meets those of the first.
struct OneShard {
    samples: usize,
    settings: Settings,
}

impl Sampler for OneShard {
    fn epoch(&self, epoch: u32) -> Vec<GlobalMicroBatch> {
        let Settings { batch, ranks, .. } = self.settings;
        let one = Settings { ranks: 1, ..self.settings };
        let order = SeededSampler::new(self.samples, &one).epoch(epoch);
        let indices: Vec<usize> = order.iter().flatten().flatten().map(|sample| sample.index).collect();
        let own = Cut { batch, ranks: 1, shards: Shards::EverySampleOnce };
        let mut micro_batches = own.micro_batches(&indices);
        for micro_batch in &mut micro_batches {
            *micro_batch = vec![micro_batch[0].clone(); ranks];
        }
        micro_batches
    }
}
