//! A law's workbench: one subject and one case.

use crate::error_model;
use lossproof_cases::Case;
use lossproof_numerics::{Averages, Comparisons, ErrorModel};
use lossproof_spec::{Dtype, Fraction, GlobalBatch, LossSpec, Sequence, TokenWeights};
use lossproof_subject::{
    Collect, Observation, OptimizerSteps, ParameterInfo, Subject, SubjectError, SubjectInfo, Tensor,
    TensorSet, TensorValues, Unsupported, UpstreamWeights,
};
use num_traits::ToPrimitive;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use std::{cell::RefCell, rc::Rc};

/// Why a law ends early on a case.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The subject lacks something the law needs.
    Unsupported(String),
    /// The subject failed where it should not.
    Failed(SubjectError),
    /// The law has nothing to compare on this case: it lies outside the law's preconditions.
    NotApplicable,
    /// A batch that the law makes of the case lies outside the subject's limits.
    OutsideLimits(SubjectError),
}

impl From<Unsupported> for Ended {
    fn from(unsupported: Unsupported) -> Self {
        match unsupported.breach {
            Some(breach) => Self::Failed((*breach).into()),
            None => Self::Unsupported(unsupported.what),
        }
    }
}

impl From<SubjectError> for Ended {
    fn from(error: SubjectError) -> Self {
        match error {
            error
            @ (SubjectError::Limit { .. } | SubjectError::Number { .. } | SubjectError::Kind { .. }) => {
                Self::OutsideLimits(error)
            }
            error => Self::Failed(error),
        }
    }
}

/// What a law answers on a case: whether the case could have told a violation.
pub(crate) type CaseOutcome = Result<bool, Ended>;

/// The unit of how many tokens are counted.
pub(crate) const TOKEN_COUNT: &str = "token count";

/// The unit of what becomes of a batch that the spec gives no weights to.
pub(crate) const EMPTY_POLICY: &str = "empty policy";

/// What does not change from case to case.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) info: SubjectInfo,
    pub(crate) parameters: Vec<ParameterInfo>,
    /// What two identical calls differ by, relative to the gradient.
    pub(crate) noise: f64,
    /// Which parts of a model are looked at, by laws that look at some of them at a time.
    pub(crate) turn: Turn,
    /// Which claims other semantics are.
    pub(crate) recognised: Recognised,
}

/// Which case of how many this is: laws that look at some parts of a model at a time take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// From 0.
    pub(crate) case: usize,
    /// Cases of the campaign, at least 1.
    pub(crate) cases: usize,
}

impl Turn {
    /// A case that is tried by itself: every part of a model has its turn.
    pub(crate) const ALONE: Self = Self { case: 0, cases: 1 };

    /// Which of so many cases, or less than twice as many, evenly spread over the campaign, this is: what costs
    /// much is not done in all. `None` where it is none of them. Of fewer cases all are among those of more.
    pub(crate) fn among(self, enough: usize) -> Option<Self> {
        let stride = match self.cases / enough {
            0 => 1,
            times => 1 << times.ilog2(),
        };
        let is_one = self.case.is_multiple_of(stride);
        is_one.then(|| Self { case: self.case / stride, cases: self.cases.div_ceil(stride) })
    }
}

impl Facts {
    /// Asks a subject.
    pub(crate) fn of(subject: &dyn Subject) -> Self {
        Self {
            info: subject.info(),
            parameters: subject.parameters(),
            noise: 0.0,
            turn: Turn::ALONE,
            recognised: Recognised::default(),
        }
    }

    /// The same for another case.
    pub(crate) fn at(&self, turn: Turn) -> Self {
        Self { turn, ..self.clone() }
    }

    /// Rounding model of the subject on a batch.
    pub(crate) fn model(&self, batch: &GlobalBatch) -> ErrorModel {
        error_model(&self.info, &self.parameters, batch)
    }

    /// The coarsest element type that any number of the subject passes through.
    pub(crate) fn coarsest(&self) -> Dtype {
        self.info.coarsest(&self.parameters)
    }

    /// Whether numbers have so few digits that comparisons are judged by their mean over many contexts.
    pub(crate) fn is_coarse(&self) -> bool {
        matches!(self.coarsest(), Dtype::F16 | Dtype::Bf16)
    }

    /// The coarsest on the way to a loss.
    pub(crate) fn loss_dtype(&self) -> Dtype {
        self.info.loss_dtype(&self.parameters)
    }

    /// The coarsest on the way to the gradient of a parameter, at values that were loaded.
    pub(crate) fn gradient_dtype(&self, name: &str) -> Dtype {
        match self.parameters.iter().find(|parameter| parameter.name == name) {
            Some(parameter) => self.loss_dtype().coarser(self.info.gradient_dtype(parameter)),
            None => self.coarsest(),
        }
    }

