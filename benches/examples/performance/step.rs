//! A step of the reference beside one of libtorch.

use crate::measured::{quartiles, seconds};
use lossproof_benches::{batch, both};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;
use lossproof_subject::Discard;
use std::{
    error::Error,
    fmt::Write as _,
    time::{Duration, Instant},
};

/// Forward and backward, alternately.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let mut text =
        "\n## A step\n\nForward and backward of one micro-batch, per-token mean, gradients handed to a sink \
                    that looks at nothing.\n\n| model | dtype | sequences × tokens | reference | libtorch \
                    | reference ÷ libtorch (quartiles) |\n\
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
