//! Every known bug is named, and trainers without one are not taken for one that has.

use lossproof_diagnosis::{Diagnosis, Diagnostician, Hypothesis, ProbePlan};
use lossproof_faults::{
    Control, Fault, Unseen,
    hostile::Hostile,
    kit::{Capability, HandedOver, Hooks, wrap},
};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Examiner, Law, Verdict};
use lossproof_spec::{Dtype, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Rank, Scope};
use lossproof_subject::{Collect, Count, Limits, StepReport, Subject, SubjectError, TensorSet, Watchdog};
use lossproof_tests::{ours, theirs};
use rayon::prelude::*;
use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

fn honest() -> Box<dyn Subject> {
    ours(Config::Pico, Dtype::F64)
}

fn examined(subject: &mut dyn Subject) -> Diagnosis {
    Diagnosis::of(subject, Some(&mut *honest())).expect("the reference does not fail")
}

fn broken(id: &str) -> Box<dyn Subject> {
    Fault::named(id).unwrap_or_else(|| panic!("there is no fault {id}")).inject(honest())
}

/// Ids of the candidates, the likeliest first.
fn candidates(diagnosis: &Diagnosis) -> Vec<&'static str> {
    diagnosis.candidates.iter().map(|candidate| candidate.bug.id).collect()
}

/// A velocity that is the buffer of the gradient is overwritten whenever somebody asks for one, and is a wrong one
/// where nobody does.
#[test]
fn what_shows_only_where_no_gradient_is_asked_for_between_steps_is_seen() {
    type Step = fn(&mut bool, &mut dyn Subject, &GlobalBatch) -> Result<StepReport, SubjectError>;
    let twice: Step = |asked, inner, batch| {
        let steps = inner.optimizer_steps().expect("ours takes steps");
        if !take(asked) {
            steps.step(batch)?;
        }
        steps.step(batch)
    };
    let other_norm: Step = |asked, inner, batch| {
        let mut report = inner.optimizer_steps().expect("ours takes steps").step(batch)?;
        report.grad_norm *= if take(asked) { 1.0 } else { 2.0 };
        Ok(report)
    };
    let skipped: Step = |asked, inner, batch| {
        let mut report = inner.optimizer_steps().expect("ours takes steps").step(batch)?;
        report.skipped |= !take(asked);
        Ok(report)
    };
    // Now and then is as bad as always.
    let sometimes: Step = |asked, inner, batch| {
        let steps = inner.optimizer_steps().expect("ours takes steps");
        if !take(asked) && batch.micro_batches().count() > 2 {
            steps.step(batch)?;
        }
        steps.step(batch)
    };
    for (step, said) in [
        (sometimes, " steps end elsewhere, by "),
        (twice, "plain SGD, with no gradient asked for between steps: 3 steps end elsewhere, by "),
        (other_norm, "step 1 reports the gradient norm "),
        (skipped, "step 1 is skipped"),
    ] {
        let gradient = |asked: &mut bool, _: &GlobalBatch, _: &mut HandedOver| *asked = true;
        let hooks = Hooks { gradient, step, ..Hooks::IDENTITY };
        let diagnosis = examined(&mut *wrap(honest(), false, hooks));
        assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{said}: {diagnosis}");
        assert!(diagnosis.evidence.iter().any(|line| line.contains(said)), "{said}: {diagnosis}");
    }
}

/// Steps of which each is right to half of its digits, and which err the other way the next time.
#[test]
fn steps_that_never_end_at_the_same_bits_are_sound() {
    let hooks = Hooks {
        start: |share: &mut f64, inner, optimizer| {
            *share = -*share;
            inner.optimizer_steps().expect("ours takes steps").start(optimizer)
        },
        step: |share, inner, batch| {
            let before = read(inner)?;
            let report = inner.optimizer_steps().expect("ours takes steps").step(batch)?;
            for (name, after) in read(inner)? {
                let mut values = after.to_f64();
                for (value, before) in values.iter_mut().zip(before[&name].to_f64()) {
                    *value += *share * (*value - before);
                }
                inner.parameter_loading().expect("ours takes parameters").set(&name, &values)?;
            }
            Ok(report)
        },
        ..Hooks::IDENTITY
    };
    let diagnosis = examined(&mut *wrap(honest(), 0.9e-8, hooks));
    assert!(diagnosis.sound, "{diagnosis}");
}

