//! The gradient is the derivative of what the trainer computes forward: finite differences along random
//! signs, and of the reported loss along the gradient itself too, in f64 and in f32.

use crate::{
    blocks::Blocks,
    clauses::lines::{Line, Lost, along},
    trial::{CaseOutcome, Ended, Trial, Turn, replace, values},
};
use lossproof_numerics::{FIRST_STEP, HALVINGS, Slope, norm, rademacher, sweep};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, LossSpec, TokenWeights};

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
    pub(crate) fn current(&mut self, name: &str) -> Result<Vec<f64>, Ended> {
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
pub(crate) const SLOPES: usize = 32;

/// The gradient of every parameter is the derivative of the loss that is reported: along the gradient itself,
/// which fixes its scale, and along random signs, which see an element that is missing.
pub(crate) fn loss_slope(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch])?;
    let differentiable = |dtype| matches!(dtype, Dtype::F64 | Dtype::F32);
    if batch.layout().supervised() == 0
        || trial.facts.info.log_policy.logged(&batch, &spec) != [batch.clone()]
    {
        return Ok(false);
    }
    let computed = trial.gradient(&spec, &batch)?;
    let Some(turn) = trial.facts.turn.among(SLOPES) else { return Ok(false) };
    if trial.facts.is_coarse() {
        return trial.averaged_slope(&spec, &batch, &computed);
    }
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
