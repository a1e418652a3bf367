//! The two implementations, by their names on the command line.

use lossproof_diagnosis::Diagnostician;
use lossproof_gpt2::{Config, gpt2_initial, reference};
use lossproof_spec::Dtype;
use lossproof_subject::{Device, LoopTrainer, ParameterSource, Subject, SubjectError};
use lossproof_torch::{Gpt2Config, Mixture, libtorch, libtorch_mixed};
use miette::IntoDiagnostic;
use std::sync::Arc;

/// The arithmetic of one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arithmetic {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// bfloat16 for everything but the loss, which is computed in f32: libtorch's alone.
    Bf16,
    /// bfloat16 beside master weights in f32, in which gradients are added up: libtorch's alone.
    Mixed,
}

impl Arithmetic {
    /// The element type that is computed in.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
            Self::Bf16 | Self::Mixed => Dtype::Bf16,
        }
    }

    /// That of whoever has to be right beside it.
    pub(crate) fn truth(self) -> Dtype {
        if self == Self::F32 { Dtype::F32 } else { Dtype::F64 }
    }

    /// Refuses what the reference has not.
    ///
    /// # Errors
    /// When it is half precision.
    pub(crate) fn of_the_reference(self) -> miette::Result<Dtype> {
        match self {
            Self::F32 | Self::F64 => Ok(self.dtype()),
            Self::Bf16 | Self::Mixed => Err(miette::miette!(
                help = "libtorch has it: `--subject libtorch`",
                "the reference computes in f32 and in f64"
            )),
        }
    }
}

/// The implementation on libtorch in any arithmetic.
pub(crate) fn theirs_in(
    config: Config,
    arithmetic: Arithmetic,
    device: Device,
) -> miette::Result<Box<dyn Subject>> {
    let masters = (arithmetic == Arithmetic::Mixed).then_some(Dtype::F32);
    let mixture = Mixture { masters, ..Mixture::default() };
    Ok(libtorch_mixed(&named(config), arithmetic.dtype(), device, &mixture, None).into_diagnostic()?)
}

/// The reference.
pub(crate) fn ours(config: Config, dtype: Dtype, device: Device) -> miette::Result<Box<dyn Subject>> {
    reference(config, dtype, device).into_diagnostic()
}

/// The implementation on libtorch.
pub(crate) fn theirs(config: Config, dtype: Dtype, device: Device) -> miette::Result<Box<dyn Subject>> {
    Ok(libtorch(&named(config), dtype, device).into_diagnostic()?)
}

/// The initial parameters of a seed.
pub(crate) fn initial(config: Config, seed: u64) -> Arc<dyn ParameterSource> {
    Arc::new(gpt2_initial(config.shape(), seed))
}

/// The reference at these parameters, as a loop drives it.
pub(crate) fn ours_for_a_loop(
    config: Config,
    dtype: Dtype,
    initial: Arc<dyn ParameterSource>,
) -> miette::Result<Box<dyn LoopTrainer>> {
    lossproof_gpt2::loop_trainer(config, dtype, Device::Cpu, initial).into_diagnostic()
}

/// The implementation on libtorch at these parameters, as a loop drives it.
pub(crate) fn theirs_for_a_loop(
    config: Config,
    dtype: Dtype,
    initial: &dyn ParameterSource,
) -> miette::Result<Box<dyn LoopTrainer>> {
    Ok(lossproof_torch::loop_trainer(&named(config), dtype, Device::Cpu, Some(initial)).into_diagnostic()?)
}

/// The same, which recomputes activations in a backward pass.
pub(crate) fn theirs_recomputing(
    config: Config,
    dtype: Dtype,
    initial: &dyn ParameterSource,
) -> miette::Result<Box<dyn LoopTrainer>> {
    let trainer =
        lossproof_torch::recomputing_loop_trainer(&named(config), dtype, Device::Cpu, Some(initial));
    Ok(trainer.into_diagnostic()?)
}

/// A diagnostician for whom the reference is right.
pub(crate) fn beside_the_reference(config: Config, dtype: Dtype, device: Device) -> Diagnostician {
    Diagnostician::with_reference(move || {
        reference(config, dtype, device).map_err(|error| SubjectError::Failed {
            subject: "reference".to_owned(),
            message: error.to_string(),
        })
    })
}

/// A diagnostician for whom the implementation on libtorch is right.
pub(crate) fn beside_libtorch(config: Config, dtype: Dtype, device: Device) -> Diagnostician {
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
