//! A small trainer, written out: a bigram model in f64 with SGD and Adam, and the mistakes it can be given.
//!
//! The logits of a prediction are a row of a table, by the token that makes it, plus a bias. The trainer
//! keeps one buffer for its gradient, as frameworks do: whoever does not clear it finds there what was
//! accumulated before.

use lossproof_spec::{
    Adam, Dtype, Dtypes, EmptyPolicy, EpsilonPlacement, GlobalBatch, LossSpec, MicroBatch, Optimizer, Rule,
    Sequence, TokenWeights,
};
use lossproof_subject::{
    Claims, Device, Evaluated, Evaluation, GradientSink, GradientView, Limits, LoadParameters, LogPolicy,
    ModelInfo, Observation, OptimizerSteps, ParameterInfo, StepReport, Subject, SubjectError, SubjectInfo,
    TensorSet, TokenLosses, Unsupported,
};

/// Tokens of the vocabulary.
const VOCABULARY: usize = 7;
/// Elements of the table.
const TABLE: usize = VOCABULARY * VOCABULARY;
/// Parameters in all: the table, then the bias.
const PARAMETERS: usize = TABLE + VOCABULARY;
/// Names and shapes, in the order of the parameters.
const NAMES: [(&str, &[usize]); 2] =
    [("table.weight", &[VOCABULARY, VOCABULARY]), ("head.bias", &[VOCABULARY])];

/// What is wrong with the trainer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mistake {
    /// `step` leaves its gradient where it is, and adds the next one to it. `accumulate` clears before and
    /// after.
    StepNeverClears,
    /// The learning rate goes on rising after the warm-up.
    WarmUpNeverCapped,
    /// The step count advances on a skipped step, so that Adam corrects as for a later one.
    CountAdvancesOnSkip,
    /// The moments take in a gradient that is not finite, before the step is skipped.
    MomentsAdvanceOnSkip,
    /// The schedule advances on a skipped step.
    ScheduleAdvancesOnSkip,
    /// A gradient that is not finite stays in the buffer when its step is skipped.
    SkipNeverClears,
    /// Adam's ε is added after the correction where it is declared to stand before it.
    EpsilonAlwaysAfter,
    /// `step` logs this many times the loss.
    StepLogs(f64),
    /// `step` logs this loss whatever the batch.
    StepLogsConstant(f64),
    /// `step` reports a supervised token more than there are.
    StepCountsOneMore,
    /// `step` reports token losses in reverse.
    StepReversesTokenLosses,
    /// `accumulate` reports a supervised token more than there are.
    CountsOneMore,
    /// `accumulate` reports token losses that are this much too large.
    TokenLossesTooLarge(f64),
    /// The loss is logged by this policy, whatever is declared.
    LogsBy(LogPolicy),
    /// A validation divides by the supervised tokens of the last window of training.
    DividesByTraining,
}

/// Which Adam the trainer has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OfferedAdam {
    None,
    /// With ε after the correction alone.
    AfterCorrection,
    Any,
}

/// What the trainer has and declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Which loss it says it logs.
    pub(crate) log_policy: LogPolicy,
    /// Whether it takes parameters from outside.
    pub(crate) loads: bool,
    /// Whether it evaluates token losses.
    pub(crate) evaluates: bool,
    /// Which Adam it has.
    pub(crate) adam: OfferedAdam,
}

impl Offer {
    /// Everything, and the loss whose gradient is taken.
    pub(crate) const ALL: Self =
        Self { log_policy: LogPolicy::Window, loads: true, evaluates: true, adam: OfferedAdam::Any };
}

/// The trainer.
pub(crate) struct Bigram {
    offer: Offer,
    mistake: Option<Mistake>,
    spec: LossSpec,
    initial: Vec<f64>,
    parameters: Vec<f64>,
    buffer: Vec<f64>,
    optimizer: Option<State>,
    /// Supervised tokens of the last window.
    last_window: usize,
}

