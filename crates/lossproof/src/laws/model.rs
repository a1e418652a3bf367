//! Clauses of group 6: what a model may see, and where gradients must arrive.

use super::{
    edit::{assemble, disassemble, edit, map_sequences},
    trial::{Computed, Stop, Told, Trial, replace, values},
};
use crate::verify::blocks::{self, Blocks};
use lossproof_numerics::{Dtype, directional_bound, rademacher, sweep};
use lossproof_spec::{
    CompensatedSum, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence, SequenceFields, TokenWeights,
};
use rand::{RngExt, seq::SliceRandom};

/// The embedding, which is also the head.
const EMBEDDING: &str = "wte.weight";
/// The position embedding.
const POSITIONS: &str = "wpe.weight";

/// First step and halvings of a finite difference, as in `verify`.
const FIRST_STEP: f64 = 0.004;
const HALVINGS: usize = 5;

/// Parameters differentiated in one case: over the cases of a run all of them come up.
const DIFFERENTIATED: usize = 3;

impl Trial<'_> {
    fn vocabulary(&self) -> usize {
        self.facts.info.limits.vocabulary
    }

    /// A cut through every sequence, and the batch with other input tokens after it.
    fn another_future(&mut self) -> (Vec<usize>, GlobalBatch) {
        let vocabulary = self.vocabulary();
        let random = &mut self.random;
        let mut cuts = Vec::new();
        let changed = map_sequences(&self.case.batch, |sequence| {
            let cut = random.random_range(0..sequence.len());
            cuts.push(cut);
            edit(sequence, |fields| {
                for token in &mut fields.input_ids[cut + 1..] {
                    *token = id((*token as usize + random.random_range(1..vocabulary.max(2))) % vocabulary);
                }
            })
        });
        (cuts, changed)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "vocabularies and positions are counted in u32")]
fn id(index: usize) -> u32 {
    index as u32
}

/// Tokens change no loss of a prediction made before them.
pub(super) fn causality(trial: &mut Trial<'_>) -> Told {
    let batch = trial.case.batch.clone();
    let (cuts, changed) = trial.another_future();
    let (before, after) = (trial.token_losses(&batch)?, trial.token_losses(&changed)?);
    let bound = trial.loss_bound(&batch);
    let mut tells = false;
    for ((prediction, &before), &after) in batch.predictions().zip(&before).zip(&after) {
        if prediction.position <= cuts[prediction.sequence] {
            let what = format!("{prediction:?} after later tokens changed");
            trial.number(&what, "token loss", bound, (after, before), before.abs().max(1.0));
        } else {
            tells |= after.to_bits() != before.to_bits();
        }
    }
    Ok(tells)
}

/// Tokens change no gradient of a loss that is predicted before them.
pub(super) fn causal_gradient(trial: &mut Trial<'_>) -> Told {
    let (cuts, changed) = trial.another_future();
    let past = |batch: &GlobalBatch| {
        let mut cut = cuts.iter();
        map_sequences(batch, |s| {
            let cut = cut.next().copied().unwrap_or(0);
            s.supervise_only(|position| position <= cut)
        })
    };
    let (batch, other) = (past(&trial.case.batch), past(&changed));
    let spec = trial.spec(&[&batch]);
    let (expected, actual) = (trial.gradient(&spec, &batch)?, trial.gradient(&spec, &other)?);
    trial.same("after later tokens changed", &other, &actual, &expected);
    Ok(batch != other && expected.total > 0.0)
}

/// A model whose upper half of the vocabulary embeds as the lower half does, and a batch that uses the lower half alone.
struct Twins {
    batch: GlobalBatch,
    half: usize,
    columns: usize,
}

