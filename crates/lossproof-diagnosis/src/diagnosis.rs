//! What is wrong with a subject: the known bugs that forecast everything that was seen of it, and the
//! evidence.

use crate::{
    call::Semantics,
    catalogue::Bug,
    evidence,
    examination::Examination,
    explanations::{Candidate, Excluded, Explanations},
    logging::Logging,
    other_loss::OtherLoss,
    probe_parameters::ProbeParameters,
    repeated_steps,
    scorer::Scorer,
};
use lossproof_spec::Dtype;
use lossproof_subject::{Breach, Checked, ParameterInfo, Subject, SubjectError, SubjectInfo, Watchdog};
use std::{collections::BTreeMap, fmt};

/// What is wrong with a subject, as far as can be said.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The known bugs that would show everything that was seen, the likeliest first.
    pub candidates: Vec<Candidate>,
    /// Where there is no candidate: the known bug that comes nearest, and what speaks against it.
    pub nearest: Option<(&'static Bug, String)>,
    /// Where there is no candidate: another loss than the claimed one by which everything seen is right.
    pub other_loss: Option<OtherLoss>,
    /// What is seen that should not be, in words.
    pub evidence: Vec<String>,
    /// Which loss it reports, where anything was looked at.
    pub logging: Option<Logging>,
    /// Whether everything seen is as it should be.
    pub sound: bool,
    /// Losses, gradients of parameters and steps that were looked at.
    pub examined: usize,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// Parameters of a model that is examined, at most. Three gradients are kept of each of some eighty probes in
/// f64: half a gigabyte then.
const LARGEST: usize = 1 << 18;

/// Candidates of which none is likelier than another count as one: nothing that was looked at tells them
/// apart.
const INDISTINCT: f64 = 1e-9;

/// A candidate that is likelier than this is named with certainty.
const CERTAIN: f64 = 0.5;

/// Candidates that are less likely than this are not printed.
const WORTH_A_LINE: f64 = 0.01;

impl Diagnosis {
    /// Examines a subject, through [`Checked`]: what it does that no subject may is evidence. A reference
    /// with the same parameters is taken to be right; without one only what a model with known logits shows
    /// can be judged: labels, weights, token losses, attention and steps.
    ///
    /// The losses that it reports are held to the log policy that its card declares.
    ///
    /// Afterwards the subject (and the reference) has the parameters of the probes, to which
    /// [`Subject::reset`] returns it, and another loss spec and optimizer in force: load and configure again
    /// what is to be trained.
    ///
    /// # Errors
    /// When the reference fails. What the subject fails with is in the evidence.
    pub fn of<'r>(
        subject: &mut dyn Subject,
        reference: Option<&'r mut (dyn Subject + 'r)>,
    ) -> Result<Self, SubjectError> {
        Self::watched(subject, reference, &Watchdog::default())
    }

    /// The same, where a call that hangs is told to a watchdog of the caller's.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn watched<'r>(
        subject: &mut dyn Subject,
        reference: Option<&'r mut (dyn Subject + 'r)>,
        watchdog: &Watchdog,
    ) -> Result<Self, SubjectError> {
        Self::excluding(subject, reference, watchdog, &Excluded::new())
    }

    /// The same by somebody who does not think of some bugs.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub(crate) fn excluding<'r>(
        subject: &mut dyn Subject,
        reference: Option<&'r mut (dyn Subject + 'r)>,
        watchdog: &Watchdog,
        excluded: &Excluded,
    ) -> Result<Self, SubjectError> {
        let mut subject = match Checked::watched(subject, watchdog.clone()) {
            Ok(subject) => subject.with_wrong_numbers(),
            Err(breach) => return Ok(Self::of_breach(&breach)),
        };
        let infos = subject.parameters();
        let elements = infos.iter().map(elements).fold(0, usize::saturating_add);
        if elements > LARGEST {
            return Ok(Self::of_nothing(format!(
                "anything: a diagnosis is for models of up to {LARGEST} parameters"
            )));
        }
        let dtype = subject.info().coarsest(&infos);
        if !matches!(dtype, Dtype::F32 | Dtype::F64) {
            return Ok(Self::of_nothing(format!(
                "anything: half of the digits of {dtype} tell nothing apart"
            )));
        }
        let SubjectInfo { limits, model, .. } = subject.info();
        let parameters = ProbeParameters::new(&infos, dtype, limits.vocabulary, &model);
        let given = reference.is_some();
        let mut reference =
            reference.map(|reference| Checked::watched(reference, watchdog.clone())).transpose()?;
        let reference =
            reference.as_mut().filter(|reference| shapes(&reference.parameters()) == shapes(&infos));
        let mut seen = Examination::of(&mut subject, &parameters, reference.is_some());
        if given && reference.is_none() {
            seen.unseen.push("what the reference says: it has other parameters".to_owned());
        }
        let breach = subject.take_breach();
        let reference = reference.map(|reference| &mut *reference as &mut dyn Subject);
        let mut scorer = Scorer::new(&seen, &parameters, reference)?;
        let due = scorer.honest.clone();
        let mut logging = Logging::seen(&mut scorer)?;
        let mut explained = Explanations::of(&mut scorer, excluded)?;
        // A bug that explains all that was seen explains the losses. Where none does, and the losses are
        // those of another log policy, what else is wrong is looked for behind that policy.
        let otherwise = logging.actual().filter(|_| explained.candidates.is_empty());
        if let Some(actual) = otherwise {
            scorer.take_for(Semantics::as_asked(actual))?;
            explained = Explanations::of(&mut scorer, excluded)?;
        }
        let Explanations { honest, mut candidates, nearest } = explained;
        let unbroken = seen.errors.is_empty() && breach.is_none();
        let right = unbroken && honest.total() > 0 && honest.cost() <= 0.0;
        let repeated = if right && otherwise.is_none() {
            repeated_steps::differences(&seen.runs, dtype, &mut subject, &parameters)
        } else {
            Vec::new()
        };
        let breach = breach.or_else(|| subject.take_breach());
        let sound = right && otherwise.is_none() && repeated.is_empty() && breach.is_none();
        let other_loss = if unbroken && !right && otherwise.is_none() && candidates.is_empty() {
            OtherLoss::seen(&mut scorer)?
        } else {
            None
        };
        logging.alone = right && otherwise.is_some();
        if logging.alone
            && let Some(bug) = logging.bug().filter(|bug| !excluded.contains(bug.id))
        {
            candidates.push(Candidate { bug, likelihood: 1.0, predicted: honest.exact() });
        }
        let mut evidence = [seen.errors.clone(), repeated].concat();
        if !sound {
            evidence.extend(evidence::statements(&seen, &parameters, &due));
            evidence.extend(otherwise.and_then(|_| logging.anomaly()));
        }
        if let Some(breach) = breach.map(|breach| breach.to_string())
            && !evidence.iter().any(|line| line.contains(&breach))
        {
            evidence.push(breach);
        }
        let examined = honest.total();
        let unseen = seen.unseen.clone();
        Ok(Self {
            candidates,
            nearest,
            other_loss,
            evidence,
            logging: Some(logging),
            sound,
            examined,
            unseen,
        })
    }

    /// A subject that cannot even say what it is.
    fn of_breach(breach: &Breach) -> Self {
        let evidence = vec![breach.to_string()];
        Self { evidence, unseen: Vec::new(), ..Self::of_nothing(String::new()) }
    }

    pub(crate) fn of_nothing(unseen: String) -> Self {
        let (candidates, evidence) = (Vec::new(), Vec::new());
        Self {
            candidates,
            nearest: None,
            other_loss: None,
            evidence,
            logging: None,
            sound: false,
            examined: 0,
            unseen: vec![unseen],
        }
    }

    /// Examines a subject by what a model with known logits shows.
    #[must_use]
    pub fn alone(subject: &mut dyn Subject) -> Self {
        Self::watched_alone(subject, &Watchdog::default())
    }

    /// The same, where a call that hangs is told to a watchdog of the caller's.
    #[must_use]
    pub fn watched_alone(subject: &mut dyn Subject, watchdog: &Watchdog) -> Self {
        Self::alone_excluding(subject, watchdog, &Excluded::new())
    }

    /// The same by somebody who does not think of some bugs.
    pub(crate) fn alone_excluding(
        subject: &mut dyn Subject,
        watchdog: &Watchdog,
        excluded: &Excluded,
    ) -> Self {
        Self::excluding(subject, None, watchdog, excluded)
            .expect("invariant: closed forms do not fail, and there is no reference")
    }

    /// Whether a bug is likelier than all others and one that nobody knows together.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.candidates.first().is_some_and(|candidate| candidate.likelihood > CERTAIN)
    }

    /// Whether one of the bugs that nothing tells apart, of the likeliest, is likelier than all others and one that
    /// nobody knows together.
    #[must_use]
    pub fn is_likely(&self) -> bool {
        let alike = self.candidates.iter().take(self.first().len());
        alike.map(|candidate| candidate.likelihood).sum::<f64>() > CERTAIN
    }

    /// Where a bug stands among the candidates, from 0; those that are as likely as the first count as one.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<usize> {
        let at = self.candidates.iter().position(|candidate| candidate.bug.id == id)?;
        Some((at + 1).saturating_sub(self.first().len()))
    }

    /// The candidates that are as likely as the first: what was looked at does not tell them apart.
    #[must_use]
    pub fn first(&self) -> Vec<&'static Bug> {
        let likeliest = self.candidates.first().map_or(0.0, |candidate| candidate.likelihood);
        let alike = self.candidates.iter().filter(|c| likeliest - c.likelihood <= INDISTINCT);
        alike.map(|candidate| candidate.bug).collect()
    }
}

