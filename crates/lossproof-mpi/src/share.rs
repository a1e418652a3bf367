//! One step over all ranks, each computing its share.

use crate::{Failure, RankError, World, digest::Digest, numbers};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, LossSpec, MicroBatch, Sequence};
use lossproof_subject::{
    Collect, Evaluated, Observation, RankPlace, RankShares, StepReport, Subject, SubjectError, Tensor,
    TensorSet, TensorValues, TokenLosses, Totals,
};

/// Forward and backward of a batch: token counts first, then every rank's share, then their sum, which keeps the loss
/// scale. Every rank calls it with the same batch and has the same answer.
///
/// # Errors
/// When this rank fails, or another.
pub(crate) fn accumulate(
    world: &World,
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
    loss_scale: f64,
) -> Result<(TensorSet, Observation), SubjectError> {
    let rank = world.rank();
    let own = batch.ranks().get(rank);
    let counted = own.map(Totals::of_rank).unwrap_or_default();
    let counted = serde_json::to_vec(&counted).map_err(|error| failed(&error))?;
    let mut totals = Vec::new();
    for (rank, own) in world.meet("the token counts of a step", counted)?.iter().enumerate() {
        let own: Totals = serde_json::from_slice(own).map_err(|error| garbage(rank, &error))?;
        let due = batch.ranks().get(rank).map(Totals::of_rank).unwrap_or_default();
        if own != due {
            return Err(garbage(rank, &format!("it counts {own:?}, and its part has {due:?}")).into());
        }
        totals.push(own);
    }
    let all: Totals = totals.iter().copied().sum();

    let mut gradient = Collect::default();
    let seen = match own {
        Some(own) => {
            let place = RankPlace::of(batch, rank);
            Some(shares(subject)?.share(own, place, &all, loss_scale, &mut gradient)?)
        }
        None => None,
    };
    let gradient = if seen.is_some() { gradient.into_tensors() } else { zeros(subject)? };
    let seen = match seen {
        Some(Observation { loss, token_losses: Some(losses), .. }) => [vec![loss], losses].concat(),
        Some(_) => return Err(failed(&"a rank's share has to say its token losses")),
        None => Vec::new(),
    };
    let mut shares = Vec::new();
    let of_ranks = world.meet("the losses of a step", numbers::bytes(&seen))?;
    for ((rank, own), counted) in of_ranks.iter().enumerate().zip(&totals) {
        // A rank with a part has a loss, and one for each of its tokens; one without has none.
        let due = if counted.ranks == 0 { 0 } else { 1 + counted.tokens };
        let seen = losses_of(rank, own, due)?;
        if counted.ranks > 0 {
            shares.push(observed(seen));
        }
    }
    let observation = all.combined(spec, shares);
    let sum = world.sum(gradient)?;
    Ok((divided(sum, all.averaged_over(spec))?, observation))
}

/// One optimizer step: every rank takes it by itself from the gradient of all, and has the parameters of all others
/// then. Every rank calls it with the same batch and has the same answer.
///
/// # Errors
/// When this rank fails, or another, or one has other parameters than the first after it.
pub(crate) fn step(
    world: &World,
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
    loss_scale: f64,
) -> Result<StepReport, SubjectError> {
    let (gradient, observation) = accumulate(world, subject, spec, batch, loss_scale)?;
    let report = shares(subject)?.step_from(&gradient, observation)?;
    let steps = subject.optimizer_steps().ok_or_else(|| failed(&"this trainer takes no steps"))?;
    let mut digest = Digest::default();
    steps.read(&mut digest)?;
    digest.agree(world)?;
    Ok(report)
}

fn shares(subject: &mut dyn Subject) -> Result<&mut dyn RankShares, SubjectError> {
    subject.rank_shares().ok_or_else(|| failed(&NO_SHARES))
}

/// The losses that a rank has brought, of which so many are due.
fn losses_of(rank: usize, brought: &[u8], due: usize) -> Result<Vec<f64>, RankError> {
    let losses = numbers::numbers(rank, brought)?;
    if losses.len() != due {
        return Err(garbage(rank, &format!("{} losses, where {due} are due", losses.len())));
    }
    Ok(losses)
}

