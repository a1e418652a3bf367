//! What a subject is seen to do: every probe, who sees whom, and optimizer steps.

use super::{
    numbers::{Numbers, tolerance},
    oracle::Values,
    probes::{self, Probe, State},
    runs::{Run, run, runs},
    sight::{depends, sequences},
    states::States,
    validation::{self, Validation},
};
use lossproof_laws::names::{BIAS, EMBEDDING};
use lossproof_numerics::norm;
use lossproof_spec::{Dtype, GlobalBatch, Sequence};
use lossproof_subject::{Collect, Limits, ParameterInfo, Subject, SubjectError, TensorSet};

/// What came of a probe.
pub(super) struct Measured {
    pub(super) probe: Probe,
    pub(super) loss: f64,
    pub(super) gradient: Values,
    /// The gradient of the call before the judged one.
    pub(super) former: Option<Values>,
}

/// Which inputs the token loss of a position depends on.
pub(super) struct Sight {
    pub(super) sequence: Sequence,
    /// By position, then input.
    pub(super) depends: Vec<Vec<bool>>,
}

/// Everything seen of a subject.
pub(super) struct Examination {
    pub(super) dtype: Dtype,
    pub(super) limits: Limits,
    pub(super) parameters: Vec<ParameterInfo>,
    pub(super) measured: Vec<Measured>,
    pub(super) sights: Vec<Sight>,
    pub(super) runs: Vec<Run>,
    pub(super) validation: Option<Validation>,
    /// Whether two identical calls give the same, where that was tried.
    pub(super) repeatable: Option<bool>,
    /// What could not be looked at, and why.
    pub(super) unseen: Vec<String>,
    /// What it failed with where it should not.
    pub(super) errors: Vec<String>,
}

pub(super) fn values(set: &TensorSet) -> Values {
    set.iter().map(|(name, tensor)| (name.clone(), tensor.to_f64())).collect()
}

impl Examination {
    /// Looks at a subject. `general` says that somebody can tell the truth at general parameters.
    pub(super) fn of(subject: &mut dyn Subject, states: &States, general: bool) -> Self {
        let info = subject.info();
        let mut seen = Self {
            dtype: info.dtype,
            limits: info.limits,
            parameters: subject.parameters(),
            measured: Vec::new(),
            sights: Vec::new(),
            runs: Vec::new(),
            validation: None,
            repeatable: None,
            unseen: Vec::new(),
            errors: Vec::new(),
        };
        if subject.parameter_loading().is_none() {
            seen.unseen.push("anything: the subject takes no parameters".to_owned());
            return seen;
        }
        if !general {
            let what =
                "the backward pass in front of the head: no reference says what its gradients should be";
            seen.unseen.push(what.to_owned());
        }
        seen.probe(subject, states, general);
        seen.repeat(subject, states);
        seen.look(subject, states);
        seen.step(subject, states);
        match validation::validation(subject, states, &seen.limits) {
            Ok(validation) => seen.validation = validation,
            Err(error) => seen.note("a validation", &error),
        }
        seen
    }

