//! The gradient is the derivative of what the trainer computes forward: finite differences along random
//! signs, and of the reported loss along the gradient itself too, in f64 and in f32.

use crate::{
    blocks::Blocks,
    trial::{CaseOutcome, Computed, Ended, Trial, Turn, replace, values},
};
use lossproof_numerics::{FIRST_STEP, HALVINGS, Slope, integrate, norm, rademacher, sweep};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, LossSpec, Role, TokenWeights};
use lossproof_subject::ObjectiveBatch;

/// Parameters differentiated in one case: over the cases of a run all of them come up.
const DIFFERENTIATED: usize = 3;

/// Losses that are differentiated, and what weighs each of them in the loss.
struct Differentiated {
    losses: Vec<f64>,
    weights: Vec<f64>,
}

impl Trial<'_> {
    /// The losses of a batch as the subject evaluates them where they are plain, as it reports them beside
    /// the gradient where they are not or it evaluates none, and else the one loss that it reports.
    fn differentiated(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Differentiated, Ended> {
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let weights = weights.per_prediction(batch);
        let plain = spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
        if plain && self.subject.token_losses().is_some() {
            return Ok(Differentiated { losses: self.token_losses(batch)?, weights });
        }
        let observation = self.gradient(spec, batch)?.observation;
        if let Some(losses) = observation.token_losses {
            let supervised = batch.predictions().zip(weights).filter(|(prediction, _)| prediction.supervised);
            return Ok(Differentiated { losses, weights: supervised.map(|(_, weight)| weight).collect() });
        }
        if self.facts.info.log_policy.logged(batch, spec) != [batch.clone()] {
            return Err(Ended::Unsupported("token losses, or the loss of a whole batch".to_owned()));
        }
        Ok(Differentiated { losses: vec![observation.loss], weights: vec![1.0] })
    }

    /// Holds the gradient of one parameter to finite differences of the subject's own losses, along random
    /// signs. The subject's parameters are those in force. `None` where the differences could not resolve it.
    pub(crate) fn derivative_of(&mut self, name: &str, batch: &GlobalBatch) -> Result<Option<()>, Ended> {
        if self.facts.slope_dtype(name) != Dtype::F64 {
            return Ok(None);
        }
        let spec = self.spec(&[batch])?;
        let computed = self.gradient(&spec, batch)?;
        let gradient = values(&computed.gradient, name)?;
        let point = self.current(name)?;
        let direction = rademacher(self.case.seed, 0, &point);
        let moved =
            |step: f64| -> Vec<f64> { point.iter().zip(&direction).map(|(x, v)| x + step * v).collect() };
        let mut weights = Vec::new();
        let sweep = sweep(FIRST_STEP, HALVINGS, |step| -> Result<Vec<f64>, Ended> {
            self.set(name, &moved(step))?;
            let found = self.differentiated(&spec, batch)?;
            weights = found.weights;
            Ok(found.losses)
        });
        self.set(name, &point)?;
        let plateau = sweep?.contract(&weights);
        self.set_is_loaded(name, moved(FIRST_STEP), &spec, batch)?;
        let inner: CompensatedSum = gradient.iter().zip(&direction).map(|(g, v)| g * v).collect();
        let inner = inner.value();
        let slope = Slope::new(inner, norm(&gradient), norm(&direction), gradient.len(), plateau);
        if slope.is_undecided(Slope::bound()) {
            return Ok(None);
        }
        let what = format!("derivative along ±1 in {name}");
        let bound = Slope::bound() + self.facts.noise;
        self.number(&what, name, bound, (slope.inner, slope.difference.value), slope.scale);
        Ok(Some(()))
    }

    /// Holds the losses where one parameter was set to those where it was loaded with all others: differences
    /// are taken of what was set, and loaded parameters are what all other laws know. The parameters in force
    /// are in force again afterwards.
    fn set_is_loaded(
        &mut self,
        name: &str,
        moved: Vec<f64>,
        spec: &LossSpec,
        batch: &GlobalBatch,
    ) -> Result<(), Ended> {
        let in_force = self.loaded.clone().map_or_else(|| self.parameters(), Ok)?;
        self.set(name, &moved)?;
        let set = self.differentiated(spec, batch)?.losses;
        let mut all = in_force.clone();
        replace(&mut all, name, moved)?;
        self.load(&all)?;
        let loaded = self.differentiated(spec, batch)?.losses;
        self.load(&in_force)?;
        let scale = loaded.iter().map(|loss| loss.abs().max(1.0)).collect::<Vec<_>>();
        let bound = self.loss_bound(batch);
        let what = format!("losses where {name} was set and where it was loaded");
        self.elements(&what, "losses", bound, &set, &loaded, norm(&scale));
        Ok(())
    }

    /// Holds the losses after a reset to those at the parameters that were loaded last: what was set is undone.
    fn reset_undoes_set(&mut self, name: &str, spec: &LossSpec, batch: &GlobalBatch) -> Result<(), Ended> {
        let (before, point) = (self.differentiated(spec, batch)?.losses, self.current(name)?);
        let signs = rademacher(self.case.seed, 2, &point);
        let moved: Vec<f64> = point.iter().zip(&signs).map(|(x, v)| x + v).collect();
        self.set(name, &moved)?;
        self.subject.reset()?;
        let after = self.differentiated(spec, batch)?.losses;
        let scale = before.iter().map(|loss| loss.abs().max(1.0)).collect::<Vec<_>>();
        let bound = self.loss_bound(batch);
        let what = format!("losses after {name} was set and the trainer reset");
        self.elements(&what, "losses", bound, &after, &before, norm(&scale));
        Ok(())
    }

    /// Values of a parameter as they are loaded: the twins' embedding, or the case's.
    fn current(&mut self, name: &str) -> Result<Vec<f64>, Ended> {
        let parameters = self.loaded.clone().map_or_else(|| self.parameters(), Ok)?;
        values(&parameters, name)
    }
}