    /// The coarsest on the way to the gradient of a parameter at values that are no others than were meant: a
    /// parameter that is moved by little is rounded to the type it is held in.
    pub(crate) fn slope_dtype(&self, name: &str) -> Dtype {
        let found = self.parameters.iter().find(|parameter| parameter.name == name);
        let held = found.map_or(self.coarsest(), |parameter| self.info.held_in(parameter));
        self.gradient_dtype(name).coarser(held)
    }

    /// The coarsest that a step takes a parameter through.
    pub(crate) fn update_dtype(&self, name: &str) -> Dtype {
        let found = self.parameters.iter().find(|parameter| parameter.name == name);
        found.map_or(self.coarsest(), |parameter| self.info.update_dtype(parameter))
    }
}

/// The claims that wanted semantics turned out to be, so that each is looked for once.
pub(crate) type Recognised = Rc<RefCell<Vec<(LossSpec, Option<LossSpec>)>>>;

/// One sequence by itself.
#[derive(Clone, Debug)]
pub(crate) struct Lone {
    pub(crate) sequence: Sequence,
    /// The weights of all copies of one token.
    pub(crate) weight: Fraction,
    pub(crate) computed: Computed,
}

/// A loss and its gradient, as a subject computed them.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    pub(crate) observation: Observation,
    /// Shared, because that of a large model fills the memory.
    pub(crate) gradient: Rc<TensorSet>,
    /// `Σ_t |w_t|`: the loss of a batch whose every token loss is 1.
    pub(crate) total: f64,
    pub(crate) origin: Origin,
}

/// What was computed.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) spec: LossSpec,
    pub(crate) batch: GlobalBatch,
    /// The weights of the predictions, where they are not those of the spec.
    pub(crate) upstream: Option<Vec<f64>>,
    /// Which parameters were loaded: [`Trial::loads`].
    pub(crate) loads: usize,
}

impl Computed {
    pub(crate) fn loss(&self) -> f64 {
        self.observation.loss
    }

    /// What an error of the loss is relative to: [`ErrorModel::loss_bound`].
    pub(crate) fn loss_scale(&self) -> f64 {
        self.observation.loss.abs().max(self.total)
    }

    /// Whether loss or gradient differ at all. What is logged may be the loss of other sequences.
    pub(crate) fn is_another_than(&self, other: &Self) -> bool {
        self.loss().to_bits() != other.loss().to_bits() || self.gradient != other.gradient
    }
}

/// Fixes the choices that a law makes on a case.
pub(crate) fn choices(case: &Case) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(case.seed ^ 0x6c61_7773)
}

/// One law on one case.
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a mut dyn Subject,
    pub(crate) case: &'a Case,
    pub(crate) facts: &'a Facts,
    pub(crate) comparisons: Comparisons,
    /// Comparisons that are judged by their mean over contexts.
    pub(crate) averages: Averages,
    /// For the choices the law makes on its own.
    pub(crate) random: ChaCha8Rng,
    /// The parameters that are loaded, where they are not the case's own.
    pub(crate) loaded: Option<TensorSet>,
    /// How often parameters were replaced.
    pub(crate) loads: usize,
    /// Sequences by themselves that were computed.
    pub(crate) lone: Vec<Lone>,
    /// The plans of the trainings that ran, in words, each once.
    pub(crate) plans: Vec<String>,
}

impl<'a> Trial<'a> {
    /// Brings the subject to the parameters of the case, or to its own where it takes none.
    pub(crate) fn new(subject: &'a mut dyn Subject, case: &'a Case, facts: &'a Facts) -> Result<Self, Ended> {
        let trial = Self::of_answers(subject, case, facts)?;
        if let Some(loader) = trial.subject.parameter_loading() {
            loader.load(&case.parameters(&facts.parameters))?;
        }
        Ok(trial)
    }

    /// The same for a subject that has its answers already, at whatever parameters.
    pub(crate) fn of_answers(
        subject: &'a mut dyn Subject,
        case: &'a Case,
        facts: &'a Facts,
    ) -> Result<Self, Ended> {
        facts.info.limits.check(&case.batch)?;
        subject.reset()?;
        let random = choices(case);
        Ok(Self {
            subject,
            case,
            facts,
            comparisons: Comparisons::default(),
            averages: Averages::default(),
            random,
            loaded: None,
            loads: 0,
            lone: Vec::new(),
            plans: Vec::new(),
        })
    }

    /// Tokens of the subject's vocabulary.
    pub(crate) fn vocabulary(&self) -> usize {
        self.facts.info.limits.vocabulary
    }

    /// Loads parameters.
    pub(crate) fn load(&mut self, parameters: &TensorSet) -> Result<(), Ended> {
        let loader = self.subject.parameter_loading();
        let loader = loader.ok_or_else(|| Ended::Unsupported("loading parameters".to_owned()))?;
        loader.load(parameters)?;
        self.loads += 1;
        self.loaded = Some(parameters.clone());
        Ok(())
    }

