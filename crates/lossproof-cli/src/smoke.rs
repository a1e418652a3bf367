//! `lossproof smoke`: what an adapter claims, lacks and gets wrong, in some seconds.

use crate::{
    adapter::AdapterArgs,
    exit::Exit,
    laws::page::checks as law_checks,
    number::grouped,
    output,
    report_files::{ReportFiles, command_line, outcome},
    table::{Align, Table},
    text::{claims, headline, paragraph},
};
use lossproof_cases::{Case, Scale};
use lossproof_laws::{Campaign, LAWS, Report, Verdict};
use lossproof_process::{Adapter, Capability};
use lossproof_report::{Check, CheckOutcome, Checks, Part, Report as Page, Section};
use lossproof_spec::{GlobalBatch, Optimizer, Role, Sequence};
use lossproof_subject::{Checked, Discard, Limits, Subject, SubjectError, Unsupported};
use miette::IntoDiagnostic;
use std::{
    collections::BTreeSet,
    fmt::Write,
    time::{Duration, Instant},
};

/// Say in some seconds what an adapter claims, what it lacks and what it gets wrong.
///
/// Its card is read, every call but those of objectives and of a loop is made once, and the laws are tried on a few
/// cases each for as long as --seconds go. It judges nothing for good: `lossproof laws` does. Ends with 0
/// when nothing is wrong, with 1 when something is, with 3 when no law was decided.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof smoke --adapter \"python -m my_adapter\"")]
pub(crate) struct Args {
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Time for the laws.
    #[arg(long, value_name = "N", default_value_t = 8)]
    seconds: u64,
    /// Random cases per law.
    #[arg(long, value_name = "N", default_value_t = 4)]
    cases: u32,
    #[command(flatten)]
    files: ReportFiles,
}

/// Looks at an adapter and says on stdout what is seen.
///
/// # Errors
/// When it does not start, or cannot say what it is.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    args.files.check_writable()?;
    let mut adapter = args.adapter.required()?;
    let card = card(&adapter);
    let subject = headline(&adapter.info());
    let mut text = card.clone();
    let calls = calls(&mut adapter);
    text += "\nEach call once, on a small batch\n";
    text += &table(&calls);
    let mut reports = Vec::new();
    let broken = calls.iter().any(|call| call.problem.is_some());
    if broken {
        text += "\nThe laws are not tried before every call answers.\n";
    } else {
        reports = tried(&mut adapter, args)?;
        text += &laws(&reports, args);
        if reports.iter().any(|report| report.verdict == Verdict::Fail) {
            text += "\nOne mistake breaks several laws: `lossproof diagnose` looks for its name.\n";
        }
    }
    adapter.finish().into_diagnostic()?;
    output::print(&text)?;
    let failed = |report: &Report| matches!(report.verdict, Verdict::Fail | Verdict::Errored);
    let exit = if broken || reports.iter().any(failed) {
        Exit::Deviates
    } else if reports.iter().any(|report| report.verdict == Verdict::Pass) {
        Exit::Conforms
    } else {
        Exit::Unchecked
    };
    args.files.write(|| page(subject, card, &calls, &reports, exit))?;
    Ok(exit)
}

/// What was seen, as a report.
fn page(subject: String, card: String, calls: &[Called], reports: &[Report], exit: Exit) -> Page {
    let mut checks = Vec::new();
    for (Called { call, took, problem }, number) in calls.iter().zip(1..) {
        let outcome = match problem {
            None => CheckOutcome::Passed,
            Some(problem) => CheckOutcome::Errored(problem.clone()),
        };
        // A call that is made twice is two checks.
        let check = Check::new(format!("{number} {call}"), format!("`{call}` answers"), outcome);
        checks.push(check.with_seconds(took.as_secs_f64()));
    }
    let mut sections = vec![
        Section::new("The card", vec![Part::Preformatted(card)]),
        Section::new("Each call once", vec![Part::Checks(Checks { name: "calls".to_owned(), checks })]),
    ];
    if !reports.is_empty() {
        sections.push(Section::new("The laws", vec![Part::Checks(law_checks(&subject, reports))]));
    }
    Page {
        title: "A first look at an adapter".to_owned(),
        command: command_line(),
        subject: vec![subject],
        outcome: outcome(exit),
        summary: "It judges nothing for good: `lossproof laws` does.".to_owned(),
        sections,
    }
}

