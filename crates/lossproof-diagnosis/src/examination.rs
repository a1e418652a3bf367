//! What a subject is seen to do: every probe, who attends to whom, optimizer steps and a validation.

use crate::{
    attention::{Dependence, dependence, sequences},
    half_digits::tolerance,
    label_losses::{LONE_TOKENS, LabelLosses, label_losses},
    measuring::{accumulate, judged_call, load},
    missing::missing,
    named_values::NamedValues,
    optimizer_runs::{OptimizerRun, planned_runs},
    probe_parameters::ProbeParameters,
    probes::{self, Probe, ProbeState},
    relations::Relations,
    repeated_calls::{Repeated, repeated},
    truth::is_along_the_last_activations,
    validation_run::{ValidationRun, run_validation},
};
use lossproof_cases::edit::alone;
use lossproof_laws::KnownLogits;
use lossproof_spec::{Dtype, LossSpec, TokenWeights};
use lossproof_subject::{Limits, LogPolicy, ParameterInfo, Subject, SubjectError};

/// What came of a probe.
pub(crate) struct ProbeResult {
    pub(crate) probe: Probe,
    pub(crate) loss: f64,
    pub(crate) gradient: NamedValues,
    /// The gradient of the call before the judged one.
    pub(crate) former: Option<NamedValues>,
}

/// Everything seen of a subject.
pub(crate) struct Examination {
    pub(crate) dtype: Dtype,
    pub(crate) limits: Limits,
    /// Which loss its card says that it logs.
    pub(crate) log_policy: LogPolicy,
    pub(crate) parameters: Vec<ParameterInfo>,
    pub(crate) results: Vec<ProbeResult>,
    pub(crate) relations: Relations,
    pub(crate) dependences: Vec<Dependence>,
    /// What was reported of every label of one token, where that was asked for.
    pub(crate) label_losses: Vec<LabelLosses>,
    pub(crate) runs: Vec<OptimizerRun>,
    pub(crate) validation: Option<ValidationRun>,
    /// What the second of two identical calls gives, where that was tried.
    pub(crate) repeated: Option<Repeated>,
    /// By parameter, in their order: whether its gradient is missing, and `None` where nobody can tell; empty where
    /// that was not tried.
    pub(crate) missing: Vec<Option<bool>>,
    /// What could not be looked at, and why.
    pub(crate) unseen: Vec<String>,
    /// What the subject failed with where it should not.
    pub(crate) errors: Vec<String>,
}