fn read(subject: &mut dyn Subject) -> Result<TensorSet, SubjectError> {
    let mut parameters = Collect::default();
    subject.optimizer_steps().expect("ours takes steps").read(&mut parameters)?;
    Ok(parameters.into_tensors())
}

/// A bug that nobody knows is found sooner by whoever is told where it shows.
#[test]
fn what_does_not_follow_from_other_batches_is_named_by_parameter() {
    let gradient = |(): &mut (), batch: &GlobalBatch, handed: &mut HandedOver| {
        if batch.micro_batches().count() > 1 {
            handed.tensor("h.0.ln_1.weight").scale(0.5);
            handed.tensor("ln_f.weight").scale(0.5);
        }
    };
    let offers =
        |(): &(), capability: Capability, inside: bool| inside && capability != Capability::OptimizerSteps;
    let hooks = Hooks { gradient, offers, ..Hooks::IDENTITY };
    let diagnosis = Diagnosis::alone(&mut *wrap(honest(), (), hooks));
    let said = "the gradient of h.0.ln_1.weight, ln_f.weight does not follow from those of the same tokens";
    assert!(diagnosis.evidence.iter().any(|line| line.contains(said)), "{diagnosis}");
    assert!(diagnosis.evidence.iter().any(|line| line.ends_with("; those of 14 others do")), "{diagnosis}");
}

/// No mask of dropout moves a gradient by a millionth.
#[test]
fn a_gradient_with_a_little_noise_is_not_named_after_dropout() {
    let gradient = |calls: &mut f64, _: &GlobalBatch, handed: &mut HandedOver| {
        *calls += 1.0;
        for tensor in &mut handed.tensors {
            for (index, value) in tensor.values.iter_mut().enumerate() {
                *value *= 1.0 + 1e-6 * (*calls * index as f64).sin();
            }
        }
    };
    let mut noisy = wrap(honest(), 0.0, Hooks { gradient, ..Hooks::IDENTITY });
    for diagnosis in [examined(&mut *noisy), Diagnosis::alone(&mut *noisy)] {
        assert!(!diagnosis.sound && candidates(&diagnosis).is_empty(), "{diagnosis}");
        let said = "two identical calls give different gradients, ";
        assert!(diagnosis.evidence.iter().any(|line| line.starts_with(said)), "{diagnosis}");
    }
}

/// In a model of two blocks every mask that lets the future through looks the same. To name one of them is to send
/// whoever has another the wrong way.
#[test]
fn an_absent_mask_is_not_named_after_a_mask_that_forbids_the_diagonal() {
    let nano = ours(Config::Nano, Dtype::F64);
    let mut absent = Unseen::named("causal-mask-missing").expect("it is listed").inject(nano);
    let diagnosis = Diagnosis::alone(&mut *absent);
    assert!(!diagnosis.sound, "{diagnosis}");
    assert!(!candidates(&diagnosis).contains(&"causal-mask-diagonal-off-by-one"), "{diagnosis}");
}

/// What breaks a trainer and what recognises the break are written apart from each other, for the same bugs.
#[test]
fn every_fault_has_a_hypothesis_and_every_hypothesis_a_fault() {
    let faults: BTreeSet<_> = Fault::all().map(|fault| fault.bug.id).collect();
    let hypotheses: BTreeSet<_> = Hypothesis::all().map(|hypothesis| hypothesis.bug.id).collect();
    assert_eq!(faults, hypotheses);
}

/// What the README counts. What looks alike in everything that is looked at counts as one.
#[test]
fn every_fault_is_named_first() {
    let faults: Vec<_> = Fault::all().collect();
    let lost: Vec<String> = faults
        .par_iter()
        .filter_map(|fault| {
            let diagnosis = examined(&mut *fault.inject(honest()));
            (diagnosis.place(fault.bug.id) != Some(0)).then(|| format!("{}: {diagnosis}", fault.bug.id))
        })
        .collect();
    assert!(lost.is_empty(), "{} of {}: {lost:#?}", lost.len(), faults.len());
}

