//! A law's workbench: one subject, one case, and the comparisons made on it.

use super::check::{Check, Violation};
use crate::{
    Case, Collect, Observation, OptimizerSteps, ParameterInfo, Subject, SubjectError, SubjectInfo, Tensor,
    TensorSet, TensorValues, Unsupported, UpstreamWeights,
    verify::blocks::{self, Blocks},
};
use lossproof_numerics::{Difference, Dtype, ErrorModel, difference};
use lossproof_spec::{EmptyPolicy, GlobalBatch, LossSpec, TokenWeights};
use num_traits::ToPrimitive;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Why a law ends early on a case.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The subject lacks something the law needs.
    Unsupported(String),
    /// The subject failed where it should not.
    Failed(SubjectError),
    /// The law has nothing to compare on this case: it lies outside the law's preconditions or the subject's limits.
    Void,
}

impl From<Unsupported> for Stop {
    fn from(unsupported: Unsupported) -> Self {
        Self::Unsupported(unsupported.what)
    }
}

impl From<SubjectError> for Stop {
    fn from(error: SubjectError) -> Self {
        match error {
            SubjectError::Limit { .. } | SubjectError::TooMany { .. } | SubjectError::Kind { .. } => {
                Self::Void
            }
            error => Self::Failed(error),
        }
    }
}

/// What a law answers on a case: whether the case could have told a violation.
pub(crate) type Told = Result<bool, Stop>;

/// What does not change from case to case.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) info: SubjectInfo,
    pub(crate) parameters: Vec<ParameterInfo>,
    /// What two identical calls differ by, relative to the gradient.
    pub(crate) noise: f64,
}

impl Facts {
    /// Asks a subject.
    pub(crate) fn of(subject: &dyn Subject) -> Self {
        Self { info: subject.info(), parameters: subject.parameters(), noise: 0.0 }
    }

    /// Rounding model of the subject on a batch. The head size is not declared; it is at most the width, and the bound grows
    /// with it.
    pub(crate) fn model(&self, batch: &GlobalBatch) -> ErrorModel {
        let width = self.parameters.iter().find(|p| p.shape.len() == 2).map_or(1, |p| p.shape[1]);
        let layers = self.parameters.iter().filter(|p| p.name.ends_with("mlp.c_proj.weight")).count();
        ErrorModel::new(self.info.limits.vocabulary, width, 1, layers, batch)
    }
}

/// A loss and its gradient, as a subject computed them.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    pub(crate) observation: Observation,
    pub(crate) gradient: TensorSet,
    /// `Σ_t |w_t|`: the loss of a batch whose every token loss is 1.
    pub(crate) total: f64,
}

impl Computed {
    pub(crate) fn loss(&self) -> f64 {
        self.observation.loss
    }

    /// What an error of the loss is relative to: [`ErrorModel::loss_bound`].
    fn loss_scale(&self) -> f64 {
        self.observation.loss.abs().max(self.total)
    }
}

/// One law on one case.
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a mut dyn Subject,
    pub(crate) case: &'a Case,
    pub(crate) facts: &'a Facts,
    pub(crate) check: Check,
    /// For the choices the law makes on its own.
    pub(crate) random: ChaCha8Rng,
    /// The parameters that are loaded, where they are not the case's own.
    pub(crate) loaded: Option<TensorSet>,
}

impl<'a> Trial<'a> {
    /// Brings the subject to the parameters of the case, or to its own where it takes none.
    pub(crate) fn new(subject: &'a mut dyn Subject, case: &'a Case, facts: &'a Facts) -> Result<Self, Stop> {
        facts.info.limits.check(&case.batch)?;
        subject.reset()?;
        if let Some(loader) = subject.parameter_loading() {
            loader.load(&case.parameters(&facts.parameters))?;
        }
        let random = ChaCha8Rng::seed_from_u64(case.seed ^ 0x6c61_7773);
        Ok(Self { subject, case, facts, check: Check::default(), random, loaded: None })
    }

