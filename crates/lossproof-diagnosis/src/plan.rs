//! Which probes tell hypotheses apart, and by how much: from the predictions alone, before anything is measured.

use super::{
    Hypothesis,
    model::{Call, Model, Operators},
    numbers::tolerance,
    probes::{self, Probe, State},
    states::States,
};
use lossproof_numerics::norm;
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{Limits, ParameterInfo};
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
    /// The weight of every prediction, where they are given from above.
    pub upstream: Option<Vec<f64>>,
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
                let difference: Vec<f64> = gradient.iter().zip(g).map(|(a, b)| a - b).collect();
                let of_gradient = norm(&difference) / norm(gradient).max(norm(g)).max(f64::MIN_POSITIVE);
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
    let mut outcome = pin.outcome(model.kernel, &terms)?;
    if let Some(reported) = model.loss {
        let Some(terms) = reported(&call) else { return Some(Predicted::NoNumber) };
        outcome.loss = pin.outcome(model.kernel, &terms)?.loss;
    }
    if let Operators::Exact(change) = model.operators {
        for (name, values) in &mut outcome.gradient {
            let shape = if name == lossproof_laws::names::EMBEDDING {
                vec![0, pin.width()]
            } else {
                vec![values.len()]
            };
            change(name, &shape, values, None);
        }
    }
    let gradient = outcome.gradient.into_values().flatten().collect();
    Some(Predicted::Numbers { loss: outcome.loss, gradient })
}

/// What every hypothesis predicts on every probe; the first stands for an honest trainer.
struct Predictions {
    pool: Vec<(Probe, Vec<Predicted>)>,
    tolerance: f64,
}

type Pair = (usize, usize);

impl Predictions {
    /// By how much a probe tells two hypotheses apart.
    fn apart(&self, probe: usize, (one, other): Pair) -> f64 {
        let predicted = &self.pool[probe].1;
        predicted[one].apart(&predicted[other])
    }

    /// By how much the best probe does.
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

impl Plan {
    /// Plans probes for a model with these parameters and limits; `upstream` says that weights can be given from above.
    #[must_use]
    pub fn new(parameters: &[ParameterInfo], limits: &Limits, dtype: Dtype, upstream: bool) -> Self {
        let mut states = States::new(parameters, dtype);
        let hypotheses: Vec<&'static Hypothesis> = Hypothesis::all().collect();
        let models = || std::iter::once(Model::HONEST).chain(hypotheses.iter().map(|h| h.model));
        let mut pool = Vec::new();
        for probe in probes::pool(limits, false, upstream) {
            let predicted: Option<Vec<_>> =
                models().map(|model| predict(&mut states, &probe, &model, limits)).collect();
            if let Some(predicted) = predicted {
                pool.push((probe, predicted));
            }
        }
        let predictions = Predictions { pool, tolerance: tolerance(dtype) };
        let of = |place: usize| hypotheses[place - 1];
        let (seen, elsewhere): (Vec<usize>, Vec<usize>) =
            (1..=hypotheses.len()).partition(|&place| !predictions.same(0, place));
        let mut classes: Vec<Vec<usize>> = Vec::new();
        for &place in &seen {
            match classes.iter_mut().find(|class| predictions.same(class[0], place)) {
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
            .map(|pair| (pair, predictions.best(pair)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|((one, other), apart)| (of(one), of(other), apart));
        let with_honest: Vec<usize> = std::iter::once(0).chain(firsts).collect();
        let probes = predictions.chosen(pairs(&with_honest));
        let classes = classes.into_iter().filter(|class| class.len() > 1);
        let classes = classes.map(|class| class.into_iter().map(of).collect()).collect();
        Self { probes, closest, classes, elsewhere: elsewhere.into_iter().map(of).collect() }
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
