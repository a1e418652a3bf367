//! Parameters under which a model is sure of what it predicts.

use lossproof_spec::Role;
use lossproof_subject::{ParameterInfo, Tensor, TensorSet, TensorValues};
use std::f64::consts::SQRT_2;

/// How far the losses of some labels are apart where a model is sure of itself, in nats. A probability of 1e-12 that is
/// added to all costs 28.
const SURE: f64 = 32.0;

/// How often logits are doubled at most: a loss that is cut off is never far from another.
const DOUBLINGS: usize = 8;

/// Makes a model surer of itself, step by step, until some losses are far apart, until the largest of some are the same
/// to the bit, or until logits are hundreds of times as large. `losses` are some labels' of one token, at parameters
/// that it has to load; the last that it loads stay.
///
/// Logits are about doubled by each step. What is doubled is the gain of the final norm, or the head where there is
/// none, where roles say which these are; elsewhere all parameters are multiplied by √2.
///
/// Returns how far the losses were apart at each step, the first at the parameters as they came.
///
/// # Errors
/// Those of `losses`.
pub fn make_sure<E>(
    mut parameters: TensorSet,
    declared: &[ParameterInfo],
    mut losses: impl FnMut(&TensorSet) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, E> {
    let mut spreads = Vec::new();
    for step in 0..=DOUBLINGS {
        if step > 0 {
            double_logits(&mut parameters, declared);
        }
        let losses = losses(&parameters)?;
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let most = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let alike = losses.iter().filter(|loss| loss.to_bits() == most.to_bits()).count();
        spreads.push(most - least);
        if most - least >= SURE || step > 0 && alike > 1 {
            break;
        }
    }
    Ok(spreads)
}

/// Whether a model has as many logits as tokens, as far as roles say what it embeds and predicts with: a vocabulary that is
/// padded gives some of its probability to rows that are no tokens.
#[must_use]
pub fn every_row_is_a_token(declared: &[ParameterInfo], vocabulary: usize) -> bool {
    let mut tables = declared.iter().filter(|p| matches!(p.role, Role::TokenEmbedding | Role::Head));
    tables.all(|table| table.shape.contains(&vocabulary))
}

/// Multiplies what leads to logits so that they are about twice what they were.
fn double_logits(parameters: &mut TensorSet, declared: &[ParameterInfo]) {
    let has = |role: Role| declared.iter().any(|parameter| parameter.role == role);
    let chosen = [Role::FinalNormGain, Role::Head].into_iter().find(|role| has(*role));
    let factor = if chosen.is_some() { 2.0 } else { SQRT_2 };
    for parameter in declared.iter().filter(|p| chosen.is_none_or(|role| p.role == role)) {
        let Some(tensor) = parameters.get(&parameter.name) else { continue };
        let larger = tensor.to_f64().iter().map(|value| factor * value).collect();
        if let Ok(tensor) = Tensor::new(tensor.shape().to_vec(), TensorValues::F64(larger)) {
            parameters.insert(parameter.name.clone(), tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of parameters that are one, where losses are these, and after how many steps.
    fn surer(roles: &[Role], losses: &[f64]) -> (Vec<f64>, usize) {
        let names = ["a", "b", "c"];
        let declared: Vec<_> = names
            .iter()
            .zip(roles)
            .map(|(name, role)| ParameterInfo { role: *role, ..ParameterInfo::named(name, &[1]) })
            .collect();
        let one = Tensor::new(vec![1], TensorValues::F64(vec![1.0])).expect("one value");
        let parameters = declared.iter().map(|parameter| (parameter.name.clone(), one.clone())).collect();
        let mut last = TensorSet::default();
        let spreads = make_sure(parameters, &declared, |parameters| {
            last = parameters.clone();
            Ok::<_, ()>(losses.to_vec())
        });
        let values = declared.iter().map(|parameter| last[&parameter.name].to_f64()[0]).collect();
        (values, spreads.expect("losses do not fail").len())
    }

    #[test]
    fn one_thing_that_leads_to_logits_is_doubled_where_roles_say_it() {
        let roles = [Role::Query, Role::FinalNormGain, Role::Head];
        assert_eq!(surer(&roles, &[0.0, 8.0, 8.0]), (vec![1.0, 2.0, 1.0], 2));
        assert_eq!(surer(&[Role::Query, Role::Head], &[0.0, 8.0, 8.0]), (vec![1.0, 2.0], 2));
    }

    #[test]
    fn who_is_sure_already_is_left_alone() {
        assert_eq!(surer(&[Role::Head], &[0.0, 40.0]), (vec![1.0], 1));
    }

    #[test]
    fn everything_grows_where_no_role_says_what_leads_to_logits_and_not_for_ever() {
        let (values, steps) = surer(&[Role::Query, Role::Weight], &[0.0, 8.0]);
        assert_eq!(steps, 9);
        assert!(values.iter().all(|value| (value - 16.0).abs() < 1e-12), "{values:?}");
    }
}
