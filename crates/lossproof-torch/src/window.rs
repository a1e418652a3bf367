//! Forward and backward of one optimizer step: over the ranks and the micro-batches of each.

use crate::{
    Failure, dim,
    objective::{self, Count},
    padded::Padded,
    parameters::gradients,
    subject::Torch,
    threads::OneThread,
};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, Group, Rank, Scope};
use lossproof_subject::{Observation, RankPlace, Totals};
use tch::{TchError, Tensor};

/// What one rank has after its last micro-batch, or all of them after the all-reduce.
struct Window {
    observation: Observation,
    /// In the order of the trained parameters, times the loss scale; `None` where no loss reached one.
    gradients: Vec<Option<Tensor>>,
}

impl Torch {
    /// The loss as it is logged, and `loss_scale` times the gradient after the all-reduce, in the order of
    /// the parameters, `None` where no loss reached one.
    pub(crate) fn backward_of_step(
        &self,
        batch: &GlobalBatch,
        loss_scale: f64,
    ) -> Result<(Observation, Vec<Option<Tensor>>), Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let totals = Totals::of(batch);
        let mut place = RankPlace::default();
        let mut shares = Vec::with_capacity(batch.ranks().len());
        let mut reduced = Vec::new();
        for rank in batch.ranks() {
            let window = self.window(rank, place, &totals, loss_scale)?;
            if place.rank == 0 {
                reduced = window.gradients;
            } else {
                add(&mut reduced, window.gradients)?;
            }
            shares.push(window.observation);
            place = place.after(rank);
        }
        divide(&mut reduced, totals.averaged_over(&self.spec))?;
        Ok((totals.combined(&self.spec, shares), reduced))
    }

    /// What one rank contributes to a step: its gradient before the all-reduce.
    pub(crate) fn backward_of_rank(
        &self,
        rank: &Rank,
        place: RankPlace,
        totals: &Totals,
        loss_scale: f64,
    ) -> Result<(Observation, Vec<Option<Tensor>>), Failure> {
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let Window { observation, gradients } = self.window(rank, place, totals, loss_scale)?;
        Ok((observation, gradients))
    }

    /// Forward and backward over the micro-batches of one rank.
    fn window(
        &self,
        rank: &Rank,
        place: RankPlace,
        totals: &Totals,
        loss_scale: f64,
    ) -> Result<Window, Failure> {
        let rank: Vec<Padded> = rank.micro_batches().iter().map(Padded::supervised).collect();
        let leaves = self.parameters.replica()?;
        let model = self.model(&leaves)?;
        let policy = self.spec.empty;
        let own = Count::of(Group::Rank(place.rank), &rank, policy);
        let global =
            Count { tokens: totals.tokens, sequences: totals.counted_sequences(policy), group: Group::Batch };
        let averaged_over = match self.spec.micro_batches {
            Combine::Add => 1,
            Combine::Average => counted(rank.iter().map(std::slice::from_ref), policy),
        };
        let (mut logged, mut all_token_losses) = (0.0, Vec::new());
        let mut first_sequence = place.sequences;
        for (number, batch) in rank.iter().enumerate() {
            let count = match self.spec.scope {
                Scope::MicroBatch => {
                    Count::of(Group::MicroBatch(place.micro_batches + number), [batch], policy)
                }
                Scope::RankWindow => own,
                Scope::Global => global,
            };
            let logits = model.logits(batch)?;
            let token_losses = {
                let _no_graph = tch::no_grad_guard();
                objective::token_losses(&self.spec, &logits, batch)?
            };
            all_token_losses.extend(objective::scored(&token_losses, batch)?);
            if let Some(loss) = objective::loss(&self.spec, &logits, batch, &count, first_sequence)? {
                let loss = loss.f_div_scalar(dim(averaged_over))?;
                loss.f_mul_scalar(loss_scale)?.f_backward()?;
                logged += loss.f_double_value(&[])?;
            }
            first_sequence += batch.rows();
        }
        let observation = Observation {
            loss: logged,
            supervised_tokens: Some(all_token_losses.len()),
            token_losses: Some(all_token_losses),
        };
        Ok(Window { observation, gradients: gradients(&leaves)? })
    }
}

/// The all-reduce with the gradient of another rank.
fn add(mine: &mut [Option<Tensor>], theirs: Vec<Option<Tensor>>) -> Result<(), TchError> {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        match (mine, theirs) {
            (Some(mine), Some(theirs)) => drop(mine.f_add_(&theirs)?),
            (mine, theirs @ Some(_)) => *mine = theirs,
            (_, None) => {}
        }
    }
    Ok(())
}

fn divide(gradients: &mut [Option<Tensor>], ranks: usize) -> Result<(), TchError> {
    if ranks > 1 {
        for gradient in gradients.iter_mut().flatten() {
            let _ = gradient.f_div_scalar_(dim(ranks))?;
        }
    }
    Ok(())
}

/// How many groups of micro-batches an average is taken over.
fn counted<'a>(groups: impl Iterator<Item = &'a [Padded]>, policy: EmptyPolicy) -> usize {
    let has_token = |group: &&[Padded]| group.iter().flat_map(Padded::scored).any(|scored| scored > 0);
    // Where all are empty every contribution is zero, whatever it is divided by.
    if policy == EmptyPolicy::ZeroSkipped { groups.filter(has_token).count().max(1) } else { groups.count() }
}
