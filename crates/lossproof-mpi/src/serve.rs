//! The part of every rank but the first in what the first is asked.

use crate::{RankError, World, share};
use lossproof_process::Request;
use lossproof_spec::LossSpec;
use lossproof_subject::{LoadParameters, Subject, SubjectError, TensorSet, TrainingLoop};

/// Does what the first rank asks, on this rank's own trainer, until nothing more is asked. What fails ends that
/// question on all ranks, and nothing else.
///
/// # Errors
/// [`RankError`] when the first rank is gone, does not come, or says what is nothing.
pub fn serve(world: &World, subject: &mut dyn Subject, spec: LossSpec) -> Result<(), RankError> {
    let mut asked = Asked { spec, loss_scale: 1.0 };
    loop {
        let (request, tensors) = world.hear()?;
        if request == Request::Bye {
            return Ok(());
        }
        let answer = part(world, subject, &mut asked, request, &tensors);
        // The first rank hears of it; here nothing comes of it but the next question.
        let _ = world.conclude(answer);
        if let Some(lost) = world.lost() {
            return Err(lost);
        }
    }
}

/// What was asked for last, and holds until something else is.
struct Asked {
    spec: LossSpec,
    /// That of the optimizer.
    loss_scale: f64,
}

fn part(
    world: &World,
    subject: &mut dyn Subject,
    asked: &mut Asked,
    request: Request<'static>,
    tensors: &TensorSet,
) -> Result<(), SubjectError> {
    match request {
        Request::Reset => subject.reset(),
        Request::Configure { spec } => {
            subject.configure(&spec).map_err(|refused| failed(&refused))?;
            asked.spec = spec;
            Ok(())
        }
        Request::Start { optimizer } => {
            let steps = subject.optimizer_steps().ok_or_else(|| failed(&"this trainer takes no steps"))?;
            steps.start(&optimizer).map_err(|refused| failed(&refused))?;
            asked.loss_scale = optimizer.loss_scale;
            Ok(())
        }
        Request::Load => loading(subject)?.load(tensors),
        Request::Set { name } => {
            let values = tensors.get("values").map(lossproof_subject::Tensor::to_f64).unwrap_or_default();
            loading(subject)?.set(&name, &values)
        }
        Request::Accumulate { batch } => {
            share::accumulate(world, subject, &asked.spec, &batch, 1.0).map(drop)
        }
        Request::Step { batch } => {
            share::step(world, subject, &asked.spec, &batch, asked.loss_scale).map(drop)
        }
        Request::Validate { batches } => share::validate(world, subject, &batches).map(drop),
        Request::Train { plan, stop_after } => training(subject)?.train(&plan, stop_after).map(drop),
        Request::Resume { plan, stop_after } => training(subject)?.resume(&plan, stop_after).map(drop),
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
