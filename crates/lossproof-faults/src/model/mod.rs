//! A GPT-2 whose forward and backward are written out, so that an operator in the middle of either can be
//! wrong.
//!
//! It is what an honest subject would compute, from that subject's own parameters and in its precision;
//! everything else of the subject (loading, reset, which optimizers there are) stays the subject's.

mod attention;
mod layers;
mod loss;
pub(crate) mod operators;
mod passes;
mod real;
mod rows;
mod transformer;

pub(crate) use operators::Operators;
pub(crate) use real::{Real, real};
pub(crate) use rows::PaddedRows;

use crate::{
    honest::{hand_over, lacking, parameters},
    tensors::NamedTensors,
};
use loss::Weighted;
use lossproof_gpt2::{Config, ModelShape};
use lossproof_spec::{CompensatedSum, Dtype, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, TokenWeights};
use lossproof_subject::{
    Evaluated, Evaluation, GradientSink, LoadParameters, Observation, OptimizerSteps, ParameterInfo, Subject,
    SubjectError, SubjectInfo, TokenLosses, Unsupported, UpstreamWeights,
};
use transformer::Transformer;

/// The same operators in each precision that the model computes in.
#[derive(Clone, Copy)]
pub(crate) struct InEachPrecision {
    pub(crate) single: fn() -> Operators<f32>,
    pub(crate) double: fn() -> Operators<f64>,
}

/// A function of operators in each precision.
macro_rules! in_each_precision {
    ($operators:path) => {
        $crate::model::InEachPrecision { single: $operators, double: $operators }
    };
}
pub(crate) use in_each_precision;

/// An honest subject with a forward and a backward of its own operators.
///
/// Steps are taken by whoever wraps it: its [`OptimizerSteps`] are the honest subject's, for reading
/// parameters and for saying which optimizers there are.
pub(crate) struct WrittenOutGpt2 {
    honest: Box<dyn Subject>,
    /// The spec in force.
    spec: LossSpec,
    operators: InEachPrecision,
    /// `None` where the honest subject's parameters are those of no known configuration.
    shape: Option<ModelShape>,
}

impl WrittenOutGpt2 {
    pub(crate) fn new(honest: Box<dyn Subject>, operators: InEachPrecision) -> Self {
        let found: Vec<_> = honest.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
        // The number of heads is no parameter's shape; it is that of the configuration with these shapes.
        let shape = Config::ALL.iter().map(|config| config.shape()).find(|shape| shape.parameters() == found);
        let spec = honest.info().claims.first();
        Self { honest, spec, operators, shape }
    }

    /// Computes something with the parameters in force.
    fn compute<T: Real, R>(
        &mut self,
        operators: Operators<T>,
        compute: impl FnOnce(&Transformer<'_, T>) -> R,
    ) -> Result<R, SubjectError> {
        let name = self.honest.info().name;
        let shape = self.shape.ok_or_else(|| lacking(&name, "the parameters of a known GPT-2 configuration"));
        let parameters = parameters(&mut *self.honest)?.map(real::<T>);
        Ok(compute(&Transformer { shape: shape?, operators, parameters: &parameters }))
    }

    fn weighted(&mut self, batch: &GlobalBatch, weights: &[f64]) -> Result<Weighted<f64>, SubjectError> {
        let info = self.honest.info();
        info.limits.check(batch)?;
        let (spec, operators) = (self.spec, self.operators);
        if info.dtypes.loss == Dtype::F64 {
            return self.compute((operators.double)(), |model| model.weighted(batch, &spec, weights));
        }
        let computed = self.compute((operators.single)(), |model| model.weighted(batch, &spec, weights))?;
        Ok(computed.widened())
    }

    fn hand_over(&self, gradient: &NamedTensors, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        hand_over(&*self.honest, gradient, sink)
    }
}

/// The weights of a spec, and whether a mean of nothing makes the loss NaN; the gradient is then what the
/// groups that are not empty contribute, as with PyTorch's `nll_loss`.
pub(crate) fn spec_weights(spec: &LossSpec, batch: &GlobalBatch) -> Result<(Vec<f64>, bool), SubjectError> {
    let layout = batch.layout();
    let (weights, nan) = match TokenWeights::new(spec, &layout) {
        Err(empty) if empty.nan => {
            let counted = LossSpec { empty: EmptyPolicy::ZeroCounted, ..*spec };
            (TokenWeights::new(&counted, &layout)?, true)
        }
        weights => (weights?, false),
    };
    Ok((weights.per_prediction(batch), nan))
}

impl Subject for WrittenOutGpt2 {
    fn info(&self) -> SubjectInfo {
        self.honest.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.honest.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.honest.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.honest.configure(spec)?;
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let (weights, nan) = spec_weights(&self.spec, batch)?;
        let weighted = self.weighted(batch, &weights)?;
        self.hand_over(&weighted.gradient, gradients)?;
        Ok(Observation {
            loss: if nan { f64::NAN } else { weighted.loss },
            supervised_tokens: Some(weighted.token_losses.len()),
            token_losses: Some(weighted.token_losses),
        })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.honest.parameter_loading()
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        Some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        self.honest.optimizer_steps()
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        Some(self)
    }
}

impl Evaluation for WrittenOutGpt2 {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let mut total = CompensatedSum::default();
        let mut tokens = 0;
        for batch in batches.iter().cloned().map(GlobalBatch::of_micro_batch) {
            let losses = self.evaluate(&batch)?;
            for (_, loss) in batch.predictions().zip(losses).filter(|(p, _)| p.supervised) {
                total.add(loss);
                tokens += 1;
            }
        }
        let loss = total.value() / tokens as f64;
        Ok(Evaluated { loss, perplexity: loss.exp(), tokens })
    }
}

impl TokenLosses for WrittenOutGpt2 {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let info = self.honest.info();
        info.limits.check(batch)?;
        let operators = self.operators;
        if info.dtypes.loss == Dtype::F64 {
            return self.compute((operators.double)(), |model| model.evaluate(batch));
        }
        let losses = self.compute((operators.single)(), |model| model.evaluate(batch))?;
        Ok(losses.into_iter().map(f64::from).collect())
    }
}

impl UpstreamWeights for WrittenOutGpt2 {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let predictions = batch.predictions().count();
        if weights.len() != predictions {
            let subject = self.honest.info().name;
            let message = format!("{} upstream weights for {predictions} predictions", weights.len());
            return Err(SubjectError::Failed { subject, message });
        }
        let weighted = self.weighted(batch, weights)?;
        self.hand_over(&weighted.gradient, gradients)?;
        Ok(weighted.loss)
    }
}
