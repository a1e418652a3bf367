//! From the measured weights of a reported loss back to the log policy that it follows.

use super::{Measurement, spec_classes};
use lossproof_spec::{EmptyGroup, GlobalBatch, LossSpec};
use lossproof_subject::LogPolicy;
use std::fmt;

/// Every log policy, that of the whole window first.
pub(crate) const LOG_POLICIES: [LogPolicy; 4] =
    [LogPolicy::Window, LogPolicy::LastMicroBatch, LogPolicy::FirstRank, LogPolicy::MeanOfMicroBatches];

/// What a trainer logs by a policy.
pub(crate) fn logged_by(policy: LogPolicy) -> &'static str {
    match policy {
        LogPolicy::Window => "the loss of the whole window",
        LogPolicy::LastMicroBatch => "the loss of the last micro-batch of rank 0",
        LogPolicy::FirstRank => "the loss of rank 0",
        LogPolicy::MeanOfMicroBatches => "the mean of the losses of the micro-batches",
    }
}

/// What a trainer logs by one of several policies that nothing tells apart.
pub(crate) fn logged_by_one_of(policies: &[LogPolicy]) -> String {
    policies.iter().map(|policy| logged_by(*policy)).collect::<Vec<_>>().join(", or ")
}

/// How the weights of a reported loss compare with the log policy that a trainer declares.
#[derive(Clone, Debug, PartialEq)]
pub struct LogComparison {
    /// The policy that the trainer declares.
    pub declared: LogPolicy,
    /// The semantics that each logged batch has by itself.
    pub spec: LossSpec,
    /// The policies whose weights these may be, within the errors. There are several where the batch is the
    /// same to them, or the errors are too large.
    pub found: Vec<LogPolicy>,
}

impl LogComparison {
    /// Compares one weight per prediction, the error of each being a bound.
    pub(crate) fn new(
        batch: &GlobalBatch,
        measured: &[Measurement],
        spec: &LossSpec,
        declared: LogPolicy,
    ) -> Self {
        let mut found = Vec::new();
        for policy in LOG_POLICIES {
            let Ok(due) = due_weights(policy, batch, spec) else { continue };
            let mut pairs = measured.iter().zip(due);
            if pairs.all(|(measured, due)| (measured.low()..=measured.high()).contains(&due)) {
                found.push(policy);
            }
        }
        Self { declared, spec: *spec, found }
    }

    /// Whether the weights may be those of the policy that is declared.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.found.contains(&self.declared)
    }
}

/// The weight that the loss logged by a policy gives to every prediction.
pub(crate) fn due_weights(
    policy: LogPolicy,
    batch: &GlobalBatch,
    spec: &LossSpec,
) -> Result<Vec<f64>, EmptyGroup> {
    let by_sequence = policy.weights(batch, spec)?;
    let mut weights = Vec::new();
    for prediction in batch.predictions() {
        weights.push(if prediction.supervised { by_sequence[prediction.sequence] } else { 0.0 });
    }
    Ok(weights)
}

/// `the loss of rank 0 is reported, as declared`.
impl fmt::Display for LogComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let declared = logged_by(self.declared);
        if self.agrees() {
            write!(f, "{declared} is reported, as declared")?;
            for other in self.found.iter().filter(|other| **other != self.declared) {
                write!(f, "\n  or, within the errors: {}", logged_by(*other))?;
            }
            return Ok(());
        }
        if self.found.is_empty() {
            let spec = spec_classes::words(&self.spec);
            return write!(
                f,
                "{declared} is declared, and what is reported is by no log policy of the {spec}"
            );
        }
        write!(f, "{declared} is declared, and reported is {}: hence not 4.7", logged_by_one_of(&self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{MicroBatch, Rank, Sequence};

    /// Micro-batches of one sequence each, by rank, with so many supervised tokens.
    fn batch(ranks: &[&[usize]]) -> GlobalBatch {
        let micro_batch = |&supervised: &usize| {
            let sequence = Sequence::new(vec![1; supervised + 1], vec![1; supervised + 1]).unwrap();
            MicroBatch::new(vec![sequence]).unwrap()
        };
        let rank = |rank: &&[usize]| Rank::new(rank.iter().map(micro_batch).collect()).unwrap();
        GlobalBatch::new(ranks.iter().map(rank).collect()).unwrap()
    }

    fn inferred(batch: &GlobalBatch, actual: LogPolicy, declared: LogPolicy, error: f64) -> LogComparison {
        let spec = LossSpec::token_mean();
        let due = due_weights(actual, batch, &spec).unwrap();
        let measured: Vec<_> = due.into_iter().map(|value| Measurement { value, error }).collect();
        LogComparison::new(batch, &measured, &spec, declared)
    }

    #[test]
    fn every_policy_is_read_off_its_weights() {
        let batch = batch(&[&[3, 1], &[4]]);
        for declared in LOG_POLICIES {
            for actual in LOG_POLICIES {
                let comparison = inferred(&batch, actual, declared, 1e-9);
                assert_eq!(comparison.found, [actual]);
                assert_eq!(comparison.agrees(), actual == declared);
                let ending = if actual == declared { "as declared" } else { "hence not 4.7" };
                assert!(comparison.to_string().ends_with(ending), "{comparison}");
            }
        }
    }

    #[test]
    fn what_is_the_same_on_a_batch_or_within_the_errors_is_all_found() {
        let [window, last, first, _] = LOG_POLICIES;
        // All are the same on one rank with one micro-batch, and two of them on one rank.
        assert_eq!(inferred(&batch(&[&[3]]), last, window, 0.0).found, LOG_POLICIES);
        let one_rank = inferred(&batch(&[&[3, 1]]), window, first, 1e-9);
        assert_eq!(one_rank.found, [window, first]);
        let said = one_rank.to_string();
        assert!(said.ends_with("or, within the errors: the loss of the whole window"), "{said}");
        assert_eq!(inferred(&batch(&[&[3, 1], &[4]]), last, first, 1.0).found, LOG_POLICIES);
    }

    #[test]
    fn weights_of_no_policy_are_said_to_be() {
        let batch = batch(&[&[3, 1], &[4]]);
        let measured = vec![Measurement { value: 0.1, error: 1e-9 }; 8];
        let comparison = LogComparison::new(&batch, &measured, &LossSpec::token_mean(), LogPolicy::FirstRank);
        assert!(comparison.found.is_empty() && !comparison.agrees());
        assert_eq!(
            comparison.to_string(),
            "the loss of rank 0 is declared, and what is reported is by no log policy of the per-token mean \
             over the global batch"
        );
    }
}
