//! The rows of a verification whose gradients are whole, each a function of what the two sides answered.

use super::{
    alteration::{Alteration, Answer},
    answers::Answers,
    derivative::Derivative,
    loss_rows::{LossRows, Yardstick},
    row::{Measurement, RowBuilder},
    semantics::Semantics,
    slopes::Slopes,
    statement::{BoundFrom, Statement, StatementRow},
};
use lossproof_laws::blocks::{self, Blocks};
use lossproof_numerics::{Block, difference};
use num_traits::ToPrimitive;

/// One side of a verification: what it answered, and the finite differences of its token losses.
pub(crate) struct Side {
    pub(crate) answers: Answers,
    pub(crate) derivatives: Vec<Derivative>,
}

/// What the rows are functions of, and what they are held to.
pub(crate) struct ExactRows<'a> {
    pub(crate) trainer: &'a Side,
    pub(crate) reference: &'a Side,
    pub(crate) blocks: &'a Blocks,
    pub(crate) loss_bound: f64,
    pub(crate) gradient_bound: f64,
    /// What two identical calls of either side differ by; it is part of the bound on gradients.
    pub(crate) noise: f64,
    /// Chooses the elements that controls alter.
    pub(crate) seed: u64,
}

impl<'a> ExactRows<'a> {
    /// All rows at the parameters and on the batch of the verification.
    pub(crate) fn all(&self, semantics: &[Semantics]) -> Vec<StatementRow> {
        let sides = [self.trainer, self.reference];
        let of_losses = |side: &'a Side| LossRows { judged: &side.answers.losses, bound: self.loss_bound };
        let losses = &self.reference.answers.losses;
        let reference = Yardstick { losses, is_judged: self.is_one_implementation() };
        let text = format!("{}'s", losses.name);
        let mut rows = vec![of_losses(self.trainer).token_losses(Statement::TokenLosses, &text, reference)];
        rows.extend(sides.iter().filter_map(|side| of_losses(side).reported_token_losses(semantics)));
        for (number, meaning) in semantics.iter().enumerate() {
            rows.extend(of_losses(self.trainer).loss(number, meaning, &text, reference));
            rows.extend(sides.map(|side| of_losses(side).loss_calculus(number, meaning)));
            rows.push(self.gradient(number, meaning, &text));
            rows.extend(sides.map(|side| self.finite_differences(number, meaning, side)));
            if meaning.is_composed() {
                rows.extend(sides.map(|side| self.gradient_calculus(number, meaning, side)));
            }
        }
        rows
    }

    /// Whether trainer and reference are one implementation.
    fn is_one_implementation(&self) -> bool {
        self.trainer.answers.losses.identity == self.reference.answers.losses.identity
    }

