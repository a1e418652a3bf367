//! Names the bug: what a trainer is seen to do on designed probes, and the known bugs that would do the same.
//!
//! A hypothesis is a model of a trainer with one mistake. It predicts every loss, every gradient and every step of an
//! examination: which labels are scored, what each token loss weighs, what the operators make of the gradient. The truth
//! that predictions are computed with is the closed form of a model with known logits, and, where there is one, a reference
//! with the same parameters. Hypotheses that predict what was measured are ranked by likelihood.

mod behaviour;
mod beside;
mod evidence;
mod examination;
mod hypotheses;
pub mod inference;
mod judge;
mod model;
mod numbers;
mod oracle;
mod plan;
mod probes;
mod runs;
mod score;
mod sight;
mod states;
mod steps;
mod strange;
pub mod tomography;
mod validation;

pub use hypotheses::Hypothesis;
pub use plan::{Plan, PlannedProbe};

use examination::Examination;
use judge::Judge;
use lossproof_laws::Examiner;
use lossproof_spec::Dtype;
use lossproof_subject::{ParameterInfo, Subject, SubjectError};
use model::{Model, honest_terms};
use score::Score;
use states::States;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// What is wrong with a subject, as far as can be said.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The known bugs that would show everything that was seen, the likeliest first.
    pub candidates: Vec<Candidate>,
    /// Where there is no candidate: the known bug that comes nearest, and what speaks against it.
    pub nearest: Option<(&'static Hypothesis, String)>,
    /// What is seen that should not be, in words.
    pub evidence: Vec<String>,
    /// Whether everything seen is as it should be.
    pub sound: bool,
    /// Losses, gradients of parameters and steps that were looked at.
    pub examined: usize,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// A known bug that a subject may have.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The bug.
    pub hypothesis: &'static Hypothesis,
    /// How likely it is among the candidates and a bug that nobody knows, each as likely as any other beforehand.
    pub likelihood: f64,
    /// How many of the things seen it predicts to their numbers.
    pub predicted: usize,
}

/// Makes another trainer with the same parameters.
type Constructor = dyn Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync;

/// Diagnoses subjects by the known bugs, with a reference or without.
#[derive(Clone, Default)]
pub struct Diagnostician {
    reference: Option<Arc<Constructor>>,
}

impl Diagnostician {
    /// With a reference that is taken to be right, for subjects with its parameters.
    #[must_use]
    pub fn with_reference(
        make: impl Fn() -> Result<Box<dyn Subject>, SubjectError> + Send + Sync + 'static,
    ) -> Self {
        Self { reference: Some(Arc::new(make)) }
    }

    /// What a subject looks like; without the reference where that fails, which is said among what was not looked at. The
    /// subject is left as [`Diagnosis::of`] leaves it.
    #[must_use]
    pub fn diagnose(&self, subject: &mut dyn Subject) -> Diagnosis {
        let Some(make) = &self.reference else { return Diagnosis::alone(subject) };
        match make().and_then(|mut reference| Diagnosis::of(subject, Some(&mut *reference))) {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                let mut diagnosis = Diagnosis::alone(subject);
                diagnosis.unseen.push(format!("what the reference says: {error}"));
                diagnosis
            }
        }
    }
}

impl Examiner for Diagnostician {
    fn examine(&self, subject: &mut dyn Subject) -> String {
        self.diagnose(subject).to_string()
    }
}

impl fmt::Debug for Diagnostician {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostician").field("reference", &self.reference.is_some()).finish()
    }
}

/// Parameters of a model that is examined, at most. Two gradients are kept of each of some sixty probes in f64: a quarter of a
/// gigabyte then.
const LARGEST: usize = 1 << 18;

/// Candidates of which none is likelier than another count as one: nothing that was looked at tells them apart.
const INDISTINCT: f64 = 1e-9;

/// What a bug that nobody knows costs for each thing that is wrong, in nats: it may have made anything, so it is less likely than
/// a hypothesis that said that this would be wrong, and likelier than one that said that much else would be.
const UNKNOWN: f64 = 2.0;

/// Candidates that are less likely than this are not printed.
const WORTH_A_LINE: f64 = 0.01;