#[test]
fn trainers_without_a_fault_are_sound() {
    let nothing_wrong = |mut subject: Box<dyn Subject>, reference: Box<dyn Subject>| {
        let mut reference = reference;
        let diagnosis = Diagnosis::of(&mut *subject, Some(&mut *reference)).unwrap();
        assert!(diagnosis.sound, "{}: {diagnosis}", subject.info().name);
        assert!(diagnosis.candidates.is_empty() && diagnosis.examined > 500);
    };
    for control in Control::all() {
        nothing_wrong(control.inject(honest()), honest());
    }
    nothing_wrong(theirs(Config::Pico, Dtype::F64), honest());
    nothing_wrong(ours(Config::Pico, Dtype::F32), ours(Config::Pico, Dtype::F64));
    nothing_wrong(ours(Config::Nano, Dtype::F32), theirs(Config::Nano, Dtype::F64));
}

/// Without a reference the head still shows labels, weights, token losses, attention and steps.
#[test]
fn a_model_with_known_logits_names_what_the_head_shows() {
    for id in [
        "ga-mean-of-means",
        "counted-before-shift",
        "shift-twice",
        "ignore-mask-inverted",
        "softmax-twice",
        "packing-cross-contamination",
        "clip-compares-squared-norm",
        "ppl-mean-of-exp",
        "ce-upstream-grad-mean",
    ] {
        let diagnosis = Diagnosis::alone(&mut *broken(id));
        assert_eq!(candidates(&diagnosis).first(), Some(&id), "{diagnosis}");
    }
    let hidden = Diagnosis::alone(&mut *broken("scatter-backward-wrong-axis"));
    assert!(hidden.sound && hidden.unseen.iter().any(|what| what.contains("no reference")), "{hidden}");
}

#[test]
fn a_fault_is_named_on_another_model_in_single_precision_too() {
    for id in
        ["ga-mean-of-means", "concat-gradient-misaligned", "adamw-decay-coupled", "prompt-mask-one-too-many"]
    {
        let mut subject = Fault::named(id).unwrap().inject(ours(Config::Nano, Dtype::F32));
        let diagnosis = Diagnosis::of(&mut *subject, Some(&mut *ours(Config::Nano, Dtype::F64))).unwrap();
        assert_eq!(candidates(&diagnosis).first(), Some(&id), "{diagnosis}");
    }
}

/// What faults are injected into makes no difference: the reference that judges is another implementation.
#[test]
fn a_fault_of_libtorch_is_named_by_the_reference() {
    for id in
        ["dp-average-not-undone", "eos-equals-pad-masked", "tied-head-detached", "weight-decay-on-norms"]
    {
        let mut subject = Fault::named(id).unwrap().inject(theirs(Config::Pico, Dtype::F64));
        let diagnosis = examined(&mut *subject);
        assert_eq!(candidates(&diagnosis).first(), Some(&id), "{diagnosis}");
    }
}

/// Two mistakes at once are no known bug, and the evidence says what is seen.
#[test]
fn what_no_hypothesis_explains_is_said_to_be_unknown() {
    let both = Fault::named("shift-twice").unwrap().inject(broken("concat-gradient-misaligned"));
    let mut both = both;
    let diagnosis = examined(&mut *both);
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
    assert!(diagnosis.to_string().contains("no known bug shows all of this"));
    assert!(!diagnosis.evidence.is_empty());
}

#[test]
fn the_evidence_is_in_words() {
    insta::assert_snapshot!("counted_before_shift", examined(&mut *broken("counted-before-shift")));
    insta::assert_snapshot!("concat_gradient", examined(&mut *broken("concat-gradient-misaligned")));
    insta::assert_snapshot!("clip_squared", examined(&mut *broken("clip-compares-squared-norm")));
}