/// What it says of itself.
fn card(adapter: &Adapter) -> String {
    let (info, parameters) = (adapter.info(), adapter.parameters());
    let mut text = headline(&info) + "\n";
    let values: usize = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
    let lines = [
        ("claims", claims(&info.claims)),
        ("logs", format!("{:?}", info.log_policy).to_lowercase()),
        ("takes", takes(&info.limits)),
        ("has", format!("{} parameters with {} values", parameters.len(), grouped(values as u64))),
        ("can", names(adapter.card().capabilities.iter())),
        ("cannot", names(Capability::ALL.iter().filter(|one| !adapter.card().capabilities.contains(one)))),
    ];
    for (what, said) in lines {
        text += &paragraph(&format!("{what}: {said}"), 2);
    }
    // Whoever says `weight` knows that there is nothing more to say.
    let undeclared = adapter.card().parameters.iter().filter(|one| one.role.is_none());
    let unknown: Vec<&str> = undeclared
        .map(|one| one.name.as_str())
        .filter(|&name| parameters.iter().any(|one| one.name == name && one.role == Role::Weight))
        .collect();
    if !unknown.is_empty() {
        let said = format!(
            "no role: {} of its parameters, the first is {}. Laws that need to know what a parameter does leave \
             them out; docs/adapters.md lists the roles",
            unknown.len(),
            unknown[0],
        );
        text += &paragraph(&said, 2);
    }
    text
}

