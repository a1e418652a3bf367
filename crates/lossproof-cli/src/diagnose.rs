//! `lossproof diagnose`: what a trainer looks like on designed probes, and which known bugs would look the same.

use crate::{
    exit::Exit,
    laws::page::law_check,
    output,
    report_files::{ReportFiles, command_line, outcome},
    text::headline,
    trainer::{Trainer, TrainerArgs},
};
use lossproof_diagnosis::Diagnosis;
use lossproof_laws::{Campaign, Law, Report as LawReport, Verdict};
use lossproof_report::{Check, CheckOutcome, Checks, Coverage, Part, Report, Section};
use lossproof_subject::{Subject, Watchdog};
use miette::{IntoDiagnostic as _, miette};
use std::fmt::{self, Write as _};

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
    let slopes =
        (diagnosis.sound && judged.is_foreign()).then(|| Slopes::of(judged.subject())).transpose()?;
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
        if let Some(slopes) = &slopes {
            let _ = writeln!(text, "{slopes}");
        }
        if !slopes.as_ref().is_some_and(Slopes::are_wrong) {
            text += "a diagnosis names bugs and certifies nothing: that is what `lossproof laws` is for\n";
        }
    }
    output::print(&text)?;
    let exit = match diagnosis {
        _ if slopes.as_ref().is_some_and(Slopes::are_wrong) => Exit::Deviates,
        _ if diagnosis.sound && diagnosis.examined > 0 => Exit::Conforms,
        _ if diagnosis.evidence.is_empty() => Exit::Unchecked,
        _ => Exit::Deviates,
    };
    args.files.write(|| report(headline(&info), &diagnosis, slopes.as_ref(), exit))?;
    Ok(exit)
}

/// Random batches on which the loss is held to its gradient. Every parameter has its turn on two of them, and takes
/// some ten passes each time.
const SLOPES: u32 = 4;

/// How the loss of a trainer was seen to change along its gradient, parameter by parameter.
struct Slopes {
    report: LawReport,
    /// Parameters whose gradient was held to the loss, and all of them.
    looked_at: usize,
    parameters: usize,
}

impl Slopes {
    /// Holds the loss to the gradient.
    ///
    /// # Errors
    /// When there is no such law, or case files cannot be read, of which there are none here.
    fn of(subject: &mut dyn Subject) -> miette::Result<Self> {
        let law = Law::named("loss-slope").ok_or_else(|| miette!("no law is called loss-slope"))?;
        let parameters = subject.parameters();
        let campaign = Campaign { cases: SLOPES, shrink: false, ..Campaign::default() };
        let report = campaign.run(law, subject).into_diagnostic()?;
        // In single precision what is compared of a parameter is called otherwise.
        let is_looked_at = |name: &str| {
            report.looked_at.iter().any(|unit| unit.strip_prefix("loss along ").unwrap_or(unit) == name)
        };
        let looked_at = parameters.iter().filter(|parameter| is_looked_at(&parameter.name)).count();
        Ok(Self { report, looked_at, parameters: parameters.len() })
    }

    /// Whether the loss changes otherwise, or the trainer fails when it is asked.
    fn are_wrong(&self) -> bool {
        matches!(self.report.verdict, Verdict::Fail | Verdict::Errored)
    }
}

impl fmt::Display for Slopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, looked_at, parameters } = self;
        match report.verdict {
            Verdict::Pass => write!(
                f,
                "looked at instead, for the backward pass: on {} batches the reported loss changes as the gradients of \
                 {looked_at} of {parameters} parameters say",
                report.telling
            ),
            Verdict::Fail => {
                write!(f, "but the reported loss does not change as the gradient says:\n{report}")
            }
            Verdict::Errored => {
                write!(f, "but asked how the loss changes along the gradient, the trainer fails:\n{report}")
            }
            _ => write!(f, "not looked at either: how the loss changes along the gradient: {report}"),
        }
    }
}

