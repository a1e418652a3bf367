//! What a diagnosis and tomography say of trainers that log as their cards declare, and of those that log
//! otherwise.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table of what is said is shown, not asserted")]

use lossproof_diagnosis::tomography::{Basis, Observed, ReportedLosses, disagreement, recover};
use lossproof_diagnosis::{Diagnosis, Logging};
use lossproof_faults::{
    Fault,
    kit::{Hooks, wrap},
};
use lossproof_gpt2::{Config, probe_initial};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, MicroBatch, Rank, Sequence};
use lossproof_subject::{
    Count, Discard, Limits, LogPolicy, Observation, StepReport, Subject, SubjectError, SubjectInfo,
};
use lossproof_tests::{Door, ours, theirs};
use rayon::prelude::*;

const POLICIES: [LogPolicy; 4] =
    [LogPolicy::Window, LogPolicy::LastMicroBatch, LogPolicy::FirstRank, LogPolicy::MeanOfMicroBatches];

/// What a trainer says that it logs, and what it logs.
#[derive(Clone, Copy, Debug)]
struct CardAndLog {
    declared: LogPolicy,
    actual: LogPolicy,
    /// What is changed about what the trainer takes.
    limits: fn(&mut Limits),
    /// The semantics in force.
    spec: LossSpec,
}

impl CardAndLog {
    fn new(declared: LogPolicy, actual: LogPolicy) -> Self {
        Self { declared, actual, limits: |_| (), spec: LossSpec::token_mean() }
    }

    /// All declared with all actual policies.
    fn all() -> Vec<Self> {
        let mut pairs = Vec::new();
        for declared in POLICIES {
            for actual in POLICIES {
                pairs.push(Self::new(declared, actual));
            }
        }
        pairs
    }

    /// The trainer inside, but for its card and for the loss that it logs of a batch or a step.
    fn around(self, inner: Door) -> Door {
        let hooks = Hooks {
            info: |with: &Self, mut info| {
                (with.limits)(&mut info.limits);
                SubjectInfo { log_policy: with.declared, ..info }
            },
            configure: |with, inner, spec| {
                with.spec = *spec;
                inner.configure(spec)
            },
            accumulate: |with, inner, batch, handed| {
                let loss = logged_loss(with, inner, batch)?;
                Ok(Observation { loss, ..inner.accumulate(batch, handed)? })
            },
            step: |with, inner, batch| {
                let loss = logged_loss(with, inner, batch)?;
                let report = inner.optimizer_steps().unwrap().step(batch)?;
                Ok(StepReport { observation: Observation { loss, ..report.observation }, ..report })
            },
            ..Hooks::IDENTITY
        };
        wrap(inner, self, hooks)
    }
}

/// The mean of the losses of the batches that a policy logs, each as the trainer computes it by itself.
fn logged_loss(with: &CardAndLog, inner: &mut dyn Subject, batch: &GlobalBatch) -> Result<f64, SubjectError> {
    let logged = with.actual.logged(batch, &with.spec);
    let mut sum = 0.0;
    for part in &logged {
        sum += inner.accumulate(part, &mut Discard)?.loss;
    }
    Ok(sum / logged.len() as f64)
}

fn honest() -> Door {
    ours(Config::Pico, Dtype::F64)
}

fn examined(mut subject: Door) -> Diagnosis {
    Diagnosis::of(&mut *subject, Some(&mut *honest())).unwrap()
}

fn logging(diagnosis: &Diagnosis) -> &Logging {
    diagnosis.logging.as_ref().unwrap()
}

/// Who logs what is declared is sound; who does not is told so, and is given the name of a bug only where the
/// catalogue has it.
#[track_caller]
fn assert_said(with: CardAndLog, diagnosis: &Diagnosis) {
    let CardAndLog { declared, actual, .. } = with;
    let said = diagnosis.to_string();
    let named: Vec<_> = diagnosis.candidates.iter().map(|candidate| candidate.bug.id).collect();
    println!(
        "declared {declared:?}, logged {actual:?}: sound {}, named {named:?}\n{said}\n",
        diagnosis.sound
    );
    assert_eq!(logging(diagnosis).found, [actual], "{with:?}: {said}");
    assert_eq!(diagnosis.sound, declared == actual, "{with:?}: {said}");
    assert_eq!(logging(diagnosis).alone, declared != actual, "{with:?}: {said}");
    let means = (declared, actual) == (LogPolicy::Window, LogPolicy::MeanOfMicroBatches);
    let known = if means { vec!["log-loss-misscaled-under-ga"] } else { vec![] };
    assert_eq!(named, known, "{with:?}: {said}");
    assert!(diagnosis.nearest.is_none(), "{with:?}: {said}");
    if declared == actual {
        assert!(diagnosis.evidence.is_empty() && diagnosis.examined > 500, "{with:?}: {said}");
    } else {
        assert!(said.contains("and the card declares") && said.contains("remedy:"), "{with:?}: {said}");
    }
}