/// Elements of a parameter.
fn elements(parameter: &ParameterInfo) -> usize {
    parameter.shape.iter().copied().fold(1, usize::saturating_mul)
}

/// Names and shapes, in whatever order a subject has them.
fn shapes(parameters: &[ParameterInfo]) -> BTreeMap<String, Vec<usize>> {
    parameters.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect()
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sound {
            write!(
                f,
                "of {} losses, gradients and steps on designed probes none contradicts another or what is known \
                 by half of its digits",
                self.examined
            )?;
            if let Some(kept) = self.logging.as_ref().and_then(Logging::kept) {
                write!(f, "; {kept}")?;
            }
        }
        for (index, line) in self.evidence.iter().enumerate() {
            write!(f, "{}{line}", if index == 0 { "seen: " } else { "\n      " })?;
        }
        let nobody = !self.sound && self.candidates.is_empty() && self.examined > 0;
        if nobody && self.logging.as_ref().is_some_and(|logging| logging.alone) {
            write!(f, "\nnothing else is wrong\n  remedy: {}", Logging::REMEDY)?;
        } else if let Some(other) = self.other_loss.filter(|_| nobody) {
            write!(f, "\ncomputed is {}\n  remedy: {}", other.statement(), OtherLoss::REMEDY)?;
        } else if nobody {
            write!(f, "\nno known bug shows all of this")?;
            if let Some((bug, against)) = &self.nearest {
                write!(f, "\nnearest is {}: {}; it does not explain {against}", bug.id, bug.what)?;
            }
        }
        let alike = self.first().len();
        let likely = self.is_likely();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let bug = candidate.bug;
            if index < alike {
                let or = match index {
                    0 if likely => "looks like",
                    0 => "perhaps",
                    _ => "or, alike in everything that was looked at,",
                };
                write!(f, "\n{or} {}", bug.id)?;
                if !likely {
                    // As likely as all others and one that nobody knows, or less.
                    write!(f, " (likelihood {:.2})", candidate.likelihood)?;
                }
                write!(f, ": {}", bug.what)?;
                if let Some(source) = bug.source {
                    write!(f, "\n  seen in {source}")?;
                }
                write!(f, "\n  remedy: {}", bug.remedy)?;
            } else if candidate.likelihood >= WORTH_A_LINE {
                write!(f, "\nless likely ({:.2}): {}", candidate.likelihood, bug.id)?;
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
