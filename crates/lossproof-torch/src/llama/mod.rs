//! Llama (Touvron et al. 2023), under the names and in the layout of Hugging Face.

mod architecture;
mod config;
mod model;

pub use config::{Adapters, LlamaConfig};
