use lossproof::{
    Count, GlobalBatch, GradientSink, GradientView, Limits, LossSpec, MicroBatch, Observation, ParameterInfo,
    Sequence, Subject, SubjectError, SubjectInfo,
};
use tiny_trainer::{Average, PARAMETERS, POSITIONS, Row, Tensors, Trainer, VOCABULARY};

struct Adapter(Trainer);

impl Subject for Adapter {
    fn info(&self) -> SubjectInfo {
        let model = Limits::of_model(VOCABULARY, POSITIONS);
        // One process, and rows that are neither padded nor packed.
        let limits = Limits { ranks: Count::exactly(1), segments: false, ..model };
        SubjectInfo::of_one("tiny trainer", "0.1.0", "plain Rust", LossSpec::token_mean(), limits)
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        PARAMETERS.iter().map(|(name, shape)| parameter(name, shape)).collect()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.0.restart();
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let window: Vec<_> = batch.micro_batches().map(rows).collect();
        let (loss, gradient) = self.0.gradient(&window);
        hand_over(&gradient, gradients)?;
        Ok(Observation::new(loss.into(), None))
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        Some(self)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        Some(self)
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        Some(self)
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        Some(self)
    }

    // What else the trainer can do comes here.
}

fn parameter(name: &str, shape: &[usize]) -> ParameterInfo {
    let role = match name {
        "embedding" => Role::TokenEmbedding,
        "positions" => Role::PositionEmbedding,
        "norm.gain" => Role::FinalNormGain,
        _ => Role::FinalNormBias,
    };
    // The embedding is the head, too.
    let tied_to = (name == "embedding").then(|| "head".to_owned());
    ParameterInfo { role, tied_to, ..ParameterInfo::named(name, shape) }
}

fn rows(micro_batch: &MicroBatch) -> Vec<Row> {
    micro_batch.sequences().iter().map(row).collect()
}

fn row(sequence: &Sequence) -> Row {
    Row {
        tokens: sequence.input_ids().iter().map(|&token| token as usize).collect(),
        // An ignored label is -100.
        labels: sequence.labels().iter().map(|&label| usize::try_from(label).ok()).collect(),
    }
}

fn hand_over(tensors: &Tensors, sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
    for ((name, shape), values) in PARAMETERS.iter().zip(tensors) {
        sink.receive(name, shape, GradientView::F32(values))?;
    }
    Ok(())
}

fn tiny() -> Result<Box<dyn Subject>, SubjectError> {
    Ok(Box::new(Adapter(Trainer::new(Average::Tokens))))
}

lossproof::conformance! {
    files: "fixtures/cases",
    "tiny": tiny, cases: 16;
}

use lossproof::TokenLosses;

impl TokenLosses for Adapter {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let mut all = Vec::new();
        for sequence in batch.sequences() {
            // Of ignored labels too.
            let labels = sequence.targets().iter().map(|&target| Some(target as usize)).collect();
            all.push(Row { labels, ..row(sequence) });
        }
        Ok(self.0.token_losses(&all).into_iter().map(f64::from).collect())
    }
}

use lossproof::{LoadParameters, TensorSet};

impl LoadParameters for Adapter {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.0.load(PARAMETERS.map(|(name, _)| rounded(&parameters[name].to_f64())));
        Ok(())
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        for ((own, _), tensor) in PARAMETERS.iter().zip(self.0.parameters_mut()) {
            if *own == name {
                *tensor = rounded(values);
            }
        }
        Ok(())
    }
}

fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

use lossproof::Role;

use lossproof::{Optimizer, OptimizerSteps, StepReport, Unsupported};
use tiny_trainer::Settings;

impl OptimizerSteps for Adapter {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        let refused = || Unsupported::new("tiny trainer", format!("{:?}", optimizer.rule));
        self.0.start(settings(optimizer).ok_or_else(refused)?);
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let window: Vec<_> = batch.micro_batches().map(rows).collect();
        let refused = || SubjectError::failed("tiny trainer", "there is no optimizer");
        let log = self.0.step(&window).ok_or_else(refused)?;
        let norms: Vec<f64> = log.norms.into_iter().map(f64::from).collect();
        Ok(StepReport {
            observation: Observation::new(log.loss.into(), None),
            learning_rate: log.learning_rate.into(),
            grad_norm: norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt(),
            tensor_norms: norms,
            clip_factor: log.clip_factor.into(),
            skipped: false,
        })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        hand_over(self.0.parameters(), parameters)
    }
}

/// What the trainer has of an optimizer: AdamW whose decay reaches matrices alone, without a loss scale.
fn settings(declared: &Optimizer) -> Option<Settings> {
    let adam = declared.usual_adam_w()?;
    Some(Settings {
        learning_rate: declared.learning_rate as f32,
        warm_up: declared.warm_up,
        betas: [adam.beta_1 as f32, adam.beta_2 as f32],
        epsilon: adam.epsilon as f32,
        weight_decay: adam.weight_decay as f32,
        clip: declared.clip.map(|clip| [clip.max_norm as f32, clip.epsilon as f32]),
    })
}

use lossproof::{Evaluated, Evaluation};

impl Evaluation for Adapter {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let batches: Vec<_> = batches.iter().map(rows).collect();
        let seen = self.0.validate(&batches);
        Ok(Evaluated { loss: seen.loss, perplexity: seen.perplexity, tokens: seen.tokens })
    }
}

use lossproof::UpstreamWeights;

impl UpstreamWeights for Adapter {
    fn backward(
        &mut self,
        batch: &GlobalBatch,
        weights: &[f64],
        gradients: &mut dyn GradientSink,
    ) -> Result<f64, SubjectError> {
        let rows: Vec<_> = batch.sequences().map(row).collect();
        let (loss, gradient) = self.0.weighted_gradient(&rows, &rounded(weights));
        hand_over(&gradient, gradients)?;
        Ok(loss.into())
    }
}