const NO_SHARES: &str = "this trainer cannot compute one rank of a step by itself";

/// What one rank has seen, from its loss and its token losses.
fn observed(mut numbers: Vec<f64>) -> Observation {
    let losses = numbers.split_off(numbers.len().min(1));
    let loss = numbers.first().copied().unwrap_or(f64::NAN);
    Observation { loss, supervised_tokens: Some(losses.len()), token_losses: Some(losses) }
}

/// The share of a rank without a part in the batch.
fn zeros(subject: &dyn Subject) -> Result<TensorSet, SubjectError> {
    let dtype = subject.info().dtypes.gradient;
    let mut zeros = TensorSet::new();
    for info in subject.parameters() {
        let elements = info.shape.iter().product();
        let values = if info.dtype.unwrap_or(dtype) == Dtype::F64 {
            TensorValues::F64(vec![0.0; elements])
        } else {
            TensorValues::F32(vec![0.0; elements])
        };
        zeros.insert(info.name, Tensor::new(info.shape, values).map_err(|error| failed(&error))?);
    }
    Ok(zeros)
}

/// A sum as the average that it is to be, in its element types.
fn divided(sum: TensorSet, by: usize) -> Result<TensorSet, SubjectError> {
    if by == 1 {
        return Ok(sum);
    }
    let divide = |(name, tensor): (String, Tensor)| {
        let values = match tensor.values() {
            #[expect(clippy::cast_possible_truncation, reason = "a number of ranks is exact in f32")]
            TensorValues::F32(values) => {
                TensorValues::F32(values.iter().map(|value| value / by as f64 as f32).collect())
            }
            TensorValues::F64(values) => {
                TensorValues::F64(values.iter().map(|value| value / by as f64).collect())
            }
        };
        Tensor::new(tensor.shape().to_vec(), values)
            .map(|tensor| (name, tensor))
            .map_err(|error| failed(&error))
    };
    sum.into_iter().map(divide).collect()
}

/// A validation, whose micro-batches the ranks evaluate by turns. Every rank calls it with the same batches and has
/// the same answer.
///
/// # Errors
/// When this rank fails, or another.
pub(crate) fn validate(
    world: &World,
    subject: &mut dyn Subject,
    batches: &[MicroBatch],
) -> Result<Evaluated, SubjectError> {
    let own = batches.iter().skip(world.rank()).step_by(world.size());
    let losses = subject.token_losses().ok_or_else(|| failed(&"this trainer evaluates no token losses"))?;
    let mut supervised = Vec::new();
    for batch in own {
        supervised.extend(supervised_losses(losses, batch)?);
    }
    let all = world.meet("the losses of a validation", numbers::bytes(&supervised))?;
    let mut sum = CompensatedSum::default();
    let mut tokens = 0;
    for (rank, losses) in all.iter().enumerate() {
        let own = batches.iter().skip(rank).step_by(world.size());
        let due = own.flat_map(MicroBatch::sequences).map(Sequence::supervised).sum();
        let losses = losses_of(rank, losses, due)?;
        tokens += losses.len();
        sum.extend(losses);
    }
    let loss = sum.value() / tokens as f64;
    Ok(Evaluated { loss, perplexity: loss.exp(), tokens })
}

fn supervised_losses(losses: &mut dyn TokenLosses, batch: &MicroBatch) -> Result<Vec<f64>, SubjectError> {
    let batch = GlobalBatch::of_micro_batch(batch.clone());
    let losses = losses.evaluate(&batch)?;
    let supervised = batch.predictions().zip(losses).filter(|(prediction, _)| prediction.supervised);
    Ok(supervised.map(|(_, loss)| loss).collect())
}

fn failed(error: &dyn std::fmt::Display) -> SubjectError {
    SubjectError::failed("ranks", error)
}

fn garbage(rank: usize, error: &dyn std::fmt::Display) -> RankError {
    RankError { rank, failure: Failure::Garbage { message: error.to_string() } }
}
