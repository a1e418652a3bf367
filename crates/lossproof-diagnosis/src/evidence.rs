//! What is seen and should not be, in words.

use crate::{
    anomalies::{gradient_anomalies, loss_anomaly, step_anomaly, validation_anomaly},
    attention::Dependence,
    call::Semantics,
    examination::{Examination, ProbeResult},
    half_digits::tolerance,
    inference::{BeyondLayout, Measurement, explain_ratio, infer},
    named_values::several,
    probe_parameters::ProbeParameters,
    probes::{Probe, ProbeState},
    relations::{self, RelationTerms},
    repeated_calls::Repeated,
    trainer_model::softmax,
    truth::{HonestAnswer, is_along_the_last_activations},
};
use lossproof_laws::KnownLogits;
use lossproof_numerics::norm;
use lossproof_spec::{GlobalBatch, Prediction, Sequence, TokenWeights};
use std::{collections::BTreeMap, fmt::Write as _, rc::Rc};

/// Statements of one kind that are made at most: the rest says the same again.
const OF_A_KIND: usize = 2;

/// Every statement about what was seen; `honest` holds what an honest trainer gives by probe.
pub(crate) fn statements(
    seen: &Examination,
    parameters: &ProbeParameters,
    honest: &[Option<Rc<HonestAnswer>>],
) -> Vec<String> {
    let results = || seen.results.iter().zip(honest.iter().map(Option::as_deref));
    let known = parameters.known_logits(ProbeState::KnownLogits);
    let weighed = |(result, honest): (&ProbeResult, Option<&HonestAnswer>)| {
        let right = loss_anomaly(seen, result, honest).is_none();
        let longest_window = result.probe.before.iter().map(GlobalBatch::longest_window).max();
        let beyond = BeyondLayout { vocabulary: Some(seen.limits.vocabulary), longest_window };
        weights_anomaly(result, known?, beyond, (tolerance(seen.dtype), right))
    };
    let mut evidence: Vec<String> = results().filter_map(weighed).take(OF_A_KIND).collect();
    if evidence.is_empty() {
        let losses = results().filter_map(|(result, honest)| loss_anomaly(seen, result, honest));
        evidence.extend(losses.take(OF_A_KIND));
        evidence.extend(gradients(seen, honest));
    }
    // Once: on the next probe it is the same.
    let unexplained = |(result, _)| no_weights_explain(result, known?, tolerance(seen.dtype));
    evidence.extend(results().find_map(unexplained));
    // Where the loss changes by itself, it does not tell what it depends on.
    let repeats = seen.repeated != Some(Repeated::OtherLoss);
    for (position, input, depends) in
        seen.dependences.iter().filter_map(Dependence::anomaly).filter(|_| repeats)
    {
        let (verb, should) = if depends { ("depends", "must not") } else { ("does not depend", "should") };
        evidence.push(format!(
            "the loss at position {position} {verb} on the input at position {input}, which it {should} see"
        ));
    }
    match seen.repeated {
        Some(Repeated::Twice) => {
            evidence.push("the second of two identical calls gives twice the gradient".to_owned());
        }
        Some(Repeated::CarriedOver) => evidence.push(
            "the second of two identical calls gives another gradient, and which one depends on the batch of the \
             first: something is kept from one call to the next"
                .to_owned(),
        ),
        Some(Repeated::Other { by }) => {
            evidence.push(format!("two identical calls give different gradients, {by:.1e} of their size apart"));
        }
        Some(Repeated::OtherLoss) => evidence.push("two identical calls report different losses".to_owned()),
        Some(Repeated::Same) | None => {}
    }
    let missing = seen.parameters.iter().zip(&seen.missing).filter(|(_, missing)| **missing == Some(true));
    let missing: Vec<_> = missing.map(|(parameter, _)| parameter.name.as_str()).collect();
    if !missing.is_empty() {
        evidence.push(format!(
            "the gradient of {} is missing: zero, and the loss depends on it",
            several(&missing)
        ));
    }
    evidence.extend(seen.runs.iter().filter_map(|run| step_anomaly(seen, run)).take(OF_A_KIND));
    if evidence.is_empty() {
        evidence.extend(validation_anomaly(seen));
    }
    if evidence.is_empty() {
        let (limits, log_policy, dtype) = (&seen.limits, seen.log_policy, seen.dtype);
        let mut of_labels =
            seen.label_losses.iter().filter_map(|losses| losses.statement(limits, log_policy, dtype));
        evidence.extend(of_labels.next());
        let terms = RelationTerms { limits, semantics: Semantics::as_asked(log_policy), dtype };
        evidence.extend(relations::statements(&seen.relations, terms));
    }
    evidence
}

