//! Floating-point formats and their rounding.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The element type a trainer computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Unit round-off `u = 2^−p` with `p` significant bits: rounding to nearest has a relative error of at most `u`.
    #[must_use]
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Self::F64 => f64::EPSILON / 2.0,
            Self::F32 => f64::from(f32::EPSILON) / 2.0,
            Self::F16 => (-11.0_f64).exp2(),
            Self::Bf16 => (-8.0_f64).exp2(),
        }
    }

    /// The largest number that it has.
    #[must_use]
    pub fn largest(self) -> f64 {
        match self {
            Self::F64 => f64::MAX,
            Self::F32 => f64::from(f32::MAX),
            Self::F16 => 65504.0,
            Self::Bf16 => (2.0 - (-7.0_f64).exp2()) * 127.0_f64.exp2(),
        }
    }

    /// The one of two that rounds more.
    #[must_use]
    pub fn coarser(self, other: Self) -> Self {
        if other.unit_roundoff() > self.unit_roundoff() { other } else { self }
    }
}

/// The element types that a number of a trainer passes through: of each kind the coarsest on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dtypes {
    /// In which parameters are held.
    pub parameters: Dtype,
    /// In which a gradient is computed from the loss back to its parameter, and in which it is handed over.
    pub gradient: Dtype,
    /// In which activations, logits and losses are computed.
    pub loss: Dtype,
    /// In which the gradients of micro-batches and ranks are added up.
    pub accumulation: Dtype,
}

impl Dtypes {
    /// One for everything.
    #[must_use]
    pub const fn all(dtype: Dtype) -> Self {
        Self { parameters: dtype, gradient: dtype, loss: dtype, accumulation: dtype }
    }

    /// The coarsest of them.
    #[must_use]
    pub fn coarsest(self) -> Dtype {
        self.parameters.coarser(self.gradient).coarser(self.loss).coarser(self.accumulation)
    }
}

/// One name where all are one, and else each with its own.
impl fmt::Display for Dtypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, gradient, loss, accumulation } = self;
        if *self == Self::all(*parameters) {
            return parameters.fmt(f);
        }
        write!(f, "{parameters} (gradient {gradient}, loss {loss}, accumulation {accumulation})")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarsest_is_the_one_that_rounds_most() {
        let mixed = Dtypes { gradient: Dtype::Bf16, loss: Dtype::F16, ..Dtypes::all(Dtype::F32) };
        assert_eq!(mixed.coarsest(), Dtype::Bf16);
        assert_eq!(Dtype::F64.coarser(Dtype::F32), Dtype::F32);
        assert_eq!(Dtype::F16.coarser(Dtype::F32), Dtype::F16);
        assert_eq!(Dtypes::all(Dtype::F64).to_string(), "f64");
        assert_eq!(mixed.to_string(), "f32 (gradient bf16, loss f16, accumulation f32)");
    }
}