#[test]
fn a_diagnosis_holds_a_trainer_to_the_log_policy_that_it_declares() {
    let all = CardAndLog::all();
    let said: Vec<_> = all.par_iter().map(|with| examined(with.around(honest()))).collect();
    for (with, diagnosis) in all.into_iter().zip(&said) {
        assert_said(with, diagnosis);
    }
}

/// Known logits alone tell policies apart.
#[test]
fn no_reference_is_needed() {
    let all = CardAndLog::all();
    let said: Vec<_> = all.par_iter().map(|with| Diagnosis::alone(&mut *with.around(honest()))).collect();
    for (CardAndLog { declared, actual, .. }, diagnosis) in all.into_iter().zip(&said) {
        assert_eq!(diagnosis.sound, declared == actual, "{declared:?}, {actual:?}: {diagnosis}");
        assert_eq!(logging(diagnosis).found, [actual], "{declared:?}, {actual:?}: {diagnosis}");
    }
}

#[test]
fn a_policy_is_kept_in_single_precision_and_by_libtorch() {
    let trainers: [fn() -> Door; 2] =
        [|| ours(Config::Pico, Dtype::F32), || theirs(Config::Pico, Dtype::F64)];
    for trainer in trainers {
        for policy in POLICIES {
            let diagnosis = examined(CardAndLog::new(policy, policy).around(trainer()));
            assert!(diagnosis.sound && logging(&diagnosis).found == [policy], "{policy:?}: {diagnosis}");
        }
    }
}

/// Where a trainer takes no batch on which policies differ, whoever logs by the one logs by the other.
#[test]
fn policies_that_no_batch_tells_apart_are_not_told_apart() {
    let [window, last, first, _] = POLICIES;
    let examined = |declared, actual, limits| {
        examined(CardAndLog { limits, ..CardAndLog::new(declared, actual) }.around(honest()))
    };
    let one_rank: fn(&mut Limits) = |limits| limits.ranks = Count::exactly(1);
    let diagnosis = examined(first, window, one_rank);
    assert!(diagnosis.sound && logging(&diagnosis).found == [window, first], "{diagnosis}");
    let diagnosis = examined(last, window, one_rank);
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
    let either = "every loss is the loss of the whole window, or the loss of rank 0, and the card declares";
    assert!(diagnosis.to_string().contains(either), "{diagnosis}");

    let diagnosis = examined(last, first, |limits| limits.micro_batches = Count::exactly(1));
    assert!(diagnosis.sound && logging(&diagnosis).found == [last, first], "{diagnosis}");
    let one_micro_batch: fn(&mut Limits) =
        |limits| (limits.ranks, limits.micro_batches) = (Count::exactly(1), Count::exactly(1));
    for with in CardAndLog::all() {
        let diagnosis = examined(with.declared, with.actual, one_micro_batch);
        assert!(diagnosis.sound && logging(&diagnosis).found == POLICIES, "{with:?}: {diagnosis}");
    }
}

fn names(diagnosis: &Diagnosis) -> Vec<&'static str> {
    diagnosis.first().into_iter().map(|bug| bug.id).collect()
}

/// Bugs that are named whatever is logged.
const NAMED: [&str; 15] = [
    "ga-mean-of-means",
    "ga-missing-division-k-times",
    "ga-partial-window-underscaled",
    "zero-grad-wrong-place",
    "counted-before-shift",
    "dp-average-not-undone",
    "all-ignored-nan",
    "prompt-mask-one-too-many",
    "softmax-twice",
    "packing-cross-contamination",
    "gelu-backward-second-term",
    "concat-gradient-misaligned",
    "clip-compares-squared-norm",
    "adamw-decay-coupled",
    "ppl-mean-of-exp",
];

/// The loss that is logged is the mistaken one of what is logged.
fn assert_named(bug: &str, policy: LogPolicy) {
    let faulty = Fault::named(bug).unwrap().inject(honest());
    let diagnosis = examined(CardAndLog::new(policy, policy).around(faulty));
    assert_eq!(names(&diagnosis), [bug], "{policy:?}: {diagnosis}");
}

#[test]
fn bugs_are_named_whatever_is_logged() {
    let pairs: Vec<_> = NAMED.into_iter().zip(POLICIES.into_iter().cycle()).collect();
    pairs.par_iter().for_each(|&(bug, policy)| assert_named(bug, policy));
}

#[test]
#[ignore = "thorough: half a minute; each bug under one policy is in the other test"]
fn bugs_are_named_under_every_policy() {
    let pairs: Vec<_> = NAMED.iter().flat_map(|bug| POLICIES.map(|policy| (*bug, policy))).collect();
    pairs.par_iter().for_each(|&(bug, policy)| assert_named(bug, policy));
}

/// A wrong card hides no other mistake whose loss is right, and is said beside it.
#[test]
fn bugs_are_named_behind_a_card_that_is_wrong() {
    let bugs =
        ["zero-grad-wrong-place", "all-reduce-missing", "gelu-backward-second-term", "adamw-decay-coupled"];
    bugs.par_iter().for_each(|bug| {
        for actual in POLICIES {
            let with = CardAndLog::new(LogPolicy::LastMicroBatch, actual);
            let diagnosis = examined(with.around(Fault::named(bug).unwrap().inject(honest())));
            assert_eq!(names(&diagnosis), [*bug], "{with:?}: {diagnosis}");
            let wrong = diagnosis.to_string().contains("and the card declares");
            assert_eq!(wrong, actual != with.declared, "{with:?}: {diagnosis}");
        }
    });
}

