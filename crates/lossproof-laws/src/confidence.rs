//! Parameters under which a model is sure of what it predicts, and what its losses are then.

use lossproof_spec::Role;
use lossproof_subject::{ParameterInfo, Tensor, TensorSet, TensorValues};
use std::collections::BTreeMap;

/// How far the losses of some labels are apart where a model is sure of itself, in nats. A probability of 1e-10 that is
/// added to all costs 23. Twice as far, which one more step may lead, is less than f32 has for a probability.
const SURE: f64 = 24.0;

/// How often parameters are changed at most: a loss that is cut off is never far from another.
const STEPS: usize = 12;

/// Labels that are looked at for that, about.
const LOOKED_AT: usize = 64;

/// Labels that have the largest loss, to the bit, where losses are cut off.
const ALIKE: usize = 3;

/// The smallest vocabulary in which it is seen how losses come near the largest.
const FEW: usize = 16;

/// How far below the largest loss others count as near it, as a share of how far losses are apart.
const NEAR: f64 = 0.03;

/// Makes a model surer of itself, step by step, until the losses of some labels are far apart or the largest of a
/// tenth are the same to the bit. `losses` are those of these labels of one token, each over the weight of the token,
/// at parameters that it has to load; the last that it loads stay.
///
/// Logits are about doubled by each step. What grows is the gain of the final norm, or the head where there is none,
/// where roles say which these are, and elsewhere all parameters. Where losses then grow faster, steps become smaller.
///
/// Returns whether the losses are far apart, and what they were at the last parameters, by label.
///
/// # Errors
/// Those of `losses`.
pub fn make_sure<E>(
    base: &TensorSet,
    (declared, vocabulary): (&[ParameterInfo], usize),
    mut losses: impl FnMut(&TensorSet, &[usize]) -> Result<Vec<f64>, E>,
) -> Result<(bool, BTreeMap<usize, f64>), E> {
    let labels: Vec<usize> = (0..vocabulary).step_by((vocabulary / LOOKED_AT).max(1)).collect();
    let chosen = what_leads_to_logits(declared);
    // The power of two that parameters are multiplied by, and what is added to it.
    let (mut power, mut step) = (0.0, if chosen.is_some() { 1.0 } else { 0.5 });
    let mut before: Option<f64> = None;
    let mut found = Vec::new();
    for _ in 0..STEPS {
        found = losses(&multiplied(base, declared, chosen, f64::exp2(power)), &labels)?;
        let (apart, alike) = (spread(&found), largest(&found).1);
        if apart > 2.0 * SURE && power > 0.0 {
            // Too far: back, and on by less.
            power -= step;
            step /= 4.0;
        } else if apart >= SURE || alike >= ALIKE.max(labels.len() / 10) && power > 0.0 {
            return Ok((apart >= SURE, labels.into_iter().zip(found).collect()));
        } else if before.is_some_and(|before| apart > 3.0 * before) {
            step /= 2.0;
        }
        before = Some(apart);
        power += step;
    }
    Ok((false, labels.into_iter().zip(found).collect()))
}

/// The role of what is multiplied; `None` where no role says what leads to logits, and everything is.
fn what_leads_to_logits(declared: &[ParameterInfo]) -> Option<Role> {
    let has = |role: &Role| declared.iter().any(|parameter| parameter.role == *role);
    [Role::FinalNormGain, Role::Head].into_iter().find(has)
}

/// The parameters with those of a role, or all, times a factor.
fn multiplied(base: &TensorSet, declared: &[ParameterInfo], chosen: Option<Role>, factor: f64) -> TensorSet {
    let mut parameters = base.clone();
    for parameter in declared.iter().filter(|p| chosen.is_none_or(|role| p.role == role)) {
        let Some(tensor) = base.get(&parameter.name) else { continue };
        let larger = tensor.to_f64().iter().map(|value| factor * value).collect();
        if let Ok(tensor) = Tensor::new(tensor.shape().to_vec(), TensorValues::F64(larger)) {
            parameters.insert(parameter.name.clone(), tensor);
        }
    }
    parameters
}

/// Whether a model has as many logits as tokens, as far as can be said: a vocabulary that is padded gives some of its
/// probability to rows that are no tokens. `all` are trained parameters and frozen ones.
#[must_use]
pub fn every_row_is_a_token<'a>(
    all: impl Iterator<Item = &'a ParameterInfo> + Clone,
    vocabulary: usize,
) -> bool {
    let is_table = |p: &&ParameterInfo| matches!(p.role, Role::TokenEmbedding | Role::Head);
    let fits = |p: &ParameterInfo| match (p.role, p.shape.as_slice()) {
        (Role::TokenEmbedding, [rows, ..]) => *rows == vocabulary,
        (_, shape) => shape.contains(&vocabulary),
    };
    let mut tables = all.clone().filter(is_table).peekable();
    let mut others = all.filter(|parameter| !is_table(parameter));
    if tables.peek().is_some() { tables.all(fits) } else { others.any(fits) }
}

/// The loss that losses of all labels of one token are cut off at, and how many labels have it: it is the largest, and
/// few others are near it. Losses that come to an end as those under a smooth cap do have many near it.
#[must_use]
pub fn cut_off_at(losses: &[f64]) -> Option<(f64, usize)> {
    let (most, alike) = largest(losses);
    let apart = spread(losses);
    let near = losses.iter().filter(|loss| **loss < most && **loss >= most - NEAR * apart).count();
    // Where losses are hardly apart, the model is sure of nothing.
    let is_cut = losses.len() >= FEW && alike >= ALIKE && 3 * near <= alike && apart >= 2.0;
    is_cut.then_some((most, alike))
}