/// The failure of a law says what it looks like.
#[test]
fn the_failure_of_a_law_carries_the_diagnosis() {
    let law = Law::named("token-mean").unwrap();
    let alone: Arc<dyn Examiner> = Arc::new(Diagnostician::default());
    let campaign = Campaign { cases: 24, examiner: Some(alone), ..Campaign::default() };
    let report = campaign.run(law, &mut *broken("ga-mean-of-means")).unwrap();
    assert_eq!(report.verdict, Verdict::Fail);
    let said = report.to_string();
    assert!(said.contains("looks like: almost certainly ga-mean-of-means (likelihood "), "{said}");
    assert!(said.contains("\nchange: sum the token losses and divide once"), "{said}");

    let law = Law::named("finite-differences").unwrap();
    let examiner = Some(Arc::new(Diagnostician::with_reference(|| Ok(honest()))) as Arc<dyn Examiner>);
    let report =
        Campaign { examiner, ..campaign }.run(law, &mut *broken("concat-gradient-misaligned")).unwrap();
    let likeness = report.failure.and_then(|failure| failure.likeness).unwrap();
    assert!(likeness.looks_like.contains("concat-gradient-misaligned (likelihood "), "{likeness:?}");
}

/// A call that hangs during a diagnosis is told to whoever watches the test, who goes on with the others.
#[test]
fn a_hang_during_a_diagnosis_is_told_to_the_watchdog_of_the_caller() {
    let hooks = Hooks {
        accumulate: |hangs: &mut bool, inner, batch, handed| {
            if take(hangs) {
                thread::sleep(Duration::from_secs(2));
            }
            inner.accumulate(batch, handed)
        },
        ..Hooks::IDENTITY
    };
    let (send, heard) = mpsc::channel();
    let watchdog = Watchdog::new(move |subject, breach| {
        let _ = send.send(format!("{subject}: {breach}"));
    });
    let watchdog = watchdog.with_limit(Duration::from_millis(500));
    let _ = Diagnosis::watched_alone(&mut *wrap(honest(), true, hooks), &watchdog);
    let told = heard.try_recv().unwrap();
    assert!(told.contains("accumulate"), "{told}");
}

/// The planned probes separate every two hypotheses that known logits can separate, by far more than
/// rounding.
#[test]
fn the_plan_separates_what_can_be_separated() {
    let mut subject = honest();
    let upstream = subject.upstream_weights().is_some();
    let plan = ProbePlan::new(&subject.parameters(), &subject.info().limits, Dtype::F64, upstream);
    let (_, _, apart) = plan.closest.expect("there are many hypotheses");
    assert!(apart > 1e-6, "{plan}");
    assert!(plan.classes.is_empty() && plan.probes.len() < 16, "{plan}");
    insta::assert_snapshot!("plan", plan);

    // Without labels to ignore and with one rank much is out of reach, and the plan says what.
    let mut limits = subject.info().limits;
    (limits.ignore_index, limits.segments, limits.ranks) = (false, false, Count::exactly(1));
    let narrow = ProbePlan::new(&subject.parameters(), &limits, Dtype::F64, false);
    assert!(narrow.elsewhere.len() > plan.elsewhere.len(), "{narrow}");
}

/// A trainer that takes no steps and has other limits.
fn limited(limits: fn(&mut Limits)) -> Box<dyn Subject> {
    let hooks = Hooks {
        info: |limits: &fn(&mut Limits), mut info| {
            limits(&mut info.limits);
            info
        },
        offers: |_, capability, _| matches!(capability, Capability::Parameters | Capability::TokenLosses),
        ..Hooks::IDENTITY
    };
    wrap(honest(), limits, hooks)
}

