//! Comparisons: what a law computed, held to what it should be, each with the bound of `docs/tolerances.md`.

use super::trial::{Computed, Origin, Trial};
use crate::blocks::{self, Blocks};
use crate::values_beside::Values;
use lossproof_numerics::{
    Block, Control, Deviation, Difference, ErrorModel, Unit, Violation, WEAKEST, bias, difference,
    difference_in_runs, power,
};
use lossproof_spec::{GlobalBatch, Role};
use lossproof_subject::{Tensor, TensorSet};
use std::ops::Range;

/// Said of a gradient that is off by no more than cancellation between tokens might explain, where nothing
/// shows that it does.
const UNKNOWN_SCALE: &str = " (the scale of its rounding could not be established from single tokens)";

impl Trial<'_> {
    /// The blocks of the gradient on a batch. Where parameters are the trainer's own, a low-rank change may be
    /// at its beginning: its second factor is zero, and so is the gradient of the first.
    pub(crate) fn blocks(&mut self, batch: &GlobalBatch) -> Blocks {
        let mut blocks = Blocks::new(batch, &self.facts.parameters);
        if self.subject.parameter_loading().is_none() {
            blocks.may_be_zero(|parameter| parameter.role == Role::LowRankIn, &self.facts.parameters);
        }
        blocks
    }

    /// Bound on the error of the gradient of a parameter.
    pub(crate) fn gradient_bound(&self, batch: &GlobalBatch, name: &str) -> f64 {
        self.gradient_bound_by(&self.facts.model(batch), name)
    }

    /// The same by the error model of the batch, which is made once for all parameters.
    fn gradient_bound_by(&self, model: &ErrorModel, name: &str) -> f64 {
        model.gradient_bound(self.facts.gradient_dtype(name)) + self.facts.noise
    }

    /// Bound on the error of the gradient as a whole, which is that of the coarsest part.
    pub(crate) fn whole_gradient_bound(&self, batch: &GlobalBatch) -> f64 {
        self.facts.model(batch).gradient_bound(self.facts.coarsest()) + self.facts.noise
    }

    /// Bound on the error of a loss.
    pub(crate) fn loss_bound(&self, batch: &GlobalBatch) -> f64 {
        self.facts.model(batch).loss_bound(self.facts.loss_dtype()) + self.facts.noise
    }

    /// Holds loss and gradient to those of another computation.
    pub(crate) fn same(&mut self, what: &str, batch: &GlobalBatch, actual: &Computed, expected: &Computed) {
        self.combination(what, batch, actual, &[(1.0, expected)], &[]);
    }

    /// Holds loss and gradient to `Σ_k c_k·(loss, gradient)_k`, but for the parameters in `except`.
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
        if parts.iter().all(|(_, part)| self.reports_the_whole(part)) {
            self.loss(&format!("{what}: loss"), batch, actual, expected, scale);
        }
        self.gradients(what, batch, actual, parts, except);
    }

    /// Holds the loss of a computation to a number, relative to `scale`, where it is that of the whole batch.
    pub(crate) fn loss(
        &mut self,
        what: &str,
        batch: &GlobalBatch,
        actual: &Computed,
        expected: f64,
        scale: f64,
    ) {
        if self.reports_the_whole(actual) {
            self.number(what, "loss", self.loss_bound(batch), (actual.loss(), expected), scale);
        }
    }

    /// Whether the loss that was reported is that of the whole batch, by the log policy: what a weighted sum
    /// of token losses is in any case.
    pub(crate) fn reports_the_whole(&self, computed: &Computed) -> bool {
        let Origin { spec, batch, upstream, .. } = &computed.origin;
        upstream.is_some() || self.facts.info.log_policy.logged(batch, spec) == [batch.clone()]
    }

    /// Holds a gradient to `Σ_k c_k·gradient_k`, but for the parameters in `except`.
    ///
    /// The error of a block is relative to `max(‖g‖, Σ_k |c_k|·‖g_k‖)`, and where that convicts narrowly, to
    /// the tokens' gradients too: rounding is that of the summands.
    fn gradients(
        &mut self,
        what: &str,
        batch: &GlobalBatch,
        actual: &Computed,
        parts: &[(f64, &Computed)],
        except: &[&str],
    ) {
        let blocks = self.blocks(batch);
        let model = self.facts.model(batch);
        let bounds: Vec<f64> =
            blocks.all().iter().map(|block| self.gradient_bound_by(&model, &block.parameter)).collect();
        // One look at every tensor, which may be large.
        let apart: Vec<Option<Difference>> =
            blocks.all().iter().map(|block| Some(Tensors::of(block, actual, parts)?.apart(block))).collect();
        let sizes: Vec<f64> = blocks
            .all()
            .iter()
            .zip(&apart)
            .map(|(block, apart)| {
                if let (Some(apart), [_]) = (apart, parts) {
                    return apart.actual.max(apart.expected);
                }
                let parts = parts.iter().map(|(c, part)| c.abs() * blocks::norm(&part.gradient, block));
                blocks::norm(&actual.gradient, block).max(parts.sum())
            })
            .collect();
        let mut scales = blocks.scales(|index, _| sizes[index]);
        let compared = |block: &Block| !except.contains(&block.parameter.as_str());
        let narrow =
            blocks.with_scales(&scales).zip(&bounds).zip(&apart).any(|(((block, scale), &bound), apart)| {
                let narrowly = |apart: &Difference| Self::is_narrow(error(apart, block, scale), bound);
                compared(block) && apart.as_ref().is_some_and(narrowly)
            });
        let tokens = if narrow { self.token_norms(actual, blocks.all()) } else { None };
        let unknown_scale = if narrow && tokens.is_none() { UNKNOWN_SCALE } else { "" };
        if let Some(tokens) = tokens {
            scales = blocks.scales(|index, _| sizes[index].max(tokens[index]));
        }
        let whole = sizes.iter().copied().fold(0.0, f64::max);
        if self.facts.is_coarse() {
            let counted = blocks.with_scales(&scales).filter(|(block, scale)| {
                compared(block) && !block.may_be_zero && !block.structurally_zero && *scale > 0.0
            });
            self.weights(what, &counted.collect::<Vec<_>>(), actual, parts);
        }
        for (((block, scale), &bound), apart) in blocks.with_scales(&scales).zip(&bounds).zip(&apart) {
            if !compared(block) || block.may_be_zero {
                continue;
            }
            let unit = blocks::name(block);
            // Zero by its structure, for all that is declared, and what is left is the rounding of other parts.
            let negligible = |apart: &Difference| largest_norm(apart) <= bound * whole;
            if block.undeclared && !block.structurally_zero && apart.as_ref().is_some_and(negligible) {
                if !self.facts.is_coarse() {
                    self.comparisons.require(&unit);
                }
                continue;
            }
            let at = format!("{what}: gradient of {unit}{unknown_scale}");
            let (Some(apart), Some(tensors)) = (apart, Tensors::of(block, actual, parts)) else {
                self.comparisons.hold(&unit, bound, f64::INFINITY, || missing(&unit, &at));
                continue;
            };
            if block.structurally_zero {
                let error = error(apart, block, scale);
                let norm = largest_norm(apart);
                self.comparisons.hold(&unit, bound, error, || Violation {
                    unit: unit.clone(),
                    statement: format!("{at}, which must be zero here: its norm"),
                    error,
                    bound,
                    pair: Some((norm, 0.0)),
                    ratio: None,
                });
            } else {
                let ratio = || {
                    let (actual, expected) = (|index| tensors.actual(index), |index| tensors.expected(index));
                    Values { actual, expected, indices: || block.indices() }.ratio(apart.expected)
                };
                self.values(&at, &unit, bound, apart, ratio, scale);
            }
        }
    }

    /// Holds the elements of a parameter's gradient, in whatever order, to what is expected of each, relative
    /// to `scale` or, where that convicts narrowly, to what the tokens' gradients are together.
    pub(crate) fn rearranged(
        &mut self,
        what: &str,
        name: &str,
        bound: f64,
        of: &Computed,
        (actual, expected): (&[f64], &[f64]),
        mut scale: f64,
    ) {
        let error = difference(|i| actual[i], |i| expected[i], 0..actual.len().min(expected.len()));
        if Self::is_narrow(error.relative_to(scale), bound) {
            scale = self.with_tokens_of(of, name, 1.0, scale);
        }
        self.elements(&format!("{what}: gradient of {name}"), name, bound, actual, expected, scale);
    }

    /// Holds values that are so far apart from what is expected of each to that, relative to `scale`. Where
    /// there is nothing, nothing is certified. `ratio` is the factor that turns the one into the other.
    fn values(
        &mut self,
        what: &str,
        unit: &str,
        bound: f64,
        apart: &Difference,
        ratio: impl FnOnce() -> Option<f64>,
        scale: f64,
    ) {
        let error = apart.relative_to(scale);
        let violation = || Violation {
            unit: unit.to_owned(),
            statement: what.to_owned(),
            error,
            bound,
            pair: apart.worst.map(|worst| (worst.actual, worst.expected)),
            ratio: ratio(),
        };
        // Without digits, it is the parts' weights that certify.
        if self.facts.is_coarse() {
            return self.comparisons.hold(unit, bound, error, violation);
        }
        // There is nothing to be relative to, or nothing that a factor would change.
        if scale <= 0.0 || apart.actual <= 0.0 {
            self.comparisons.hold(unit, bound, error, violation);
            self.comparisons.require(unit);
        } else {
            self.comparisons.compare(unit, bound, apart.actual / scale, error, violation);
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
        let error = (actual - expected).abs() / scale;
        let violation = || Violation {
            unit: unit.to_owned(),
            statement: what.to_owned(),
            error,
            bound,
            pair: Some((actual, expected)),
            ratio: Some(actual / expected).filter(|ratio| ratio.is_finite()),
        };
        // Zero on both sides is as it should be, and tells nothing.
        if actual.abs() + expected.abs() <= 0.0 {
            self.comparisons.hold(unit, bound, 0.0, violation);
            // Where there is something to be relative to, there should have been something to compare.
            if scale > 0.0 {
                self.comparisons.require(unit);
            }
        } else {
            let value = (actual - expected) / scale;
            self.compare(unit, bound, actual.abs() / scale, value, violation);
        }
    }

    /// Holds a deviation, with its sign, to a bound; where the bound is too wide to check anything by itself, for want
    /// of digits, its mean over many contexts is held to one.
    pub(crate) fn compare(
        &mut self,
        unit: &str,
        bound: f64,
        effect: f64,
        value: f64,
        describe: impl FnOnce() -> Violation,
    ) {
        let error = value.abs();
        if !self.facts.is_coarse() || power(bound, effect, error).is_finite() {
            return self.comparisons.compare(unit, bound, effect, error, describe);
        }
        let violation = describe();
        let statement = violation.statement.clone();
        self.comparisons.hold(unit, bound, error, || violation);
        self.averages
            .note(unit, Deviation { value, effect, bias: bias(bound), weakest: WEAKEST }, || statement);
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
                unit: unit.to_owned(),
                statement: format!("{what}: {} values, expected {}", actual.len(), expected.len()),
                error: f64::INFINITY,
                bound,
                pair: None,
                ratio: None,
            };
            return self.comparisons.hold(unit, bound, f64::INFINITY, || violation);
        }
        let length = actual.len();
        let values = Values { actual: |i| actual[i], expected: |i| expected[i], indices: || 0..length };
        let apart = values.apart();
        if self.facts.is_coarse() && apart.expected > 0.0 {
            let value = values.along(apart.expected) - 1.0;
            // What reaches the logit of a label may be rounded alike in all contexts.
            let bias = bias(bound) + self.facts.coarsest().unit_roundoff();
            let deviation = Deviation { value, effect: 1.0, bias, weakest: WEAKEST };
            self.averages.note(unit, deviation, || what.to_owned());
        }
        self.values(what, unit, bound, &apart, || values.ratio(apart.expected), scale);
    }

    /// Records a violation of a unit that is no matter of degree, unless `holds`.
    pub(crate) fn fact(&mut self, unit: &str, holds: bool, statement: impl FnOnce() -> String) {
        self.comparisons.fact(unit, holds, statement);
        self.comparisons.certify(unit, Unit { power: 0.0, control: Control::Any });
    }

    /// Records that something that must be there is: of this size, which is not zero.
    pub(crate) fn present(&mut self, unit: &str, size: f64, statement: impl FnOnce() -> String) {
        self.comparisons.fact(unit, size > 0.0, statement);
        self.comparisons.certify(unit, Unit { power: 0.0, control: Control::Zero });
    }
}

