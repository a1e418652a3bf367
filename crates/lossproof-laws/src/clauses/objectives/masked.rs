//! Clause 1.9: a masked language model scores labels where they stand, and sees on both sides of them.

use super::{given, influences, micro_batch_of, plain};
use crate::trial::{CaseOutcome, Computed, Ended, Trial, replace, values};
use lossproof_cases::edit::id;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Role};
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
    let apart = trial.made_of_its_rows(&rows, &learnt);
    trial.continued(apart)?;
    let lone = trial.lone_tokens_are_causal(&rows);
    trial.continued(possible(lone))?;
    let without_context = trial.without_context_is_causal(&rows, &learnt);
    let without_context = trial.continued(possible(without_context))?.unwrap_or(true);
    // A token by itself cannot show that others are shifted in a circle.
    if !without_context && !trial.can_be_without_context() {
        let what = "parameters that can be loaded, and the roles of all that blocks write";
        return Err(Ended::Unsupported(what.to_owned()));
    }
    Ok(looked && without_context && labels > 1)
}

/// Tells that nothing was looked at where nothing could be: where no claim weighs all tokens alike.
fn possible(looked: CaseOutcome) -> CaseOutcome {
    match looked {
        Err(Ended::NotApplicable | Ended::OutsideLimits(_)) => Ok(false),
        looked => looked,
    }
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
                // No change of an answer makes it less than sound, so that nothing is certified by it.
                self.comparisons.fact("nothing masked", sound, || {
                    "nothing is masked, and the gradient is not a number".to_owned()
                });
                Ok(())
            }
            Err(Ended::Failed(SubjectError::Breach(breach))) => Err(Ended::Failed(breach.into())),
            Err(_) => Ok(()),
        }
    }

    /// Whether it is known of every parameter that a block writes with, and can be made to write nothing.
    fn can_be_without_context(&mut self) -> bool {
        let limits = self.facts.info.limits;
        let declared = self.facts.parameters.iter().any(|p| p.role == Role::BlockOutput);
        declared && self.subject.parameter_loading().is_some() && limits.free_labels && limits.ignore_index
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

    /// The loss of one label in each sequence, with the token behind it changed, or the one before it. Tells whether a
    /// sequence has two tokens.
    fn sees_both_sides(&mut self, rows: &[Vec<u32>]) -> CaseOutcome {
        let vocabulary = self.vocabulary();
        if vocabulary < 2 || !rows.iter().any(|row| row.len() > 1) {
            return Ok(false);
        }
        for (unit, behind) in [("tokens behind a label", true), ("tokens before a label", false)] {
            let (mut learnt, mut others) = (Vec::new(), rows.to_vec());
            for row in &mut others {
                let last = row.len() - 1;
                let (label, changed) = if behind { (0, last.min(1)) } else { (last, last.saturating_sub(1)) };
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
            match self.differs(&after, &before) {
                Some(seen) => self
                    .fact(unit, seen, || format!("neither loss nor gradient of a label depends on {unit}")),
                None => self.comparisons.require(unit),
            }
        }
        Ok(true)
    }

    /// Holds a batch to its sequences by themselves: none sees another, nor the padding that makes them equally long.
    fn made_of_its_rows(&mut self, rows: &[Vec<u32>], learnt: &[Vec<i64>]) -> Result<(), Ended> {
        let copies = self.facts.info.limits.sequences.least.max(1);
        let (whole, of_whole) = self.learn_masked(rows, learnt)?;
        let all = given(learnt);
        let mut parts = Vec::new();
        for (row, labels) in rows.iter().zip(learnt) {
            let own = given(std::slice::from_ref(labels));
            if own > 0 {
                let alone = self.learn_masked(&vec![row.clone(); copies], &vec![labels.clone(); copies])?.1;
                parts.push((own as f64 / all as f64, alone));
            }
        }
        let parts: Vec<_> = parts.iter().map(|(share, part)| (*share, part)).collect();
        self.combination("sequences by themselves", &influences(&whole), &of_whole, &parts, &[]);
        Ok(())
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
        if frozen || !self.can_be_without_context() {
            return Ok(false);
        }
        // A causal model has no prediction for a label at the end, so that there is none. Under means of sequences one
        // of them by itself weighs as it should.
        let labelled =
            |labels: &&Vec<i64>| labels[..labels.len() - 1].iter().any(|&label| label != IGNORE_INDEX);
        let Some(place) = learnt.iter().position(|labels| labelled(&labels)) else { return Ok(false) };
        let mut labels = learnt[place].clone();
        *labels.last_mut().ok_or(Ended::NotApplicable)? = IGNORE_INDEX;
        let mut later = vec![IGNORE_INDEX];
        later.extend(&labels[..labels.len() - 1]);
        let mut parameters = self.parameters()?;
        for name in &names {
            let nothing = vec![0.0; values(&parameters, name)?.len()];
            replace(&mut parameters, name, nothing)?;
        }
        self.load(&parameters)?;
        let copies = limits.sequences.least.max(1);
        let causal = |tokens: &[u32], labels: &[i64]| {
            micro_batch_of(vec![plain(tokens.to_vec(), labels.to_vec()); copies])
        };
        if self.still_mixes(&rows[place], &causal)? {
            return Ok(false);
        }
        let micro_batch = causal(&rows[place], &later);
        let (factor, expected) = self.hard(&micro_batch)?;
        let (_, computed) = self.learn_masked(&vec![rows[place].clone(); copies], &vec![labels; copies])?;
        let except: Vec<&str> = names.iter().map(String::as_str).collect();
        let what = "positions without context, beside a causal model";
        let batch = GlobalBatch::of_micro_batch(micro_batch);
        self.combination(what, &batch, &computed, &[(factor, &expected)], &except);
        Ok(true)
    }

    /// Whether the last prediction of a causal model depends on the first token all the same: a block writes with
    /// something whose role is not declared.
    fn still_mixes(
        &mut self,
        row: &[u32],
        causal: &impl Fn(&[u32], &[i64]) -> MicroBatch,
    ) -> Result<bool, Ended> {
        let (vocabulary, last) = (self.vocabulary(), row.len() - 1);
        if last < 2 || vocabulary < 2 {
            return Ok(false);
        }
        let mut labels = vec![IGNORE_INDEX; row.len()];
        labels[last] = i64::from(row[last]);
        let mut other = row.to_vec();
        other[0] = id((other[0] as usize + 1) % vocabulary);
        let (_, before) = self.hard(&causal(row, &labels))?;
        let (_, after) = self.hard(&causal(&other, &labels))?;
        let bound = self.loss_bound(&before.origin.batch) * before.loss_scale();
        Ok((before.loss() - after.loss()).abs() > bound)
    }
}
