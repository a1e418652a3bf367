//! Which probes tell hypotheses apart, and by how much: from the forecasts alone, before anything is
//! measured.

use crate::{
    call::{Semantics, TrainerCall},
    catalogue::Bug,
    half_digits::{Forecast, tolerance},
    hypotheses::Hypothesis,
    probe_parameters::ProbeParameters,
    probes::{self, Probe, ProbeState},
    trainer_model::{BackwardEffect, TrainerModel},
    truth::in_closed_form,
};
use lossproof_numerics::{norm, vector};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Role};
use lossproof_subject::{Limits, LogPolicy, ModelInfo, ParameterInfo};
use std::{collections::BTreeSet, fmt};

/// Probes with known logits that separate every two hypotheses that such probes can separate.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// The probes, the one that separates most first.
    pub probes: Vec<PlannedProbe>,
    /// The two hypotheses that are hardest to tell apart of those that can be, and by how much their
    /// forecasts differ on the probe that tells them apart best, relative to the larger; hypotheses that
    /// differ by less than half of the dtype's digits are taken for the same.
    pub closest: Option<(&'static Bug, &'static Bug, f64)>,
    /// Hypotheses that forecast the same on every probe: no diagnosis by weights tells them apart.
    pub classes: Vec<Vec<&'static Bug>>,
    /// Hypotheses that forecast what an honest trainer does on every probe with known logits: what they have
    /// wrong is attention, backward operators, steps or validation, and other experiments show it.
    pub elsewhere: Vec<&'static Bug>,
}

/// One probe of a plan.
#[derive(Clone, Debug)]
pub struct PlannedProbe {
    /// What is special about its batch.
    pub name: &'static str,
    /// The semantics that is asked for.
    pub spec: LossSpec,
    /// The batch that is judged.
    pub batch: GlobalBatch,
    /// The batches before it.
    pub before: Vec<GlobalBatch>,
    /// The weight of every prediction, where they are given from above.
    pub upstream: Option<Vec<f64>>,
    /// Pairs of hypotheses that it separates and no probe before it did.
    pub separates: usize,
}

/// What a hypothesis forecasts of a probe: the loss, and the gradient of embedding and final bias.
type ProbeForecast = Forecast<(f64, Vec<f64>)>;

/// How far two forecasts are apart, relative to the larger.
fn distance(one: &ProbeForecast, other: &ProbeForecast) -> f64 {
    match (one, other) {
        (Forecast::Value((loss, gradient)), Forecast::Value((l, g))) => {
            let of_gradient =
                vector::distance(gradient, g) / norm(gradient).max(norm(g)).max(f64::MIN_POSITIVE);
            of_gradient.max((loss - l).abs() / loss.abs().max(l.abs()).max(f64::MIN_POSITIVE))
        }
        (Forecast::NoNumber, Forecast::NoNumber) | (Forecast::Unsaid, Forecast::Unsaid) => 0.0,
        _ => 1.0,
    }
}

/// What a model forecasts of a probe; `None` where the logits are not known, or a number is not that of a
/// loss.
fn forecast(
    parameters: &ProbeParameters,
    probe: &Probe,
    model: &TrainerModel,
    limits: &Limits,
) -> Option<ProbeForecast> {
    if model.cancels && probe.state == ProbeState::Offset {
        return Some(Forecast::Unsaid);
    }
    let semantics = Semantics::as_asked(LogPolicy::Window);
    let asked = probe.call(limits, &semantics);
    let batch = model.seen(&asked);
    let call = TrainerCall { batch: &batch, ..asked };
    let known = parameters.known_logits(probe.state)?;
    let Some(terms) = (model.gradient)(&call) else { return Some(Forecast::NoNumber) };
    let mut optimised = in_closed_form(known, model.kernel, &terms)?;
    let Some(reported) = model.reports.terms(model.gradient, &call) else { return Some(Forecast::NoNumber) };
    if reported != terms {
        optimised.loss = in_closed_form(known, model.kernel, &reported)?.loss;
    }
    if let BackwardEffect::Exact(change) = model.backward {
        for (name, values) in &mut optimised.gradient {
            let (role, shape) = if name == known.head() {
                (Role::TokenEmbedding, vec![0, known.bias().len()])
            } else {
                (Role::FinalNormBias, vec![values.len()])
            };
            change(role, &shape, values, None);
        }
    }
    Some(Forecast::Value((optimised.loss, optimised.gradient.into_values().flatten().collect())))
}

/// What every hypothesis forecasts of every probe; the first stands for an honest trainer.
struct ProbeForecasts {
    pool: Vec<(Probe, Vec<ProbeForecast>)>,
    tolerance: f64,
}

/// The places of two hypotheses.
type Pair = (usize, usize);