/// A trainer that logs the mean of means, whatever it trains on, has that bug whatever its card declares; and
/// where a mistaken loss is logged by another policy, nothing is said that is not so.
#[test]
fn two_mistakes_get_no_wrong_name() {
    let bug = "log-loss-misscaled-under-ga";
    for declared in POLICIES {
        let hooks = Hooks {
            info: |declared: &LogPolicy, info| SubjectInfo { log_policy: *declared, ..info },
            ..Hooks::IDENTITY
        };
        let diagnosis = examined(wrap(Fault::named(bug).unwrap().inject(honest()), declared, hooks));
        assert_eq!(names(&diagnosis), [bug], "{declared:?}: {diagnosis}");
    }
    let pairs: Vec<_> = apart().zip(MISTAKEN.into_iter().cycle()).collect();
    pairs.par_iter().for_each(|(with, bug)| assert_not_misnamed(bug, *with));
}

/// Bugs whose loss is logged by another policy than the card declares.
const MISTAKEN: [&str; 4] =
    ["ga-mean-of-means", "counted-before-shift", "log-loss-misscaled-under-ga", "softmax-twice"];

/// Trainers that log by another policy than their card declares.
fn apart() -> impl Iterator<Item = CardAndLog> {
    CardAndLog::all().into_iter().filter(|with| with.declared != with.actual)
}

fn assert_not_misnamed(bug: &str, with: CardAndLog) {
    let diagnosis = examined(with.around(Fault::named(bug).unwrap().inject(honest())));
    let named = names(&diagnosis);
    assert!(!diagnosis.sound && (named.is_empty() || named == [bug]), "{with:?}: {diagnosis}");
}

#[test]
#[ignore = "thorough: half a minute; each pair of policies with one of the bugs is in the other test"]
fn no_two_mistakes_get_a_wrong_name() {
    let pairs: Vec<_> = apart().flat_map(|with| MISTAKEN.map(|bug| (with, bug))).collect();
    pairs.par_iter().for_each(|(with, bug)| assert_not_misnamed(bug, *with));
}

/// 16 predictions over two ranks, the first of two micro-batches; no two micro-batches have as many
/// supervised tokens.
fn ragged() -> GlobalBatch {
    let sequence = |length: u32, ignored: usize| {
        let tokens: Vec<u32> = (0..length).map(|position| 7 * length + position).collect();
        let mut labels: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        labels[..ignored].fill(-100);
        Sequence::new(tokens, labels).unwrap()
    };
    let micro_batch = |sequences: Vec<Sequence>| MicroBatch::new(sequences).unwrap();
    let first = vec![micro_batch(vec![sequence(4, 2), sequence(3, 0)]), micro_batch(vec![sequence(7, 0)])];
    let second = vec![micro_batch(vec![sequence(6, 0)])];
    GlobalBatch::new(vec![Rank::new(first).unwrap(), Rank::new(second).unwrap()]).unwrap()
}

fn at_probe(mut subject: Door) -> Door {
    subject.parameter_loading().unwrap().load(&probe_initial(Config::Pico.shape(), 1)).unwrap();
    subject
}

#[test]
fn tomography_holds_reported_losses_to_the_log_policy_that_is_declared() {
    let (batch, spec) = (ragged(), LossSpec::token_mean());
    let basis = Basis::of_reference(&mut *at_probe(honest()), &spec, &batch).unwrap();
    CardAndLog::all().par_iter().for_each(|with| {
        let CardAndLog { declared, actual, .. } = *with;
        let mut subject = at_probe(with.around(honest()));
        subject.configure(&spec).unwrap();
        let observed = Observed::of(&mut *subject, &batch).unwrap();
        let of_gradient = recover(&basis, &observed.gradient, &observed.precision).unwrap();
        let losses =
            ReportedLosses::of(&mut *subject, None, &batch, &LossSpec::token_mean(), &observed.precision, 3)
                .unwrap();
        let of_loss = losses.recover().unwrap();
        assert!(of_loss.is_explained() && of_gradient.policy.is_none(), "{with:?}: {of_loss:?}");
        assert_eq!(of_loss.policy.as_ref().unwrap().comparison.found, [actual], "{with:?}: {of_loss:?}");
        let said = of_loss.policy.as_ref().unwrap().comparison.to_string();
        assert_eq!(said.contains("is reported, as declared"), declared == actual, "{said}");
        assert_eq!(said.contains("hence not 4.7"), declared != actual, "{said}");

        let apart = disagreement(&of_gradient, &of_loss);
        assert_eq!(apart.is_some(), declared != actual, "{with:?}: {apart:?}");
        if let Some(apart) = apart {
            println!("declared {declared:?}, logged {actual:?}: {apart}");
            assert_eq!((apart.declared, apart.found), (declared, vec![actual]));
        }
    });
}
