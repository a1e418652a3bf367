//! A subject from a trainer that shows nothing but its parameters before and after a plain SGD step.

use lossproof_numerics::norm;
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{
    Collect, GradientSink, GradientView, LoadParameters, Observation, ParameterInfo, Subject, SubjectError,
    SubjectInfo, Tensor, TensorSet, TensorValues, TokenLosses, Unsupported,
};

/// A trainer that takes plain SGD steps, `θ ← θ − lr·g`, and shows its parameters.
///
/// Nothing else may be in a step: no momentum, no weight decay, no clipping, no schedule.
pub trait SgdTrainer {
    /// What this is: its name, dtype, limits, and the loss semantics in force.
    fn info(&self) -> SubjectInfo;

    /// The trainable parameters, as [`Subject::parameters`].
    fn parameters(&self) -> Vec<ParameterInfo>;

    /// The learning rate of every step: a power of two.
    fn learning_rate(&self) -> f64;

    /// Declares the loss semantics of the steps to come.
    ///
    /// # Errors
    /// [`Unsupported`] when the trainer has no such semantics; the former spec stays in force.
    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported>;

    /// Takes one step, and returns what the trainer would log for it.
    ///
    /// # Errors
    /// When the batch is outside the limits or the trainer fails.
    fn step(&mut self, batch: &GlobalBatch) -> Result<Observation, SubjectError>;

    /// Hands the current parameters over, as [`Subject::accumulate`] does with gradients.
    ///
    /// # Errors
    /// When the trainer fails or the sink refuses a tensor.
    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError>;

    /// Replaces all parameters.
    ///
    /// # Errors
    /// When one is missing, unknown, of another shape or not finite.
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError>;

    /// The capability to evaluate token losses, when the trainer has it.
    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        None
    }
}

/// The gradient of a trainer that takes SGD steps, `g = (θ − θ')/lr`, as a [`Subject`].
///
/// # Precision
/// In the trainer's dtype with unit round-off u the new parameter is `θ' = (θ − lr·g·(1 + δ₁))·(1 + δ₂)`,
/// `|δ_i| ≤ u`; the difference `θ − θ'` and the division are exact or as good (f64 arithmetic, lr a power of
/// two), and the gradient is rounded to the trainer's dtype once more. So each element of g has an error of
/// at most `u·(2|g| + |θ'|/lr) ≤ u·(3|g| + |θ|/lr)` to first order. With a learning rate of ordinary size the
/// second term swallows the gradient, so the learning rate is to be as large as the range of the dtype lets
/// it: with `lr·‖g‖ ≥ ‖θ‖` for each tensor the error is at most `4u·‖g‖`, below what a backward pass has
/// anyway. A step with a tensor that moved by less than its norm is refused. One that did not move at all has
/// `lr·|g| ≤ u·|θ|` in each element, so `‖g‖ ≤ u·‖θ‖/lr`: its gradient counts as zero where the largest
/// gradient norm of any tensor is at least `‖θ‖/lr`, since u times that norm is then all that is lost, and
/// the step is refused where it is not. A batch without supervised tokens may move nothing.
///
/// Every step starts from the same parameters: they are loaded again before it and after it.
pub struct GradientsFromSgd<T> {
    trainer: T,
    initial: TensorSet,
    current: TensorSet,
}

impl<T: SgdTrainer> GradientsFromSgd<T> {
    /// Wraps a trainer; its present parameters become the initial ones.
    ///
    /// # Errors
    /// When the learning rate is not a power of two, or the parameters cannot be read.
    pub fn new(mut trainer: T) -> Result<Self, SubjectError> {
        let rate = trainer.learning_rate();
        // A power of two has no bit set in its mantissa.
        let mantissa = rate.to_bits() & ((1 << (f64::MANTISSA_DIGITS - 1)) - 1);
        if !rate.is_normal() || rate < 0.0 || mantissa != 0 {
            let message =
                format!("its learning rate {rate:e} is no power of two: dividing by it would round");
            return Err(SubjectError::Failed { subject: trainer.info().name, message });
        }
        let initial = read(&mut trainer)?;
        Ok(Self { trainer, current: initial.clone(), initial })
    }

