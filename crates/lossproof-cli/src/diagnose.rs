//! `lossproof diagnose`: what a trainer looks like on designed probes, and which known bugs would look the same.

use crate::{
    exit::Exit,
    output,
    report_files::{ReportFiles, command_line, outcome},
    text::headline,
    trainer::{Trainer, TrainerArgs},
};
use lossproof_diagnosis::Diagnosis;
use lossproof_laws::{self as laws, Campaign, Law, Verdict};
use lossproof_report::{Check, CheckOutcome, Checks, Coverage, Part, Report, Section};
use lossproof_subject::{Subject, Watchdog};
use miette::IntoDiagnostic as _;
use std::fmt::Write as _;

/// Look at a trainer on designed probes, and name the known bugs that would show what is seen.
///
/// Ends with 0 when everything looked at is as it should be, with 1 when something is not, with 3 when nothing could be
/// looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof diagnose --fault ga-mean-of-means\n  \
                        lossproof diagnose --adapter \"python -m my_adapter\"")]
pub(crate) struct Args {
    #[command(flatten)]
    trainer: TrainerArgs,
    #[command(flatten)]
    files: ReportFiles,
}

/// Diagnoses a trainer and reports it on stdout.
///
/// # Errors
/// When an argument makes no sense, or the trainer does not start.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    args.files.check_writable()?;
    let Trainer { mut judged, fault, .. } = args.trainer.open()?;
    let info = judged.subject().info();
    let diagnosis = args.trainer.diagnostician().diagnose(judged.subject(), &Watchdog::default());
    // Nobody says what the gradients of a stranger's model should be, but its loss says how it changes along them.
    let slopes = if diagnosis.sound && judged.is_foreign() { slopes(judged.subject())? } else { None };
    let has_a_loop = judged.subject().training_loop().is_some();
    let has_objectives = judged.subject().objectives().is_some();
    judged.finish()?;
    let mut text = headline(&info) + "\n";
    if let Some(fault) = fault {
        let _ = writeln!(text, "with the fault {}: {}", fault.id, fault.what);
    }
    let _ = writeln!(text, "\n{diagnosis}");
    if diagnosis.sound {
        let more = [(has_a_loop, "its training loop"), (has_objectives, "what else it learns")];
        for (_, what) in more.iter().filter(|(is_there, _)| *is_there) {
            let _ = writeln!(text, "not looked at: {what}, which `lossproof laws` holds to laws of its own");
        }
    }
    let slopes_fail = slopes.as_ref().is_some_and(|report| report.verdict == Verdict::Fail);
    if let Some(report) = &slopes {
        let _ = match report.verdict {
            Verdict::Pass => writeln!(
                text,
                "looked at instead, for the backward pass: on {} batches the reported loss changes along the gradient \
                 as the gradient says",
                report.telling
            ),
            Verdict::Fail => {
                writeln!(text, "but the loss does not change along the gradient as that says:\n{report}")
            }
            _ => writeln!(text, "not looked at either: how the loss changes along the gradient: {report}"),
        };
    }
    if diagnosis.sound && !slopes_fail {
        text += "a diagnosis names bugs and certifies nothing: that is what `lossproof laws` is for\n";
    }
    output::print(&text)?;
    let exit = match diagnosis {
        _ if slopes_fail => Exit::Deviates,
        _ if diagnosis.sound && diagnosis.examined > 0 => Exit::Conforms,
        _ if diagnosis.evidence.is_empty() => Exit::Unchecked,
        _ => Exit::Deviates,
    };
    args.files.write(|| report(headline(&info), &diagnosis, exit))?;
    Ok(exit)
}

/// Random batches on which the loss is held to its gradient: both are asked for some fifty times on each.
const SLOPES: u32 = 4;

/// Holds the loss of a trainer to its gradient along lines through all parameters. `None` where nobody has such a law.
///
/// # Errors
/// When case files cannot be read, of which there are none here.
fn slopes(subject: &mut dyn Subject) -> miette::Result<Option<laws::Report>> {
    let campaign = Campaign { cases: SLOPES, shrink: false, ..Campaign::default() };
    Law::named("loss-slope").map(|law| campaign.run(law, subject)).transpose().into_diagnostic()
}

/// The diagnosis as a report.
fn report(subject: String, diagnosis: &Diagnosis, exit: Exit) -> Report {
    let named: Vec<&str> = diagnosis.first().into_iter().map(|bug| bug.id).collect();
    let summary = match (exit, named.as_slice()) {
        (Exit::Conforms, _) => "Everything that was looked at is as it should be.".to_owned(),
        (Exit::Deviates, []) => {
            "Something is not as it should be, and no known bug would show it.".to_owned()
        }
        (Exit::Deviates, named) if diagnosis.is_likely() => format!("It looks like {}.", named.join(" or ")),
        (Exit::Deviates, named) => format!("Perhaps it is {}.", named.join(" or ")),
        _ => "Nothing could be looked at.".to_owned(),
    };
    let found = match exit {
        Exit::Conforms => CheckOutcome::Passed,
        Exit::Deviates => CheckOutcome::Failed(summary.clone()),
        _ => CheckOutcome::Unchecked(summary.clone()),
    };
    let check = Check::new("diagnosis", "nothing is seen that should not be", found)
        .measured("examined", diagnosis.examined as f64)
        .with_details(diagnosis.evidence.join("\n"));
    Report {
        title: "A diagnosis".to_owned(),
        command: command_line(),
        subject: vec![subject],
        outcome: outcome(exit),
        summary,
        sections: vec![
            Section::new("What is seen", vec![Part::Preformatted(diagnosis.to_string())]),
            Section::new(
                "What it was held to",
                vec![
                    Part::Checks(Checks { name: "diagnosis".to_owned(), checks: vec![check] }),
                    Part::Coverage(Coverage { certified: Vec::new(), not_covered: diagnosis.unseen.clone() }),
                ],
            ),
        ],
    }
}
