//! The weights of every unknown of a basis, and how far to trust them.

use crate::inference::{LogComparison, Measurement};
use lossproof_numerics::Solution;
use lossproof_spec::GlobalBatch;

/// The weight of every unknown of a basis in one gradient (or in reported losses), and how far to trust it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tomogram {
    /// What they are weights of.
    pub source: WeightSource,
    /// One for each unknown, in the order of the basis.
    pub weights: Vec<Weight>,
    /// Unknowns that cannot be told apart.
    pub groups: Vec<WeightGroup>,
    /// Largest over smallest singular value of the equations, their columns scaled to norm one: by how much
    /// an error of the gradient may grow in the weights.
    pub condition: f64,
    /// Equations the weights were recovered from.
    pub equations: usize,
    /// `‖Σ_t w_t·∇ℓ_t − g‖` over the whole gradient, relative to the root of the sum of the squares of
    /// `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over each parameter.
    pub residual: f64,
    /// What of it rounding and noise explain, relative to the same.
    pub bound: f64,
    /// Parts of the gradient whose residual is larger than rounding and noise explain, the largest share
    /// first. The weights were then recovered from the other parts, or, when all parts are listed, are a mere
    /// fit.
    pub unexplained: Vec<Unexplained>,
    /// Whether the weights are a mere fit, because what they do not explain is more than a minority of parts.
    pub is_fit: bool,
    /// Whether only values of undetermined weights explain everything, of which nobody knows that they are theirs.
    pub is_open: bool,
    /// What these weights leave undetermined, in words.
    pub undetermined: Vec<String>,
    /// The weights of a reported loss beside those of the log policies; `None` for those of a gradient.
    pub policy: Option<ReportedPolicy>,
}

/// The weights of a reported loss beside those of the log policies.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedPolicy {
    /// Which policy is declared, and which are found.
    pub comparison: LogComparison,
    /// What every unknown weighs by the declared policy; NaN where that is the mean of nothing.
    pub due: Vec<f64>,
}

/// What weights were recovered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightSource {
    /// The gradient: what is optimised.
    Gradient,
    /// Losses: what is logged.
    ReportedLoss,
}

/// The weight of one unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// What it is the weight of.
    pub name: String,
    /// The weight. In a group it is one choice of many.
    pub value: f64,
    /// First-order bound on its error, from the precision of subject and basis; infinite in a group.
    pub error: f64,
    /// Index of the group it cannot be told from.
    pub group: Option<usize>,
}

/// Unknowns with linearly dependent gradients, as when two positions share the whole prefix and the label.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightGroup {
    /// Their indices, rising.
    pub members: Vec<usize>,
    /// The sum of their weights and its error, where that exists: it does when their gradients are equal.
    pub sum: Option<(f64, f64)>,
}

/// A part of the gradient that no weighting explains.
#[derive(Clone, Debug, PartialEq)]
pub struct Unexplained {
    /// The parameter, or which part of it.
    pub name: String,
    /// Its residual, relative to `max(‖g‖, Σ_t |w_t|·‖∇ℓ_t‖)` over the parameter.
    pub residual: f64,
    /// What of it rounding and noise explain: as much as of the whole parameter.
    pub bound: f64,
    /// Its share of the square of the whole residual.
    pub share: f64,
}

impl Tomogram {
    /// Every weight known up to a factor that itself is known to a relative error.
    pub(super) fn with_common_error(mut self, relative: f64) -> Self {
        for weight in &mut self.weights {
            weight.error += relative * weight.value.abs();
        }
        for (sum, error) in self.groups.iter_mut().filter_map(|group| group.sum.as_mut()) {
            *error += relative * sum.abs();
        }
        self
    }
}

/// One weight for every prediction of a batch, of which the weights are those at `places`; of the others
/// nothing is known.
pub(super) fn measurements(batch: &GlobalBatch, places: &[usize], weights: &[Weight]) -> Vec<Measurement> {
    let unknown = Measurement { value: 0.0, error: f64::INFINITY };
    let mut measured = vec![unknown; batch.predictions().count()];
    for (weight, &place) in weights.iter().zip(places) {
        measured[place] = Measurement { value: weight.value, error: weight.error };
    }
    measured
}

/// A tomogram with the weights of a solution alone.
pub(super) fn weights<'a>(solution: Solution, names: impl Iterator<Item = &'a str>) -> Tomogram {
    let group = |t: usize| solution.groups.iter().position(|group| group.members.contains(&t));
    let values = solution.values.iter().zip(&solution.errors).zip(names).enumerate();
    let weight = |(t, ((&value, &error), name)): (usize, ((&f64, &f64), &str))| Weight {
        name: name.to_owned(),
        value,
        error,
        group: group(t),
    };
    let weights = values.map(weight).collect();
    let groups = solution.groups.into_iter();
    Tomogram {
        source: WeightSource::Gradient,
        weights,
        groups: groups.map(|group| WeightGroup { members: group.members, sum: group.sum }).collect(),
        condition: solution.condition,
        equations: 0,
        residual: 0.0,
        bound: 0.0,
        unexplained: Vec::new(),
        is_fit: false,
        is_open: false,
        undetermined: Vec::new(),
        policy: None,
    }
}
