//! The rows on losses, each a function of the numbers that subjects answered.

use super::{
    alteration::{Alteration, Answer, seen},
    losses::{Losses, SeenLosses},
    row::{Numbers, RowBuilder},
    semantics::Semantics,
    statement::{BoundFrom, Statement, StatementRow},
};
use lossproof_spec::GlobalBatch;

/// Whose losses are judged, and how exactly.
#[derive(Clone, Copy)]
pub(crate) struct LossRows<'a> {
    pub(crate) judged: &'a Losses,
    pub(crate) bound: f64,
}

/// The losses of another subject that losses are held to.
#[derive(Clone, Copy)]
pub(crate) struct Yardstick<'a> {
    pub(crate) losses: &'a Losses,
    /// Whether the subject is the judged implementation, so that it gives the same altered answers.
    pub(crate) is_judged: bool,
}

impl LossRows<'_> {
    fn row(&self, statement: Statement, meaning: Option<&Semantics>, text: String) -> RowBuilder {
        let name = meaning.map(|meaning| meaning.name);
        RowBuilder::new(statement, name, &self.judged.name, text, BoundFrom::Rounding)
    }

    /// Evaluated token losses against those of another subject.
    pub(crate) fn token_losses(
        &self,
        statement: Statement,
        text: &str,
        other: Yardstick<'_>,
    ) -> StatementRow {
        let mut row = self.row(statement, None, format!("token losses = {text}")).of_itself(other.is_judged);
        for prediction in 0..self.judged.predictions() {
            row.number(
                &format!("prediction {prediction}"),
                self.bound,
                Answer::TokenLoss(prediction),
                |alteration| {
                    let actual = self.judged.seen(alteration).token_loss(prediction);
                    Numbers::token_loss(actual, other.seen(alteration).token_loss(prediction))
                },
            );
        }
        row.finish()
    }

    /// Evaluated token losses against recorded ones.
    pub(crate) fn recorded_token_losses(&self, text: &str, recorded: &[f64]) -> StatementRow {
        let mut row = self.row(Statement::ThirdForwardLosses, None, format!("token losses = {text}"));
        for (prediction, &expected) in recorded.iter().enumerate() {
            row.number(
                &format!("prediction {prediction}"),
                self.bound,
                Answer::TokenLoss(prediction),
                |alteration| {
                    Numbers::token_loss(self.judged.seen(alteration).token_loss(prediction), expected)
                },
            );
        }
        row.finish()
    }

    /// The token losses reported beside gradients against the evaluated ones; `None` where none are reported.
    ///
    /// Both are of one subject, and answers to two questions: the one is what it trains with, as it says, the
    /// other is what finite differences and the loss calculus are taken of.
    pub(crate) fn reported_token_losses(&self, semantics: &[Semantics]) -> Option<StatementRow> {
        let text = "reported token losses = evaluated ones".to_owned();
        let mut row = self.row(Statement::ReportedTokenLosses, None, text);
        let mut any = false;
        for (number, meaning) in semantics.iter().enumerate() {
            let Some(count) = self.judged.reported(number) else { continue };
            any = true;
            let supervised = supervised(&meaning.batch);
            if count != supervised.len() {
                let at = format!("{count} of {} under the {}", supervised.len(), meaning.name);
                row.hold(&at, f64::INFINITY, self.bound);
                continue;
            }
            for (place, &prediction) in supervised.iter().enumerate() {
                row.number(
                    &format!("prediction {prediction} under the {}", meaning.name),
                    self.bound,
                    Answer::ReportedTokenLoss(number, place),
                    |alteration| {
                        let seen = self.judged.seen(alteration);
                        Numbers::token_loss(
                            seen.reported_token_loss(number, place),
                            seen.token_loss(prediction),
                        )
                    },
                );
            }
        }
        any.then(|| row.finish())
    }

    /// The loss against that of another subject; `None` where one of them logs the loss of something else.
    pub(crate) fn loss(
        &self,
        number: usize,
        meaning: &Semantics,
        text: &str,
        other: Yardstick<'_>,
    ) -> Option<StatementRow> {
        if !(self.judged.logs_the_whole(number) && other.losses.logs_the_whole(number)) {
            return None;
        }
        let row = self.row(Statement::Loss, Some(meaning), format!("loss = {text}"));
        Some(self.one_loss(row.of_itself(other.is_judged), number, |alteration| {
            let other = other.seen(alteration);
            (other.loss(number), meaning.loss_scale(other.token_losses()))
        }))
    }

    /// The loss against the weighted sum of another subject's token losses; `None` where it logs the loss of
    /// something else.
    pub(crate) fn loss_of_truth(
        &self,
        number: usize,
        meaning: &Semantics,
        statement: Statement,
        text: &str,
        truth: Yardstick<'_>,
    ) -> Option<StatementRow> {
        if !self.judged.logs_the_whole(number) {
            return None;
        }
        let row = self.row(statement, Some(meaning), format!("loss = {text}"));
        Some(self.one_loss(row.of_itself(truth.is_judged), number, |alteration| {
            let losses = || truth.losses.seen(None).token_losses();
            let altered = alteration.filter(|_| truth.is_judged);
            (seen(altered, Answer::Loss(number), meaning.loss(losses())), meaning.loss_scale(losses()))
        }))
    }

    /// The loss against a recorded one.
    pub(crate) fn recorded_loss(&self, number: usize, text: &str, recorded: f64) -> StatementRow {
        let row = self.row(Statement::ThirdForwardLoss, None, format!("per-token mean = {text}"));
        self.one_loss(row, number, |_| (recorded, recorded.abs().max(1.0)))
    }

    /// The loss against the weighted sum of the subject's own token losses.
    pub(crate) fn loss_calculus(&self, number: usize, meaning: &Semantics) -> StatementRow {
        let text = if self.judged.logs_the_whole(number) {
            "loss = Σ_t w_t·ℓ_t"
        } else {
            "logged loss = Σ_t w_t·ℓ_t of what is logged"
        };
        let row = self.row(Statement::LossCalculus, Some(meaning), text.to_owned());
        self.one_loss(row, number, |alteration| self.judged.seen(alteration).expected_loss(number, meaning))
    }

    /// A row on the loss under one semantics, held to a number with its scale.
    fn one_loss(
        &self,
        mut row: RowBuilder,
        number: usize,
        expected: impl Fn(Option<&Alteration<'_>>) -> (f64, f64),
    ) -> StatementRow {
        row.number("the loss", self.bound, Answer::Loss(number), |alteration| {
            let (expected, scale) = expected(alteration);
            Numbers { actual: self.judged.seen(alteration).loss(number), expected, scale }
        });
        row.finish()
    }
}

impl Yardstick<'_> {
    fn seen<'b>(&'b self, alteration: Option<&'b Alteration<'b>>) -> SeenLosses<'b> {
        self.losses.seen(alteration.filter(|_| self.is_judged))
    }
}

/// Which predictions of a batch are supervised, by their place among all.
fn supervised(batch: &GlobalBatch) -> Vec<usize> {
    let predictions = batch.predictions().enumerate();
    predictions.filter(|(_, prediction)| prediction.supervised).map(|(place, _)| place).collect()
}
