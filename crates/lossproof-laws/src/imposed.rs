//! Loading parameters under which the logits are known.

use crate::{
    final_norm::FinalNorm,
    known_logits::KnownLogits,
    trial::{Ended, Trial},
};
use lossproof_subject::TensorSet;
use rand::RngExt;

impl Trial<'_> {
    /// Loads the case's parameters with known logits: those of these last activations.
    pub(crate) fn known_logits(
        &mut self,
        bias: impl Fn(&mut Self, usize) -> f64,
    ) -> Result<KnownLogits, Ended> {
        let mut parameters = self.parameters()?;
        let embedding = self.embedding()?;
        let width = parameters.get(&embedding).and_then(|table| table.shape().last().copied()).unwrap_or(0);
        let bias: Vec<f64> = (0..width).map(|index| bias(self, index)).collect();
        self.load_known_logits(&mut parameters, bias)
    }

    /// Loads these parameters with known logits.
    pub(crate) fn load_known_logits(
        &mut self,
        parameters: &mut TensorSet,
        bias: Vec<f64>,
    ) -> Result<KnownLogits, Ended> {
        let vocabulary = self.vocabulary();
        let (trained, model) = (&self.facts.parameters, &self.facts.info.model);
        let known = KnownLogits::of_any_head(parameters, trained, model, bias, vocabulary);
        let lacking = "known logits: declared roles (ParameterInfo::role) of gain and bias of the final norm and \
                       of an embedding that is the head, or of a token embedding and a head of its own, one row \
                       for each token, of every norm's gain and of every weight and bias that writes into the \
                       residual stream";
        let known = known.ok_or_else(|| Ended::Unsupported(lacking.to_owned()))?;
        self.load(parameters)?;
        Ok(known)
    }

    /// The norm in front of the head.
    pub(crate) fn final_norm(&self) -> Result<FinalNorm, Ended> {
        FinalNorm::of(&self.facts.parameters).ok_or_else(|| {
            let what =
                "declared roles (ParameterInfo::role) of gain and bias of the norm in front of the head";
            Ended::Unsupported(what.to_owned())
        })
    }

    /// A final bias between −2 and 2, exact in every dtype.
    pub(crate) fn random_bias(&mut self) -> f64 {
        f64::from(self.random.random_range(-128_i32..=128)) / 64.0
    }
}