    /// The trainer's gradient against the reference's, element by element.
    ///
    /// What is altered in a control is the implementation: where both sides are the same one, both give the
    /// altered answer.
    fn gradient(&self, number: usize, meaning: &Semantics, text: &str) -> StatementRow {
        let (trainer, reference) = (&self.trainer.answers, &self.reference.answers);
        let is_itself = self.is_one_implementation();
        let name = &trainer.losses.name;
        let mut row = row(Statement::Gradient, meaning, name, format!("∇ = {text}"), BoundFrom::Rounding)
            .of_itself(is_itself);
        let size = |index: usize, norm: f64| norm.max(reference.composed_norm(&meaning.weights, index));
        let siblings =
            self.blocks.scales(|index, block| size(index, blocks::norm(reference.gradient(number), block)));
        for (index, (block, sibling)) in self.blocks.with_scales(&siblings).enumerate() {
            let measure = |alteration: Option<&Alteration<'_>>| {
                let actual = trainer.seen(alteration).elements(number, &block.parameter);
                let altered = alteration.filter(|_| is_itself);
                let expected = reference.seen(altered).elements(number, &block.parameter);
                let apart = difference(actual, expected, block.indices());
                let scale = if block.structurally_zero { sibling } else { size(index, apart.expected) };
                vec![Measurement::of_block(
                    block,
                    apart.relative_to(scale),
                    apart.actual / scale,
                    self.gradient_bound,
                )]
            };
            row.unit(&blocks::name(block), measure, |power| self.controls(trainer, number, block, power));
        }
        row.finish()
    }

    /// One side's gradient against what the calculus makes of its other gradients, element by element.
    fn gradient_calculus(&self, number: usize, meaning: &Semantics, side: &Side) -> StatementRow {
        let answers = &side.answers;
        let name = &answers.losses.name;
        let from = BoundFrom::Rounding;
        let mut row = row(Statement::GradientCalculus, meaning, name, meaning.relation(), from);
        let ratio = meaning.over_sum.as_ref().filter(|_| number > 0).and_then(ToPrimitive::to_f64);
        let size = |index: usize, norm: f64| norm.max(answers.composed_norm(&meaning.weights, index));
        let siblings =
            self.blocks.scales(|index, block| size(index, blocks::norm(answers.gradient(number), block)));
        for (index, (block, sibling)) in self.blocks.with_scales(&siblings).enumerate() {
            let measure = |alteration: Option<&Alteration<'_>>| {
                let seen = answers.seen(alteration);
                let actual = seen.elements(number, &block.parameter);
                let apart = if let Some(ratio) = ratio {
                    let sum = seen.elements(0, &block.parameter);
                    difference(actual, |index| ratio * sum(index), block.indices())
                } else {
                    let composed = seen.composed(&meaning.weights, &block.parameter);
                    difference(actual, composed, block.indices())
                };
                let scale = if block.structurally_zero { sibling } else { size(index, apart.actual) };
                vec![Measurement::of_block(
                    block,
                    apart.relative_to(scale),
                    apart.actual / scale,
                    self.gradient_bound,
                )]
            };
            row.unit(&blocks::name(block), measure, |power| self.controls(answers, number, block, power));
        }
        row.finish()
    }

    /// One side's gradient against the derivatives of its own evaluated token losses.
    fn finite_differences(&self, number: usize, meaning: &Semantics, side: &Side) -> StatementRow {
        let text = "∇ = finite differences of its forward".to_owned();
        let (answers, from) = (&side.answers, BoundFrom::Plateau);
        let mut row = row(Statement::FiniteDifferences, meaning, &answers.losses.name, text, from);
        for slopes in Slopes::of(&side.derivatives, meaning, answers.gradient(number)) {
            let parameter = slopes.parameter;
            let measure = |alteration: Option<&Alteration<'_>>| {
                let gradient = answers.seen(alteration).elements(number, &parameter.parameter);
                slopes.measure(gradient, self.noise)
            };
            let controls = |power| self.controls(answers, number, parameter, power);
            row.unit(&parameter.parameter, measure, controls);
        }
        row.finish()
    }

    /// The alterations of one block of a gradient that a row must notice: all of it, and one of its elements.
    fn controls<'b>(
        &self,
        answers: &Answers,
        number: usize,
        block: &'b Block,
        power: f64,
    ) -> Vec<Alteration<'b>> {
        let norm = blocks::norm(answers.gradient(number), block);
        let choice = chosen(self.seed.wrapping_add(number as u64));
        vec![
            Alteration::scaled(Answer::Gradient(number, block), power),
            Alteration::element(number, block, norm, power, choice),
        ]
    }
}

fn row(
    statement: Statement,
    meaning: &Semantics,
    subject: &str,
    text: String,
    from: BoundFrom,
) -> RowBuilder {
    RowBuilder::new(statement, Some(meaning.name), subject, text, from)
}

/// A number that goes with a seed, to choose an element by.
fn chosen(seed: u64) -> usize {
    // The fractional part of the golden ratio: neighbouring seeds choose places far apart.
    usize::try_from(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or(0)
}
