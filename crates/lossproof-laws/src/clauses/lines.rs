//! The reported loss along a line through one parameter, and the gradient that is to be its slope: in f64 by small
//! differences, in f32 by a large one, and in half precision on average over contexts.

use crate::trial::{Computed, Ended, Trial, values};
use lossproof_numerics::{
    Deviation, FIRST_STEP, HALVINGS, Integral, Slope, bias, integrate, norm, power, rademacher, sweep,
};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, LossSpec, Role};
use lossproof_subject::ObjectiveBatch;

/// Cases of a campaign in which slopes of an objective are taken, whose gradient is held to combinations of others
/// besides.
const SLOPES_OF_OBJECTIVES: usize = 6;

/// Half of the distance in f32 between two points whose losses are compared: a direction has the scale of
/// what it moves. Large, so that the difference stands out of the rounding of the losses, and smaller where
/// the curvature in between demands it.
const REACHES_F32: [f64; 2] = [0.25, 0.125];

/// Relative bound on the disagreement in f32. What the two losses and the gradients in between err by is
/// known (`docs/tolerances.md` §14), and where it is not far below this nothing is decided.
const SLOPE_F32: f64 = 1e-3;

/// Where the rounding of the losses is not far below that, what it may do at worst is added to it, and no more
/// than this is worth deciding: an element that is zero by mistake is off by as much.
const COARSEST_F32: f64 = 0.25;

/// And in half precision, on average over contexts.
const SLOPE_COARSE: f64 = 5e-2;

/// The loss along a line.
#[derive(Clone, Copy)]
pub(crate) enum Lost<'a> {
    /// Of the batch under this spec.
    Batch(&'a LossSpec),
    /// Of what is learnt beside the next token.
    Objective(&'a ObjectiveBatch),
}

/// A line through the values of one parameter.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    /// What its direction is.
    pub(crate) what: &'a str,
    pub(crate) of: Lost<'a>,
    pub(crate) batch: &'a GlobalBatch,
    pub(crate) point: &'a [f64],
    pub(crate) direction: &'a [f64],
}

