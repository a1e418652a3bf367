//! Measures the ratios in `docs/performance.md` and prints the page, or with `--write` replaces it.
//!
//! Everything that is compared runs alternately in one process, so that what else the machine does hits both sides, and
//! medians are taken. Only ratios are worth keeping: the absolute times are those of one machine on one day.

use lossproof_benches::{batch, both};
use lossproof_gpt2::{Config, probe_initial, reference};
use lossproof_laws::{Campaign, LAWS, Law, Report};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Device, Discard, Subject};
use lossproof_verify::{Directions, Verification, verify};
use std::{
    error::Error,
    fmt::Write as _,
    fs,
    io::{Write as _, stdout},
    path::Path,
    time::{Duration, Instant},
};

/// Random cases each law is timed on.
const CASES: u32 = 64;

/// The law that takes exactly one gradient per case: what the others are measured against.
const ONE_GRADIENT: &str = "every-parameter";

/// `torch.autograd.gradcheck(fast_mode=True)` of a mean cross-entropy of a GPT-2 with 29 600 parameters in
/// f64, on two cores: one random projection, one reduction.
const GRADCHECK: f64 = 0.38;

fn main() -> Result<(), Box<dyn Error>> {
    let mut page = head()?;
    page += &steps()?;
    page += &gradient_check()?;
    page += &laws()?;
    if std::env::args().any(|argument| argument == "--write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(page.as_bytes())?;
        file.persist(path)?;
    }
    stdout().write_all(page.as_bytes())?;
    Ok(())
}

fn head() -> Result<String, Box<dyn Error>> {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
        Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
    });
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "# Performance\n\nMeasured by one run of `cargo run -p lossproof-benches --example performance -- --write`, which wrote \
         this\npage: {}, {cores} cores, version {}. Each ratio is of medians of alternating runs in one process; absolute times \
         are\nthere to give an idea.\n",
        processor.as_deref().unwrap_or("a processor without a name"),
        env!("CARGO_PKG_VERSION"),
    ))
}

/// Median and quartiles.
fn quartiles(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| times[quarter * (times.len() - 1) / 4])
}

/// Seconds that `work` takes.
fn seconds<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(f64, T), E> {
    let started = Instant::now();
    let done = work()?;
    Ok((started.elapsed().as_secs_f64(), done))
}

/// A step of the reference beside one of libtorch.
fn steps() -> Result<String, Box<dyn Error>> {
    let mut text = "\n## A step\n\nForward and backward of one micro-batch, per-token mean, gradients handed to a sink that looks at \
                    nothing.\n\n| model | dtype | sequences × tokens | reference | libtorch | reference ÷ libtorch (quartiles) |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    let sizes = [
        (Config::Nano, Dtype::F64, 8, 24, Duration::from_secs(6)),
        (Config::Nano, Dtype::F32, 8, 24, Duration::from_secs(6)),
        (Config::Small, Dtype::F32, 4, 64, Duration::from_mins(1)),
    ];
    for (config, dtype, sequences, length, budget) in sizes {
        let batch = batch(config, sequences, length)?;
        let mut both = both(config, dtype)?;
        let mut times = [Vec::new(), Vec::new()];
        for (_, subject) in &mut both {
            subject.accumulate(&batch, &mut Discard)?;
        }
        let started = Instant::now();
        while started.elapsed() < budget || times[0].len() < 8 {
            for ((_, subject), times) in both.iter_mut().zip(&mut times) {
                times.push(seconds(|| subject.accumulate(&batch, &mut Discard))?.0);
            }
        }
        let ratios = times[0].iter().zip(&times[1]).map(|(ours, theirs)| ours / theirs).collect();
        let [low, _, high] = quartiles(ratios);
        let [ours, theirs] = times.map(|times| quartiles(times)[1]);
        let _ = writeln!(
            text,
            "| {config} | {dtype} | {sequences} × {length} | {:.3} s | {:.3} s | **{:.2}** ({low:.2}–{high:.2}) |",
            ours,
            theirs,
            ours / theirs
        );
    }
    Ok(text)
}

/// What it costs to hold one implementation of gpt2-nano to finite differences under six reductions, and to
/// the calculus.
fn gradient_check() -> Result<String, Box<dyn Error>> {
    let config = Config::Nano;
    let shape = config.shape();
    let batch: GlobalBatch = batch(config, 8, 24)?;
    let mut times = Vec::new();
    for seed in 0..5 {
        // Both sides are the reference, so that half of the time is that of one.
        let [mut one, mut other] = [(), ()].map(|()| reference(config, Dtype::F64, Device::Cpu));
        let verification = Verification {
            trainer: one.as_deref_mut().map_err(|error| error.to_string())?,
            reference: other.as_deref_mut().map_err(|error| error.to_string())?,
            third: None,
            parameters: &probe_initial(shape, seed),
            batch: &batch,
            model: ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, &batch),
            directions: Directions::PerTensor(1),
            seed,
        };
        times.push(seconds(|| verify(verification, &mut |_, _, _| {}))?.0 / 2.0);
    }
    let median = quartiles(times)[1];
    Ok(format!(
        "\n## A gradient check\n\ngpt2-nano (35 744 parameters), f64, 8 × 24 tokens: two directions per tensor, fourth order, taken per \
         token and contracted with\nthe weights of six reductions, and the six gradients held to the calculus: {median:.2} s, \
         {:.1} times the {GRADCHECK} s of\n`torch.autograd.gradcheck(fast_mode=True)` for one reduction and one projection of a model \
         with 29 600 parameters (measured\nonce, on a machine with two cores like this one; it is not part of the run).\n",
        median / GRADCHECK
    ))
}

/// What each law costs.
fn laws() -> Result<String, Box<dyn Error>> {
    let mut text = format!(
        "\n## Laws\n\ngpt2-pico, f64, {CASES} random cases each. A gradient is what `{ONE_GRADIENT}` takes one of per case.\n\n\
         | law | reference: cases per second | costs as many gradients as | libtorch: cases per second | costs as many gradients \
         as |\n|---|---|---|---|---|\n"
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