    /// The trainer.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.trainer
    }

    /// Refuses a step whose rounding hides a gradient.
    fn check(&self, moves: &[Move], supervised: bool) -> Result<(), SubjectError> {
        let farthest = moves.iter().map(|moved| moved.distance).fold(0.0, f64::max);
        for Move { parameter: ParameterInfo { name, .. }, distance, length, .. } in moves {
            let message = if *distance > 0.0 && distance < length {
                let factor = (length / distance).log2().ceil().exp2();
                format!(
                    "a step moves `{name}` by {distance:.1e}, less than its norm {length:.1e}: most of its gradient is lost \
                     to rounding. Take a learning rate {factor} times as large"
                )
            } else if supervised && *distance <= 0.0 && (farthest <= 0.0 || farthest < *length) {
                format!(
                    "a step does not move `{name}`, whose norm is {length:.1e}, and moves no tensor by more than \
                     {farthest:.1e}: its gradient may be lost to rounding. Take a larger learning rate"
                )
            } else {
                continue;
            };
            return Err(SubjectError::Failed { subject: self.trainer.info().name, message });
        }
        Ok(())
    }
}

/// What a step did to a parameter.
struct Move {
    parameter: ParameterInfo,
    /// `θ − θ'`.
    moved: Vec<f64>,
    /// `‖θ − θ'‖`.
    distance: f64,
    /// `‖θ‖`.
    length: f64,
}

impl Move {
    fn of(parameter: ParameterInfo, before: &Tensor, after: &Tensor) -> Self {
        let moved: Vec<f64> =
            (0..before.elements()).map(|index| before.get(index) - after.get(index)).collect();
        let (distance, length) = (norm(&moved), norm(&before.to_f64()));
        Self { parameter, moved, distance, length }
    }
}

