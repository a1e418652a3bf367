//! The two implementations, by their names on the command line.

use lossproof_diagnosis::Diagnostician;
use lossproof_gpt2::{Config, gpt2_initial, reference};
use lossproof_subject::{Device, LoopTrainer, ParameterSource, Subject, SubjectError};
use lossproof_torch::{Gpt2Config, libtorch};
use miette::IntoDiagnostic;
use std::sync::Arc;

/// The reference.
pub(crate) fn ours(
    config: Config,
    dtype: lossproof_spec::Dtype,
    device: Device,
) -> miette::Result<Box<dyn Subject>> {
    reference(config, dtype, device).into_diagnostic()
}

/// The implementation on libtorch.
pub(crate) fn theirs(
    config: Config,
    dtype: lossproof_spec::Dtype,
    device: Device,
) -> miette::Result<Box<dyn Subject>> {
    Ok(libtorch(&named(config), dtype, device).into_diagnostic()?)
}

/// The initial parameters of a seed.
pub(crate) fn initial(config: Config, seed: u64) -> Arc<dyn ParameterSource> {
    Arc::new(gpt2_initial(config.shape(), seed))
}

/// The reference at these parameters, as a loop drives it.
pub(crate) fn ours_for_a_loop(
    config: Config,
    dtype: lossproof_spec::Dtype,
    initial: Arc<dyn ParameterSource>,
) -> miette::Result<Box<dyn LoopTrainer>> {
    lossproof_gpt2::loop_trainer(config, dtype, Device::Cpu, initial).into_diagnostic()
}

/// The implementation on libtorch at these parameters, as a loop drives it.
pub(crate) fn theirs_for_a_loop(
    config: Config,
    dtype: lossproof_spec::Dtype,
    initial: &dyn ParameterSource,
) -> miette::Result<Box<dyn LoopTrainer>> {
    Ok(lossproof_torch::loop_trainer(&named(config), dtype, Device::Cpu, Some(initial)).into_diagnostic()?)
}

/// The same, which recomputes activations in a backward pass.
pub(crate) fn theirs_recomputing(
    config: Config,
    dtype: lossproof_spec::Dtype,
    initial: &dyn ParameterSource,
) -> miette::Result<Box<dyn LoopTrainer>> {
    let trainer =
        lossproof_torch::recomputing_loop_trainer(&named(config), dtype, Device::Cpu, Some(initial));
    Ok(trainer.into_diagnostic()?)
}

/// A diagnostician for whom the reference is right.
pub(crate) fn beside_the_reference(
    config: Config,
    dtype: lossproof_spec::Dtype,
    device: Device,
) -> Diagnostician {
    Diagnostician::with_reference(move || {
        reference(config, dtype, device).map_err(|error| SubjectError::Failed {
            subject: "reference".to_owned(),
            message: error.to_string(),
        })
    })
}

/// A diagnostician for whom the implementation on libtorch is right.
pub(crate) fn beside_libtorch(config: Config, dtype: lossproof_spec::Dtype, device: Device) -> Diagnostician {
    Diagnostician::with_reference(move || Ok(libtorch(&named(config), dtype, device)?))
}

/// The same configuration on libtorch's side.
pub(crate) fn named(config: Config) -> Gpt2Config {
    Gpt2Config::named(config.name()).expect("invariant: both sides know every configuration")
}

/// Refuses a device this build cannot use, before anything else is done.
///
/// # Errors
/// When a CUDA device is asked for and the build has no CUDA.
pub(crate) fn check_device(device: Device) -> miette::Result<()> {
    if device == Device::Cpu || cfg!(feature = "cuda") {
        return Ok(());
    }
    Err(miette::miette!(
        help = "`cargo xtask cuda` makes one that has; docs/cuda.md says how to run it",
        "this build has no CUDA, and {device} was asked for"
    ))
}
