//! Numbers of both precisions, as f64.

/// A number that f64 holds exactly, and slices of which become f64 where loops are optimised: here.
pub trait Widen: Copy + Sync {
    /// Writes the values, as many as `into` has.
    ///
    /// # Panics
    /// When there are not as many.
    fn widen(values: &[Self], into: &mut [f64]);
}

impl Widen for f32 {
    #[inline(never)]
    fn widen(values: &[Self], into: &mut [f64]) {
        assert_eq!(values.len(), into.len(), "as many values as there is room for");
        for (into, &value) in into.iter_mut().zip(values) {
            *into = f64::from(value);
        }
    }
}

impl Widen for f64 {
    fn widen(values: &[Self], into: &mut [f64]) {
        into.copy_from_slice(values);
    }
}