impl Trial<'_> {
    /// Loads parameters under which every token below half the vocabulary has a twin with the same embedding.
    fn twins(&mut self) -> Result<Twins, Stop> {
        let mut parameters = self.parameters()?;
        let mut embedding = values(&parameters, EMBEDDING)?;
        let half = self.vocabulary() / 2;
        let columns = embedding.len() / self.vocabulary().max(1);
        if half == 0 {
            return Err(Stop::Void);
        }
        embedding.copy_within(0..half * columns, half * columns);
        replace(&mut parameters, EMBEDDING, embedding)?;
        self.load(&parameters)?;
        let fold = |token: &mut u32| *token = id(*token as usize % half);
        let batch = map_sequences(&self.case.batch, |sequence| {
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
        Ok(Twins { batch, half, columns })
    }

    /// Holds two computations to each other that differ in which of two twins is the input: everything is the same, and
    /// what each pair of twins receives in the embedding adds up to the same.
    fn same_but_for_twins(
        &mut self,
        what: &str,
        twins: &Twins,
        one: &Computed,
        other: &Computed,
    ) -> Result<(), Stop> {
        self.combination(what, &twins.batch, one, &[(1.0, other)], &[EMBEDDING]);
        let (one, other) = (values(&one.gradient, EMBEDDING)?, values(&other.gradient, EMBEDDING)?);
        let fold = |gradient: &[f64]| -> Vec<f64> {
            let (lower, upper) =
                gradient[..2 * twins.half * twins.columns].split_at(twins.half * twins.columns);
            lower.iter().zip(upper).map(|(a, b)| a + b).collect()
        };
        let scale = norm(&one).max(norm(&other));
        let bound = self.gradient_bound(&twins.batch);
        self.elements(
            &format!("{what}: gradient of {EMBEDDING}, twins added"),
            EMBEDDING,
            bound,
            &fold(&one),
            &fold(&other),
            scale,
        );
        Ok(())
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The embedding's gradient is its part as an input plus its part as the head. Tokens with the same embedding can stand
/// for each other as inputs: then the first part moves to the other's row and the second stays.
pub(super) fn weight_tying(trial: &mut Trial<'_>) -> Told {
    let tied = trial.facts.parameters.iter().any(|p| p.name == EMBEDDING && p.tied_to.is_some());
    if !tied {
        return Err(Stop::Unsupported("a tied head".to_owned()));
    }
    let twins = trial.twins()?;
    let upper = map_sequences(&twins.batch, |sequence| {
        edit(sequence, |fields| fields.input_ids.iter_mut().for_each(|token| *token += id(twins.half)))
    });
    let spec = LossSpec { z_loss: 0.0, ..trial.spec(&[&twins.batch]) };
    let (low, up) = (trial.gradient(&spec, &twins.batch)?, trial.gradient(&spec, &upper)?);
    if low.total.is_nan() || low.total <= 0.0 {
        return Ok(false);
    }
    trial.same_but_for_twins("inputs replaced by their twins", &twins, &low, &up)?;

    let (of_low, of_up) = (values(&low.gradient, EMBEDDING)?, values(&up.gradient, EMBEDDING)?);
    let split = twins.half * twins.columns;
    // The head's part, from whichever run does not use the row as an input.
    let head: Vec<f64> = of_up[..split].iter().chain(&of_low[split..]).copied().collect();
    let input: Vec<f64> =
        of_low[..split].iter().zip(&of_up[..split]).map(|(both, head)| both - head).collect();
    let bound = trial.gradient_bound(&twins.batch);
    // Σ_c ∂ℓ/∂z_c = 0, so the head's part adds up to nothing over the vocabulary: what the lower half of it is, the rest undoes.
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
    trial.elements(what, "head part", bound, &lower, &upper, scale);
    let threshold = bound * norm(&of_low);
    for (part, what) in [(norm(&head), "the head's part"), (norm(&input), "the input's part")] {
        trial.fact(part > threshold, || format!("{what} of the embedding's gradient is missing"));
    }
    trial.derivative_of(EMBEDDING, &twins.batch).map(|_| true)
}

/// A token that occurs twice receives the gradients of both places, added.
pub(super) fn repeated_tokens(trial: &mut Trial<'_>) -> Told {
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
    let parted = map_sequences(&twins.batch, |sequence| {
        if index.next() != Some(chosen) {
            return sequence.clone();
        }
        edit(sequence, |fields| fields.input_ids[position] += id(twins.half))
    });
    let spec = trial.spec(&[&twins.batch]);
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
    fn renaming(&mut self, name: &str, rows: usize, rename: impl Fn(&mut SequenceFields, &[usize])) -> Told {
        let mut parameters = self.parameters()?;
        let batch = self.case.batch.clone();
        let spec = self.spec(&[&batch]);
        let before = self.gradient(&spec, &batch)?;
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(&mut self.random);
        let table = values(&parameters, name)?;
        replace(&mut parameters, name, permuted(&table, &order))?;
        self.load(&parameters)?;
        let renamed = map_sequences(&batch, |s| edit(s, |fields| rename(fields, &order)));
        let after = self.gradient(&spec, &renamed)?;
        let what = format!("rows of {name} renamed");
        self.combination(&what, &batch, &after, &[(1.0, &before)], &[name]);
        let (from, to) = (values(&before.gradient, name)?, values(&after.gradient, name)?);
        let bound = self.gradient_bound(&batch);
        self.elements(&what, name, bound, &to, &permuted(&from, &order), norm(&from));
        Ok(renamed != batch && before.total > 0.0)
    }
}

/// A position embedding is the row its position id names, in the forward pass and in the gradient.
pub(super) fn position_embedding(trial: &mut Trial<'_>) -> Told {
    if !trial.facts.info.limits.segments {
        return Err(Stop::Unsupported("position ids".to_owned()));
    }
    let rows = trial.facts.info.limits.positions;
    trial.renaming(POSITIONS, rows, |fields, order| {
        for position in &mut fields.position_ids {
            *position = id(order[*position as usize]);
        }
    })
}

/// Renaming the vocabulary changes no loss: nothing hangs on a token's number.
pub(super) fn vocabulary_permutation(trial: &mut Trial<'_>) -> Told {
    let rows = trial.vocabulary();
    trial.renaming(EMBEDDING, rows, |fields, order| {
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

/// Two documents in one row, unseen by each other.
fn packed(one: &Sequence, other: &Sequence) -> Sequence {
    let shift = one.segment_ids().iter().max().copied().unwrap_or(0);
    edit(one, |fields| {
        let other = SequenceFields::from(other.clone());
        let start = fields.labels.len();
        let shifted = |segment: u32| if segment == 0 { 0 } else { segment + shift };
        fields.input_ids.extend(other.input_ids);
        fields.labels.extend(other.labels);
        fields.segment_ids.extend(other.segment_ids.into_iter().map(shifted));
        fields.position_ids.extend(other.position_ids);
        fields.targets.extend(other.targets);
        // Nothing predicts the first token of a document.
        fields.labels[start] = IGNORE_INDEX;
    })
}

/// Packed documents are what they are separately.
pub(super) fn packing(trial: &mut Trial<'_>) -> Told {
    let limits = trial.facts.info.limits;
    if !limits.segments || limits.fixed_length || !limits.ignore_index {
        return Err(Stop::Unsupported("packed documents".to_owned()));
    }
    let mut ranks = disassemble(&trial.case.batch);
    let mut any = false;
    for micro_batch in ranks.iter_mut().flatten() {
        let mut rows: Vec<Sequence> = Vec::new();
        for sequence in micro_batch.drain(..) {
            match rows.last_mut() {
                Some(row) if row.len() + sequence.len() <= limits.positions => {
                    any |= row.supervised() > 0 && sequence.supervised() > 0;
                    *row = packed(row, &sequence);
                }
                _ => rows.push(sequence),
            }
        }
        *micro_batch = rows;
    }
    let together = assemble(ranks);
    let apart = trial.case.batch.clone();
    for preset in [LossSpec::sum(), LossSpec::token_mean()] {
        let spec = trial.with_token_loss(preset);
        let (expected, actual) = (trial.gradient(&spec, &apart)?, trial.gradient(&spec, &together)?);
        trial.same(&format!("{spec}, packed"), &together, &actual, &expected);
    }
    Ok(any)
}

/// The same call gives the same answer: nothing is random, as dropout would be, in training mode as in evaluation.
pub(super) fn determinism(trial: &mut Trial<'_>) -> Told {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch]);
    let (first, second) = (trial.gradient(&spec, &batch)?, trial.gradient(&spec, &batch)?);
    trial.same("the same call again", &batch, &second, &first);
    if trial.subject.token_losses().is_some() {
        let (first, second) = (trial.token_losses(&batch)?, trial.token_losses(&batch)?);
        let bound = trial.loss_bound(&batch);
        trial.elements(
            "the same evaluation again",
            "token losses",
            bound,
            &second,
            &first,
            norm(&first).max(1.0),
        );
    }
    Ok(first.total > 0.0)
}

/// Every parameter that can receive a gradient does.
pub(super) fn every_parameter(trial: &mut Trial<'_>) -> Told {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch]);
    let computed = trial.gradient(&spec, &batch)?;
    for block in Blocks::new(&batch, &trial.facts.parameters).all() {
        if !block.structurally_zero {
            let norm = blocks::norm(&computed.gradient, block);
            let name = blocks::name(block);
            trial.fact(norm > 0.0, || format!("the gradient of {name} has norm {norm}"));
        }
    }
    Ok(computed.total > 0.0)
}

impl Trial<'_> {
    /// Holds the gradient of one parameter to finite differences of the subject's own token losses, along random signs. The
    /// subject's parameters are those in force. `None` where the differences could not resolve it.
    fn derivative_of(&mut self, name: &str, batch: &GlobalBatch) -> Result<Option<()>, Stop> {
        if self.dtype() != Dtype::F64 {
            return Ok(None);
        }
        // Evaluation is of the plain token loss.
        let spec = LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..self.spec(&[batch]) };
        let computed = self.gradient(&spec, batch)?;
        let gradient = values(&computed.gradient, name)?;
        let weights =
            TokenWeights::new(&spec, &batch.layout()).map_err(|_| Stop::Void)?.per_prediction(batch);
        let point = self.current(name)?;
        let direction = rademacher(self.case.seed, 0, &point);
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, Stop> {
            let moved: Vec<f64> = point.iter().zip(&direction).map(|(x, v)| x + step * v).collect();
            self.set(name, &moved)?;
            self.token_losses(batch)
        });
        self.set(name, &point)?;
        let plateau = sweep?.contract(&weights);
        let inner: CompensatedSum = gradient.iter().zip(&direction).map(|(g, v)| g * v).collect();
        let inner = inner.value();
        let unit = directional_bound(1.0, 0.0, 0.0, 1);
        let scale = directional_bound(inner, norm(&gradient), norm(&direction), gradient.len()) / unit;
        // Differences that are less certain than the bound neither certify nor convict.
        if plateau.uncertainty > unit * scale && (inner - plateau.value).abs() <= plateau.uncertainty {
            return Ok(None);
        }
        let what = format!("derivative along ±1 in {name}");
        self.number(&what, name, unit + self.facts.noise, (inner, plateau.value), scale);
        Ok(Some(()))
    }

    /// Values of a parameter as they are loaded: the twins' embedding, or the case's.
    fn current(&mut self, name: &str) -> Result<Vec<f64>, Stop> {
        let parameters = self.loaded.clone().map_or_else(|| self.parameters(), Ok)?;
        values(&parameters, name)
    }
}

/// The gradient of parameters chosen at random is the derivative of the subject's own forward pass. Where a value is used
/// more than once, as on every residual path, all uses are in it.
pub(super) fn finite_differences(trial: &mut Trial<'_>) -> Told {
    if trial.dtype() != Dtype::F64 {
        return Err(Stop::Unsupported("double precision, which finite differences need".to_owned()));
    }
    let batch = trial.case.batch.clone();
    if batch.layout().supervised() == 0 {
        return Ok(false);
    }
    let zero = |name: &str, blocks: &Blocks| {
        blocks.all().iter().filter(|block| block.parameter == name).all(|block| block.structurally_zero)
    };
    let blocks = Blocks::new(&batch, &trial.facts.parameters);
    let names = trial.facts.parameters.iter().map(|p| p.name.clone());
    let mut names: Vec<String> = names.filter(|name| !zero(name, &blocks)).collect();
    names.shuffle(&mut trial.random);
    let mut told = false;
    for name in names.iter().take(DIFFERENTIATED) {
        told |= trial.derivative_of(name, &batch)?.is_some();
    }
    Ok(told)
}
