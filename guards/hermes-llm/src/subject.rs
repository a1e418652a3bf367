//! The trainer as a subject: its card, its parameters, backward passes and steps.

use crate::{
    NAME, Steps, failed,
    model::{Model, Rows, block, pico, rows},
    shipped::Shipped,
    training::{self, Training},
    written_out::{self, Window, WrittenOut},
};
use hermes_llm::config::TrainingConfig;
use lossproof::{
    Adam, Count, Decayed, EpsilonPlacement, GlobalBatch, GradientSink, GradientView, Limits, LoadParameters,
    LossSpec, Observation, Optimizer, OptimizerSteps, ParameterInfo, Role, Rule, Sequence, StepReport,
    Subject, SubjectError, SubjectInfo, TensorSet, TokenLosses, Unsupported,
};
use lossproof_subject::{ModelInfo, TrainingLoop, TrainingPlan, TrainingTrace, probe_initial_of};
use std::collections::BTreeMap;

pub(crate) struct Hermes {
    steps: Steps,
    model: Model,
    /// What [`Subject::reset`] returns to.
    initial: BTreeMap<String, Vec<f32>>,
    running: Option<Running>,
    /// The last checkpoint of a training.
    saved: Option<Model>,
}

/// An optimizer that was started.
struct Running {
    declared: Optimizer,
    trainer: Trainer,
}

enum Trainer {
    Shipped(Box<Shipped>),
    WrittenOut(Box<WrittenOut>),
}

impl Hermes {
    pub(crate) fn new(steps: Steps) -> Result<Self, SubjectError> {
        let model = Model::new(&pico())?;
        let drawn = probe_initial_of(&model.parameters(), 1);
        let initial = drawn.iter().map(|(name, tensor)| (name.clone(), rounded(&tensor.to_f64()))).collect();
        let mut new = Self { steps, model, initial, running: None, saved: None };
        new.reset()?;
        Ok(new)
    }

    /// The layers that are frozen whatever is asked for.
    fn frozen(&self) -> usize {
        usize::from(self.steps == Steps::Frozen)
    }

    /// Whether the release says that it freezes this parameter.
    fn is_frozen(&self, info: &ParameterInfo) -> bool {
        is_of_the_first(self.frozen(), info)
    }

    /// How many layers are to be frozen so that these parameters are, and no others.
    fn layers_of(&self, plan: &TrainingPlan) -> Option<usize> {
        (self.frozen()..=pico().num_layers).find(|&layers| {
            let trained = self.trained();
            let frozen = trained.iter().filter(|info| is_of_the_first(layers, info));
            frozen.map(|info| &info.name).eq(&plan.frozen)
        })
    }

    /// The release's settings for a plan, and how many layers are frozen.
    fn training(&self, plan: &TrainingPlan) -> Result<(TrainingConfig, usize), Unsupported> {
        let unsupported = |what: String| Unsupported::new(NAME, what);
        if let Some(what) = training::lacking(plan) {
            return Err(unsupported(what));
        }
        let limits = self.limits();
        if !limits.sequences.contains(plan.batch) || !limits.micro_batches.contains(plan.accumulate) {
            let what = format!("updates of {} micro-batches of {} samples", plan.accumulate, plan.batch);
            return Err(unsupported(what));
        }
        let other = || unsupported("freezing parameters but the embedding and the first layers".to_owned());
        let layers = self.layers_of(plan).ok_or_else(other)?;
        let declared = Optimizer { rule: plan.rule, clip: plan.clip, ..Optimizer::sgd(plan.learning_rate) };
        let settings = Self::settings(&declared).ok_or_else(|| unsupported(format!("{declared:?}")))?;
        let settings = TrainingConfig {
            gradient_accumulation_steps: plan.accumulate,
            batch_size: plan.batch,
            epochs: plan.epochs as usize,
            ..settings
        };
        Ok((settings, layers))
    }

