//! What a scan says, as a report: the weights as heat maps, and what follows.

use super::{Asked, render};
use crate::{
    exit::Exit,
    number::fraction,
    report_files::{command_line, outcome},
    text::headline,
};
use lossproof_diagnosis::{
    inference::Measurement,
    tomography::{Agreement, Scan},
};
use lossproof_report::{
    Cell, Check, CheckOutcome, Checks, Coverage, HeatMap, HeatMaps, Part, Report, Scale, Section, Sequence,
};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights, to_f64};
use std::fmt::Write as _;

/// The whole report.
pub(super) fn report(asked: &Asked, scan: &Scan, alike: &str, exit: Exit) -> Report {
    let (batch, spec) = (&asked.case.batch, &asked.case.spec);
    let mut parts = heat_maps(batch, spec, scan);
    parts.push(Part::Preformatted(render::gradient(scan)));
    if !alike.is_empty() {
        parts.push(Part::Preformatted(alike.to_owned()));
    }
    let not_covered = scan.undetermined().into_iter().map(str::to_owned).collect();
    let checks = Checks { name: "weights".to_owned(), checks: checks(scan) };
    Report {
        title: "What every prediction weighs".to_owned(),
        command: command_line(),
        subject: vec![headline(&asked.info), format!("asked for: {spec}"), format!("on {}", asked.origin)],
        outcome: outcome(exit),
        summary: summary(scan),
        sections: vec![
            Section::new("The weights", parts),
            Section::new("What they were held to", vec![Part::Checks(checks)]),
            Section::new(
                "Not covered",
                vec![Part::Coverage(Coverage { certified: Vec::new(), not_covered })],
            ),
        ],
    }
}

/// The verdict, and what the gradient has the weights of where these are other ones.
fn summary(scan: &Scan) -> String {
    let mut verdict = render::verdict(scan);
    verdict[..1].make_ascii_uppercase();
    let mut summary = format!("{verdict}.");
    let comparison = scan.gradient.as_ref().ok().and_then(|reading| reading.comparison.as_ref());
    if let Some(found) = comparison.filter(|it| !it.agrees).and_then(|it| it.found.as_ref()) {
        let _ = write!(summary, " The gradient has the weights of: {found}.");
    }
    summary
}

/// What was read of the gradient, the log and a step, one check each.
pub(crate) fn checks(scan: &Scan) -> Vec<Check> {
    let found = |agreement: Agreement, what: &str| match agreement {
        Agreement::Agrees => CheckOutcome::Passed,
        Agreement::Disagrees => CheckOutcome::Failed(format!("{what} are other ones")),
        Agreement::Undecided => CheckOutcome::Unchecked(format!("{what} may be other ones")),
    };
    let gradient = match &scan.gradient {
        Ok(reading) => found(reading.agreement(), "the weights"),
        Err(why) => CheckOutcome::Skipped(why.clone()),
    };
    let step = match &scan.step {
        Ok(reading) => found(reading.agreement(), "the weights"),
        Err(why) => CheckOutcome::Skipped(why.clone()),
    };
    let log = match &scan.log {
        Ok(log) if log.agrees() => CheckOutcome::Passed,
        Ok(_) => CheckOutcome::Failed("the weights are other ones".to_owned()),
        Err(why) => CheckOutcome::Skipped(why.clone()),
    };
    vec![
        Check::new("gradient", "the gradient has the weights of the semantics that is asked for", gradient)
            .with_details(render::gradient(scan)),
        Check::new("log", "the logged loss has the weights of the declared log policy", log),
        Check::new("step", "a plain SGD step applies the gradient that is handed over", step),
    ]
}

