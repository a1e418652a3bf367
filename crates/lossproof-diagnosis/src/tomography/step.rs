//! The gradient that a trainer's own step applies, from its parameters before and after it.

use super::{Observed, Precision, TomographyError, precision::checked};
use lossproof_laws::distance;
use lossproof_numerics::{norm, vector};
use lossproof_spec::{GlobalBatch, Optimizer};
use lossproof_subject::{
    Checked, Collect, Observation, Subject, SubjectError, Tensor, TensorSet, TensorValues, Unsupported,
};

/// How much farther a step goes than it must, as a power of two: the gradient that is applied may be
/// smaller than the one that is handed over.
const MARGIN: i32 = 6;

/// The largest learning rate, as a power of two: in f32 parameters end below 2¹²⁸.
const LARGEST: i32 = 96;

impl Observed {
    /// The gradient that a plain SGD step `θ ← θ − lr·g` of the subject applies, `g = (θ − θ')/lr`.
    /// `handed` is the gradient that the subject hands over; the learning rate is chosen by its size alone.
    ///
    /// # Precision
    /// In the trainer's dtype with unit round-off u the new parameter is `θ' = (θ − lr·g·(1 + δ₁))·(1 +
    /// δ₂)`, `|δ_i| ≤ u`; the difference `θ − θ'` and the division are exact or as good (f64 arithmetic, lr
    /// a power of two). So each element of g has an error of at most `u·(2|g| + |θ'|/lr) ≤ u·(3|g| +
    /// |θ|/lr)` to first order. With a learning rate of ordinary size the second term swallows the
    /// gradient, so the learning rate is the power of two by which `lr·‖g‖ ≥ ‖θ‖` for each tensor, and the
    /// error is at most `4u·‖g‖`. A step with a tensor that moved by less than its norm is refused. One
    /// that did not move at all has `lr·|g| ≤ u·|θ|` in each element, so `‖g‖ ≤ u·‖θ‖/lr`: its gradient
    /// counts as zero where the largest gradient norm of any tensor is at least `‖θ‖/lr`, since u times
    /// that norm is then all that is lost, and the step is refused where it is not. A batch without
    /// supervised tokens may move nothing.
    ///
    /// The subject is reset before the step and after it.
    ///
    /// # Errors
    /// When the subject takes no such steps, fails, or a step does not show its gradient.
    pub(super) fn of_step(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        handed: &TensorSet,
    ) -> Result<Self, TomographyError> {
        let subject = &mut checked(subject)?;
        let (observation, gradient) = stepped(subject, batch, handed)?;
        let noise = distance(&stepped(subject, batch, handed)?.1, &gradient);
        let mut precision = Precision::of(subject, batch, if noise.is_finite() { noise } else { 0.0 });
        precision.gradient += 4.0 * subject.info().coarsest(&subject.parameters()).unit_roundoff();
        Ok(Self { observation, gradient, precision })
    }
}

/// What is logged for a step, and the gradient that it applied.
fn stepped(
    subject: &mut Checked<'_>,
    batch: &GlobalBatch,
    handed: &TensorSet,
) -> Result<(Observation, TensorSet), TomographyError> {
    subject.reset()?;
    let before = read(subject)?;
    let rate = learning_rate(&before, handed);
    let observation = with_steps(subject, |steps| {
        steps.start(&Optimizer::sgd(rate))?;
        Ok(steps.step(batch)?.observation)
    })?;
    let after = read(subject)?;
    subject.reset()?;
    let mut moves = Vec::new();
    for (name, before) in &before {
        let after = after.get(name).filter(|after| after.shape() == before.shape());
        let after = after.ok_or_else(|| TomographyError::Tensor {
            of: "the model after a step".to_owned(),
            parameter: name.clone(),
            shape: before.shape().to_vec(),
        })?;
        moves.push(Move::of(name, before, after));
    }
    if let Some(message) = hidden(&moves, batch.layout().supervised() > 0) {
        return Err(SubjectError::Failed { subject: subject.info().name, message }.into());
    }
    let mut gradient = TensorSet::new();
    for Move { name, moved, shape, .. } in moves {
        let values = moved.into_iter().map(|value| value / rate).collect();
        let tensor = Tensor::new(shape.to_vec(), TensorValues::F64(values));
        gradient.insert(name.to_owned(), tensor.expect("invariant: as many values as the parameter has"));
    }
    Ok((observation, gradient))
}

/// The least power of two by which every tensor moves at least as far as it is long, and a margin.
fn learning_rate(parameters: &TensorSet, gradient: &TensorSet) -> f64 {
    let mut ratio = 1.0_f64;
    for (name, tensor) in parameters {
        let slope = gradient.get(name).map_or(0.0, |gradient| norm(&gradient.to_f64()));
        if slope > 0.0 {
            ratio = ratio.max(norm(&tensor.to_f64()) / slope);
        }
    }
    let exponent = ratio.log2().ceil().min(f64::from(LARGEST - MARGIN));
    (exponent + f64::from(MARGIN)).exp2()
}

/// What a step did to a parameter.
struct Move<'a> {
    name: &'a str,
    shape: &'a [usize],
    /// `θ − θ'`.
    moved: Vec<f64>,
    /// `‖θ − θ'‖`.
    distance: f64,
    /// `‖θ‖`.
    length: f64,
}

impl<'a> Move<'a> {
    fn of(name: &'a str, before: &'a Tensor, after: &Tensor) -> Self {
        let values = before.to_f64();
        let moved = vector::minus(&values, &after.to_f64());
        let (distance, length) = (norm(&moved), norm(&values));
        Self { name, shape: before.shape(), moved, distance, length }
    }
}

/// Why the rounding of a step hides a gradient, if it does.
fn hidden(moves: &[Move<'_>], supervised: bool) -> Option<String> {
    let farthest = moves.iter().map(|moved| moved.distance).fold(0.0, f64::max);
    for Move { name, distance, length, .. } in moves {
        if *distance > 0.0 && distance < length {
            return Some(format!(
                "a step moves `{name}` by {distance:.1e}, less than its norm {length:.1e}: most of its \
                 gradient is lost to rounding"
            ));
        }
        if supervised && *distance <= 0.0 && (farthest <= 0.0 || farthest < *length) {
            return Some(format!(
                "a step does not move `{name}`, whose norm is {length:.1e}, and moves no tensor by more than \
                 {farthest:.1e}: its gradient may be lost to rounding"
            ));
        }
    }
    None
}

fn read(subject: &mut Checked<'_>) -> Result<TensorSet, TomographyError> {
    let mut sink = Collect::default();
    with_steps(subject, |steps| Ok(steps.read(&mut sink)?))?;
    Ok(sink.into_tensors())
}

fn with_steps<T>(
    subject: &mut Checked<'_>,
    act: impl FnOnce(&mut dyn lossproof_subject::OptimizerSteps) -> Result<T, TomographyError>,
) -> Result<T, TomographyError> {
    let name = subject.info().name;
    let Some(steps) = subject.optimizer_steps() else {
        return Err(Unsupported::new(&name, "optimizer steps").into());
    };
    act(steps)
}
