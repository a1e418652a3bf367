//! Forward and backward over ranks and micro-batches: gradient accumulation and simulated data parallelism.

use crate::{
    Element, Gpt2,
    config::Gpt2Config,
    kernels::{Kernels, Modified},
    loss::{Counts, Picked, reduce},
    named::Visitor,
    rows::Rows,
};
use dfdx::{nn::ZeroGrads, prelude::*};
use lossproof_spec::{
    Combine, EmptyGroup, EmptyPolicy, GlobalBatch, Group, LossSpec, MicroBatch, Rank, Reduction, Scope,
    Sequence,
};
use lossproof_subject::{Observation, RankPlace, Totals};
use std::convert::Infallible;

/// One optimizer step's worth of gradients, before ranks are combined.
pub(crate) struct Accumulated<E: Element, D: Device<E>> {
    /// The gradient each rank accumulated over its micro-batches.
    pub(crate) ranks: Vec<Gradients<E, D>>,
    /// What the all-reduce divides the sum of the ranks' gradients by.
    pub(crate) averaged_over: usize,
    /// What the loss was multiplied with before the backward pass.
    pub(crate) loss_scale: f64,
}

/// What one rank has after its last micro-batch.
struct OfRank<E: Element, D: Device<E>> {
    gradients: Gradients<E, D>,
    observation: Observation,
}

/// The step that a rank is part of.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) spec: &'a LossSpec,
    pub(crate) totals: &'a Totals,
    /// What the loss is multiplied with before each backward pass.
    pub(crate) loss_scale: f64,
}

/// Why a step could not be accumulated.
pub(crate) enum Failure<F> {
    Empty(EmptyGroup),
    Device(F),
}

impl<F> From<F> for Failure<F> {
    fn from(error: F) -> Self {
        Self::Device(error)
    }
}

pub(crate) fn supervised(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(Sequence::supervised).sum()
}

fn counts(totals: &Totals, policy: EmptyPolicy) -> Counts {
    Counts { tokens: totals.tokens, sequences: totals.counted_sequences(policy) }
}

impl<E: Element, D: Device<E>> Accumulated<E, D> {
    /// A gradient that is nobody's share.
    pub(crate) fn of_one(gradients: Gradients<E, D>) -> Self {
        Self { ranks: vec![gradients], averaged_over: 1, loss_scale: 1.0 }
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// The gradient of one optimizer step, rank after rank, the loss multiplied by `loss_scale` before each backward
    /// pass.
    pub(crate) fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        spec: &LossSpec,
        loss_scale: f64,
    ) -> Result<(Accumulated<E, D>, Observation), Failure<D::Err>> {
        let totals = Totals::of(batch);
        let step = Step { spec, totals: &totals, loss_scale };
        let (mut ranks, mut shares) = (Vec::new(), Vec::new());
        let mut place = RankPlace::default();
        for rank in batch.ranks() {
            let own = self.of_rank(rank, place, step)?;
            ranks.push(own.gradients);
            shares.push(own.observation);
            place = place.after(rank);
        }
        let averaged_over = totals.averaged_over(spec);
        Ok((Accumulated { ranks, averaged_over, loss_scale }, totals.combined(spec, shares)))
    }

    /// What one rank contributes to a step: its gradient before the all-reduce.
    pub(crate) fn share(
        &mut self,
        rank: &Rank,
        place: RankPlace,
        step: Step<'_>,
    ) -> Result<(Accumulated<E, D>, Observation), Failure<D::Err>> {
        let own = self.of_rank(rank, place, step)?;
        Ok((Accumulated::of_one(own.gradients), own.observation))
    }

    fn of_rank(
        &mut self,
        rank: &Rank,
        place: RankPlace,
        step: Step<'_>,
    ) -> Result<OfRank<E, D>, Failure<D::Err>> {
        let Step { spec, totals, loss_scale } = step;
        let mut empty = EmptyMeans { spec, found_nan: false };
        if spec.scope == Scope::Global {
            empty.check_tokens(totals.tokens, Group::Batch)?;
        }
        let window = Totals::of_rank(rank);
        if spec.scope == Scope::RankWindow {
            empty.check_tokens(window.tokens, Group::Rank(place.rank))?;
        }
        let divisor = match (spec.micro_batches, spec.empty) {
            (Combine::Add, _) => 1,
            (Combine::Average, EmptyPolicy::ZeroSkipped) => {
                rank.micro_batches().iter().filter(|own| supervised(own) > 0).count().max(1)
            }
            (Combine::Average, _) => rank.micro_batches().len(),
        };
        let mut gradients = self.alloc_gradients()?;
        let mut token_losses = Vec::with_capacity(window.tokens);
        let mut loss = 0.0;
        let mut sequence_index = place.sequences;
        for (number, micro_batch) in rank.micro_batches().iter().enumerate() {
            let own = Totals::of_micro_batches([micro_batch]);
            if spec.scope == Scope::MicroBatch {
                empty.check_tokens(own.tokens, Group::MicroBatch(place.micro_batches + number))?;
            }
            empty.check_sequences(micro_batch, sequence_index)?;
            sequence_index += micro_batch.sequences().len();
            if own.tokens == 0 {
                continue;
            }
            let counted = match spec.scope {
                Scope::MicroBatch => &own,
                Scope::RankWindow => &window,
                Scope::Global => totals,
            };
            let tape = self.wte.trace(gradients).split_tape().1;
            let losses = self.supervised_losses(micro_batch, spec, tape)?;
            token_losses.extend(losses.as_vec().into_iter().map(E::widen));
            let per_sequence: Vec<_> = micro_batch.sequences().iter().map(Sequence::supervised).collect();
            let reduced = reduce(losses, &per_sequence, spec, counts(counted, spec.empty))?;
            let reduced = reduced.try_div(E::round(divisor as f64))?;
            loss += scalar(&reduced).widen();
            gradients = reduced.try_mul(E::round(loss_scale))?.try_backward()?;
        }
        let observation = Observation {
            loss: if empty.found_nan { f64::NAN } else { loss },
            supervised_tokens: Some(token_losses.len()),
            token_losses: Some(token_losses),
        };
        Ok(OfRank { gradients, observation })
    }

