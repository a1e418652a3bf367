//! What the quotient of two logs equals: the number of micro-batches, say.

use crate::explain::{Batch, BatchShape};
use lossproof_diagnosis::inference::{BeyondLayout, Measurement, explain_ratio};
use lossproof_logs::Ratio;

/// Numbers that logs may differ by whatever the batch is.
const CONSTANTS: [(f64, &str); 2] = [
    (std::f64::consts::LOG2_E, "1/ln 2: the second is in bits, the first in nats"),
    (std::f64::consts::LN_2, "ln 2: the second is in nats, the first in bits"),
];

/// What a batch is known to be, so that quotients have a name.
pub(super) struct Known {
    shape: BatchShape,
    batch: Option<Batch>,
}

impl Known {
    /// From what the command line says of the batch.
    ///
    /// # Errors
    /// When it describes no batch.
    pub(super) fn new(shape: &BatchShape) -> miette::Result<Self> {
        let described = shape.sequences.is_some() || shape.length.is_some() || !shape.lengths.is_empty();
        let batch = described.then(|| Batch::new(shape)).transpose()?;
        Ok(Self { shape: shape.clone(), batch })
    }

    /// What a quotient equals, in words: `8.000 = micro-batches (8)`.
    pub(super) fn said(&self, ratio: &Ratio) -> String {
        let Ratio { value, error } = *ratio;
        if let Some(batch) = &self.batch
            && let Some(words) = explain_ratio(&batch.layout, BeyondLayout::default(), value, error)
        {
            return words;
        }
        let decimal = decimal(ratio);
        for (number, what) in CONSTANTS {
            if (value - number).abs() <= error {
                return format!("{decimal} = {what}");
            }
        }
        let (micro_batches, ranks) = (self.shape.micro_batches as f64, self.shape.ranks as f64);
        let counts = [
            (micro_batches, "micro-batches", "K"),
            (ranks, "ranks", "R"),
            (micro_batches * ranks, "micro-batches × ranks", "K·R"),
        ];
        for (count, what, letter) in counts {
            if count > 1.0 && (value - count).abs() <= error {
                return format!("{decimal} = {what} ({count})");
            }
            if count > 1.0 && (value - count.recip()).abs() <= error {
                return format!("{decimal} = 1/{letter}, {what} ({count})");
            }
        }
        match (Measurement { value, error }).fraction() {
            Some(fraction) => format!("{decimal} = {fraction}"),
            None => decimal,
        }
    }
}

/// As many digits as are known, and three decimals at least.
fn decimal(ratio: &Ratio) -> String {
    let known = (-ratio.error.max(1e-12).log10()).clamp(3.0, 9.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 3 and 9")]
    let decimals = known as usize;
    format!("{:.decimals$}", ratio.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(shape: &BatchShape, value: f64, error: f64) -> String {
        Known::new(shape).unwrap().said(&Ratio { value, error })
    }

    #[test]
    fn a_quotient_has_the_name_of_what_it_equals() {
        let eight = BatchShape { micro_batches: 8, ranks: 2, ..BatchShape::default() };
        assert_eq!(said(&eight, 8.0001, 1e-3), "8.000 = micro-batches (8)");
        assert_eq!(said(&eight, 0.125, 1e-4), "0.1250 = 1/K, micro-batches (8)");
        assert_eq!(said(&eight, 16.0, 1e-3), "16.000 = micro-batches × ranks (16)");
        let unknown = BatchShape { micro_batches: 1, ranks: 1, ..BatchShape::default() };
        assert_eq!(
            said(&unknown, 1.442_71, 1e-4),
            "1.4427 = 1/ln 2: the second is in bits, the first in nats"
        );
        assert_eq!(said(&unknown, 8.0, 1e-5), "8.00000 = 8");
        assert_eq!(said(&unknown, 1.2345, 0.1), "1.234");
        let described = BatchShape {
            sequences: Some(8),
            length: Some(64),
            micro_batches: 4,
            ranks: 1,
            ..BatchShape::default()
        };
        assert!(
            said(&described, 63.0 / 64.0, 1e-5).contains("63/64"),
            "{}",
            said(&described, 63.0 / 64.0, 1e-5)
        );
    }
}
