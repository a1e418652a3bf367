//! Bugs that need ranks which are really apart: each is our loop with one part replaced, on every rank or on one.
//!
//! Where all ranks are one gradient in one process there is no reduction to come too early, and no parameters to part.

use super::{
    LAWFUL,
    between::{Between, TrainerHooks},
    between_ranks::{BetweenRanks, RanksHooks},
};
use lossproof_diagnosis::Bug;
use lossproof_loop::{Gathered, LoopParts, LoopSubject, Ranks, added};
use lossproof_spec::LossSpec;
use lossproof_subject::{
    GradientSink, LoopTrainer, Sample, SamplePlace, SubjectError, TensorSet, TrainingBatch, Unsupported,
    gradient_of, state_of,
};
use std::fmt;

/// A bug of ranks that are apart, and a loop that has it.
#[derive(Clone, Copy)]
pub struct RankFault {
    /// The bug.
    pub bug: &'static Bug,
    parts: LoopParts,
    hooks: RanksHooks,
}

const TRAINER: TrainerHooks = TrainerHooks::IDENTITY;
const RANKS: RanksHooks = RanksHooks::IDENTITY;

const fn fault(id: &str, parts: LoopParts, hooks: RanksHooks) -> RankFault {
    RankFault { bug: Bug::of_ranks_named(id), parts, hooks }
}

/// The parts of a loop with hooks on its trainer.
macro_rules! around {
    ($hooks:expr) => {{
        const HOOKS: TrainerHooks = $hooks;
        LoopParts { around: Some(|inner, settings| Box::new(Between::new(inner, settings, HOOKS))), ..LAWFUL }
    }};
}

/// The rank that a bug of one rank is on.
const WRONG: usize = 1;

const FAULTS: &[RankFault] = &[
    fault(
        "rank-with-fewer-windows",
        LAWFUL,
        RanksHooks {
            gather: |own, what, here| {
                // Without samples it takes the epoch for ended, and validates.
                let idle = here.first().is_none_or(|counts| counts.iter().all(|&count| count <= 0.0));
                let what = if what == Gathered::Tokens && idle { Gathered::Validation } else { what };
                own.inner.gather(what, here)
            },
            ..RANKS
        },
    ),
    fault(
        "idle-rank-skips-reduction",
        LAWFUL,
        RanksHooks {
            gather: |own, what, here| {
                if what == Gathered::Tokens {
                    own.idle = here.first().is_none_or(|counts| counts.iter().all(|&count| count <= 0.0));
                }
                own.inner.gather(what, here)
            },
            reduce: |own, trainer| if own.idle { Ok(()) } else { own.inner.reduce(trainer) },
            ..RANKS
        },
    ),
    fault(
        "reduced-before-last-micro-batch",
        around!(TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                own.kept = gradient_of(own.inner)?;
                own.inner.backward(batch, loss, factor, dropout)
            },
            read: |own, sink| {
                if own.kept.is_empty() {
                    return own.inner.read_gradient(sink);
                }
                hand_over(&own.kept, sink)
            },
            write: |own, reduced| {
                let kept = std::mem::take(&mut own.kept);
                if kept.is_empty() {
                    return own.inner.write_gradient(reduced);
                }
                let after = added(gradient_of(own.inner)?, times(kept, -1.0));
                own.inner.write_gradient(&added(reduced.clone(), after))
            },
            ..TRAINER
        }),
        UNWATCHED,
    ),
    fault(
        "clipped-before-reduction",
        around!(TrainerHooks {
            read: |own, sink| {
                let norms = own.inner.gradient_norms()?;
                let factor =
                    own.settings.clip.map_or(1.0, |clip| clip.factor(lossproof_numerics::norm(&norms)));
                hand_over(&times(gradient_of(own.inner)?, factor), sink)
            },
            update: |own, learning_rate, _| own.inner.update(learning_rate, 1.0),
            ..TRAINER
        }),
        RANKS,
    ),
    fault(
        "norm-of-one-rank-logged",
        around!(TrainerHooks {
            read: |own, sink| {
                own.norms = own.inner.gradient_norms()?;
                own.inner.read_gradient(sink)
            },
            norms: |own| Ok(own.norms.clone()),
            update: |own, learning_rate, _| {
                let norm = lossproof_numerics::norm(&own.inner.gradient_norms()?);
                let factor = own.settings.clip.map_or(1.0, |clip| clip.factor(norm));
                own.inner.update(learning_rate, factor)
            },
            ..TRAINER
        }),
        RANKS,
    ),
    fault(
        "parameters-averaged",
        LAWFUL,
        RanksHooks {
            reduce: |own, trainer| {
                // Its own gradient, as large as if all ranks had it.
                let ranks = own.inner.most().unwrap_or(1) as f64;
                let alone = times(gradient_of(trainer)?, ranks);
                trainer.write_gradient(&alone)?;
                Ok(())
            },
            updated: |own, trainer| {
                let mut state = state_of(trainer)?;
                let ranks = own.inner.most().unwrap_or(1) as f64;
                trainer.write_gradient(&state.parameters)?;
                own.inner.reduce(trainer)?;
                state.parameters = times(gradient_of(trainer)?, 1.0 / ranks);
                trainer.restore(&state)?;
                Ok(())
            },
            ..RANKS
        },
    ),
    fault(
        "parameters-part",
        LAWFUL,
        RanksHooks {
            reduce: |own, trainer| {
                let alone = gradient_of(trainer)?;
                own.inner.reduce(trainer)?;
                if own.rank == WRONG {
                    trainer.write_gradient(&alone)?;
                }
                Ok(())
            },
            ..UNWATCHED
        },
    ),
    fault(
        "one-mask-on-all-ranks",
        around!(TrainerHooks {
            backward: |own, batch, loss, factor, dropout| {
                // As from a generator that has one seed on every rank, and moves on with each pass.
                let pass = u32::try_from(own.passes & 0xFFFF).unwrap_or_default() << 16;
                let batch = placed(batch, |row, place| SamplePlace { sample: pass | row, ..place });
                own.inner.backward(&batch?, loss, factor, dropout)
            },
            ..TRAINER
        }),
        RANKS,
    ),
    fault(
        "ranks-filled-up-in-validation",
        around!(TrainerHooks {
            losses: |own, batch| {
                let losses = own.inner.supervised_losses(batch)?;
                let samples = batch.places().len().max(1);
                let short = own.settings.evaluation_batch.saturating_sub(samples);
                let again = losses.len() * short / samples;
                Ok(losses.iter().copied().chain(losses.iter().copied().cycle().take(again)).collect())
            },
            ..TRAINER
        }),
        RANKS,
    ),
];

