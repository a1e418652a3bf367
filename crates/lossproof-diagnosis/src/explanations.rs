//! What explains what was seen: that nothing is wrong, one of the known bugs, or a bug that nobody knows.

use crate::{
    catalogue::Bug, hypotheses::Hypothesis, reported_loss::ReportedLoss, score::Score, scorer::Scorer,
    trainer_model::TrainerModel,
};
use lossproof_subject::SubjectError;
use std::collections::BTreeSet;

/// Ids of bugs that are not thought of: what is then said of a trainer that has one shows how a bug is taken
/// that nobody knows.
pub(crate) type Excluded = BTreeSet<&'static str>;

/// A known bug that a subject may have.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The bug.
    pub bug: &'static Bug,
    /// How likely it is among the candidates and a bug that nobody knows, each as likely as any other
    /// beforehand.
    pub likelihood: f64,
    /// How many of the things seen it predicts to their numbers.
    pub predicted: usize,
}

/// What explains what was seen of a subject.
pub(crate) struct Explanations {
    /// That nothing is wrong with it.
    pub(crate) honest: Score,
    /// The known bugs that would show everything.
    pub(crate) candidates: Vec<Candidate>,
    /// Where there is none: the known bug that comes nearest, and what speaks against it.
    pub(crate) nearest: Option<(&'static Bug, String)>,
}

impl Explanations {
    /// # Errors
    /// When the reference fails.
    pub(crate) fn of(scorer: &mut Scorer<'_, '_>, excluded: &Excluded) -> Result<Self, SubjectError> {
        let honest = scorer.score(&TrainerModel::HONEST)?;
        let scored = scores(scorer, excluded)?;
        let nearest = nearest(&scored, honest.unexplained());
        let candidates = candidates(scored, scorer.wrong()?, scorer.cost_of_unknown()?);
        let nearest = nearest.filter(|_| candidates.is_empty());
        Ok(Self { honest, candidates, nearest })
    }
}

/// The bug of every hypothesis with its score, the cheapest first.
fn scores(
    scorer: &mut Scorer<'_, '_>,
    excluded: &Excluded,
) -> Result<Vec<(&'static Bug, Score)>, SubjectError> {
    let mut scored = Vec::new();
    for Hypothesis { bug, model } in
        Hypothesis::all().filter(|hypothesis| !excluded.contains(hypothesis.bug.id))
    {
        scored.push((*bug, scorer.score(model)?));
        if matches!(model.reports, ReportedLoss::Own) {
            // The same mistake in a trainer that logs the right loss all the same.
            let logged = TrainerModel { reports: ReportedLoss::Right, ..*model };
            scored.push((*bug, scorer.score(&logged)?));
        }
    }
    scored.sort_by(|(_, a), (_, b)| a.cost().total_cmp(&b.cost()));
    let mut known = BTreeSet::new();
    scored.retain(|(bug, _)| known.insert(bug.id));
    Ok(scored)
}

/// The bugs that nothing speaks against, that explain some of what is `wrong`, and as much as a bug that nobody
/// knows, of which `unknown` is the cost: the likeliest first.
fn candidates(scored: Vec<(&'static Bug, Score)>, wrong: usize, unknown: f64) -> Vec<Candidate> {
    let possible: Vec<_> = scored
        .into_iter()
        .filter(|(_, score)| score.possible() && score.cost() <= unknown && score.explains_some_of(wrong))
        .collect();
    let least = possible.first().map_or(unknown, |(_, score)| score.cost());
    let weight = |cost: f64| (least - cost).exp();
    let total = weight(unknown) + possible.iter().map(|(_, score)| weight(score.cost())).sum::<f64>();
    let candidate = |(bug, score): (&'static Bug, Score)| Candidate {
        bug,
        likelihood: weight(score.cost()) / total,
        predicted: score.exact(),
    };
    possible.into_iter().map(candidate).collect()
}

/// The bug that comes nearest, if it explains half of what is wrong at least, and what it cannot have made. What it
/// leaves open it does not explain.
fn nearest(scored: &[(&'static Bug, Score)], wrong: usize) -> Option<(&'static Bug, String)> {
    let unexplained = |score: &Score| score.unexplained() + score.left_open();
    let (bug, score) = scored.first().filter(|(_, score)| 2 * unexplained(score) <= wrong)?;
    Some((*bug, score.first_against.clone()?))
}
