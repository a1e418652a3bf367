//! What a row depends on: parts of trainers, and where they are wrong.

use crate::{
    semantics::{ACCUMULATED_TOKEN_MEAN, SUM, TOKEN_MEAN},
    statement::{Statement, StatementRow},
};

/// Something of a trainer that can be wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// What training and evaluation have in common: the model.
    Model,
    /// What the forward pass does in training alone, such as dropout.
    Training,
    /// What the forward pass does in evaluation alone.
    Evaluation,
    /// What makes the gradient something else than the derivative of the training's losses.
    Backward,
    /// How losses are put together under a semantics.
    LossReduction(&'static str),
    /// How gradients are put together under a semantics.
    GradientReduction(&'static str),
    /// Which token losses are reported beside the gradient.
    Report,
}

/// Where a part is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place<'a> {
    /// In this implementation, whatever runs it: at other parameters, on other batches, in other dtypes.
    Everywhere(&'a str),
    /// In this participant, as it was made for this verification.
    Here(&'a str),
    /// In the instance of this implementation that is held to a recording, which is another one.
    Recorded(&'a str),
}

/// A part that is wrong somewhere.
pub(crate) type Cause<'a> = (Place<'a>, Part);

/// Somebody who takes part in a verification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party<'a> {
    /// Name in rows.
    pub(crate) name: &'a str,
    /// Name of the implementation it is an instance of.
    pub(crate) implementation: &'a str,
}

/// Everybody who takes part.
#[derive(Clone, Debug)]
pub(crate) struct Parties<'a> {
    /// The trainer, and the reference where there is one.
    pub(crate) sides: Vec<Party<'a>>,
    /// The f64 truth, where there is one.
    pub(crate) truth: Option<Party<'a>>,
}

impl<'a> Parties<'a> {
    /// The party that a row names as its subject.
    fn subject(&self, row: &StatementRow) -> Option<Party<'a>> {
        let mut parties = self.sides.iter().chain(&self.truth);
        parties.find(|party| party.name == row.subject).copied()
    }

    /// The implementation that a row on a recording names as its subject.
    fn implementation(&self, row: &StatementRow) -> Option<&'a str> {
        let parties = self.sides.iter().chain(&self.truth).map(|party| party.implementation);
        parties.into_iter().find(|implementation| *implementation == row.subject)
    }

    /// The name to blame for what is wrong at a place: the party's where one alone is of an implementation,
    /// the truth not counting beside the sides.
    pub(crate) fn name(&self, place: Place<'a>) -> &'a str {
        let implementation = match place {
            Place::Here(name) => return name,
            Place::Everywhere(implementation) | Place::Recorded(implementation) => implementation,
        };
        let is_of = |party: &&Party<'a>| party.implementation == implementation;
        let sides: Vec<_> = self.sides.iter().filter(is_of).collect();
        match &sides[..] {
            [party] => party.name,
            [] => self.truth.as_ref().filter(is_of).map_or(implementation, |truth| truth.name),
            _ => implementation,
        }
    }
}

/// Whether a row is looked at because it failed, or because it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It failed: what it depends on.
    Failed,
    /// It holds: what it clears.
    Held,
}

