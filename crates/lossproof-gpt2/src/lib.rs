//! The reference trainer: GPT-2 on dfdx's compile-time shapes, with the loss semantics of the spec computed the natural
//! way, as means and sums of what is there, never through a weight vector.
//!
//! Most users need the non-generic door, [`reference()`], which hides dfdx:
//!
//! ```
//! use lossproof_gpt2::{Config, reference};
//! use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Sequence};
//! use lossproof_subject::{Collect, Device};
//!
//! let mut trainer = reference(Config::Pico, Dtype::F64, Device::Cpu)?;
//! trainer.configure(&LossSpec::token_mean())?;
//! let batch = GlobalBatch::single(Sequence::new(vec![5, 6, 7], vec![5, 6, 7])?);
//! let mut gradient = Collect::default();
//! let observed = trainer.accumulate(&batch, &mut gradient)?;
//! assert_eq!(observed.supervised_tokens, Some(2)); // three tokens, two predictions
//! assert_eq!(gradient.into_tensors()["wte.weight"].shape(), [64, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The model itself, [`Gpt2`], is generic over its configuration, element type and dfdx device. Its parameters' shapes
//! are types, so a wrong one does not compile:
//!
//! ```compile_fail,E0308
//! use dfdx::{shapes::Const, tensor::{Cpu, Tensor}};
//! use lossproof_gpt2::{Gpt2, config::Nano};
//! // The table of gpt2-nano has 257 rows, not 256.
//! fn replace(model: &mut Gpt2<Nano, f64, Cpu>, table: Tensor<(Const<256>, Const<32>), f64, Cpu>) {
//!     model.wte = table;
//! }
//! ```
//!
//! Nor does a configuration whose heads do not fill its width:
//!
//! ```compile_fail,E0080
//! use dfdx::{shapes::Const, tensor::Cpu};
//! use lossproof_gpt2::{Gpt2, config::Gpt2Config};
//! #[derive(Clone, Copy, Debug)]
//! struct Crooked;
//! impl Gpt2Config for Crooked {
//!     type Vocabulary = Const<64>;
//!     type Positions = Const<16>;
//!     type Width = Const<8>;
//!     type Heads = Const<3>; // 3 × 2 is not 8
//!     type HeadSize = Const<2>;
//!     type FeedForward = Const<32>;
//!     const NAME: &'static str = "crooked";
//!     const LAYERS: usize = 1;
//! }
//! let _ = Gpt2::<Crooked, f64, Cpu>::zeros(&Cpu::default());
//! ```

#![expect(
    clippy::type_complexity,
    reason = "a tensor's shape is its type here: an alias would hide what is to be read"
)]

mod accumulate;
mod affine;
mod attention;
mod begun;
pub mod checkpoint;
pub mod config;
mod door;
mod dropout;
mod element;
mod evaluation;
mod exponential;
mod failure;
mod hand_over;
mod initial;
mod kernels;
mod loop_trainer;
mod loss;
mod model;
mod named;
mod objectives;
mod optimizer;
mod rows;
mod started;
mod step;
mod subject;
mod upstream;

pub use config::{Config, ModelShape};
pub use door::{loop_trainer, reference, reference_at};
pub use element::Element;
pub use initial::{gpt2_initial, probe_initial};
pub use kernels::{Kernels, Modified};
pub use model::{Block, Gpt2};