/// Nobody looks whether ranks still have the same parameters.
const UNWATCHED: RanksHooks = RanksHooks { updated: |_, _| Ok(()), ..RANKS };

impl RankFault {
    /// Every fault.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAULTS.iter()
    }

    /// The fault of the bug with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|fault| fault.bug.id == id)
    }

    /// This trainer under a loop with the fault, in the process of a rank.
    ///
    /// # Errors
    /// When the trainer does not have the semantics that is claimed.
    pub fn inject(
        &self,
        trainer: Box<dyn LoopTrainer>,
        claim: LossSpec,
        ranks: Box<dyn Ranks>,
        rank: usize,
    ) -> Result<LoopSubject, Unsupported> {
        let ranks = Box::new(BetweenRanks { inner: ranks, rank, hooks: self.hooks, idle: false });
        LoopSubject::over(trainer, claim, self.parts, ranks)
    }
}

impl fmt::Debug for RankFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankFault").field("bug", &self.bug).finish_non_exhaustive()
    }
}

fn hand_over(gradient: &TensorSet, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
    for (name, tensor) in gradient {
        sink.receive(name, tensor.shape(), tensor.values().into())?;
    }
    Ok(())
}

fn times(tensors: TensorSet, factor: f64) -> TensorSet {
    tensors.into_iter().map(|(name, tensor)| (name, super::updates::scaled(&tensor, factor))).collect()
}

/// A batch whose rows stand elsewhere.
fn placed(
    batch: &TrainingBatch,
    place: impl Fn(u32, SamplePlace) -> SamplePlace,
) -> Result<TrainingBatch, SubjectError> {
    let rows = batch.micro_batch().sequences().iter().zip(batch.places()).zip(batch.prefixes());
    let rows = (0..).zip(rows).map(|(row, ((sequence, own), &prefix))| Sample {
        sequence: sequence.clone(),
        place: place(row, *own),
        prefix,
    });
    TrainingBatch::new(rows).map_err(|error| SubjectError::failed("fault", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_of_ranks_is_one_fault() {
        let faults: Vec<_> = RankFault::all().map(|fault| fault.bug.id).collect();
        assert_eq!(faults, Bug::of_ranks().map(|bug| bug.id).collect::<Vec<_>>());
    }
}
