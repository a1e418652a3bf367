//! A skipped step and the good one after it, of trainers whose gradients are small.

use lossproof_faults::kit::{Hooks, wrap};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Law, Verdict};
use lossproof_spec::{Dtype, LossSpec};
use lossproof_tests::ours;

/// A trainer that computes the per-token mean, whatever is declared.
const MEAN_ALONE: Hooks<()> =
    Hooks { configure: |(), inner, _| inner.configure(&LossSpec::token_mean()), ..Hooks::IDENTITY };

/// Under a mean no loss scale carries a gradient out of range that is below 2, at parameters of the usual
/// size.
#[test]
fn a_mean_overflows_too() {
    for dtype in [Dtype::F64, Dtype::F32] {
        let mut trainer = wrap(ours(Config::Pico, dtype), (), MEAN_ALONE);
        let campaign = Campaign { cases: 32, ..Campaign::default() };
        let report = campaign.run(Law::named("loss-scaling").unwrap(), &mut *trainer).unwrap();
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
        assert!(report.telling > 16, "{report}");
    }
}
