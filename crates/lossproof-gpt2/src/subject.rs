//! The reference as a subject.

use crate::{
    Element, Gpt2, ModelShape,
    accumulate::{Accumulated, Failure, Step, never},
    begun::Begun,
    config::Gpt2Config,
    failure::{NAME, failed},
    hand_over::{HandOver, last_dimension},
    kernels::Kernels,
    named::{Visitor, split},
    started::Started,
};
use dfdx::prelude::{ConstShape, Device as DfdxDevice, Tensor};
use lossproof_spec::{Counting, Dtypes, GlobalBatch, LossSpec, Rank};
use lossproof_subject::{
    Claims, Device, Evaluation, GradientSink, Limits, LoadParameters, LogPolicy, ModelInfo, Objectives,
    Observation, OptimizerSteps, ParameterInfo, ParameterSource, RankPlace, RankShares, StepReport, Subject,
    SubjectError, SubjectInfo, TensorSet, TokenLosses, Totals, Unsupported, UpstreamWeights, check_gradient,
};
use std::sync::Arc;

/// The reference trainer for one configuration, element type and device.
pub(crate) struct Reference<K: Gpt2Config, E: Element, D: DfdxDevice<E>> {
    pub(crate) model: Gpt2<K, E, D>,
    initial: Arc<dyn ParameterSource>,
    spec: LossSpec,
    device: Device,
    pub(crate) started: Option<Started<E>>,
    /// What a loop has begun.
    pub(crate) begun: Option<Begun<E, D>>,
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Reference<K, E, D> {
    pub(crate) fn new(
        dfdx: &D,
        device: Device,
        initial: Arc<dyn ParameterSource>,
    ) -> Result<Self, SubjectError> {
        let model = Gpt2::zeros(dfdx).map_err(failed)?;
        let mut reference =
            Self { model, initial, spec: LossSpec::token_mean(), device, started: None, begun: None };
        reference.reset()?;
        Ok(reference)
    }

    pub(crate) fn limits() -> Limits {
        let shape = ModelShape::of::<K>();
        Limits::of_model(shape.vocabulary, shape.positions)
    }

    /// Copies values into the parameters for which `values` has some.
    pub(crate) fn write<'a>(&mut self, values: impl FnMut(&str) -> Option<Vec<E>> + 'a) {
        never(self.model.visit(&mut Write { values }));
    }

    /// Forward and backward of one step under the loss spec in force, the loss multiplied by `loss_scale` in between.
    pub(crate) fn accumulated(
        &mut self,
        batch: &GlobalBatch,
        loss_scale: f64,
    ) -> Result<(Accumulated<E, D>, Observation), SubjectError> {
        Self::limits().check(batch)?;
        self.model.accumulate(batch, &self.spec, loss_scale).map_err(refused)
    }
}

