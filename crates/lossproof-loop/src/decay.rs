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

fn decays_by_role(info: &ParameterInfo) -> bool {
    info.shape.len() >= 2
}
