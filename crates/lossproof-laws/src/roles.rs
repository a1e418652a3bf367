//! Parameters that a law finds by what the card says they are.

use crate::trial::{Ended, Trial};
use lossproof_spec::Role;

impl Trial<'_> {
    /// Name of the first parameter with a role.
    pub(crate) fn named_by(&self, role: Role, what: &str) -> Result<String, Ended> {
        let found = self.facts.parameters.iter().find(|parameter| parameter.role == role);
        let lacking = || {
            let frozen = self.facts.info.model.frozen.iter().any(|parameter| parameter.role == role);
            let wanted = if frozen { "a trainable parameter" } else { "a parameter" };
            Ended::Unsupported(format!(
                "{wanted} whose declared role (ParameterInfo::role) is that of {what}"
            ))
        };
        Ok(found.ok_or_else(lacking)?.name.clone())
    }

    /// Name of the token embedding.
    pub(crate) fn embedding(&self) -> Result<String, Ended> {
        self.named_by(Role::TokenEmbedding, "a token embedding")
    }

    /// Name of the token embedding where it is the head, too. What it says of the logits is not all where the
    /// head has parameters of its own, trained or not.
    pub(crate) fn embedding_for_a_head(&self) -> Result<String, Ended> {
        let name = self.embedding()?;
        let mut all = self.facts.parameters.iter().chain(&self.facts.info.model.frozen);
        let tied = self.facts.parameters.iter().any(|p| p.name == name && p.tied_to.is_some());
        if !tied || all.any(|parameter| matches!(parameter.role, Role::Head | Role::HeadBias)) {
            return Err(Ended::Unsupported("a head that is the embedding".to_owned()));
        }
        Ok(name)
    }

    /// What the head's products are multiplied by to be logits, where that rounds nothing.
    pub(crate) fn exact_logit_scale(&self) -> Result<f64, Ended> {
        let scale = self.facts.info.model.exact_logit_scale();
        scale.ok_or_else(|| {
            Ended::Unsupported("logits without a cap, and scaled by a power of two if at all".to_owned())
        })
    }
}