/// The gradient of parameters chosen at random is the derivative of the subject's own forward pass. Where a
/// value is used more than once, as on every residual path, all uses are in it.
pub(crate) fn finite_differences(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    if batch.layout().supervised() == 0 {
        return Ok(false);
    }
    let mut told = false;
    let double = |dtype| dtype == Dtype::F64;
    let names = trial.differentiated_now(&batch, trial.facts.turn, double);
    for name in &names.all {
        trial.comparisons.require(name);
    }
    for name in &names.now {
        told |= trial.derivative_of(name, &batch)?.is_some();
    }
    if let Some(name) = names.now.first() {
        trial.reset_undoes_set(name, &trial.spec(&[&batch])?, &batch)?;
    }
    Ok(told)
}

impl Trial<'_> {
    /// The parameters whose turn it is to be differentiated, of those with such an element type that the batch
    /// gives a gradient. Every one gets its turn, whatever is drawn, and twice where the number of cases is
    /// small.
    fn differentiated_now(
        &self,
        batch: &GlobalBatch,
        turn: Turn,
        differentiable: fn(Dtype) -> bool,
    ) -> Turns {
        let blocks = Blocks::new(batch, &self.facts.parameters);
        let zero = |name: &str| {
            let mut own = blocks.all().iter().filter(|block| block.parameter == name);
            own.all(|block| block.structurally_zero)
        };
        let names = self.facts.parameters.iter().map(|p| p.name.clone());
        let fits = |name: &String| !zero(name) && differentiable(self.facts.slope_dtype(name));
        let names: Vec<String> = names.filter(fits).collect();
        let share = (2 * names.len()).div_ceil(turn.cases.max(1)).max(DIFFERENTIATED).min(names.len());
        let first = turn.case * share % names.len().max(1);
        let now = names.iter().cycle().skip(first).take(share).cloned().collect();
        Turns { all: names, now }
    }
}

/// The parameters that are to be differentiated on a batch, and those of them whose turn it is.
struct Turns {
    all: Vec<String>,
    now: Vec<String>,
}

/// Cases of a campaign in which slopes are taken: each costs dozens of passes.
pub(crate) const SLOPES: usize = 64;

/// The same of an objective, whose gradient is held to combinations of others besides.
const SLOPES_OF_OBJECTIVES: usize = 6;

/// Half of the distance in f32 between two points whose losses are compared: a direction has the scale of
/// what it moves. Large, so that the difference stands out of the rounding of the losses, and smaller where
/// the curvature in between demands it.
const REACHES_F32: [f64; 2] = [0.25, 0.125];

/// Relative bound on the disagreement in f32. What the two losses and the gradients in between err by is
/// known (`docs/tolerances.md` §14), and where it is not far below this nothing is decided.
const SLOPE_F32: f64 = 1e-3;

