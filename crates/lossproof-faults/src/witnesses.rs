//! Whether two trainers answer differently: of a fault that changes nothing that is seen of a trainer, no law
//! can find anything.

use lossproof_cases::{
    Case,
    edit::alone,
    strategies::{self, Size},
};
use lossproof_laws::error_model;
use lossproof_numerics::norm;
use lossproof_spec::{
    Adam, Clip, Decayed, Dtype, EpsilonPlacement, GlobalBatch, MicroBatch, Optimizer, Rule,
};
use lossproof_subject::{Collect, Observation, Subject, SubjectError, SubjectInfo, TensorSet};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Random batches on which two trainers are compared.
#[derive(Clone, Debug)]
pub(crate) struct Witnesses {
    pub(crate) count: u32,
    pub(crate) size: Size,
    pub(crate) seed: u64,
}

/// How many bounds on the rounding of a gradient two numbers may be apart and still count as one.
const ROUNDING: f64 = 32.0;

/// Numbers, and what an error of each is relative to.
type Scaled = (Vec<f64>, f64);

/// Everything that a trainer answered, number by number; `None` where it says nothing although it may. The
/// second of two trainers that says less than the first says nothing else.
#[derive(Default)]
struct Answers {
    numbers: Vec<Option<Scaled>>,
    failed: bool,
}

impl Witnesses {
    /// The cases, which the claims and limits of a card allow.
    pub(crate) fn cases(&self, info: &SubjectInfo) -> Vec<Case> {
        let strategy = strategies::case(&info.limits, &info.claims, self.size.clone());
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let mut cases = Vec::new();
        for _ in 0..self.count {
            // Where the limits admit no batch there is none.
            let Ok(tree) = strategy.new_tree(&mut runner) else { break };
            cases.push(tree.current());
        }
        cases
    }

    /// Whether two trainers with one card answer differently, beyond rounding, on random batches that their
    /// claims and limits allow: loss and gradient, twice and with another batch in between, and whatever
    /// capabilities they offer.
    pub(crate) fn tell_apart(&self, one: &mut dyn Subject, other: &mut dyn Subject) -> bool {
        let info = one.info();
        for case in self.cases(&info) {
            let parameters = one.parameters();
            let model = error_model(&info, &parameters, &case.batch);
            let tolerance = ROUNDING * model.gradient_bound(info.coarsest(&parameters));
            let (of_one, of_other) = (Answers::of(one, &case), Answers::of(other, &case));
            if !of_one.are(&of_other, tolerance) {
                return true;
            }
        }
        false
    }
}

impl Answers {
    fn of(subject: &mut dyn Subject, case: &Case) -> Self {
        let mut answers = Self::default();
        if answers.ask(subject, case).is_err() {
            answers.failed = true;
        }
        answers
    }

    /// Whether the two agree as far as both go.
    fn are(&self, other: &Self, tolerance: f64) -> bool {
        let same = |(one, other): (&Option<Scaled>, &Option<Scaled>)| {
            let (Some((a, scale)), Some((b, _))) = (one, other) else { return other.is_none() };
            let close = |(a, b): (&f64, &f64)| {
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * scale
            };
            a.len() == b.len() && a.iter().zip(b).all(close)
        };
        self.failed == other.failed
            && self.numbers.len() == other.numbers.len()
            && self.numbers.iter().zip(&other.numbers).all(same)
    }

    fn number(&mut self, value: f64) {
        self.numbers.push(Some((vec![value], value.abs().max(1.0))));
    }

    /// Tensors, each relative to its own norm and a hundredth of that of all: a gradient that is zero but for
    /// rounding has no other.
    fn tensors(&mut self, tensors: &TensorSet) {
        let norms: Vec<f64> = tensors.values().map(|tensor| norm(&tensor.to_f64())).collect();
        let whole = norm(&norms);
        for (tensor, own) in tensors.values().zip(norms) {
            self.numbers.push(Some((tensor.to_f64(), own.max(whole / 100.0))));
        }
    }

    fn observation(&mut self, observation: &Observation) {
        self.number(observation.loss);
        self.numbers.push(observation.token_losses.clone().map(|losses| (losses, 1.0)));
        self.numbers.push(observation.supervised_tokens.map(|tokens| (vec![tokens as f64], 0.0)));
    }

