//! The adapter: a [`Trainer`] as a [`Subject`](subject::Subject) with loading, token losses, steps and
//! validation.

use crate::{
    AdamWConfig, Architecture, Example, Mean, POSITIONS, Precision, Settings, Trainer, VOCABULARY, Validated,
};
use candle_core::{DType, Device, Error, Tensor};
use lossproof_spec::{Dtype, Dtypes, GlobalBatch, LossSpec, MicroBatch, Optimizer, Sequence};
use lossproof_subject as subject;
use subject::{GradientSink, GradientView, Limits, Observation, ParameterInfo, SubjectError, SubjectInfo};

type Answer<T> = Result<T, SubjectError>;

pub(crate) struct Candle(pub(crate) Trainer);

pub(crate) fn failed(error: Error) -> SubjectError {
    SubjectError::failed("candle", error)
}

fn example(sequence: &Sequence, labels: Vec<i64>) -> Example {
    let fields = [sequence.input_ids(), sequence.position_ids(), sequence.segment_ids()];
    let [tokens, positions, documents] = fields.map(<[u32]>::to_vec);
    Example { tokens, labels, positions, documents }
}

fn rows(batch: &MicroBatch) -> Vec<Example> {
    batch.sequences().iter().map(|sequence| example(sequence, sequence.labels().to_vec())).collect()
}

fn window(batch: &GlobalBatch) -> Vec<Vec<Example>> {
    batch.micro_batches().map(rows).collect()
}

fn hand_over(name: &str, tensor: &Tensor, sink: &mut dyn GradientSink) -> Answer<()> {
    let (flat, shape) = (tensor.flatten_all().map_err(failed)?, tensor.dims());
    Ok(if flat.dtype() == DType::F64 {
        sink.receive(name, shape, GradientView::F64(&flat.to_vec1().map_err(failed)?))
    } else {
        sink.receive(name, shape, GradientView::F32(&flat.to_vec1().map_err(failed)?))
    }?)
}

impl subject::Subject for Candle {
    fn info(&self) -> SubjectInfo {
        let Settings { mean, precision, .. } = self.0.settings();
        let claim = match mean {
            Mean::OfTokens => LossSpec::token_mean(),
            Mean::OfMicroBatches => LossSpec::naive_accumulated_mean(),
        };
        let limits = Limits { ranks: subject::Count::exactly(1), ..Limits::of_model(VOCABULARY, POSITIONS) };
        let dtype = if precision == Precision::Double { Dtype::F64 } else { Dtype::F32 };
        let card = SubjectInfo::of_one("candle", "0.11.1", "candle 0.11.1", claim, limits);
        SubjectInfo { dtypes: Dtypes::all(dtype), ..card }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        let tied = self.0.settings().architecture == Architecture::Gpt2;
        let infos = self.0.parameters().iter().map(|(name, variable)| ParameterInfo {
            tied_to: (tied && name == "wte.weight").then(|| "lm_head.weight".to_owned()),
            ..ParameterInfo::named(name, variable.dims())
        });
        infos.collect()
    }

    fn reset(&mut self) -> Answer<()> {
        self.0.restart().map_err(failed)
    }

    fn accumulate(&mut self, batch: &GlobalBatch, sink: &mut dyn GradientSink) -> Answer<Observation> {
        let (logged, gradient) = self.0.gradient(&window(batch)).map_err(failed)?;
        gradient.iter().try_for_each(|(name, tensor)| hand_over(name, tensor, sink))?;
        Ok(Observation::new(logged.loss, Some(logged.tokens)))
    }

    subject::capabilities!(LoadParameters, TokenLosses, OptimizerSteps, Evaluation);
}

impl subject::LoadParameters for Candle {
    fn load(&mut self, parameters: &subject::TensorSet) -> Answer<()> {
        let checkpoint = parameters.iter().map(|(name, tensor)| {
            Ok((name.clone(), Tensor::from_vec(tensor.to_f64(), tensor.shape(), &Device::Cpu)?))
        });
        self.0.load(checkpoint.collect::<Result<_, _>>().map_err(failed)?).map_err(failed)
    }
    fn set(&mut self, name: &str, values: &[f64]) -> Answer<()> {
        self.0.parameters().set(name, values).map_err(failed)
    }
}

impl subject::TokenLosses for Candle {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Answer<Vec<f64>> {
        let all = |s: &Sequence| example(s, s.targets().iter().copied().map(i64::from).collect());
        Ok(self.0.token_losses(&batch.sequences().map(all).collect::<Vec<_>>()).map_err(failed)?.concat())
    }
}

impl subject::OptimizerSteps for Candle {
    fn start(&mut self, declared: &Optimizer) -> Result<(), subject::Unsupported> {
        let started = adam_w(declared).is_some_and(|config| self.0.start(Some(config)).is_ok());
        started.then_some(()).ok_or_else(|| subject::Unsupported::new("candle", format!("{declared:?}")))
    }
    fn step(&mut self, batch: &GlobalBatch) -> Answer<subject::StepReport> {
        let log = self.0.step(&window(batch)).map_err(failed)?;
        Ok(subject::StepReport {
            observation: Observation::new(log.window.loss, Some(log.window.tokens)),
            learning_rate: log.learning_rate,
            grad_norm: log.norm,
            tensor_norms: log.norms,
            clip_factor: log.clip_factor,
            skipped: false,
        })
    }
    fn read(&mut self, sink: &mut dyn GradientSink) -> Answer<()> {
        self.0.parameters().iter().try_for_each(|(name, variable)| hand_over(name, variable, sink))
    }
}

impl subject::Evaluation for Candle {
    fn validate(&mut self, batches: &[MicroBatch]) -> Answer<subject::Evaluated> {
        let batches: Vec<_> = batches.iter().map(rows).collect();
        let Validated { loss, perplexity, tokens } = self.0.validate(&batches).map_err(failed)?;
        Ok(subject::Evaluated { loss, perplexity, tokens })
    }
}

fn adam_w(declared: &Optimizer) -> Option<AdamWConfig> {
    let adam = declared.usual_adam_w()?;
    Some(AdamWConfig {
        learning_rate: declared.learning_rate,
        warm_up: declared.warm_up,
        last_step: None,
        betas: [adam.beta_1, adam.beta_2],
        epsilon: adam.epsilon,
        weight_decay: adam.weight_decay,
        clip: declared.clip.map(|clip| [clip.max_norm, clip.epsilon]),
    })
}
