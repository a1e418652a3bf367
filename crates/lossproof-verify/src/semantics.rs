//! The loss semantics a verification runs through.

use lossproof_spec::{CompensatedSum, Fraction, GlobalBatch, Layout, LossSpec, TokenWeights, WeightRatio};
use lossproof_subject::LogPolicy;

/// One semantics and the batch it is computed on.
pub(crate) struct Semantics {
    pub(crate) name: &'static str,
    pub(crate) spec: LossSpec,
    pub(crate) batch: GlobalBatch,
    /// Weight of a supervised token, per sequence in the canonical order.
    pub(crate) weights: Vec<f64>,
    /// `w_t` for every prediction in the canonical order.
    pub(crate) per_prediction: Vec<f64>,
    /// The factor from the gradient of the sum to this one, where there is one.
    pub(crate) over_sum: Option<Fraction>,
}

/// The name of the semantics all others are weighted versions of.
pub(crate) const SUM: &str = "sum";
/// The name of the per-token mean of a batch that is seen at once.
pub(crate) const TOKEN_MEAN: &str = "per-token mean";
/// The name of the per-token mean of a batch that is accumulated.
pub(crate) const ACCUMULATED_TOKEN_MEAN: &str = "accumulated per-token mean";

/// The six semantics of a verification, the sum first. The first four see the whole batch at once, as a
/// trainer without accumulation does; the last two see its ranks and micro-batches.
pub(crate) fn all(batch: &GlobalBatch) -> Vec<Semantics> {
    let merged = batch.merged();
    let list = [
        (SUM, LossSpec::sum(), &merged),
        (TOKEN_MEAN, LossSpec::token_mean(), &merged),
        ("per-sequence mean", LossSpec::sequence_mean(), &merged),
        ("batch mean", LossSpec::batch_mean(), &merged),
        ("naive accumulated mean", LossSpec::naive_accumulated_mean(), batch),
        (ACCUMULATED_TOKEN_MEAN, LossSpec::token_mean(), batch),
    ];
    list.map(|(name, spec, batch)| Semantics::new(name, spec, batch)).into()
}

impl Semantics {
    /// One semantics on one batch.
    pub(crate) fn new(name: &'static str, spec: LossSpec, batch: &GlobalBatch) -> Self {
        let exact = weights(&spec, &batch.layout());
        let sum = weights(&LossSpec::sum(), &batch.layout());
        let over_sum = match WeightRatio::between(&exact, &sum) {
            WeightRatio::Uniform(ratio) => Some(ratio),
            WeightRatio::Nothing | WeightRatio::Varies { .. } => None,
        };
        let per_prediction = exact.per_prediction(batch);
        let mut per_sequence = vec![0.0; batch.sequences().count()];
        for (prediction, &weight) in batch.predictions().zip(&per_prediction) {
            if prediction.supervised {
                per_sequence[prediction.sequence] = weight;
            }
        }
        Self { name, spec, batch: batch.clone(), weights: per_sequence, per_prediction, over_sum }
    }

    /// `Σ_t w_t·ℓ_t` from the losses of all predictions.
    pub(crate) fn loss(&self, token_losses: impl IntoIterator<Item = f64>) -> f64 {
        weighted_sum(&self.per_prediction, token_losses)
    }

    /// `Σ_t |w_t|·max(ℓ_t, 1)`, what a rounding error of the loss is relative to.
    pub(crate) fn loss_scale(&self, token_losses: impl IntoIterator<Item = f64>) -> f64 {
        weighted_scale(&self.per_prediction, token_losses)
    }

    /// Whether the gradients of single sequences say something of this one. Where the batch is one sequence,
    /// the sum of that sequence is the same question asked twice.
    pub(crate) fn is_composed(&self) -> bool {
        self.name != SUM || self.weights.len() > 1
    }

    /// Whether a trainer with this log policy reports the loss of the whole batch.
    pub(crate) fn is_logged_whole(&self, policy: LogPolicy) -> bool {
        policy.logged(&self.batch, &self.spec) == [self.batch.clone()]
    }

    /// The relation between gradients that the calculus predicts, in words.
    pub(crate) fn relation(&self) -> String {
        match &self.over_sum {
            Some(_) if self.name == SUM => "∇sum = Σ_i ∇(sum of sequence i)".to_owned(),
            Some(ratio) => format!("∇ = {ratio} · ∇sum"),
            None => "∇ = Σ_i w_i · ∇(sum of sequence i)".to_owned(),
        }
    }
}

/// The exact weight of every prediction of a batch, rounded once.
pub(crate) fn per_prediction(spec: &LossSpec, batch: &GlobalBatch) -> Vec<f64> {
    weights(spec, &batch.layout()).per_prediction(batch)
}

/// `Σ_t w_t·ℓ_t`; a prediction without weight does not enter, whatever its loss is.
pub(crate) fn weighted_sum(weights: &[f64], token_losses: impl IntoIterator<Item = f64>) -> f64 {
    let terms = weights.iter().zip(token_losses).filter(|(weight, _)| **weight != 0.0);
    terms.map(|(weight, loss)| weight * loss).collect::<CompensatedSum>().value()
}

/// `Σ_t |w_t|·max(ℓ_t, 1)`.
pub(crate) fn weighted_scale(weights: &[f64], token_losses: impl IntoIterator<Item = f64>) -> f64 {
    weights.iter().zip(token_losses).map(|(weight, loss)| weight.abs() * loss.max(1.0)).sum()
}

fn weights(spec: &LossSpec, layout: &Layout) -> TokenWeights {
    TokenWeights::new(spec, layout).expect("invariant: an empty policy of zero never rejects a batch")
}