    /// Tokens of the subject's vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.facts.info.limits.vocabulary
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.facts.info.dtype
    }

    /// Loads parameters.
    pub(crate) fn load(&mut self, parameters: &TensorSet) -> Result<(), Stop> {
        let loader = self.subject.parameter_loading();
        let loader = loader.ok_or_else(|| Stop::Unsupported("loading parameters".to_owned()))?;
        loader.load(parameters)?;
        self.loaded = Some(parameters.clone());
        Ok(())
    }

    /// Sets one parameter.
    pub(crate) fn set(&mut self, name: &str, values: &[f64]) -> Result<(), Stop> {
        let loader = self.subject.parameter_loading();
        let loader = loader.ok_or_else(|| Stop::Unsupported("loading parameters".to_owned()))?;
        Ok(loader.set(name, values)?)
    }

    /// The parameters of the case.
    pub(crate) fn parameters(&mut self) -> Result<TensorSet, Stop> {
        if self.subject.parameter_loading().is_none() {
            return Err(Stop::Unsupported("loading parameters".to_owned()));
        }
        Ok(self.case.parameters(&self.facts.parameters))
    }

    /// Forward and backward.
    pub(crate) fn gradient(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Computed, Stop> {
        self.facts.info.limits.check(batch)?;
        self.subject.configure(spec)?;
        let mut sink = Collect::default();
        let observation = self.subject.accumulate(batch, &mut sink)?;
        let total = TokenWeights::new(spec, &batch.layout()).ok().and_then(|w| w.total().to_f64());
        Ok(Computed { observation, gradient: sink.into_tensors(), total: total.unwrap_or(f64::NAN) })
    }

    /// `−log p(target)` of every prediction.
    pub(crate) fn token_losses(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, Stop> {
        self.facts.info.limits.check(batch)?;
        let evaluator = self.subject.token_losses();
        let evaluator = evaluator.ok_or_else(|| Stop::Unsupported("evaluating token losses".to_owned()))?;
        Ok(evaluator.evaluate(batch)?)
    }

    /// The capability to weight token losses.
    pub(crate) fn upstream(&mut self) -> Result<&mut dyn UpstreamWeights, Stop> {
        let upstream = self.subject.upstream_weights();
        upstream.ok_or_else(|| Stop::Unsupported("weighting token losses".to_owned()))
    }

    /// The capability to take steps.
    pub(crate) fn steps(&mut self) -> Result<&mut dyn OptimizerSteps, Stop> {
        let steps = self.subject.optimizer_steps();
        steps.ok_or_else(|| Stop::Unsupported("optimizer steps".to_owned()))
    }

    /// The spec of the case where it has weights on all of these batches, and otherwise with empty groups counted as zero.
    pub(crate) fn spec(&self, batches: &[&GlobalBatch]) -> LossSpec {
        let weighs = |batch: &&GlobalBatch| TokenWeights::new(&self.case.spec, &batch.layout()).is_ok();
        let empty = if batches.iter().all(weighs) { self.case.spec.empty } else { EmptyPolicy::ZeroCounted };
        LossSpec { empty, ..self.case.spec }
    }

    /// A preset with the token loss (label smoothing, z-loss) of the case.
    pub(crate) fn with_token_loss(&self, preset: LossSpec) -> LossSpec {
        LossSpec { label_smoothing: self.case.spec.label_smoothing, z_loss: self.case.spec.z_loss, ..preset }
    }

    /// Bound on the error of a gradient's block.
    pub(crate) fn gradient_bound(&self, batch: &GlobalBatch) -> f64 {
        self.facts.model(batch).gradient_bound(self.dtype()) + self.facts.noise
    }

    /// Bound on the error of a loss.
    pub(crate) fn loss_bound(&self, batch: &GlobalBatch) -> f64 {
        self.facts.model(batch).loss_bound(self.dtype()) + self.facts.noise
    }

    /// Holds loss and gradient to those of another computation.
    pub(crate) fn same(&mut self, what: &str, batch: &GlobalBatch, actual: &Computed, expected: &Computed) {
        self.combination(what, batch, actual, &[(1.0, expected)], &[]);
    }

    /// Holds loss and gradient to `Σ_k c_k·(loss, gradient)_k`, but for the parameters in `except`.
    ///
    /// The error of a block is relative to `max(‖g‖, Σ_k |c_k|·‖g_k‖)`: rounding is that of the summands.
    pub(crate) fn combination(
        &mut self,
        what: &str,
        batch: &GlobalBatch,
        actual: &Computed,
        parts: &[(f64, &Computed)],
        except: &[&str],
    ) {
        let expected = parts.iter().map(|(c, part)| c * part.loss()).sum();
        let parts_scale: f64 = parts.iter().map(|(c, part)| c.abs() * part.loss_scale()).sum();
        let scale = actual.loss_scale().max(parts_scale);
        self.number(
            &format!("{what}: loss"),
            "loss",
            self.loss_bound(batch),
            (actual.loss(), expected),
            scale,
        );
        self.gradients(what, batch, actual, parts, except);
    }

    /// The same of the gradient alone.
    pub(crate) fn gradients(
        &mut self,
        what: &str,
        batch: &GlobalBatch,
        actual: &Computed,
        parts: &[(f64, &Computed)],
        except: &[&str],
    ) {
        let bound = self.gradient_bound(batch);
        let blocks = Blocks::new(batch, &self.facts.parameters);
        let sizes = |_, block: &_| {
            let parts = parts.iter().map(|(c, part)| c.abs() * blocks::norm(&part.gradient, block));
            blocks::norm(&actual.gradient, block).max(parts.sum())
        };
        let scales = blocks.scales(sizes);
        for (block, scale) in blocks.with_scales(&scales) {
            if except.contains(&block.parameter.as_str()) {
                continue;
            }
            let unit = blocks::name(block);
            let at = format!("{what}: gradient of {unit}");
            let parts: Option<Vec<_>> =
                parts.iter().map(|(c, part)| Some((*c, part.gradient.get(&block.parameter)?))).collect();
            let (Some(tensor), Some(parts)) = (actual.gradient.get(&block.parameter), parts) else {
                self.check.hold(&unit, bound, f64::INFINITY, || missing(&at));
                continue;
            };
            let expected = |index| parts.iter().map(|(c, tensor)| c * tensor.get(index)).sum::<f64>();
            let values = Values { actual: |index| tensor.get(index), expected, indices: || block.indices() };
            // Exactly zero on both sides in a block that generically is not: nothing to be relative to.
            let nothing = block.structurally_zero || scale <= 0.0;
            self.values(&at, &unit, bound, &values, scale, nothing);
        }
    }

    /// Holds values to what is expected of each, relative to `scale`. Where there should be nothing, nothing is certified.
    fn values<I: Iterator<Item = usize>>(
        &mut self,
        what: &str,
        unit: &str,
        bound: f64,
        values: &Values<impl Fn(usize) -> f64, impl Fn(usize) -> f64, impl Fn() -> I>,
        scale: f64,
        nothing: bool,
    ) {
        let now = values.apart(1.0);
        let violation = || Violation {
            statement: what.to_owned(),
            error: now.relative_to(scale),
            bound,
            pair: now.worst.map(|worst| (worst.actual, worst.expected)),
            ratio: values.ratio(now.expected),
        };
        if nothing {
            let error = now.relative_to(scale).max(if scale > 0.0 { now.actual / scale } else { 0.0 });
            self.check.hold(unit, bound, error, violation);
        } else {
            let error = |factor: f64| values.apart(factor).relative_to(scale);
            self.check.compare(unit, bound, now.actual / scale, error, violation);
        }
    }

    /// Holds one number to another, relative to `scale`.
    pub(crate) fn number(
        &mut self,
        what: &str,
        unit: &str,
        bound: f64,
        (actual, expected): (f64, f64),
        scale: f64,
    ) {
        let error = |factor: f64| (factor * actual - expected).abs() / scale;
        let violation = || Violation {
            statement: what.to_owned(),
            error: error(1.0),
            bound,
            pair: Some((actual, expected)),
            ratio: Some(actual / expected).filter(|ratio| ratio.is_finite()),
        };
        // Zero on both sides is as it should be, and tells nothing.
        if actual.abs() + expected.abs() <= 0.0 {
            self.check.hold(unit, bound, 0.0, violation);
        } else {
            self.check.compare(unit, bound, actual.abs() / scale, error, violation);
        }
    }

    /// Holds the elements of one tensor to what is expected of each, relative to `scale`.
    pub(crate) fn elements(
        &mut self,
        what: &str,
        unit: &str,
        bound: f64,
        actual: &[f64],
        expected: &[f64],
        scale: f64,
    ) {
        if actual.len() != expected.len() {
            let violation = Violation {
                statement: format!("{what}: {} values, expected {}", actual.len(), expected.len()),
                error: f64::INFINITY,
                bound,
                pair: None,
                ratio: None,
            };
            return self.check.hold(unit, bound, f64::INFINITY, || violation);
        }
        let nothing = scale <= 0.0 || actual.iter().all(|value| *value == 0.0);
        let length = actual.len();
        let values = Values { actual: |i| actual[i], expected: |i| expected[i], indices: || 0..length };
        self.values(what, unit, bound, &values, scale, nothing);
    }

    /// Records a violation that is no matter of degree, unless `holds`.
    pub(crate) fn fact(&mut self, holds: bool, statement: impl FnOnce() -> String) {
        let (error, bound) = (if holds { 0.0 } else { f64::INFINITY }, 0.0);
        let violation = || Violation { statement: statement(), error, bound, pair: None, ratio: None };
        self.check.hold("fact", bound, error, violation);
    }
}

fn missing(at: &str) -> Violation {
    let statement = format!("{at} was not handed over");
    Violation { statement, error: f64::INFINITY, bound: 0.0, pair: None, ratio: None }
}

/// Values beside what is expected of them, by index.
struct Values<A, E, I> {
    actual: A,
    expected: E,
    indices: I,
}

impl<A: Fn(usize) -> f64, E: Fn(usize) -> f64, N: Iterator<Item = usize>, I: Fn() -> N> Values<A, E, I> {
    /// How far apart they are when the values are multiplied by `factor`.
    fn apart(&self, factor: f64) -> Difference {
        difference(|index| factor * (self.actual)(index), &self.expected, (self.indices)())
    }

    /// The factor that turns what is expected, of this norm, into the values, where there is one: both are parallel to a
    /// millionth.
    fn ratio(&self, norm: f64) -> Option<f64> {
        let inner: f64 = (self.indices)().map(|index| (self.actual)(index) * (self.expected)(index)).sum();
        let factor = inner / norm / norm;
        let scaled = |index| factor * (self.expected)(index);
        let apart = difference(&self.actual, scaled, (self.indices)());
        (apart.difference <= 1e-6 * apart.actual && factor.is_finite()).then_some(factor)
    }
}

/// A tensor of a set as f64 values.
pub(crate) fn values(set: &TensorSet, name: &str) -> Result<Vec<f64>, Stop> {
    set.get(name).map(Tensor::to_f64).ok_or_else(|| Stop::Unsupported(format!("a parameter named {name}")))
}

/// Replaces a tensor's values.
pub(crate) fn replace(set: &mut TensorSet, name: &str, values: Vec<f64>) -> Result<(), Stop> {
    let unsupported = || Stop::Unsupported(format!("a parameter named {name}"));
    let shape = set.get(name).ok_or_else(unsupported)?.shape().to_vec();
    let tensor = Tensor::new(shape, TensorValues::F64(values)).map_err(|_| unsupported())?;
    set.insert(name.to_owned(), tensor);
    Ok(())
}
