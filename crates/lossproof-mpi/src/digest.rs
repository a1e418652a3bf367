//! Whether all ranks have the same parameters after an update, by a digest of each one's.

use crate::{RankError, World};
use lossproof_subject::{GradientSink, GradientView, SinkError};

/// A hash of the bits of all parameters (FNV-1a over 64-bit words), in which one bit makes a difference.
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Meets all ranks after an update, where each has to have the parameters of the first.
    ///
    /// # Errors
    /// When a rank does not come, or has other parameters.
    pub(crate) fn agree(&self, world: &World) -> Result<(), RankError> {
        let (place, what) = ("the parameters after an update", "other parameters after an update");
        world.agree(place, what, self.0.to_le_bytes().to_vec())
    }

    /// A NaN is one like any other: which bits it has depends on which of two was added to the other.
    fn add_value(&mut self, value: f64) {
        let word = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

impl GradientSink for Digest {
    fn receive(&mut self, _: &str, _: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        match values {
            GradientView::F32(values) => values.iter().for_each(|&value| self.add_value(value.into())),
            GradientView::F64(values) => values.iter().for_each(|&value| self.add_value(value)),
        }
        Ok(())
    }
}
