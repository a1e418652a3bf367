//! `lossproof faults`: every known bug, injected into the reference trainer, and what of the suite finds and
//! names it.

mod alarms;
mod alone;
mod left_out;
mod matrix;
mod page;
mod patterns;
mod profiles;
mod render;

use crate::{
    exit::Exit,
    output, ranks,
    report_files::ReportFiles,
    subjects::{self, Arithmetic},
};
use alarms::Alarms;
use left_out::Sight;
use lossproof_cases::strategies::Size;
use lossproof_diagnosis::ProbePlan;
use lossproof_faults::{Class, Fault, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::Campaign;
use lossproof_mpi::Order;
use lossproof_spec::Dtype;
use lossproof_subject::{Count, Device, Subject};
use miette::{IntoDiagnostic, WrapErr};
use profiles::Matrix;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Inject every known bug into the reference trainer and show which law kills it, what it is diagnosed as,
/// and what a gradient check, a comparison with libtorch or a loss trace alone would have seen.
///
/// Ends with 0 when every fault is killed, all are named within the first three and nine of ten first, with 1
/// otherwise. With `--alarms`, 1 means a false alarm.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    /// Only this fault, by its id; with what the diagnosis says. Can be given more than once.
    #[arg(long, value_name = "ID")]
    fault: Vec<String>,
    /// Hold each fault to every law instead of stopping at the first kill.
    #[arg(long)]
    full: bool,
    /// Random cases per law.
    #[arg(long, value_name = "N", default_value_t = 24)]
    cases: u32,
    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Instead of faults, hold trainers without one (the controls, the reference, libtorch) to every law on
    /// this many random batches in total, or a few more: as many for each trainer and law.
    #[arg(long, value_name = "N", conflicts_with_all = ["fault", "full"])]
    alarms: Option<u32>,
    /// See trainers through this much of them: bare, parameters, steps or full. They then have one claim.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["full", "alarms", "write", "json"])]
    profile: Option<Profile>,
    /// The one loss that trainers claim: sum, token-mean, sequence-mean, batch-mean or
    /// naive-accumulated-mean.
    #[arg(long, value_name = "NAME", default_value = "token-mean", requires = "profile")]
    claim: NamedClaim,
    /// Arithmetic of the trainers that are seen through a profile.
    #[arg(long, default_value = "f64", requires = "profile")]
    dtype: Arithmetic,
    /// Model of the trainers that are seen through a profile.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico", requires = "profile")]
    config: Config,
    /// The trainers that are seen through a profile take exactly so many micro-batches.
    #[arg(long, value_name = "K", requires = "profile")]
    micro_batches: Option<usize>,
    /// All profiles, claims and dtypes, as a table.
    #[arg(long, conflicts_with_all = ["full", "alarms", "json", "profile", "fault"])]
    profiles: bool,
    /// Also write the class of every fault into this file.
    #[arg(long, value_name = "FILE", requires = "profiles")]
    classes: Option<PathBuf>,
    /// Say of each fault what is said of it by who does not think of it, nor of those that look the same: how a bug
    /// is taken that nobody knows.
    #[arg(long, conflicts_with_all = ["full", "alarms", "profiles", "write", "json", "summary"])]
    leave_one_out: bool,
    /// Instead of the known bugs, take those of a second list that no hypothesis is made for.
    #[arg(long, conflicts_with_all = ["full", "alarms", "profiles", "write", "json", "summary", "fault", "leave_one_out"])]
    unseen: bool,
    /// Instead of the bugs of a step, take those of a training loop: what fails of a whole training, and as what that
    /// is taken.
    #[arg(
        long,
        conflicts_with_all = [
            "full", "alarms", "profiles", "json", "summary", "fault", "leave_one_out", "unseen", "profile"
        ]
    )]
    training: bool,
    /// Instead of the bugs of a step, take those of what is learnt beside the next token: distributions, masked tokens,
    /// the continuation of a source.
    #[arg(
        long,
        conflicts_with_all = [
            "full", "alarms", "profiles", "json", "summary", "fault", "leave_one_out", "unseen", "profile", "training"
        ]
    )]
    objectives: bool,
    /// Instead of the bugs of a step, take those of ranks that are apart: three threads, or the processes that `mpirun`
    /// has started.
    #[arg(
        long,
        conflicts_with_all = [
            "full", "alarms", "profiles", "json", "summary", "fault", "leave_one_out", "unseen", "profile", "training",
            "objectives"
        ]
    )]
    ranks: bool,
    /// Print how many are killed of those that are visible, and no table.
    #[arg(long, requires = "profile")]
    summary: bool,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the table into this Markdown file, between its marks.
    #[arg(long, value_name = "FILE", conflicts_with = "fault")]
    write: Option<PathBuf>,
    #[command(flatten)]
    files: ReportFiles,
}

