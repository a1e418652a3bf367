//! What a wrong loss of distributions is instead: combinations of the losses of hard labels, which the trainer itself
//! says.

use lossproof_cases::edit::{alone, relabel};
use lossproof_spec::{Dtype, GlobalBatch, IGNORE_INDEX, MicroBatch, Sequence, TokenWeights};
use lossproof_subject::{Checked, Discard, ObjectiveBatch, Subject, Watchdog};
use num_traits::ToPrimitive;

/// The law of distributions.
pub(super) const LAW: &str = "soft-targets";

/// What the labels of a position weigh. Far enough apart that no two readings are near each other.
const SHARES: [f64; 3] = [0.625, 0.25, 0.125];

/// Readings that take a loss for every token of the vocabulary are not tried above this many.
const SMALL_VOCABULARY: usize = 1024;

/// Positions of the sequence that is read.
const LENGTH: usize = 5;

/// What the loss of a distribution over three labels is, where it is not what it should be and the same as something
/// else that is known.
pub(super) fn reading(subject: &mut dyn Subject, watchdog: &Watchdog) -> Option<&'static str> {
    let mut subject = Checked::watched(subject, watchdog.clone()).ok()?.with_wrong_numbers();
    subject.reset().ok()?;
    let info = subject.info();
    let (limits, vocabulary) = (info.limits, info.limits.vocabulary);
    let spec = info.claims.first();
    if vocabulary < SHARES.len() || spec.label_smoothing > 0.0 || spec.z_loss > 0.0 {
        return None;
    }
    let length = LENGTH.clamp(limits.lengths.least, limits.lengths.most);
    let tokens: Vec<u32> = (0..length).filter_map(|at| u32::try_from(at % vocabulary).ok()).collect();
    let mut labels: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    if limits.ignore_index && length > 2 {
        labels[2] = IGNORE_INDEX;
    }
    let sequence = Sequence::new(tokens, labels).ok()?;
    subject.configure(&spec).ok()?;
    let whole = alone(&sequence, &limits);
    if info.log_policy.logged(&whole, &spec) != [whole] {
        return None;
    }

    // The mean loss of the same tokens with labels so far behind their own.
    let mut hard = |labels: &dyn Fn(usize) -> usize| -> Option<f64> {
        let labelled = relabel(&sequence, |fields, at| {
            if fields.labels[at] < 0 { None } else { u32::try_from(labels(at) % vocabulary).ok() }
        });
        let batch: GlobalBatch = alone(&labelled, &limits);
        let weight = TokenWeights::new(&spec, &batch.layout()).ok()?.total().to_f64()?;
        Some(subject.accumulate(&batch, &mut Discard).ok()?.loss / weight)
    };
    let mut parts = [0.0; 3];
    for (step, part) in parts.iter_mut().enumerate() {
        *part = hard(&|at| at + step)?;
    }
    let mut all = None;
    if vocabulary <= SMALL_VOCABULARY {
        let losses: Option<Vec<f64>> = (0..vocabulary).map(|label| hard(&|_| label)).collect();
        all = losses.map(|losses| losses.iter().sum::<f64>());
    }

    let copies = limits.sequences.least.max(1);
    let micro_batch = MicroBatch::new(vec![sequence.clone(); copies]).ok()?;
    let targets: Vec<Vec<f64>> = (1..length)
        .filter(|&at| sequence.labels()[at] != IGNORE_INDEX)
        .map(|at| {
            let mut target = vec![0.0; vocabulary];
            for (step, share) in SHARES.into_iter().enumerate() {
                target[(at + step) % vocabulary] = share;
            }
            target
        })
        .collect();
    let supervised = targets.len();
    let targets = vec![targets; copies].concat();
    let batch = ObjectiveBatch::SoftTargets { micro_batch, targets };
    let learnt = subject.objectives()?.learn(&batch, &mut Discard).ok()?.loss;

    let lawful: f64 = parts.iter().zip(SHARES).map(|(part, share)| share * part).sum();
    let entropy: f64 = SHARES.iter().map(|share| -share * share.ln()).sum();
    let two: f64 = parts.iter().zip(SHARES).take(2).map(|(part, share)| share * part).sum();
    let mut readings = vec![
        ("that of the likeliest label alone", parts[0]),
        ("that of the two likeliest labels, with their mass as it was", two),
        ("that of the two likeliest labels", two / (SHARES[0] + SHARES[1])),
        ("the divergence, which is less by the entropy of the distributions", lawful - entropy),
        ("divided by all probabilities", lawful / vocabulary as f64),
        ("divided by sequences", lawful * supervised as f64),
        ("divided by all positions", lawful * supervised as f64 / (length - 1) as f64),
    ];
    if let Some(all) = all {
        let raised = SHARES.map(f64::exp);
        let total: f64 = raised.iter().sum::<f64>() + (vocabulary - SHARES.len()) as f64;
        let above: f64 = parts.iter().zip(raised).map(|(part, raised)| (raised - 1.0) * part).sum();
        readings.push(("that of a softmax of the distribution", (above + all) / total));
    }
    let fine = info.loss_dtype(&subject.parameters()) == Dtype::F64;
    let tolerance = if fine { 1e-9 } else { 1e-4 };
    let near = |value: f64| (learnt - value).abs() <= tolerance * value.abs().max(1.0);
    let mut found = readings.into_iter().filter(|(_, value)| near(*value)).map(|(reading, _)| reading);
    let first = found.next().filter(|_| !near(lawful));
    if found.next().is_some() { None } else { first }
}
