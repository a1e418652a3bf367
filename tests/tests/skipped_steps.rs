//! A skipped step and the good one after it, of trainers whose gradients are small.

use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Law, Verdict};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{
    GradientSink, LoadParameters, Observation, OptimizerSteps, ParameterInfo, Subject, SubjectError,
    SubjectInfo, Unsupported,
};
use lossproof_tests::{Door, ours};

/// A trainer that computes the per-token mean, whatever is declared.
struct MeanAlone {
    mean: Door,
    declared: LossSpec,
}

impl Subject for MeanAlone {
    fn info(&self) -> SubjectInfo {
        SubjectInfo { spec: self.declared, ..self.mean.info() }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        self.mean.parameters()
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.mean.reset()
    }

    fn configure(&mut self, spec: &LossSpec) -> Result<(), Unsupported> {
        self.declared = *spec;
        self.mean.configure(&LossSpec::token_mean())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.mean.accumulate(batch, gradients)
    }

    fn parameter_loading(&mut self) -> Option<&mut dyn LoadParameters> {
        self.mean.parameter_loading()
    }

    fn optimizer_steps(&mut self) -> Option<&mut dyn OptimizerSteps> {
        self.mean.optimizer_steps()
    }
}

/// Under a mean no loss scale carries a gradient out of range that is below 2, at parameters of the usual
/// size.
#[test]
fn a_mean_overflows_too() {
    for dtype in [Dtype::F64, Dtype::F32] {
        let mut trainer = MeanAlone { mean: ours(Config::Pico, dtype), declared: LossSpec::token_mean() };
        let campaign = Campaign { cases: 32, ..Campaign::default() };
        let report = campaign.run(Law::named("loss-scaling").unwrap(), &mut trainer).unwrap();
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
        assert!(report.telling > 16, "{report}");
    }
}
