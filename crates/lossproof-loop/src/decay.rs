//! Which parameters decay.

use crate::semantics::DecayGroups;
use lossproof_spec::{Role, Rule};
use lossproof_subject::ParameterInfo;
use std::collections::BTreeSet;

/// The names of those parameters that do not decay.
#[must_use]
pub fn undecayed(parameters: &[ParameterInfo], groups: DecayGroups, rule: &Rule) -> BTreeSet<String> {
    let left_out = |info: &&ParameterInfo| match groups {
        DecayGroups::ByRole => !decays_by_role(info),
        DecayGroups::ByShape => match rule {
            Rule::Sgd { .. } => false,
            Rule::Adam(adam) | Rule::AdamW(adam) => !adam.decayed.includes(&info.shape),
        },
        DecayGroups::NotNorms => is_norm(info) || has_forbidden_name(&info.name.to_lowercase()),
        DecayGroups::NotLayerNormByName => {
            ["bias", "layer_norm.weight"].iter().any(|part| info.name.contains(part))
        }
    };
    parameters.iter().filter(left_out).map(|info| info.name.clone()).collect()
}

/// What the script leaves out by type: it asks for layer norms, which those of a GPT-2 are.
fn is_norm(info: &ParameterInfo) -> bool {
    matches!(
        info.role,
        Role::NormGain | Role::NormGainFromZero | Role::NormBias | Role::FinalNormGain | Role::FinalNormBias
    )
}

/// What it leaves out by name: `bias`, `layernorm`, `rmsnorm`, `(?:^|\.)norm(?:$|\.)` and `_norm(?:$|\.)`.
fn has_forbidden_name(name: &str) -> bool {
    ["bias", "layernorm", "rmsnorm"].iter().any(|part| name.contains(part))
        || name.split('.').any(|part| part == "norm" || part.ends_with("_norm"))
}

/// Weights decay; biases, gains and scales do not, whatever their shape.
fn decays_by_role(info: &ParameterInfo) -> bool {
    matches!(
        info.role,
        Role::TokenEmbedding
            | Role::PositionEmbedding
            | Role::QueryKeyValue
            | Role::Query
            | Role::Key
            | Role::BlockOutput
            | Role::Head
            | Role::LowRankIn
            | Role::LowRankOut
            | Role::Weight
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecayed_of_gpt2(groups: DecayGroups) -> Vec<String> {
        let parameters = [
            ("wte.weight", vec![8, 4]),
            ("h.0.ln_1.weight", vec![4]),
            ("h.0.ln_1.bias", vec![4]),
            ("h.0.attn.c_attn.weight", vec![4, 12]),
            ("h.0.attn.c_attn.bias", vec![12]),
            ("ln_f.weight", vec![4]),
        ];
        let parameters = parameters.map(|(name, shape)| ParameterInfo::named(name, &shape));
        undecayed(&parameters, groups, &crate::adam_w(0.1)).into_iter().collect()
    }

    #[test]
    fn the_script_decayed_the_norms_of_gpt2_before_42769() {
        let all = ["h.0.attn.c_attn.bias", "h.0.ln_1.bias", "h.0.ln_1.weight", "ln_f.weight"];
        assert_eq!(undecayed_of_gpt2(DecayGroups::ByRole), all);
        assert_eq!(undecayed_of_gpt2(DecayGroups::NotNorms), all);
        let before = ["h.0.attn.c_attn.bias", "h.0.ln_1.bias"];
        assert_eq!(undecayed_of_gpt2(DecayGroups::NotLayerNormByName), before);
    }
}
