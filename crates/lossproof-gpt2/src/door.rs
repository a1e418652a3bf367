//! The one non-generic way to a reference trainer; dfdx's generics are instantiated behind it and nowhere else.

use crate::{
    Config,
    config::{Gpt2Config, with_config},
    initial::gpt2_initial,
    subject::Reference,
};
use dfdx::tensor::Cpu;
use lossproof_spec::Dtype;
use lossproof_subject::{Device, LoopTrainer, ParameterSource, Subject, SubjectError};
use std::sync::Arc;

/// The seed of a fresh trainer's parameters.
const INITIAL_SEED: u64 = 0;

/// A reference trainer with GPT-2's initial parameters from a fixed seed. It stays on its thread: dfdx's CUDA
/// streams cannot be sent to another.
///
/// # Errors
/// When the dtype is neither f32 nor f64, or the device is not there (`cuda` needs the feature of that name).
pub fn reference(config: Config, dtype: Dtype, device: Device) -> Result<Box<dyn Subject>, SubjectError> {
    reference_at(config, dtype, device, Arc::new(gpt2_initial(config.shape(), INITIAL_SEED)))
}

/// A reference trainer with these initial parameters, of which it reads one tensor at a time, now and at
/// every reset: it holds no copy of them.
///
/// # Errors
/// As [`reference()`](reference()), and when a parameter cannot be read or has another shape.
pub fn reference_at(
    config: Config,
    dtype: Dtype,
    device: Device,
    initial: Arc<dyn ParameterSource>,
) -> Result<Box<dyn Subject>, SubjectError> {
    Ok(loop_trainer(config, dtype, device, initial)?)
}

/// The same trainer as a training loop drives it.
///
/// # Errors
/// As [`reference_at`].
pub fn loop_trainer(
    config: Config,
    dtype: Dtype,
    device: Device,
    initial: Arc<dyn ParameterSource>,
) -> Result<Box<dyn LoopTrainer>, SubjectError> {
    with_config!(config, K => door::<K>(dtype, device, initial))
}

fn door<K: Gpt2Config>(
    dtype: Dtype,
    device: Device,
    initial: Arc<dyn ParameterSource>,
) -> Result<Box<dyn LoopTrainer>, SubjectError> {
    match (device, dtype) {
        (Device::Cpu, Dtype::F32) => {
            Ok(Box::new(Reference::<K, f32, Cpu>::new(&Cpu::default(), device, initial)?))
        }
        (Device::Cpu, Dtype::F64) => {
            Ok(Box::new(Reference::<K, f64, Cpu>::new(&Cpu::default(), device, initial)?))
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), Dtype::F32) => {
            Ok(Box::new(Reference::<K, f32, dfdx::tensor::Cuda>::new(&cuda(index)?, device, initial)?))
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), Dtype::F64) => {
            Ok(Box::new(Reference::<K, f64, dfdx::tensor::Cuda>::new(&cuda(index)?, device, initial)?))
        }
        #[cfg(not(feature = "cuda"))]
        (Device::Cuda(_), Dtype::F32 | Dtype::F64) => {
            Err(refused("this build has no CUDA: build lossproof-gpt2 with the feature `cuda`".to_owned()))
        }
        (_, Dtype::F16 | Dtype::Bf16) => {
            Err(refused(format!("dfdx has no {dtype} for this: use f32 or f64")))
        }
    }
}

fn refused(message: String) -> SubjectError {
    SubjectError::Failed { subject: "reference".to_owned(), message }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<dfdx::tensor::Cuda, SubjectError> {
    dfdx::tensor::Cuda::try_build(index, 0)
        .map_err(|error| refused(format!("no CUDA device {index}: {error}")))
}
