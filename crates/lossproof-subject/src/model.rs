//! What a model is beside its trainable parameters.

use crate::ParameterInfo;

/// Facts of a model that no trainable parameter tells, and that its logits and gradients depend on. A law
/// with a closed form takes them from here: what is not declared is taken not to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Parameters that are in the model and not trained: they have a role, and no gradient, and no step moves
    /// them. [`Subject::parameters`](crate::Subject::parameters) does not list them, and nothing asks for
    /// them by name.
    pub frozen: Vec<ParameterInfo>,
    /// What the token embedding is multiplied by where it enters the model, such as `√C` in Gemma; positive.
    pub embedding_scale: f64,
    /// What the head's products are multiplied by before anything else becomes of them, such as 1/8 in Granite
    /// or `1/√C` behind T5's tied head; positive. One that is trained is a parameter
    /// ([`Role::LogitScale`](lossproof_spec::Role::LogitScale)).
    pub logit_scale: f64,
    /// The c of logits that are `c·tanh(z/c)`, such as Gemma 2's 30; positive.
    pub logit_cap: Option<f64>,
}

impl Default for ModelInfo {
    /// Everything is trained, the embedding enters as it is, and logits are the head's products.
    fn default() -> Self {
        Self { frozen: Vec::new(), embedding_scale: 1.0, logit_scale: 1.0, logit_cap: None }
    }
}

impl ModelInfo {
    /// What the head's products are multiplied by to be logits, where that rounds nothing: a power of two, where
    /// there is no cap.
    #[must_use]
    pub fn exact_logit_scale(&self) -> Option<f64> {
        let exponent = self.logit_scale.log2();
        let exact =
            exponent.round().abs() <= 32.0 && exponent.round().exp2().total_cmp(&self.logit_scale).is_eq();
        (exact && self.logit_cap.is_none()).then_some(self.logit_scale)
    }

    /// What is wrong with the numbers, if something is: a factor that is not a positive number.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        let factors = [
            ("embedding_scale", Some(self.embedding_scale), "1 changes nothing"),
            ("logit_scale", Some(self.logit_scale), "1 changes nothing"),
            ("logit_cap", self.logit_cap, "where there is none it is None"),
        ];
        for (name, factor, remedy) in factors {
            if let Some(factor) = factor.filter(|factor| !(factor.is_finite() && *factor > 0.0)) {
                return Some(format!("`model.{name}` is {factor}, which is not a positive number; {remedy}"));
            }
        }
        None
    }
}
