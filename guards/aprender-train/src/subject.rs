//! The trainer as a subject: its card, its parameters, backward passes and steps.

use crate::{
    NAME, Rows, failed,
    model::{self, Values, WINDOW, pico},
};
use entrenar::{
    train::{TransformerTrainConfig, TransformerTrainer},
    transformer::TransformerConfig,
};
use lossproof::{
    Adam, Combine, Count, Decayed, EpsilonPlacement, GlobalBatch, GradientSink, GradientView, Limits,
    LoadParameters, LossSpec, Observation, Optimizer, OptimizerSteps, ParameterInfo, Reduction, Rule, Scope,
    StepReport, Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
};
use lossproof_subject::probe_initial_of;

pub(crate) struct Aprender {
    config: TransformerConfig,
    rows: Rows,
    parameters: Vec<ParameterInfo>,
    /// What [`Subject::reset`] returns to.
    initial: Values,
    current: Values,
    running: Option<(TransformerTrainer, Optimizer)>,
}

impl Aprender {
    pub(crate) fn new(blocks: usize, rows: Rows) -> Result<Self, SubjectError> {
        let config = pico(blocks);
        let parameters = model::parameters(&config)?;
        let drawn = probe_initial_of(&parameters, 1);
        let initial: Values =
            drawn.iter().map(|(name, tensor)| (name.clone(), rounded(&tensor.to_f64()))).collect();
        Ok(Self { config, rows, parameters, current: initial.clone(), initial, running: None })
    }

    fn limits(&self) -> Limits {
        let longest = self.config.max_position_embeddings;
        Limits {
            vocabulary: self.config.vocab_size,
            positions: longest,
            lengths: match self.rows {
                Rows::Even => Count::exactly(longest),
                Rows::Ragged | Rows::Single => Count { least: 2, most: longest },
            },
            ignore_index: false,
            free_labels: self.rows == Rows::Single,
            segments: false,
            sequences: if self.rows == Rows::Single { Count::exactly(1) } else { Count::ANY },
            micro_batches: Count::exactly(WINDOW),
            ranks: Count::exactly(1),
        }
    }

    fn settings(&self) -> TransformerTrainConfig {
        let mut settings = TransformerTrainConfig::new(self.config.clone())
            .with_accumulation_steps(WINDOW)
            .with_use_cuda(false);
        settings.base.max_grad_norm = None;
        settings
    }

    /// Loss and gradient of a window. The trainer is one that nobody sees after its step.
    fn differentiated(&self, batch: &GlobalBatch) -> Result<(f64, Values), SubjectError> {
        self.limits().check(batch)?;
        let mut trainer = model::trainer(self.settings(), &self.current);
        let loss = model::window(&mut trainer, self.rows, batch.micro_batches())?;
        Ok((loss, model::gradients(&trainer)))
    }

    fn parameter(&self, name: &str) -> Result<&ParameterInfo, SubjectError> {
        let found = self.parameters.iter().find(|info| info.name == name);
        found.ok_or_else(|| refused(name, "there is no such parameter"))
    }

    /// The release's settings for this optimizer, where it has it.
    #[expect(clippy::cast_possible_truncation, reason = "the release's settings are in f32")]
    fn settings_of(&self, declared: &Optimizer) -> Option<TransformerTrainConfig> {
        let zero = |value: f64| value.to_bits() == 0.0_f64.to_bits();
        let adam = match declared.rule {
            Rule::AdamW(adam) => adam,
            // Without decay the two are one.
            Rule::Adam(adam) if zero(adam.weight_decay) => adam,
            _ => return None,
        };
        let Adam { beta_1, beta_2, epsilon, epsilon_placement, weight_decay, decayed } = adam;
        let has = zero(epsilon - 1e-8)
            && epsilon_placement == EpsilonPlacement::BeforeCorrection
            && (decayed == Decayed::All || zero(weight_decay))
            && declared.clip.is_none_or(|clip| clip.epsilon <= 1e-6)
            && declared.warm_up <= 1
            && zero(declared.loss_scale - 1.0);
        let mut settings = self.settings();
        settings.lr = declared.learning_rate as f32;
        settings.beta1 = beta_1 as f32;
        settings.beta2 = beta_2 as f32;
        settings.weight_decay = weight_decay as f32;
        settings.base.max_grad_norm = declared.clip.map(|clip| clip.max_norm as f32);
        has.then_some(settings)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "values are rounded to what it computes in")]
fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn refused(name: &str, problem: &str) -> SubjectError {
    SubjectError::Parameter { name: name.to_owned(), problem: problem.to_owned() }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

impl Subject for Aprender {
    fn info(&self) -> SubjectInfo {
        let claim = LossSpec {
            reduction: Reduction::SequenceMean,
            scope: Scope::MicroBatch,
            micro_batches: Combine::Average,
            ..LossSpec::token_mean()
        };
        SubjectInfo::of_one(NAME, "0.72.3", "aprender-train 0.72.3", claim, self.limits())
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.clone()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.running = None;
        self.current = self.initial.clone();
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let (loss, computed) = self.differentiated(batch)?;
        for ParameterInfo { name, shape, .. } in &self.parameters {
            gradients.receive(name, shape, GradientView::F32(&computed[name]))?;
        }
        Ok(Observation { loss, token_losses: None, supervised_tokens: None })
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }
}

impl LoadParameters for Aprender {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        for name in parameters.keys() {
            self.parameter(name)?;
        }
        let mut initial = Values::new();
        for ParameterInfo { name, shape, .. } in &self.parameters {
            let tensor = parameters.get(name).ok_or_else(|| refused(name, "is missing"))?;
            if tensor.shape() != shape {
                return Err(refused(name, &format!("has shape {:?}, expected {shape:?}", tensor.shape())));
            }
            let values = rounded(&tensor.to_f64());
            if !values.iter().all(|value| value.is_finite()) {
                return Err(refused(name, "is not finite"));
            }
            initial.insert(name.clone(), values);
        }
        self.initial = initial;
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let elements: usize = self.parameter(name)?.shape.iter().product();
        if values.len() != elements {
            return Err(refused(name, &format!("got {} values, expected {elements}", values.len())));
        }
        self.current.insert(name.to_owned(), rounded(values));
        Ok(())
    }
}

impl TokenLosses for Aprender {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(batch)?;
        let trainer = model::trainer(self.settings(), &self.current);
        Ok(batch.sequences().flat_map(|sequence| model::token_losses(&trainer, sequence)).collect())
    }
}

impl OptimizerSteps for Aprender {
    fn start(&mut self, declared: &Optimizer) -> Result<(), Unsupported> {
        self.running = None;
        let unsupported = || Unsupported::new(NAME, format!("{declared:?}"));
        let settings = self.settings_of(declared).ok_or_else(unsupported)?;
        self.running = Some((model::trainer(settings, &self.current), *declared));
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let (_, computed) = self.differentiated(batch)?;
        let of = |info: &ParameterInfo| norm(computed[&info.name].iter().copied().map(f64::from));
        let tensor_norms: Vec<f64> = self.parameters.iter().map(of).collect();
        let grad_norm = norm(tensor_norms.iter().copied());
        let (trainer, declared) = self.running.as_mut().ok_or_else(|| failed("no optimizer was started"))?;
        model::put(trainer, &self.current);
        let loss = model::window(trainer, self.rows, batch.micro_batches())?;
        self.current = model::read(trainer);
        Ok(StepReport {
            observation: Observation { loss, token_losses: None, supervised_tokens: None },
            learning_rate: declared.learning_rate,
            grad_norm,
            tensor_norms,
            clip_factor: declared.clip.map_or(1.0, |clip| clip.factor(grad_norm)),
            skipped: false,
        })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        for ParameterInfo { name, shape, .. } in &self.parameters {
            parameters.receive(name, shape, GradientView::F32(&self.current[name]))?;
        }
        Ok(())
    }
}
