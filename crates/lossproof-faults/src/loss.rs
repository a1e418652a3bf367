//! The loss: what is computed where another loss spec was declared.

use crate::{
    Fault,
    data::shifted,
    fault,
    honest::{Honest, PassResult, weights},
    trainer::TrainerParts,
};
use lossproof_cases::edit::supervised_everywhere;
use lossproof_spec::{Combine, Counting, EmptyPolicy, GlobalBatch, LossSpec, Prediction, Reduction, Scope};
use lossproof_subject::{Observation, SubjectError};

const HONEST: TrainerParts = TrainerParts::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "ga-mean-of-means",
        TrainerParts {
            spec: |spec, _| match (spec.reduction, spec.scope) {
                (Reduction::TokenMean, Scope::Global) => LossSpec {
                    scope: Scope::MicroBatch,
                    micro_batches: Combine::Average,
                    ranks: Combine::Average,
                    ..*spec
                },
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault(
        "ga-missing-division-k-times",
        TrainerParts { spec: |spec, _| LossSpec { micro_batches: Combine::Add, ..*spec }, ..HONEST },
    ),
    fault(
        "ga-means-added",
        TrainerParts {
            spec: |spec, _| match (spec.reduction, spec.scope) {
                (Reduction::TokenMean, Scope::Global) => LossSpec { scope: Scope::MicroBatch, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault("ga-normalised-twice", TrainerParts { accumulate: normalised_twice, ..HONEST }),
    fault(
        "reduction-mode-ignored",
        TrainerParts { spec: |spec, _| LossSpec { reduction: Reduction::TokenMean, ..*spec }, ..HONEST },
    ),
    fault(
        "token-mean-not-divided",
        TrainerParts {
            spec: |spec, _| match spec.reduction {
                Reduction::TokenMean => LossSpec { reduction: Reduction::Sum, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault(
        "batch-mean-of-a-micro-batch",
        TrainerParts {
            spec: |spec, _| match spec.reduction {
                Reduction::BatchMean => LossSpec { scope: Scope::MicroBatch, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault(
        "rank-local-token-mean",
        TrainerParts {
            spec: |spec, _| match (spec.reduction, spec.scope) {
                (Reduction::TokenMean, Scope::Global) => {
                    LossSpec { scope: Scope::RankWindow, ranks: Combine::Average, ..*spec }
                }
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault(
        "dp-average-not-undone",
        TrainerParts {
            spec: |spec, _| match spec.scope {
                Scope::Global => LossSpec { ranks: Combine::Average, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    ),
    fault(
        "dp-average-dropped",
        TrainerParts { spec: |spec, _| LossSpec { ranks: Combine::Add, ..*spec }, ..HONEST },
    ),
    fault(
        "counted-before-shift",
        TrainerParts { spec: |spec, _| LossSpec { counting: Counting::BeforeShift, ..*spec }, ..HONEST },
    ),
    fault(
        "pad-in-denominator",
        TrainerParts { spec: |spec, _| LossSpec { counting: Counting::AllPositions, ..*spec }, ..HONEST },
    ),
    fault(
        "all-ignored-nan",
        TrainerParts { spec: |spec, _| LossSpec { empty: EmptyPolicy::Nan, ..*spec }, ..HONEST },
    ),
    fault(
        "empty-groups-skipped",
        TrainerParts {
            spec: |spec, _| {
                let empty = match spec.empty {
                    EmptyPolicy::ZeroCounted => EmptyPolicy::ZeroSkipped,
                    EmptyPolicy::ZeroSkipped => EmptyPolicy::ZeroCounted,
                    other => other,
                };
                LossSpec { empty, ..*spec }
            },
            ..HONEST
        },
    ),
    fault(
        "smoothing-over-other-classes",
        TrainerParts {
            spec: |spec, limits| {
                // ε/(V − 1) for each other class and 1 − ε for the label: what ε·V/(V − 1) shared among all
                // gives.
                let classes = limits.vocabulary as f64;
                let label_smoothing = spec.label_smoothing * classes / (classes - 1.0);
                LossSpec { label_smoothing, ..*spec }
            },
            ..HONEST
        },
    ),
    fault(
        "shift-missing-on-side-path",
        TrainerParts {
            accumulate: |honest, spec, batch| {
                if spec.label_smoothing > 0.0 {
                    honest.pass(spec, &batch.map_sequences(|sequence| shifted(sequence, -1)))
                } else {
                    honest.pass(spec, batch)
                }
            },
            ..HONEST
        },
    ),
    fault("smoothing-counts-ignored", TrainerParts { accumulate: smoothing_of_ignored, ..HONEST }),
    fault("z-loss-ignored", TrainerParts { spec: |spec, _| LossSpec { z_loss: 0.0, ..*spec }, ..HONEST }),
    fault("z-loss-not-weighed", TrainerParts { accumulate: z_loss_not_weighed, ..HONEST }),
    fault(
        "z-loss-undeclared",
        TrainerParts { spec: |spec, _| LossSpec { z_loss: spec.z_loss + 1e-4, ..*spec }, ..HONEST },
    ),
    fault("temperature-in-training", TrainerParts { logits: 0.5, ..HONEST }),
    fault("log-loss-misscaled-under-ga", TrainerParts { accumulate: logged_otherwise, ..HONEST }),
];

fn normalised_twice(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    let tokens = batch.layout().supervised().max(1);
    let mean = matches!(spec.reduction, Reduction::TokenMean | Reduction::SequenceMean);
    Ok(if mean { pass.scaled(1.0 / tokens as f64) } else { pass })
}

/// The batch with its ignored labels given, and what each of them would weigh: what the largest weight is.
fn ignored(spec: &LossSpec, batch: &GlobalBatch) -> Option<Vec<f64>> {
    let weights = weights(spec, batch)?;
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let weight = |p: Prediction| if p.supervised { 0.0 } else { largest };
    Some(batch.predictions().map(weight).collect())
}

fn smoothing_of_ignored(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let mut pass = honest.pass(spec, batch)?;
    let Some(weights) = ignored(spec, batch).filter(|_| spec.label_smoothing > 0.0) else { return Ok(pass) };
    let all = supervised_everywhere(batch);
    let plain = LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..*spec };
    let smoothed = LossSpec { label_smoothing: spec.label_smoothing, ..plain };
    // (1 − ε)·label + ε·uniform, less its first part.
    pass.add(1.0, &honest.weighted(&smoothed, &all, &weights)?);
    pass.add(spec.label_smoothing - 1.0, &honest.weighted(&plain, &all, &weights)?);
    Ok(pass)
}

fn z_loss_not_weighed(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    let Some(weights) = weights(spec, batch).filter(|_| spec.z_loss > 0.0) else { return Ok(pass) };
    let mut distinct: Vec<f64> = weights.iter().copied().filter(|&weight| weight > 0.0).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup_by(|a, b| a.to_bits() == b.to_bits());
    if distinct.is_empty() {
        return Ok(pass);
    }
    // ζ/w weighs ζ after the reduction.
    let mut sum = PassResult::sum([]);
    for weight in distinct {
        let own = |w: &f64| if w.to_bits() == weight.to_bits() { weight } else { 0.0 };
        let own: Vec<f64> = weights.iter().map(own).collect();
        sum.add(1.0, &honest.weighted(&LossSpec { z_loss: spec.z_loss / weight, ..*spec }, batch, &own)?);
    }
    let observation = Observation { loss: sum.observation.loss, ..pass.observation };
    Ok(PassResult { observation, gradient: sum.gradient })
}

fn logged_otherwise(
    honest: &mut Honest,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<PassResult, SubjectError> {
    let naive = LossSpec {
        empty: EmptyPolicy::ZeroCounted,
        label_smoothing: spec.label_smoothing,
        z_loss: spec.z_loss,
        ..LossSpec::naive_accumulated_mean()
    };
    let mut pass = honest.pass(spec, batch)?;
    pass.observation.loss = honest.pass(&naive, batch)?.observation.loss;
    Ok(pass)
}
