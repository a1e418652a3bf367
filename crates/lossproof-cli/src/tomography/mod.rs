//! `lossproof tomography`: the weight of every prediction in a trainer's gradient, in the loss that it logs
//! and in its own step, and the semantics that has these weights.

mod batch;
mod drawing;
pub(crate) mod page;
pub(crate) mod render;
mod size;

use crate::{
    exit::Exit,
    explain::{BatchShape, Drawn},
    output,
    report_files::ReportFiles,
    trainer::{Trainer, TrainerArgs},
};
use lossproof_diagnosis::{
    Bug,
    tomography::{Agreement, Scan, ScanSetup, TomographyError},
};
use lossproof_spec::LossSpec;
use lossproof_subject::{ParameterInfo, Subject, SubjectInfo, Watchdog};
use miette::{Diagnostic, IntoDiagnostic};
use std::path::PathBuf;

/// Recover what each token weighs in a trainer's gradient, in the loss it logs and in its step, and name
/// the semantics that has these weights.
///
/// The trainer is given one small batch. How the weights are recovered depends on what its card allows, and
/// is said. Ends with 0 when the weights are those of the semantics that is asked for, with 1 when they are
/// not, with 3 when they could not be told from others.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof tomography\n  \
                        lossproof tomography --fault ga-mean-of-means\n  \
                        lossproof tomography --subject libtorch --dtype f32 --spec sequence-mean\n  \
                        lossproof tomography --claim token-mean --profile bare\n  \
                        lossproof tomography --lengths 5,3,4,3,7 --ranks 2 --svg weights.svg")]
pub(crate) struct Args {
    #[command(flatten)]
    trainer: TrainerArgs,
    /// The semantics that is asked for; by default that of the case, or what the trainer claims first.
    #[arg(long, value_name = "NAME")]
    #[cfg_attr(feature = "trainers", arg(conflicts_with = "claim"))]
    spec: Option<Drawn>,
    #[command(flatten)]
    shape: BatchShape,
    /// Take batch, semantics and parameters from this case file, as a failing law leaves it.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["sequences", "length", "lengths", "micro_batches", "ranks", "seed"]
    )]
    case: Option<PathBuf>,
    /// Fixes tokens and parameters.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Draw the weights into this file, too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// What was asked for, and of whom.
struct Asked {
    /// The card.
    info: SubjectInfo,
    parameters: Vec<ParameterInfo>,
    /// The bug that is injected into the trainer.
    fault: Option<&'static Bug>,
    case: lossproof_cases::Case,
    /// Where the batch is from.
    origin: String,
}

/// Why a trainer cannot be scanned.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum UsageError {
    #[error("{origin} is no batch for {subject}: {refusal}")]
    #[diagnostic(help("give lengths that it takes with --lengths, another --case, or neither"))]
    Batch { origin: String, subject: String, refusal: String },
    #[error("{predictions} predictions over {elements} parameters are too many for tomography")]
    #[diagnostic(help(
        "it holds a gradient for each prediction: take gpt2-pico or gpt2-nano and a smaller batch"
    ))]
    Size { predictions: usize, elements: usize },
    #[error("{problem}")]
    #[diagnostic(help("ask with --spec for what it claims, or leave --spec and --case out"))]
    Semantics { problem: String },
    #[error(transparent)]
    #[diagnostic(help("--case takes a case file, as a failing law writes it below fixtures/cases"))]
    Case(#[from] lossproof_cases::CaseFileError),
}

/// Scans a trainer and reports it on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    // Before a second is spent on what could not be written.
    output::check_writable(args.svg.as_deref())?;
    args.files.check_writable()?;
    let Trainer { mut judged, fault, mut reference, claim } = args.trainer.open()?;
    let asked = asked(args, judged.subject(), fault, claim)?;
    let parameters = asked.case.parameters(&asked.parameters);
    let setup = ScanSetup {
        batch: &asked.case.batch,
        declared: asked.case.spec,
        parameters: &parameters,
        reference: match &mut reference {
            Some(reference) => Some(&mut **reference),
            None => None,
        },
    };
    let scanned = Scan::of(judged.subject(), setup);
    let deviates = scanned.as_ref().is_ok_and(|scan| scan.agreement() == Agreement::Disagrees);
    // A bug of ours has a name already.
    let alike = if deviates && judged.is_foreign() {
        args.trainer.diagnostician().diagnose(judged.subject(), &Watchdog::default()).first()
    } else {
        Vec::new()
    };
    judged.finish()?;
    let scan = match scanned {
        Ok(scan) => scan,
        Err(TomographyError::Unsupported(refusal)) => {
            return Err(UsageError::Semantics { problem: refusal.to_string() }.into());
        }
        // A trainer that does not answer inside its limits is at fault, and not the command line.
        Err(error @ TomographyError::Subject(_)) => {
            output::print(&render::failed(&asked, &error))?;
            return Ok(Exit::Deviates);
        }
        Err(error) => return Err(error).into_diagnostic(),
    };
    if let Some(path) = &args.svg {
        output::write(path, drawing::drawing(&asked, &scan)?.as_bytes())?;
    }
    let alike = render::alike(&alike);
    output::print(&(render::report(&asked, &scan) + &alike))?;
    let exit = match scan.agreement() {
        Agreement::Agrees => Exit::Conforms,
        Agreement::Disagrees => Exit::Deviates,
        Agreement::Undecided => Exit::Unchecked,
    };
    args.files.write(|| page::report(&asked, &scan, &alike, exit))?;
    Ok(exit)
}

/// What the arguments ask of a trainer.
fn asked(
    args: &Args,
    subject: &dyn Subject,
    fault: Option<&'static Bug>,
    claim: Option<LossSpec>,
) -> miette::Result<Asked> {
    let (info, parameters) = (subject.info(), subject.parameters());
    let (mut case, origin) = batch::case(args, &info.limits)?;
    match (claim, args.spec) {
        (Some(claim), _) => case.spec = claim,
        (None, Some(spec)) => case.spec = spec.spec(),
        (None, None) if args.case.is_none() => case.spec = info.claims.first(),
        (None, None) => {}
    }
    if let Err(refusal) = info.limits.check(&case.batch) {
        return Err(UsageError::Batch { origin, subject: info.name, refusal: refusal.to_string() }.into());
    }
    size::check_size(&parameters, &case.batch)?;
    Ok(Asked { info, parameters, fault, case, origin })
}
