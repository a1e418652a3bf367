//! What each law costs, in cases per second and in gradients.

use crate::measured::seconds;
use lossproof_benches::both;
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Report, Verdict};
use lossproof_spec::Dtype;
use lossproof_subject::Subject;
use std::{error::Error, fmt::Write as _};

/// Random cases each law is timed on.
const CASES: u32 = 64;

/// The law that takes exactly one gradient per case: what the others are measured against.
const ONE_GRADIENT: &str = "every-parameter";

/// Every law on both trainers.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let mut text = format!(
        "\n## Laws\n\ngpt2-pico, f64, {CASES} random cases each. A gradient is what `{ONE_GRADIENT}` takes one of \
         per case.\n\n| law | reference: cases per second | costs as many gradients as | libtorch: cases per second \
         | costs as many gradients as |\n|---|---|---|---|---|\n"
    );
    let campaign = Campaign { cases: CASES, ..Campaign::default() };
    let mut both = both(Config::Pico, Dtype::F64)?;
    let mut costs: Vec<[f64; 2]> = Vec::new();
    let mut untried = Vec::new();
    let mut time = |law: &'static Law| -> Result<Option<[f64; 2]>, Box<dyn Error>> {
        let mut cost = [0.0; 2];
        for ((_, subject), cost) in both.iter_mut().zip(&mut cost) {
            match per_case(&campaign, law, &mut **subject)? {
                Some(seconds) => *cost = seconds,
                None => return Ok(None),
            }
        }
        Ok(Some(cost))
    };
    let single = Law::named(ONE_GRADIENT).ok_or("the law that takes one gradient is gone")?;
    // Once to warm up, once to count.
    time(single)?;
    let one = time(single)?.ok_or("the law that takes one gradient tried no case")?;
    for law in LAWS {
        let Some(cost) = time(law)? else {
            untried.push(law.id());
            continue;
        };
        costs.push(cost);
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.0} | {:.1} |",
            law.id(),
            1.0 / cost[0],
            cost[0] / one[0],
            1.0 / cost[1],
            cost[1] / one[1]
        );
    }
    let total = |side: usize| costs.len() as f64 / costs.iter().map(|cost| cost[side]).sum::<f64>();
    let _ = writeln!(
        text,
        "\nThese {} laws together: {:.0} cases per second with the reference, {:.0} with libtorch. The negative \
         controls are among it.\nNot tried, since neither trainer has what they ask for: {}.",
        costs.len(),
        total(0),
        total(1),
        untried.join(", ")
    );
    Ok(text)
}

/// Seconds for each case, or `None` where the subject lacks what the law asks for.
///
/// # Errors
/// Where the law did not pass: what is wrong, or looks at nothing, is not worth a time.
fn per_case(
    campaign: &Campaign,
    law: &'static Law,
    subject: &mut dyn Subject,
) -> Result<Option<f64>, Box<dyn Error>> {
    let (seconds, report): (f64, Report) = seconds(|| campaign.run(law, subject))?;
    match report.verdict {
        Verdict::Pass => Ok(Some(seconds / report.cases as f64)),
        Verdict::Unsupported => Ok(None),
        _ => Err(format!("{} did not pass: {report}", law.id()).into()),
    }
}