/// The parameters whose gradient is wrong on some probe, as one statement.
fn gradients(seen: &Examination, honest: &[Option<Rc<HonestAnswer>>]) -> Option<String> {
    let wrong = gradient_anomalies(seen, honest);
    let all = seen.parameters.len();
    match wrong.as_slice() {
        [] => None,
        some if some.len() == all => Some("the gradient of every parameter is wrong".to_owned()),
        some => {
            let named = several(&some.iter().map(String::as_str).collect::<Vec<_>>());
            let is_known =
                |name: &String| honest.iter().flatten().any(|h| h.optimised.gradient.contains_key(name));
            let known = seen.parameters.iter().filter(|parameter| is_known(&parameter.name)).count();
            let (right, unknown) = (known.saturating_sub(some.len()), all - known);
            let mut text = format!("the gradient of {named} is wrong");
            match right {
                0 => {}
                1 => text += "; that of one other is not",
                _ => {
                    let _ = write!(text, "; those of {right} others are not");
                }
            }
            match unknown {
                0 => {}
                1 => text += "; what that of one should be is not known",
                _ => {
                    let _ = write!(text, "; what those of {unknown} should be is not known");
                }
            }
            Some(text)
        }
    }
}

/// Why the gradient of the head is not that of known logits whatever tokens weigh, to half of its digits; `None` where
/// it is, or is no number. It is along the last activations, since these are the same at every position; and by the
/// logits of tokens that nobody has it is in proportion to their probabilities.
fn contradiction(known: &KnownLogits, result: &ProbeResult, tolerance: f64) -> Option<&'static str> {
    let gradient = result.gradient.get(known.head())?;
    if !is_along_the_last_activations(known, gradient, tolerance) {
        return Some("is not along the last activations");
    }
    let by_logit = known.by_logit(gradient);
    let probabilities = softmax(known.logits());
    let unused = unused(&by_logit, &result.probe)?;
    let of_unused = |values: &[f64]| -> Vec<f64> {
        values.iter().zip(&unused).filter(|(_, unused)| **unused).map(|(value, _)| *value).collect()
    };
    let (found, due) = (of_unused(&by_logit), of_unused(&probabilities));
    let all = found.iter().sum::<f64>() / due.iter().sum::<f64>();
    let rest: Vec<f64> = found.iter().zip(&due).map(|(found, p)| found - all * p).collect();
    let proportional = norm(&rest) <= tolerance * norm(&by_logit);
    (!proportional && norm(&rest).is_finite())
        .then_some("is not in proportion to the probabilities of tokens that are not in the batch")
}

/// Which tokens of the vocabulary the batches of a probe do not have.
fn unused(by_logit: &[f64], probe: &Probe) -> Option<Vec<bool>> {
    let mut unused = vec![true; by_logit.len()];
    // What is kept from a batch before is no other token loss.
    for sequence in probe.before.iter().chain([&probe.batch]).flat_map(GlobalBatch::sequences) {
        for token in sequence.targets().iter().chain(sequence.input_ids()) {
            *unused.get_mut(*token as usize)? = false;
        }
    }
    Some(unused)
}

/// What a token weighs in the gradient of a model with known logits: the label with token v has the gradient
/// `W·p_v − W_v` at logit v, where `W_v` is its weight and `W` the sum of all.
fn label_weights(known: &KnownLogits, result: &ProbeResult) -> Option<Vec<f64>> {
    let by_logit = known.by_logit(result.gradient.get(known.head())?);
    let probabilities = softmax(known.logits());
    // W from the tokens that nobody has.
    let unused = unused(&by_logit, &result.probe)?;
    let over =
        |values: &[f64]| -> f64 { values.iter().zip(&unused).filter(|(_, u)| **u).map(|(v, _)| v).sum() };
    let all = over(&by_logit) / over(&probabilities);
    all.is_finite().then(|| by_logit.iter().zip(&probabilities).map(|(g, p)| all * p - g).collect())
}