/// The trainer that faults are injected into, and what is compared with it.
pub(super) fn reference() -> miette::Result<Box<dyn Subject>> {
    subjects::ours(Config::Pico, Dtype::F64, Device::Cpu)
}

fn libtorch() -> miette::Result<Box<dyn Subject>> {
    subjects::theirs(Config::Pico, Dtype::F64, Device::Cpu)
}

/// Reports bugs that are known by the pattern of what fails; nothing, where it is another process that does.
fn by_pattern(args: &Args, rows: &[patterns::Row], region: Option<MarkedRegion<'_>>) -> miette::Result<Exit> {
    if rows.is_empty() {
        return Ok(Exit::Conforms);
    }
    output::print(&patterns::text(rows))?;
    if let Some(region) = region {
        region.write(&patterns::markdown(rows))?;
    }
    let all = rows.iter().all(patterns::Row::is_right);
    let exit = if all { Exit::Conforms } else { Exit::Deviates };
    args.files.write(|| page::of_patterns(rows, exit))?;
    Ok(exit)
}

/// Runs the faults, or the trainers without one, and reports it on stdout.
///
/// # Errors
/// When an argument or a file is unusable.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    let campaign = Campaign {
        cases: args.cases,
        seed: args.seed,
        size,
        shrink: false,
        control: false,
        ..Campaign::default()
    };
    // Before minutes are spent on what could not be written.
    let name = match (args.alarms, args.profiles) {
        (Some(_), _) => "alarms",
        (None, true) => "profiles",
        (None, false) if args.training => "training",
        (None, false) if args.objectives => "objectives",
        (None, false) if args.ranks => "ranks",
        (None, false) => "faults",
    };
    let region = args.write.as_deref().map(|path| MarkedRegion::find(path, name)).transpose()?;
    output::check_writable(args.json.as_deref())?;
    output::check_writable(args.classes.as_deref())?;
    args.files.check_writable()?;
    let without =
        args.profiles || args.leave_one_out || args.unseen || args.profile.is_some() || args.alarms.is_some();
    if without && args.files.any() {
        return Err(miette::miette!(
            help = "leave --html, --junit and --json-lines out, or ask for the bugs themselves",
            "these files tell which law fails under which bug, and something else is asked for"
        ));
    }
    if args.ranks {
        return match ranks::joined(Order::Engine)? {
            Some(world) => {
                let reported =
                    patterns::of_ranks(Some(&world)).and_then(|rows| by_pattern(args, &rows, region));
                ranks::concluded(&world, reported)
            }
            None => by_pattern(args, &patterns::of_ranks(None)?, region),
        };
    }
    if args.training || args.objectives {
        let rows = if args.training { patterns::of_training()? } else { patterns::of_objectives()? };
        return by_pattern(args, &rows, region);
    }
    let faults = selected(&args.fault)?;
    if args.profiles {
        return every_profile(args, &faults, &campaign, region);
    }
    if args.leave_one_out || args.unseen {
        return of_nobody(args, &faults, &campaign);
    }
    if let Some(profile) = args.profile {
        let micro_batches = args.micro_batches.map_or(Count::ANY, Count::exactly);
        let keyhole = Keyhole { profile, claim: args.claim.spec, micro_batches };
        let rows = profiles::classify(&keyhole, (args.config, args.dtype), &faults, &campaign)?;
        output::print(&profiles::text(&rows, args.summary))?;
        let all = rows.iter().all(|row| row.class != Class::Survived);
        return Ok(if all { Exit::Conforms } else { Exit::Deviates });
    }
    if let Some(batches) = args.alarms {
        let found = Alarms::sound(&campaign, batches)?;
        output::print(&alarms::text(&found))?;
        if let Some(region) = region {
            region.write(&alarms::markdown(&found))?;
        }
        if let Some(path) = &args.json {
            output::write_json(path, &alarms::json(&found))?;
        }
        return Ok(if found.none() { Exit::Conforms } else { Exit::Deviates });
    }
    let rows = matrix::results(&faults, &campaign, args.full)?;
    let subject = &mut *reference()?;
    let upstream = subject.upstream_weights().is_some();
    let plan = ProbePlan::new(&subject.parameters(), &subject.info().limits, Dtype::F64, upstream);
    output::print(&render::text(&rows, &plan, args.full, !args.fault.is_empty()))?;
    if let Some(region) = region {
        region.write(&render::markdown(&rows, &plan))?;
    }
    if let Some(path) = &args.json {
        output::write_json(path, &render::json(&rows, &campaign))?;
    }
    let first = rows.iter().filter(|row| row.place() == Some(0)).count();
    let all = rows.iter().all(|row| row.is_killed() && row.place().is_some_and(|place| place < 3));
    let exit = if all && 10 * first >= 9 * rows.len() { Exit::Conforms } else { Exit::Deviates };
    args.files.write(|| page::report(&rows, args.full, exit))?;
    Ok(exit)
}

