//! Inferences and comparisons as sentences.

use super::{
    CountedFrom, EmptyMean, Inference, MeasuredRatio, SemanticsMatch, SemanticsMultiple, WeightComparison,
    ratio::{decimal, exact, number},
    spec_classes::words,
};
use lossproof_spec::{Clause, Prediction, TokenWeights, to_f64};
use std::fmt;

/// Positions or sequences that are named one by one; more are counted.
const NAMED: usize = 4;

fn counted(counted: CountedFrom) -> &'static str {
    match counted {
        CountedFrom::Labels => "",
        CountedFrom::Trained => ", counted from the positions that are trained",
    }
}

/// `per-token mean over the global batch`.
impl fmt::Display for SemanticsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class, counted(self.counted))
    }
}

/// `1/2 of the per-token mean over the global batch: 0.5000 = 1/2 = 1/R (2 ranks)`.
impl fmt::Display for SemanticsMultiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let factor = match self.factor.fraction() {
            Some(fraction) => fraction.to_string(),
            None => decimal(self.factor.value),
        };
        write!(f, "{factor} of the {}{}", self.class, counted(self.counted))?;
        match &self.explained {
            Some(words) => write!(f, ": {words}"),
            None => write!(f, ": {}", number(&self.factor)),
        }
    }
}

/// `every supervised token weighs 0.0400 = 1/25`, or from what to what.
fn weighs(weights: &TokenWeights) -> String {
    let of_tokens = || weights.sequences().filter(|(_, tokens)| *tokens > 0).map(|(weight, _)| weight);
    let word = |weight| exact(to_f64(weight), weight);
    match (of_tokens().min(), of_tokens().max()) {
        (Some(least), Some(most)) if least == most => {
            format!("every supervised token weighs {}", word(least))
        }
        (Some(least), Some(most)) => {
            format!("supervised tokens weigh from {} to {}", word(least), word(most))
        }
        _ => "there is no supervised token".to_owned(),
    }
}

/// What is found, then what stays undecided, line by line.
impl fmt::Display for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.matches[..], self.empty_mean) {
            ([], None) => f.write_str("no known semantics")?,
            ([], Some(empty_mean)) => {
                let what = match empty_mean {
                    EmptyMean::Nan => "NaN",
                    EmptyMean::Refused => "an error",
                };
                write!(f, "{what}, which no empty policy makes of this batch")?;
            }
            ([first, rest @ ..], _) => {
                write!(f, "{first}")?;
                if let Some(weights) = first.class.weights() {
                    write!(f, ": {}", weighs(weights))?;
                }
                confused(f, first)?;
                for other in rest {
                    write!(f, "\n  or, within the errors: {other}")?;
                    confused(f, other)?;
                }
            }
        }
        if let Some((first, rest)) = self.multiples.split_first() {
            write!(f, "\n  {first}")?;
            // Other multiples without an explanation say the same in other numbers.
            for multiple in rest.iter().filter(|multiple| multiple.explained.is_some()).take(NAMED) {
                write!(f, "\n  or {multiple}")?;
            }
        }
        positions(f, "weight on ignored positions", self.weight_on_ignored())?;
        positions(f, "no weight on supervised positions", self.missing_weight())?;
        let uneven = self.uneven_sequences();
        if !uneven.is_empty() {
            let named: Vec<_> = uneven.iter().take(NAMED).map(ToString::to_string).collect();
            write!(f, "\n  tokens of one sequence weigh differently: in {} of the sequences", uneven.len())?;
            write!(f, " (sequence {}{})", named.join(", "), if uneven.len() > NAMED { ", …" } else { "" })?;
        }
        Ok(())
    }
}

/// What the batch cannot tell from semantics that match.
fn confused(f: &mut fmt::Formatter<'_>, found: &SemanticsMatch) -> fmt::Result {
    let alternatives = found.class.alternatives();
    if let [_, others @ ..] = &alternatives[..]
        && !others.is_empty()
    {
        let named: Vec<_> = others.iter().take(NAMED).map(words).collect();
        write!(f, "\n  the same on this batch: {}", named.join("; "))?;
        if others.len() > NAMED {
            write!(f, "; and {} more", others.len() - NAMED)?;
        }
    }
    let indifferent: Vec<_> = found.class.indifferent().iter().map(ToString::to_string).collect();
    if !indifferent.is_empty() {
        write!(f, "\n  no difference on this batch: {}", indifferent.join(", "))?;
    }
    Ok(())
}

fn positions(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    predictions: impl Iterator<Item = Prediction>,
) -> fmt::Result {
    let predictions: Vec<_> = predictions.collect();
    if predictions.is_empty() {
        return Ok(());
    }
    let place = |p: &Prediction| format!("{} of sequence {}", p.position, p.sequence);
    let named: Vec<_> = predictions.iter().take(NAMED).map(place).collect();
    let more = if predictions.len() > NAMED { ", …" } else { "" };
    write!(f, "\n  {what}: {} ({}{more})", predictions.len(), named.join(", "))
}

/// `not X, hence not Y`: what is not computed, what is instead, and the clauses that follow.
impl fmt::Display for WeightComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let declared = words(&self.declared);
        if self.agrees {
            write!(f, "the {declared}, as declared")?;
        } else {
            write!(f, "not the {declared}")?;
            match &self.ratio {
                MeasuredRatio::Nothing => {}
                MeasuredRatio::Uniform { factor, .. } if factor.is(&num_traits::One::one()) => {}
                MeasuredRatio::Uniform { factor, explained } => {
                    let factor = explained.clone().unwrap_or_else(|| number(factor));
                    write!(f, ": every weight divided by what it should be is {factor}")?;
                }
                MeasuredRatio::Varies { least, most } => {
                    write!(
                        f,
                        ": weights divided by what they should be are from {} to {}",
                        number(least),
                        number(most)
                    )?;
                }
            }
            match &self.found {
                Some(found) => write!(f, "\nfound: {found}")?,
                None => f.write_str("\nfound: no known semantics")?,
            }
        }
        let consequences = &self.consequences;
        clauses(f, if self.agrees { "violated" } else { "hence violated" }, &consequences.violated)?;
        let unbroken =
            [("satisfied", &consequences.satisfied), ("not decided by this batch", &consequences.open)];
        for (what, clauses) in unbroken {
            if !clauses.is_empty() {
                let ids: Vec<_> = clauses.iter().map(|clause| clause.id).collect();
                write!(f, "\n{what}: {}", ids.join(", "))?;
            }
        }
        Ok(())
    }
}

fn clauses(f: &mut fmt::Formatter<'_>, what: &str, clauses: &[&Clause]) -> fmt::Result {
    if clauses.is_empty() {
        return Ok(());
    }
    write!(f, "\n{what}:")?;
    clauses.iter().try_for_each(|clause| write!(f, "\n  {:<5} {}", clause.id, clause.sentence))
}
