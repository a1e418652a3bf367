//! Which loss a trainer logs for an optimizer step.

use lossproof_spec::{EmptyGroup, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, TokenWeights, to_f64};
use serde::{Deserialize, Serialize};

/// What [`Subject::accumulate`](crate::Subject::accumulate) and
/// [`OptimizerSteps::step`](crate::OptimizerSteps::step) report as
/// [`Observation::loss`](crate::Observation::loss). Several policies are in use; which one is a declaration,
/// not a bug, and a trainer is held to the one it declares.
///
/// Every policy names the batches that are logged ([`logged`](Self::logged)), and the logged loss is the mean
/// of `L(b)` over them. `L(b) = Σ_t w_t·ℓ_t` is the loss that the spec in force gives a batch `b` *by
/// itself*: `w` is that of [`TokenWeights`] on the layout of `b` alone. A micro-batch by itself is a batch of
/// one rank with one micro-batch, so its normaliser counts its own tokens, whatever the scope.
///
/// By itself `b` may be without weights where the whole batch has some: a first rank without a supervised
/// token, say. Under the empty policies [`ZeroCounted`](EmptyPolicy::ZeroCounted) and
/// [`ZeroSkipped`](EmptyPolicy::ZeroSkipped) it logs 0. Under [`Nan`](EmptyPolicy::Nan) its `L(b)` is NaN and
/// under [`Error`](EmptyPolicy::Error) an error, and [`weights`](Self::weights) says so; of a trainer nothing
/// is asked of such a batch, neither finite numbers nor that it takes it. A batch that is without weights as
/// a whole may log a number under `Nan`, where `b` has weights; under `Error` it is to be refused.
///
/// On one rank with one micro-batch all policies log the same loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogPolicy {
    /// `L(B)` of the whole batch `B`: the loss whose gradient is taken, as clause 4.7 has it.
    #[default]
    Window,
    /// `L(m)` of the last micro-batch `m` of rank 0.
    LastMicroBatch,
    /// `L(r)` of rank 0, `r` having all of its micro-batches and no other rank.
    FirstRank,
    /// `(1/M)·Σ_m L(m)` over the M micro-batches of all ranks. Under the empty policy
    /// [`ZeroSkipped`](EmptyPolicy::ZeroSkipped) micro-batches without a supervised token are left out of the
    /// sum and of M, unless none has one.
    MeanOfMicroBatches,
}

impl LogPolicy {
    /// The batches whose losses, each by itself under `spec`, have the logged loss as their mean. There is at
    /// least one.
    #[must_use]
    pub fn logged(self, batch: &GlobalBatch, spec: &LossSpec) -> Vec<GlobalBatch> {
        self.parts(batch, spec).into_iter().map(|part| part.batch).collect()
    }

    /// The weight `u` that the logged loss `Σ_t u_t·ℓ_t` gives to each supervised token of every sequence of
    /// the batch, in the order of [`GlobalBatch::sequences`]. It is zero for what is not logged.
    ///
    /// # Errors
    /// [`EmptyGroup`] when one of the logged batches has no weights under `spec`. The group is counted inside
    /// that batch.
    pub fn weights(self, batch: &GlobalBatch, spec: &LossSpec) -> Result<Vec<f64>, EmptyGroup> {
        let mut weights = vec![0.0; batch.sequences().count()];
        let parts = self.parts(batch, spec);
        for part in &parts {
            let of_part = TokenWeights::new(spec, &part.batch.layout())?;
            for (index, (weight, _)) in of_part.sequences().enumerate() {
                weights[part.first_sequence + index] = to_f64(weight) / parts.len() as f64;
            }
        }
        Ok(weights)
    }

    fn parts(self, batch: &GlobalBatch, spec: &LossSpec) -> Vec<Part> {
        let first_rank = &batch.ranks()[0];
        match self {
            Self::Window => vec![Part { first_sequence: 0, batch: batch.clone() }],
            Self::LastMicroBatch => {
                let of_first_rank = micro_batches(first_rank.micro_batches());
                of_first_rank.into_iter().next_back().into_iter().collect()
            }
            Self::FirstRank => {
                let batch =
                    GlobalBatch::new(vec![first_rank.clone()]).expect("invariant: one rank is not none");
                vec![Part { first_sequence: 0, batch }]
            }
            Self::MeanOfMicroBatches => {
                let has_tokens = |part: &Part| part.batch.layout().supervised() > 0;
                let mut parts = micro_batches(batch.micro_batches());
                if spec.empty == EmptyPolicy::ZeroSkipped && parts.iter().any(has_tokens) {
                    parts.retain(has_tokens);
                }
                parts
            }
        }
    }
}

