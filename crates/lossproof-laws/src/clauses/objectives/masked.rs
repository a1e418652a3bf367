//! Clause 1.9: a masked language model scores labels where they stand, and sees on both sides of them.

use super::{followed, given, influences, micro_batch_of, plain};
use crate::trial::{CaseOutcome, Computed, Ended, Trial, replace, values};
use lossproof_cases::edit::id;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, Role, Sequence};
use lossproof_subject::{ObjectiveBatch, SubjectError, Tensor};
use rand::RngExt;

/// A batch is the mean of its labels, each scored by the prediction made at its own position, which sees the whole
/// sequence.
pub(crate) fn masked_tokens(trial: &mut Trial<'_>) -> CaseOutcome {
    let rows = trial.rows_of_tokens();
    let learnt = trial.labels_to_learn(&rows);
    let labels = given(&learnt);
    let whole = trial.made_of_its_labels(&learnt, |learnt| masked(&rows, learnt));
    trial.continued(whole)?;
    trial.nothing_masked(&rows)?;
    let looked = trial.sees_both_sides(&rows);
    let looked = trial.continued(looked)?.unwrap_or(true);
    let lone = trial.lone_tokens_are_causal(&rows);
    let lone = trial.continued(lone)?.unwrap_or(true);
    let without_context = trial.without_context_is_causal(&rows, &learnt);
    let without_context = trial.continued(without_context)?.unwrap_or(true);
    if !lone && !without_context {
        let what = "sequences of one token and of two, or the roles of what blocks write";
        return Err(Ended::Unsupported(what.to_owned()));
    }
    Ok(looked && labels > 1)
}

fn masked(rows: &[Vec<u32>], learnt: &[Vec<i64>]) -> ObjectiveBatch {
    let rows = rows.iter().zip(learnt).map(|(row, labels)| plain(row.clone(), labels.clone()));
    ObjectiveBatch::Masked { micro_batch: micro_batch_of(rows) }
}