/// Whether a probe is one of known logits, whose tokens weigh what a semantics gives them, under plain cross-entropy.
fn is_weighed(result: &ProbeResult) -> bool {
    let Probe { spec, state, upstream, .. } = &result.probe;
    let plain = spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
    *state == ProbeState::KnownLogits && plain && upstream.is_none()
}

/// That no weights explain the gradient of a probe with known logits, and what then may be wrong.
fn no_weights_explain(result: &ProbeResult, known: &KnownLogits, tolerance: f64) -> Option<String> {
    let contradiction = is_weighed(result).then(|| contradiction(known, result, tolerance)).flatten()?;
    Some(format!(
        "{} under {}: the gradient of {} {contradiction}, whatever tokens weigh: the token loss is another, labels are \
         no tokens of the batch, the head and the final norm are not what the roles on the card say, or their backward \
         pass is wrong",
        result.probe.name,
        result.probe.spec,
        known.head()
    ))
}

/// What the weights of a probe with known logits are, in words, where they are not what they should be.
/// `right` says that the reported loss is what it should be.
fn weights_anomaly(
    result: &ProbeResult,
    known: &KnownLogits,
    beyond: BeyondLayout,
    (tolerance, right): (f64, bool),
) -> Option<String> {
    if !is_weighed(result) || contradiction(known, result, tolerance).is_some() {
        return None;
    }
    let probe = &result.probe;
    let found = label_weights(known, result)?;
    let due = TokenWeights::new(&probe.spec, &probe.batch.layout()).ok()?.per_prediction(&probe.batch);
    let mut occurrences = BTreeMap::<u32, usize>::new();
    for token in probe.batch.sequences().flat_map(Sequence::targets) {
        *occurrences.entry(*token).or_default() += 1;
    }
    let scale = due.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    // By prediction: what it weighs, and what it should. A token that is there twice tells nothing.
    let pairs: Vec<(Prediction, f64, f64)> = probe
        .batch
        .predictions()
        .zip(due)
        .filter(|(prediction, _)| occurrences.get(&prediction.target) == Some(&1))
        .map(|(prediction, due)| {
            (prediction, found.get(prediction.target as usize).copied().unwrap_or(0.0), due)
        })
        .collect();
    let supervised = pairs.iter().filter(|(_, _, due)| due.abs() > 0.0).count();
    let first = probe.batch.sequences().enumerate().filter_map(|(sequence, tokens)| {
        let token = tokens.targets().first().filter(|token| occurrences.get(token) == Some(&1))?;
        let weight = found.get(*token as usize).copied().unwrap_or(0.0);
        (weight.abs() > tolerance * scale).then(|| {
            format!(
                "the first token of sequence {sequence} weighs {weight:.4} as a label, and is scored nowhere"
            )
        })
    });
    let first: Vec<String> = first.take(1).collect();
    let wrong: Vec<_> = pairs
        .iter()
        .filter(|(_, w, due)| (w - due).is_nan() || (w - due).abs() > tolerance * scale)
        .collect();
    if wrong.is_empty() && first.is_empty() {
        return None;
    }
    if pairs.iter().all(|(_, weight, _)| weight.is_nan()) {
        return Some(format!("{} under {}: the weights are no numbers", probe.name, probe.spec));
    }
    let mut said = differing(&wrong, supervised, &probe.batch, (beyond, tolerance));
    said.extend(first);
    let weights = every_weight(&probe.batch, &found, tolerance * scale, &occurrences);
    if let Ok(inference) = infer(&probe.batch, &weights) {
        let spec = probe.spec.to_string();
        let named = inference.matches().first().map(|found| found.representative().to_string());
        // Where tokens are lost, the others may still weigh what the declared semantics gives them.
        let violated = inference.against(&probe.spec).consequences.violated;
        let ids = violated.iter().map(|clause| clause.id).collect::<Vec<_>>().join(", ");
        // One probe does not say that it is that: what is broken is said of what it looks like.
        match named.filter(|named| *named != spec) {
            Some(named) if ids.is_empty() => said.push(format!("these are the weights of `{named}`")),
            Some(named) => said.push(format!("these are the weights of `{named}`, which breaks {ids}")),
            None if ids.is_empty() => {}
            None => said.push(format!("hence not {ids}")),
        }
    }
    if !wrong.is_empty() && right {
        said.push("the loss that is reported is right".to_owned());
    }
    Some(format!("{} under {}: {}", probe.name, probe.spec, said.join("; ")))
}