    /// Trains from these parameters, and keeps a checkpoint of where it ends.
    fn run(
        &mut self,
        plan: &TrainingPlan,
        start: &Model,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.running = None;
        let (settings, frozen) = self.training(plan).map_err(failed)?;
        let (config, read) = (pico(), self.trained());
        let training = Training { config: &config, settings, frozen, plan, start, read: &read };
        let trace = training.run(&mut self.model, stop_after)?;
        self.saved = Some(self.model.copy(&config)?);
        Ok(trace)
    }

    fn trained(&self) -> Vec<ParameterInfo> {
        self.model.parameters().into_iter().filter(|info| !self.is_frozen(info)).collect()
    }

    fn limits(&self) -> Limits {
        let config = pico();
        let written_out = self.steps == Steps::WrittenOut;
        let longest = config.max_seq_len;
        Limits {
            vocabulary: config.vocab_size,
            positions: longest,
            // Rows of a tensor have one length.
            lengths: if written_out { Count::exactly(longest) } else { Count { least: 2, most: longest } },
            ignore_index: false,
            // The release's loader makes labels of tokens.
            free_labels: written_out,
            segments: false,
            // Its micro-batches have one size.
            sequences: Count::exactly(if written_out { 2 } else { 1 }),
            micro_batches: if written_out { Count::ANY } else { Count::exactly(1) },
            ranks: Count::exactly(1),
        }
    }

    fn window(&self, batch: &GlobalBatch) -> Result<Window, SubjectError> {
        self.limits().check(batch)?;
        let micro_batches = batch.micro_batches().map(|micro_batch| rows_of(micro_batch.sequences()));
        written_out::forward(&self.model, &micro_batches.collect::<Result<Vec<_>, _>>()?)
    }

    fn parameter(&self, name: &str) -> Result<ParameterInfo, SubjectError> {
        let found = self.trained().into_iter().find(|info| info.name == name);
        found.ok_or_else(|| refused(name, "there is no such parameter"))
    }

    /// The release's settings for this optimizer, where it has it.
    fn settings(declared: &Optimizer) -> Option<TrainingConfig> {
        let zero = |value: f64| value.to_bits() == 0.0_f64.to_bits();
        let adam = match declared.rule {
            Rule::AdamW(adam) => adam,
            // Without decay the two are one.
            Rule::Adam(adam) if zero(adam.weight_decay) => adam,
            _ => return None,
        };
        let Adam { beta_1, beta_2, epsilon, epsilon_placement, weight_decay, decayed } = adam;
        let has = zero(epsilon - 1e-8)
            && epsilon_placement == EpsilonPlacement::AfterCorrection
            && (decayed == Decayed::All || zero(weight_decay))
            && declared.clip.is_none_or(|clip| clip.epsilon <= 1e-6)
            && declared.warm_up <= 1
            && zero(declared.loss_scale - 1.0);
        has.then(|| TrainingConfig {
            learning_rate: declared.learning_rate,
            weight_decay,
            beta1: beta_1,
            beta2: beta_2,
            grad_clip: declared.clip.map_or(0.0, |clip| clip.max_norm),
            ..TrainingConfig::default()
        })
    }

    fn trainer(&self, training: TrainingConfig) -> Result<Trainer, SubjectError> {
        let frozen = self.frozen();
        Ok(match self.steps {
            Steps::WrittenOut => Trainer::WrittenOut(Box::new(WrittenOut::new(&training, &self.model)?)),
            _ => Trainer::Shipped(Box::new(Shipped::new(&pico(), training, &self.model, frozen)?)),
        })
    }
}

/// Whether a parameter is of the first so many layers, of which the token embedding is one.
fn is_of_the_first(layers: usize, info: &ParameterInfo) -> bool {
    layers > 0 && (info.role == Role::TokenEmbedding || block(&info.name).is_some_and(|own| own < layers))
}

