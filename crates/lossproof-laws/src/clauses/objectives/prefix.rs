//! Clause 1.13: a prefix language model sees its source whole, does not score it, and is causal behind it.

use super::{influences, micro_batch_of, plain};
use crate::trial::{CaseOutcome, Computed, Ended, Trial};
use lossproof_cases::edit::id;
use lossproof_spec::{IGNORE_INDEX, Role};
use lossproof_subject::ObjectiveBatch;
use rand::RngExt;

/// The shortest source with a position that sees more than a causal model's does.
const SHORTEST: usize = 2;

/// Sequences with their labels and sources.
#[derive(Clone)]
struct Rows {
    tokens: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    sources: Vec<usize>,
}

impl Rows {
    fn batch(&self) -> ObjectiveBatch {
        let rows = self.tokens.iter().zip(&self.labels);
        ObjectiveBatch::Prefix {
            micro_batch: micro_batch_of(rows.map(|(row, labels)| plain(row.clone(), labels.clone()))),
            prefixes: self.sources.clone(),
        }
    }

    /// The same with only those labels given for which `keep(row, position)` holds.
    fn supervised(&self, keep: impl Fn(usize, usize) -> bool) -> Self {
        let mut other = self.clone();
        for (row, labels) in other.labels.iter_mut().enumerate() {
            for (position, label) in labels.iter_mut().enumerate() {
                if !keep(row, position) {
                    *label = IGNORE_INDEX;
                }
            }
        }
        other
    }
}

/// Without a source it is a causal model; labels of the source say nothing; what stands behind a label is not seen, and
/// all of the source is.
pub(crate) fn prefix_source(trial: &mut Trial<'_>) -> CaseOutcome {
    let limits = trial.facts.info.limits;
    let tokens = trial.rows_of_tokens();
    if tokens.iter().all(|row| row.len() < 2) {
        return Ok(false);
    }
    let labels = tokens.iter().map(|row| row.iter().map(|&token| i64::from(token)).collect()).collect();
    let none = Rows { sources: vec![0; tokens.len()], tokens, labels };
    let (batch, of_none) = trial.learn_rows(&none)?;
    let (factor, causal) = trial.hard(batch.micro_batch())?;
    trial.combination("no source", &influences(&batch), &of_none, &[(factor, &causal)], &[]);

    let mut rows = none.clone();
    for (row, source) in rows.tokens.iter().zip(&mut rows.sources) {
        *source = trial.random.random_range(0..row.len().max(2));
    }
    if !limits.ignore_index {
        return Err(Ended::Unsupported("ignored labels".to_owned()));
    }
    let (_, given) = trial.learn_rows(&rows)?;
    let behind = rows.supervised(|row, position| position >= rows.sources[row]);
    let (batch, expected) = trial.learn_rows(&behind)?;
    trial.combination("labels of the source", &influences(&batch), &given, &[(1.0, &expected)], &[]);
    trial.is_causal_behind(&behind)?;
    trial.sees_its_source(&none)
}

impl Trial<'_> {
    fn learn_rows(&mut self, rows: &Rows) -> Result<(ObjectiveBatch, Computed), Ended> {
        let batch = rows.batch();
        let computed = self.learn(&batch)?;
        Ok((batch, computed))
    }

    /// Changes the tokens behind some label of each sequence. That is its own token too, where the label may be
    /// another.
    fn is_causal_behind(&mut self, rows: &Rows) -> Result<(), Ended> {
        let vocabulary = self.vocabulary();
        let own = usize::from(!self.facts.info.limits.free_labels);
        let mut last = Vec::new();
        for (row, &source) in rows.tokens.iter().zip(&rows.sources) {
            last.push(self.random.random_range(source.min(row.len() - 1)..row.len()));
        }
        let past = rows.supervised(|row, position| position <= last[row]);
        if past.batch().scored() == 0 {
            return Ok(());
        }
        let mut changed = past.clone();
        for (row, &last) in changed.tokens.iter_mut().zip(&last) {
            for token in row.iter_mut().skip(last.max(1) + own) {
                *token =
                    id((*token as usize + self.random.random_range(1..vocabulary.max(2)))
                        % vocabulary.max(1));
            }
        }
        let (_, expected) = self.learn_rows(&past)?;
        let (batch, computed) = self.learn_rows(&changed)?;
        let what = "after tokens behind a label changed";
        self.combination(what, &influences(&batch), &computed, &[(1.0, &expected)], &[]);
        Ok(())
    }

    /// With a source of two positions the first sees the second, which it does not without. That reaches a label by
    /// way of two blocks: with one it makes no difference. Tells whether there is a sequence for it.
    fn sees_its_source(&mut self, none: &Rows) -> CaseOutcome {
        let without = none.supervised(|_, position| position >= SHORTEST);
        if without.batch().scored() == 0 {
            return Ok(false);
        }
        let sources =
            without.tokens.iter().map(|row| if row.len() > SHORTEST { SHORTEST } else { 0 }).collect();
        let with = Rows { sources, ..without.clone() };
        let mixes = |role: Role| matches!(role, Role::Query | Role::QueryKeyValue);
        let all = self.facts.parameters.iter().chain(&self.facts.info.model.frozen);
        let blocks = all.filter(|parameter| mixes(parameter.role)).count();
        let (_, expected) = self.learn_rows(&without)?;
        let (_, computed) = self.learn_rows(&with)?;
        let unit = "what a source sees";
        if blocks > 1 {
            self.differs(unit, &computed, &expected, || {
                "a source that is seen whole has the loss of one that is not".to_owned()
            });
        } else if blocks == 0 && computed.loss().to_bits() == expected.loss().to_bits() {
            // One block, or a source that is not seen: the roles do not tell which.
            self.comparisons.require(unit);
        }
        Ok(true)
    }
}
