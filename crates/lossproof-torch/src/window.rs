//! Forward and backward of one optimizer step: over the ranks and the micro-batches of each.

use crate::{
    Failure, dim,
    objective::{self, Count},
    padded::Padded,
    parameters::gradients,
    subject::Torch,
    threads::OneThread,
};
use lossproof_spec::{Combine, EmptyPolicy, GlobalBatch, Group, Scope};
use lossproof_subject::Observation;
use tch::{TchError, Tensor};

/// What one rank has after its last micro-batch, or all of them after the all-reduce.
struct Window {
    loss: f64,
    token_losses: Vec<f64>,
    /// In the order of the trained parameters, times the loss scale; `None` where no loss reached one.
    gradients: Vec<Option<Tensor>>,
}

/// Where a rank stands in the global batch.
#[derive(Clone, Copy, Default)]
struct RankIndex {
    rank: usize,
    first_micro_batch: usize,
    first_sequence: usize,
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
        let ranks: Vec<Vec<Padded>> = batch
            .ranks()
            .iter()
            .map(|rank| rank.micro_batches().iter().map(Padded::supervised).collect())
            .collect();
        let global = Count::of(Group::Batch, ranks.iter().flatten(), self.spec.empty);

        let mut index = RankIndex::default();
        let mut reduced: Option<Window> = None;
        for rank in &ranks {
            let window = self.window(rank, index, global, loss_scale)?;
            match &mut reduced {
                None => reduced = Some(window),
                Some(reduced) => reduced.add(window)?,
            }
            index.rank += 1;
            index.first_micro_batch += rank.len();
            index.first_sequence += rank.iter().map(Padded::rows).sum::<usize>();
        }
        let mut reduced = reduced.expect("invariant: a global batch has a rank");
        if self.spec.ranks == Combine::Average {
            reduced.divide(counted(ranks.iter().map(Vec::as_slice), self.spec.empty))?;
        }
        let observation = Observation {
            loss: reduced.loss,
            supervised_tokens: Some(reduced.token_losses.len()),
            token_losses: Some(reduced.token_losses),
        };
        Ok((observation, reduced.gradients))
    }

    /// Forward and backward over the micro-batches of one rank.
    fn window(
        &self,
        rank: &[Padded],
        index: RankIndex,
        global: Count,
        loss_scale: f64,
    ) -> Result<Window, Failure> {
        let leaves = self.parameters.replica()?;
        let model = self.model(&leaves)?;
        let policy = self.spec.empty;
        let own = Count::of(Group::Rank(index.rank), rank, policy);
        let averaged_over = match self.spec.micro_batches {
            Combine::Add => 1,
            Combine::Average => counted(rank.iter().map(std::slice::from_ref), policy),
        };
        let (mut logged, mut all_token_losses) = (0.0, Vec::new());
        let mut first_sequence = index.first_sequence;
        for (number, batch) in rank.iter().enumerate() {
            let count = match self.spec.scope {
                Scope::MicroBatch => {
                    Count::of(Group::MicroBatch(index.first_micro_batch + number), [batch], policy)
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
        Ok(Window { loss: logged, token_losses: all_token_losses, gradients: gradients(&leaves)? })
    }
}

impl Window {
    /// The all-reduce with another rank; its tokens come after those already here.
    fn add(&mut self, other: Self) -> Result<(), TchError> {
        self.loss += other.loss;
        self.token_losses.extend(other.token_losses);
        for (mine, theirs) in self.gradients.iter_mut().zip(other.gradients) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => drop(mine.f_add_(&theirs)?),
                (mine, theirs @ Some(_)) => *mine = theirs,
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn divide(&mut self, ranks: usize) -> Result<(), TchError> {
        if ranks > 1 {
            self.loss /= ranks as f64;
            for gradient in self.gradients.iter_mut().flatten() {
                let _ = gradient.f_div_scalar_(dim(ranks))?;
            }
        }
        Ok(())
    }
}

/// How many groups of micro-batches an average is taken over.
fn counted<'a>(groups: impl Iterator<Item = &'a [Padded]>, policy: EmptyPolicy) -> usize {
    let has_token = |group: &&[Padded]| group.iter().flat_map(Padded::scored).any(|scored| scored > 0);
    // Where all are empty every contribution is zero, whatever it is divided by.
    if policy == EmptyPolicy::ZeroSkipped { groups.filter(has_token).count().max(1) } else { groups.count() }
}
