//! What stands between a loop and its trainer: the trainer, and hooks on what the loop asks of it.

use lossproof_loop::Settings;
use lossproof_spec::{GlobalBatch, LossSpec, Rule};
use lossproof_subject::{
    Dropout, GradientSink, LoadParameters, LoopTrainer, Moment, Observation, ParameterInfo, Subject,
    SubjectError, SubjectInfo, TensorSet, TrainerState, TrainingBatch, Unsupported,
};
use std::collections::BTreeSet;

type Answer<T> = Result<T, SubjectError>;

/// The hooks, each of which stands for the whole call.
#[derive(Clone, Copy)]
pub(super) struct TrainerHooks {
    pub(super) frozen: fn(&BTreeSet<String>) -> BTreeSet<String>,
    pub(super) backward:
        fn(&mut Between<'_>, &TrainingBatch, &LossSpec, f64, &Dropout) -> Answer<Observation>,
    pub(super) norms: fn(&mut Between<'_>) -> Answer<Vec<f64>>,
    pub(super) read: fn(&mut Between<'_>, &mut dyn GradientSink) -> Answer<()>,
    pub(super) write: fn(&mut Between<'_>, &TensorSet) -> Answer<()>,
    pub(super) update: fn(&mut Between<'_>, f64, f64) -> Answer<()>,
    pub(super) zero: fn(&mut Between<'_>) -> Answer<()>,
    pub(super) losses: fn(&mut Between<'_>, &TrainingBatch) -> Answer<Vec<f64>>,
    pub(super) restore: fn(&mut Between<'_>, &TrainerState) -> Answer<()>,
}

impl TrainerHooks {
    /// Nothing is changed.
    pub(super) const IDENTITY: Self = Self {
        frozen: Clone::clone,
        backward: |own, batch, loss, factor, dropout| own.inner.backward(batch, loss, factor, dropout),
        norms: |own| own.inner.gradient_norms(),
        read: |own, sink| own.inner.read_gradient(sink),
        write: |own, gradient| own.inner.write_gradient(gradient),
        update: |own, learning_rate, factor| own.inner.update(learning_rate, factor),
        zero: |own| own.inner.zero_gradient(),
        losses: |own, batch| own.inner.supervised_losses(batch),
        restore: |own, state| own.inner.restore(state),
    };
}

/// A trainer with hooks, for one run.
pub(super) struct Between<'a> {
    pub(super) inner: &'a mut dyn LoopTrainer,
    pub(super) settings: Settings,
    pub(super) hooks: TrainerHooks,
    /// Updates of this run so far.
    pub(super) updates: u64,
    /// Backward passes since the last update.
    pub(super) passes: usize,
    /// The norm of the gradient of the update before.
    pub(super) last_norm: Option<f64>,
    /// Whether a micro-batch of this update had a finite loss.
    pub(super) finite: bool,
    /// Whether there was a validation.
    pub(super) validated: bool,
    /// Of the last backward pass.
    pub(super) dropout: Dropout,
    /// Whether this run goes on from what was saved.
    pub(super) resumed: bool,
    /// Names of the parameters that do not decay.
    pub(super) undecayed: BTreeSet<String>,
    /// Names of the parameters that are not trained.
    pub(super) frozen: BTreeSet<String>,
    /// A gradient of before, and norms of one.
    pub(super) kept: TensorSet,
    pub(super) norms: Vec<f64>,
}

impl<'a> Between<'a> {
    pub(super) fn new(inner: &'a mut dyn LoopTrainer, settings: &Settings, hooks: TrainerHooks) -> Self {
        let dropout = Dropout::everywhere(settings.dropout, settings.seed);
        Self {
            inner,
            settings: *settings,
            hooks,
            updates: 0,
            passes: 0,
            last_norm: None,
            finite: false,
            validated: false,
            dropout,
            resumed: false,
            undecayed: BTreeSet::new(),
            frozen: BTreeSet::new(),
            kept: TensorSet::new(),
            norms: Vec::new(),
        }
    }
}

impl Subject for Between<'_> {
    fn info(&self) -> SubjectInfo {
        self.inner.info()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.inner.parameters()
    }

    fn reset(&mut self) -> Answer<()> {
        self.inner.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.inner.configure(spec)
    }

    fn accumulate(&mut self, batch: &GlobalBatch, gradients: &mut dyn GradientSink) -> Answer<Observation> {
        self.inner.accumulate(batch, gradients)
    }
}

impl LoadParameters for Between<'_> {
    fn load(&mut self, parameters: &TensorSet) -> Answer<()> {
        self.inner.load(parameters)
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Answer<()> {
        self.inner.set(name, values)
    }
}

impl LoopTrainer for Between<'_> {
    fn begin(
        &mut self,
        rule: &Rule,
        undecayed: &BTreeSet<String>,
        frozen: &BTreeSet<String>,
    ) -> Result<(), Unsupported> {
        self.undecayed.clone_from(undecayed);
        self.frozen.clone_from(frozen);
        self.inner.begin(rule, undecayed, &(self.hooks.frozen)(frozen))
    }

    fn backward(
        &mut self,
        batch: &TrainingBatch,
        loss: &LossSpec,
        factor: f64,
        dropout: &Dropout,
    ) -> Answer<Observation> {
        let seen = (self.hooks.backward)(self, batch, loss, factor, dropout);
        self.passes += 1;
        self.finite |= seen.as_ref().is_ok_and(|seen| seen.loss.is_finite());
        self.dropout = *dropout;
        seen
    }

    fn gradient_norms(&mut self) -> Answer<Vec<f64>> {
        (self.hooks.norms)(self)
    }

    fn read_gradient(&mut self, gradient: &mut dyn GradientSink) -> Answer<()> {
        (self.hooks.read)(self, gradient)
    }

    fn write_gradient(&mut self, gradient: &TensorSet) -> Answer<()> {
        (self.hooks.write)(self, gradient)
    }

    fn update(&mut self, learning_rate: f64, factor: f64) -> Answer<()> {
        (self.hooks.update)(self, learning_rate, factor)?;
        self.updates += 1;
        self.passes = 0;
        self.finite = false;
        Ok(())
    }

    fn zero_gradient(&mut self) -> Answer<()> {
        self.finite = false;
        (self.hooks.zero)(self)
    }

    fn supervised_losses(&mut self, batch: &TrainingBatch) -> Answer<Vec<f64>> {
        let losses = (self.hooks.losses)(self, batch);
        self.validated = true;
        losses
    }

    fn read_parameters(&mut self, parameters: &mut dyn GradientSink) -> Answer<()> {
        self.inner.read_parameters(parameters)
    }

    fn read_moments(&mut self, moment: Moment, moments: &mut dyn GradientSink) -> Answer<()> {
        self.inner.read_moments(moment, moments)
    }

    fn updates(&self) -> u32 {
        self.inner.updates()
    }

    fn restore(&mut self, state: &TrainerState) -> Answer<()> {
        self.resumed = true;
        (self.hooks.restore)(self, state)
    }
}