/// The parts that a row depends on, or clears. This is the whole of what is known of statements.
///
/// Rows that compare two implementations, or one with a recording, depend on all parts of both, and clear
/// them all when they hold:
///
/// - token losses: model and evaluation;
/// - a loss: model, training and loss reduction;
/// - a gradient: model, training, backward and gradient reduction.
///
/// A loss that is held to a truth depends on the truth's token losses: its model and evaluation. It clears
/// the model alone, since a sum does not see in which order its terms come.
///
/// In rows within one implementation, a model that is wrong alike in training and evaluation cancels:
///
/// - loss = Σ w·ℓ depends on training, evaluation and loss reduction, and clears the reduction;
/// - ∇ = Σ w·∇ depends on backward, gradient reduction and that of the sum, whose gradients are added up, and
///   clears the first reduction: what is wrong with each gradient is wrong with their sum;
/// - ∇ = finite differences depends on training, evaluation, backward and gradient reduction, and clears the last
///   two: a constant added to losses does not show;
/// - reported token losses = evaluated ones depends on training, evaluation and report, and clears training and
///   report: both may come from one evaluation.
///
/// A row on a recording was taken of another instance, at other parameters: it clears nothing but what would
/// be wrong there and everywhere. A row that compares two runs of one implementation is about what is wrong
/// with one run alone. The losses that a truth trains with are never looked at, so whatever is wrong with its
/// gradients alone is its backward pass.
pub(crate) fn causes<'a>(row: &StatementRow, parties: &Parties<'a>, outcome: Outcome) -> Vec<Cause<'a>> {
    let held = outcome == Outcome::Held;
    let semantics = row.semantics.unwrap_or(TOKEN_MEAN);
    let loss = [Part::Model, Part::Training, Part::LossReduction(semantics)];
    let token_losses = [Part::Model, Part::Evaluation];
    let gradient = [Part::Model, Part::Training, Part::Backward, Part::GradientReduction(semantics)];
    match row.statement {
        Statement::ThirdForwardLosses => recorded(row, parties, &token_losses),
        // The recorded batch may have several micro-batches.
        Statement::ThirdForwardLoss if held => recorded(row, parties, &loss[..2]),
        Statement::ThirdForwardGradient if held => recorded(row, parties, &gradient[..3]),
        Statement::ThirdForwardLoss => {
            let mut all = recorded(row, parties, &loss);
            all.extend(recorded(row, parties, &[Part::LossReduction(ACCUMULATED_TOKEN_MEAN)]));
            all
        }
        Statement::ThirdForwardGradient => {
            let mut all = recorded(row, parties, &gradient);
            all.extend(recorded(row, parties, &[Part::GradientReduction(ACCUMULATED_TOKEN_MEAN)]));
            all
        }
        Statement::TokenLosses => both(parties, &token_losses),
        Statement::Loss => both(parties, &loss),
        Statement::Gradient => both(parties, &gradient),
        Statement::TruthTokenLosses | Statement::PrecisionTokenLosses => {
            beside_truth(row, parties, &token_losses, &token_losses)
        }
        Statement::TruthLoss | Statement::PrecisionLoss => {
            let of_truth = if held { &token_losses[..1] } else { &token_losses };
            beside_truth(row, parties, &loss, of_truth)
        }
        Statement::TruthGradient | Statement::PrecisionGradient => {
            beside_truth(row, parties, &gradient, &[Part::Model, Part::Backward])
        }
        Statement::LossCalculus if held => alone(row, parties, &loss[2..]),
        Statement::LossCalculus => alone(row, parties, &[Part::Training, Part::Evaluation, loss[2]]),
        Statement::GradientCalculus if held => alone(row, parties, &gradient[3..]),
        Statement::GradientCalculus => {
            alone(row, parties, &[Part::Backward, gradient[3], Part::GradientReduction(SUM)])
        }
        Statement::FiniteDifferences if held => alone(row, parties, &gradient[2..]),
        Statement::FiniteDifferences if parties.truth.is_some_and(|truth| truth.name == row.subject) => {
            alone(row, parties, &[Part::Evaluation, Part::Backward])
        }
        Statement::FiniteDifferences => {
            alone(row, parties, &[Part::Training, Part::Evaluation, Part::Backward, gradient[3]])
        }
        Statement::ReportedTokenLosses if held => alone(row, parties, &[Part::Training, Part::Report]),
        Statement::ReportedTokenLosses => {
            alone(row, parties, &[Part::Training, Part::Evaluation, Part::Report])
        }
    }
}

fn at<'a>(places: &[Place<'a>], parts: &[Part]) -> Vec<Cause<'a>> {
    places.iter().flat_map(|place| parts.iter().map(move |part| (*place, *part))).collect()
}

fn recorded<'a>(row: &StatementRow, parties: &Parties<'a>, parts: &[Part]) -> Vec<Cause<'a>> {
    let Some(name) = parties.implementation(row) else { return Vec::new() };
    let mut causes = at(&[Place::Recorded(name), Place::Everywhere(name)], parts);
    // How numbers are put together does not depend on the model: where that is wrong, it is wrong everywhere.
    let is_reduction = |part: &Part| matches!(part, Part::LossReduction(_) | Part::GradientReduction(_));
    causes.retain(|(place, part)| *place == Place::Everywhere(name) || !is_reduction(part));
    causes
}

fn of<'a>(party: Party<'a>, parts: &[Part]) -> Vec<Cause<'a>> {
    at(&[Place::Here(party.name), Place::Everywhere(party.implementation)], parts)
}

fn alone<'a>(row: &StatementRow, parties: &Parties<'a>, parts: &[Part]) -> Vec<Cause<'a>> {
    parties.subject(row).map_or_else(Vec::new, |party| of(party, parts))
}

fn both<'a>(parties: &Parties<'a>, parts: &[Part]) -> Vec<Cause<'a>> {
    match parties.sides[..] {
        [trainer, reference] => between(trainer, parts, reference, parts),
        _ => Vec::new(),
    }
}

fn beside_truth<'a>(
    row: &StatementRow,
    parties: &Parties<'a>,
    of_side: &[Part],
    of_truth: &[Part],
) -> Vec<Cause<'a>> {
    match (parties.subject(row), parties.truth) {
        (Some(side), Some(truth)) => between(side, of_side, truth, of_truth),
        _ => Vec::new(),
    }
}

/// The parts of two parties that are compared. Two runs of one implementation have in common what is wrong
/// everywhere.
fn between<'a>(one: Party<'a>, of_one: &[Part], other: Party<'a>, of_other: &[Part]) -> Vec<Cause<'a>> {
    if one.implementation == other.implementation {
        return [at(&[Place::Here(one.name)], of_one), at(&[Place::Here(other.name)], of_other)].concat();
    }
    [of(one, of_one), of(other, of_other)].concat()
}
