//! The rows of a streamed verification.

use super::{
    blocks::{Blocks, name as block_name},
    report::{BoundFrom, Row, Statement},
    row::RowBuilder,
    semantics::Semantics,
    stream::scaled,
    streamed::{Computed, Side},
};
use lossproof_numerics::{ErrorModel, f32_rule};

/// What subjects are judged by.
pub(super) struct Judge<'a> {
    pub(super) model: ErrorModel,
    pub(super) blocks: &'a Blocks,
    /// The truth's loss of every prediction.
    pub(super) truth_losses: &'a [f64],
}

impl Judge<'_> {
    pub(super) fn token_losses(&self, side: &Side) -> Row {
        let text = "token losses = the f64 truth's".to_owned();
        let mut row =
            RowBuilder::new(Statement::TruthTokenLosses, None, &side.name, text, BoundFrom::Rounding);
        row.token_losses(self.model.loss_bound(side.dtype), &side.token_losses, self.truth_losses);
        row.finish()
    }

    /// For each side: its loss against the weighted sum of the truth's token losses, and against the weighted sum of its own token losses.
    pub(super) fn losses(&self, meaning: &Semantics, sides: &[Side], computed: &[Computed]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (side, own) in sides.iter().zip(computed) {
            let scale = meaning.loss_scale(self.truth_losses);
            let references = [
                (Statement::TruthLoss, "loss = the f64 truth's", meaning.loss(self.truth_losses)),
                (Statement::LossCalculus, "loss = Σ_t w_t·ℓ_t", meaning.loss(&side.token_losses)),
            ];
            for (statement, text, expected) in references {
                let mut row = RowBuilder::new(
                    statement,
                    Some(meaning.name),
                    &side.name,
                    text.to_owned(),
                    BoundFrom::Rounding,
                );
                let bound = self.model.loss_bound(side.dtype);
                row.number(|| "the loss".to_owned(), bound, (own.observation.loss, expected), scale);
                rows.push(row.finish());
            }
        }
        rows
    }

    /// For each side: its gradient against the truth, by the rule of the other side's distance, or by the rounding model
    /// where there is no other side.
    pub(super) fn gradients(&self, meaning: &Semantics, sides: &[Side], computed: &[Computed]) -> Vec<Row> {
        // What a difference was taken from is the truth, whichever side's difference it is.
        let truth = |index: usize| {
            computed.iter().find_map(|own| own.differences[index]).map_or(f64::NAN, |d| d.expected)
        };
        let scales = self.blocks.scales(|index, _| truth(index));
        let rows = sides.iter().zip(computed).enumerate().map(|(this, (side, own))| {
            let other = computed.iter().enumerate().find(|(index, _)| *index != this).map(|(_, other)| other);
            let bound_from = if other.is_some() { BoundFrom::OtherDistance } else { BoundFrom::Rounding };
            let text = "∇ = the f64 truth's".to_owned();
            let mut row =
                RowBuilder::new(Statement::TruthGradient, Some(meaning.name), &side.name, text, bound_from);
            for (index, (block, scale)) in self.blocks.with_scales(&scales).enumerate() {
                let at = || block_name(block);
                let Some(difference) = own.differences[index] else {
                    row.hold(|| format!("{} was not handed over", block.parameter), f64::INFINITY, 0.0);
                    continue;
                };
                let bound = side.noise
                    + match other.map(|other| other.differences[index]) {
                        None => self.model.gradient_bound(side.dtype),
                        Some(other) => {
                            let distance = other.map_or(f64::NAN, |difference| difference.relative_to(scale));
                            // Where the other side is itself broken it is no yardstick.
                            let floor = self.model.gradient_floor(side.dtype);
                            let rule = f32_rule(distance, floor);
                            if rule.is_finite() {
                                rule.min(self.model.gradient_bound(side.dtype))
                            } else {
                                floor
                            }
                        }
                    };
                if block.structurally_zero {
                    row.hold(at, difference.relative_to(scale), bound);
                } else {
                    let error = |factor: f64| scaled(&difference, factor) / scale;
                    row.compare(at, bound, difference.actual / scale, error);
                    row.end_unit();
                }
            }
            row.finish()
        });
        rows.collect()
    }

    /// Within one side: `g = Σ_i w_i·g_i`, on the projections of every tensor. Each projection of a rounding error is a sum
    /// of roundings with random signs, so the rounding model's bound holds for it as it does for the norm.
    pub(super) fn calculus(&self, meaning: &Semantics, side: &Side, own: &Computed) -> Row {
        let text = "∇ = Σ_i w_i · ∇(sum of sequence i)".to_owned();
        let mut row = RowBuilder::new(
            Statement::GradientCalculus,
            Some(meaning.name),
            &side.name,
            text,
            BoundFrom::Rounding,
        );
        let bound = self.model.gradient_bound(side.dtype) + side.noise;
        for (name, sketch) in &own.sketches {
            let parts: Vec<_> = side.sequences.iter().filter_map(|sketches| sketches.get(name)).collect();
            if parts.len() != meaning.weights.len() {
                row.hold(|| format!("{name} was not handed over"), f64::INFINITY, bound);
                continue;
            }
            let weighed = |value: &dyn Fn(usize) -> f64| -> f64 {
                meaning.weights.iter().enumerate().map(|(sequence, weight)| weight * value(sequence)).sum()
            };
            let scale = sketch.norm.max(weighed(&|sequence| parts[sequence].norm));
            let expected: Vec<f64> = (0..sketch.projections.len())
                .map(|projection| weighed(&|sequence| parts[sequence].projections[projection]))
                .collect();
            let error = |factor: f64| {
                let pairs = sketch.projections.iter().zip(&expected);
                let apart = pairs.map(|(actual, expected)| (factor * actual - expected).abs() / scale);
                // `max` passes over NaN; a NaN must not pass.
                apart.fold(
                    0.0,
                    |largest: f64, error| if error.is_nan() { f64::NAN } else { largest.max(error) },
                )
            };
            let effect = sketch.projections.iter().map(|p| p.abs() / scale).fold(0.0, f64::max);
            row.compare(|| name.clone(), bound, effect, error);
            row.end_unit();
        }
        row.finish()
    }
}
