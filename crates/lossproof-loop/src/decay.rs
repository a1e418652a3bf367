//! Which parameters decay.

use crate::semantics::DecayGroups;
use lossproof_spec::Role;
use lossproof_subject::ParameterInfo;
use std::collections::BTreeSet;

/// The names of those parameters that do not decay.
#[must_use]
pub fn undecayed(parameters: &[ParameterInfo], groups: DecayGroups) -> BTreeSet<String> {
    let left_out = |info: &&ParameterInfo| match groups {
        DecayGroups::ByRole => !decays_by_role(info),
        // `get_parameter_names(model, [nn.LayerNorm], [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", …])`:
        // GPT-2's norms are layer norms by type.
        DecayGroups::NotNorms => {
            let name = info.name.to_lowercase();
            ["bias", "layernorm", "rmsnorm", "norm"].iter().any(|part| name.contains(part)) || !decays_by_role(info)
        }
        DecayGroups::NotLayerNormByName => {
            ["bias", "layer_norm.weight"].iter().any(|part| info.name.contains(part))
        }
    };
    parameters.iter().filter(left_out).map(|info| info.name.clone()).collect()
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
        undecayed(&parameters, groups).into_iter().collect()
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
