//! Clauses of group 6: what a model may see, and where gradients must arrive.

use crate::{
    blocks::{self, Blocks},
    claimed::Piece,
    trial::{CaseOutcome, Ended, Trial, replace, values},
};
use lossproof_cases::edit::{assemble, disassemble, edit, id};
use lossproof_numerics::{FIRST_STEP, HALVINGS, Slope, norm, rademacher, sweep};
use lossproof_spec::{
    CompensatedSum, Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence, SequenceFields, TokenWeights,
};
use rand::RngExt;

/// Parameters differentiated in one case: over the cases of a run all of them come up.
const DIFFERENTIATED: usize = 3;

impl Trial<'_> {
    /// A cut through every sequence, and the batch with other input tokens after it.
    fn another_future(&mut self) -> (Vec<usize>, GlobalBatch) {
        let vocabulary = self.vocabulary();
        let random = &mut self.random;
        let mut cuts = Vec::new();
        let changed = self.case.batch.map_sequences(|sequence| {
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

/// Tokens change no loss of a prediction made before them.
pub(crate) fn causality(trial: &mut Trial<'_>) -> CaseOutcome {
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
pub(crate) fn causal_gradient(trial: &mut Trial<'_>) -> CaseOutcome {
    let (cuts, changed) = trial.another_future();
    let past = |batch: &GlobalBatch| {
        let mut cut = cuts.iter();
        batch.map_sequences(|s| {
            let cut = cut.next().copied().unwrap_or(0);
            s.supervise_only(|position| position <= cut)
        })
    };
    let (batch, other) = (past(&trial.case.batch), past(&changed));
    let spec = trial.spec(&[&batch])?;
    let (expected, actual) = (trial.gradient(&spec, &batch)?, trial.gradient(&spec, &other)?);
    trial.same("after later tokens changed", &other, &actual, &expected);
    Ok(batch != other && expected.total > 0.0)
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
pub(crate) fn packing(trial: &mut Trial<'_>) -> CaseOutcome {
    let limits = trial.facts.info.limits;
    if !limits.segments || limits.lengths.is_exact() || !limits.ignore_index {
        return Err(Ended::Unsupported("packed documents".to_owned()));
    }
    let mut ranks = disassemble(&trial.case.batch);
    let mut any = false;
    // The row of each document, and how many rows there are.
    let mut row_of = Vec::new();
    let mut row_count = 0;
    for micro_batch in ranks.iter_mut().flatten() {
        let mut rows: Vec<Sequence> = Vec::new();
        for sequence in micro_batch.drain(..) {
            match rows.last_mut() {
                Some(row) if row.len() + sequence.len() <= limits.lengths.most => {
                    any |= row.supervised() > 0 && sequence.supervised() > 0;
                    *row = packed(row, &sequence);
                }
                _ => {
                    rows.push(sequence);
                    row_count += 1;
                }
            }
            row_of.push(row_count - 1);
        }
        *micro_batch = rows;
    }
    let together = assemble(ranks);
    let apart = trial.case.batch.clone();
    let presets = [LossSpec::sum(), LossSpec::token_mean()];
    let claimed: Vec<LossSpec> = presets.into_iter().filter_map(|preset| trial.reduction(preset)).collect();
    for spec in &claimed {
        let (expected, actual) = (trial.gradient(spec, &apart)?, trial.gradient(spec, &together)?);
        trial.same(&format!("{spec}, packed"), &together, &actual, &expected);
    }
    // Under other semantics a document weighs what its row gives it.
    if claimed.is_empty() {
        let spec = trial.spec(&[&together])?;
        let weights = TokenWeights::new(&spec, &together.layout()).map_err(|_| Ended::NotApplicable)?;
        let weights: Vec<_> = weights.sequences().map(|(weight, _)| weight.clone()).collect();
        let pieces: Vec<Piece> = apart
            .sequences()
            .zip(row_of)
            .map(|(document, row)| (document.clone(), weights[row].clone()))
            .collect();
        trial.made_of(&format!("{spec}, packed"), &spec, &together, &pieces)?;
    }
    Ok(any)
}

/// The same call gives the same answer: nothing is random, as dropout would be, in training mode as in evaluation.
pub(crate) fn determinism(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
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
pub(crate) fn every_parameter(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let computed = trial.gradient(&spec, &batch)?;
    for block in Blocks::new(&batch, &trial.facts.parameters).all() {
        if !block.structurally_zero {
            let norm = blocks::norm(&computed.gradient, block);
            let name = blocks::name(block);
            trial.present(&name, norm, || format!("the gradient of {name} has norm {norm}"));
        }
    }
    Ok(computed.total > 0.0)
}

/// Losses that are differentiated, and what weighs each of them in the loss.
struct Differentiated {
    losses: Vec<f64>,
    weights: Vec<f64>,
}

impl Trial<'_> {
    /// The losses of a batch as the subject evaluates them where they are plain, as it reports them beside the
    /// gradient where they are not or it evaluates none, and else the one loss that it reports.
    fn differentiated(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Differentiated, Ended> {
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let weights = weights.per_prediction(batch);
        let plain = spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
        if plain && self.subject.token_losses().is_some() {
            return Ok(Differentiated { losses: self.token_losses(batch)?, weights });
        }
        let observation = self.gradient(spec, batch)?.observation;
        if let Some(losses) = observation.token_losses {
            let supervised = batch.predictions().zip(weights).filter(|(prediction, _)| prediction.supervised);
            return Ok(Differentiated { losses, weights: supervised.map(|(_, weight)| weight).collect() });
        }
        if self.facts.info.log_policy.logged(batch, spec) != [batch.clone()] {
            return Err(Ended::Unsupported("token losses, or the loss of a whole batch".to_owned()));
        }
        Ok(Differentiated { losses: vec![observation.loss], weights: vec![1.0] })
    }

    /// Holds the gradient of one parameter to finite differences of the subject's own losses, along random
    /// signs. The subject's parameters are those in force. `None` where the differences could not resolve it.
    pub(crate) fn derivative_of(&mut self, name: &str, batch: &GlobalBatch) -> Result<Option<()>, Ended> {
        if self.dtype() != Dtype::F64 {
            return Ok(None);
        }
        let spec = self.spec(&[batch])?;
        let computed = self.gradient(&spec, batch)?;
        let gradient = values(&computed.gradient, name)?;
        let point = self.current(name)?;
        let direction = rademacher(self.case.seed, 0, &point);
        let moved =
            |step: f64| -> Vec<f64> { point.iter().zip(&direction).map(|(x, v)| x + step * v).collect() };
        let mut weights = Vec::new();
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, Ended> {
            self.set(name, &moved(step))?;
            let found = self.differentiated(&spec, batch)?;
            weights = found.weights;
            Ok(found.losses)
        });
        self.set(name, &point)?;
        let plateau = sweep?.contract(&weights);
        self.set_is_loaded(name, moved(FIRST_STEP), &spec, batch)?;
        let inner: CompensatedSum = gradient.iter().zip(&direction).map(|(g, v)| g * v).collect();
        let inner = inner.value();
        let slope = Slope::new(inner, norm(&gradient), norm(&direction), gradient.len(), plateau);
        if slope.is_undecided(Slope::bound()) {
            return Ok(None);
        }
        let what = format!("derivative along ±1 in {name}");
        let bound = Slope::bound() + self.facts.noise;
        self.number(&what, name, bound, (slope.inner, slope.difference.value), slope.scale);
        Ok(Some(()))
    }

    /// Holds the losses where one parameter was set to those where it was loaded with all others: differences
    /// are taken of what was set, and loaded parameters are what all other laws know. The parameters in force
    /// are in force again afterwards.
    fn set_is_loaded(
        &mut self,
        name: &str,
        moved: Vec<f64>,
        spec: &LossSpec,
        batch: &GlobalBatch,
    ) -> Result<(), Ended> {
        let in_force = self.loaded.clone().map_or_else(|| self.parameters(), Ok)?;
        self.set(name, &moved)?;
        let set = self.differentiated(spec, batch)?.losses;
        let mut all = in_force.clone();
        replace(&mut all, name, moved)?;
        self.load(&all)?;
        let loaded = self.differentiated(spec, batch)?.losses;
        self.load(&in_force)?;
        let scale = loaded.iter().map(|loss| loss.abs().max(1.0)).collect::<Vec<_>>();
        let bound = self.loss_bound(batch);
        let what = format!("losses where {name} was set and where it was loaded");
        self.elements(&what, "losses", bound, &set, &loaded, norm(&scale));
        Ok(())
    }

    /// Values of a parameter as they are loaded: the twins' embedding, or the case's.
    fn current(&mut self, name: &str) -> Result<Vec<f64>, Ended> {
        let parameters = self.loaded.clone().map_or_else(|| self.parameters(), Ok)?;
        values(&parameters, name)
    }
}

/// The gradient of parameters chosen at random is the derivative of the subject's own forward pass. Where a value is used
/// more than once, as on every residual path, all uses are in it.
pub(crate) fn finite_differences(trial: &mut Trial<'_>) -> CaseOutcome {
    if trial.dtype() != Dtype::F64 {
        return Err(Ended::Unsupported("double precision, which finite differences need".to_owned()));
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
    let names: Vec<String> = names.filter(|name| !zero(name, &blocks)).collect();
    // Every parameter gets its turn, whatever is drawn, and twice where the number of cases is small.
    let share =
        (2 * names.len()).div_ceil(trial.facts.turn.cases.max(1)).max(DIFFERENTIATED).min(names.len());
    let first = trial.facts.turn.case * share;
    let mut told = false;
    for name in &names {
        trial.comparisons.require(name);
    }
    for name in names.iter().cycle().skip(first % names.len().max(1)).take(share) {
        told |= trial.derivative_of(name, &batch)?.is_some();
    }
    Ok(told)
}
