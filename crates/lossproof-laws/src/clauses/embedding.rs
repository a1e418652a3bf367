//! Clauses of group 6 on the embeddings: tokens and positions can be renamed, and a token can stand for
//! another that embeds alike. What that does to the gradient shows its parts.

use crate::trial::{CaseOutcome, Computed, Ended, Trial, replace, values};
use lossproof_cases::edit::{edit, id};
use lossproof_numerics::norm;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, Role, Sequence, SequenceFields};
use rand::seq::SliceRandom;

/// A model whose upper half of the vocabulary embeds as the lower half does, and a batch that uses the lower
/// half alone.
struct Twins {
    /// Name of the embedding.
    embedding: String,
    batch: GlobalBatch,
    half: usize,
    columns: usize,
}

impl Trial<'_> {
    /// Loads parameters under which every token below half the vocabulary has a twin with the same embedding.
    fn twins(&mut self) -> Result<Twins, Ended> {
        let mut parameters = self.parameters()?;
        let name = self.embedding()?;
        let mut embedding = values(&parameters, &name)?;
        let half = self.vocabulary() / 2;
        // Rows that are no tokens may follow.
        let columns = parameters.get(&name).and_then(|table| table.shape().last()).copied().unwrap_or(0);
        if half == 0 || embedding.len() < 2 * half * columns {
            return Err(Ended::NotApplicable);
        }
        embedding.copy_within(0..half * columns, half * columns);
        replace(&mut parameters, &name, embedding)?;
        self.load(&parameters)?;
        let fold = |token: &mut u32| *token = id(*token as usize % half);
        let batch = self.case.batch.map_sequences(|sequence| {
            edit(sequence, |fields| {
                fields.input_ids.iter_mut().for_each(fold);
                fields.targets.iter_mut().for_each(fold);
                for (label, &target) in fields.labels.iter_mut().zip(&fields.targets) {
                    if *label != IGNORE_INDEX {
                        *label = i64::from(target);
                    }
                }
            })
        });
        Ok(Twins { embedding: name, batch, half, columns })
    }

    /// Holds two computations to each other that differ in which of two twins is the input: everything is the
    /// same, and what each pair of twins receives in the embedding adds up to the same.
    fn same_but_for_twins(
        &mut self,
        what: &str,
        twins: &Twins,
        one: &Computed,
        other: &Computed,
    ) -> Result<(), Ended> {
        let name = &twins.embedding;
        self.combination(what, &twins.batch, one, &[(1.0, other)], &[name]);
        let (of_one, of_other) = (values(&one.gradient, name)?, values(&other.gradient, name)?);
        let fold = |gradient: &[f64]| -> Vec<f64> {
            let (lower, upper) =
                gradient[..2 * twins.half * twins.columns].split_at(twins.half * twins.columns);
            lower.iter().zip(upper).map(|(a, b)| a + b).collect()
        };
        let scale = norm(&of_one).max(norm(&of_other));
        let bound = self.gradient_bound(&twins.batch, name);
        let what = format!("{what}, twins added");
        self.rearranged(&what, name, bound, one, (&fold(&of_one), &fold(&of_other)), scale);
        Ok(())
    }
}

/// The embedding's gradient is its part as an input plus its part as the head. Tokens with the same embedding
/// can stand for each other as inputs: then the first part moves to the other's row and the second stays.
pub(crate) fn weight_tying(trial: &mut Trial<'_>) -> CaseOutcome {
    let embedding = &trial.embedding_for_a_head()?;
    let twins = trial.twins()?;
    let upper = twins.batch.map_sequences(|sequence| {
        edit(sequence, |fields| fields.input_ids.iter_mut().for_each(|token| *token += id(twins.half)))
    });
    let spec = trial.claimed(&LossSpec { z_loss: 0.0, ..trial.spec(&[&twins.batch])? })?;
    let (low, up) = (trial.gradient(&spec, &twins.batch)?, trial.gradient(&spec, &upper)?);
    if low.total.is_nan() || low.total <= 0.0 {
        return Ok(false);
    }
    trial.same_but_for_twins("inputs replaced by their twins", &twins, &low, &up)?;

    let (of_low, of_up) = (values(&low.gradient, embedding)?, values(&up.gradient, embedding)?);
    let split = twins.half * twins.columns;
    // The head's part, from whichever run does not use the row as an input.
    let head: Vec<f64> = of_up[..split].iter().chain(&of_low[split..]).copied().collect();
    let input: Vec<f64> =
        of_low[..split].iter().zip(&of_up[..split]).map(|(both, head)| both - head).collect();
    let bound = trial.gradient_bound(&twins.batch, embedding);
    // Σ_c ∂ℓ/∂z_c = 0, so the head's part adds up to nothing over the vocabulary: what the lower half of it
    // is, the rest undoes.
    let summed = |rows: &[f64], sign: f64| -> Vec<f64> {
        let mut sums = vec![0.0; twins.columns];
        for row in rows.chunks_exact(twins.columns) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += sign * value;
            }
        }
        sums
    };
    let (lower, upper) = (summed(&head[..split], 1.0), summed(&head[split..], -1.0));
    // Each sum of as many rows is within the root of their number of the norm.
    let scale = norm(&head) * (twins.half as f64).sqrt();
    let what =
        "the head's part of the embedding's gradient: the lower half of the vocabulary and what undoes it";
    trial.elements(what, embedding, bound, &lower, &upper, scale);
    let threshold = bound * norm(&of_low);
    for (part, what) in [(norm(&head), "the head's part"), (norm(&input), "the input's part")] {
        let size = if part > threshold { part } else { 0.0 };
        trial.present(embedding, size, || format!("{what} of the embedding's gradient is missing"));
    }
    trial.derivative_of(embedding, &twins.batch).map(|_| true)
}

