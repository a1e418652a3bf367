//! How many updates a run has, and at which learning rate each.

use crate::{Length, Settings, semantics::Clock};

/// The numbers of a run that follow from its settings and the number of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Micro-batches of an epoch on one rank, `L`.
    pub micro_batches: usize,
    /// Updates of an epoch, `⌈L/K⌉`: the last window may be a partial one.
    pub updates_per_epoch: u64,
    /// Updates of the run.
    pub updates: u64,
    /// Epochs of the run, the last of which may be cut short.
    pub epochs: u32,
    /// Ticks of warm-up of the schedule.
    pub warm_up_ticks: u64,
    /// Ticks of the whole schedule.
    pub ticks: u64,
}

impl Plan {
    /// The plan of a run over so many samples.
    #[must_use]
    pub fn new(samples: usize, settings: &Settings) -> Self {
        let (batch, ranks, window) =
            (settings.batch.max(1), settings.ranks.max(1), settings.accumulate.max(1));
        let micro_batches = samples.div_ceil(batch * ranks);
        let updates_per_epoch = count(micro_batches.div_ceil(window)).max(1);
        let (epochs, updates) = match settings.length {
            Length::Epochs(epochs) => (epochs, u64::from(epochs) * updates_per_epoch),
            Length::Updates(updates) => (epochs_of(updates, updates_per_epoch), updates),
        };
        let (warm_up_ticks, ticks) = match settings.semantics.clock {
            Clock::PerUpdate => (settings.warm_up, updates),
            Clock::PerRank => {
                // As the script counts: before the batches are spread over ranks.
                let unsharded = count(samples.div_ceil(batch).div_ceil(window));
                let ticks = match settings.length {
                    Length::Epochs(epochs) => u64::from(epochs) * unsharded,
                    Length::Updates(updates) => updates * count(ranks),
                };
                (settings.warm_up * count(ranks), ticks)
            }
        };
        Self { micro_batches, updates_per_epoch, updates, epochs, warm_up_ticks, ticks }
    }

    /// The learning rate of an update, counted from 0.
    #[must_use]
    pub fn learning_rate(&self, update: u64, settings: &Settings) -> f64 {
        let rate =
            |tick| settings.schedule.rate(settings.learning_rate, tick, self.warm_up_ticks, self.ticks);
        match settings.semantics.clock {
            // One tick ahead of the script, so that the first update has a rate and the last of the warm-up the whole
            // one, also where the run ends with it.
            Clock::PerUpdate if update < self.warm_up_ticks => {
                settings.learning_rate * ((update + 1) as f64 / self.warm_up_ticks as f64)
            }
            Clock::PerUpdate => rate(update),
            Clock::PerRank => rate(update * count(settings.ranks)),
        }
    }
}

fn epochs_of(updates: u64, per_epoch: u64) -> u32 {
    u32::try_from(updates.div_ceil(per_epoch)).unwrap_or(u32::MAX)
}

/// Where a script goes on that counts every window as long as it is configured: `step_N` means `N·K` micro-batches.
pub(crate) fn configured_windows(updates: u64, settings: &Settings, plan: &Plan) -> (u32, usize) {
    let micro_batches = count(plan.micro_batches).max(1);
    let trained = updates * count(settings.accumulate);
    let epoch = u32::try_from(trained / micro_batches).unwrap_or(u32::MAX);
    (epoch, usize::try_from(trained % micro_batches).unwrap_or(usize::MAX))
}

/// A count that was gathered as a number. What is none counts as nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count is no larger than 2^52")]
pub(crate) fn whole(number: f64) -> usize {
    number as usize
}

pub(crate) fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