impl Trial<'_> {
    /// Of nothing there is no mean: a trainer refuses, or says that there is nothing to learn, and its gradient is
    /// not poisoned.
    fn nothing_masked(&mut self, rows: &[Vec<u32>]) -> Result<(), Ended> {
        let nothing: Vec<Vec<i64>> = rows.iter().map(|row| vec![IGNORE_INDEX; row.len()]).collect();
        match self.learn(&masked(rows, &nothing)) {
            Ok(computed) => {
                let finite = |tensor: &Tensor| tensor.to_f64().iter().all(|value| value.is_finite());
                let sound = computed.gradient.values().all(finite);
                self.fact("nothing masked", sound, || {
                    "nothing is masked, and the gradient is not a number".to_owned()
                });
                Ok(())
            }
            Err(Ended::Failed(SubjectError::Breach(breach))) => Err(Ended::Failed(breach.into())),
            Err(_) => Ok(()),
        }
    }

    /// Labels for about half of the positions, and for one at least.
    fn labels_to_learn(&mut self, rows: &[Vec<u32>]) -> Vec<Vec<i64>> {
        let vocabulary = self.vocabulary();
        let mut learnt = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let mut labels = Vec::new();
            for position in 0..row.len() {
                let label = i64::from(id(self.random.random_range(0..vocabulary)));
                let given = index + position == 0 || self.random.random::<bool>();
                labels.push(if given { label } else { IGNORE_INDEX });
            }
            learnt.push(labels);
        }
        learnt
    }

    fn learn_masked(
        &mut self,
        rows: &[Vec<u32>],
        learnt: &[Vec<i64>],
    ) -> Result<(ObjectiveBatch, Computed), Ended> {
        let batch = masked(rows, learnt);
        let computed = self.learn(&batch)?;
        Ok((batch, computed))
    }

    /// The loss of one label in each sequence, with a token changed behind all of them, or before. Tells whether one
    /// was changed behind.
    fn sees_both_sides(&mut self, rows: &[Vec<u32>]) -> CaseOutcome {
        let vocabulary = self.vocabulary();
        if vocabulary < 2 || !rows.iter().any(|row| row.len() > 1) {
            return Ok(false);
        }
        for (unit, side) in [("tokens behind a label", 0), ("tokens before a label", 1)] {
            // The label is at one end, the changed token at the other.
            let ends = |row: &[u32]| if side == 0 { (0, row.len() - 1) } else { (row.len() - 1, 0) };
            let (mut learnt, mut others) = (Vec::new(), rows.to_vec());
            for row in &mut others {
                let (label, changed) = ends(row);
                let mut labels = vec![IGNORE_INDEX; row.len()];
                labels[label] = i64::from(id(self.random.random_range(0..vocabulary)));
                learnt.push(labels);
                if label != changed {
                    let step = self.random.random_range(1..vocabulary);
                    row[changed] = id((row[changed] as usize + step) % vocabulary);
                }
            }
            let (_, before) = self.learn_masked(rows, &learnt)?;
            let (_, after) = self.learn_masked(&others, &learnt)?;
            self.differs(unit, &after, &before, || format!("the loss of a label does not depend on {unit}"));
        }
        Ok(true)
    }

    /// A token by itself sees nothing else, whatever it may see: its prediction is that of a causal model. Tells
    /// whether the limits take such sequences.
    fn lone_tokens_are_causal(&mut self, rows: &[Vec<u32>]) -> CaseOutcome {
        let limits = self.facts.info.limits;
        if !limits.lengths.contains(1) || !limits.lengths.contains(2) {
            return Ok(false);
        }
        let first = |row: &Vec<u32>| row[0];
        let label = |row: &Vec<u32>| *row.last().unwrap_or(&row[0]);
        let tokens: Vec<Vec<u32>> = rows.iter().map(|row| vec![first(row)]).collect();
        let learnt: Vec<Vec<i64>> = rows.iter().map(|row| vec![i64::from(label(row))]).collect();
        let causal = rows.iter().map(|row| {
            let tokens = vec![first(row), label(row)];
            let labels = tokens.iter().map(|&token| i64::from(token)).collect();
            plain(tokens, labels)
        });
        let (factor, expected) = self.hard(&micro_batch_of(causal))?;
        let (batch, computed) = self.learn_masked(&tokens, &learnt)?;
        let what = "a token by itself, beside a causal model";
        self.combination(what, &influences(&batch), &computed, &[(factor, &expected)], &[]);
        Ok(true)
    }

    /// Where blocks add nothing to the residual stream no position sees another, and the label of each is scored as a
    /// causal model scores it one position later. What writes into the stream has another gradient: what it would
    /// write. Tells whether that could be looked at.
    fn without_context_is_causal(&mut self, rows: &[Vec<u32>], learnt: &[Vec<i64>]) -> CaseOutcome {
        let limits = self.facts.info.limits;
        let written =
            |role: Role| matches!(role, Role::BlockOutput | Role::BlockOutputBias | Role::LowRankOut);
        let names: Vec<String> =
            self.facts.parameters.iter().filter(|p| written(p.role)).map(|p| p.name.clone()).collect();
        let frozen = self.facts.info.model.frozen.iter().any(|p| written(p.role));
        let declared = self.facts.parameters.iter().any(|p| p.role == Role::BlockOutput);
        if !declared || frozen || self.subject.parameter_loading().is_none() {
            return Ok(false);
        }
        // One position is for the last label.
        let takes = |length: usize| length > 0 && limits.lengths.contains(length);
        let (mut cut, mut labels) = (rows.to_vec(), learnt.to_vec());
        for (row, labels) in cut.iter_mut().zip(&mut labels) {
            let longest = limits.positions.min(limits.lengths.most).saturating_sub(1);
            row.truncate(longest);
            labels.truncate(longest);
            if !takes(row.len()) || !takes(row.len() + 1) {
                return Ok(false);
            }
        }
        let causal: Vec<Sequence> = cut
            .iter()
            .zip(&labels)
            .map(|(row, labels)| followed(&plain(row.clone(), labels.clone()), labels))
            .collect();
        let scored = labels.iter().flatten().any(|&label| label != IGNORE_INDEX);
        if !scored || !limits.free_labels || !limits.ignore_index {
            return Ok(false);
        }
        let mut parameters = self.parameters()?;
        for name in &names {
            let nothing = vec![0.0; values(&parameters, name)?.len()];
            replace(&mut parameters, name, nothing)?;
        }
        self.load(&parameters)?;
        let micro_batch = micro_batch_of(causal);
        let (factor, expected) = self.hard(&micro_batch)?;
        let (_, computed) = self.learn_masked(&cut, &labels)?;
        let except: Vec<&str> = names.iter().map(String::as_str).collect();
        let what = "positions without context, beside a causal model";
        let batch = GlobalBatch::of_micro_batch(micro_batch);
        self.combination(what, &batch, &computed, &[(factor, &expected)], &except);
        Ok(true)
    }
}
