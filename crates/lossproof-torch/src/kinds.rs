//! Element types as libtorch calls them.

use crate::Failure;
use lossproof_spec::Dtype;
use tch::Kind;

/// The kind of an element type that is offered.
pub(crate) fn of(dtype: Dtype) -> Result<Kind, Failure> {
    match dtype {
        Dtype::F32 => Ok(Kind::Float),
        Dtype::F64 => Ok(Kind::Double),
        Dtype::F16 | Dtype::Bf16 => Err(Failure::new(format!("{dtype} is not offered: take f32 or f64"))),
    }
}