/// A trainer that logs the right loss and hands a multiple of its gradient over.
fn multiplied(factor: fn(&LossSpec, &GlobalBatch) -> f64) -> Box<dyn Subject> {
    struct Multiplied {
        factor: fn(&LossSpec, &GlobalBatch) -> f64,
        spec: LossSpec,
    }
    let hooks = Hooks {
        configure: |state: &mut Multiplied, inner, spec| {
            state.spec = *spec;
            inner.configure(spec)
        },
        accumulate: |state, inner, batch, handed| {
            let observation = inner.accumulate(batch, handed)?;
            handed.scale((state.factor)(&state.spec, batch));
            Ok(observation)
        },
        offers: |_, capability, _| matches!(capability, Capability::Parameters | Capability::TokenLosses),
        ..Hooks::IDENTITY
    };
    wrap(honest(), Multiplied { factor, spec: LossSpec::token_mean() }, hooks)
}

/// The usual form of the mistake: the all-reduce averages gradients, and the loss is logged as it should be.
#[test]
fn a_trainer_that_logs_the_right_loss_is_named_all_the_same() {
    let factor = |spec: &LossSpec, batch: &GlobalBatch| {
        let trains = |rank: &&Rank| {
            rank.micro_batches().iter().flat_map(MicroBatch::sequences).any(|s| s.supervised() > 0)
        };
        let skipped = spec.empty == EmptyPolicy::ZeroSkipped;
        let ranks = batch.ranks().iter().filter(|rank| !skipped || trains(rank)).count();
        if spec.scope == Scope::Global { 1.0 / ranks as f64 } else { 1.0 }
    };
    let diagnosis = examined(&mut *multiplied(factor));
    assert_eq!(candidates(&diagnosis).first(), Some(&"dp-average-not-undone"), "{diagnosis}");
    assert!(diagnosis.to_string().contains("the loss that is reported is right"), "{diagnosis}");
}

#[test]
fn a_factor_that_nobody_knows_is_no_known_bug() {
    let diagnosis = examined(&mut *multiplied(|_, _| 0.75));
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
}

/// Whatever a subject takes, an honest one is sound where something was looked at, and says what was not.
#[test]
fn a_diagnosis_keeps_to_the_limits_of_a_subject() {
    let limits: [fn(&mut Limits); 7] = [
        |limits| limits.ranks = Count::exactly(1),
        |limits| limits.micro_batches = Count::exactly(1),
        |limits| limits.ignore_index = false,
        |limits| limits.segments = false,
        |limits| (limits.positions, limits.lengths) = (4, Count::up_to(4)),
        |limits| limits.vocabulary = 5,
        |limits| {
            limits.lengths = Count::exactly(limits.positions);
            (limits.ignore_index, limits.segments) = (false, false);
            (limits.ranks, limits.micro_batches) = (Count::exactly(1), Count::exactly(1));
        },
    ];
    for change in limits {
        let mut subject = limited(change);
        let diagnosis = examined(&mut *subject);
        assert!(diagnosis.sound && diagnosis.examined > 20, "{:?}: {diagnosis}", subject.info().limits);
        assert!(diagnosis.to_string().contains("not looked at: optimizer steps"), "{diagnosis}");
    }
    let diagnosis = examined(&mut *limited(|limits| limits.sequences = Count::exactly(0)));
    assert!(
        diagnosis.candidates.is_empty() && !diagnosis.to_string().contains("no known bug"),
        "{diagnosis}"
    );
}

/// What a subject does that no subject may is evidence, whatever it is; nothing of it gets through.
#[test]
fn a_breach_is_evidence_in_words() {
    let diagnosis = examined(&mut *multiplied(|_, _| panic!("out of memory")));
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
    assert!(diagnosis.to_string().contains("`accumulate` panicked: out of memory"), "{diagnosis}");

    let diagnosis = Diagnosis::alone(&mut *limited(|_| panic!("no card")));
    assert!(!diagnosis.sound && diagnosis.examined == 0, "{diagnosis}");
    assert_eq!(diagnosis.to_string(), "seen: `info` panicked: no card");

    // Numbers that are a breach tell what is wrong all the same.
    let diagnosis = examined(&mut *broken("all-ignored-nan"));
    assert_eq!(candidates(&diagnosis).first(), Some(&"all-ignored-nan"), "{diagnosis}");
    let breach = "`accumulate` answers a loss that is not finite, where the loss spec has a number";
    assert!(diagnosis.evidence.iter().any(|line| line == breach), "{diagnosis}");
}

