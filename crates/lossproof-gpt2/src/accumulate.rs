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
use std::convert::Infallible;

/// One optimizer step's worth of gradients, before ranks are combined.
pub(crate) struct Accumulated<E: Element, D: Device<E>> {
    /// The gradient each rank accumulated over its micro-batches.
    pub(crate) ranks: Vec<Gradients<E, D>>,
    /// What the all-reduce multiplies the sum of the ranks' gradients with.
    pub(crate) rank_factor: f64,
    /// What the loss was multiplied with before the backward pass.
    pub(crate) loss_scale: f64,
    /// The loss itself.
    pub(crate) loss: f64,
    /// Of each supervised token, in order.
    pub(crate) token_losses: Vec<f64>,
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

/// How many parts an average is taken over.
fn parts(combine: Combine, policy: EmptyPolicy, all: usize, non_empty: usize) -> usize {
    match (combine, policy) {
        (Combine::Add, _) => 1,
        (Combine::Average, EmptyPolicy::ZeroSkipped) => non_empty.max(1),
        (Combine::Average, _) => all,
    }
}

pub(crate) fn supervised(micro_batch: &MicroBatch) -> usize {
    micro_batch.sequences().iter().map(Sequence::supervised).sum()
}

fn count<'a>(micro_batches: impl IntoIterator<Item = &'a MicroBatch>, policy: EmptyPolicy) -> Counts {
    let mut counts = Counts::default();
    for sequence in micro_batches.into_iter().flat_map(MicroBatch::sequences) {
        let tokens = sequence.supervised();
        counts.tokens += tokens;
        counts.sequences += usize::from(tokens > 0 || policy != EmptyPolicy::ZeroSkipped);
    }
    counts
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Gpt2<K, E, D> {
    /// The gradient of one optimizer step, the loss multiplied by `loss_scale` before each backward pass.
    pub(crate) fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        spec: &LossSpec,
        loss_scale: f64,
    ) -> Result<Accumulated<E, D>, Failure<D::Err>> {
        let mut empty = EmptyMeans { spec, found_nan: false };
        let global = count(batch.micro_batches(), spec.empty);
        if spec.scope == Scope::Global {
            empty.check_tokens(global.tokens, Group::Batch)?;
        }
        let with_tokens = |rank: &Rank| rank.micro_batches().iter().any(|m| supervised(m) > 0);
        let ranks_with_tokens = batch.ranks().iter().filter(|rank| with_tokens(rank)).count();
        let world = parts(spec.ranks, spec.empty, batch.ranks().len(), ranks_with_tokens) as f64;

        let mut ranks = Vec::with_capacity(batch.ranks().len());
        let mut token_losses = Vec::with_capacity(global.tokens);
        let mut loss = 0.0;
        let (mut micro_batch_index, mut sequence_index) = (0, 0);
        for (rank_index, rank) in batch.ranks().iter().enumerate() {
            let window = count(rank.micro_batches(), spec.empty);
            if spec.scope == Scope::RankWindow {
                empty.check_tokens(window.tokens, Group::Rank(rank_index))?;
            }
            let non_empty = rank.micro_batches().iter().filter(|m| supervised(m) > 0).count();
            let divisor = parts(spec.micro_batches, spec.empty, rank.micro_batches().len(), non_empty) as f64;
            let mut gradients = self.alloc_gradients()?;
            for micro_batch in rank.micro_batches() {
                let own = count([micro_batch], spec.empty);
                if spec.scope == Scope::MicroBatch {
                    empty.check_tokens(own.tokens, Group::MicroBatch(micro_batch_index))?;
                }
                empty.check_sequences(micro_batch, sequence_index)?;
                micro_batch_index += 1;
                sequence_index += micro_batch.sequences().len();
                if own.tokens == 0 {
                    continue;
                }
                let counts = match spec.scope {
                    Scope::MicroBatch => own,
                    Scope::RankWindow => window,
                    Scope::Global => global,
                };
                let tape = self.wte.trace(gradients).split_tape().1;
                let losses = self.supervised_losses(micro_batch, spec, tape)?;
                token_losses.extend(losses.as_vec().into_iter().map(E::widen));
                let per_sequence: Vec<_> = micro_batch.sequences().iter().map(Sequence::supervised).collect();
                let reduced = reduce(losses, &per_sequence, spec, counts)?.try_div(E::round(divisor))?;
                loss += scalar(&reduced).widen() / world;
                gradients = reduced.try_mul(E::round(loss_scale))?.try_backward()?;
            }
            ranks.push(gradients);
        }
        let loss = if empty.found_nan { f64::NAN } else { loss };
        Ok(Accumulated { ranks, rank_factor: 1.0 / world, loss_scale, loss, token_losses })
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
