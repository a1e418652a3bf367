//! A subject behind which nothing else needs to doubt the form of an answer.
//!
//! Everything that uses a trainer goes through [`Checked`]: laws, diagnosis, verification, traces. It
//! validates what comes out (names, shapes, order, element types, counts, finiteness, refusals inside the
//! declared limits) and lets neither a panic nor a hang through. The first [`Breach`] is kept, so that it is
//! not lost where somebody goes on after an error.

mod capabilities;
mod sink;
mod training;

use crate::{
    Breach, Call, Evaluation, GradientSink, LoadParameters, Objectives, Observation, Offered, OptimizerSteps,
    ParameterInfo, Subject, SubjectError, SubjectInfo, TokenLosses, TrainingLoop, Unsupported,
    UpstreamWeights, Watchdog,
};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights};
use sink::CheckedSink;
use std::collections::BTreeSet;

/// A subject whose answers are validated.
pub struct Checked<'a> {
    inner: &'a mut (dyn Subject + 'a),
    info: SubjectInfo,
    parameters: Vec<ParameterInfo>,
    offered: Offered,
    watchdog: Watchdog,
    /// Whether an answer is withheld whose numbers alone are a breach.
    withholds: bool,
    breach: Option<Breach>,
    /// The spec in force.
    spec: LossSpec,
}