/// A part of a batch as a batch by itself.
struct Part {
    /// Index of its first sequence in the whole batch.
    first_sequence: usize,
    batch: GlobalBatch,
}

/// Each of these micro-batches, which are the first of a batch.
fn micro_batches<'a>(of: impl IntoIterator<Item = &'a MicroBatch>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut first_sequence = 0;
    for micro_batch in of {
        parts.push(Part { first_sequence, batch: GlobalBatch::of_micro_batch(micro_batch.clone()) });
        first_sequence += micro_batch.sequences().len();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{Rank, Sequence};

    /// A micro-batch of one sequence that begins with this token; without a supervised token where it is 0.
    fn micro_batch(first: u32) -> MicroBatch {
        let label = if first == 0 { -100 } else { 1 };
        MicroBatch::new(vec![Sequence::new(vec![first, 1], vec![-100, label]).unwrap()]).unwrap()
    }

    fn batch(ranks: &[&[u32]]) -> GlobalBatch {
        let mut made = Vec::new();
        for rank in ranks {
            made.push(Rank::new(rank.iter().map(|&first| micro_batch(first)).collect()).unwrap());
        }
        GlobalBatch::new(made).unwrap()
    }

    #[test]
    fn each_policy_logs_what_it_says() {
        let (spec, whole) = (LossSpec::token_mean(), batch(&[&[1, 2, 0], &[3]]));
        let logged = |policy: LogPolicy, spec: &LossSpec| policy.logged(&whole, spec);
        assert_eq!(LogPolicy::default(), LogPolicy::Window);
        assert_eq!(logged(LogPolicy::Window, &spec), std::slice::from_ref(&whole));
        assert_eq!(logged(LogPolicy::LastMicroBatch, &spec), [batch(&[&[0]])]);
        assert_eq!(logged(LogPolicy::FirstRank, &spec), [batch(&[&[1, 2, 0]])]);
        let [one, two, empty, three] = [1, 2, 0, 3].map(|first| batch(&[&[first]]));
        assert_eq!(
            logged(LogPolicy::MeanOfMicroBatches, &spec),
            [one.clone(), two.clone(), empty, three.clone()]
        );
        let skipping = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..spec };
        assert_eq!(logged(LogPolicy::MeanOfMicroBatches, &skipping), [one, two, three]);
    }

    #[test]
    fn weights_are_those_of_the_logged_batches() {
        let (spec, whole) = (LossSpec::token_mean(), batch(&[&[1, 2, 0], &[3]]));
        let third = 1.0 / 3.0;
        let expected = [
            (LogPolicy::Window, [third, third, 0.0, third]),
            (LogPolicy::LastMicroBatch, [0.0; 4]),
            (LogPolicy::FirstRank, [0.5, 0.5, 0.0, 0.0]),
            (LogPolicy::MeanOfMicroBatches, [0.25, 0.25, 0.0, 0.25]),
        ];
        for (policy, weights) in expected {
            assert_eq!(policy.weights(&whole, &spec).unwrap(), weights, "{policy:?}");
        }
        let skipping = LossSpec { empty: EmptyPolicy::ZeroSkipped, ..spec };
        let weights = LogPolicy::MeanOfMicroBatches.weights(&whole, &skipping).unwrap();
        assert_eq!(weights, [third, third, 0.0, third]);
        // Two sequences before rank 0's last micro-batch, and one after it.
        let weights = LogPolicy::LastMicroBatch.weights(&batch(&[&[1, 2, 3], &[4]]), &LossSpec::sum());
        assert_eq!(weights.unwrap(), [0.0, 0.0, 1.0, 0.0]);
        let refusing = LossSpec { empty: EmptyPolicy::Error, ..spec };
        assert!(LogPolicy::LastMicroBatch.weights(&whole, &refusing).is_err());
    }

    #[test]
    fn one_micro_batch_is_logged_alike_by_all() {
        let policies = [
            LogPolicy::Window,
            LogPolicy::LastMicroBatch,
            LogPolicy::FirstRank,
            LogPolicy::MeanOfMicroBatches,
        ];
        for alone in [batch(&[&[1]]), batch(&[&[0]])] {
            for empty in [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped] {
                let spec = LossSpec { empty, ..LossSpec::token_mean() };
                for policy in policies {
                    assert_eq!(policy.logged(&alone, &spec), std::slice::from_ref(&alone), "{policy:?}");
                }
            }
        }
    }
}