impl Trial<'_> {
    /// What is computed at a point of the line.
    fn at(&mut self, line: &Line<'_>, step: f64) -> Result<Computed, Ended> {
        let moved: Vec<f64> = line.point.iter().zip(line.direction).map(|(x, v)| x + step * v).collect();
        self.set(line.name, &moved)?;
        match line.of {
            Lost::Batch(spec) => self.gradient(spec, line.batch),
            Lost::Objective(batch) => self.learn(batch),
        }
    }

    /// Holds the gradient of an objective to the slope of its loss along itself, in two parameters: one that mixes
    /// positions, where there is one, and any. Parameters take turns from case to case.
    pub(crate) fn slope_of_objective(
        &mut self,
        objective: &ObjectiveBatch,
        batch: &GlobalBatch,
        computed: &Computed,
    ) -> Result<(), Ended> {
        let Some(turn) = self.facts.turn.among(SLOPES_OF_OBJECTIVES) else { return Ok(()) };
        if self.subject.parameter_loading().is_none() {
            return Ok(());
        }
        let differentiable = |name: &str| matches!(self.facts.slope_dtype(name), Dtype::F64 | Dtype::F32);
        let mixes = |role: Role| {
            matches!(
                role,
                Role::Query | Role::Key | Role::QueryKeyValue | Role::QueryKeyValueBias | Role::QueryBias
            )
        };
        let all = self.facts.parameters.iter().filter(|info| differentiable(&info.name));
        let mixing: Vec<String> =
            all.clone().filter(|info| mixes(info.role)).map(|info| info.name.clone()).collect();
        let all: Vec<String> = all.map(|info| info.name.clone()).collect();
        for names in [mixing, all] {
            let Some(name) = names.get(turn.case % names.len().max(1)) else { continue };
            let (gradient, point) = (values(&computed.gradient, name)?, self.current(name)?);
            let direction = along(&gradient, &rademacher(self.case.seed, 1, &point));
            if direction.iter().all(|value| value.is_finite()) {
                let (of, what) = (Lost::Objective(objective), "its gradient");
                let line = Line { name, what, of, batch, point: &point, direction: &direction };
                match self.facts.slope_dtype(name) {
                    Dtype::F64 => self.slope(&line, &gradient)?,
                    _ => self.difference_of_losses(&line)?,
                };
            }
        }
        Ok(())
    }

    /// Holds a gradient to the slope of the reported loss along a line, by differences of fourth order.
    /// `false` where they could not resolve it.
    pub(crate) fn slope(&mut self, line: &Line<'_>, gradient: &[f64]) -> Result<bool, Ended> {
        let mut loss_scale = 0.0_f64;
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, Ended> {
            let computed = self.at(line, step)?;
            loss_scale = loss_scale.max(computed.loss_scale());
            Ok(vec![computed.loss()])
        });
        self.set(line.name, line.point)?;
        let plateau = sweep?.contract(&[1.0]);
        let (inner, length) = (product(gradient, line.direction), norm(line.direction));
        let slope = Slope::new(inner, norm(gradient), length, gradient.len(), plateau);
        // The loss of a batch is one number, and errs by what the sum over its tokens does.
        let rounding = self.loss_bound(line.batch) * loss_scale / slope.difference.step / 8.0;
        // A gradient that is zero by mistake has no size of its own.
        let scale = slope.scale.max(slope.difference.value.abs());
        if slope.is_undecided(Slope::bound()) || rounding > Slope::bound() * scale {
            return Ok(false);
        }
        let what = format!("slope of the reported loss along {} in {}", line.what, line.name);
        let pair = (slope.inner, slope.difference.value);
        self.number(&what, line.name, Slope::bound() + self.facts.noise, pair, scale);
        Ok(true)
    }

    /// Holds the difference of the losses at two points of a line to the integral of the gradient between
    /// them. In f32 a quotient of small differences has no digit that is not rounding, and a long way has.
    /// Where rounding leaves less than the bound, what it may do at worst is added to it. `false` where that
    /// leaves nothing to decide, or the curvature in between does.
    pub(crate) fn difference_of_losses(&mut self, line: &Line<'_>) -> Result<bool, Ended> {
        let strict = SLOPE_F32 + self.facts.noise;
        let mut coarse: Option<Difference> = None;
        for reach in REACHES_F32 {
            let mut way = Way { loss_scale: 0.0, upper: f64::NAN, lower: f64::NAN, typical: 0.0 };
            // Far below what would leave anything undecided.
            let enough = |way: &Way, found: &Integral| {
                found.uncertainty / 2.0 <= SLOPE_F32 * way.scale(found, reach) / 64.0
            };
            let integral = integrate(&mut way, |way, place| self.on_the_way(line, reach, place, way), enough);
            self.set(line.name, line.point)?;
            let integral = integral?;
            let (slope, due) = way.slopes(&integral, reach);
            let scale = way.scale(&integral, reach);
            // A loss is expected to err by an eighth of its bound.
            let rounding = self.loss_bound(line.batch) * way.loss_scale / reach / 8.0;
            let curvature = integral.uncertainty / 2.0;
            // How far the rule is off is estimated and no bound, so that nothing is decided near it.
            if curvature > SLOPE_F32 * scale / 16.0 {
                continue;
            }
            if rounding <= SLOPE_F32 * scale / 4.0 {
                self.difference(line, &Difference { due, slope, scale, bound: strict });
                return Ok(true);
            }
            let bound = strict + 8.0 * rounding / scale;
            let found = Difference { due, slope, scale, bound };
            if bound <= coarse.as_ref().map_or(COARSEST_F32, |best| best.bound) && found.tells() {
                coarse = Some(found);
            }
        }
        if let Some(difference) = &coarse {
            self.difference(line, difference);
        }
        Ok(coarse.is_some())
    }

    fn difference(&mut self, line: &Line<'_>, difference: &Difference) {
        let &Difference { due, slope, scale, bound } = difference;
        let what = format!("difference of reported losses along {} in {}", line.what, line.name);
        let unit = format!("loss along {}", line.name);
        self.number(&what, &unit, bound, (due, slope), scale);
    }

    /// Notes how far the gradient of one parameter, the one that moves the loss most, is from the slope of the
    /// reported loss along it, to be judged by the mean over contexts: in half precision the losses are not known well
    /// enough for one difference to say anything.
    pub(crate) fn averaged_slope(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
        computed: &Computed,
    ) -> Result<bool, Ended> {
        let mut steepest: Option<(f64, String)> = None;
        for name in computed.gradient.keys() {
            let size = norm(&values(&computed.gradient, name)?) * norm(&self.current(name)?);
            if steepest.as_ref().is_none_or(|(largest, _)| size > *largest) {
                steepest = Some((size, name.clone()));
            }
        }
        let Some((_, name)) = steepest.filter(|(size, _)| *size > 0.0) else { return Ok(false) };
        let (gradient, point) = (values(&computed.gradient, &name)?, self.current(&name)?);
        let direction = along(&gradient, &rademacher(self.case.seed, 1, &point));
        if !direction.iter().all(|value| value.is_finite()) {
            return Ok(false);
        }
        let of = Lost::Batch(spec);
        let line =
            Line { name: &name, what: "its gradient", of, batch, point: &point, direction: &direction };
        let mut way = Way { loss_scale: 0.0, upper: f64::NAN, lower: f64::NAN, typical: 0.0 };
        let reach = REACHES_F32[0];
        // Always on nine nodes: the more there are, the more of their rounding averages out.
        let integral =
            integrate(&mut way, |way, place| self.on_the_way(&line, reach, place, way), |_, _| false);
        self.set(&name, &point)?;
        let integral = integral?;
        let (slope, due) = way.slopes(&integral, reach);
        let scale = way.scale(&integral, reach);
        // A point is rounded to the type it is held in, by a part of the way that is as large as this.
        let rounding = self.facts.coarsest().unit_roundoff();
        let bias = bias(self.whole_gradient_bound(batch)) / reach + rounding;
        let deviation = Deviation {
            value: (due - slope) / scale,
            effect: due.abs() / scale,
            bias,
            weakest: SLOPE_COARSE,
        };
        self.averages.note("slope of the loss", deviation, || {
            "gradient over the slope of the reported loss".to_owned()
        });
        Ok(true)
    }

    /// The slope at one place of the way, from −1 to 1, by the gradient there.
    fn on_the_way(&mut self, line: &Line<'_>, reach: f64, place: f64, way: &mut Way) -> Result<f64, Ended> {
        let computed = self.at(line, reach * place)?;
        way.loss_scale = way.loss_scale.max(computed.loss_scale());
        if place >= 1.0 {
            way.upper = computed.loss();
        } else if place <= -1.0 {
            way.lower = computed.loss();
        }
        let gradient = values(&computed.gradient, line.name)?;
        let elements = gradient.len().max(1) as f64;
        way.typical = way.typical.max(norm(&gradient) * norm(line.direction) / elements.sqrt());
        Ok(product(&gradient, line.direction))
    }
}