/// An optimizer in force.
struct State {
    declared: Optimizer,
    /// Steps of the schedule.
    scheduled: u32,
    /// Steps of the rule.
    count: i32,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Bigram {
    pub(crate) fn new(offer: Offer, mistake: Option<Mistake>) -> Self {
        let initial: Vec<f64> =
            (0..PARAMETERS).map(|index| ((index * 37 % 23) as f64 - 11.0) / 16.0).collect();
        Self {
            offer,
            mistake,
            spec: LossSpec::token_mean(),
            parameters: initial.clone(),
            initial,
            buffer: vec![0.0; PARAMETERS],
            optimizer: None,
            last_window: 1,
        }
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// `log Σ exp z` of the prediction made from a token, and its probabilities.
    fn softmax(&self, token: u32) -> (f64, [f64; VOCABULARY]) {
        let row = token as usize * VOCABULARY;
        let mut logits = [0.0; VOCABULARY];
        for (class, logit) in logits.iter_mut().enumerate() {
            *logit = self.parameters[row + class] + self.parameters[TABLE + class];
        }
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum_exp = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
        (log_sum_exp, logits.map(|logit| (logit - log_sum_exp).exp()))
    }

    /// The token loss of a prediction, under the spec in force.
    fn token_loss(&self, token: u32, target: u32) -> f64 {
        let (log_sum_exp, probabilities) = self.softmax(token);
        let epsilon = self.spec.label_smoothing;
        let mut loss = -(1.0 - epsilon) * probabilities[target as usize].ln();
        for probability in probabilities {
            loss -= epsilon / VOCABULARY as f64 * probability.ln();
        }
        loss + self.spec.z_loss * log_sum_exp * log_sum_exp
    }

    /// Adds `weight·∇ℓ` of a prediction to the buffer.
    fn backward(&mut self, token: u32, target: u32, weight: f64) {
        let (log_sum_exp, probabilities) = self.softmax(token);
        let epsilon = self.spec.label_smoothing;
        for (class, probability) in probabilities.into_iter().enumerate() {
            let label = if class == target as usize { 1.0 - epsilon } else { 0.0 };
            let of_logit = probability - label - epsilon / VOCABULARY as f64
                + 2.0 * self.spec.z_loss * log_sum_exp * probability;
            self.buffer[token as usize * VOCABULARY + class] += weight * of_logit;
            self.buffer[TABLE + class] += weight * of_logit;
        }
    }

    /// Forward and backward over a batch: adds the gradient of `loss_scale` times the loss to the buffer.
    fn run(&mut self, batch: &GlobalBatch, loss_scale: f64) -> Result<Observation, SubjectError> {
        let counted = LossSpec { empty: EmptyPolicy::ZeroCounted, ..self.spec };
        let weights = match TokenWeights::new(&self.spec, &batch.layout()) {
            Err(empty) if empty.nan => TokenWeights::new(&counted, &batch.layout())?,
            weights => weights?,
        };
        let weights = weights.per_prediction(batch);
        let sequences: Vec<&Sequence> = batch.sequences().collect();
        let mut token_losses = Vec::new();
        for (prediction, weight) in batch.predictions().zip(weights) {
            if prediction.supervised {
                let token = sequences[prediction.sequence].input_ids()[prediction.position];
                token_losses.push(self.token_loss(token, prediction.target));
                self.backward(token, prediction.target, weight * loss_scale);
            }
        }
        self.last_window = token_losses.len();
        Ok(Observation {
            loss: self.logged(batch)?,
            supervised_tokens: Some(token_losses.len()),
            token_losses: Some(token_losses),
        })
    }

    fn logged(&self, batch: &GlobalBatch) -> Result<f64, SubjectError> {
        let policy =
            if let Some(Mistake::LogsBy(policy)) = self.mistake { policy } else { self.offer.log_policy };
        let micro_batches = |of: &GlobalBatch| -> Vec<GlobalBatch> {
            of.micro_batches().cloned().map(GlobalBatch::of_micro_batch).collect()
        };
        let first_rank = GlobalBatch::new(vec![batch.ranks()[0].clone()]).unwrap();
        match policy {
            LogPolicy::Window => self.loss(batch),
            LogPolicy::FirstRank => self.loss(&first_rank),
            LogPolicy::LastMicroBatch => self.loss(micro_batches(&first_rank).last().unwrap()),
            LogPolicy::MeanOfMicroBatches => {
                let (mut total, mut count) = (0.0, 0.0);
                let skipping = self.spec.empty == EmptyPolicy::ZeroSkipped;
                for alone in micro_batches(batch) {
                    if !skipping || alone.layout().supervised() > 0 {
                        total += self.loss(&alone)?;
                        count += 1.0;
                    }
                }
                Ok(if count > 0.0 { total / count } else { 0.0 })
            }
        }
    }

    /// The loss of a batch by itself.
    fn loss(&self, batch: &GlobalBatch) -> Result<f64, SubjectError> {
        let weights = match TokenWeights::new(&self.spec, &batch.layout()) {
            Err(empty) if empty.nan => return Ok(f64::NAN),
            weights => weights?,
        };
        let mut total = 0.0;
        for (sequence, (weight, _)) in batch.sequences().zip(weights.sequences()) {
            for position in (0..sequence.len()).filter(|&position| sequence.supervises(position)) {
                let (token, target) = (sequence.input_ids()[position], sequence.targets()[position + 1]);
                total += lossproof_spec::to_f64(weight) * self.token_loss(token, target);
            }
        }
        Ok(total)
    }

    fn hand_over(values: &[f64], sink: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let (table, bias) = values.split_at(TABLE);
        for ((name, shape), values) in NAMES.into_iter().zip([table, bias]) {
            sink.receive(name, shape, GradientView::F64(values))?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.buffer.fill(0.0);
    }

    /// Adam's update of every parameter.
    fn adam(&mut self, numbers: &Adam, rate: f64, gradient: &[f64], decoupled: bool) {
        let before = numbers.epsilon_placement == EpsilonPlacement::BeforeCorrection
            && !self.is(Mistake::EpsilonAlwaysAfter);
        let Some(state) = &mut self.optimizer else { return };
        let correction_1 = 1.0 - numbers.beta_1.powi(state.count);
        let correction_2 = 1.0 - numbers.beta_2.powi(state.count);
        for (index, parameter) in self.parameters.iter_mut().enumerate() {
            let shape: &[usize] = if index < TABLE { NAMES[0].1 } else { NAMES[1].1 };
            let decay = if numbers.decayed.includes(shape) { numbers.weight_decay } else { 0.0 };
            let mut slope = gradient[index];
            if decoupled {
                *parameter *= 1.0 - rate * decay;
            } else {
                slope += decay * *parameter;
            }
            let (first, second) = (&mut state.first[index], &mut state.second[index]);
            *first = numbers.beta_1 * *first + (1.0 - numbers.beta_1) * slope;
            *second = numbers.beta_2 * *second + (1.0 - numbers.beta_2) * slope * slope;
            let denominator = if before {
                (second.sqrt() + numbers.epsilon) / correction_2.sqrt()
            } else {
                (*second / correction_2).sqrt() + numbers.epsilon
            };
            *parameter -= rate * (*first / correction_1) / denominator;
        }
    }

    fn update(&mut self, rate: f64, gradient: &[f64]) {
        let Some(state) = &mut self.optimizer else { return };
        match state.declared.rule {
            Rule::Sgd { momentum, weight_decay } => {
                for (index, parameter) in self.parameters.iter_mut().enumerate() {
                    let slope = gradient[index] + weight_decay * *parameter;
                    let velocity = &mut state.first[index];
                    *velocity = momentum * *velocity + slope;
                    *parameter -= rate * *velocity;
                }
            }
            Rule::Adam(numbers) => self.adam(&numbers, rate, gradient, false),
            Rule::AdamW(numbers) => self.adam(&numbers, rate, gradient, true),
        }
    }

    fn rate(&self, declared: &Optimizer, step: u32) -> f64 {
        let share = f64::from(step + 1) / f64::from(declared.warm_up.max(1));
        declared.learning_rate * if self.is(Mistake::WarmUpNeverCapped) { share } else { share.min(1.0) }
    }

    /// What a mistaken step says of its batch.
    fn misreport(&self, observation: &mut Observation) {
        match self.mistake {
            Some(Mistake::StepLogs(factor)) => observation.loss *= factor,
            Some(Mistake::StepLogsConstant(loss)) => observation.loss = loss,
            Some(Mistake::StepCountsOneMore) => {
                observation.supervised_tokens = observation.supervised_tokens.map(|count| count + 1);
            }
            Some(Mistake::StepReversesTokenLosses) => {
                observation.token_losses.iter_mut().for_each(|losses| losses.reverse());
            }
            _ => {}
        }
    }
}

impl Subject for Bigram {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: "bigram".to_owned(),
            version: "1".to_owned(),
            framework: "none".to_owned(),
            dtypes: Dtypes::all(Dtype::F64),
            device: Device::Cpu,
            claims: Claims::Any,
            limits: Limits::of_model(VOCABULARY, 32),
            log_policy: self.offer.log_policy,
            model: ModelInfo::default(),
        }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        NAMES.map(|(name, shape)| ParameterInfo::named(name, shape)).to_vec()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.parameters.clone_from(&self.initial);
        self.optimizer = None;
        self.clear();
        Ok(())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.clear();
        let mut observation = self.run(batch, 1.0)?;
        Self::hand_over(&self.buffer, gradients)?;
        self.clear();
        match self.mistake {
            Some(Mistake::CountsOneMore) => {
                observation.supervised_tokens = observation.supervised_tokens.map(|count| count + 1);
            }
            Some(Mistake::TokenLossesTooLarge(excess)) => {
                for loss in observation.token_losses.iter_mut().flatten() {
                    *loss += excess;
                }
            }
            _ => {}
        }
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.offer.loads { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.offer.evaluates { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        Some(self)
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        Some(self)
    }
}

impl LoadParameters for Bigram {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.initial = NAMES.iter().flat_map(|(name, _)| parameters[*name].to_f64()).collect();
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let range = if name == NAMES[0].0 { 0..TABLE } else { TABLE..PARAMETERS };
        self.parameters[range].copy_from_slice(values);
        Ok(())
    }
}

impl TokenLosses for Bigram {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        let mut losses = Vec::new();
        for sequence in batch.sequences() {
            for position in 0..sequence.len() - 1 {
                let (_, probabilities) = self.softmax(sequence.input_ids()[position]);
                losses.push(-probabilities[sequence.targets()[position + 1] as usize].ln());
            }
        }
        Ok(losses)
    }
}

impl OptimizerSteps for Bigram {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.optimizer = None;
        let offered = match optimizer.rule {
            Rule::Sgd { .. } => true,
            Rule::Adam(numbers) | Rule::AdamW(numbers) => match self.offer.adam {
                OfferedAdam::None => false,
                OfferedAdam::AfterCorrection => {
                    numbers.epsilon_placement == EpsilonPlacement::AfterCorrection
                }
                OfferedAdam::Any => true,
            },
        };
        if !offered {
            return Err(Unsupported::new("bigram", "this Adam"));
        }
        let zeros = vec![0.0; PARAMETERS];
        self.optimizer =
            Some(State { declared: *optimizer, scheduled: 0, count: 0, first: zeros.clone(), second: zeros });
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let State { declared, scheduled, .. } = self.optimizer.as_ref().unwrap();
        let (declared, scheduled) = (*declared, *scheduled);
        let mut observation = self.run(batch, declared.loss_scale)?;
        self.misreport(&mut observation);
        let mut gradient: Vec<f64> = self.buffer.iter().map(|slope| slope / declared.loss_scale).collect();
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let (grad_norm, rate) = (norm(&gradient), self.rate(&declared, scheduled));
        let tensor_norms = vec![norm(&gradient[..TABLE]), norm(&gradient[TABLE..])];
        let skipped = !gradient.iter().all(|slope| slope.is_finite());
        let keeps = self.is(Mistake::StepNeverClears) || (skipped && self.is(Mistake::SkipNeverClears));
        if !keeps {
            self.clear();
        }
        let clip_factor = declared.clip.filter(|_| !skipped).map_or(1.0, |clip| clip.factor(grad_norm));
        for slope in &mut gradient {
            *slope *= clip_factor;
        }
        let [count_advances, schedule_advances, moments_advance] =
            [Mistake::CountAdvancesOnSkip, Mistake::ScheduleAdvancesOnSkip, Mistake::MomentsAdvanceOnSkip]
                .map(|mistake| !skipped || self.is(mistake));
        if let Some(state) = &mut self.optimizer {
            state.count += i32::from(count_advances);
            state.scheduled += u32::from(schedule_advances);
        }
        if moments_advance {
            let kept = self.parameters.clone();
            self.update(rate, &gradient);
            if skipped {
                self.parameters = kept;
            }
        }
        Ok(StepReport { observation, learning_rate: rate, grad_norm, tensor_norms, clip_factor, skipped })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        Self::hand_over(&self.parameters, parameters)
    }
}

impl Evaluation for Bigram {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let (mut total, mut tokens) = (0.0, 0);
        for batch in batches {
            let batch = GlobalBatch::of_micro_batch(batch.clone());
            for (prediction, loss) in batch.predictions().zip(self.evaluate(&batch)?) {
                if prediction.supervised {
                    total += loss;
                    tokens += 1;
                }
            }
        }
        let divisor = if self.is(Mistake::DividesByTraining) { self.last_window } else { tokens };
        let loss = total / divisor as f64;
        Ok(Evaluated { loss, perplexity: loss.exp(), tokens })
    }
}
