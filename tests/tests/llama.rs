//! A Llama is held to the laws: what they know of a model they know from its card, and not from GPT-2's
//! names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_laws::{Campaign, LAWS, Verdict};
use lossproof_spec::Dtype;
use lossproof_subject::{Device, Subject};
use lossproof_torch::{LlamaConfig, libtorch};
use rayon::prelude::*;
use std::fmt::Write;

fn llama(dtype: Dtype) -> Box<dyn Subject> {
    libtorch(&LlamaConfig::PICO, dtype, Device::Cpu).unwrap()
}

/// What becomes of every law, one line for each.
fn verdicts(dtype: Dtype, cases: u32) -> String {
    let campaign = Campaign { cases, ..Campaign::default() };
    let line = |law: &&'static lossproof_laws::Law| {
        let report = campaign.run(law, &mut *llama(dtype)).unwrap();
        assert!(!matches!(report.verdict, Verdict::Fail | Verdict::Errored), "{report}");
        let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{:<24} {}{reason}", law.id(), report.verdict)
    };
    let lines: Vec<String> = LAWS.par_iter().map(|law| line(&law)).collect();
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

#[test]
fn an_honest_llama_breaks_no_law() {
    insta::assert_snapshot!("f64", verdicts(Dtype::F64, 16));
}

#[test]
#[ignore = "thorough: half a minute; both GPT-2s are held to all laws in single precision"]
fn an_honest_llama_breaks_no_law_in_single_precision() {
    insta::assert_snapshot!("f32", verdicts(Dtype::F32, 16));
}
