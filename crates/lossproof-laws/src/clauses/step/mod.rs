//! Clauses of group 7: one optimizer step.

use crate::trial::{Computed, Stop, Told, Trial, values};
use lossproof_numerics::Updated;
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EpsilonPlacement, GlobalBatch, LossSpec, Optimizer, Reduction, Rule,
};
use lossproof_subject::{Collect, StepReport, Tensor, TensorSet};
use rand::{RngExt, seq::IndexedRandom};

/// Roundings of one update that can add up: with `m` and `v` updated, corrected, divided, scaled and subtracted there are
/// about a dozen, each within one unit round-off of a term that the magnitudes bound; a square root halves what is under it.
const ROUNDINGS: f64 = 32.0;

/// The squared norm of a tensor.
fn square(tensor: &Tensor) -> f64 {
    (0..tensor.elements()).map(|i| tensor.get(i).powi(2)).sum()
}

/// What is seen of one step.
struct Stepped {
    before: TensorSet,
    after: TensorSet,
    gradient: Computed,
    report: StepReport,
}

impl Trial<'_> {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Stop> {
        Ok(self.steps()?.start(optimizer)?)
    }

    fn read(&mut self) -> Result<TensorSet, Stop> {
        let mut sink = Collect::default();
        self.steps()?.read(&mut sink)?;
        Ok(sink.into_tensors())
    }

    /// One step, with the gradient it is taken with and the parameters around it.
    fn step(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Stepped, Stop> {
        let before = self.read()?;
        let gradient = self.gradient(spec, batch)?;
        let answer = self.steps()?.step(batch);
        let report = self.answered(spec, batch, answer)?;
        Ok(Stepped { before, after: self.read()?, gradient, report })
    }

    /// Bound on the rounding of an update, relative to its magnitudes.
    fn update_bound(&self) -> f64 {
        ROUNDINGS * self.dtype().unit_roundoff()
    }

    /// Takes a step on every window and holds every parameter after each to the closed form; returns the reports. The spec is
    /// to have weights on all of them.
    pub(crate) fn closed_form_steps(
        &mut self,
        optimizer: &Optimizer,
        spec: &LossSpec,
        windows: &[&GlobalBatch],
    ) -> Result<Vec<StepReport>, Stop> {
        if self.facts.noise > 0.0 && !matches!(optimizer.rule, Rule::Sgd { .. }) {
            // Adam turns the noise of an element that should be zero into an update of full size.
            return Err(Stop::Unsupported("repeatable gradients, which Adam needs".to_owned()));
        }
        self.start(optimizer)?;
        let mut expected: Option<Vec<(String, Updated)>> = None;
        let mut reports = Vec::new();
        for (k, batch) in (0..).zip(windows) {
            let stepped = self.step(spec, batch)?;
            let expected = expected.get_or_insert_with(|| {
                let new = |(name, tensor): (&String, &Tensor)| {
                    (name.clone(), Updated::new(tensor.to_f64(), tensor.shape().to_vec()))
                };
                stepped.before.iter().map(new).collect()
            });
            let learning_rate = optimizer.learning_rate_at(k);
            self.norms(&stepped, batch);
            let norm = stepped.report.grad_norm;
            let factor = optimizer.clip.map_or(1.0, |clip| clip.factor(norm));
            let unit = self.dtype().unit_roundoff();
            let what = format!("step {k}");
            self.number(
                &format!("{what}: clip factor"),
                "clip factor",
                8.0 * unit,
                (stepped.report.clip_factor, factor),
                factor,
            );
            self.number(
                &format!("{what}: learning rate"),
                "learning rate",
                8.0 * unit,
                (stepped.report.learning_rate, learning_rate),
                learning_rate,
            );
            for (name, updated) in expected {
                let (before, after) = (values(&stepped.before, name)?, values(&stepped.after, name)?);
                let gradient: Vec<f64> =
                    values(&stepped.gradient.gradient, name)?.iter().map(|g| g * factor).collect();
                updated.step(optimizer, learning_rate, &before, &gradient);
                let moved =
                    |to: &[f64]| -> Vec<f64> { to.iter().zip(&before).map(|(to, from)| to - from).collect() };
                let scale = updated.magnitudes.iter().map(|m| m * m).sum::<f64>().sqrt();
                let bound = self.update_bound() + self.facts.noise;
                self.elements(
                    &format!("{what}: update of {name}"),
                    name,
                    bound,
                    &moved(&after),
                    &moved(&updated.values),
                    scale,
                );
            }
            reports.push(stepped.report);
        }
        Ok(reports)
    }

    /// The reported norms are those of the gradient before clipping.
    fn norms(&mut self, stepped: &Stepped, batch: &GlobalBatch) {
        let squares: Vec<f64> = self
            .facts
            .parameters
            .iter()
            .filter_map(|p| stepped.gradient.gradient.get(&p.name))
            .map(square)
            .collect();
        let total = squares.iter().sum::<f64>().sqrt();
        // A norm adds squares, all positive: its roundings are those of one sum, bounded as a gradient's are.
        let bound = self.gradient_bound(batch);
        self.number(
            "norm of the whole gradient",
            "grad norm",
            bound,
            (stepped.report.grad_norm, total),
            total,
        );
        let expected: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        self.elements(
            "norms of the parameters' gradients",
            "tensor norms",
            bound,
            &stepped.report.tensor_norms,
            &expected,
            total,
        );
    }

    /// A learning rate that moves the parameters visibly, exact in every dtype.
    pub(crate) fn learning_rate(&mut self) -> f64 {
        [0.5, 0.25, 0.125, 0.0625].choose(&mut self.random).copied().unwrap_or(0.125)
    }

    fn adam_numbers(&mut self) -> Adam {
        let decay = [0.0, 0.125, 0.01].choose(&mut self.random).copied().unwrap_or(0.0);
        let all = self.random.random::<bool>();
        Adam {
            beta_1: [0.9, 0.5].choose(&mut self.random).copied().unwrap_or(0.9),
            beta_2: [0.999, 0.95, 0.75].choose(&mut self.random).copied().unwrap_or(0.95),
            epsilon: [1e-8, 1e-5].choose(&mut self.random).copied().unwrap_or(1e-8),
            epsilon_placement: EpsilonPlacement::AfterCorrection,
            weight_decay: decay,
            decayed: if all { Decayed::All } else { Decayed::Matrices },
        }
    }

    /// Three steps on the batch of the case. Tells whether they move anything.
    fn three_steps(&mut self, optimizer: &Optimizer) -> Told {
        let batch = self.case.batch.clone();
        let spec = self.spec(&[&batch]);
        self.closed_form_steps(optimizer, &spec, &[&batch; 3])?;
        Ok(self.moves())
    }

    /// Whether a step on the case moves anything.
    fn moves(&self) -> bool {
        self.case.batch.layout().supervised() > 0
    }
}

