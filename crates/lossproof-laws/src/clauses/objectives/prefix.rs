//! Clause 1.13: a prefix language model sees its source whole, does not score it, and is causal behind it.

use super::{influences, micro_batch_of, plain};
use crate::trial::{CaseOutcome, Computed, Ended, Trial};
use lossproof_cases::edit::id;
use lossproof_spec::{IGNORE_INDEX, Role};
use lossproof_subject::ObjectiveBatch;
use rand::RngExt;
use std::collections::BTreeSet;

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

/// Without a source it is a causal model, as with one of one position; labels of the source say nothing; what stands
/// behind a label is not seen, and all of the source is.
pub(crate) fn prefix_source(trial: &mut Trial<'_>) -> CaseOutcome {
    let tokens = trial.rows_of_tokens();
    if tokens.iter().all(|row| row.len() < 2) || trial.vocabulary() < 2 {
        return Ok(false);
    }
    let labels = tokens.iter().map(|row| row.iter().map(|&token| i64::from(token)).collect()).collect();
    let all = Rows { sources: vec![0; tokens.len()], tokens, labels };
    let unseen =
        Rows { sources: all.tokens.iter().map(|_| trial.random.random_range(0..2)).collect(), ..all.clone() };
    let (batch, of_unseen) = trial.learn_rows(&unseen)?;
    let (factor, causal) = trial.hard(batch.micro_batch())?;
    let what = "sources of at most one position";
    trial.combination(what, &influences(&batch), &of_unseen, &[(factor, &causal)], &[]);

    let mut rows = all.clone();
    for (row, source) in rows.tokens.iter().zip(&mut rows.sources) {
        *source = trial.random.random_range(0..row.len().max(2));
    }
    let behind = rows.supervised(|row, position| position >= rows.sources[row].max(1));
    let (_, of_rows) = trial.learn_rows(&rows)?;
    let (batch, expected) = trial.learn_rows(&behind)?;
    trial.combination("labels of the source", &influences(&batch), &of_rows, &[(1.0, &expected)], &[]);
    let whole = trial.made_of_its_labels(&behind.labels, |labels| {
        Rows { labels: labels.to_vec(), ..behind.clone() }.batch()
    });
    trial.continued(whole)?;
    trial.is_causal_behind(&behind)?;
    trial.sees_its_source(&all)
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

    /// In a source of two positions the first sees the second, and in one of three both see the third, which they do
    /// not in a causal model. That reaches a label by way of two blocks: with one it makes no difference. Tells whether
    /// there is a sequence for it.
    fn sees_its_source(&mut self, all: &Rows) -> CaseOutcome {
        let blocks = self.blocks_that_mix();
        let vocabulary = self.vocabulary();
        let mut told = false;
        for (unit, length) in [("a source of two positions", 2), ("a source of three positions", 3)] {
            // Of tokens that are all the same a position may see more of without a difference.
            if length > vocabulary {
                continue;
            }
            let mut rows = all.clone();
            for (row, labels) in rows.tokens.iter_mut().zip(&mut rows.labels) {
                for (position, token) in row.iter_mut().enumerate().take(length) {
                    *token = id(position);
                    labels[position] = i64::from(*token);
                }
            }
            let causal = rows.supervised(|_, position| position >= length);
            if causal.batch().scored() == 0 {
                continue;
            }
            let source = |row: &Vec<u32>| if row.len() > length { length } else { 0 };
            let seen = Rows { sources: causal.tokens.iter().map(source).collect(), ..causal.clone() };
            let (_, expected) = self.learn_rows(&causal)?;
            let (_, computed) = self.learn_rows(&seen)?;
            // Blocks that write nothing yet let nothing through.
            let demanded = blocks > 1 && self.subject.parameter_loading().is_some();
            match self.differs(&computed, &expected) {
                Some(true) => self.fact(unit, true, String::new),
                Some(false) if demanded => self.fact(unit, false, || {
                    format!("{unit}, all of which is seen, has the loss and the gradient of one that is not")
                }),
                _ if blocks == 1 => {}
                _ => self.comparisons.require(unit),
            }
            told = true;
        }
        Ok(told)
    }

    /// How many blocks mix positions, by the names and the roles of their parameters; 0 where these do not tell.
    fn blocks_that_mix(&self) -> usize {
        let mixes = |role: Role| matches!(role, Role::Query | Role::QueryKeyValue);
        let parameters = self.facts.parameters.iter().chain(&self.facts.info.model.frozen);
        let blocks: BTreeSet<_> =
            parameters.filter(|info| mixes(info.role)).filter_map(|info| info.block).collect();
        blocks.len()
    }
}