/// The diagnosis as a report.
fn report(subject: String, diagnosis: &Diagnosis, slopes: Option<&Slopes>, exit: Exit) -> Report {
    let named: Vec<&str> = diagnosis.first().into_iter().map(|bug| bug.id).collect();
    let summary = match (exit, named.as_slice()) {
        (Exit::Conforms, _) => "Everything that was looked at is as it should be.".to_owned(),
        (Exit::Deviates, _) if slopes.is_some_and(|slopes| slopes.report.verdict == Verdict::Errored) => {
            "The trainer fails where it is asked how the loss changes along the gradient.".to_owned()
        }
        (Exit::Deviates, _) if diagnosis.sound => {
            "The reported loss does not change as the gradient says.".to_owned()
        }
        (Exit::Deviates, []) => {
            "Something is not as it should be, and no known bug would show it.".to_owned()
        }
        (Exit::Deviates, named) if diagnosis.is_likely() => format!("It looks like {}.", named.join(" or ")),
        (Exit::Deviates, named) => format!("Perhaps it is {}.", named.join(" or ")),
        _ => "Nothing could be looked at.".to_owned(),
    };
    let found = match exit {
        _ if diagnosis.sound && diagnosis.examined > 0 => CheckOutcome::Passed,
        Exit::Deviates => CheckOutcome::Failed(summary.clone()),
        _ => CheckOutcome::Unchecked(summary.clone()),
    };
    let check = Check::new("diagnosis", "nothing is seen that should not be", found)
        .measured("examined", diagnosis.examined as f64)
        .with_details(diagnosis.evidence.join("\n"));
    let mut checks = vec![check];
    let mut seen = diagnosis.to_string();
    if let Some(slopes) = slopes {
        checks.push(law_check(&slopes.report).measured("parameters", slopes.looked_at as f64));
        let _ = write!(seen, "\n{slopes}");
    }
    Report {
        title: "A diagnosis".to_owned(),
        command: command_line(),
        subject: vec![subject],
        outcome: outcome(exit),
        summary,
        sections: vec![
            Section::new("What is seen", vec![Part::Preformatted(seen)]),
            Section::new(
                "What it was held to",
                vec![
                    Part::Checks(Checks { name: "diagnosis".to_owned(), checks }),
                    Part::Coverage(Coverage { certified: Vec::new(), not_covered: diagnosis.unseen.clone() }),
                ],
            ),
        ],
    }
}

#[cfg(all(test, feature = "trainers"))]
mod tests {
    use super::*;
    use lossproof_faults::kit::{Hooks, wrap};
    use lossproof_gpt2::{Config, reference};
    use lossproof_spec::Dtype;
    use lossproof_subject::{Device, SubjectError};

    fn slopes(hooks: Hooks<()>) -> Slopes {
        let honest = reference(Config::Pico, Dtype::F64, Device::Cpu).expect("it is made");
        Slopes::of(&mut *wrap(honest, (), hooks)).expect("the law is there")
    }

    #[test]
    fn an_honest_trainer_is_looked_at_in_every_parameter() {
        let slopes = slopes(Hooks::IDENTITY);
        assert!(!slopes.are_wrong());
        assert!(slopes.to_string().ends_with("as the gradients of 16 of 16 parameters say"), "{slopes}");
    }

    #[test]
    fn in_single_precision_it_is_looked_at_too() {
        let honest = reference(Config::Pico, Dtype::F32, Device::Cpu).expect("it is made");
        let slopes = Slopes::of(&mut *wrap(honest, (), Hooks::IDENTITY)).expect("the law is there");
        assert!(!slopes.are_wrong() && slopes.looked_at > 8, "{slopes}");
    }

    #[test]
    fn a_trainer_that_fails_when_it_is_asked_is_not_right() {
        let refuses = |(): &mut (), _: &mut dyn Subject, _: &str, _: &[f64]| {
            Err(SubjectError::failed("a trainer", "it takes no values"))
        };
        let slopes = slopes(Hooks { set: refuses, ..Hooks::IDENTITY });
        assert!(slopes.are_wrong(), "{slopes}");
        assert!(slopes.to_string().contains("the trainer fails:\nloss-slope ERROR"), "{slopes}");
    }
}