fn rows_of(sequences: &[Sequence]) -> Result<Rows, SubjectError> {
    let inputs: Vec<&[u32]> = sequences.iter().map(|one| &one.input_ids()[..one.len() - 1]).collect();
    let labels: Vec<&[u32]> = sequences.iter().map(|one| &one.targets()[1..]).collect();
    rows(&inputs, &labels)
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

impl Subject for Hermes {
    fn info(&self) -> SubjectInfo {
        let card = SubjectInfo::of_one(NAME, "1.3.2", "candle 0.9.2", LossSpec::token_mean(), self.limits());
        let frozen = self.model.parameters().into_iter().filter(|info| self.is_frozen(info)).collect();
        SubjectInfo { model: ModelInfo { frozen, ..ModelInfo::default() }, ..card }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.trained()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.running = None;
        let model = &mut self.model;
        self.initial.iter().try_for_each(|(name, values)| model.set(name, values))
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let Window { logged, last } = self.window(batch)?;
        let computed = self.model.gradients(&last)?;
        for ParameterInfo { name, shape, .. } in self.trained() {
            gradients.receive(&name, &shape, GradientView::F32(&computed[&name]))?;
        }
        Ok(Observation { loss: logged, token_losses: None, supervised_tokens: None })
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

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        Some(self)
    }
}

impl LoadParameters for Hermes {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        for name in parameters.keys() {
            self.parameter(name)?;
        }
        let mut taken = Vec::new();
        for ParameterInfo { name, shape, .. } in self.trained() {
            let tensor = parameters.get(&name).ok_or_else(|| refused(&name, "is missing"))?;
            if *tensor.shape() != shape[..] {
                return Err(refused(&name, &format!("has shape {:?}, expected {shape:?}", tensor.shape())));
            }
            let values = rounded(&tensor.to_f64());
            if !values.iter().all(|value| value.is_finite()) {
                return Err(refused(&name, "is not finite"));
            }
            taken.push((name, values));
        }
        self.initial.extend(taken);
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let elements: usize = self.parameter(name)?.shape.iter().product();
        if values.len() != elements {
            return Err(refused(name, &format!("got {} values, expected {elements}", values.len())));
        }
        self.model.set(name, &rounded(values))
    }
}

impl TokenLosses for Hermes {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        self.limits().check(batch)?;
        let mut losses = Vec::new();
        for sequence in batch.sequences() {
            losses.extend(self.model.token_losses(&rows_of(std::slice::from_ref(sequence))?)?);
        }
        Ok(losses)
    }
}

impl OptimizerSteps for Hermes {
    fn start(&mut self, declared: &Optimizer) -> Result<(), Unsupported> {
        self.running = None;
        let unsupported = || Unsupported::new(NAME, format!("{declared:?}"));
        let training = Self::settings(declared).ok_or_else(unsupported)?;
        let trainer = self.trainer(training).map_err(|_| unsupported())?;
        self.running = Some(Running { declared: *declared, trainer });
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let Window { logged, last } = self.window(batch)?;
        let computed = self.model.gradients(&last)?;
        let names = self.trained().into_iter().map(|info| info.name);
        let tensor_norms: Vec<f64> =
            names.map(|name| norm(computed[&name].iter().copied().map(f64::from))).collect();
        let grad_norm = norm(tensor_norms.iter().copied());
        let running = self.running.as_mut().ok_or_else(|| failed("no optimizer was started"))?;
        let loss = match &mut running.trainer {
            Trainer::WrittenOut(trainer) => trainer.step(&self.model, &last).map(|()| logged)?,
            Trainer::Shipped(trainer) => {
                let texts = batch.sequences().map(Sequence::input_ids);
                let text = texts.collect::<Vec<_>>().concat();
                trainer.epoch(&mut self.model, &text, text.len() - 1, 1)?
            }
        };
        let declared = running.declared;
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
        self.trained().iter().try_for_each(|info| self.model.hand_over(&info.name, parameters))
    }
}

impl TrainingLoop for Hermes {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        self.training(plan).map(|_| ())
    }

    fn resumes(&mut self) -> bool {
        true
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        let start = self.model.copy(&pico())?;
        self.run(plan, &start, stop_after)
    }

    /// The same training with `--checkpoint`: it begins anew from the parameters that were saved.
    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        let saved = self.saved.take().ok_or_else(|| failed("there is no checkpoint: train first"))?;
        self.run(plan, &saved, stop_after)
    }
}