    /// Sets one parameter.
    pub(crate) fn set(&mut self, name: &str, values: &[f64]) -> Result<(), Ended> {
        let loader = self.subject.parameter_loading();
        let loader = loader.ok_or_else(|| Ended::Unsupported("loading parameters".to_owned()))?;
        loader.set(name, values)?;
        self.loads += 1;
        Ok(())
    }

    /// The parameters of the case.
    pub(crate) fn parameters(&mut self) -> Result<TensorSet, Ended> {
        if self.subject.parameter_loading().is_none() {
            return Err(Ended::Unsupported("loading parameters".to_owned()));
        }
        Ok(self.case.parameters(&self.facts.parameters))
    }

    /// Forward and backward.
    pub(crate) fn gradient(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Computed, Ended> {
        self.facts.info.limits.check(batch)?;
        if !self.weighs(spec, batch) {
            return Err(Ended::NotApplicable);
        }
        self.subject.configure(spec)?;
        self.accumulated(spec, batch)
    }

    /// Whether a batch has weights under a spec, and what is logged of it has.
    pub(crate) fn weighs(&self, spec: &LossSpec, batch: &GlobalBatch) -> bool {
        TokenWeights::new(spec, &batch.layout()).is_ok()
            && self.facts.info.log_policy.weights(batch, spec).is_ok()
    }

    /// Forward and backward under the spec that is in force.
    pub(crate) fn accumulated(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Computed, Ended> {
        let mut sink = Collect::default();
        let answer = self.subject.accumulate(batch, &mut sink);
        let observation = self.answered(spec, batch, answer)?;
        let total = TokenWeights::new(spec, &batch.layout()).ok().and_then(|w| w.total().to_f64());
        let total = total.unwrap_or(f64::NAN);
        let origin = Origin { spec: *spec, batch: batch.clone(), upstream: None, loads: self.loads };
        Ok(Computed { observation, gradient: Rc::new(sink.into_tensors()), total, origin })
    }

    /// What a subject answers to a batch. To refuse one that has weights, as if a group of it were empty, is
    /// no failure of the subject but a wrong answer.
    pub(crate) fn answered<T>(
        &mut self,
        spec: &LossSpec,
        batch: &GlobalBatch,
        answer: Result<T, SubjectError>,
    ) -> Result<T, Ended> {
        match answer {
            Err(SubjectError::EmptyGroup(empty)) if self.weighs(spec, batch) => {
                self.fact(EMPTY_POLICY, false, || {
                    format!("under {spec}, it refuses a batch that has weights: {empty}")
                });
                Err(Ended::NotApplicable)
            }
            answer => Ok(answer?),
        }
    }

    /// `−log p(target)` of every prediction.
    pub(crate) fn token_losses(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, Ended> {
        self.facts.info.limits.check(batch)?;
        let evaluator = self.subject.token_losses();
        let evaluator = evaluator.ok_or_else(|| Ended::Unsupported("evaluating token losses".to_owned()))?;
        Ok(evaluator.evaluate(batch)?)
    }

    /// The capability to weight token losses.
    pub(crate) fn upstream(&mut self) -> Result<&mut dyn UpstreamWeights, Ended> {
        let upstream = self.subject.upstream_weights();
        upstream.ok_or_else(|| Ended::Unsupported("weighting token losses".to_owned()))
    }

    /// The capability to take steps.
    pub(crate) fn steps(&mut self) -> Result<&mut dyn OptimizerSteps, Ended> {
        let steps = self.subject.optimizer_steps();
        steps.ok_or_else(|| Ended::Unsupported("optimizer steps".to_owned()))
    }

    /// A preset with the token loss (label smoothing, z-loss) of the case.
    pub(crate) fn with_token_loss(&self, preset: LossSpec) -> LossSpec {
        LossSpec { label_smoothing: self.case.spec.label_smoothing, z_loss: self.case.spec.z_loss, ..preset }
    }
}

/// A tensor of a set as f64 values.
pub(crate) fn values(set: &TensorSet, name: &str) -> Result<Vec<f64>, Ended> {
    set.get(name).map(Tensor::to_f64).ok_or_else(|| Ended::Unsupported(format!("a parameter named {name}")))
}

/// Replaces a tensor's values.
pub(crate) fn replace(set: &mut TensorSet, name: &str, values: Vec<f64>) -> Result<(), Ended> {
    let unsupported = || Ended::Unsupported(format!("a parameter named {name}"));
    let shape = set.get(name).ok_or_else(unsupported)?.shape().to_vec();
    let tensor = Tensor::new(shape, TensorValues::F64(values)).map_err(|_| unsupported())?;
    set.insert(name.to_owned(), tensor);
    Ok(())
}
