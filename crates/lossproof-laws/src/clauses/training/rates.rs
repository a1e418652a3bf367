//! What a sequence of learning rates is like, where it is not that of the plan.

use lossproof_subject::TrainingPlan;

/// Rates that are computed in another order differ by less.
const SAME: f64 = 1e-6;

/// Which update of the plan has the rate that an update has.
type Kind = fn(&TrainingPlan, usize) -> usize;

/// What the rates of all updates are like, where those of the plan are others; `None` where they are like nothing here
/// or like several of these.
pub(super) fn likeness(plan: &TrainingPlan, found: &[f64]) -> Option<&'static str> {
    let same = |kind: Kind| {
        let off = |(update, found): (usize, &f64)| (found - plan.learning_rate_of(kind(plan, update))).abs();
        found.iter().enumerate().all(|pair| off(pair) <= SAME * plan.learning_rate.abs())
    };
    if found.len() < 2 || same(|_, update| update) {
        return None;
    }
    let mut kinds: Vec<(Kind, &'static str)> = vec![
        (|_, update| update + 1, "each update had the rate of the next one"),
        (|_, update| update.saturating_sub(1), "each update had the rate of the one before"),
        (first_of_the_epoch, "the rate changed with epochs and not with updates"),
        (|_, _| 0, "the rate stayed"),
        (|plan, update| update * plan.accumulate, "the schedule went on with every micro-batch"),
        (|plan, update| update * plan.ranks, "the schedule went on once for every rank"),
        (|plan, update| update * plan.epochs as usize, "the schedule were that of one epoch"),
    ];
    if plan.ranks > 1 && plan.accumulate > 1 {
        kinds.push((
            |plan, update| update * plan.accumulate * plan.ranks,
            "the schedule went on with every micro-batch of every rank",
        ));
    }
    let mut like = kinds.iter().filter(|(kind, _)| same(*kind)).map(|(_, said)| *said);
    let first = like.next()?;
    like.next().is_none().then_some(first)
}

fn first_of_the_epoch(plan: &TrainingPlan, update: usize) -> usize {
    update - update % plan.updates_per_epoch().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{Rule, Sequence};
    use lossproof_subject::PlannedSchedule;

    #[test]
    fn rates_are_told_by_what_alone_explains_them() {
        let plan = TrainingPlan {
            training: vec![Sequence::new(vec![0, 1], vec![0, 1]).unwrap(); 6],
            validation: Vec::new(),
            batch: 1,
            accumulate: 2,
            ranks: 1,
            epochs: 2,
            seed: 0,
            rule: Rule::Sgd { momentum: 0.0, weight_decay: 0.0 },
            learning_rate: 6.0,
            schedule: PlannedSchedule::Linear,
            clip: None,
            dropout: 0.0,
            evaluate_every: 0,
            frozen: [].into(),
        };
        let next = Some("each update had the rate of the next one");
        let epochs = Some("the rate changed with epochs and not with updates");
        for (found, like) in [
            ([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], None),
            ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], next),
            ([6.0, 6.0, 6.0, 3.0, 3.0, 3.0], epochs),
            ([6.0; 6], Some("the rate stayed")),
            // With two micro-batches in an update and two epochs both would be this.
            ([6.0, 4.0, 2.0, 0.0, 0.0, 0.0], None),
            ([6.0, 5.0, 4.0, 3.0, 2.0, 2.0], None),
        ] {
            assert_eq!(likeness(&plan, &found), like, "{found:?}");
        }
        let one_epoch = TrainingPlan { epochs: 1, ..plan };
        let found = [6.0, 2.0, 0.0];
        assert_eq!(likeness(&one_epoch, &found), Some("the schedule went on with every micro-batch"));
    }
}