impl Examination {
    /// Looks at a subject. `general` says that somebody can tell the truth at general parameters.
    pub(crate) fn of(subject: &mut dyn Subject, parameters: &ProbeParameters, general: bool) -> Self {
        let info = subject.info();
        let all = subject.parameters();
        let mut seen = Self {
            dtype: info.coarsest(&all),
            limits: info.limits,
            log_policy: info.log_policy,
            parameters: all,
            results: Vec::new(),
            relations: Relations::default(),
            dependences: Vec::new(),
            label_losses: Vec::new(),
            runs: Vec::new(),
            validation: None,
            repeated: None,
            missing: Vec::new(),
            unseen: Vec::new(),
            errors: Vec::new(),
        };
        // Parameters that were loaded before may be those of a model that has learnt its batches, of whose losses only
        // rounding is left.
        if let Err(error) = load(subject, parameters.general()) {
            seen.note("loading parameters", &error);
        }
        if let Err((name, error)) =
            seen.relations.ask(subject, (&info.claims, &info.limits), &seen.parameters)
        {
            seen.note(name, &error);
        }
        let general = general && subject.parameter_loading().is_some();
        if !general {
            let what =
                "the backward pass in front of the head: no reference says what its gradients should be";
            seen.unseen.push(what.to_owned());
        }
        if subject.parameter_loading().is_some() {
            seen.probe(subject, parameters, general);
        } else {
            seen.unseen.push("what a lone token loss is: the subject takes no parameters".to_owned());
        }
        seen.repeat(subject, parameters);
        seen.look(subject, parameters);
        seen.look_at_labels(subject, parameters);
        match missing(subject, parameters, &seen.parameters, &seen.limits, seen.dtype) {
            Ok(missing) => {
                if missing.is_empty() {
                    seen.unseen
                        .push("which gradients are missing: no parameters or no window are taken".to_owned());
                }
                seen.missing = missing;
            }
            Err(error) => seen.note("a nudged parameter", &error),
        }
        seen.step(subject, parameters);
        match run_validation(subject, parameters, &seen.limits) {
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

    fn probe(&mut self, subject: &mut dyn Subject, parameters: &ProbeParameters, general: bool) {
        let upstream = subject.upstream_weights().is_some();
        let claims = subject.info().claims;
        let (mut loaded, mut distrusted) = (None, false);
        for probe in probes::pool(&self.limits, general, upstream) {
            let known = parameters.known_logits(probe.state);
            if distrusted && known.is_some() {
                continue;
            }
            let Some(parameters) = parameters.of(probe.state) else { continue };
            if loaded != Some(probe.state) {
                if let Err(error) = load(subject, parameters) {
                    self.note("loading parameters", &error);
                    return;
                }
                loaded = Some(probe.state);
            }
            let name = probe.name;
            // Of two semantics that are the same inside the limits the trainer computes the one that it claims, and so
            // does what is wrong with it.
            let Some(spec) = claims.claim_of(&probe.spec, &self.limits) else { continue };
            if subject.configure(&spec).is_err() || self.has_looked_at(&probe, &spec) {
                continue;
            }
            let probe = Probe { spec, ..probe };
            match measure(subject, probe, known) {
                Ok(result) if known.is_some_and(|known| !is_as_imposed(known, &result, self.dtype)) => {
                    distrusted = true;
                }
                Ok(result) => self.results.push(result),
                Err(error) => self.note(name, &error),
            }
        }
        if distrusted {
            let what = "known logits: the gradient of the head is not along what the roles say reaches it";
            self.unseen.push(what.to_owned());
        } else if parameters.of(ProbeState::KnownLogits).is_none() {
            let what = "known logits: roles do not say what the head, the norms and all that blocks add are";
            self.unseen.push(what.to_owned());
        } else if self.results.iter().all(|result| result.probe.state == ProbeState::General) {
            self.unseen.push("known logits: no probe is within the subject's limits".to_owned());
        }
    }

    /// The loss spec of every call, where all have the same: that of a subject with one claim.
    pub(crate) fn only_spec(&self) -> Option<LossSpec> {
        let probes = self.results.iter().map(|result| &result.probe).chain(self.relations.probes());
        let mut specs = probes.map(|probe| probe.spec);
        let first = specs.next()?;
        specs.all(|spec| spec == first).then_some(first)
    }

    /// What a loss spec weighs every prediction of every probe with; `None` where the mean of nothing leaves none.
    pub(crate) fn weights(&self, spec: &LossSpec) -> Vec<Option<Vec<f64>>> {
        let probes = self.results.iter().map(|result| &result.probe).chain(self.relations.probes());
        let of_probe = |probe: &Probe| {
            let weights = TokenWeights::new(spec, &probe.batch.layout()).ok()?;
            Some(weights.per_prediction(&probe.batch))
        };
        probes.map(of_probe).collect()
    }

    /// Whether a probe of this name was made under these semantics.
    fn has_looked_at(&self, probe: &Probe, spec: &LossSpec) -> bool {
        self.results.iter().any(|result| {
            let known = &result.probe;
            known.name == probe.name && known.state == probe.state && known.spec == *spec
        })
    }

    fn repeat(&mut self, subject: &mut dyn Subject, parameters: &ProbeParameters) {
        let first = self.results.first().map(|result| &result.probe);
        let related = || self.relations.answers.first().map(|answer| &answer.probe);
        let Some(probe) = first.or_else(related).cloned() else { return };
        match repeated(subject, parameters, &probe, self.dtype) {
            Ok(repeated) => self.repeated = repeated,
            Err(error) => self.note("the same call twice", &error),
        }
    }

    fn look(&mut self, subject: &mut dyn Subject, parameters: &ProbeParameters) {
        let trained = subject.token_losses().is_none();
        if trained && !self.limits.ignore_index {
            let what = "who attends to whom: the subject evaluates no token losses, and takes no label alone";
            self.unseen.push(what.to_owned());
            return;
        }
        let first = subject.info().claims.first();
        if load(subject, parameters.general()).is_err() || trained && subject.configure(&first).is_err() {
            return;
        }
        for sequence in sequences(&self.limits) {
            if self.limits.check(&alone(&sequence, &self.limits)).is_err() {
                continue;
            }
            let loads = subject.parameter_loading().is_some();
            match dependence(subject, sequence, self.dtype, &self.limits) {
                Ok(Some(dependence)) if loads || dependence.looks_back() => self.dependences.push(dependence),
                Ok(Some(_)) => {
                    let what =
                        "who attends to whom: at the parameters that it starts with, no loss looks back";
                    self.unseen.push(what.to_owned());
                }
                Ok(None) => {
                    self.unseen
                        .push("who attends to whom: the losses of its tokens are no numbers".to_owned());
                }
                Err(error) => self.note("the losses of tokens", &error),
            }
        }
    }

    fn look_at_labels(&mut self, subject: &mut dyn Subject, parameters: &ProbeParameters) {
        for token in LONE_TOKENS {
            match label_losses(subject, parameters, &self.limits, token) {
                Ok(Ok(losses)) => {
                    if token.sure && !losses.sure {
                        let what =
                            "whether larger losses are cut off: the model could not be made sure of itself";
                        self.unseen.push(what.to_owned());
                    }
                    self.label_losses.push(losses);
                }
                Ok(Err(why)) if token.sure => {
                    self.unseen.push(format!("the losses of all labels of one token: {why}"));
                }
                // What is lacking here was lacking there.
                Ok(Err(_)) => {}
                Err(error) => self.note("the losses of all labels", &error),
            }
        }
    }

    fn step(&mut self, subject: &mut dyn Subject, parameters: &ProbeParameters) {
        if subject.optimizer_steps().is_none() {
            self.unseen.push("optimizer steps: the subject takes none".to_owned());
            return;
        }
        let batches = probes::windows(&self.limits);
        let [long, .., short] = batches.as_slice() else {
            self.unseen.push("optimizer steps: no window is within the subject's limits".to_owned());
            return;
        };
        let mut refused = Vec::new();
        for planned in planned_runs(long, short, self.dtype) {
            let name = planned.name;
            match planned.take(subject, parameters) {
                Ok(Some(run)) => self.runs.push(run),
                Ok(None) => refused.push(name),
                Err(error) => self.note(name, &error),
            }
        }
        if !refused.is_empty() {
            self.unseen.push(format!("steps with {}: the subject has no such optimizer", refused.join("; ")));
        }
    }
}

/// Has a subject make the calls of a probe from fresh. Where logits are known, the gradients are kept that are.
fn measure(
    subject: &mut dyn Subject,
    probe: Probe,
    known: Option<&KnownLogits>,
) -> Result<ProbeResult, SubjectError> {
    subject.reset()?;
    let mut former = None;
    for batch in &probe.before {
        former = Some(accumulate(subject, batch)?.1);
    }
    let (loss, mut gradient) = judged_call(subject, &probe)?;
    if let Some(known) = known {
        let bias = known.final_norm().map(|norm| &norm.bias);
        gradient.retain(|name, _| name == known.head() || Some(name) == bias);
    }
    Ok(ProbeResult { probe, loss, gradient, former })
}

/// Whether a model is what was imposed on it, as the gradient of a head of its own shows. Where it is not it is
/// more than its roles say, or the backward pass of its head is wrong, which laws see. Where the gain in front of
/// the head is zero nothing but the bias can reach it.
fn is_as_imposed(known: &KnownLogits, result: &ProbeResult, dtype: Dtype) -> bool {
    let Some(gradient) = result.gradient.get(known.head()) else { return true };
    known.final_norm().is_some() || is_along_the_last_activations(known, gradient, tolerance(dtype))
}
