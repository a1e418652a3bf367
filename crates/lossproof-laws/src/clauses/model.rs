//! Clauses of group 6: what a model may see, and where gradients must arrive.

use crate::{
    blocks::{self, Blocks},
    trial::{CaseOutcome, Ended, Trial, values},
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
    let spec = trial.spec(&[&batch]);
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
    if !limits.segments || limits.fixed_length || !limits.ignore_index {
        return Err(Ended::Unsupported("packed documents".to_owned()));
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
pub(crate) fn determinism(trial: &mut Trial<'_>) -> CaseOutcome {
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
pub(crate) fn every_parameter(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch]);
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

impl Trial<'_> {
    /// Holds the gradient of one parameter to finite differences of the subject's own token losses, along random signs. The
    /// subject's parameters are those in force. `None` where the differences could not resolve it.
    pub(crate) fn derivative_of(&mut self, name: &str, batch: &GlobalBatch) -> Result<Option<()>, Ended> {
        if self.dtype() != Dtype::F64 {
            return Ok(None);
        }
        // Evaluation is of the plain token loss.
        let spec = LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..self.spec(&[batch]) };
        let computed = self.gradient(&spec, batch)?;
        let gradient = values(&computed.gradient, name)?;
        let weights = TokenWeights::new(&spec, &batch.layout())
            .map_err(|_| Ended::NotApplicable)?
            .per_prediction(batch);
        let point = self.current(name)?;
        let direction = rademacher(self.case.seed, 0, &point);
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, Ended> {
            let moved: Vec<f64> = point.iter().zip(&direction).map(|(x, v)| x + step * v).collect();
            self.set(name, &moved)?;
            self.token_losses(batch)
        });
        self.set(name, &point)?;
        let plateau = sweep?.contract(&weights);
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
    let share = (2 * names.len()).div_ceil(trial.facts.cases.max(1)).max(DIFFERENTIATED).min(names.len());
    let first = trial.facts.turn * share;
    let mut told = false;
    for name in &names {
        trial.comparisons.require(name);
    }
    for name in names.iter().cycle().skip(first % names.len().max(1)).take(share) {
        told |= trial.derivative_of(name, &batch)?.is_some();
    }
    Ok(told)
}