fn read(trainer: &mut impl SgdTrainer) -> Result<TensorSet, SubjectError> {
    let mut sink = Collect::default();
    trainer.read(&mut sink)?;
    Ok(sink.into_tensors())
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the trainer's dtype is what is meant")]
fn single(value: f64) -> f32 {
    value as f32
}

fn parameter(name: &str, problem: String) -> SubjectError {
    SubjectError::Parameter { name: name.to_owned(), problem }
}

impl<T: SgdTrainer> Subject for GradientsFromSgd<T> {
    fn info(&self) -> SubjectInfo {
        self.trainer.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.trainer.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.trainer.load(&self.initial)?;
        self.current = self.initial.clone();
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.trainer.configure(spec)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.trainer.load(&self.current)?;
        // As the trainer holds them, rounded to its dtype.
        let before = read(&mut self.trainer)?;
        let observation = self.trainer.step(batch)?;
        let after = read(&mut self.trainer)?;
        self.trainer.load(&self.current)?;
        let mut moves = Vec::new();
        for info in self.trainer.parameters() {
            let (Some(before), Some(after)) = (before.get(&info.name), after.get(&info.name)) else {
                return Err(parameter(&info.name, "was not read: hand every parameter over".to_owned()));
            };
            if before.elements() != after.elements() {
                return Err(parameter(&info.name, "has another size after the step".to_owned()));
            }
            moves.push(Move::of(info, before, after));
        }
        self.check(&moves, batch.layout().supervised() > 0)?;
        let rate = self.trainer.learning_rate();
        let double = self.trainer.info().dtypes.gradient == Dtype::F64;
        for Move { parameter: ParameterInfo { name, shape, .. }, moved, .. } in moves {
            let gradient: Vec<f64> = moved.into_iter().map(|value| value / rate).collect();
            if double {
                gradients.receive(&name, &shape, GradientView::F64(&gradient))?;
            } else {
                let rounded: Vec<f32> = gradient.into_iter().map(single).collect();
                gradients.receive(&name, &shape, GradientView::F32(&rounded))?;
            }
        }
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.trainer.token_losses()
    }
}

impl<T: SgdTrainer> LoadParameters for GradientsFromSgd<T> {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.trainer.load(parameters)?;
        self.initial = parameters.clone();
        self.current = parameters.clone();
        Ok(())
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let former = self.current.get(name);
        let former = former.ok_or_else(|| parameter(name, "there is no such parameter".to_owned()))?;
        let tensor = Tensor::new(former.shape().to_vec(), TensorValues::F64(values.to_vec()));
        let tensor = tensor.map_err(|error| parameter(name, error.to_string()))?;
        self.current.insert(name.to_owned(), tensor);
        self.trainer.load(&self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::toy::{self, Toy};

    /// Takes the toy's gradient steps.
    struct ToySteps(Toy, f64);

    impl SgdTrainer for ToySteps {
        fn info(&self) -> SubjectInfo {
            self.0.info()
        }

        fn parameters(&self) -> Vec<ParameterInfo> {
            self.0.parameters()
        }

        fn learning_rate(&self) -> f64 {
            self.1
        }

        fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
            self.0.configure(spec)
        }

        fn step(&mut self, batch: &GlobalBatch) -> Result<Observation, SubjectError> {
            let mut sink = Collect::default();
            let observation = self.0.accumulate(batch, &mut sink)?;
            let mut parameters = self.0.held();
            for (name, gradient) in sink.into_tensors() {
                let before = &parameters[&name];
                let after =
                    (0..before.elements()).map(|i| before.get(i) - self.1 * gradient.get(i)).collect();
                let after = Tensor::new(before.shape().to_vec(), TensorValues::F64(after)).unwrap();
                parameters.insert(name, after);
            }
            self.0.load(&parameters)?;
            Ok(observation)
        }

        fn read(&mut self, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
            for (name, tensor) in self.0.held() {
                sink.receive(&name, tensor.shape(), GradientView::F64(&tensor.to_f64()))?;
            }
            Ok(())
        }

        fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
            self.0.load(parameters)
        }
    }

    #[test]
    fn the_gradient_is_the_one_the_step_was_taken_with() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut expected = Collect::default();
        let logged = Toy::new().accumulate(&batch, &mut expected).unwrap();
        let mut subject = GradientsFromSgd::new(ToySteps(Toy::new(), 2.0_f64.powi(40))).unwrap();
        for _ in 0..2 {
            let mut sink = Collect::default();
            assert_eq!(subject.accumulate(&batch, &mut sink).unwrap(), logged);
            for (name, gradient) in sink.into_tensors() {
                let expected = expected.clone().into_tensors()[&name].to_f64();
                let apart: Vec<f64> = gradient.to_f64().iter().zip(&expected).map(|(a, b)| a - b).collect();
                assert!(norm(&apart) <= 1.5 * f64::EPSILON * norm(&expected), "{name}: {:e}", norm(&apart));
            }
        }
    }

    #[test]
    fn learning_rates_that_lose_the_gradient_are_refused() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        for rate in [3.0, 0.1, 0.0, -2.0, f64::INFINITY] {
            assert!(GradientsFromSgd::new(ToySteps(Toy::new(), rate)).is_err(), "{rate}");
        }
        for exponent in [-3, -60, -1000] {
            let mut subject = GradientsFromSgd::new(ToySteps(Toy::new(), 2.0_f64.powi(exponent))).unwrap();
            let error = subject.accumulate(&batch, &mut Collect::default()).unwrap_err();
            assert!(error.to_string().contains("lost to rounding"), "2^{exponent}: {error}");
        }
    }

    #[test]
    fn a_batch_that_supervises_nothing_moves_nothing() {
        let toy = Toy { spec: LossSpec::sum(), ..Toy::new() };
        let mut subject = GradientsFromSgd::new(ToySteps(toy, 2.0_f64.powi(40))).unwrap();
        let mut sink = Collect::default();
        subject.accumulate(&toy::batch([5, 3, 4, 3], |_, _| true), &mut sink).unwrap();
        let gradient = sink.into_tensors();
        assert!(gradient.len() == 3 && gradient.values().all(|tensor| norm(&tensor.to_f64()) <= 0.0));
    }

    #[test]
    fn a_tensor_without_gradient_is_told_from_one_that_is_lost() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let toy = Toy { broken: Some(("first", 0.0)), ..Toy::new() };
        let mut subject = GradientsFromSgd::new(ToySteps(toy, 2.0_f64.powi(40))).unwrap();
        let mut sink = Collect::default();
        subject.accumulate(&batch, &mut sink).unwrap();
        assert!(norm(&sink.into_tensors()["first"].to_f64()) <= 0.0);
    }
}
