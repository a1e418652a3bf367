//! What each law costs, in cases per second and in gradients.

use crate::measured::seconds;
use lossproof_benches::both;
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Report};
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
    let mut time = |law: &'static Law| -> Result<[f64; 2], Box<dyn Error>> {
        let mut cost = [0.0; 2];
        for ((_, subject), cost) in both.iter_mut().zip(&mut cost) {
            *cost = per_case(&campaign, law, &mut **subject)?;
        }
        Ok(cost)
    };
    let single = Law::named(ONE_GRADIENT).ok_or("the law that takes one gradient is gone")?;
    // Once to warm up, once to count.
    time(single)?;
    let one = time(single)?;
    for law in LAWS {
        let cost = time(law)?;
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
    let total = |side: usize| LAWS.len() as f64 / costs.iter().map(|cost| cost[side]).sum::<f64>();
    let _ = writeln!(
        text,
        "\nAll laws together: {:.0} cases per second with the reference, {:.0} with libtorch.",
        total(0),
        total(1)
    );
    Ok(text)
}

fn per_case(
    campaign: &Campaign,
    law: &'static Law,
    subject: &mut dyn Subject,
) -> Result<f64, Box<dyn Error>> {
    let (seconds, report): (f64, Report) = seconds(|| campaign.run(law, subject))?;
    if report.cases == 0 {
        return Err(format!("{} tried no case: {report}", law.id()).into());
    }
    Ok(seconds / report.cases as f64)
}
