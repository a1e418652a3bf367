//! Two logs compared, as a report: the curves with their difference.

use crate::{
    exit::Exit,
    number::grouped,
    report_files::{command_line, outcome},
};
use lossproof_logs::{Comparison, Curve, Log, Quantity};
use lossproof_report::{
    Check, CheckOutcome, Checks, Coverage, Curves, Difference, Part, Report, Section, Series,
};

/// The whole report; `headline` is the factor and what it equals.
pub(super) fn report(
    [first, second]: [&Log; 2],
    comparison: &Comparison,
    headline: Option<String>,
    exit: Exit,
) -> Report {
    let checks = comparison.curves.iter().map(check).collect();
    let curves = comparison.curves.iter().map(|curve| Part::Curves(drawn(curve, comparison))).collect();
    let certified = comparison.curves.iter().filter(|curve| curve.parting.is_none());
    let certified = certified
        .map(|curve| {
            format!("{}, within {:.1e} and what was lost in printing", covered(curve), comparison.tolerance)
        })
        .collect();
    let mut not_covered = comparison.uncompared.clone();
    not_covered.extend(comparison.notes.iter().map(|note| format!("supposed: {note}")));
    Report {
        title: "Two logs".to_owned(),
        command: command_line(),
        subject: [first, second].map(|log| format!("{} ({})", log.name, log.format)).to_vec(),
        outcome: outcome(exit),
        summary: headline.unwrap_or_else(|| match exit {
            Exit::Conforms => format!("They agree where both have a number, lined up by {}.", comparison.by),
            _ => "Neither a loss nor a gradient could be compared.".to_owned(),
        }),
        sections: vec![
            Section::new("Curves", curves),
            Section::new("Quantities", vec![Part::Checks(Checks { name: "logs".to_owned(), checks })]),
            Section::new(
                "Certified, and not covered",
                vec![Part::Coverage(Coverage { certified, not_covered })],
            ),
        ],
    }
}

/// A quantity, and at how many of the places of each log it was compared.
pub(super) fn covered(curve: &Curve) -> String {
    let [first, second] = curve.of.map(grouped);
    format!("{} at {} of {first} and {second} places", curve.quantity, grouped(curve.places.len()))
}

fn check(curve: &Curve) -> Check {
    let what = format!("both logs have the same {}", curve.quantity);
    let outcome = match &curve.parting {
        None => CheckOutcome::Passed,
        Some(parting) => CheckOutcome::Failed(format!(
            "they part at {}: {:?} and {:?}",
            parting.place, parting.first, parting.second
        )),
    };
    let check =
        Check::new(curve.quantity.to_string(), what, outcome).measured("places", curve.places.len() as f64);
    match &curve.parting {
        Some(parting) => check.measured("differing", parting.differing as f64),
        None => check,
    }
}

fn drawn(curve: &Curve, comparison: &Comparison) -> Curves {
    let points = |values: &[f64]| {
        curve.places.iter().zip(values).map(|(&place, &value)| (place as f64, value)).collect()
    };
    let [first, second] = &comparison.names;
    let is_loss = matches!(curve.quantity, Quantity::Loss | Quantity::ValidationLoss);
    Curves {
        caption: format!("{}, {}", curve.quantity, curve.pairing),
        x: comparison.by.to_string(),
        y: curve.quantity.to_string(),
        log: !is_loss && curve.first.iter().chain(&curve.second).all(|value| *value > 0.0),
        series: vec![
            Series::new(first.clone(), points(&curve.first)),
            Series::new(second.clone(), points(&curve.second)),
        ],
        difference: Some(if is_loss { Difference::Absolute } else { Difference::Ratio }),
    }
}