/// Bugs that nobody thinks of.
fn of_nobody(args: &Args, faults: &[&'static Fault], campaign: &Campaign) -> miette::Result<Exit> {
    let micro_batches = args.micro_batches.map_or(Count::ANY, Count::exactly);
    let keyhole = args.profile.map(|profile| Keyhole { profile, claim: args.claim.spec, micro_batches });
    let sight = Sight { keyhole, config: args.config, arithmetic: args.dtype };
    if args.unseen {
        let rows = left_out::unseen(&sight, campaign)?;
        output::print(&left_out::unseen_text(&rows))?;
        let right = rows.iter().all(left_out::OutOfSample::is_taken_right);
        return Ok(if right { Exit::Conforms } else { Exit::Deviates });
    }
    output::print(&left_out::text(&left_out::leave_one_out(&sight, faults, campaign)?))?;
    Ok(Exit::Conforms)
}

/// The faults behind every profile and claim.
fn every_profile(
    args: &Args,
    faults: &[&'static Fault],
    campaign: &Campaign,
    region: Option<MarkedRegion<'_>>,
) -> miette::Result<Exit> {
    output::print(&profiles::markdown_head())?;
    let matrix = Matrix::new(faults, campaign, |row| output::print(&row.markdown()))?;
    if let Some(region) = region {
        region.write(&format!("{}\n", matrix.markdown()))?;
    }
    if let Some(path) = &args.classes {
        output::write(path, matrix.classes().to_string().as_bytes())?;
    }
    Ok(Exit::Conforms)
}

fn selected(ids: &[String]) -> miette::Result<Vec<&'static Fault>> {
    if ids.is_empty() {
        return Ok(Fault::all().collect());
    }
    let named = |id: &String| {
        Fault::named(id).ok_or_else(|| {
            let known: Vec<_> = Fault::all().map(|fault| fault.bug.id).collect();
            miette::miette!(help = format!("the faults are {}", known.join(", ")), "there is no fault `{id}`")
        })
    };
    ids.iter().map(named).collect()
}

/// What stands between `<!-- name -->` and `<!-- /name -->` in a file.
struct MarkedRegion<'a> {
    path: &'a Path,
    before: String,
    after: String,
}

impl<'a> MarkedRegion<'a> {
    /// # Errors
    /// When the file cannot be read, or has no such marks.
    fn find(path: &'a Path, name: &str) -> miette::Result<Self> {
        let text = fs::read_to_string(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("could not read {}", path.display()))?;
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let marks = text.find(&open).zip(text.find(&close)).filter(|(from, to)| from < to);
        let Some((from, to)) = marks else {
            return Err(miette::miette!(
                help = format!("put the lines {} and {close} where the table belongs", open.trim_end()),
                "{} has no region for {name}",
                path.display()
            ));
        };
        Ok(Self { path, before: text[..from + open.len()].to_owned(), after: text[to..].to_owned() })
    }

    /// Replaces it.
    fn write(&self, content: &str) -> miette::Result<()> {
        output::write(self.path, format!("{}{content}{}", self.before, self.after).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_does_not_exist_is_named() {
        assert_eq!(selected(&["shift-twice".to_owned()]).unwrap()[0].bug.id, "shift-twice");
        let error = selected(&["shift-thrice".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no fault `shift-thrice`");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a\n<!-- x -->\nold\n<!-- /x -->\nb\n").unwrap();
        MarkedRegion::find(file.path(), "x").unwrap().write("new\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n");
        let error = MarkedRegion::find(file.path(), "y").err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("no region for y")));
    }
}