    fn ask(&mut self, subject: &mut dyn Subject, case: &Case) -> Result<(), SubjectError> {
        let parameters = subject.parameters();
        subject.reset()?;
        if let Some(loader) = subject.parameter_loading() {
            loader.load(&case.parameters(&parameters))?;
        }
        let limits = subject.info().limits;
        let small = case.batch.sequences().find(|s| s.supervised() > 0).map(|s| alone(s, &limits));
        let small = small.unwrap_or_else(|| case.batch.clone());
        for batch in [&case.batch, &small, &case.batch] {
            let mut sink = Collect::default();
            match subject.accumulate(batch, &mut sink) {
                Ok(observation) => {
                    self.observation(&observation);
                    self.tensors(&sink.into_tensors());
                }
                // That a batch without weights is refused is an answer.
                Err(SubjectError::EmptyGroup(_)) => self.number(f64::INFINITY),
                Err(error) => return Err(error),
            }
        }
        if let Some(evaluator) = subject.token_losses() {
            let losses = evaluator.evaluate(&case.batch)?;
            self.numbers.push(Some((losses, 1.0)));
        }
        if let Some(upstream) = subject.upstream_weights() {
            let mut sink = Collect::default();
            let loss = upstream.backward(&case.batch, &case.upstream_weights(), &mut sink)?;
            self.number(loss);
            self.tensors(&sink.into_tensors());
        }
        if let Some(evaluation) = subject.evaluation() {
            let corpus: Vec<MicroBatch> = case.batch.micro_batches().cloned().collect();
            let printed = evaluation.validate(&corpus)?;
            for number in [printed.loss, printed.perplexity, printed.tokens as f64] {
                self.number(number);
            }
        }
        if let Ok(after) = subject.accumulate(&small, &mut Collect::default()) {
            self.observation(&after);
        }
        for optimizer in optimizers(subject.info().dtypes.coarsest()) {
            self.steps(subject, &optimizer, [&case.batch, &small, &case.batch, &case.batch])?;
        }
        Ok(())
    }

    fn steps(
        &mut self,
        subject: &mut dyn Subject,
        optimizer: &Optimizer,
        windows: [&GlobalBatch; 4],
    ) -> Result<(), SubjectError> {
        subject.reset()?;
        let Some(steps) = subject.optimizer_steps() else { return Ok(()) };
        if steps.start(optimizer).is_err() {
            return Ok(());
        }
        for window in windows {
            let report = match steps.step(window) {
                Err(SubjectError::EmptyGroup(_)) => return Ok(()),
                report => report?,
            };
            self.observation(&report.observation);
            let skipped = f64::from(u8::from(report.skipped));
            for number in [report.learning_rate, report.grad_norm, report.clip_factor, skipped] {
                self.number(number);
            }
            let mut sink = Collect::default();
            steps.read(&mut sink)?;
            self.tensors(&sink.into_tensors());
        }
        Ok(())
    }
}

/// Optimizers that show decay, moments, clipping, warm-up and loss scale, and one whose gradients overflow. Adam
/// moves every element by the rate, however small its gradient: at a large one the rounding of one step is that
/// of another model in the next.
fn optimizers(dtype: Dtype) -> [Optimizer; 4] {
    let numbers = |decayed| Adam {
        beta_1: 0.5,
        beta_2: 0.75,
        epsilon: 1e-3,
        epsilon_placement: EpsilonPlacement::AfterCorrection,
        weight_decay: 0.125,
        decayed,
    };
    let clip = Some(Clip { max_norm: 0.25, epsilon: 1e-6 });
    let sgd = Optimizer {
        rule: Rule::Sgd { momentum: 0.5, weight_decay: 0.125 },
        warm_up: 3,
        clip,
        loss_scale: 1024.0,
        ..Optimizer::sgd(0.125)
    };
    let overflowing = if dtype == Dtype::F64 { 2.0_f64.powi(1023) } else { 2.0_f64.powi(127) };
    [
        sgd,
        Optimizer { rule: Rule::Adam(numbers(Decayed::All)), warm_up: 2, ..Optimizer::sgd(1.0 / 64.0) },
        Optimizer { rule: Rule::AdamW(numbers(Decayed::Matrices)), clip, ..Optimizer::sgd(1.0 / 64.0) },
        Optimizer { loss_scale: overflowing, ..sgd },
    ]
}
