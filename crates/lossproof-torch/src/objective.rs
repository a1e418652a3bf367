//! The loss of one micro-batch, by libtorch's own reductions.
//!
//! Nothing here knows of token weights: a mean is libtorch's mean of what is there, a normaliser counted over a wider
//! scope divides libtorch's sum. That is what the loss calculus is checked against.

use crate::{Failure, dim, padded::Padded};
use lossproof_spec::{EmptyGroup, EmptyPolicy, Group, IGNORE_INDEX, LossSpec, Reduction, Scope};
use tch::{Kind, TchError, Tensor};

/// What is counted over a scope before a loss is divided by it, as trainers do with an all-reduce of counts.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    /// Scored tokens.
    pub(crate) tokens: usize,
    /// Sequences, without the empty ones where the empty policy leaves those out.
    pub(crate) sequences: usize,
    /// The scope, by its index in the global batch.
    pub(crate) group: Group,
}

impl Count {
    pub(crate) fn of<'a>(
        group: Group,
        micro_batches: impl IntoIterator<Item = &'a Padded>,
        policy: EmptyPolicy,
    ) -> Self {
        let mut count = Self { tokens: 0, sequences: 0, group };
        for scored in micro_batches.into_iter().flat_map(Padded::scored) {
            count.tokens += scored;
            count.sequences += usize::from(scored > 0 || policy != EmptyPolicy::ZeroSkipped);
        }
        count
    }
}

/// The loss of `batch` within its scope, differentiable, from its logits `[n·(l − 1), V]`. `None` where nothing is left
/// to take a mean over and the empty policy makes that zero.
///
/// `first_sequence` is the index of the first row in the global batch.
pub(crate) fn loss(
    spec: &LossSpec,
    logits: &Tensor,
    batch: &Padded,
    count: &Count,
    first_sequence: usize,
) -> Result<Option<Tensor>, Failure> {
    let labels = batch.label_tensor(logits.device())?;
    let sum = || reduce(spec, logits, &labels, tch::Reduction::Sum);
    match spec.reduction {
        Reduction::Sum => Ok(Some(sum()?)),
        Reduction::TokenMean if skips(spec.empty, count.tokens, count.group)? => Ok(None),
        Reduction::TokenMean if spec.scope == Scope::MicroBatch => {
            Ok(Some(reduce(spec, logits, &labels, tch::Reduction::Mean)?))
        }
        Reduction::TokenMean => Ok(Some(sum()?.f_div_scalar(dim(count.tokens))?)),
        Reduction::SequenceMean => {
            let shape = [dim(batch.rows()), dim(batch.width() - 1)];
            let labels = labels.f_view(shape)?.f_unbind(0)?;
            let logits = logits.f_unflatten(0, shape)?.f_unbind(0)?;
            let mut means = Vec::with_capacity(batch.rows());
            for (row, (scored, (logits, labels))) in
                batch.scored().zip(logits.iter().zip(&labels)).enumerate()
            {
                if !skips(spec.empty, scored, Group::Sequence(first_sequence + row))? {
                    means.push(reduce(spec, logits, labels, tch::Reduction::Mean)?);
                }
            }
            if means.is_empty() {
                return Ok(None);
            }
            Ok(Some(Tensor::f_stack(&means, 0)?.f_sum(None)?.f_div_scalar(dim(count.sequences))?))
        }
        Reduction::BatchMean if count.sequences == 0 => Ok(None),
        Reduction::BatchMean => Ok(Some(sum()?.f_div_scalar(dim(count.sequences))?)),
    }
}

/// The sum of the scored token losses of a batch, from its logits `[n·(l − 1), V]`.
pub(crate) fn sum(spec: &LossSpec, logits: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
    reduce(spec, logits, &batch.label_tensor(logits.device())?, tch::Reduction::Sum)
}

/// Their mean.
pub(crate) fn mean(spec: &LossSpec, logits: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
    reduce(spec, logits, &batch.label_tensor(logits.device())?, tch::Reduction::Mean)
}

/// The token loss of every prediction, `[n·(l − 1)]`, the same losses [`loss`] reduces; meaningless where the label is
/// ignored.
pub(crate) fn token_losses(spec: &LossSpec, logits: &Tensor, batch: &Padded) -> Result<Tensor, TchError> {
    reduce(spec, logits, &batch.label_tensor(logits.device())?, tch::Reduction::None)
}

/// Those of `losses`, one per prediction, that belong to a scored one, of all rows in order.
pub(crate) fn scored(losses: &Tensor, batch: &Padded) -> Result<Vec<f64>, TchError> {
    let labels = batch.labels();
    let mut values = vec![0.0_f64; labels.len()];
    losses.f_to_kind(Kind::Double)?.f_copy_data(&mut values, labels.len())?;
    let scored = values.into_iter().zip(labels).filter(|&(_, &label)| label != IGNORE_INDEX);
    Ok(scored.map(|(loss, _)| loss).collect())
}

/// Cross-entropy with label smoothing, plus the z-loss, reduced over the labels that are not ignored.
fn reduce(
    spec: &LossSpec,
    logits: &Tensor,
    labels: &Tensor,
    reduction: tch::Reduction,
) -> Result<Tensor, TchError> {
    let cross_entropy = logits.f_cross_entropy_loss(
        labels,
        None::<&Tensor>,
        reduction,
        IGNORE_INDEX,
        spec.label_smoothing,
    )?;
    if spec.z_loss <= 0.0 {
        return Ok(cross_entropy);
    }
    let squares = logits.f_logsumexp(-1, false)?.f_square()?;
    let scored = || squares.f_masked_select(&labels.f_ne(IGNORE_INDEX)?);
    let z = match reduction {
        tch::Reduction::Mean => scored()?.f_mean(None)?,
        tch::Reduction::Sum => scored()?.f_sum(None)?,
        _ => squares,
    };
    cross_entropy.f_add(&z.f_mul_scalar(spec.z_loss)?)
}

/// Whether a mean over `group` is left out because it has no scored token.
///
/// Under the policy `nan` it is taken all the same, so that the NaN is libtorch's own.
fn skips(policy: EmptyPolicy, scored: usize, group: Group) -> Result<bool, EmptyGroup> {
    match policy {
        _ if scored > 0 => Ok(false),
        EmptyPolicy::ZeroCounted | EmptyPolicy::ZeroSkipped => Ok(true),
        EmptyPolicy::Nan => Ok(false),
        EmptyPolicy::Error => Err(EmptyGroup { group, nan: false }),
    }
}