    fn note(&mut self, what: &str, error: &SubjectError) {
        let error = format!("{what}: {error}");
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn probe(&mut self, subject: &mut dyn Subject, states: &States, general: bool) {
        let upstream = subject.upstream_weights().is_some();
        let mut loaded = None;
        for probe in probes::pool(&self.limits, general, upstream) {
            let Some(parameters) = states.of(probe.state) else { continue };
            if loaded != Some(probe.state) {
                if let Err(error) = load(subject, parameters) {
                    self.note("loading parameters", &error);
                    return;
                }
                loaded = Some(probe.state);
            }
            if subject.configure(&probe.spec).is_err() {
                continue;
            }
            match measure(subject, probe) {
                Ok(measured) => self.measured.push(measured),
                Err((name, error)) => self.note(name, &error),
            }
        }
        if states.of(State::Pinned).is_none() {
            let what = "known logits: the parameters are not a GPT-2's with the embedding for a head";
            self.unseen.push(what.to_owned());
        } else if self.measured.iter().all(|measured| measured.probe.state == State::General) {
            self.unseen.push("known logits: no probe is within the subject's limits".to_owned());
        }
    }

    fn repeat(&mut self, subject: &mut dyn Subject, states: &States) {
        let Some(probe) = self.measured.iter().map(|measured| measured.probe.clone()).next() else { return };
        let twice = (|| -> Result<Option<bool>, SubjectError> {
            load(subject, &states.general)?;
            if subject.configure(&probe.spec).is_err() {
                return Ok(None);
            }
            let (one, other) = (accumulate(subject, &probe)?, accumulate(subject, &probe)?);
            Ok(Some(same(&one.1, &other.1, self.dtype)))
        })();
        match twice {
            Ok(same) => self.repeatable = same,
            Err(error) => self.note("the same call twice", &error),
        }
    }

    fn look(&mut self, subject: &mut dyn Subject, states: &States) {
        if subject.token_losses().is_none() {
            self.unseen.push("who attends to whom: the subject evaluates no token losses".to_owned());
            return;
        }
        if load(subject, &states.general).is_err() {
            return;
        }
        for sequence in sequences(&self.limits) {
            if self.limits.check(&GlobalBatch::single(sequence.clone())).is_err() {
                continue;
            }
            match depends(subject, &sequence, self.dtype, &self.limits) {
                Ok(Some(depends)) => self.sights.push(Sight { sequence, depends }),
                Ok(None) => {
                    self.unseen.push("who attends to whom: its token losses are no numbers".to_owned());
                }
                Err(error) => self.note("token losses", &error),
            }
        }
    }

    fn step(&mut self, subject: &mut dyn Subject, states: &States) {
        if subject.optimizer_steps().is_none() {
            self.unseen.push("optimizer steps: the subject takes none".to_owned());
            return;
        }
        let batches: Vec<GlobalBatch> = probes::windows(&self.limits);
        let [long, .., short] = batches.as_slice() else {
            self.unseen.push("optimizer steps: no window is within the subject's limits".to_owned());
            return;
        };
        for (name, spec, optimizer, batches) in runs(long, short, self.dtype) {
            let run = run(subject, states, name, &spec, &optimizer, &batches);
            match run {
                Ok(Some(run)) => self.runs.push(run),
                Ok(None) => {}
                Err(error) => self.note(name, &error),
            }
        }
    }
}

/// Back to fresh, with these parameters.
pub(super) fn load(subject: &mut dyn Subject, parameters: &TensorSet) -> Result<(), SubjectError> {
    subject.reset()?;
    match subject.parameter_loading() {
        Some(loader) => loader.load(parameters),
        None => Ok(()),
    }
}

fn accumulate(subject: &mut dyn Subject, probe: &Probe) -> Result<(f64, Values), SubjectError> {
    let mut sink = Collect::default();
    let loss = match &probe.upstream {
        Some(weights) => match subject.upstream_weights() {
            Some(upstream) => upstream.backward(&probe.batch, weights, &mut sink)?,
            None => f64::NAN,
        },
        None => subject.accumulate(&probe.batch, &mut sink)?.loss,
    };
    Ok((loss, values(&sink.into_tensors())))
}

fn measure(subject: &mut dyn Subject, probe: Probe) -> Result<Measured, (&'static str, SubjectError)> {
    let measured = (|| -> Result<_, SubjectError> {
        subject.reset()?;
        let mut former = None;
        for batch in &probe.before {
            let mut sink = Collect::default();
            subject.accumulate(batch, &mut sink)?;
            former = Some(values(&sink.into_tensors()));
        }
        let (loss, mut gradient) = accumulate(subject, &probe)?;
        if probe.state != State::General {
            gradient.retain(|name, _| name == EMBEDDING || name == BIAS);
        }
        Ok((loss, gradient, former))
    })();
    match measured {
        Ok((loss, gradient, former)) => Ok(Measured { probe, loss, gradient, former }),
        Err(error) => Err((probe.name, error)),
    }
}

/// Whether two gradients are the same, relative to the largest tensor.
fn same(one: &Values, other: &Values, dtype: Dtype) -> bool {
    let floor = one.values().map(norm).fold(0.0, f64::max);
    let numbers = Numbers { tolerance: tolerance(dtype), floor };
    one.len() == other.len()
        && one.iter().all(|(name, values)| other.get(name).is_some_and(|twin| numbers.same(values, twin)))
}