    pub(crate) fn supervised_losses(
        &self,
        micro_batch: &MicroBatch,
        spec: &LossSpec,
        tape: OwnedTape<E, D>,
    ) -> Result<Tensor<(usize,), E, D, OwnedTape<E, D>>, D::Err> {
        let sequences: Vec<_> = micro_batch.sequences().iter().collect();
        self.losses_of(&Rows::new(&sequences), &sequences, spec, tape)
    }

    /// The losses of the supervised tokens of these sequences, whose rows they are.
    pub(crate) fn losses_of<T: Tape<E, D>>(
        &self,
        rows: &Rows,
        sequences: &[&Sequence],
        spec: &LossSpec,
        tape: T,
    ) -> Result<Tensor<(usize,), E, D, T>, D::Err> {
        let picked = Picked::new(sequences, rows.width, Sequence::supervises);
        let modified = Modified { label_smoothing: spec.label_smoothing, z_loss: spec.z_loss };
        self.token_losses(rows, picked, modified, tape)
    }

    /// Zero gradients for every parameter, and for nothing else: temporaries are dropped after each backward pass.
    pub(crate) fn alloc_gradients(&mut self) -> Result<Gradients<E, D>, D::Err> {
        struct Allocate<E: Element, D: Device<E>> {
            gradients: Gradients<E, D>,
        }
        impl<E: Element, D: Device<E>> Visitor<E, D> for Allocate<E, D> {
            type Error = D::Err;
            fn tensor<S: ConstShape>(&mut self, _: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), D::Err> {
                tensor.try_zero_grads(&mut self.gradients)
            }
            fn fused<S: ConstShape>(
                &mut self,
                name: &str,
                parts: &mut [Tensor<S, E, D>; 3],
            ) -> Result<(), D::Err> {
                parts.iter_mut().try_for_each(|part| self.tensor(name, part))
            }
        }
        let mut allocate = Allocate { gradients: Gradients::leaky() };
        self.visit(&mut allocate)?;
        Ok(allocate.gradients)
    }

    /// Plain cross-entropy of every prediction, ignored ones included, without a tape.
    ///
    /// Sequences are evaluated a few at a time so that the logits stay below about 2²⁴ numbers.
    pub(crate) fn evaluate(&self, batch: &GlobalBatch) -> Result<Vec<f64>, D::Err> {
        let sequences: Vec<_> = batch.sequences().collect();
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(1);
        let at_once = ((1 << 24) / (longest * K::Vocabulary::SIZE)).max(1);
        let mut losses = Vec::new();
        for some in sequences.chunks(at_once) {
            let rows = Rows::new(some);
            let picked = Picked::new(some, rows.width, |_, _| true);
            if !picked.is_empty() {
                let tensor = self.token_losses(&rows, picked, Modified::default(), NoneTape)?;
                losses.extend(tensor.as_vec().into_iter().map(E::widen));
            }
        }
        Ok(losses)
    }
}

/// Watches for means over nothing, which two of the four empty policies do not let pass.
///
/// Under [`EmptyPolicy::Nan`] the loss becomes NaN while the gradient keeps what the other groups contribute: that is
/// what PyTorch's `nll_loss` does when every label is ignored.
struct EmptyMeans<'a> {
    spec: &'a LossSpec,
    found_nan: bool,
}

impl EmptyMeans<'_> {
    fn check_tokens<F>(&mut self, tokens: usize, group: Group) -> Result<(), Failure<F>> {
        if tokens == 0 && self.spec.reduction == Reduction::TokenMean { self.found(group) } else { Ok(()) }
    }

    fn check_sequences<F>(&mut self, micro_batch: &MicroBatch, first: usize) -> Result<(), Failure<F>> {
        if self.spec.reduction != Reduction::SequenceMean {
            return Ok(());
        }
        let mut sequences = micro_batch.sequences().iter();
        match sequences.position(|sequence| sequence.supervised() == 0) {
            Some(index) => self.found(Group::Sequence(first + index)),
            None => Ok(()),
        }
    }

    fn found<F>(&mut self, group: Group) -> Result<(), Failure<F>> {
        match self.spec.empty {
            EmptyPolicy::ZeroCounted | EmptyPolicy::ZeroSkipped => {}
            EmptyPolicy::Nan => self.found_nan = true,
            EmptyPolicy::Error => return Err(Failure::Empty(EmptyGroup { group, nan: false })),
        }
        Ok(())
    }
}

/// The number in a tensor without dimensions.
pub(crate) fn scalar<E: Element, D: Device<E>, T>(tensor: &Tensor<Rank0, E, D, T>) -> E {
    tensor.as_vec()[0]
}

/// The error of a visitor that cannot fail.
pub(crate) fn never<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
    }
}
