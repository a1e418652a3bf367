//! What single modes of trainers make of the batch that is asked about.

use super::{
    batch::Batch,
    classes::{Class, letters, span, weigh},
    modes::Mode,
    semantics::Semantics,
};
use crate::{
    number::{fraction, range},
    table::{Align, Table},
    text::paragraph,
};
use lossproof_spec::{Fraction, WeightRatio};
use num_traits::Zero;

/// A table of what `modes` weigh on `batch`, and a paragraph on each; `classes` are the lettered semantics
/// there.
pub(super) fn asked(modes: &[&Mode], batch: &Batch, classes: &[Class]) -> String {
    let mut table = Table::new([
        ("mode", Align::Left),
        ("a loss is divided by", Align::Left),
        ("weight here", Align::Right),
        ("which is here", Align::Left),
    ]);
    let mut paragraphs = String::new();
    for mode in modes {
        let row =
            |weight: String, here: String| [mode.name.to_owned(), mode.divided_by.to_owned(), weight, here];
        match mode.weighing.weights(batch) {
            Err(empty) => {
                table.row(row("NaN".to_owned(), String::new()));
                paragraphs += &paragraph(&format!("{}: {empty}. {}", mode.name, mode.note), 2);
            }
            Ok(weights) => {
                let here = classes.iter().find(|class| equal(&weights, class));
                let here = here.map_or(&[][..], |class| &class.members);
                let shown = span(weights.iter().filter(|weight| !weight.is_zero()));
                let named = if here.is_empty() { "no letter".to_owned() } else { letters(here, ", ") };
                table.row(row(shown, named));
                paragraphs += &paragraph(&about(mode, &weights, here, batch), 2);
            }
        }
    }
    format!("\n{}\n{paragraphs}", table.render())
}

fn equal(weights: &[Fraction], class: &Class) -> bool {
    weights.iter().eq(class.weights.sequences().map(|(weight, _)| weight))
}

/// Which semantics a mode is, where it parts from the nearest letter, and what is said of it.
fn about(mode: &Mode, weights: &[Fraction], here: &[Semantics], batch: &Batch) -> String {
    let short = mode.weighing.short();
    let which = match (mode.weighing.lettered(), &mode.nearest) {
        (Some(letter), _) => {
            let others: Vec<_> = here.iter().copied().filter(|s| s.spec() != letter.spec()).collect();
            let reason = if others.is_empty() {
                String::new()
            } else if batch.groups() == 1 {
                format!(", and so {} here, where there is one micro-batch only", letters(&others, ", "))
            } else {
                format!(", and so {} here, for the reason above", letters(&others, ", "))
            };
            format!("{} is {short}, on every batch{reason}.", mode.name)
        }
        (None, Some(nearest)) => {
            let letter = nearest.semantics.letter();
            let parting = if here.contains(&nearest.semantics) {
                format!("It is {letter} here because {}; elsewhere they part.", nearest.when)
            } else {
                let times = times(weights, &lettered(nearest.semantics, batch));
                format!(
                    "It is {letter} where {}; here its weights are {times} those of {letter}.",
                    nearest.when
                )
            };
            format!("{} is {short}. {parting}", mode.name)
        }
        (None, None) => {
            let times = times(weights, &lettered(Semantics::TokenMean, batch));
            format!("{} is {short}. Here its weights are {times} those of B.", mode.name)
        }
    };
    let mut sentences = vec![which];
    // No promise is a mean that is NaN over nothing: a test of the modes holds them to numbers.
    if let Some((promise, Ok(promised))) = mode.promise.as_ref().map(|p| (p, p.weighing.weights(batch))) {
        let kept = if weights == promised {
            "here that is the same".to_owned()
        } else {
            format!("here its weights are {} those", times(weights, &promised))
        };
        let which = promise.weighing.short();
        sentences.push(format!(
            "Its documentation ({}) speaks of {}, which is {which}: {kept}.",
            promise.source, promise.says
        ));
    }
    if !mode.note.is_empty() {
        sentences.push(mode.note.to_owned());
    }
    sentences.join(" ")
}

fn lettered(semantics: Semantics, batch: &Batch) -> Vec<Fraction> {
    weigh(&semantics.spec(), batch).sequences().map(|(weight, _)| weight.clone()).collect()
}

/// How many times the one weighs what the other does.
fn times(weights: &[Fraction], others: &[Fraction]) -> String {
    match ratio(weights, others) {
        WeightRatio::Uniform(ratio) => format!("{} times", fraction(&ratio)),
        WeightRatio::Varies { min, max } => format!("{} times", range(&min, &max)),
        WeightRatio::Nothing => String::new(),
    }
}

/// The least and the most that a weight is of another, over the sequences that have one.
fn ratio(weights: &[Fraction], others: &[Fraction]) -> WeightRatio {
    let mut extremes: Option<(Fraction, Fraction)> = None;
    let mut previous = None;
    for (weight, other) in weights.iter().zip(others).filter(|(_, other)| !other.is_zero()) {
        // Neighbours mostly weigh alike, and quotients of big integers are dear.
        if previous.replace((weight, other)) == Some((weight, other)) {
            continue;
        }
        let ratio = weight / other;
        extremes = Some(match extremes {
            None => (ratio.clone(), ratio),
            Some((least, most)) => (least.min(ratio.clone()), most.max(ratio)),
        });
    }
    match extremes {
        None => WeightRatio::Nothing,
        Some((min, max)) if min == max => WeightRatio::Uniform(min),
        Some((min, max)) => WeightRatio::Varies { min, max },
    }
}
