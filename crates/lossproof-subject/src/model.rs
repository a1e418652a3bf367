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
    /// Whether logits are the head's products, neither scaled nor capped.
    #[must_use]
    pub fn has_plain_logits(&self) -> bool {
        self.logit_scale.total_cmp(&1.0).is_eq() && self.logit_cap.is_none()
    }
}
