//! The trainer as a subject: what it says of itself, its parameters, its gradients and its token losses.

use crate::{
    Config, Failure, Mixture, NAME, architecture::Model, begun::Begun, kinds, objective, padded::Padded,
    parameters::Parameters, started::Started, threads::OneThread, unsupported,
};
use lossproof_spec::{Counting, Dtype, Dtypes, GlobalBatch, LossSpec, Rank, Sequence};
use lossproof_subject::{
    Claims, Device, Evaluation, GradientSink, GradientView, Limits, LoadParameters, LogPolicy, ModelInfo,
    Objectives, Observation, OptimizerSteps, ParameterInfo, ParameterSource, RankPlace, RankShares,
    StepReport, Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Totals, Unsupported,
    UpstreamWeights, check_gradient,
};
use tch::{Kind, TchError, Tensor, kind::Element};

/// Logits evaluated at once: 128 MiB in f64, which holds 4 sequences of 64 tokens of gpt2-small.
const EVALUATED_LOGITS: usize = 1 << 24;

pub(crate) struct Torch {
    pub(crate) config: Config,
    /// In which the model computes.
    dtype: Dtype,
    kind: Kind,
    /// In which parameters are held that have no element type of their own.
    held_in: Dtype,
    device: Device,
    pub(crate) spec: LossSpec,
    pub(crate) parameters: Parameters,
    /// The optimizer in force.
    pub(crate) started: Option<Started>,
    /// What a loop has begun.
    pub(crate) begun: Option<Begun>,
    /// Whether a loop's backward pass computes the activations of each block a second time instead of keeping them.
    pub(crate) recomputes: bool,
}

impl Torch {
    /// With the initial parameters of a source, or the model's own.
    pub(crate) fn new(
        config: Config,
        dtype: Dtype,
        device: Device,
        mixture: &Mixture,
        initial: Option<&dyn ParameterSource>,
    ) -> Result<Self, Failure> {
        config.validate()?;
        let kind = kinds::of(dtype)?;
        let place = match device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => {
                let available = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
                if i64::try_from(index).map_or(true, |index| index >= available) {
                    return Err(Failure::new(format!(
                        "{device} was asked for, libtorch sees {available} CUDA devices: \
                         take cpu, or build against a libtorch with CUDA and run where there is such a device"
                    )));
                }
                tch::Device::Cuda(index)
            }
        };
        let parameters = match initial {
            Some(source) => Parameters::read(config.architecture(), mixture, (kind, place), source)?,
            None => Parameters::initial(config.architecture(), mixture, (kind, place))?,
        };
        Ok(Self {
            config,
            dtype,
            kind,
            held_in: mixture.masters.unwrap_or(dtype),
            device,
            spec: LossSpec::token_mean(),
            parameters,
            started: None,
            begun: None,
            recomputes: false,
        })
    }

    /// The model over all parameters, each converted to the kind that is computed in.
    pub(crate) fn model(&self, tensors: &[Tensor]) -> Result<Box<dyn Model>, TchError> {
        let converted: Vec<Tensor> =
            tensors.iter().map(|tensor| tensor.f_to_kind(self.kind)).collect::<Result<_, _>>()?;
        Ok(self.config.model(&converted))
    }

    pub(crate) fn limits(&self) -> Limits {
        let model = self.config.architecture();
        Limits::of_model(model.vocabulary(), model.positions())
    }

    /// Hands one tensor per trained parameter over, zeros where there is none, freeing each as soon as it is gone.
    pub(crate) fn hand_over(
        &self,
        tensors: impl IntoIterator<Item = Option<Tensor>>,
        sink: &mut dyn GradientSink,
    ) -> Result<(), Failure> {
        for (info, tensor) in self.parameters.infos().iter().zip(tensors) {
            let elements = info.shape.iter().product();
            if info.dtype.unwrap_or(self.held_in) == Dtype::F64 {
                let values = on_host(tensor, 0.0, elements)?;
                sink.receive(&info.name, &info.shape, GradientView::F64(&values))?;
            } else {
                let values = on_host(tensor, 0.0_f32, elements)?;
                sink.receive(&info.name, &info.shape, GradientView::F32(&values))?;
            }
        }
        Ok(())
    }

    fn plain_token_losses(&self, batch: &GlobalBatch) -> Result<Vec<f64>, Failure> {
        let _no_graph = tch::no_grad_guard();
        let _one_thread = OneThread::for_model(self.parameters.elements());
        let model = self.model(self.parameters.tensors())?;
        let plain = LossSpec::sum();
        let sequences: Vec<&Sequence> = batch.sequences().collect();
        let target = |sequence: &Sequence, position: usize| i64::from(sequence.targets()[position + 1]);
        let mut losses = Vec::new();
        let mut rest = sequences.as_slice();
        while !rest.is_empty() {
            let (rows, others) = rest.split_at(self.rows_at_once(rest));
            let padded = Padded::new(rows.iter().copied(), target);
            let all = objective::token_losses(&plain, &model.logits(&padded)?, &padded)?;
            losses.extend(objective::scored(&all, &padded)?);
            rest = others;
        }
        Ok(losses)
    }

    /// How many of the next sequences are evaluated together: at least one, and no more logits than the cap.
    fn rows_at_once(&self, sequences: &[&Sequence]) -> usize {
        let vocabulary = self.config.architecture().vocabulary();
        let mut width = 0;
        let fitting = sequences.iter().zip(1..).take_while(|&(sequence, rows)| {
            width = sequence.len().max(width);
            rows == 1 || rows * width * vocabulary <= EVALUATED_LOGITS
        });
        fitting.count()
    }
}