/// The difference of the losses at two points of a line, beside what the gradient says of it.
struct Difference {
    /// The integral of the gradient, as a slope.
    due: f64,
    /// The difference of the losses, as a slope.
    slope: f64,
    /// What an error of it is relative to.
    scale: f64,
    bound: f64,
}

impl Difference {
    /// Whether it convicts, or would where the gradient was another. Along a direction that a gradient is nearly
    /// orthogonal to it would not.
    fn tells(&self) -> bool {
        let (effect, error) = (self.due.abs() / self.scale, (self.due - self.slope).abs() / self.scale);
        error > self.bound || power(self.bound, effect, error).is_finite()
    }
}

/// What is found between two points of a line.
struct Way {
    /// What an error of a loss is relative to.
    loss_scale: f64,
    /// The losses at its ends.
    upper: f64,
    lower: f64,
    /// The slope along a random direction as long as this one.
    typical: f64,
}

impl Way {
    /// The difference of the losses and the integral of the gradient, both as slopes: over the way from one point to
    /// the other.
    fn slopes(&self, integral: &Integral, reach: f64) -> (f64, f64) {
        ((self.upper - self.lower) / (2.0 * reach), integral.value / 2.0)
    }

    /// What an error of a slope is relative to.
    fn scale(&self, integral: &Integral, reach: f64) -> f64 {
        let (slope, due) = self.slopes(integral, reach);
        due.abs().max(slope.abs()).max(self.typical)
    }
}

/// The gradient as a direction: an element moves by as much as by the signs, were all that move to move alike. Few do
/// in an embedding.
pub(crate) fn along(gradient: &[f64], signs: &[f64]) -> Vec<f64> {
    let sum: f64 = gradient.iter().map(|g| g.abs()).sum();
    let moving = (sum / norm(gradient)).powi(2);
    let length = norm(signs) * (moving / gradient.len() as f64).sqrt() / norm(gradient);
    gradient.iter().map(|g| length * g).collect()
}

pub(crate) fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).collect::<CompensatedSum>().value()
}