/// `θ ← θ − lr·v` with `v ← μ·v + g + λ·θ`.
pub(crate) fn sgd(trial: &mut Trial<'_>) -> Told {
    let momentum = [0.0, 0.5, 0.9].choose(&mut trial.random).copied().unwrap_or(0.0);
    let weight_decay = [0.0, 0.125].choose(&mut trial.random).copied().unwrap_or(0.0);
    let optimizer =
        Optimizer { rule: Rule::Sgd { momentum, weight_decay }, ..Optimizer::sgd(trial.learning_rate()) };
    trial.three_steps(&optimizer)
}

/// Adam with coupled decay and corrected bias.
pub(crate) fn adam(trial: &mut Trial<'_>) -> Told {
    let optimizer =
        Optimizer { rule: Rule::Adam(trial.adam_numbers()), ..Optimizer::sgd(trial.learning_rate()) };
    trial.three_steps(&optimizer)
}

/// `AdamW`: the decay stands beside the gradient, and reaches the declared parameters alone.
pub(crate) fn adamw(trial: &mut Trial<'_>) -> Told {
    let numbers = Adam { weight_decay: 0.125, ..trial.adam_numbers() };
    let optimizer = Optimizer { rule: Rule::AdamW(numbers), ..Optimizer::sgd(trial.learning_rate()) };
    trial.three_steps(&optimizer)
}

/// The whole gradient is clipped once, after everything has been accumulated.
pub(crate) fn clipping(trial: &mut Trial<'_>) -> Told {
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch]);
    let gradient = trial.gradient(&spec, &batch)?;
    let norm = gradient.gradient.values().map(square).sum::<f64>().sqrt();
    if norm <= 0.0 || !norm.is_finite() {
        return Ok(false);
    }
    // Half of the norm is clipped away, or nothing of it.
    let share = if trial.random.random::<bool>() { 0.5 } else { 2.0 };
    let clip = Clip { max_norm: share * norm, epsilon: 1e-6 };
    // A loss scale that is still on the gradient would be clipped with it.
    let loss_scale = [1.0, 16.0, 1024.0].choose(&mut trial.random).copied().unwrap_or(1.0);
    let optimizer = Optimizer { clip: Some(clip), loss_scale, ..Optimizer::sgd(trial.learning_rate()) };
    let reports = trial.closed_form_steps(&optimizer, &spec, &[&batch])?;
    Ok(reports.iter().any(|report| report.clip_factor < 1.0) && batch.micro_batches().count() > 1)
}

/// The learning rate advances once per optimizer step, however many micro-batches it has.
pub(crate) fn schedule(trial: &mut Trial<'_>) -> Told {
    let optimizer = Optimizer { warm_up: 4, ..Optimizer::sgd(trial.learning_rate()) };
    let moves = trial.three_steps(&optimizer)?;
    Ok(moves && trial.case.batch.micro_batches().count() > 1)
}

