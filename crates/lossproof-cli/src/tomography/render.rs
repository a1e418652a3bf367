//! What a scan says, in words and a table.

use super::Asked;
use crate::{
    number::{fraction, grouped},
    table::{Align, Table},
    text::{claims, headline, paragraph},
};
use lossproof_diagnosis::{
    Bug,
    inference::Measurement,
    tomography::{Agreement, GradientReading, LogReading, Scan, Tomogram, TomographyError, Unexplained},
};
use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights, to_f64};
use lossproof_subject::LogPolicy;
use std::fmt::Write;

/// Statements of one kind that are made at most.
const OF_A_KIND: usize = 8;

/// What every scan leaves open.
const ONE_STEP: &str = "what depends on the step, and what comes after the gradient: clipping, other \
                        optimizers, schedules. One batch was looked at, once";

/// The whole report.
pub(super) fn report(asked: &Asked, scan: &Scan) -> String {
    let mut text = head(asked);
    text += "\nWhat every prediction weighs\n";
    text += &table(&asked.case.batch, &asked.case.spec, scan);
    text += &gradient(scan);
    text += &log(scan);
    text += "\nIn a plain SGD step of its own\n";
    text += &step(scan);
    text += "\nNot covered\n";
    let mut open: Vec<String> = scan.undetermined().into_iter().map(str::to_owned).collect();
    open.extend(absent(asked));
    open.push(ONE_STEP.to_owned());
    for open in open {
        text += &paragraph(&format!("- {open}"), 2);
    }
    let _ = writeln!(text, "\n{}", verdict(scan));
    text
}

/// The report on a trainer that did not answer.
pub(super) fn failed(asked: &Asked, error: &TomographyError) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{}\ndisagrees: {error}{cause}\n", head(asked))
}

/// The known bugs that look like what a diagnosis of the trainer saw.
pub(super) fn alike(bugs: &[&Bug]) -> String {
    let mut text = String::new();
    for (index, bug) in bugs.iter().enumerate() {
        let or = if index == 0 { "looks like" } else { "or, alike in everything that was looked at," };
        let _ = writeln!(text, "{or} {}", bug.id);
        text += &paragraph(bug.what, 2);
        if let Some(source) = bug.source {
            text += &paragraph(&format!("seen in {source}"), 2);
        }
        text += &paragraph(&format!("remedy: {}", bug.remedy), 2);
    }
    text
}

/// Who was asked for what, on which batch.
fn head(asked: &Asked) -> String {
    let info = &asked.info;
    let mut text = headline(info) + "\n";
    if let Some(fault) = asked.fault {
        text += &paragraph(&format!("with the fault {}: {}", fault.id, fault.what), 2);
    }
    text += &paragraph(&format!("claims: {}", claims(&info.claims)), 2);
    text += &paragraph(&format!("asked for: {}", asked.case.spec), 2);
    let batch = &asked.case.batch;
    let micro_batches: Vec<String> =
        batch.ranks().iter().map(|rank| rank.micro_batches().len().to_string()).collect();
    let counts = format!(
        "on {}: {} of {} predictions supervised, sequences: {}, micro-batches by rank: {}",
        asked.origin,
        batch.layout().supervised(),
        batch.predictions().count(),
        batch.sequences().count(),
        micro_batches.join(" + "),
    );
    text + &paragraph(&counts, 2)
}

/// What the batch and the semantics do not have, so that nothing is said of it.
fn absent(asked: &Asked) -> Option<String> {
    let (batch, spec) = (&asked.case.batch, &asked.case.spec);
    let documents =
        |of: fn(&u32) -> bool| batch.sequences().any(|sequence| sequence.segment_ids().iter().any(of));
    let layout = batch.layout();
    let has = [
        (documents(|&document| document == 0), "padding"),
        (documents(|&document| document > 1), "several documents in a sequence"),
        (layout.sequences().any(|shape| shape.supervised == 0), "a sequence without a supervised token"),
        (layout.ranks().len() > 1, "several ranks"),
        (layout.ranks().iter().any(|rank| rank.len() > 1), "several micro-batches"),
        (spec.label_smoothing > 0.0, "label smoothing"),
        (spec.z_loss > 0.0, "a z-loss"),
    ];
    let absent: Vec<&str> = has.into_iter().filter(|(has, _)| !has).map(|(_, what)| what).collect();
    (!absent.is_empty()).then(|| format!("what is not in this batch or semantics: {}", absent.join(", ")))
}

