//! Clauses of group 6: what a model may see, and where gradients must arrive.

use crate::{
    blocks,
    claimed::Piece,
    trial::{CaseOutcome, Computed, Ended, Trial, values},
};
use lossproof_cases::edit::{alone, assemble, disassemble, edit, id, packed};
use lossproof_numerics::{Control, Unit, Violation, norm};
use lossproof_spec::{CompensatedSum, GlobalBatch, LossSpec, Role, Sequence, TokenWeights};
use lossproof_subject::ParameterInfo;
use rand::RngExt;

impl Trial<'_> {
    /// A cut through every sequence, and the batch with other input tokens after it: not the first of them
    /// where it is the label of the prediction made at the cut.
    fn another_future(&mut self) -> (Vec<usize>, GlobalBatch) {
        let vocabulary = self.vocabulary();
        let kept = 1 + usize::from(!self.facts.info.limits.free_labels);
        let random = &mut self.random;
        let mut cuts = Vec::new();
        let changed = self.case.batch.map_sequences(|sequence| {
            let cut = random.random_range(0..sequence.len());
            cuts.push(cut);
            edit(sequence, |fields| {
                for token in fields.input_ids.iter_mut().skip(cut + kept) {
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
            let (position, sequence) = (prediction.position, prediction.sequence);
            let what = format!(
                "loss of what is predicted at position {position} of sequence {sequence}, after later tokens changed"
            );
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
    let mut of_a_long_row = None;
    for block in trial.blocks(&batch).all() {
        if !block.structurally_zero && !block.may_be_zero {
            let mut norm = blocks::norm(&computed.gradient, block);
            let name = blocks::name(block);
            let declared =
                |p: &ParameterInfo| p.name == block.parameter && !matches!(p.role, Role::Weight | Role::Bias);
            let mut on = "";
            // It may be for what only longer rows have: of its role nothing is known.
            if norm <= 0.0 && !trial.facts.parameters.iter().any(declared) {
                let long = of_a_long_row.get_or_insert_with(|| trial.long_row(&spec).ok());
                if let Some(long) = long {
                    norm = blocks::norm(&long.gradient, block);
                    on = ", in the longest row too; of a parameter that other batches use the role must be declared";
                }
            }
            trial.present(&name, norm, || format!("the gradient of {name} has norm {norm}{on}"));
        }
    }
    Ok(computed.total > 0.0)
}

/// Positions of the longest row that is tried where shorter ones leave a parameter without a gradient.
const LONGEST_ROW: usize = 4096;

impl Trial<'_> {
    /// What is computed of one row as long as the limits take, with every token that fits in it.
    fn long_row(&mut self, spec: &LossSpec) -> Result<Computed, Ended> {
        let limits = self.facts.info.limits;
        let length = limits.lengths.most.min(limits.positions).min(LONGEST_ROW);
        let tokens: Vec<u32> = (0..length).map(|position| id(position % self.vocabulary().max(1))).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        let row = Sequence::new(tokens, labels).map_err(|_| Ended::NotApplicable)?;
        self.gradient(spec, &alone(&row, &limits))
    }
}

/// Behind a layer norm nothing changes where all features of the residual stream move alike, so the gradient
/// of what is added to it as it is (a position's row, the bias of a block's output) sums to zero over
/// features.
pub(crate) fn norm_null_directions(trial: &mut Trial<'_>) -> CaseOutcome {
    let of_role = |role: Role| trial.facts.parameters.iter().filter(move |p| p.role == role).cloned();
    // A root mean square norm has no bias, and no such direction.
    let all = || trial.facts.parameters.iter().chain(&trial.facts.info.model.frozen);
    let layer_norms = all().filter(|p| p.role.is_norm_bias()).count();
    if layer_norms == 0 || layer_norms != all().filter(|p| p.role.is_gain()).count() {
        return Err(Ended::Unsupported("layer norms, by the roles of their gains and biases".to_owned()));
    }
    let added: Vec<_> = of_role(Role::BlockOutputBias).chain(of_role(Role::PositionEmbedding)).collect();
    if added.is_empty() {
        return Err(Ended::Unsupported("biases of block outputs, or a position embedding".to_owned()));
    }
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let computed = trial.gradient(&spec, &batch)?;
    let mut told = false;
    for ParameterInfo { name, shape, .. } in added {
        let width = shape.last().copied().unwrap_or(1).max(1);
        let gradient = values(&computed.gradient, &name)?;
        let sums: Vec<f64> = gradient
            .chunks(width)
            .map(|row| row.iter().copied().collect::<CompensatedSum>().value())
            .collect();
        told |= trial.null_direction(&computed, &name, width, norm(&gradient), norm(&sums));
    }
    Ok(told)
}

impl Trial<'_> {
    /// Holds the sums over the features of a gradient to zero, relative to what they are sums of. Tells
    /// whether there was a gradient.
    fn null_direction(&mut self, of: &Computed, name: &str, width: usize, size: f64, sums: f64) -> bool {
        if size <= 0.0 {
            self.comparisons.require(name);
            return false;
        }
        let bound = self.gradient_bound(&of.origin.batch, name);
        // The sum of C elements is at most √C times their norm, and errs by so many times their error.
        let features = (width as f64).sqrt();
        let mut scale = features * size;
        if Self::is_narrow(sums / scale, bound) {
            scale = self.with_tokens_of(of, name, features, scale);
        }
        let error = sums / scale;
        self.comparisons.hold(name, bound, error, || Violation {
            unit: name.to_owned(),
            statement: format!("sum over features of the gradient of {name}, behind layer norms"),
            error,
            bound,
            pair: Some((sums, 0.0)),
            ratio: None,
        });
        self.comparisons.certify(name, Unit { power: bound, control: Control::Any });
        true
    }
}
