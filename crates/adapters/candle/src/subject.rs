//! The adapter: a [`Trainer`] as a [`Subject`](subject::Subject) with loading, token losses, steps and
//! validation.

use crate::{
    AdamWConfig, Architecture, Example, Mean, POSITIONS, Precision, Settings, Trainer, VOCABULARY, Validated,
};
use candle_core::{DType, Device, Error, Tensor};
use lossproof_spec::{self as spec, GlobalBatch, LossSpec, MicroBatch, Sequence};
use lossproof_subject as subject;
use std::collections::BTreeMap;
use subject::{
    GradientSink, GradientView, Limits, Observation, ParameterInfo, Subject as _, SubjectError, SubjectInfo,
};

pub(crate) struct Candle(pub(crate) Trainer);

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn failed(error: Error) -> SubjectError {
    SubjectError::Failed { subject: "candle".to_owned(), message: error.to_string() }
}

fn example(sequence: &Sequence, labels: Vec<i64>) -> Example {
    let fields = [sequence.input_ids(), sequence.position_ids(), sequence.segment_ids()];
    let [tokens, positions, documents] = fields.map(<[u32]>::to_vec);
    Example { tokens, labels, positions, documents }
}

fn rows(batch: &MicroBatch) -> Vec<Example> {
    batch.sequences().iter().map(|sequence| example(sequence, sequence.labels().to_vec())).collect()
}

fn hand_over(name: &str, tensor: &Tensor, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
    let flat = tensor.flatten_all().map_err(failed)?;
    if flat.dtype() == DType::F64 {
        sink.receive(name, tensor.dims(), GradientView::F64(&flat.to_vec1().map_err(failed)?))?;
    } else {
        sink.receive(name, tensor.dims(), GradientView::F32(&flat.to_vec1().map_err(failed)?))?;
    }
    Ok(())
}

impl Candle {
    fn window(&self, batch: &GlobalBatch) -> Result<Vec<Vec<Example>>, SubjectError> {
        self.info().limits.check(batch)?;
        Ok(batch.micro_batches().map(rows).collect())
    }
}

impl subject::Subject for Candle {
    fn info(&self) -> SubjectInfo {
        let Settings { mean, precision, .. } = self.0.settings();
        let claim = match mean {
            Mean::OfTokens => LossSpec::token_mean(),
            Mean::OfMicroBatches => LossSpec::naive_accumulated_mean(),
        };
        let limits = Limits { ranks: subject::Count::exactly(1), ..Limits::of_model(VOCABULARY, POSITIONS) };
        let dtype = if precision == Precision::Double { spec::Dtype::F64 } else { spec::Dtype::F32 };
        let card = SubjectInfo::of_one("candle", "0.11.1", "candle 0.11.1", claim, limits);
        SubjectInfo { dtypes: spec::Dtypes::all(dtype), ..card }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        let tied = self.0.settings().architecture == Architecture::Gpt2;
        let infos = self.0.parameters().iter().map(|(name, variable)| ParameterInfo {
            tied_to: (tied && name == "wte.weight").then(|| "lm_head.weight".to_owned()),
            ..ParameterInfo::named(name, variable.dims())
        });
        infos.collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.0.restart().map_err(failed)
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        sink: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let window = self.window(batch)?;
        let (logged, gradient) = self.0.gradient(&window).map_err(failed)?;
        gradient.iter().try_for_each(|(name, tensor)| hand_over(name, tensor, sink))?;
        Ok(Observation { loss: logged.loss, token_losses: None, supervised_tokens: Some(logged.tokens) })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn subject::LoadParameters> {
        Some(self)
    }
    fn token_losses(&mut self) -> Option<&mut dyn subject::TokenLosses> {
        Some(self)
    }
    fn optimizer_steps(&mut self) -> Option<&mut dyn subject::OptimizerSteps> {
        Some(self)
    }
    fn evaluation(&mut self) -> Option<&mut dyn subject::Evaluation> {
        Some(self)
    }
}

impl subject::LoadParameters for Candle {
    fn load(&mut self, parameters: &subject::TensorSet) -> Result<(), SubjectError> {
        let mut checkpoint = BTreeMap::new();
        for (name, tensor) in parameters {
            let values = Tensor::from_vec(tensor.to_f64(), tensor.shape(), &Device::Cpu).map_err(failed)?;
            checkpoint.insert(name.clone(), values);
        }
        self.0.load(checkpoint).map_err(failed)
    }
    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        self.0.parameters().set(name, values).map_err(failed)
    }
}

impl subject::TokenLosses for Candle {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let all = |s: &Sequence| example(s, s.targets().iter().copied().map(i64::from).collect());
        let rows: Vec<Example> = batch.sequences().map(all).collect();
        Ok(self.0.token_losses(&rows).map_err(failed)?.concat())
    }
}

impl subject::OptimizerSteps for Candle {
    fn start(&mut self, declared: &spec::Optimizer) -> Result<(), subject::Unsupported> {
        let config = adam_w(declared).filter(|&config| self.0.start(Some(config)).is_ok());
        let (subject, what) = ("candle".to_owned(), format!("{declared:?}"));
        config.map(|_| ()).ok_or(subject::Unsupported { subject, what })
    }
    fn step(&mut self, batch: &GlobalBatch) -> Result<subject::StepReport, SubjectError> {
        let window = self.window(batch)?;
        let log = self.0.step(&window).map_err(failed)?;
        let (loss, supervised_tokens) = (log.window.loss, Some(log.window.tokens));
        Ok(subject::StepReport {
            observation: Observation { loss, token_losses: None, supervised_tokens },
            learning_rate: log.learning_rate,
            grad_norm: log.norm,
            tensor_norms: log.norms,
            clip_factor: log.clip_factor,
            skipped: false,
        })
    }
    fn read(&mut self, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.0.parameters().iter().try_for_each(|(name, variable)| hand_over(name, variable, sink))
    }
}

impl subject::Evaluation for Candle {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<subject::Evaluated, SubjectError> {
        let batches: Vec<_> = batches.iter().map(rows).collect();
        let Validated { loss, perplexity, tokens } = self.0.validate(&batches).map_err(failed)?;
        Ok(subject::Evaluated { loss, perplexity, tokens })
    }
}

/// What this trainer has of a declared optimizer: `AdamW` whose decay reaches matrices alone, without a loss
/// scale.
fn adam_w(declared: &spec::Optimizer) -> Option<AdamWConfig> {
    let spec::Rule::AdamW(adam) = declared.rule else { return None };
    let matrices = adam.decayed == spec::Decayed::Matrices || adam.weight_decay <= 0.0;
    let after = adam.epsilon_placement == spec::EpsilonPlacement::AfterCorrection;
    (matrices && after && declared.loss_scale.to_bits() == 1.0_f64.to_bits()).then(|| AdamWConfig {
        learning_rate: declared.learning_rate,
        warm_up: declared.warm_up,
        last_step: None,
        betas: [adam.beta_1, adam.beta_2],
        epsilon: adam.epsilon,
        weight_decay: adam.weight_decay,
        clip: declared.clip.map(|clip| [clip.max_norm, clip.epsilon]),
    })
}