/// The weights that are claimed beside those that were recovered, and their quotients.
pub(crate) fn heat_maps(batch: &GlobalBatch, spec: &LossSpec, scan: &Scan) -> Vec<Part> {
    let Ok(declared) = TokenWeights::new(spec, &batch.layout()) else {
        return vec![Part::Paragraph("A mean of nothing leaves no weights.".to_owned())];
    };
    let rows = Rows::of(batch);
    let mut claimed = Vec::new();
    for prediction in batch.predictions() {
        let weight = declared.of_sequence(prediction.sequence);
        claimed.push(if prediction.supervised {
            Cell::new(to_f64(weight), fraction(weight))
        } else {
            Cell::ignored()
        });
    }
    let due: Vec<f64> = claimed.iter().map(|cell| cell.value.unwrap_or(0.0)).collect();
    let mut maps = vec![rows.map("claimed", claimed)];
    let mut ratios = Vec::new();
    let read = [
        ("in the gradient", scan.gradient.as_ref().ok().map(|reading| &reading.measured)),
        ("in the logged loss", scan.log.as_ref().ok().map(|reading| &reading.measured)),
        ("in a step", scan.step.as_ref().ok().map(|reading| &reading.measured)),
    ];
    for (name, measured) in read {
        let Some(measured) = measured.filter(|measured| measured.len() == due.len()) else { continue };
        let pairs = || measured.iter().zip(&due);
        maps.push(rows.map(name, pairs().map(|(measured, due)| weighed(measured, *due)).collect()));
        ratios.push(rows.map(name, pairs().map(|(measured, due)| quotient(measured, *due)).collect()));
    }
    let heat_maps = |caption: &str, quantity: &str, scale, maps| {
        let (caption, quantity) = (caption.to_owned(), quantity.to_owned());
        Part::HeatMaps(HeatMaps { caption, quantity, scale, sequences: rows.sequences.clone(), maps })
    };
    let mut parts = vec![heat_maps(
        "The weight of every prediction, by sequence and position.",
        "weight",
        Scale::Magnitude,
        maps,
    )];
    if !ratios.is_empty() {
        parts.push(heat_maps("What was recovered over what is claimed.", "ratio", Scale::Ratio, ratios));
    }
    parts
}

/// A weight that was recovered, beside the one that is due.
fn weighed(measured: &Measurement, due: f64) -> Cell {
    if measured.error.is_infinite() {
        return Cell::unknown();
    }
    let label = match measured.fraction() {
        Some(exact) => fraction_of(&exact),
        None if measured.value.abs() <= measured.error => "0".to_owned(),
        None => format!("{:.4}", measured.value),
    };
    if apart(measured, due) {
        Cell::differing(measured.value, label)
    } else {
        Cell::new(measured.value, label)
    }
}

/// A weight that was recovered, as a multiple of the one that is due.
fn quotient(measured: &Measurement, due: f64) -> Cell {
    if measured.error.is_infinite() {
        return Cell::unknown();
    }
    if due == 0.0 {
        // Nothing is due; what is there shows in the weights.
        return Cell::ignored();
    }
    let ratio = measured.value / due;
    let label = format!("{ratio:.3}");
    if apart(measured, due) { Cell::differing(ratio, label) } else { Cell::new(ratio, label) }
}

fn apart(measured: &Measurement, due: f64) -> bool {
    (measured.value - due).abs() > measured.error + 4.0 * f64::EPSILON * due
}

/// A fraction of any sign.
fn fraction_of(exact: &lossproof_spec::Fraction) -> String {
    if *exact.numer() < 0.into() { format!("-{}", fraction(&-exact.clone())) } else { fraction(exact) }
}

/// Which prediction is in which row.
struct Rows {
    sequences: Vec<Sequence>,
    lengths: Vec<usize>,
}

impl Rows {
    fn of(batch: &GlobalBatch) -> Self {
        let (mut sequences, mut lengths) = (Vec::new(), Vec::new());
        for (rank, own) in batch.ranks().iter().enumerate() {
            for (micro_batch, part) in own.micro_batches().iter().enumerate() {
                for sequence in part.sequences() {
                    sequences.push(Sequence { rank, micro_batch, sequence: sequences.len() });
                    lengths.push(sequence.len() - 1);
                }
            }
        }
        Self { sequences, lengths }
    }

    /// Cells in the order of predictions, cut into sequences.
    fn map(&self, name: &str, cells: Vec<Cell>) -> HeatMap {
        let mut rest = cells.into_iter();
        let cells = self.lengths.iter().map(|&length| rest.by_ref().take(length).collect()).collect();
        HeatMap { name: name.to_owned(), cells }
    }
}
