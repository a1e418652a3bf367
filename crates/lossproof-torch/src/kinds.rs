//! Element types as libtorch calls them.

use crate::Failure;
use lossproof_spec::Dtype;
use tch::Kind;

/// The kind of an element type that is offered.
pub(crate) fn of(dtype: Dtype) -> Result<Kind, Failure> {
    match dtype {
        Dtype::F32 => Ok(Kind::Float),
        Dtype::F64 => Ok(Kind::Double),
        Dtype::Bf16 => Ok(Kind::BFloat16),
        Dtype::F16 => Err(Failure::new(format!("{dtype} is not offered: take f64, f32 or bf16"))),
    }
}

/// The largest number that a kind has.
pub(crate) fn largest(kind: Kind) -> f64 {
    let dtype = match kind {
        Kind::BFloat16 => Dtype::Bf16,
        Kind::Float => Dtype::F32,
        _ => Dtype::F64,
    };
    dtype.largest()
}