/// The gradient of every parameter is the derivative of the loss that is reported: along the gradient itself,
/// which fixes its scale, and along random signs, which see an element that is missing.
pub(crate) fn loss_slope(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let differentiable = |dtype| matches!(dtype, Dtype::F64 | Dtype::F32);
    if !trial.facts.parameters.iter().any(|p| differentiable(trial.facts.slope_dtype(&p.name))) {
        return Err(Ended::Unsupported("single or double precision".to_owned()));
    }
    if batch.layout().supervised() == 0
        || trial.facts.info.log_policy.logged(&batch, &spec) != [batch.clone()]
    {
        return Ok(false);
    }
    let computed = trial.gradient(&spec, &batch)?;
    let Some(turn) = trial.facts.turn.among(SLOPES) else { return Ok(false) };
    let mut told = false;
    let names = trial.differentiated_now(&batch, turn, differentiable);
    if let Some(name) = names.now.first() {
        trial.reset_undoes_set(name, &spec, &batch)?;
    }
    // The slope of some parameters lies below the rounding of one loss: they are not covered.
    for name in &names.now {
        let (gradient, point) = (values(&computed.gradient, name)?, trial.current(name)?);
        let signs = rademacher(trial.case.seed, 1, &point);
        let along = along(&gradient, &signs);
        for (what, direction) in [("its gradient", along), ("random signs", signs)] {
            let of = Lost::Batch(&spec);
            let line = Line { name, what, of, batch: &batch, point: &point, direction: &direction };
            if direction.iter().all(|v| v.is_finite()) {
                told |= match trial.facts.slope_dtype(name) {
                    Dtype::F64 => trial.slope(&line, &gradient)?,
                    _ => trial.difference_of_losses(&line)?,
                };
            }
        }
    }
    Ok(told)
}

/// The loss along a line.
#[derive(Clone, Copy)]
enum Lost<'a> {
    /// Of the batch under this spec.
    Batch(&'a LossSpec),
    /// Of what is learnt beside the next token.
    Objective(&'a ObjectiveBatch),
}

/// A line through the values of one parameter.
struct Line<'a> {
    name: &'a str,
    /// What its direction is.
    what: &'a str,
    of: Lost<'a>,
    batch: &'a GlobalBatch,
    point: &'a [f64],
    direction: &'a [f64],
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
    pub(super) fn slope_of_objective(
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
    fn slope(&mut self, line: &Line<'_>, gradient: &[f64]) -> Result<bool, Ended> {
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
    /// `false` where the rounding of the losses or the curvature in between leave it undecided.
    fn difference_of_losses(&mut self, line: &Line<'_>) -> Result<bool, Ended> {
        for reach in REACHES_F32 {
            let mut way = Way { loss_scale: 0.0, upper: f64::NAN, lower: f64::NAN, typical: 0.0 };
            let integral = integrate(|place| self.on_the_way(line, reach, place, &mut way));
            self.set(line.name, line.point)?;
            let integral = integral?;
            // Both as slopes: over the way from one point to the other.
            let (slope, due) = ((way.upper - way.lower) / (2.0 * reach), integral.value / 2.0);
            let scale = due.abs().max(slope.abs()).max(way.typical);
            // A loss is expected to err by an eighth of its bound.
            let rounding = self.loss_bound(line.batch) * way.loss_scale / reach / 8.0;
            let curved = integral.uncertainty / 2.0 > SLOPE_F32 * scale / 16.0;
            if !curved && rounding <= SLOPE_F32 * scale / 4.0 {
                let what = format!("difference of reported losses along {} in {}", line.what, line.name);
                let unit = format!("loss along {}", line.name);
                self.number(&what, &unit, SLOPE_F32 + self.facts.noise, (due, slope), scale);
                return Ok(true);
            }
        }
        Ok(false)
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

/// The gradient as a direction: an element moves by as much as by the signs, were all that move to move alike. Few do
/// in an embedding.
fn along(gradient: &[f64], signs: &[f64]) -> Vec<f64> {
    let sum: f64 = gradient.iter().map(|g| g.abs()).sum();
    let moving = (sum / norm(gradient)).powi(2);
    let length = norm(signs) * (moving / gradient.len() as f64).sqrt() / norm(gradient);
    gradient.iter().map(|g| length * g).collect()
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).collect::<CompensatedSum>().value()
}
