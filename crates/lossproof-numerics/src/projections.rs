//! Squared norm and 64 projections of elements that are taken 64 at a time.

/// Projections, elements that are projected together, and bits of a word.
pub const PROJECTIONS: usize = 64;

/// Values that take their signs from one byte.
const LANES: usize = 8;

/// Squared norm and projections in progress: plain sums. Each projection is an inner product with random signs that
/// are independent within it; those of different projections are orthogonal within a group of 64.
#[derive(Clone, Debug)]
pub struct ProjectionSums {
    /// Sum of the squares.
    pub square: f64,
    /// The projections.
    pub projections: [f64; PROJECTIONS],
}

impl Default for ProjectionSums {
    fn default() -> Self {
        Self { square: 0.0, projections: [0.0; PROJECTIONS] }
    }
}

impl ProjectionSums {
    /// Adds a group of elements, zeros where it has fewer: the signs of `before`, a Walsh–Hadamard transform, and the
    /// signs of `after`. What becomes of `values` is of no use.
    #[inline(never)]
    pub fn add(&mut self, values: &mut [f64; PROJECTIONS], before: u64, after: u64) {
        self.square += squares(values);
        for (lanes, signs) in values.as_chunks_mut::<LANES>().0.iter_mut().zip(before.to_le_bytes()) {
            for (value, sign) in lanes.iter_mut().zip(&SIGNS[usize::from(signs)]) {
                *value *= sign;
            }
        }
        transform(values);
        let sums = self.projections.as_chunks_mut::<LANES>().0.iter_mut();
        for ((sums, lanes), signs) in sums.zip(values.as_chunks::<LANES>().0).zip(after.to_le_bytes()) {
            for ((sum, value), sign) in sums.iter_mut().zip(lanes).zip(&SIGNS[usize::from(signs)]) {
                *sum += value * sign;
            }
        }
    }
}

/// Sum of squares, in lanes that the compiler can keep in one register.
fn squares(values: &[f64; PROJECTIONS]) -> f64 {
    let mut lanes = [0.0; LANES];
    for values in values.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += value * value;
        }
    }
    lanes.iter().sum()
}

/// The Walsh–Hadamard transform: every result is a sum of all 64 values with signs, the sign vectors being
/// orthogonal.
fn transform(values: &mut [f64; PROJECTIONS]) {
    let mut half = PROJECTIONS / 2;
    while half > 0 {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        half /= 2;
    }
}

/// The signs in each byte, a factor per bit: a table of factors is faster than shifting bits.
static SIGNS: [[f64; LANES]; 256] = {
    let mut table = [[1.0; LANES]; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut bit = 0;
        while bit < LANES {
            if byte >> bit & 1 == 1 {
                table[byte][bit] = -1.0;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};
