//! GPT-2 (Radford et al. 2018, 2019), under the names and in the layout of Hugging Face.

mod architecture;
mod config;
mod model;

pub use config::{Activation, Gpt2Config};