impl Diagnosis {
    /// Examines a subject. A reference with the same parameters is taken to be right; without one only what a model with known
    /// logits shows can be judged: labels, weights, token losses, attention and steps.
    ///
    /// Afterwards the subject (and the reference) has the parameters of the probes, to which [`Subject::reset`] returns it, and
    /// another loss spec and optimizer in force: load and configure again what is to be trained.
    ///
    /// # Errors
    /// When the reference fails. What the subject fails with is in the evidence.
    pub fn of<'r>(
        subject: &mut dyn Subject,
        reference: Option<&'r mut (dyn Subject + 'r)>,
    ) -> Result<Self, SubjectError> {
        let parameters = subject.parameters();
        let elements: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        if elements > LARGEST {
            return Ok(Self::of_nothing(format!(
                "anything: a diagnosis is for models of up to {LARGEST} parameters"
            )));
        }
        let dtype = subject.info().dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::F64) {
            return Ok(Self::of_nothing(format!(
                "anything: half of the digits of {dtype} tell nothing apart"
            )));
        }
        let mut states = States::new(&parameters, dtype);
        let given = reference.is_some();
        let reference = reference.filter(|reference| shapes(&reference.parameters()) == shapes(&parameters));
        let mut seen = Examination::of(subject, &states, reference.is_some());
        if given && reference.is_none() {
            seen.unseen.push("what the reference says: it has other parameters".to_owned());
        }
        let mut judge = Judge::new(&seen, &mut states, reference)?;
        let honest = judge.score(&Model::HONEST)?;
        let mut scored: Vec<(&'static Hypothesis, Score)> = Vec::new();
        for hypothesis in Hypothesis::all() {
            scored.push((hypothesis, judge.score(&hypothesis.model)?));
            if hypothesis.model.loss.is_none() {
                // The same mistake in a trainer that logs the right loss all the same.
                let logged = Model { loss: Some(honest_terms), ..hypothesis.model };
                scored.push((hypothesis, judge.score(&logged)?));
            }
        }
        scored.sort_by(|(_, a), (_, b)| a.cost().total_cmp(&b.cost()));
        let mut known = BTreeSet::new();
        scored.retain(|(hypothesis, _)| known.insert(hypothesis.id));
        let sound = honest.total() > 0 && honest.cost() <= 0.0 && seen.errors.is_empty();
        let mut evidence = seen.errors.clone();
        if !sound {
            evidence.extend(evidence::of(&mut judge));
        }
        let examined = honest.total();
        let nearest = nearest(&scored, honest.cost());
        let candidates =
            if sound { Vec::new() } else { candidates(scored, UNKNOWN * honest.against() as f64) };
        let unseen = seen.unseen.clone();
        let nearest = nearest.filter(|_| candidates.is_empty() && !sound);
        Ok(Self { candidates, nearest, evidence, sound, examined, unseen })
    }

    fn of_nothing(unseen: String) -> Self {
        let (candidates, evidence) = (Vec::new(), Vec::new());
        Self { candidates, nearest: None, evidence, sound: false, examined: 0, unseen: vec![unseen] }
    }

    /// Examines a subject by what a model with known logits shows.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds")]
    pub fn alone(subject: &mut dyn Subject) -> Self {
        Self::of(subject, None).expect("invariant: closed forms do not fail, and there is no reference")
    }

    /// Where a bug stands among the candidates, from 0; those that are as likely as the first count as one.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<usize> {
        let at = self.candidates.iter().position(|candidate| candidate.hypothesis.id == id)?;
        Some((at + 1).saturating_sub(self.first().len()))
    }

    /// The candidates that are as likely as the first: what was looked at does not tell them apart.
    #[must_use]
    pub fn first(&self) -> Vec<&'static Hypothesis> {
        let likeliest = self.candidates.first().map_or(0.0, |candidate| candidate.likelihood);
        let alike = self.candidates.iter().filter(|c| likeliest - c.likelihood <= INDISTINCT);
        alike.map(|candidate| candidate.hypothesis).collect()
    }
}

/// The hypotheses that nothing speaks against, the likeliest first, `unknown` being the cost of a bug that nobody knows.
fn candidates(scored: Vec<(&'static Hypothesis, Score)>, unknown: f64) -> Vec<Candidate> {
    let possible: Vec<_> =
        scored.into_iter().filter(|(_, score)| score.possible() && score.cost() < unknown).collect();
    let least = possible.first().map_or(unknown, |(_, score)| score.cost());
    let weight = |cost: f64| (least - cost).exp();
    let total = weight(unknown) + possible.iter().map(|(_, score)| weight(score.cost())).sum::<f64>();
    let candidate = |(hypothesis, score): (&'static Hypothesis, Score)| Candidate {
        hypothesis,
        likelihood: weight(score.cost()) / total,
        predicted: score.exact(),
    };
    possible.into_iter().map(candidate).collect()
}

/// Names and shapes, in whatever order a subject has them.
fn shapes(parameters: &[ParameterInfo]) -> BTreeMap<String, Vec<usize>> {
    parameters.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect()
}

/// The hypothesis that predicts most, if it predicts more than an honest trainer, and what it cannot have made.
fn nearest(scored: &[(&'static Hypothesis, Score)], honest: f64) -> Option<(&'static Hypothesis, String)> {
    let best = scored.first();
    let better = best.filter(|(_, score)| score.cost() < honest);
    better.and_then(|(hypothesis, score)| Some((*hypothesis, score.first_against.clone()?)))
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sound {
            write!(
                f,
                "of {} losses, gradients and steps on designed probes none is wrong by half of its digits",
                self.examined
            )?;
        }
        for (index, line) in self.evidence.iter().enumerate() {
            write!(f, "{}{line}", if index == 0 { "seen: " } else { "\n      " })?;
        }
        if !self.sound && self.candidates.is_empty() && self.examined > 0 {
            write!(f, "\nno known bug shows all of this")?;
            if let Some((hypothesis, against)) = &self.nearest {
                write!(
                    f,
                    "\nnearest is {}: {}; it does not explain {against}",
                    hypothesis.id, hypothesis.what
                )?;
            }
        }
        let alike = self.first().len();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let hypothesis = candidate.hypothesis;
            if index < alike {
                let or =
                    if index == 0 { "looks like" } else { "or, alike in everything that was looked at," };
                write!(f, "\n{or} {}: {}", hypothesis.id, hypothesis.what)?;
                if let Some(source) = hypothesis.seen_in {
                    write!(f, "\n  seen in {source}")?;
                }
                write!(f, "\n  remedy: {}", hypothesis.remedy)?;
            } else if candidate.likelihood >= WORTH_A_LINE {
                write!(f, "\nless likely ({:.2}): {}", candidate.likelihood, hypothesis.id)?;
            }
        }
        let nothing_yet = !self.sound && self.evidence.is_empty() && self.examined == 0;
        for (index, what) in self.unseen.iter().enumerate() {
            let line = if nothing_yet && index == 0 { "" } else { "\n" };
            write!(f, "{line}not looked at: {what}")?;
        }
        Ok(())
    }
}
