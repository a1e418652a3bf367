//! What was measured against what was declared.

use super::{
    BeyondLayout, EmptyMean, Inference, Measurement, SemanticsMultiple, Span,
    consequences::{Consequences, WeightEvidence},
    explain_ratio,
    spec_classes::{numberless, outcome},
};
use lossproof_spec::{LossSpec, to_f64};
use num_traits::One as _;

/// How a trainer's weights compare with those of the semantics it declares.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightComparison {
    /// What was declared.
    pub declared: LossSpec,
    /// Whether the weights may be those, within the errors.
    pub agrees: bool,
    /// The measured weights divided by the declared ones.
    pub ratio: MeasuredRatio,
    /// What follows for the clauses of `docs/SPEC.md`.
    pub consequences: Consequences,
    /// What was found, in words, where it has a name.
    pub found: Option<String>,
}

/// Measured weights divided by the weights of a semantics, over the tokens that have both.
#[derive(Clone, Debug, PartialEq)]
pub enum MeasuredRatio {
    /// There is no such token.
    Nothing,
    /// One factor for all.
    Uniform {
        /// The factor.
        factor: Measurement,
        /// What it is on this layout, as [`explain_ratio`] says it.
        explained: Option<String>,
    },
    /// Different factors for different tokens.
    Varies {
        /// The smallest.
        least: Measurement,
        /// The largest.
        most: Measurement,
    },
}

impl Inference {
    /// Holds what was measured to the semantics that a trainer declares.
    #[must_use]
    pub fn against(&self, declared: &LossSpec) -> WeightComparison {
        let agrees = self.agrees(declared);
        let found: Vec<LossSpec> =
            self.matches.iter().flat_map(|found| found.class.specs()).copied().collect();
        let consequences = Consequences::of(&WeightEvidence {
            layout: &self.layout,
            declared,
            as_declared: agrees,
            ignored_weigh: self.weight_on_ignored().next().is_some(),
            found: &found,
        });
        let found = self.matches.first().map(ToString::to_string);
        let found = found.or_else(|| self.plain_multiple_of(declared).map(ToString::to_string));
        let found = found.or_else(|| self.multiples.first().map(ToString::to_string));
        let found = found.map(|found| found + &self.mask_in_words());
        WeightComparison { declared: *declared, agrees, ratio: self.ratio(declared), consequences, found }
    }

    /// What is declared times a whole number, or one over one: on a small batch some quotient of counts
    /// equals nearly any factor of another semantics.
    fn plain_multiple_of(&self, declared: &LossSpec) -> Option<&SemanticsMultiple> {
        self.multiples.iter().find(|multiple| {
            let is_declared =
                multiple.class.specs().iter().any(|spec| numberless(spec) == numberless(declared));
            let factor = multiple.factor.fraction();
            is_declared && factor.is_some_and(|factor| factor.numer().is_one() || factor.denom().is_one())
        })
    }

    /// Where the mask is not the labels': `, with weight on 1 ignored position`.
    fn mask_in_words(&self) -> String {
        let words = |count: usize, what: &str, kind: &str| match count {
            0 => String::new(),
            1 => format!(", {what} 1 {kind} position"),
            count => format!(", {what} {count} {kind} positions"),
        };
        words(self.weight_on_ignored().count(), "with weight on", "ignored")
            + &words(self.missing_weight().count(), "without weight on", "supervised")
    }

    fn agrees(&self, declared: &LossSpec) -> bool {
        let as_labelled = self.readings.iter().all(|r| r.trained == r.prediction.supervised);
        match (outcome(declared, &self.layout), self.empty_mean) {
            (Err(nan), Some(empty_mean)) => nan == (empty_mean == EmptyMean::Nan),
            (Ok(weights), None) => {
                let spans = self.spans();
                let mut pairs = weights.sequences().zip(&spans);
                as_labelled
                    && pairs.all(|((weight, _), span)| match span {
                        Span::Untrained => true,
                        Span::Uneven => false,
                        Span::Between(low, high) => (*low..=*high).contains(&to_f64(weight)),
                    })
            }
            _ => false,
        }
    }

    /// Token by token, so that weights that differ within a sequence have a ratio too.
    fn ratio(&self, declared: &LossSpec) -> MeasuredRatio {
        let Ok(weights) = outcome(declared, &self.layout) else { return MeasuredRatio::Nothing };
        let supervised =
            self.readings.iter().filter(|r| r.prediction.supervised && r.measured.error.is_finite());
        let mut factors = supervised.map(|reading| {
            let weight = to_f64(weights.of_sequence(reading.prediction.sequence));
            Measurement { value: reading.measured.value / weight, error: reading.measured.reach() / weight }
        });
        let Some(first) = factors.next() else { return MeasuredRatio::Nothing };
        let (mut least, mut most) = (first, first);
        let (mut low, mut high) = (first.low(), first.high());
        for factor in factors {
            (low, high) = (low.max(factor.low()), high.min(factor.high()));
            if factor.value < least.value {
                least = factor;
            }
            if factor.value > most.value {
                most = factor;
            }
        }
        if low > high {
            return MeasuredRatio::Varies { least, most };
        }
        let factor = Measurement { value: f64::midpoint(low, high), error: (high - low) / 2.0 };
        let explained = explain_ratio(&self.layout, BeyondLayout::default(), factor.value, factor.error);
        MeasuredRatio::Uniform { factor, explained }
    }
}

#[cfg(test)]
mod tests {
    use crate::inference::{Measurement, infer};
    use lossproof_cases::designed_batch;
    use lossproof_spec::LossSpec;
    use lossproof_subject::{Count, Limits};

    #[test]
    fn a_plain_factor_of_what_is_declared_is_called_that() {
        let limits = Limits { ranks: Count::exactly(1), ..Limits::of_model(64, 16) };
        for (factor, found) in [(8.0, "8 of the per-token mean"), (1.0 / 16.0, "1/16 of the per-token mean")]
        {
            let batch = designed_batch(&limits, 0);
            let weight = factor / batch.layout().supervised() as f64;
            let measured: Vec<Measurement> = batch
                .predictions()
                .map(|prediction| Measurement {
                    value: if prediction.supervised { weight } else { 0.0 },
                    error: 1e-9,
                })
                .collect();
            let comparison = infer(&batch, &measured).unwrap().against(&LossSpec::token_mean());
            assert!(comparison.found.as_ref().is_some_and(|said| said.starts_with(found)), "{comparison:?}");
        }
    }
}