/// A weight for every prediction: that of its label where the token is there once, and otherwise any.
fn every_weight(
    batch: &GlobalBatch,
    found: &[f64],
    error: f64,
    occurrences: &BTreeMap<u32, usize>,
) -> Vec<Measurement> {
    let weight = |prediction: Prediction| match occurrences.get(&prediction.target) {
        Some(1) => {
            Measurement { value: found.get(prediction.target as usize).copied().unwrap_or(0.0), error }
        }
        _ => Measurement { value: 0.0, error: f64::INFINITY },
    };
    batch.predictions().map(weight).collect()
}

/// What is wrong with the weights of predictions: what each weighs, and what it should.
fn differing(
    wrong: &[&(Prediction, f64, f64)],
    all: usize,
    batch: &GlobalBatch,
    (beyond, tolerance): (BeyondLayout, f64),
) -> Vec<String> {
    let mut said = Vec::new();
    let at = |p: &Prediction| format!("sequence {}, position {}", p.sequence, p.position);
    let ignored: Vec<_> = wrong.iter().filter(|(_, _, due)| due.abs() <= 0.0).collect();
    if let Some((prediction, weight, _)) = ignored.first() {
        let count = ignored.len();
        let labels = if count == 1 { "label weighs" } else { "labels weigh" };
        said.push(format!("{count} ignored {labels} something ({}: {weight:.4})", at(prediction)));
    }
    let supervised: Vec<_> = wrong.iter().filter(|(_, _, due)| due.abs() > 0.0).collect();
    let lost: Vec<_> = supervised.iter().filter(|(_, weight, due)| weight.abs() <= tolerance * due).collect();
    if let Some((prediction, ..)) = lost.first() {
        let tokens = if lost.len() == 1 { "token weighs" } else { "tokens weigh" };
        said.push(format!("{} supervised {tokens} nothing ({})", lost.len(), at(prediction)));
    }
    let scaled: Vec<_> =
        supervised.iter().filter(|(_, weight, due)| weight.abs() > tolerance * due).collect();
    let mut ratios: Vec<(f64, usize)> = Vec::new();
    for (_, weight, due) in &scaled {
        let ratio = weight / due;
        match ratios.iter_mut().find(|(known, _)| (known - ratio).abs() <= 4.0 * tolerance * ratio.abs()) {
            Some((_, count)) => *count += 1,
            None => ratios.push((ratio, 1)),
        }
    }
    let named = |ratio: f64| {
        let error = 8.0 * tolerance * ratio.abs();
        explain_ratio(&batch.layout(), beyond, ratio, error).unwrap_or_else(|| format!("{ratio:.4}"))
    };
    match ratios.as_slice() {
        [] => {}
        [(ratio, count)] if *count == all => {
            said.push(format!("every weight is {} of what it should be", named(*ratio)));
        }
        [(ratio, count)] => {
            said.push(format!("{count} of {all} weights are {} of what they should be", named(*ratio)));
        }
        several => {
            let shown: Vec<_> = several
                .iter()
                .take(OF_A_KIND)
                .map(|(ratio, count)| match ratio - 1.0 {
                    // Four digits would call it right.
                    little if little.abs() < 5e-5 => format!("{count} are 1{little:+.1e}"),
                    _ => format!("{count} are {ratio:.4}"),
                })
                .collect();
            said.push(format!("of {all} weights {} of what they should be", shown.join(", ")));
        }
    }
    said
}
