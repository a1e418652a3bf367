//! The loop of a checked subject.

use super::Checked;
use crate::{
    Breach, Call, SubjectError, TensorValues, TracedUpdate, TrainingLoop, TrainingPlan, TrainingTrace,
    Unsupported,
};
use lossproof_spec::Dtype;

impl Checked<'_> {
    /// Holds a trace to its plan: every update has all parameters in their shapes and element types, and no
    /// sample that the plan does not have.
    fn traced(&mut self, call: Call, plan: &TrainingPlan, trace: &TrainingTrace) -> Result<(), Breach> {
        for update in trace.updates() {
            if let Some(breach) = self.wrong_update(call, plan, update) {
                return Err(self.breached(breach));
            }
        }
        Ok(())
    }

    fn wrong_update(&self, call: Call, plan: &TrainingPlan, update: &TracedUpdate) -> Option<Breach> {
        let samples = plan.training.len();
        if let Some(found) = update.indices().find(|&index| index >= samples) {
            let what = "as the index of a sample, where the plan has fewer samples: below";
            return Some(Breach::Count { call, what, found, expected: samples });
        }
        for info in &self.parameters {
            let name = || info.name.clone();
            let Some(tensor) = update.parameters.get(&info.name) else {
                return Some(Breach::MissingTensor { call, name: name() });
            };
            if tensor.shape() != info.shape {
                let (found, expected) = (tensor.shape().to_vec(), info.shape.clone());
                return Some(Breach::TensorShape { call, name: name(), found, expected });
            }
            let double = matches!(tensor.values(), TensorValues::F64(_));
            let (found, expected) = (if double { Dtype::F64 } else { Dtype::F32 }, self.info.held_in(info));
            // Half precision is handed over widened to single.
            if double != (expected == Dtype::F64) {
                return Some(Breach::TensorDtype { call, name: name(), found, expected });
            }
        }
        let known = |name: &&String| !self.parameters.iter().any(|info| info.name == **name);
        let name = update.parameters.keys().find(known)?.clone();
        Some(Breach::UnknownTensor { call, name })
    }

    /// What the loop answers to `train` or `resume`.
    fn looped(
        &mut self,
        call: Call,
        plan: &TrainingPlan,
        run: impl FnOnce(&mut dyn TrainingLoop) -> Result<TrainingTrace, SubjectError>,
    ) -> Result<TrainingTrace, SubjectError> {
        let answer = self.call(call, |subject| subject.training_loop().map(run))?;
        let answer = answer.ok_or_else(|| self.lacks("training_loop"))?;
        let trace = self.accepted(call, answer)?;
        self.traced(call, plan, &trace)?;
        Ok(trace)
    }
}

impl TrainingLoop for Checked<'_> {
    fn accepts(&mut self, plan: &TrainingPlan) -> Result<(), Unsupported> {
        let answer = self.call(Call::Accepts, |subject| subject.training_loop().map(|own| own.accepts(plan)));
        match answer {
            Ok(Some(answer)) => self.whether(answer),
            _ => Err(Unsupported::new(&self.info.name, "training")),
        }
    }

    fn resumes(&mut self) -> bool {
        let answer = self.call(Call::Accepts, |subject| subject.training_loop().map(TrainingLoop::resumes));
        matches!(answer, Ok(Some(true)))
    }

    fn masks_of_samples(&mut self) -> bool {
        let answer =
            self.call(Call::Accepts, |subject| subject.training_loop().map(TrainingLoop::masks_of_samples));
        matches!(answer, Ok(Some(true)))
    }

    fn train(&mut self, plan: &TrainingPlan, stop_after: Option<u64>) -> Result<TrainingTrace, SubjectError> {
        self.looped(Call::Train, plan, |own| own.train(plan, stop_after))
    }

    fn resume(
        &mut self,
        plan: &TrainingPlan,
        stop_after: Option<u64>,
    ) -> Result<TrainingTrace, SubjectError> {
        self.looped(Call::Resume, plan, |own| own.resume(plan, stop_after))
    }
}
