//! The independent implementation: GPT-2 and Llama on libtorch, through tch.
//!
//! Written from the papers (Radford et al. 2018, 2019; Touvron et al. 2023), from what Hugging Face documents
//! of its GPT-2 and its Llama, and from the loss spec; never from the reference. What the two share is the
//! spec and the names of the parameters, so that an error in one is not an error in the other. Losses are
//! libtorch's own `cross_entropy_loss` with its own reductions; token weights play no part in them.
//!
//! ```no_run
//! use lossproof_spec::{Dtype, GlobalBatch, Sequence};
//! use lossproof_subject::{Collect, Device, Subject};
//! use lossproof_torch::{Gpt2Config, libtorch};
//!
//! let mut subject = libtorch(&Gpt2Config::NANO, Dtype::F64, Device::Cpu)?;
//! let tokens: Vec<u32> = b"one step".iter().copied().map(u32::from).collect();
//! let labels = tokens.iter().copied().map(i64::from).collect();
//! let mut gradient = Collect::default();
//! let seen = subject.accumulate(&GlobalBatch::single(Sequence::new(tokens, labels)?), &mut gradient)?;
//! println!("{} nats per token", seen.loss);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Optimizer steps
//! The optimizers are `torch::optim::SGD`, `Adam` and `AdamW` of libtorch's C++ library; loss scaling,
//! clipping and the schedule around them follow [`Optimizer`](lossproof_spec::Optimizer). A parameter that no
//! loss reaches has a gradient of zero, so that it decays with the others; norms are taken in f64; a skipped
//! step reports a clip factor of 1. Values [set](lossproof_subject::LoadParameters::set) between two steps
//! are stepped from. Beside a second copy of the gradient and the optimizer's state a step needs memory for
//! two copies of the parameters: the initial ones, and those of before, should the update fail halfway.
//!
//! # Threads
//! A model of fewer than 2^20 parameters (gpt2-pico, gpt2-nano) computes on one thread, which keeps it fast
//! beside other work and its results the same on any number of cores; libtorch's thread count is put back
//! after each call. Larger models use as many threads as libtorch is set to.

mod architecture;
mod begun;
mod config;
mod evaluation;
mod failure;
mod gpt2;
mod kinds;
mod layers;
mod llama;
mod loop_trainer;
mod mixture;
mod objective;
mod objectives;
mod padded;
mod parameters;
mod recomputation;
mod started;
mod steps;
mod subject;
mod threads;
mod upstream;
mod window;

pub use config::Config;
use failure::Failure;
pub use gpt2::{Activation, Gpt2Config};
pub use llama::{Adapters, LlamaConfig};
use lossproof_spec::Dtype;
use lossproof_subject::{Device, LoopTrainer, ParameterSource, Subject, SubjectError, Unsupported};
pub use mixture::Mixture;

/// What this trainer calls itself.
const NAME: &str = "libtorch";

/// A model of shape `config`, a [`Gpt2Config`], a [`LlamaConfig`] or either as a [`Config`], on libtorch, in
/// f64, f32 or bf16, on the processor or a CUDA device. In bf16 everything is but the loss, which is computed in f32
/// from its logits; with [master weights](Mixture::masters) of f32 it is mixed precision.
///
/// Until parameters are loaded it has the model's own initialisation from the fixed seed 20190214. Its loss
/// is the mean over all supervised tokens until it is [configured](Subject::configure); every spec that
/// counts supervised tokens is supported. It loads parameters, evaluates token losses and corpora,
/// differentiates any weighted sum of token losses, and takes steps of libtorch's own SGD, Adam and `AdamW`,
/// which have no ε before the bias correction.
///
/// Under the empty policy `nan` the loss is NaN where a mean is taken of nothing, but the gradient is not:
/// libtorch's own mean hands zero back to every ignored prediction, so that the empty group adds nothing to
/// it.
///
/// # Errors
/// [`SubjectError::Failed`] when there is no such model (a size of zero, or heads that cannot be split so),
/// for any other dtype, when libtorch has no such CUDA device, and when it cannot allocate the parameters.
pub fn libtorch<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
) -> Result<Box<dyn Subject + Send>, SubjectError> {
    libtorch_mixed(config, dtype, device, &Mixture::default(), None)
}

/// [`libtorch`] with these initial parameters, of which it reads one tensor at a time: it holds no copy of
/// them.
///
/// # Errors
/// As [`libtorch`], and when a parameter cannot be read or has another shape.
pub fn libtorch_at<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
    initial: &dyn ParameterSource,
) -> Result<Box<dyn Subject + Send>, SubjectError> {
    libtorch_mixed(config, dtype, device, &Mixture::default(), Some(initial))
}

/// A model that computes in `dtype`, whose parameters are not all held alike: those of a [`Mixture`]. Without
/// initial parameters it has the model's own, and the frozen ones keep theirs.
///
/// [`Subject::parameters`] lists what is trained, and that is what is [loaded](lossproof_subject::LoadParameters)
/// and set. Frozen parameters are on the card, and their values come from `initial`, where they are read as the
/// others are: to load or set one by its name is refused.
///
/// # Errors
/// As [`libtorch_at`], when the mixture names a parameter that the model has not or an element type that is not
/// offered, and when nothing is left to be trained.
pub fn libtorch_mixed<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
    mixture: &Mixture,
    initial: Option<&dyn ParameterSource>,
) -> Result<Box<dyn Subject + Send>, SubjectError> {
    Ok(Box::new(subject::Torch::new(config.clone().into(), dtype, device, mixture, initial)?))
}

/// [`libtorch_at`] as a training loop drives it; a Llama has no dropout. Its update rules are written in libtorch's
/// tensor operations.
///
/// # Errors
/// As [`libtorch_at`].
pub fn loop_trainer<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
    initial: Option<&dyn ParameterSource>,
) -> Result<Box<dyn LoopTrainer + Send>, SubjectError> {
    Ok(Box::new(for_a_loop(config, dtype, device, initial)?))
}

/// [`loop_trainer`] whose backward pass keeps what goes into each block alone, and computes the rest a second
/// time, under the same masks of dropout. Loss and gradient are those of [`loop_trainer`]; only an embedding
/// that is the head may differ by rounding where several micro-batches are added up, because its two parts
/// come one after the other.
///
/// # Errors
/// As [`libtorch_at`].
pub fn recomputing_loop_trainer<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
    initial: Option<&dyn ParameterSource>,
) -> Result<Box<dyn LoopTrainer + Send>, SubjectError> {
    let mut trainer = for_a_loop(config, dtype, device, initial)?;
    trainer.recomputes = true;
    Ok(Box::new(trainer))
}

fn for_a_loop<C: Clone + Into<Config>>(
    config: &C,
    dtype: Dtype,
    device: Device,
    initial: Option<&dyn ParameterSource>,
) -> Result<subject::Torch, Failure> {
    subject::Torch::new(config.clone().into(), dtype, device, &Mixture::default(), initial)
}

/// This trainer has no such thing.
fn unsupported(what: String) -> Unsupported {
    Unsupported::new(NAME, what)
}

/// A size as libtorch counts it.
fn dim(size: usize) -> i64 {
    i64::try_from(size).expect("invariant: the size of something in memory")
}
