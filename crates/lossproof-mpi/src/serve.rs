//! The part of every rank but the first in what the first is asked.

use crate::{RankError, World, in_force::InForce, share};
use lossproof_process::Request;
use lossproof_spec::LossSpec;
use lossproof_subject::{LoadParameters, Subject, SubjectError, TensorSet, TrainingLoop};

/// Does what the first rank asks, on this rank's own trainer, until nothing more is asked. What fails ends that
/// question on all ranks, and nothing else.
///
/// # Errors
/// [`RankError`] when the first rank is gone, does not come, or says what is nothing.
pub fn serve(world: &World, subject: &mut dyn Subject, spec: LossSpec) -> Result<(), RankError> {
    let mut in_force = InForce::new(spec);
    loop {
        let (request, tensors) = world.hear()?;
        if request == Request::Bye {
            return Ok(());
        }
        let answer = part(world, subject, &mut in_force, request, &tensors);
        // The first rank hears of it; here nothing comes of it but the next question.
        let _ = world.conclude(answer);
        if let Some(lost) = world.lost() {
            return Err(lost);
        }
    }
}

fn part(
    world: &World,
    subject: &mut dyn Subject,
    in_force: &mut InForce,
    request: Request<'static>,
    tensors: &TensorSet,
) -> Result<(), SubjectError> {
    match request {
        Request::Reset => {
            in_force.forget_optimizer();
            subject.reset()
        }
        Request::Configure { spec } => {
            subject.configure(&spec).map_err(|refused| failed(&refused))?;
            in_force.spec = spec;
            Ok(())
        }
        Request::Start { optimizer } => {
            let steps = subject.optimizer_steps().ok_or_else(|| failed(&"this trainer takes no steps"))?;
            steps.start(&optimizer).map_err(|refused| failed(&refused))?;
            in_force.start(&optimizer);
            Ok(())
        }
        Request::Load => {
            in_force.forget_optimizer();
            loading(subject)?.load(tensors)
        }
        Request::Set { name } => {
            let values = tensors.get("values").map(lossproof_subject::Tensor::to_f64).unwrap_or_default();
            loading(subject)?.set(&name, &values)
        }
        Request::Accumulate { batch } => in_force.accumulate(world, subject, &batch).map(drop),
        Request::Step { batch } => in_force.step(world, subject, &batch).map(drop),
        Request::Validate { batches } => share::validate(world, subject, &batches).map(drop),
        Request::Train { plan, stop_after } => {
            in_force.forget_optimizer();
            training(subject)?.train(&plan, stop_after).map(drop)
        }
        Request::Resume { plan, stop_after } => {
            in_force.forget_optimizer();
            training(subject)?.resume(&plan, stop_after).map(drop)
        }
        other => Err(failed(&format!("nothing here answers {:?}", other.call()))),
    }
}

fn loading(subject: &mut dyn Subject) -> Result<&mut dyn LoadParameters, SubjectError> {
    subject.parameter_loading().ok_or_else(|| failed(&"this trainer takes no parameters"))
}

fn training(subject: &mut dyn Subject) -> Result<&mut dyn TrainingLoop, SubjectError> {
    subject.training_loop().ok_or_else(|| failed(&"this trainer has no loop"))
}

fn failed(error: &dyn std::fmt::Display) -> SubjectError {
    SubjectError::failed("ranks", error)
}
