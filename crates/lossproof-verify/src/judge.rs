//! The rows of a streamed verification.

use super::{
    growth::GROWTH,
    row::RowBuilder,
    semantics::Semantics,
    side::Side,
    statement::{BoundFrom, Row, Statement},
    truth::Truth,
};
use lossproof_laws::{
    Projections,
    blocks::{Blocks, Scales, name as block_name},
};
use lossproof_numerics::{ErrorModel, f32_rule};

/// What subjects are judged by.
pub(super) struct Judge<'a> {
    pub(super) model: ErrorModel,
    pub(super) blocks: &'a Blocks,
    pub(super) truth: Option<&'a Truth>,
    pub(super) sides: &'a [Side],
}

impl Judge<'_> {
    /// Token losses against the truth's; without one, the first side's against the second's.
    pub(super) fn token_losses(&self) -> Vec<Row> {
        let row = |side: &Side, statement, text: String, expected: &[f64]| {
            let mut row = RowBuilder::new(statement, None, &side.name, text, BoundFrom::Rounding);
            row.token_losses(self.model.loss_bound(side.dtype), &side.token_losses, expected);
            row.finish()
        };
        match (self.truth, self.sides) {
            (Some(truth), sides) => {
                let text = "token losses = the f64 truth's";
                let own = |side| row(side, Statement::TruthTokenLosses, text.to_owned(), &truth.token_losses);
                sides.iter().map(own).collect()
            }
            (None, [ours, theirs]) => {
                let text = format!("token losses = {}'s", theirs.name);
                vec![row(ours, Statement::TokenLosses, text, &theirs.token_losses)]
            }
            _ => Vec::new(),
        }
    }

    /// All rows of one semantics.
    pub(super) fn semantics(&self, number: usize, meaning: &Semantics) -> Vec<Row> {
        let mut rows = Vec::new();
        // Where the weights are a multiple of the sum's, so is the truth, and its derivative says nothing new.
        if let Some(truth) = self.truth.filter(|_| number == 0 || meaning.over_sum.is_none()) {
            rows.push(truth.row(meaning, self.blocks));
        }
        for (index, side) in self.sides.iter().enumerate() {
            rows.extend(self.loss(number, meaning, index));
            rows.push(self.loss_calculus(number, meaning, side));
        }
        for index in 0..self.sides.len() {
            rows.extend(match self.truth {
                Some(truth) => Some(self.against_truth(number, meaning, index, truth)),
                None if index == 0 => self.against_other(number, meaning),
                None => None,
            });
        }
        rows.extend(self.sides.iter().map(|side| self.calculus(number, meaning, side)));
        rows
    }

    /// A side's loss against the weighted sum of the truth's token losses; without a truth, the first side's loss against
    /// the second's.
    fn loss(&self, number: usize, meaning: &Semantics, index: usize) -> Option<Row> {
        let side = &self.sides[index];
        let (statement, text, expected, losses) = match (self.truth, self.sides) {
            (Some(truth), _) => {
                let text = "loss = the f64 truth's".to_owned();
                (Statement::TruthLoss, text, meaning.loss(&truth.token_losses), &truth.token_losses)
            }
            (None, [_, theirs]) if index == 0 => {
                let loss = theirs.computed[number].observation.loss;
                (Statement::Loss, format!("loss = {}'s", theirs.name), loss, &theirs.token_losses)
            }
            _ => return None,
        };
        Some(self.number(statement, text, number, meaning, side, expected, losses))
    }

    /// A side's loss against the weighted sum of its own token losses.
    fn loss_calculus(&self, number: usize, meaning: &Semantics, side: &Side) -> Row {
        let text = "loss = Σ_t w_t·ℓ_t".to_owned();
        let losses = &side.token_losses;
        self.number(Statement::LossCalculus, text, number, meaning, side, meaning.loss(losses), losses)
    }

    #[expect(clippy::too_many_arguments, reason = "a row has this many facts")]
    fn number(
        &self,
        statement: Statement,
        text: String,
        number: usize,
        meaning: &Semantics,
        side: &Side,
        expected: f64,
        scale_of: &[f64],
    ) -> Row {
        let mut row = RowBuilder::new(statement, Some(meaning.name), &side.name, text, BoundFrom::Rounding);
        let actual = side.computed[number].observation.loss;
        let bound = self.model.loss_bound(side.dtype);
        row.number(|| "the loss".to_owned(), bound, (actual, expected), meaning.loss_scale(scale_of));
        row.finish()
    }

    /// A side's gradient against the truth, by the rule of the other side's distance, or by the rounding model where there
    /// is no other side.
    fn against_truth(&self, number: usize, meaning: &Semantics, index: usize, truth: &Truth) -> Row {
        let side = &self.sides[index];
        let other = self.sides.iter().enumerate().find(|(other, _)| *other != index).map(|(_, side)| side);
        let bound_from = if other.is_some() { BoundFrom::OtherDistance } else { BoundFrom::Rounding };
        let text = "∇ = the f64 truth's".to_owned();
        let mut row =
            RowBuilder::new(Statement::TruthGradient, Some(meaning.name), &side.name, text, bound_from);
        let scales = self.blocks.scales(|block, _| truth.sequences.scale(&meaning.weights, block));
        let exact = |block| truth.sequences.composed(&meaning.weights, block);
        let (most, floor) = (self.model.gradient_bound(side.dtype), self.model.gradient_floor(side.dtype));
        let bound = |block: usize, scale: f64| {
            let Some(other) = other else { return most };
            let sketch = other.computed[number].sketches[block].as_ref();
            let distance = sketch
                .zip(exact(block))
                .map_or(f64::NAN, |(sketch, exact)| sketch.projections.distance(1.0, &exact) / scale);
            // Where the other side is itself broken it is no yardstick.
            let rule = f32_rule(distance, floor);
            if rule.is_finite() { rule.min(most) } else { floor }
        };
        self.hold(&mut row, number, side, &scales, bound, exact);
        row.finish()
    }

    /// Where no truth fits in memory: the first side's gradient against the second's, by the growth law.
    fn against_other(&self, number: usize, meaning: &Semantics) -> Option<Row> {
        let [ours, theirs] = self.sides else { return None };
        let text = format!("∇ = {}'s", theirs.name);
        let from = BoundFrom::Extrapolated;
        let mut row = RowBuilder::new(Statement::Gradient, Some(meaning.name), &ours.name, text, from);
        let scales = self.blocks.scales(|block, _| theirs.sequences.scale(&meaning.weights, block));
        let bound = GROWTH * self.model.gradient_floor(ours.dtype) + theirs.noise;
        let other = |block: usize| {
            theirs.computed[number].sketches[block].as_ref().map(|sketch| sketch.projections.clone())
        };
        self.hold(&mut row, number, ours, &scales, |_, _| bound, other);
        Some(row.finish())
    }

    /// Within one side: `g = Σ_i w_i·g_i`.
    fn calculus(&self, number: usize, meaning: &Semantics, side: &Side) -> Row {
        let statement = Statement::GradientCalculus;
        let text = "∇ = Σ_i w_i · ∇(sum of sequence i)".to_owned();
        let mut row = RowBuilder::new(statement, Some(meaning.name), &side.name, text, BoundFrom::Rounding);
        let scales = self.blocks.scales(|block, _| side.sequences.scale(&meaning.weights, block));
        let bound = self.model.gradient_bound(side.dtype);
        let composed = |block| side.sequences.composed(&meaning.weights, block);
        self.hold(&mut row, number, side, &scales, |_, _| bound, composed);
        row.finish()
    }

    /// Holds every block of a side's gradient to what is expected of it.
    fn hold(
        &self,
        row: &mut RowBuilder,
        number: usize,
        side: &Side,
        scales: &Scales,
        bound: impl Fn(usize, f64) -> f64,
        expected: impl Fn(usize) -> Option<Projections>,
    ) {
        for (index, (block, scale)) in self.blocks.with_scales(scales).enumerate() {
            let bound = bound(index, scale) + side.noise;
            let (sketch, expected) = match (side.computed[number].sketches[index].as_ref(), expected(index)) {
                (Some(sketch), Some(expected)) => (sketch, expected),
                // Consistent, and nothing to certify.
                (None, None) => {
                    row.uncertain();
                    continue;
                }
                _ => {
                    let at = || format!("{} was not handed over", block.parameter);
                    row.hold(at, f64::INFINITY, bound);
                    continue;
                }
            };
            let error = |factor: f64| sketch.projections.distance(factor, &expected) / scale;
            if block.structurally_zero {
                row.hold(|| block_name(block), error(1.0).max(sketch.norm / scale), bound);
            } else {
                row.compare(|| block_name(block), bound, sketch.projections.size() / scale, error);
                row.end_unit();
            }
        }
    }
}
