//! The loss: what is computed where another loss spec was declared.

use crate::{
    Family, Fault,
    data::{shifted, supervised_everywhere},
    honest::{Honest, Pass, weights},
    trainer::Trainer,
};
use lossproof_spec::{Combine, Counting, EmptyPolicy, GlobalBatch, LossSpec, Prediction, Reduction, Scope};
use lossproof_subject::{Observation, SubjectError};

const HONEST: Trainer = Trainer::HONEST;

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        id: "ga-mean-of-means",
        family: Family::Accumulation,
        what: "each micro-batch is averaged over its own tokens, and the averages are averaged",
        source: Some("huggingface/transformers#34191, unslothai/unsloth#1134, meta-pytorch/torchtune#1875"),
        clauses: &["2.2", "4.1"],
        trainer: Trainer {
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
    },
    Fault {
        id: "ga-missing-division-k-times",
        family: Family::Accumulation,
        what: "micro-batches that should be averaged are added, and the gradient grows with their number",
        source: Some("huggingface/transformers#35207, #35438, #37766; huggingface/trl#3716"),
        clauses: &["2.5", "4.3"],
        trainer: Trainer { spec: |spec, _| LossSpec { micro_batches: Combine::Add, ..*spec }, ..HONEST },
    },
    Fault {
        id: "ga-means-added",
        family: Family::Accumulation,
        what: "each micro-batch is averaged over its own tokens, and the averages are added: nobody divides by their number",
        source: Some("huggingface/transformers#35207"),
        clauses: &["2.2", "4.1"],
        trainer: Trainer {
            spec: |spec, _| match (spec.reduction, spec.scope) {
                (Reduction::TokenMean, Scope::Global) => LossSpec { scope: Scope::MicroBatch, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    },
    Fault {
        id: "ga-normalised-twice",
        family: Family::Accumulation,
        what: "a loss that is divided by its tokens already is divided by them again",
        source: Some("d2l-ai/d2l-en#2707, modelscope/easydistill#16"),
        clauses: &["1.3", "2.2", "2.6", "2.12", "4.3", "5.3"],
        trainer: Trainer { accumulate: normalised_twice, ..HONEST },
    },
    Fault {
        id: "reduction-mode-ignored",
        family: Family::Accumulation,
        what: "the mean over tokens is hard-wired, whatever reduction was asked for",
        source: Some("OpenNMT/OpenNMT-py#526"),
        clauses: &["2.1", "2.3", "2.4", "2.10"],
        trainer: Trainer { spec: |spec, _| LossSpec { reduction: Reduction::TokenMean, ..*spec }, ..HONEST },
    },
    Fault {
        id: "token-mean-not-divided",
        family: Family::Accumulation,
        what: "the model does not take the number of tokens, and the mean stays a sum",
        source: Some("huggingface/transformers#35207"),
        clauses: &["2.2", "2.5", "2.10"],
        trainer: Trainer {
            spec: |spec, _| match spec.reduction {
                Reduction::TokenMean => LossSpec { reduction: Reduction::Sum, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    },
    Fault {
        id: "batch-mean-of-a-micro-batch",
        family: Family::Accumulation,
        what: "the sum is divided by the sequences of its own micro-batch instead of those of the batch",
        source: None,
        clauses: &["2.4", "4.1"],
        trainer: Trainer {
            spec: |spec, _| match spec.reduction {
                Reduction::BatchMean => LossSpec { scope: Scope::MicroBatch, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    },
    Fault {
        id: "rank-local-token-mean",
        family: Family::Accumulation,
        what: "each rank divides by its own tokens, and gradients are averaged over ranks",
        source: Some(
            "pytorch/torchtitan#2206, huggingface/transformers#34242, PrimeIntellect-ai/prime-rl#2562",
        ),
        clauses: &["2.2", "5.2"],
        trainer: Trainer {
            spec: |spec, _| match (spec.reduction, spec.scope) {
                (Reduction::TokenMean, Scope::Global) => {
                    LossSpec { scope: Scope::RankWindow, ranks: Combine::Average, ..*spec }
                }
                _ => *spec,
            },
            ..HONEST
        },
    },
    Fault {
        id: "dp-average-not-undone",
        family: Family::Accumulation,
        what: "the tokens of all ranks are counted, and then the all-reduce averages over ranks nevertheless",
        source: Some("meta-pytorch/torchtune#2172, NVIDIA-NeMo/Automodel#3830, NVIDIA/Megatron-LM#906"),
        clauses: &["2.2", "5.1", "5.5"],
        trainer: Trainer {
            spec: |spec, _| match spec.scope {
                Scope::Global => LossSpec { ranks: Combine::Average, ..*spec },
                _ => *spec,
            },
            ..HONEST
        },
    },
    Fault {
        id: "dp-average-dropped",
        family: Family::Accumulation,
        what: "the all-reduce adds where each rank has divided by its own count already",
        source: Some("meta-pytorch/torchtune#2687"),
        clauses: &["2.7", "2.8", "5.1", "5.3"],
        trainer: Trainer { spec: |spec, _| LossSpec { ranks: Combine::Add, ..*spec }, ..HONEST },
    },
    Fault {
        id: "counted-before-shift",
        family: Family::Accumulation,
        what: "the tokens are counted in labels that are not shifted yet, one too many for each sequence",
        source: Some("huggingface/transformers 4.57.1 and 5.23.0: `num_items_in_batch`"),
        clauses: &["1.1", "2.9"],
        trainer: Trainer { spec: |spec, _| LossSpec { counting: Counting::BeforeShift, ..*spec }, ..HONEST },
    },
    Fault {
        id: "pad-in-denominator",
        family: Family::Masking,
        what: "ignored and padded positions are counted in the denominator",
        source: Some("tracel-ai/burn#5568, tensorflow/tensorflow#39146, keras-team/keras#15323"),
        clauses: &["2.9", "3.2"],
        trainer: Trainer { spec: |spec, _| LossSpec { counting: Counting::AllPositions, ..*spec }, ..HONEST },
    },
    Fault {
        id: "all-ignored-nan",
        family: Family::Masking,
        what: "a group without a supervised token divides zero by zero where zero was declared",
        source: Some("karpathy/nanochat#619, OpenRLHF/OpenRLHF#583, allenai/OLMo-core#657"),
        clauses: &["2.13", "3.4"],
        trainer: Trainer { spec: |spec, _| LossSpec { empty: EmptyPolicy::Nan, ..*spec }, ..HONEST },
    },
    Fault {
        id: "empty-groups-skipped",
        family: Family::Masking,
        what: "groups without a supervised token leave the averages where they should count, and the other way round",
        source: None,
        clauses: &["2.13"],
        trainer: Trainer {
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
    },
    Fault {
        id: "smoothing-over-other-classes",
        family: Family::CrossEntropy,
        what: "label smoothing shares ε among the other classes where all classes were declared",
        source: None,
        clauses: &["1.6"],
        trainer: Trainer {
            spec: |spec, limits| {
                // ε/(V − 1) for each other class and 1 − ε for the label: what ε·V/(V − 1) shared among all gives.
                let classes = limits.vocabulary as f64;
                let label_smoothing = spec.label_smoothing * classes / (classes - 1.0);
                LossSpec { label_smoothing, ..*spec }
            },
            ..HONEST
        },
    },
    Fault {
        id: "shift-missing-on-side-path",
        family: Family::Alignment,
        what: "with label smoothing the loss is computed outside of the model, on labels that nobody has shifted",
        source: Some("huggingface/transformers#17987, #27161"),
        clauses: &["1.1", "1.6"],
        trainer: Trainer {
            accumulate: |honest, spec, batch| {
                if spec.label_smoothing > 0.0 {
                    honest.pass(spec, &batch.map_sequences(|sequence| shifted(sequence, -1)))
                } else {
                    honest.pass(spec, batch)
                }
            },
            ..HONEST
        },
    },
    Fault {
        id: "smoothing-counts-ignored",
        family: Family::Masking,
        what: "the uniform part of label smoothing is taken of ignored positions too",
        source: Some("pytorch/pytorch#73205, huggingface/transformers#5919, tinygrad/tinygrad#3570"),
        clauses: &["1.6", "3.1"],
        trainer: Trainer { accumulate: smoothing_of_ignored, ..HONEST },
    },
    Fault {
        id: "z-loss-ignored",
        family: Family::CrossEntropy,
        what: "the z-loss is declared and not computed",
        source: None,
        clauses: &["1.7"],
        trainer: Trainer { spec: |spec, _| LossSpec { z_loss: 0.0, ..*spec }, ..HONEST },
    },
    Fault {
        id: "z-loss-not-weighed",
        family: Family::Accumulation,
        what: "the z-loss is added outside the reduction: summed over tokens, whatever a token weighs",
        source: None,
        clauses: &["1.7"],
        trainer: Trainer { accumulate: z_loss_not_weighed, ..HONEST },
    },
    Fault {
        id: "z-loss-undeclared",
        family: Family::CrossEntropy,
        what: "a z-loss stays on that nobody declared, and the logits' common offset is trained on",
        source: None,
        clauses: &["1.2", "1.3", "1.4", "1.5"],
        trainer: Trainer { spec: |spec, _| LossSpec { z_loss: spec.z_loss + 1e-4, ..*spec }, ..HONEST },
    },
    Fault {
        id: "temperature-in-training",
        family: Family::CrossEntropy,
        what: "the sampling temperature reaches the training loss, which sees half the logits",
        source: None,
        clauses: &["1.2", "1.5"],
        trainer: Trainer { logits: 0.5, ..HONEST },
    },
    Fault {
        id: "log-loss-misscaled-under-ga",
        family: Family::Logging,
        what: "the loss that is logged is the mean of the micro-batches' means, whatever is trained on",
        source: Some(
            "Lightning-AI/pytorch-lightning#2569, huggingface/transformers#35204, allenai/allennlp#4706",
        ),
        clauses: &["4.7"],
        trainer: Trainer { accumulate: logged_otherwise, ..HONEST },
    },
];

fn normalised_twice(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
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
) -> Result<Pass, SubjectError> {
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
) -> Result<Pass, SubjectError> {
    let pass = honest.pass(spec, batch)?;
    let Some(weights) = weights(spec, batch).filter(|_| spec.z_loss > 0.0) else { return Ok(pass) };
    let mut distinct: Vec<f64> = weights.iter().copied().filter(|&weight| weight > 0.0).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup_by(|a, b| a.to_bits() == b.to_bits());
    if distinct.is_empty() {
        return Ok(pass);
    }
    // ζ/w weighs ζ after the reduction.
    let mut sum = Pass::sum([]);
    for weight in distinct {
        let own = |w: &f64| if w.to_bits() == weight.to_bits() { weight } else { 0.0 };
        let own: Vec<f64> = weights.iter().map(own).collect();
        sum.add(1.0, &honest.weighted(&LossSpec { z_loss: spec.z_loss / weight, ..*spec }, batch, &own)?);
    }
    let observation = Observation { loss: sum.observation.loss, ..pass.observation };
    Ok(Pass { observation, gradient: sum.gradient })
}

fn logged_otherwise(honest: &mut Honest, spec: &LossSpec, batch: &GlobalBatch) -> Result<Pass, SubjectError> {
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
