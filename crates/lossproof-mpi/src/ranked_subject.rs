//! A subject whose ranks are processes: what the first of them is to whoever asks.

use crate::{World, in_force::InForce, share};
use lossproof_process::Request;
use lossproof_spec::{GlobalBatch, LossSpec, MicroBatch, Optimizer};
use lossproof_subject::{
    Count, Evaluated, Evaluation, GradientSink, LoadParameters, Observation, OptimizerSteps, ParameterInfo,
    StepReport, Subject, SubjectError, SubjectInfo, Tensor, TensorSet, TensorValues, TokenLosses,
    TrainingLoop, TrainingPlan, TrainingTrace, Unsupported,
};
use std::borrow::Cow;

/// A subject whose ranks are processes, each with a trainer of its own. It stands in the first process, and the others
/// [`serve`](crate::serve) it until it is dropped.
///
/// It takes batches with as many ranks as there are processes, or fewer. Token losses, which no other rank changes, the
/// first one computes alone. What a trainer can do beside that without ranks is not offered: sums under weights that
/// are given, and objectives, whose batch is one micro-batch.
pub struct RankedSubject {
    world: World,
    own: Box<dyn Subject>,
    in_force: InForce,
}

impl RankedSubject {
    /// The subject over the ranks of a world, with the trainer of this process and the loss spec that it begins
    /// with.
    #[must_use]
    pub fn new(world: World, own: Box<dyn Subject>, spec: LossSpec) -> Self {
        Self { world, own, in_force: InForce::new(spec) }
    }

    /// Does something on all ranks: here what is given, on the others what is asked.
    fn everywhere<T>(
        &mut self,
        request: &Request<'static>,
        tensors: &TensorSet,
        here: impl FnOnce(&mut Self) -> Result<T, SubjectError>,
    ) -> Result<T, SubjectError> {
        self.world.ask(request, tensors)?;
        let answer = here(self);
        self.world.conclude(answer)
    }

    fn own_loop(&mut self) -> Result<&mut dyn TrainingLoop, SubjectError> {
        self.own.training_loop().ok_or_else(|| SubjectError::failed("ranks", "this trainer has no loop"))
    }

    fn own_steps(&mut self) -> Result<&mut dyn OptimizerSteps, SubjectError> {
        let lacking = || SubjectError::failed("ranks", "this trainer takes no steps");
        self.own.optimizer_steps().ok_or_else(lacking)
    }

    fn own_loading(&mut self) -> Result<&mut dyn LoadParameters, SubjectError> {
        let lacking = || SubjectError::failed("ranks", "this trainer takes no parameters");
        self.own.parameter_loading().ok_or_else(lacking)
    }
}

impl Drop for RankedSubject {
    fn drop(&mut self) {
        // Whoever is not there any more needs not be told to go.
        let _ = self.world.ask(&Request::Bye, &TensorSet::new());
    }
}

impl Subject for RankedSubject {
    fn info(&self) -> SubjectInfo {
        let mut info = self.own.info();
        info.limits.ranks =
            Count { most: info.limits.ranks.most.min(self.world.size()), ..info.limits.ranks };
        info.name = format!("{} on {} ranks", info.name, self.world.size());
        info
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.own.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.in_force.forget_optimizer();
        self.everywhere(&Request::Reset, &TensorSet::new(), |subject| subject.own.reset())
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        // What the trainer refuses here, it would refuse everywhere.
        self.own.configure(spec)?;
        let request = Request::Configure { spec: *spec };
        let lost = |error: SubjectError| Unsupported::new("ranks", error);
        if let Err(refused) = self.everywhere(&request, &TensorSet::new(), |_| Ok(())) {
            // All ranks have one spec: that of before, which none of them refused.
            let before = self.in_force.spec;
            self.own.configure(&before)?;
            self.everywhere(&Request::Configure { spec: before }, &TensorSet::new(), |_| Ok(()))
                .map_err(lost)?;
            return Err(lost(refused));
        }
        self.in_force.spec = *spec;
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.info().limits.check(batch)?;
        let request = Request::Accumulate { batch: Cow::Owned(batch.clone()) };
        let (gradient, observation) = self.everywhere(&request, &TensorSet::new(), |subject| {
            subject.in_force.accumulate(&subject.world, &mut *subject.own, batch)
        })?;
        for info in self.own.parameters() {
            let Some(tensor) = gradient.get(&info.name) else {
                let problem = "no rank has a gradient of it".to_owned();
                return Err(SubjectError::Parameter { name: info.name, problem });
            };
            gradients.receive(&info.name, tensor.shape(), tensor.values().into())?;
        }
        Ok(observation)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        if self.own.parameter_loading().is_some() { Some(self) } else { None }
    }

