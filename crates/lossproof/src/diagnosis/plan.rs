//! Which probes tell hypotheses apart, and by how much: from the predictions alone, before anything is measured.

use super::{
    Hypothesis,
    examination::States,
    judge::tolerance,
    model::{Call, Model, Operators},
    oracle::Oracle,
    probes::{self, Probe, State},
};
use crate::{Dtype, Limits, ParameterInfo};
use lossproof_spec::{GlobalBatch, LossSpec};
use std::fmt;

/// Probes with known logits that separate every two hypotheses that such probes can separate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The probes, the one that separates most first.
    pub probes: Vec<PlannedProbe>,
    /// The two hypotheses that are hardest to tell apart of those that can be, and by how much their predictions differ on
    /// the probe that tells them apart best, relative to the larger; hypotheses that differ by less than half of the dtype's
    /// digits are taken for the same.
    pub closest: Option<(&'static Hypothesis, &'static Hypothesis, f64)>,
    /// Hypotheses that predict the same on every probe: no diagnosis by weights tells them apart.
    pub classes: Vec<Vec<&'static Hypothesis>>,
    /// Hypotheses that predict what an honest trainer does on every probe with known logits: what they have wrong is attention,
    /// backward operators, steps or validation, and other experiments show it.
    pub elsewhere: Vec<&'static Hypothesis>,
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
    /// Pairs of hypotheses that it separates and no probe before it did.
    pub separates: usize,
}

/// What a hypothesis predicts on a probe.
enum Predicted {
    Numbers { loss: f64, gradient: Vec<f64> },
    NoNumber,
    Unsaid,
}

impl Predicted {
    /// How far two predictions are apart, relative to the larger.
    fn apart(&self, other: &Self) -> f64 {
        match (self, other) {
            (Self::Numbers { loss, gradient }, Self::Numbers { loss: l, gradient: g }) => {
                let size = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
                let difference: Vec<f64> = gradient.iter().zip(g).map(|(a, b)| a - b).collect();
                let of_gradient = size(&difference) / size(gradient).max(size(g)).max(f64::MIN_POSITIVE);
                of_gradient.max((loss - l).abs() / loss.abs().max(l.abs()).max(f64::MIN_POSITIVE))
            }
            (Self::NoNumber, Self::NoNumber) | (Self::Unsaid, Self::Unsaid) => 0.0,
            _ => 1.0,
        }
    }
}

fn predict(states: &mut States, probe: &Probe, model: &Model, limits: &Limits) -> Option<Predicted> {
    if model.cancels && probe.state == State::Offset {
        return Some(Predicted::Unsaid);
    }
    let batch = model.seen(&probe.call(limits));
    let call = Call { batch: &batch, ..probe.call(limits) };
    let pin = states.pin(probe.state)?;
    let Some(terms) = (model.gradient)(&call) else { return Some(Predicted::NoNumber) };
    let mut outcome = pin.outcome(model.kernel, &terms).ok()??;
    if let Some(reported) = model.loss {
        let Some(terms) = reported(&call) else { return Some(Predicted::NoNumber) };
        outcome.loss = pin.outcome(model.kernel, &terms).ok()??.loss;
    }
    if let Operators::Exact(change) = model.operators {
        for (name, values) in &mut outcome.gradient {
            let shape =
                if name == crate::names::EMBEDDING { vec![0, pin.width()] } else { vec![values.len()] };
            change(name, &shape, values, None);
        }
    }
    let gradient = outcome.gradient.into_values().flatten().collect();
    Some(Predicted::Numbers { loss: outcome.loss, gradient })
}

impl Plan {
    /// Plans probes for a model with these parameters and limits; `upstream` says that weights can be given from above.
    #[must_use]
    pub fn new(parameters: &[ParameterInfo], limits: &Limits, dtype: Dtype, upstream: bool) -> Self {
        let mut states = States::new(parameters, dtype);
        let hypotheses: Vec<&'static Hypothesis> = Hypothesis::all().collect();
        let models: Vec<Model> =
            std::iter::once(Model::HONEST).chain(hypotheses.iter().map(|h| h.model)).collect();
        let mut pool = Vec::new();
        for probe in probes::pool(limits, false, upstream) {
            let predicted: Option<Vec<_>> =
                models.iter().map(|model| predict(&mut states, &probe, model, limits)).collect();
            if let Some(predicted) = predicted {
                pool.push((probe, predicted));
            }
        }
        let count = models.len();
        let pairs = || (0..count).flat_map(move |one| (one + 1..count).map(move |other| (one, other)));
        let distance =
            |(one, other): (usize, usize), predicted: &[Predicted]| predicted[one].apart(&predicted[other]);
        let best = |pair| pool.iter().map(|(_, predicted)| distance(pair, predicted)).fold(0.0, f64::max);
        let enough = tolerance(dtype);
        let (mut open, same): (Vec<_>, Vec<_>) =
            pairs().map(|pair| (pair, best(pair))).partition(|(_, best)| *best > enough);
        let among = |pair: &(usize, usize)| pair.0 > 0 && pair.1 > 0;
        let closest = open.iter().filter(|(pair, _)| among(pair)).min_by(|a, b| a.1.total_cmp(&b.1));
        let closest = closest.map(|(pair, best)| (hypotheses[pair.0 - 1], hypotheses[pair.1 - 1], *best));
        let alike =
            |one: usize, other: usize| same.iter().any(|(pair, _)| *pair == (one.min(other), one.max(other)));
        let elsewhere = (1..count).filter(|&h| alike(0, h)).map(|h| hypotheses[h - 1]).collect();
        let mut classes: Vec<Vec<&'static Hypothesis>> = Vec::new();
        for one in (1..count).filter(|&h| !alike(0, h)) {
            let class: Vec<usize> = (1..count).filter(|&other| other == one || alike(one, other)).collect();
            if class.len() > 1 && class[0] == one {
                classes.push(class.into_iter().map(|h| hypotheses[h - 1]).collect());
            }
        }
        let mut probes = Vec::new();
        while !open.is_empty() {
            let separated = |predicted: &[Predicted]| {
                open.iter().filter(|(pair, _)| distance(*pair, predicted) > enough).count()
            };
            let Some((index, separates)) = pool
                .iter()
                .map(|(_, predicted)| separated(predicted))
                .enumerate()
                .max_by_key(|&(index, n)| (n, usize::MAX - index))
            else {
                break;
            };
            let (probe, predicted) = &pool[index];
            open.retain(|(pair, _)| distance(*pair, predicted) <= enough);
            let Probe { name, spec, batch, before, .. } = probe.clone();
            probes.push(PlannedProbe { name, spec, batch, before, separates });
        }
        Self { probes, closest, classes, elsewhere }
    }
}

impl fmt::Display for Plan {
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
            let ids: Vec<_> = class.iter().map(|hypothesis| hypothesis.id).collect();
            writeln!(f, "not separated by any: {}", ids.join(", "))?;
        }
        write!(f, "shown by other experiments: {} hypotheses", self.elsewhere.len())
    }
}