/// The largest loss, and how many have it to the bit.
fn largest(losses: &[f64]) -> (f64, usize) {
    let most = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (most, losses.iter().filter(|loss| loss.to_bits() == most.to_bits()).count())
}

/// How far the losses are apart.
fn spread(losses: &[f64]) -> f64 {
    largest(losses).0 - losses.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, role: Role, shape: &[usize]) -> ParameterInfo {
        ParameterInfo { role, ..ParameterInfo::named(name, shape) }
    }

    /// Logits of tokens that nobody would order: those of a normal distribution, by its inverse at odd parts.
    fn logits(tokens: usize) -> Vec<f64> {
        (0..tokens)
            .map(|token| {
                let part = ((token * 37 % tokens) as f64 + 0.5) / tokens as f64;
                (part / (1.0 - part)).ln()
            })
            .collect()
    }

    /// What becomes of parameters that are one, and of losses, where these are so of the product of all parameters
    /// times a loss; and whether the model is sure.
    fn surer(roles: &[Role], of: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>, bool) {
        let names = ["a", "b", "c"];
        let declared: Vec<_> =
            names.iter().zip(roles).map(|(name, role)| parameter(name, *role, &[1])).collect();
        let one = Tensor::new(vec![1], TensorValues::F64(vec![1.0])).expect("one value");
        let base: TensorSet = declared.iter().map(|p| (p.name.clone(), one.clone())).collect();
        let logits = logits(64);
        let (mut values, mut last) = (Vec::new(), Vec::new());
        let sure = make_sure(&base, (&declared, 64), |parameters, labels| {
            values = declared.iter().map(|p| parameters[&p.name].to_f64()[0]).collect();
            let factor: f64 = values.iter().product();
            last = labels.iter().map(|label| of(factor * (5.0 - logits[*label]))).collect();
            Ok::<_, ()>(last.clone())
        });
        let (sure, found) = sure.expect("losses do not fail");
        assert_eq!(found.into_values().collect::<Vec<_>>(), last);
        (values, last, sure)
    }

    #[test]
    fn one_thing_that_leads_to_logits_grows_where_roles_say_it() {
        let (values, _, sure) = surer(&[Role::Query, Role::FinalNormGain, Role::Head], |loss| loss);
        assert_eq!((values, sure), (vec![1.0, 4.0, 1.0], true));
        let (values, _, sure) = surer(&[Role::Query, Role::Head], |loss| loss.min(8.0));
        assert_eq!((values, sure), (vec![1.0, 2.0], false));
    }

    #[test]
    fn everything_grows_where_no_role_says_what_leads_to_logits_and_not_too_far() {
        for power in [1.0, 3.0, 5.0] {
            // Losses that grow by 2, 8 and 32 a step at first.
            let of = |loss: f64| (loss / 16.0).powf(power);
            let (values, losses, sure) = surer(&[Role::Query, Role::Weight], of);
            assert!(sure && (SURE..=2.0 * SURE).contains(&spread(&losses)), "{power}: {}", spread(&losses));
            assert_eq!(values[0].to_bits(), values[1].to_bits());
        }
        let (_, losses, sure) = surer(&[Role::Weight], |loss| loss.min(0.0));
        assert!(!sure && spread(&losses) <= 0.0);
    }

    #[test]
    fn losses_that_are_cut_off_are_told_from_those_that_come_to_an_end() {
        for factor in [2.0, 4.0, 8.0] {
            let all: Vec<f64> = logits(61).iter().map(|logit| factor * (5.0 - logit)).collect();
            assert_eq!(cut_off_at(&all), None);
            let most = all.iter().copied().fold(0.0, f64::max);
            let cut: Vec<f64> = all.iter().map(|loss| loss.min(0.7 * most)).collect();
            assert!(cut_off_at(&cut).is_some_and(|(at, alike)| at < most && alike >= 3), "{factor}");
        }
        // In f32 a tangent is one from nine on.
        for factor in [3.0, 4.0, 6.0] {
            let capped = |logit: &f64| {
                let part = factor * logit;
                15.0 - 15.0 * if part.abs() < 9.0 { part.tanh() } else { part.signum() }
            };
            let all: Vec<f64> = logits(61).iter().map(capped).collect();
            assert_eq!(cut_off_at(&all), None, "{factor}");
        }
        assert_eq!(cut_off_at(&[4.0; 20]), None);
    }

    #[test]
    fn a_padded_table_has_rows_that_are_no_tokens() {
        let fits = |all: &[ParameterInfo]| every_row_is_a_token(all.iter(), 61);
        assert!(fits(&[
            parameter("e", Role::TokenEmbedding, &[61, 8]),
            parameter("h", Role::Head, &[8, 61])
        ]));
        assert!(!fits(&[parameter("e", Role::TokenEmbedding, &[64, 61])]));
        assert!(!fits(&[parameter("e", Role::Weight, &[64, 8]), parameter("b", Role::Weight, &[8])]));
        assert!(fits(&[parameter("e", Role::Weight, &[61, 8])]));
    }
}
