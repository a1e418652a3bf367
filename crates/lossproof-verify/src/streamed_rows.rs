//! The rows of a streamed verification, each a function of what subjects answered, gradients being sketches.

use super::{
    alteration::{Alteration, Answer},
    loss_rows::{LossRows, Yardstick},
    rounding_distance::FITTED,
    row::{Measurement, RowBuilder},
    semantics::Semantics,
    sketched_answers::{SketchedAnswers, factor, scaled},
    statement::{BoundFrom, Statement, StatementRow},
    truth::Truth,
};
use lossproof_laws::{
    Projections,
    blocks::{self, Blocks, Scales},
};
use lossproof_numerics::{Block, ErrorModel, f32_rule};

/// What the rows are functions of, and what they are held to.
pub(crate) struct StreamedRows<'a> {
    pub(crate) model: ErrorModel,
    pub(crate) blocks: &'a Blocks,
    pub(crate) truth: Option<&'a Truth>,
    /// The trainer, and the reference where there is one.
    pub(crate) sides: &'a [SketchedAnswers],
}

/// What the f64 truth is to a side that is held to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinship {
    /// Another implementation: what is wrong with the side is not wrong with the truth.
    Another,
    /// The same implementation in another dtype: they share what is wrong with both, and differ by what the
    /// dtype does.
    OtherPrecision,
    /// The same implementation in the same dtype: there is nothing they could differ by.
    Same,
}