/// A gradient multiplied by c changes Adam exactly as ε divided by c does: to the bit where c is a power of two. The norm
/// shows c.
pub(crate) fn adam_scale(trial: &mut Trial<'_>) -> Told {
    if trial.facts.noise > 0.0 {
        return Err(Stop::Unsupported("repeatable gradients, which Adam needs".to_owned()));
    }
    let supervised = trial.case.batch.layout().supervised();
    if supervised < 2 {
        return Ok(false);
    }
    // The sum is N times the mean: with a power of two of tokens, to the bit.
    let keep = 1_usize << supervised.ilog2();
    let mut left = keep;
    let batch = trial.case.batch.map_sequences(|sequence| {
        sequence.supervise_only(|position| {
            let kept = sequence.supervises(position) && left > 0;
            left -= usize::from(kept);
            kept
        })
    });
    let (sum, mean) = (trial.with_token_loss(LossSpec::sum()), trial.with_token_loss(LossSpec::token_mean()));
    let numbers = Adam { weight_decay: 0.0, ..trial.adam_numbers() };
    let rate = trial.learning_rate();
    let with =
        |epsilon: f64| Optimizer { rule: Rule::Adam(Adam { epsilon, ..numbers }), ..Optimizer::sgd(rate) };
    // Exact in every dtype, and after division by c too.
    let epsilon = 2.0_f64.powi(-20);
    let mut runs = Vec::new();
    let start = trial.read()?;
    for (spec, epsilon) in [(sum, epsilon), (mean, epsilon / keep as f64)] {
        trial.load(&start)?;
        trial.start(&with(epsilon))?;
        let mut norms = Vec::new();
        for _ in 0..3 {
            norms.push(trial.step(&spec, &batch)?.report.grad_norm);
        }
        runs.push((trial.read()?, norms));
    }
    let [(one, large), (other, small)] = &runs[..] else { return Err(Stop::Void) };
    let same = one.iter().all(|(name, tensor)| {
        let bits = |t: &Tensor| t.to_f64().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        other.get(name).is_some_and(|twin| bits(twin) == bits(tensor))
    });
    trial.fact(same, || {
        format!("three Adam steps with a gradient {keep} times as large and ε {keep} times as large differ")
    });
    let bound = trial.gradient_bound(&batch);
    for (large, small) in large.iter().zip(small) {
        let expected = small * keep as f64;
        trial.number("norm of the larger gradient", "grad norm", bound, (*large, expected), expected);
    }
    Ok(keep > 1 && sum.reduction == Reduction::Sum)
}

/// A loss scale leaves no trace: a power of two not a bit. A scale that overflows skips the step, and the schedule waits.
pub(crate) fn loss_scaling(trial: &mut Trial<'_>) -> Told {
    if trial.facts.noise > 0.0 {
        return Err(Stop::Unsupported("repeatable gradients".to_owned()));
    }
    let batch = trial.case.batch.clone();
    let spec = trial.spec(&[&batch]);
    let rate = trial.learning_rate();
    let start = trial.read()?;
    let optimizer = |loss_scale: f64| Optimizer { loss_scale, warm_up: 4, ..Optimizer::sgd(rate) };
    let mut results = Vec::new();
    for scale in [1.0, 1024.0] {
        trial.load(&start)?;
        trial.start(&optimizer(scale))?;
        let stepped = trial.step(&spec, &batch)?;
        results.push((stepped.after, stepped.report));
    }
    let [(plain, of_plain), (scaled, of_scaled)] = &results[..] else { return Err(Stop::Void) };
    trial.fact(plain == scaled, || "a loss scale of 1024 changes the step".to_owned());
    let bound = trial.loss_bound(&batch);
    let (loss, expected) = (of_scaled.observation.loss, of_plain.observation.loss);
    trial.number("reported loss under a loss scale", "loss", bound, (loss, expected), expected.abs());
    let bound = trial.gradient_bound(&batch);
    trial.number(
        "norm under a loss scale",
        "grad norm",
        bound,
        (of_scaled.grad_norm, of_plain.grad_norm),
        of_plain.grad_norm,
    );

    let huge = match trial.dtype() {
        Dtype::F64 => 2.0_f64.powi(1023),
        _ => 2.0_f64.powi(127),
    };
    trial.load(&start)?;
    trial.start(&optimizer(huge))?;
    let first = trial.step(&spec, &batch)?;
    if first.report.skipped {
        trial.fact(first.after == start, || "a skipped step changed the parameters".to_owned());
        let second = trial.step(&spec, &batch)?;
        let (found, expected) = (second.report.learning_rate, rate / 4.0);
        trial.fact((found - expected).abs() <= 1e-6 * expected, || {
            format!("after a skipped step the learning rate is {found}, the first one is {expected}")
        });
    } else {
        let finite = first.after.values().all(|t| t.to_f64().iter().all(|v| v.is_finite()));
        trial.fact(finite, || "a step with an overflowing gradient was taken".to_owned());
    }
    Ok(trial.moves() && first.report.skipped)
}