/// A diagnosis comes to an end whatever the subject does, unless a call never returns.
#[test]
fn no_hostile_subject_ends_a_diagnosis() {
    let subjects: Vec<_> = Hostile::all()
        .filter(|hostile| hostile.config == Config::Pico && !hostile.id.starts_with("hangs"))
        .collect();
    subjects.par_iter().for_each(|hostile| {
        let mut subject = hostile.make(ours(hostile.config, hostile.dtype));
        let diagnosis = examined(&mut *subject);
        // No probe sets a single parameter, or learns anything but the next token.
        let unasked = ["panics-in-set", "panics-in-learn"].contains(&hostile.id);
        if hostile.id.starts_with("panics") && !unasked {
            assert!(!diagnosis.sound && diagnosis.evidence.iter().any(|line| line.contains("panicked")));
        }
        assert!(!diagnosis.to_string().is_empty(), "{}", hostile.id);
    });
    assert!(subjects.len() > 40, "{} hostile subjects", subjects.len());
}

/// Whatever tokens weigh, the gradient of the head is along the last activations; that of another head is not.
#[test]
fn no_weights_are_told_where_the_head_is_not_what_its_role_says() {
    let gradient = |(): &mut (), _: &GlobalBatch, handed: &mut HandedOver| {
        for (index, value) in handed.tensor("wte.weight").values.iter_mut().enumerate() {
            *value *= if index.is_multiple_of(3) { 1.5 } else { 1.0 };
        }
    };
    let mut subject = wrap(honest(), (), Hooks { gradient, ..Hooks::IDENTITY });
    let said = examined(&mut *subject).to_string();
    assert!(said.contains("wte.weight is not along the last activations"), "{said}");
    assert!(!said.contains("weigh something") && !said.contains("hence not"), "{said}");
}

/// Probabilities of another token loss than the card says are told as such, and not as weights.
#[test]
fn no_weights_are_told_where_the_token_loss_is_another() {
    let configure = |(): &mut (), inner: &mut dyn Subject, spec: &LossSpec| {
        inner.configure(&LossSpec { label_smoothing: spec.label_smoothing + 0.1, ..*spec })
    };
    let mut subject = wrap(honest(), (), Hooks { configure, ..Hooks::IDENTITY });
    let said = Diagnosis::alone(&mut *subject).to_string();
    assert!(said.contains("not in proportion to the probabilities"), "{said}");
    assert!(!said.contains("hence not"), "{said}");
}

/// A tenth of the gradient before is in each gradient: no chance, since it hangs on the batch before.
#[test]
fn what_is_kept_from_one_call_to_the_next_is_not_taken_for_chance() {
    let gradient = |kept: &mut Option<HandedOver>, _: &GlobalBatch, handed: &mut HandedOver| {
        let own = handed.clone();
        if let Some(former) = kept.replace(own) {
            handed.add(0.1, &former);
        }
    };
    let reset = |kept: &mut Option<HandedOver>, inner: &mut dyn Subject| {
        *kept = None;
        inner.reset()
    };
    let mut subject = wrap(honest(), None, Hooks { gradient, reset, ..Hooks::IDENTITY });
    let diagnosis = examined(&mut *subject);
    let said = diagnosis.to_string();
    assert!(said.contains("something is kept from one call to the next"), "{said}");
    assert!(!candidates(&diagnosis).contains(&"recompute-draws-new-dropout"), "{said}");
}

/// Nothing else is wrong with it than that what is long is cut off.
#[test]
fn a_trainer_that_cuts_off_long_sequences_is_seen() {
    let batch = |(): &mut (), batch: &GlobalBatch| {
        batch.map_sequences(|sequence| sequence.supervise_only(|at| at < 12 && sequence.supervises(at)))
    };
    let mut subject = wrap(honest(), (), Hooks { batch, ..Hooks::IDENTITY });
    let diagnosis = examined(&mut *subject);
    assert!(!diagnosis.sound, "{diagnosis}");
    assert!(diagnosis.to_string().contains("a long sequence under"), "{diagnosis}");
}