impl StreamedRows<'_> {
    /// All rows at the parameters and on the batch of the verification.
    pub(crate) fn all(&self, semantics: &[Semantics]) -> Vec<StatementRow> {
        let mut rows = self.token_losses();
        rows.extend(self.sides.iter().filter_map(|side| self.losses(side).reported_token_losses(semantics)));
        for (number, meaning) in semantics.iter().enumerate() {
            // Where the weights are a multiple of the sum's, so is the truth, and its derivative says nothing
            // new.
            if let Some(truth) = self.truth.filter(|_| number == 0 || meaning.over_sum.is_none()) {
                rows.push(truth.row(number, meaning, self.blocks));
            }
            for (index, side) in self.sides.iter().enumerate() {
                rows.extend(self.loss(number, meaning, index));
                rows.push(self.losses(side).loss_calculus(number, meaning));
            }
            for index in 0..self.sides.len() {
                rows.extend(match self.truth {
                    Some(truth) => Some(self.against_truth(number, meaning, index, truth)),
                    None if index == 0 => self.against_reference(number, meaning),
                    None => None,
                });
            }
            if meaning.is_composed() {
                rows.extend(self.sides.iter().map(|side| self.calculus(number, meaning, side)));
            }
        }
        rows
    }

    fn losses<'b>(&self, side: &'b SketchedAnswers) -> LossRows<'b> {
        LossRows { judged: &side.losses, bound: self.model.loss_bound(side.losses.dtype) }
    }

    /// The reference as what the trainer is held to.
    fn reference(&self) -> Option<(Yardstick<'_>, String)> {
        let [trainer, reference] = self.sides else { return None };
        let is_judged = trainer.losses.identity == reference.losses.identity;
        let text = format!("{}'s", reference.losses.name);
        Some((Yardstick { losses: &reference.losses, is_judged }, text))
    }

    /// Evaluated token losses against the truth's; without one, the trainer's against the reference's.
    fn token_losses(&self) -> Vec<StatementRow> {
        let Some(truth) = self.truth else {
            let reference = self.reference();
            let row = reference.map(|(reference, text)| {
                self.losses(&self.sides[0]).token_losses(Statement::TokenLosses, &text, reference)
            });
            return row.into_iter().collect();
        };
        let row = |side: &SketchedAnswers| {
            let kinship = Kinship::of(side, truth);
            let statement = kinship.choose(Statement::TruthTokenLosses, Statement::PrecisionTokenLosses);
            self.losses(side).token_losses(statement, kinship.text(), kinship.yardstick(truth))
        };
        self.sides.iter().map(row).collect()
    }

    /// A side's loss against the weighted sum of the truth's token losses; without a truth, the trainer's
    /// loss against the reference's.
    fn loss(&self, number: usize, meaning: &Semantics, index: usize) -> Option<StatementRow> {
        let side = &self.sides[index];
        if let Some(truth) = self.truth {
            let kinship = Kinship::of(side, truth);
            let statement = kinship.choose(Statement::TruthLoss, Statement::PrecisionLoss);
            let (text, truth) = (kinship.text(), kinship.yardstick(truth));
            return self.losses(side).loss_of_truth(number, meaning, statement, text, truth);
        }
        let (reference, text) = self.reference().filter(|_| index == 0)?;
        self.losses(side).loss(number, meaning, &text, reference)
    }

    /// A side's gradient against the truth, by the rule of the other side's distance, or by the rounding
    /// model where there is no other side.
    fn against_truth(&self, number: usize, meaning: &Semantics, index: usize, truth: &Truth) -> StatementRow {
        let side = &self.sides[index];
        let other = self.sides.iter().enumerate().find(|(other, _)| *other != index).map(|(_, side)| side);
        let from = if other.is_some() { BoundFrom::OtherDistance } else { BoundFrom::Rounding };
        let kinship = Kinship::of(side, truth);
        let statement = kinship.choose(Statement::TruthGradient, Statement::PrecisionGradient);
        let text = format!("∇ = {}", kinship.text());
        let row = RowBuilder::new(statement, Some(meaning.name), &side.losses.name, text, from)
            .of_itself(kinship == Kinship::Same);
        let scales = self.blocks.scales(|block, _| truth.sequences.scale(&meaning.weights, block));
        let exact = |index| truth.sequences.composed(&meaning.weights, index);
        let dtype = side.losses.dtype;
        let (most, floor) = (self.model.gradient_bound(dtype), self.model.gradient_floor(dtype));
        let bound = |index: usize, block: &Block, scale: f64| {
            let Some(other) = other else { return most };
            let sketch = other.sketch(number, index, block, None);
            let distance = sketch
                .zip(exact(index))
                .map_or(f64::NAN, |(sketch, exact)| sketch.projections.distance(1.0, &exact) / scale);
            // Where the other side is itself broken it is no yardstick.
            let rule = f32_rule(distance, floor);
            if rule.is_finite() { rule.min(most) } else { floor }
        };
        let expected = |index, block: &Block, alteration: Option<&Alteration<'_>>| {
            let altered = alteration.filter(|_| kinship == Kinship::Same);
            Some(scaled(&exact(index)?, factor(number, block, altered)))
        };
        self.hold(row, number, side, &scales, bound, expected)
    }

    /// Where no truth fits in memory: the trainer's gradient against the reference's, by the law of rounding
    /// distances.
    fn against_reference(&self, number: usize, meaning: &Semantics) -> Option<StatementRow> {
        let [trainer, reference] = self.sides else { return None };
        let (yardstick, text) = self.reference()?;
        let is_itself = yardstick.is_judged;
        let (text, from) = (format!("∇ = {text}"), BoundFrom::Extrapolated);
        let row = RowBuilder::new(Statement::Gradient, Some(meaning.name), &trainer.losses.name, text, from)
            .of_itself(is_itself);
        let scales = self.blocks.scales(|block, _| reference.sequences.scale(&meaning.weights, block));
        let bound = FITTED * self.model.gradient_floor(trainer.losses.dtype) + reference.noise;
        let expected = |index, block: &Block, alteration: Option<&Alteration<'_>>| {
            let altered = alteration.filter(|_| is_itself);
            reference.sketch(number, index, block, altered).map(|sketch| sketch.projections)
        };
        Some(self.hold(row, number, trainer, &scales, |_, _, _| bound, expected))
    }

    /// Within one side: `g = Σ_i w_i·g_i`.
    fn calculus(&self, number: usize, meaning: &Semantics, side: &SketchedAnswers) -> StatementRow {
        let (statement, from) = (Statement::GradientCalculus, BoundFrom::Rounding);
        let text = "∇ = Σ_i w_i · ∇(sum of sequence i)".to_owned();
        let row = RowBuilder::new(statement, Some(meaning.name), &side.losses.name, text, from);
        let scales = self.blocks.scales(|block, _| side.sequences.scale(&meaning.weights, block));
        let bound = self.model.gradient_bound(side.losses.dtype);
        let composed =
            |index, _: &Block, _: Option<&Alteration<'_>>| side.sequences.composed(&meaning.weights, index);
        self.hold(row, number, side, &scales, |_, _, _| bound, composed)
    }

    /// Holds every block of a side's gradient to what is expected of it.
    fn hold(
        &self,
        mut row: RowBuilder,
        number: usize,
        side: &SketchedAnswers,
        scales: &Scales,
        bound: impl Fn(usize, &Block, f64) -> f64,
        expected: impl Fn(usize, &Block, Option<&Alteration<'_>>) -> Option<Projections>,
    ) -> StatementRow {
        for (index, (block, scale)) in self.blocks.with_scales(scales).enumerate() {
            let bound = bound(index, block, scale) + side.noise;
            let measure = |alteration: Option<&Alteration<'_>>| {
                let sketch = side.sketch(number, index, block, alteration);
                match (sketch, expected(index, block, alteration)) {
                    (Some(sketch), Some(expected)) => {
                        let error = sketch.projections.distance(1.0, &expected) / scale;
                        let exactly = block.structurally_zero;
                        let size = if exactly { sketch.norm } else { sketch.projections.size() };
                        vec![Measurement::of_block(block, error, size / scale, bound)]
                    }
                    // Consistent, and nothing to certify.
                    (None, None) => Vec::new(),
                    _ => vec![Measurement::Held { error: f64::INFINITY, bound }],
                }
            };
            let controls = |power| vec![Alteration::scaled(Answer::Gradient(number, block), power)];
            row.unit(&blocks::name(block), measure, controls);
        }
        row.finish()
    }
}

impl Kinship {
    fn of(side: &SketchedAnswers, truth: &Truth) -> Self {
        if side.losses.identity != truth.losses.identity {
            Self::Another
        } else if side.losses.dtype == truth.losses.dtype {
            Self::Same
        } else {
            Self::OtherPrecision
        }
    }

    fn choose(self, truth: Statement, precision: Statement) -> Statement {
        if self == Self::OtherPrecision { precision } else { truth }
    }

    fn text(self) -> &'static str {
        if self == Self::OtherPrecision { "its own in f64" } else { "the f64 truth's" }
    }

    fn yardstick(self, truth: &Truth) -> Yardstick<'_> {
        Yardstick { losses: &truth.losses, is_judged: self == Self::Same }
    }
}