impl ProbeForecasts {
    /// By how much a probe tells two hypotheses apart.
    fn apart(&self, probe: usize, (one, other): Pair) -> f64 {
        let forecasts = &self.pool[probe].1;
        distance(&forecasts[one], &forecasts[other])
    }

    /// By how much the best probe tells two hypotheses apart.
    fn best(&self, pair: Pair) -> f64 {
        (0..self.pool.len()).map(|probe| self.apart(probe, pair)).fold(0.0, f64::max)
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.best((one, other)) <= self.tolerance
    }

    /// Probes until no pair is left that one could separate, each time the one that separates most.
    fn chosen(&self, mut open: Vec<Pair>) -> Vec<PlannedProbe> {
        let mut chosen = Vec::new();
        loop {
            let separated =
                |probe: usize| open.iter().filter(|pair| self.apart(probe, **pair) > self.tolerance).count();
            let counts = (0..self.pool.len()).map(|probe| (separated(probe), probe));
            // Of two that separate as much, the first.
            let most = counts.max_by_key(|&(count, probe)| (count, usize::MAX - probe));
            let Some((separates, index)) = most.filter(|(count, _)| *count > 0) else { return chosen };
            open.retain(|pair| self.apart(index, *pair) <= self.tolerance);
            let Probe { name, spec, batch, before, upstream, .. } = self.pool[index].0.clone();
            chosen.push(PlannedProbe { name, spec, batch, before, upstream, separates });
        }
    }
}

impl ProbePlan {
    /// Plans probes for a model with these parameters and limits, in a trainer that logs the loss of the
    /// whole window; `upstream` says that weights can be given from above.
    #[must_use]
    pub fn new(parameters: &[ParameterInfo], limits: &Limits, dtype: Dtype, upstream: bool) -> Self {
        let parameters = ProbeParameters::new(parameters, dtype, limits.vocabulary, &ModelInfo::default());
        let mut known = BTreeSet::new();
        let firsts = Hypothesis::all().filter(|hypothesis| known.insert(hypothesis.bug.id));
        let hypotheses: Vec<&'static Hypothesis> = firsts.collect();
        let models = || std::iter::once(TrainerModel::HONEST).chain(hypotheses.iter().map(|h| h.model));
        let mut pool = Vec::new();
        for probe in probes::pool(limits, false, upstream) {
            let forecasts: Option<Vec<_>> =
                models().map(|model| forecast(&parameters, &probe, &model, limits)).collect();
            if let Some(forecasts) = forecasts {
                pool.push((probe, forecasts));
            }
        }
        let forecasts = ProbeForecasts { pool, tolerance: tolerance(dtype) };
        let of = |place: usize| hypotheses[place - 1].bug;
        let (seen, elsewhere): (Vec<usize>, Vec<usize>) =
            (1..=hypotheses.len()).partition(|&place| !forecasts.same(0, place));
        let mut classes: Vec<Vec<usize>> = Vec::new();
        for &place in &seen {
            match classes.iter_mut().find(|class| forecasts.same(class[0], place)) {
                Some(class) => class.push(place),
                None => classes.push(vec![place]),
            }
        }
        let firsts: Vec<usize> = classes.iter().map(|class| class[0]).collect();
        let pairs = |members: &[usize]| -> Vec<Pair> {
            let from = |(index, &one): (usize, &usize)| {
                members[index + 1..].iter().map(move |&other| (one, other)).collect::<Vec<_>>()
            };
            members.iter().enumerate().flat_map(from).collect()
        };
        let closest = pairs(&firsts)
            .into_iter()
            .map(|pair| (pair, forecasts.best(pair)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|((one, other), apart)| (of(one), of(other), apart));
        let with_honest: Vec<usize> = std::iter::once(0).chain(firsts).collect();
        let probes = forecasts.chosen(pairs(&with_honest));
        let classes = classes.into_iter().filter(|class| class.len() > 1);
        let classes = classes.map(|class| class.into_iter().map(of).collect()).collect();
        Self { probes, closest, classes, elsewhere: elsewhere.into_iter().map(of).collect() }
    }
}

impl fmt::Display for ProbePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: usize = self.probes.iter().map(|probe| probe.separates).sum();
        writeln!(f, "{} probes with known logits separate {pairs} pairs of hypotheses:", self.probes.len())?;
        for probe in &self.probes {
            writeln!(f, "  {:>5}  {}, {}", probe.separates, probe.name, probe.spec)?;
        }
        if let Some((one, other, apart)) = &self.closest {
            writeln!(f, "closest: {} and {} differ by {apart:.1e}", one.id, other.id)?;
        }
        for class in &self.classes {
            let ids: Vec<_> = class.iter().map(|bug| bug.id).collect();
            writeln!(f, "not separated by any: {}", ids.join(", "))?;
        }
        write!(f, "shown by other experiments: {} hypotheses", self.elsewhere.len())
    }
}