/// The error of a step.
fn refused<F: std::fmt::Display>(failure: Failure<F>) -> SubjectError {
    match failure {
        Failure::Empty(group) => SubjectError::EmptyGroup(group),
        Failure::Device(error) => failed(error),
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> RankShares for Reference<K, E, D> {
    fn share(
        &mut self,
        rank: &Rank,
        place: RankPlace,
        totals: &Totals,
        loss_scale: f64,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let step = Step { spec: &self.spec, totals, loss_scale };
        let (mut gradient, observation) = self.model.share(rank, place, step).map_err(refused)?;
        self.model.visit(&mut HandOver::new(&mut gradient, gradients))?;
        Ok(observation)
    }

    fn step_from(
        &mut self,
        gradient: &TensorSet,
        observation: Observation,
    ) -> Result<StepReport, SubjectError> {
        check_gradient(self, gradient)?;
        let loss_scale = self.started()?.0.loss_scale;
        let gradient = Accumulated { loss_scale, ..self.gradient_of_ranks(gradient)? };
        self.step_of(gradient, observation)
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> Subject for Reference<K, E, D> {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            framework: "dfdx 0.13.0".to_owned(),
            dtypes: Dtypes::all(E::DTYPE),
            device: self.device,
            claims: Claims::Any,
            limits: Self::limits(),
            log_policy: LogPolicy::default(),
            model: ModelInfo::default(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        let info = |(name, shape): (String, Vec<usize>)| {
            let tied_to = (name == "wte.weight").then(|| "lm_head.weight".to_owned());
            ParameterInfo { tied_to, ..ParameterInfo::named(&name, &shape) }
        };
        ModelShape::of::<K>().parameters().into_iter().map(info).collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        for (name, shape) in ModelShape::of::<K>().parameters() {
            let tensor = self.initial.read(&name)?;
            if tensor.shape() != shape {
                let problem = format!("has shape {:?}, expected {shape:?}", tensor.shape());
                return Err(SubjectError::Parameter { name, problem });
            }
            let rounded = || (0..tensor.elements()).map(|index| E::round(tensor.get(index))).collect();
            self.write(|known| (known == name).then(rounded));
        }
        self.started = None;
        self.begun = None;
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        let unsupported = |what: String| Unsupported::new(NAME, what);
        if spec.counting != Counting::Supervised {
            return Err(unsupported(format!("the loss spec `{spec}`")));
        }
        spec.validate().map_err(|error| unsupported(error.to_string()))?;
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let (mut gradient, observation) = self.accumulated(batch, 1.0)?;
        self.model.visit(&mut HandOver::new(&mut gradient, gradients))?;
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        Some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        Some(self)
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        Some(self)
    }

    fn rank_shares(&mut self) -> Option<&mut dyn RankShares> {
        Some(self)
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> LoadParameters for Reference<K, E, D> {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        crate::checkpoint::check(ModelShape::of::<K>(), parameters)?;
        self.initial = Arc::new(parameters.clone());
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let shapes = ModelShape::of::<K>().parameters();
        let problem = match shapes.iter().find(|(known, _)| known == name) {
            None => "there is no such parameter: see `Subject::parameters`".to_owned(),
            Some((_, shape)) if shape.iter().product::<usize>() != values.len() => {
                format!("{} values do not fill its shape {shape:?}", values.len())
            }
            Some(_) => {
                self.write(|known| (known == name).then(|| values.iter().copied().map(E::round).collect()));
                return Ok(());
            }
        };
        Err(SubjectError::Parameter { name: name.to_owned(), problem })
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> TokenLosses for Reference<K, E, D> {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        Self::limits().check(batch)?;
        self.model.evaluate(batch).map_err(failed)
    }
}

impl<K: Gpt2Config, E: Element, D: Kernels<E>> UpstreamWeights for Reference<K, E, D> {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        Self::limits().check(batch)?;
        let predictions = batch.predictions().count();
        if weights.len() != predictions {
            return Err(failed(format!(
                "{} upstream weights for {predictions} predictions: give one for each, the ignored ones included",
                weights.len()
            )));
        }
        let (mut gradient, loss) =
            self.model.backward_weighted(batch, &self.spec, weights).map_err(failed)?;
        self.model.visit(&mut HandOver::new(&mut gradient, gradients))?;
        Ok(loss)
    }
}

/// Copies values into parameters.
struct Write<F> {
    values: F,
}

impl<E: Element, D: DfdxDevice<E>, F: FnMut(&str) -> Option<Vec<E>>> Visitor<E, D> for Write<F> {
    type Error = std::convert::Infallible;

    fn tensor<S: ConstShape>(&mut self, name: &str, tensor: &mut Tensor<S, E, D>) -> Result<(), Self::Error> {
        if let Some(values) = (self.values)(name) {
            tensor.copy_from(&values);
        }
        Ok(())
    }

    fn fused<S: ConstShape>(
        &mut self,
        name: &str,
        parts: &mut [Tensor<S, E, D>; 3],
    ) -> Result<(), Self::Error> {
        if let Some(values) = (self.values)(name) {
            let columns = last_dimension(&parts[0]);
            for (part, values) in parts.iter_mut().zip(split(&values, columns)) {
                part.copy_from(&values);
            }
        }
        Ok(())
    }
}