fn missing(unit: &str, at: &str) -> Violation {
    let (unit, statement) = (unit.to_owned(), format!("{at} was not handed over"));
    Violation { unit, statement, error: f64::INFINITY, bound: 0.0, pair: None, ratio: None }
}

/// The tensors that a block is of: the one judged, and those it is held to a combination of.
struct Tensors<'a> {
    actual: &'a Tensor,
    parts: Vec<(f64, &'a Tensor)>,
}

impl<'a> Tensors<'a> {
    /// `None` where one of them was not handed over.
    fn of(block: &Block, actual: &'a Computed, parts: &[(f64, &'a Computed)]) -> Option<Self> {
        let of = |gradient: &'a TensorSet| gradient.get(&block.parameter);
        let parts = parts.iter().map(|(c, part)| Some((*c, of(&part.gradient)?))).collect::<Option<_>>()?;
        Some(Self { actual: of(&actual.gradient)?, parts })
    }

    fn actual(&self, index: usize) -> f64 {
        self.actual.get(index)
    }

    fn expected(&self, index: usize) -> f64 {
        self.parts.iter().map(|(c, tensor)| c * tensor.get(index)).sum()
    }

    fn apart(&self, block: &Block) -> Difference {
        let actual = |run: Range<usize>, into: &mut [f64]| self.actual.write_run(run, into);
        let expected = |run: Range<usize>, into: &mut [f64]| {
            into.fill(0.0);
            for (factor, tensor) in &self.parts {
                tensor.add_run(*factor, run.clone(), into);
            }
        };
        difference_in_runs(block.runs(), actual, expected)
    }
}

/// The norm of what is further from zero.
fn largest_norm(apart: &Difference) -> f64 {
    if apart.finite { apart.actual.max(apart.expected) } else { f64::NAN }
}

/// The error of a block: how far the two are apart, or, where both must be zero, how far from that.
fn error(apart: &Difference, block: &Block, scale: f64) -> f64 {
    match largest_norm(apart) {
        norm if !block.structurally_zero || norm.is_nan() => apart.relative_to(scale),
        norm if norm <= 0.0 => 0.0,
        norm => norm / scale,
    }
}
