//! What a verification found, as a report.

use crate::{
    exit::Exit,
    report_files::{command_line, outcome},
};
use lossproof_report::{Check, CheckOutcome, Checks, Part, Report, Section};
use lossproof_verify::{Report as Verified, StatementRow, Verdict};

/// The whole report.
pub(super) fn report(model: &str, verified: &Verified, exit: Exit) -> Report {
    let mut groups: Vec<Checks> = Vec::new();
    for row in &verified.rows {
        let name = row.semantics.unwrap_or("token losses");
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.checks.push(check(row)),
            None => groups.push(Checks { name: name.to_owned(), checks: vec![check(row)] }),
        }
    }
    let mut sections: Vec<Section> =
        groups.into_iter().map(|group| Section::new(group.name.clone(), vec![Part::Checks(group)])).collect();
    if !verified.blames.is_empty() {
        let blames = verified.blames.iter().map(|blame| Part::Paragraph(blame.to_string())).collect();
        sections.insert(0, Section::new("Who is wrong", blames));
    }
    Report {
        title: format!("A verification of {model}"),
        command: command_line(),
        subject: verified.participants.clone(),
        outcome: outcome(exit),
        summary: format!(
            "{} statements hold, {} do not, {} are unchecked; noise floor {:.1e}.",
            verified.count(Verdict::Pass),
            verified.count(Verdict::Fail),
            verified.count(Verdict::Unchecked),
            verified.noise_floor,
        ),
        sections,
    }
}

fn check(row: &StatementRow) -> Check {
    let outcome = match row.verdict {
        Verdict::Pass => CheckOutcome::Passed,
        Verdict::Fail => CheckOutcome::Failed(format!("{} is outside its bound", row.worst.at)),
        Verdict::Unchecked => CheckOutcome::Unchecked(row.unchecked.clone().unwrap_or_default()),
    };
    let mut check =
        Check::new(format!("{}: {}", row.subject, row.text), format!("from {}", row.bound_from), outcome)
            .measured("worst", row.worst.error)
            .measured("bound", row.worst.bound)
            .measured("compared", row.compared as f64);
    if let Some(power) = row.power {
        check = check.measured("power", power);
    }
    check
}