/// Every prediction: what it should weigh, and what it does.
pub(crate) fn table(batch: &GlobalBatch, spec: &LossSpec, scan: &Scan) -> String {
    let declared = TokenWeights::new(spec, &batch.layout()).ok();
    let log = scan.log.as_ref().ok();
    let of_policy = log.filter(|log| {
        log.tomogram.policy.as_ref().is_some_and(|policy| policy.comparison.declared != LogPolicy::Window)
    });
    let mut columns: Vec<(&str, Align)> =
        ["rank", "micro-batch", "sequence", "position", "token", "declared"]
            .map(|name| (name, Align::Right))
            .into();
    let all = [
        ("gradient", scan.gradient.as_ref().ok().map(|reading| &reading.measured)),
        ("logged", log.map(|reading| &reading.measured)),
        ("step", scan.step.as_ref().ok().map(|reading| &reading.measured)),
    ];
    let mut readings = Vec::new();
    for (name, measured) in all {
        // A mean of nothing leaves no weights.
        if let Some(measured) = measured.filter(|measured| !measured.is_empty()) {
            readings.push((name, measured));
            columns.extend([(name, Align::Right), ("error", Align::Right), ("", Align::Left)]);
        }
    }
    if of_policy.is_some() {
        columns.push(("due in the log", Align::Right));
    }
    let mut table = Table::new(columns);
    let places = micro_batches(batch);
    for (index, prediction) in batch.predictions().enumerate() {
        let weight = declared.as_ref().map(|weights| weights.of_sequence(prediction.sequence));
        let due = weight.map(|weight| if prediction.supervised { to_f64(weight) } else { 0.0 });
        let (rank, micro_batch) = places[prediction.sequence];
        let mut cells =
            [rank, micro_batch, prediction.sequence, prediction.position].map(|n| n.to_string()).to_vec();
        cells.push(prediction.target.to_string());
        cells.push(match weight {
            Some(weight) if prediction.supervised => fraction(weight),
            Some(_) => "ignored".to_owned(),
            None => String::new(),
        });
        for (name, measured) in &readings {
            let due = match (*name, log) {
                ("logged", Some(log)) => Some(log.due[index].value),
                _ => due,
            };
            cells.extend(weighed(&measured[index], due));
        }
        if let Some(log) = of_policy {
            cells.push(decimal(log.due[index].value));
        }
        table.row(cells);
    }
    table.render()
}

/// Rank and micro-batch of every sequence.
fn micro_batches(batch: &GlobalBatch) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (index, rank) in batch.ranks().iter().enumerate() {
        for (micro_batch, own) in rank.micro_batches().iter().enumerate() {
            places.extend(own.sequences().iter().map(|_| (index, micro_batch)));
        }
    }
    places
}

/// A weight, its error, and a mark where it is not what it should be.
fn weighed(measured: &Measurement, due: Option<f64>) -> [String; 3] {
    if measured.error.is_infinite() {
        return ["?".to_owned(), String::new(), String::new()];
    }
    let apart =
        due.is_some_and(|due| (measured.value - due).abs() > measured.error + 4.0 * f64::EPSILON * due);
    let mark = if apart { "≠" } else { "" };
    [decimal(measured.value), format!("{:.1e}", measured.error), mark.to_owned()]
}

/// Six decimals, and no zero below zero.
fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    if text == "-0.000000" { "0.000000".to_owned() } else { text }
}

/// What the gradient's weights are, in words.
pub(crate) fn gradient(scan: &Scan) -> String {
    let mut text = "\nIn the gradient\n".to_owned();
    match (&scan.instrument, &scan.gradient) {
        (Ok(instrument), _) => text += &paragraph(&format!("By {instrument}."), 0),
        (Err(_), Ok(_)) => {}
        (Err(why), Err(_)) => return text + &not_covered(why),
    }
    match &scan.gradient {
        Err(why) => text += &not_covered(why),
        Ok(reading) => text += &read(reading),
    }
    for deviating in scan.regions.iter().take(OF_A_KIND) {
        let region = &deviating.region;
        let found = deviating.comparison.to_string();
        let first =
            found.lines().take_while(|line| !line.contains("violated:")).collect::<Vec<_>>().join("; ");
        text += &paragraph(&format!("{} by themselves: {first}", region.name), 2);
        if region.parameters.len() > 1 {
            text += &paragraph(&format!("({})", region.parameters.join(", ")), 2);
        }
    }
    text
}