impl<'a> Checked<'a> {
    /// Checks a subject from now on, under the default [`Watchdog`].
    ///
    /// # Errors
    /// When it cannot even say what it is: `info`, `parameters` or a capability panics, the card has a factor
    /// that is not a positive number, or a parameter is listed twice.
    pub fn new(inner: &'a mut (dyn Subject + 'a)) -> Result<Self, Breach> {
        Self::watched(inner, Watchdog::default())
    }

    /// Checks a subject from now on, under this watchdog.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn watched(inner: &'a mut (dyn Subject + 'a), watchdog: Watchdog) -> Result<Self, Breach> {
        let info = watchdog.guard("the subject", Call::Info, || inner.info())?;
        if let Some(what) = info.model.mistake() {
            return Err(Breach::Card { what });
        }
        let (name, spec) = (info.name.clone(), info.claims.first());
        let parameters = watchdog.guard(&name, Call::Parameters, || inner.parameters())?;
        let mut names = BTreeSet::new();
        if let Some(twice) = parameters.iter().find(|parameter| !names.insert(&parameter.name)) {
            return Err(Breach::RepeatedParameter { name: twice.name.clone() });
        }
        let call = Call::Capability("a capability");
        let offered = watchdog.guard(&name, call, || Offered::by(inner))?;
        Ok(Self { inner, info, parameters, offered, watchdog, withholds: true, breach: None, spec })
    }

    /// Hands answers on whose numbers alone are a breach: those that are not finite, and those with another
    /// number of reported token losses than of supervised tokens. To whoever asks what is wrong with a
    /// subject they say something; the breach is kept all the same.
    #[must_use]
    pub fn with_wrong_numbers(self) -> Self {
        Self { withholds: false, ..self }
    }

    /// The subject that is checked, for those who check it themselves.
    pub fn inner(&mut self) -> &mut (dyn Subject + 'a) {
        self.inner
    }

    /// The first breach since the last call of this function.
    pub fn take_breach(&mut self) -> Option<Breach> {
        self.breach.take()
    }

    /// Keeps a breach, the first of them, and hands this one on.
    fn breached(&mut self, breach: Breach) -> Breach {
        self.breach.get_or_insert_with(|| breach.clone());
        breach
    }

    /// Keeps a breach that lies in the numbers of an answer, and hands it on where such an answer is
    /// withheld.
    fn wrong_numbers(&mut self, breach: Breach) -> Result<(), Breach> {
        let breach = self.breached(breach);
        if self.withholds { Err(breach) } else { Ok(()) }
    }

    /// Carries out a call: no panic and no hang gets through.
    fn call<T>(&mut self, call: Call, run: impl FnOnce(&mut (dyn Subject + 'a)) -> T) -> Result<T, Breach> {
        let inner = &mut *self.inner;
        let answer = self.watchdog.guard(&self.info.name, call, || run(inner));
        answer.map_err(|breach| self.breached(breach))
    }

    /// An answer, unless it is a refusal of what the card says the subject takes.
    fn accepted<T>(&mut self, call: Call, answer: Result<T, SubjectError>) -> Result<T, SubjectError> {
        match answer {
            Err(
                error @ (SubjectError::Limit { .. }
                | SubjectError::Number { .. }
                | SubjectError::Kind { .. }
                | SubjectError::Refused { .. }),
            ) => Err(self.breached(Breach::Refused { call, message: error.to_string() }).into()),
            answer => answer,
        }
    }

    /// An answer to whether something is supported; a breach instead of an answer is kept.
    fn whether(&mut self, answer: Result<(), Unsupported>) -> Result<(), Unsupported> {
        if let Err(Unsupported { breach: Some(breach), .. }) = &answer {
            self.breached((**breach).clone());
        }
        answer
    }

    /// A call that hands tensors to a sink.
    fn tensors<T>(
        &mut self,
        call: Call,
        sink: &mut dyn GradientSink,
        finite: bool,
        run: impl FnOnce(&mut (dyn Subject + 'a), &mut dyn GradientSink) -> Result<T, SubjectError>,
    ) -> Result<T, SubjectError> {
        let dtypes = self.info.dtypes;
        let dtype = if call == Call::Read { dtypes.parameters } else { dtypes.gradient };
        let mut sink = CheckedSink::new(sink, call, &self.parameters, dtype, finite, self.withholds);
        let inner = &mut *self.inner;
        let answer = self.watchdog.guard(&self.info.name, call, || run(inner, &mut sink));
        let succeeded = matches!(answer, Ok(Ok(_)));
        let (breach, not_finite) = sink.finish(succeeded);
        let answer = answer.map_err(|panicked| self.breached(panicked))?;
        if let Some(breach) = breach {
            return Err(self.breached(breach).into());
        }
        if let Some(not_finite) = not_finite {
            self.wrong_numbers(not_finite)?;
        }
        self.accepted(call, answer)
    }

    /// Whether every number must be finite, because every group of a batch has weights under the spec in
    /// force, and so has every batch that is logged of it.
    fn weighs(&self, batch: &GlobalBatch) -> bool {
        TokenWeights::new(&self.spec, &batch.layout()).is_ok()
            && self.info.log_policy.weights(batch, &self.spec).is_ok()
    }

    /// Holds an observation to the batch it is of.
    fn observed(
        &mut self,
        call: Call,
        batch: &GlobalBatch,
        of: &Observation,
        finite: bool,
    ) -> Result<(), Breach> {
        let found = of.token_losses.as_ref().map(Vec::len);
        let expected = batch.layout().supervised();
        if let Some(found) = found.filter(|&found| found != expected) {
            let what = "reported token losses, one for each supervised token";
            self.wrong_numbers(Breach::Count { call, what, found, expected })?;
        }
        if finite && !of.loss.is_finite() {
            self.wrong_numbers(Breach::NotFinite { call, what: "a loss".to_owned() })?;
        }
        Ok(())
    }

    fn lacks(&mut self, name: &'static str) -> SubjectError {
        let call = Call::Capability(name);
        self.breached(Breach::Changed { call, what: "the capability is gone".to_owned() }).into()
    }
}

impl Subject for Checked<'_> {
    fn info(&self) -> SubjectInfo {
        self.info.clone()
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters.clone()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.call(Call::Reset, <dyn Subject>::reset)??;
        let now = self.call(Call::Info, |subject| subject.info())?;
        if now != self.info {
            let what = format!("{:?}, and it was {:?}", now, self.info);
            return Err(self.breached(Breach::Changed { call: Call::Info, what }).into());
        }
        let parameters = self.call(Call::Parameters, |subject| subject.parameters())?;
        if parameters != self.parameters {
            let what = format!("{} parameters, and they were {}", parameters.len(), self.parameters.len());
            return Err(self.breached(Breach::Changed { call: Call::Parameters, what }).into());
        }
        Ok(())
    }

    /// What the card does not claim is not asked for, and what it claims must not be refused.
    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        let Some(claim) = self.info.claims.claim_of(spec, &self.info.limits) else {
            return Err(self.info.unsupported(spec));
        };
        let call = Call::Configure;
        // A breach is kept, and ends what is being done.
        match self.call(call, |subject| subject.configure(&claim)) {
            Ok(Ok(())) => {
                self.spec = *spec;
                Ok(())
            }
            Ok(Err(refusal)) => {
                let refused = || Breach::Refused { call, message: refusal.to_string() };
                self.breached(refusal.breach.as_deref().cloned().unwrap_or_else(refused));
                Err(refusal)
            }
            Err(_) => Err(self.info.unsupported(spec)),
        }
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.info.limits.check(batch)?;
        let finite = self.weighs(batch);
        let observation = self
            .tensors(Call::Accumulate, gradients, finite, |subject, sink| subject.accumulate(batch, sink))?;
        self.observed(Call::Accumulate, batch, &observation, finite)?;
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.offered.parameter_loading { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        if self.offered.token_losses { Some(self) } else { None }
    }

    fn upstream_weights(&mut self) -> Option<&mut dyn UpstreamWeights> {
        if self.offered.upstream_weights { Some(self) } else { None }
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        if self.offered.optimizer_steps { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.offered.evaluation { Some(self) } else { None }
    }

    fn objectives(&mut self) -> Option<&mut dyn Objectives> {
        if self.offered.learns_otherwise() { Some(self) } else { None }
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        if self.offered.training_loop { Some(self) } else { None }
    }
}
