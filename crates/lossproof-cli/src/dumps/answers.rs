//! What is said of the answers to an export.

use crate::text::paragraph;
use lossproof_diagnosis::tomography::{Agreement, Scan};
use lossproof_dumps::{Answer, CheckedCase, Outcome};

/// The first case whose gradient is another one than it must be, or else may be, and what it shows.
pub(super) fn first_other(cases: &[CheckedCase]) -> Option<(&CheckedCase, &Scan)> {
    let scans = || {
        cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Checked { scan, .. } => Some((case, scan.as_ref().as_ref().ok()?)),
            _ => None,
        })
    };
    let of = |agreement| scans().find(|(_, scan)| scan.agreement() == agreement);
    of(Agreement::Disagrees).or_else(|| of(Agreement::Undecided))
}

/// A verdict in a word.
pub(super) fn said(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Agrees => "agrees",
        Agreement::Disagrees => "disagrees",
        Agreement::Undecided => "undecided",
    }
}

/// What is to be said of a case besides its numbers.
pub(super) fn remarks(case: &CheckedCase) -> String {
    let mut text = String::new();
    let mut say = |what: String| text += &paragraph(&format!("case {}: {what}", case.name), 2);
    match &case.outcome {
        Outcome::Missing => {}
        Outcome::Unreadable(error) => {
            say(error.to_string());
            let mut cause = std::error::Error::source(error);
            while let Some(source) = cause {
                say(source.to_string());
                cause = source.source();
            }
        }
        Outcome::Checked { answer, loss, scan, .. } => {
            let Answer { missing, surplus, misshapen, transposed, .. } = &**answer;
            if !missing.is_empty() {
                say(format!("no gradient of {}", missing.join(", ")));
            }
            for (name, found, expected) in misshapen {
                say(format!("the gradient of {name} has the shape {found:?}, its parameter {expected:?}"));
            }
            if *transposed {
                say("projections are taken as PyTorch's Linear has them, transposed".to_owned());
            }
            if !surplus.is_empty() {
                say(format!("left aside, because no parameter is called so: {}", surplus.join(", ")));
            }
            if let Some(loss) = loss.as_ref().filter(|loss| !loss.agrees()) {
                match &loss.explained {
                    Some(ratio) => say(format!("the loss is the expected one times {ratio}")),
                    None => say(format!("the loss is off by more than {:.1e}", loss.bound)),
                }
            }
            if let Some(of_it) = loss.as_ref().and_then(|loss| loss.of_the_gradient) {
                let differs = case.agreement() == Agreement::Disagrees;
                match (of_it, !differs) {
                    (false, _) => {
                        say("the gradient is the gradient of another loss than this one".to_owned());
                    }
                    (true, false) => say("the gradient is the gradient of this loss".to_owned()),
                    (true, true) => {}
                }
            }
            if case.agreement() == Agreement::Undecided {
                let dtype = answer.dtype;
                say(format!(
                    "within what rounding to {dtype} explains, other semantics have this gradient, too"
                ));
            }
            if let Err(why) = &**scan {
                say(why.clone());
            }
        }
    }
    text
}

/// How many cases agree.
pub(super) fn verdict(cases: &[CheckedCase]) -> String {
    let count = |agreement| cases.iter().filter(|case| case.agreement() == agreement).count();
    let missing = cases.iter().filter(|case| matches!(case.outcome, Outcome::Missing)).count();
    let without_loss =
        cases.iter().filter(|case| matches!(&case.outcome, Outcome::Checked { loss: None, .. })).count();
    let lossless = if without_loss > 0 {
        format!("; of {without_loss} no loss was left, and only the gradient was held to anything")
    } else {
        String::new()
    };
    format!(
        "{} of {} cases agree, {} disagree, {} undecided, {missing} without an answer{lossless}",
        count(Agreement::Agrees),
        cases.len(),
        count(Agreement::Disagrees),
        count(Agreement::Undecided) - missing,
    )
}
