//! The step of a trainer over an honest subject's gradient: loss scale, clipping, schedule, update.

use crate::{
    faulty::{Faulty, RunningOptimizer},
    honest::{hand_over, lacking},
    rules::{TensorMoments, TensorUpdate},
    tensors::rounded,
    trainer::{StepCounts, StepWindow},
};
use lossproof_spec::{GlobalBatch, Optimizer};
use lossproof_subject::{GradientSink, OptimizerSteps, StepReport, Subject, SubjectError, Unsupported};

impl OptimizerSteps for Faulty {
    fn start(&mut self, optimizer: &Optimizer) -> Result<(), Unsupported> {
        self.started = None;
        let name = self.info().name;
        let honest = self.honest.subject.optimizer_steps();
        // Which optimizers there are is for the honest trainer to say.
        honest.ok_or_else(|| Unsupported::new(&name, "optimizer steps"))?.start(optimizer)?;
        let optimizer = (self.trainer.optimizer)(*optimizer);
        self.started =
            Some(RunningOptimizer { optimizer, counted: StepCounts::default(), moments: Vec::new() });
        Ok(())
    }

    fn step(&mut self, batch: &GlobalBatch) -> Result<StepReport, SubjectError> {
        let Some(mut started) = self.started.take() else {
            return Err(lacking(&self.info().name, "started an optimizer"));
        };
        let report = self.stepped(batch, &mut started);
        self.started = Some(started);
        report
    }

    fn read(&mut self, parameters: &mut dyn GradientSink) -> Result<(), SubjectError> {
        let values = self.honest.parameters()?;
        hand_over(&*self.honest.subject, &values, parameters)
    }
}

impl Faulty {
    fn stepped(
        &mut self,
        batch: &GlobalBatch,
        started: &mut RunningOptimizer,
    ) -> Result<StepReport, SubjectError> {
        let trainer = self.trainer;
        let (optimizer, counted) = (started.optimizer, started.counted);
        let (parameters, dtype) = (self.parameters(), self.info().dtypes.parameters);
        let (batch, spec) = (self.seen(batch), self.spec());
        let pass = self.pass(&batch)?;
        let window = StepWindow { spec: &spec, batch: &batch, optimizer: &optimizer };
        let pass = (trainer.window)(&mut self.honest, &window, pass)?;

        let mut gradient = pass.gradient;
        gradient.values_mut().for_each(|value| *value = rounded(*value * optimizer.loss_scale, dtype));
        let skipped = (trainer.skips)(&self.honest, &window, &gradient);
        let clipped = (trainer.clip)(&optimizer, &parameters, &mut gradient);
        let learning_rate = (trainer.learning_rate)(&optimizer, counted);
        if skipped {
            started.counted.skipped += 1;
        } else {
            let updates = (trainer.updates)(&mut self.honest, &window, gradient, &clipped)?;
            let mut values = self.honest.parameters()?;
            started.moments.resize_with(updates.len(), Vec::new);
            for (gradient, moments) in updates.iter().zip(&mut started.moments) {
                moments.resize_with(parameters.len(), TensorMoments::default);
                for (place, parameter) in parameters.iter().enumerate() {
                    let gradient = gradient.of(&parameter.name);
                    if gradient.is_empty() {
                        continue;
                    }
                    let update = TensorUpdate {
                        name: &parameter.name,
                        rule: optimizer.rule,
                        learning_rate,
                        step: counted.steps + 1,
                        skipped: counted.skipped,
                        tensors: started.counted.tensors,
                        shape: &parameter.shape,
                    };
                    let values = values.of_mut(&parameter.name);
                    let moments = &mut moments[(trainer.state)(&parameters, place)];
                    (trainer.update)(&update, values, gradient, moments);
                    started.counted.tensors += 1;
                    self.honest.set(&parameter.name, values)?;
                }
            }
            started.counted.steps += 1;
            started.counted.micro_batches += u32::try_from(batch.longest_window()).unwrap_or(u32::MAX);
        }
        Ok(StepReport {
            observation: pass.observation,
            learning_rate,
            grad_norm: clipped.grad_norm,
            tensor_norms: clipped.tensor_norms,
            clip_factor: if skipped { 1.0 } else { clipped.factor },
            skipped,
        })
    }
}