/// The values of a tensor, all `zero` where there is none; its own memory is freed.
fn on_host<T: Element + Clone>(tensor: Option<Tensor>, zero: T, elements: usize) -> Result<Vec<T>, TchError> {
    let mut values = vec![zero; elements];
    if let Some(tensor) = tensor {
        tensor.f_to_kind(T::KIND)?.f_copy_data(&mut values, elements)?;
    }
    Ok(values)
}

impl Subject for Torch {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            framework: "libtorch 2.11.0 (tch 0.24.0)".to_owned(),
            dtypes: Dtypes {
                parameters: self.held_in,
                accumulation: self.held_in,
                ..Dtypes::all(self.dtype)
            },
            device: self.device,
            claims: Claims::Any,
            limits: self.limits(),
            log_policy: LogPolicy::default(),
            model: ModelInfo {
                frozen: self.parameters.frozen().to_vec(),
                ..self.config.architecture().facts()
            },
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.infos().to_vec()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.started = None;
        self.begun = None;
        self.parameters.reset();
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        spec.validate().map_err(|invalid| unsupported(format!("this loss spec: {invalid}")))?;
        if spec.counting != Counting::Supervised {
            return Err(unsupported("counting tokens that are not supervised".to_owned()));
        }
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.limits().check(batch)?;
        let loss_scale = 1.0;
        let (observation, tensors) = self.backward_of_step(batch, loss_scale)?;
        self.hand_over(tensors, gradients)?;
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

impl RankShares for Torch {
    fn share(
        &mut self,
        rank: &Rank,
        place: RankPlace,
        totals: &Totals,
        loss_scale: f64,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let (observation, tensors) = self.backward_of_rank(rank, place, totals, loss_scale)?;
        self.hand_over(tensors, gradients)?;
        Ok(observation)
    }

    fn step_from(
        &mut self,
        gradient: &TensorSet,
        observation: Observation,
    ) -> Result<StepReport, SubjectError> {
        check_gradient(self, gradient)?;
        Ok(self.step_of_ranks(gradient, observation)?)
    }
}

impl LoadParameters for Torch {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.parameters.load(parameters)?;
        self.started = None;
        self.begun = None;
        Ok(())
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        Ok(self.parameters.set(name, values)?)
    }
}

impl TokenLosses for Torch {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(batch)?;
        Ok(self.plain_token_losses(batch)?)
    }
}
