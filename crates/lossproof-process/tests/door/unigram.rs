//! The smallest language model there is, as a trainer: a bias for each token, and every token predicted alike.

use lossproof_spec::{GlobalBatch, LossSpec, TokenWeights, to_f64};
use lossproof_subject::{
    GradientSink, GradientView, Limits, LoadParameters, Observation, ParameterInfo, Subject, SubjectError,
    SubjectInfo, TensorSet, TokenLosses, capabilities,
};

/// Tokens of its vocabulary.
const VOCABULARY: usize = 5;

/// A trainer whose logits are one parameter, `lm_head.bias`.
pub(crate) struct Unigram {
    initial: Vec<f64>,
    bias: Vec<f64>,
}

impl Unigram {
    pub(crate) fn new() -> Self {
        let initial = vec![0.5, -0.25, 0.0, 0.125, 1.0];
        Self { bias: initial.clone(), initial }
    }

    /// The loss of a token.
    fn loss(&self, target: u32) -> f64 {
        let sum: f64 = self.bias.iter().map(|logit| logit.exp()).sum();
        sum.ln() - self.bias[target as usize]
    }
}

impl Subject for Unigram {
    fn info(&self) -> SubjectInfo {
        let limits = Limits::of_model(VOCABULARY, 64);
        let info = SubjectInfo::of_one("unigram", "1", "none", LossSpec::token_mean(), limits);
        SubjectInfo { dtypes: lossproof_spec::Dtypes::all(lossproof_spec::Dtype::F64), ..info }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        vec![ParameterInfo::named("lm_head.bias", &[VOCABULARY])]
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        self.bias.clone_from(&self.initial);
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        self.info().limits.check(batch)?;
        let weights = TokenWeights::new(&LossSpec::token_mean(), &batch.layout())?;
        let sum: f64 = self.bias.iter().map(|logit| logit.exp()).sum();
        let (mut loss, mut gradient) = (0.0, vec![0.0; VOCABULARY]);
        for prediction in batch.predictions().filter(|prediction| prediction.supervised) {
            let weight = to_f64(weights.of_sequence(prediction.sequence));
            loss += weight * self.loss(prediction.target);
            for (token, gradient) in gradient.iter_mut().enumerate() {
                let hot = if token == prediction.target as usize { 1.0 } else { 0.0 };
                *gradient += weight * (self.bias[token].exp() / sum - hot);
            }
        }
        gradients.receive("lm_head.bias", &[VOCABULARY], GradientView::F64(&gradient))?;
        Ok(Observation::new(loss, Some(batch.layout().supervised())))
    }

    capabilities!(LoadParameters, TokenLosses);
}

impl LoadParameters for Unigram {
    fn load(&mut self, parameters: &TensorSet) -> Result<(), SubjectError> {
        self.initial = parameters["lm_head.bias"].to_f64();
        self.reset()
    }

    fn set(&mut self, name: &str, values: &[f64]) -> Result<(), SubjectError> {
        assert_eq!(name, "lm_head.bias");
        self.bias.copy_from_slice(values);
        Ok(())
    }
}

impl TokenLosses for Unigram {
    fn evaluate(&mut self, batch: &GlobalBatch) -> Result<Vec<f64>, SubjectError> {
        Ok(batch.predictions().map(|prediction| self.loss(prediction.target)).collect())
    }
}
