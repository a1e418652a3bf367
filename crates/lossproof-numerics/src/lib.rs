//! f64 truth that shares no code with what it judges.

mod dtype;

pub use dtype::Dtype;
