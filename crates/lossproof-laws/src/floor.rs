//! The floor under every green: what no expectation can pin away.

use crate::{Campaign, distance, error_model};
use lossproof_cases::{edit, strategies};
use lossproof_numerics::exceeds;
use lossproof_spec::{GlobalBatch, TokenWeights};
use lossproof_subject::{Checked, Collect, GradientSink, Subject, SubjectError, Tensor};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

/// Batches that are drawn before it is said that none has anything to show.
const DRAWN: usize = 64;

/// One sequence alone, under the first semantics that the subject's card claims, has a loss and a gradient
/// that are more than nothing, and has them again when asked again.
///
/// # Errors
/// What is not so, in words.
pub fn floor(campaign: &Campaign, subject: &mut dyn Subject) -> Result<(), String> {
    let mut subject =
        Checked::watched(subject, campaign.watchdog.clone()).map_err(|breach| breach.to_string())?;
    let info = subject.info();
    subject.reset().map_err(|error| error.to_string())?;
    let claim = info.claims.first();
    let configured = subject.configure(&claim);
    if let Some(breach) = subject.take_breach() {
        return Err(breach.to_string());
    }
    configured.map_err(|refused| format!("what its own card claims is refused: {refused}"))?;
    let strategy = strategies::case(&info.limits, &info.claims, campaign.size.clone());
    let mut runner = TestRunner::deterministic();
    for _ in 0..DRAWN {
        let case = strategy.new_tree(&mut runner).map_err(|reason| reason.to_string())?.current();
        let Some(sequence) = case.batch.sequences().find(|sequence| sequence.supervised() > 0) else {
            continue;
        };
        let alone = edit::alone(sequence, &info.limits);
        let weighs = TokenWeights::new(&claim, &alone.layout()).is_ok();
        if !weighs || info.limits.check(&alone).is_err() {
            continue;
        }
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut sink = Collect::default();
            let observation = answer(&mut subject, &alone, &mut sink).map_err(|error| error.to_string())?;
            answers.push((observation, sink.into_tensors()));
        }
        let [(loss, gradient), (loss_again, gradient_again)] = &answers[..] else { continue };
        let parameters = subject.parameters();
        let model = error_model(&info, &parameters, &alone);
        let apart = distance(gradient, gradient_again).max((loss - loss_again).abs() / loss.abs().max(1.0));
        // The rule by which a campaign calls a subject not deterministic.
        if exceeds(apart, model.gradient_bound(info.coarsest(&parameters))) {
            return Err(format!(
                "one sequence alone, asked twice, has answers that are {apart:.1e} apart (dropout?)"
            ));
        }
        let largest =
            gradient.values().flat_map(Tensor::to_f64).fold(0.0, |largest: f64, g| largest.max(g.abs()));
        if loss.abs() <= 0.0 {
            return Err("one sequence alone has a loss of exactly zero".to_owned());
        }
        if largest <= 0.0 {
            return Err("one sequence alone has a gradient of exactly zero in every parameter".to_owned());
        }
        return Ok(());
    }
    Err(format!(
        "of {DRAWN} batches none has a sequence that the subject takes alone with a supervised token"
    ))
}

fn answer(
    subject: &mut Checked<'_>,
    batch: &GlobalBatch,
    sink: &mut dyn GradientSink,
) -> Result<f64, SubjectError> {
    let answer = subject.accumulate(batch, sink).map(|observation| observation.loss);
    match subject.take_breach() {
        Some(breach) => Err(breach.into()),
        None => answer,
    }
}