fn names<'a>(of: impl Iterator<Item = &'a Capability>) -> String {
    let names: Vec<&str> = of.map(|capability| capability.name()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn takes(limits: &Limits) -> String {
    let may = |may: bool, what: &str| format!("{}{what}", if may { "" } else { "no " });
    format!(
        "{} tokens, {} positions, lengths: {}, sequences: {}, micro-batches: {}, ranks: {}, {}, {}, {}",
        limits.vocabulary,
        limits.positions,
        limits.lengths,
        limits.sequences,
        limits.micro_batches,
        limits.ranks,
        may(limits.ignore_index, "ignored labels"),
        may(limits.free_labels, "labels other than its tokens"),
        may(limits.segments, "padding or packing"),
    )
}

/// A call, and what came of it.
struct Called {
    call: &'static str,
    took: Duration,
    problem: Option<String>,
}

/// Every call that the card has, once.
fn calls(adapter: &mut Adapter) -> Vec<Called> {
    let (info, parameters) = (adapter.info(), adapter.parameters());
    let mut called = Vec::new();
    let mut checked = match Checked::new(adapter) {
        Ok(checked) => checked,
        Err(breach) => {
            let problem = Some(breach.to_string());
            return vec![Called { call: "hello", took: Duration::ZERO, problem }];
        }
    };
    let mut time = |call, run: &mut dyn FnMut() -> Result<(), SubjectError>| {
        let started = Instant::now();
        let problem = run().err().map(|error| error.to_string());
        called.push(Called { call, took: started.elapsed(), problem });
    };
    let subject: &mut dyn Subject = &mut checked;
    let batch = small(&info.limits);
    let values = Case {
        batch: batch.clone(),
        spec: info.claims.first(),
        scale: Scale::Probe,
        upstream: vec![1.0],
        seed: 0,
    }
    .parameters(&parameters);
    time("reset", &mut || subject.reset());
    time("configure", &mut || refused(subject.configure(&info.claims.first())));
    time("accumulate", &mut || subject.accumulate(&batch, &mut Discard).map(drop));
    if let Some(loader) = subject.parameter_loading() {
        time("load", &mut || loader.load(&values));
        if let Some((name, tensor)) = values.first_key_value() {
            time("set", &mut || loader.set(name, &tensor.to_f64()));
        }
    }
    if let Some(losses) = subject.token_losses() {
        time("evaluate", &mut || losses.evaluate(&batch).map(drop));
    }
    if let Some(upstream) = subject.upstream_weights() {
        let weights = vec![1.0; batch.predictions().count()];
        time("backward", &mut || upstream.backward(&batch, &weights, &mut Discard).map(drop));
    }
    if let Some(steps) = subject.optimizer_steps() {
        let mut starts = true;
        time("start", &mut || {
            starts = steps.start(&Optimizer::sgd(0.125)).is_ok();
            Ok(())
        });
        if starts {
            time("step", &mut || steps.step(&batch).map(drop));
            time("read", &mut || steps.read(&mut Discard));
        }
    }
    if let Some(evaluation) = subject.evaluation() {
        let batches: Vec<_> = batch.micro_batches().cloned().collect();
        time("validate", &mut || evaluation.validate(&batches).map(drop));
    }
    time("reset", &mut || subject.reset());
    let said = called.iter().any(|call| call.problem.is_some());
    if let Some(breach) = checked.take_breach().filter(|_| !said) {
        called.push(Called { call: "all", took: Duration::ZERO, problem: Some(breach.to_string()) });
    }
    called
}

fn refused(answer: Result<(), Unsupported>) -> Result<(), SubjectError> {
    answer.map_err(|refusal| SubjectError::failed(&refusal.subject.clone(), refusal))
}

/// The smallest batch inside the limits that has a prediction, where one may have.
fn small(limits: &Limits) -> GlobalBatch {
    let length = limits.lengths.nearest(5);
    let token = |position: usize| u32::try_from(position % limits.vocabulary).unwrap_or(0);
    let sequence = || {
        let tokens: Vec<u32> = (0..length).map(token).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        Sequence::new(tokens, labels).expect("invariant: a label for each token, and a token at least")
    };
    let micro_batch = || (0..limits.sequences.nearest(2)).map(|_| sequence()).collect::<Vec<_>>();
    let rank = || (0..limits.micro_batches.nearest(1)).map(|_| micro_batch()).collect::<Vec<_>>();
    lossproof_cases::edit::assemble((0..limits.ranks.nearest(1)).map(|_| rank()).collect())
}

fn table(calls: &[Called]) -> String {
    let mut table = Table::new([("call", Align::Left), ("ms", Align::Right), ("", Align::Left)]);
    for Called { call, took, problem } in calls {
        let ms = format!("{:.1}", took.as_secs_f64() * 1e3);
        table.row([(*call).to_owned(), ms, problem.clone().unwrap_or_else(|| "answers".to_owned())]);
    }
    table.render()
}

/// The laws, one after another, for as long as there is time.
fn tried(adapter: &mut Adapter, args: &Args) -> miette::Result<Vec<Report>> {
    let campaign = Campaign { cases: args.cases, control: false, ..Campaign::default() };
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut reports = Vec::new();
    for law in LAWS.iter().take_while(|_| Instant::now() < until) {
        reports.push(campaign.run(law, adapter).into_diagnostic()?);
    }
    Ok(reports)
}

fn laws(reports: &[Report], args: &Args) -> String {
    let mut text = format!("\nThe laws, {} cases each\n", args.cases);
    for report in reports.iter().filter(|report| report.failure.is_some()) {
        let _ = writeln!(text, "\n{report}");
    }
    let count = |verdict| reports.iter().filter(|report| report.verdict == verdict).count();
    let failed = count(Verdict::Fail) + count(Verdict::Errored);
    let _ = writeln!(
        text,
        "  {} hold, {failed} fail, {} ask for what it lacks, {} are not decided by so few cases, {} were not tried",
        count(Verdict::Pass),
        count(Verdict::Unsupported),
        count(Verdict::Unchecked),
        LAWS.len() - reports.len(),
    );
    let lacks: BTreeSet<&str> = reports
        .iter()
        .filter(|report| report.verdict == Verdict::Unsupported)
        .filter_map(|report| report.reason.as_deref())
        .collect();
    if !lacks.is_empty() {
        text += &paragraph(&format!("lacks: {}", lacks.into_iter().collect::<Vec<_>>().join("; ")), 2);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_batch_is_inside_the_limits_whatever_they_are() {
        use lossproof_subject::Count;
        let model = Limits::of_model(3, 4);
        let odd = Limits { sequences: Count::exactly(3), ranks: Count { least: 2, most: 4 }, ..model };
        for limits in [model, odd, Limits { lengths: Count::exactly(1), ..model }] {
            assert!(limits.check(&small(&limits)).is_ok());
        }
    }
}
