//! The kit of wrappers that break a subject: an honest subject inside, and hooks on its way in and out.
//!
//! A [`Wrapped`] subject answers as the subject inside it does, but for what its [`Hooks`] change, so that a
//! broken subject is the few lines that are wrong about it:
//!
//! ```
//! use lossproof_faults::kit::{Hooks, wrap};
//! # fn honest() -> Box<dyn lossproof_subject::Subject> {
//! #     lossproof_gpt2::reference(
//! #         lossproof_gpt2::Config::Pico,
//! #         lossproof_spec::Dtype::F64,
//! #         lossproof_subject::Device::Cpu,
//! #     )
//! #     .expect("the reference")
//! # }
//! // Hands over twice the gradient, and reports the loss that belongs to the right one.
//! let doubled = wrap(honest(), (), Hooks { gradient: |(), _, handed| handed.scale(2.0), ..Hooks::IDENTITY });
//! assert_eq!(doubled.parameters(), honest().parameters());
//! ```
//!
//! What a hook remembers from call to call is the state of the wrapper, the first argument of every hook.
//! Wrappers go around wrappers.

mod handed_over;
mod hooks;
mod wrapped;

pub use handed_over::{HandedOver, NamedTensor};
pub use hooks::{Capability, Hooks};
pub use wrapped::{Wrapped, bare, wrap};