/// What a gradient's weights are.
fn read(reading: &GradientReading) -> String {
    let mut text = reading.tomogram.as_ref().map_or_else(String::new, quality);
    let Some((inference, comparison)) = reading.inference.as_ref().zip(reading.comparison.as_ref()) else {
        return text + &paragraph("No weights explain it: nothing follows for any semantics.", 0);
    };
    text += &lines(&format!("It has the weights of: {inference}"));
    text += &lines(&comparison.to_string());
    text
}

fn step(scan: &Scan) -> String {
    let reading = match &scan.step {
        Err(why) => return not_covered(why),
        Ok(reading) => reading,
    };
    let said = |reading: &GradientReading| reading.comparison.as_ref().map(ToString::to_string);
    if scan.gradient.as_ref().is_ok_and(|gradient| said(gradient) == said(reading)) {
        let text = reading.tomogram.as_ref().map_or_else(String::new, quality);
        return text + &paragraph("What is said of the gradient is true of the step.", 0);
    }
    read(reading)
}

/// How well determined weights are, and what they do not explain.
fn quality(tomogram: &Tomogram) -> String {
    let Tomogram { condition, equations, residual, bound, .. } = tomogram;
    let mut text = paragraph(
        &format!(
            "{} weights from {} equations, condition {condition:.1}; residual {residual:.1e}, of which \
             rounding explains {bound:.1e}.",
            tomogram.weights.len(),
            grouped(equations),
        ),
        0,
    );
    let (lone, groups): (Vec<_>, Vec<_>) = tomogram.groups.iter().partition(|group| group.members.len() == 1);
    for group in groups.into_iter().take(OF_A_KIND) {
        text += &paragraph(&group.to_string(), 2);
    }
    match lone.as_slice() {
        [] => {}
        [one] => text += &paragraph(&one.to_string(), 2),
        [first, rest @ ..] => {
            text += &paragraph(&format!("{first}, nor are {} others", rest.len()), 2);
        }
    }
    if let Some(fault) = tomogram.fault() {
        text += &paragraph(&fault, 2);
    }
    for part in tomogram.unexplained.iter().skip(1).take(OF_A_KIND) {
        let Unexplained { name, residual, share, .. } = part;
        text += &paragraph(&format!("also {name}: {:.0} % of it, {residual:.1e}", 100.0 * share), 2);
    }
    text
}

fn log(scan: &Scan) -> String {
    let mut text = "\nIn the loss that it logs\n".to_owned();
    let LogReading { tomogram, inference, disagreement, .. } = match &scan.log {
        Err(why) => return text + &not_covered(why),
        Ok(reading) => reading,
    };
    text += &paragraph("By least squares over batches of the same layout with random tokens.", 0);
    text += &quality(tomogram);
    if !tomogram.is_explained() {
        return text;
    }
    if let Some(policy) = &tomogram.policy {
        text += &lines(&policy.comparison.to_string());
    }
    if let Some(inference) = inference {
        text += &lines(&format!("It has the weights of: {inference}"));
    }
    if let Some(disagreement) = disagreement {
        text += &lines(&disagreement.to_string());
    }
    text
}

fn not_covered(why: &str) -> String {
    paragraph(&format!("Not covered: {why}."), 2)
}

/// Lines as paragraphs, those that are indented with a deeper one.
fn lines(text: &str) -> String {
    text.lines().map(|line| paragraph(line, if line.starts_with(' ') { 6 } else { 2 })).collect()
}

/// The last line: whether all is as declared, or what is not.
pub(super) fn verdict(scan: &Scan) -> String {
    let mut wrong = Vec::new();
    if scan.gradient.as_ref().is_ok_and(|reading| reading.agreement() == Agreement::Disagrees) {
        wrong.push("the gradient");
    }
    if scan.log.as_ref().is_ok_and(|log| !log.agrees()) {
        wrong.push("the logged loss");
    }
    if scan.step.as_ref().is_ok_and(|reading| reading.agreement() == Agreement::Disagrees) {
        wrong.push("the step");
    }
    match scan.agreement() {
        Agreement::Agrees => "agrees with what was asked for".to_owned(),
        Agreement::Disagrees => format!("disagrees with what was asked for: {}", wrong.join(", ")),
        Agreement::Undecided => {
            "undecided: other semantics are within the errors, or weights were not covered".to_owned()
        }
    }
}