/// A token that occurs twice receives the gradients of both places, added.
pub(crate) fn repeated_tokens(trial: &mut Trial<'_>) -> CaseOutcome {
    let twins = trial.twins()?;
    // The last prediction of a sequence with a repeated token in sight of a supervised prediction.
    let repeats = |sequence: &Sequence| {
        let last = (0..sequence.len()).rev().find(|&position| sequence.supervises(position))?;
        let seen = |p: &usize| sequence.segment_ids()[*p] == sequence.segment_ids()[last];
        let positions: Vec<usize> = (0..=last).filter(seen).collect();
        positions.iter().copied().find(|&later| {
            let token = sequence.input_ids()[later];
            positions.iter().any(|&p| p < later && sequence.input_ids()[p] == token)
        })
    };
    let found = twins.batch.sequences().enumerate().find_map(|(i, s)| Some((i, repeats(s)?)));
    let Some((chosen, position)) = found else { return Ok(false) };
    let mut index = 0..;
    let parted = twins.batch.map_sequences(|sequence| {
        if index.next() != Some(chosen) {
            return sequence.clone();
        }
        edit(sequence, |fields| fields.input_ids[position] += id(twins.half))
    });
    let spec = trial.spec(&[&twins.batch])?;
    let (together, apart) = (trial.gradient(&spec, &twins.batch)?, trial.gradient(&spec, &parted)?);
    trial.same_but_for_twins(
        "a repeated token replaced by its twin in one place",
        &twins,
        &together,
        &apart,
    )?;
    Ok(together.total > 0.0)
}

/// Rows of `gradient` where `order` says they went.
fn permuted(rows: &[f64], order: &[usize]) -> Vec<f64> {
    let columns = rows.len() / order.len().max(1);
    let mut moved = vec![0.0; rows.len()];
    for (row, &to) in order.iter().enumerate() {
        moved[to * columns..(to + 1) * columns].copy_from_slice(&rows[row * columns..(row + 1) * columns]);
    }
    moved
}

impl Trial<'_> {
    /// Renames the rows of an embedding: the loss stays, and the gradient's rows move along.
    fn renaming(
        &mut self,
        name: &str,
        rows: usize,
        rename: impl Fn(&mut SequenceFields, &[usize]),
    ) -> CaseOutcome {
        let mut parameters = self.parameters()?;
        let batch = self.case.batch.clone();
        let spec = self.spec(&[&batch])?;
        let before = self.gradient(&spec, &batch)?;
        // Rows that no id names stay where they are.
        let all = parameters.get(name).and_then(|table| table.shape().first()).copied().unwrap_or(0);
        if all < rows {
            return Err(Ended::Unsupported(format!("a row of {name} for every id")));
        }
        let mut order: Vec<usize> = (0..all).collect();
        order[..rows].shuffle(&mut self.random);
        let table = values(&parameters, name)?;
        replace(&mut parameters, name, permuted(&table, &order))?;
        self.load(&parameters)?;
        let renamed = batch.map_sequences(|s| edit(s, |fields| rename(fields, &order)));
        let after = self.gradient(&spec, &renamed)?;
        let what = format!("rows of {name} renamed");
        self.combination(&what, &batch, &after, &[(1.0, &before)], &[name]);
        let (from, to) = (values(&before.gradient, name)?, values(&after.gradient, name)?);
        let bound = self.gradient_bound(&batch, name);
        self.rearranged(&what, name, bound, &after, (&to, &permuted(&from, &order)), norm(&from));
        Ok(renamed != batch && before.total > 0.0)
    }
}

/// A position embedding is the row its position id names, in the forward pass and in the gradient.
pub(crate) fn position_embedding(trial: &mut Trial<'_>) -> CaseOutcome {
    if !trial.facts.info.limits.segments {
        return Err(Ended::Unsupported("position ids".to_owned()));
    }
    let rows = trial.facts.info.limits.positions;
    let name = trial.named_by(Role::PositionEmbedding, "a position embedding")?;
    trial.renaming(&name, rows, |fields, order| {
        for position in &mut fields.position_ids {
            *position = id(order[*position as usize]);
        }
    })
}

/// Renaming the vocabulary changes no loss: nothing hangs on a token's number.
pub(crate) fn vocabulary_permutation(trial: &mut Trial<'_>) -> CaseOutcome {
    let name = trial.embedding_for_a_head()?;
    let rows = trial.vocabulary();
    trial.renaming(&name, rows, |fields, order| {
        for token in fields.input_ids.iter_mut().chain(&mut fields.targets) {
            *token = id(order[*token as usize]);
        }
        for (label, &target) in fields.labels.iter_mut().zip(&fields.targets) {
            if *label != IGNORE_INDEX {
                *label = i64::from(target);
            }
        }
    })
}