    fn token_losses(&mut self) -> Option<&mut dyn TokenLosses> {
        self.own.token_losses()
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        let steps = self.own.optimizer_steps().is_some() && self.own.rank_shares().is_some();
        if steps { Some(self) } else { None }
    }

    fn evaluation(&mut self) -> Option<&mut dyn Evaluation> {
        if self.own.token_losses().is_some() { Some(self) } else { None }
    }

    fn training_loop(&mut self) -> Option<&mut dyn TrainingLoop> {
        if self.own.training_loop().is_some() { Some(self) } else { None }
    }
}

impl LoadParameters for RankedSubject {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.in_force.forget_optimizer();
        self.everywhere(&Request::Load, parameters, |subject| subject.own_loading()?.load(parameters))
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        let request = Request::Set { name: Cow::Owned(name.to_owned()) };
        let tensor = Tensor::new(vec![values.len()], TensorValues::F64(values.to_vec()));
        let tensor = tensor.map_err(|error| SubjectError::failed("ranks", error))?;
        let tensors = TensorSet::from([("values".to_owned(), tensor)]);
        self.everywhere(&request, &tensors, |subject| subject.own_loading()?.set(name, values))
    }
}

impl OptimizerSteps for RankedSubject {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.in_force.forget_optimizer();
        // What the trainer refuses here, it would refuse everywhere.
        self.own_steps().map_err(|error| Unsupported::new("ranks", error))?.start(optimizer)?;
        let request = Request::Start { optimizer: *optimizer };
        self.everywhere(&request, &TensorSet::new(), |_| Ok(()))
            .map_err(|error| Unsupported::new("ranks", error))?;
        self.in_force.start(optimizer);
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        self.info().limits.check(batch)?;
        let request = Request::Step { batch: Cow::Owned(batch.clone()) };
        self.everywhere(&request, &TensorSet::new(), |subject| {
            subject.in_force.step(&subject.world, &mut *subject.own, batch)
        })
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        self.own_steps()?.read(parameters)
    }
}

impl Evaluation for RankedSubject {
    fn validate(&mut self, batches: &[MicroBatch]) -> Result<Evaluated, SubjectError> {
        let request = Request::Validate { batches: Cow::Owned(batches.to_vec()) };
        self.everywhere(&request, &TensorSet::new(), |subject| {
            share::validate(&subject.world, &mut *subject.own, batches)
        })
    }
}

impl TrainingLoop for RankedSubject {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        match self.own.training_loop() {
            Some(own) => own.accepts(plan),
            None => Err(Unsupported::new("ranks", "a training: this trainer has no loop")),
        }
    }

    fn resumes(&mut self) -> bool {
        self.own.training_loop().is_some_and(TrainingLoop::resumes)
    }

    fn masks_of_samples(&mut self) -> bool {
        self.own.training_loop().is_some_and(TrainingLoop::masks_of_samples)
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        self.in_force.forget_optimizer();
        let request = Request::Train { plan: Cow::Owned(plan.clone()), stop_after };
        self.everywhere(&request, &TensorSet::new(), |subject| subject.own_loop()?.train(plan, stop_after))
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.in_force.forget_optimizer();
        let request = Request::Resume { plan: Cow::Owned(plan.clone()), stop_after };
        self.everywhere(&request, &TensorSet::new(), |subject| subject.own_loop()?.resume(plan, stop_after))
    }
}
