//! What each anchor sees, and what it cannot see: every law that knows a scale from elsewhere than the trainer,
//! alone, on one defect after the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::{
    edit::{edit_freely, given},
    strategies::Size,
};
use lossproof_faults::{
    Fault, Profile,
    kit::{HandedOver, Hooks, wrap},
};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Law, Report, Verdict};
use lossproof_spec::{Dtype, IGNORE_INDEX, LossSpec, Rule, Sequence};
use lossproof_subject::{
    Claims, Count, GradientSink, GradientView, Limits, Observation, SinkError, Subject, SubjectInfo,
    Unsupported,
};
use lossproof_tests::{Break, Door, ours};
use rayon::prelude::*;
use std::f64::consts::LN_2;

/// The anchors, with the letter that stands for each in the table below.
const ANCHORS: [(char, &str); 6] = [
    ('N', "normalisation"),
    ('P', "next-position"),
    ('S', "mean-zero-score"),
    ('L', "loss-slope"),
    ('0', "norm-null-directions"),
    ('T', "step-slope"),
];

/// A defect of a trainer, and the letters of the anchors that must see it. Those after a question mark must not decide,
/// and the others must be green.
struct Defect {
    what: &'static str,
    seen_by: &'static str,
    make: fn() -> Door,
}

const fn defect(what: &'static str, seen_by: &'static str, make: fn() -> Door) -> Defect {
    Defect { what, seen_by, make }
}

/// The trainer that has the defects, in f64.
fn pico() -> Door {
    ours(Config::Pico, Dtype::F64)
}

/// A trainer that claims one loss and reports nothing beside it: a wrong count of tokens says enough.
fn claiming(trainer: Door, claim: LossSpec) -> Door {
    let quiet = |observed: &mut Observation| {
        observed.token_losses = None;
        observed.supervised_tokens = None;
    };
    let hooks = Hooks {
        observation: |quiet: &mut fn(&mut Observation), _, observed| quiet(observed),
        report: |quiet, _, report| quiet(&mut report.observation),
        ..Hooks::IDENTITY
    };
    wrap(Profile::Full.of(trainer, &claim, Count::ANY).unwrap(), quiet as fn(&mut Observation), hooks)
}

/// A bug of the catalogue.
fn fault(id: &str, claim: LossSpec) -> Door {
    let fault = Fault::named(id).unwrap_or_else(|| panic!("{id} is not in the catalogue"));
    claiming(fault.inject(pico()), claim)
}

macro_rules! known {
    ($id:literal, $seen_by:literal) => {
        defect($id, $seen_by, || fault($id, LossSpec::token_mean()))
    };
    ($id:literal, $seen_by:literal, smoothed) => {
        defect(concat!($id, " under label smoothing"), $seen_by, || {
            fault($id, LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() })
        })
    };
}

/// An honest trainer that claims the per-token mean.
fn honest() -> Door {
    claiming(pico(), LossSpec::token_mean())
}

/// What `accumulate` says of the loss and of its gradient, each times a factor.
fn scaled(loss: f64, gradient: f64) -> Door {
    let hooks = Hooks {
        gradient: |factors: &mut (f64, f64), _, handed: &mut HandedOver| handed.scale(factors.1),
        observation: |factors, _, observed: &mut Observation| observed.loss *= factors.0,
        ..Hooks::IDENTITY
    };
    wrap(honest(), (loss, gradient), hooks)
}

/// The loss is that of the label, and its gradient that of a smoothed one.
fn gradient_of_a_smoothed_loss() -> Door {
    let hooks = Hooks {
        accumulate: |(): &mut (), inner: &mut dyn Subject, batch, handed| {
            let smoothed = LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() };
            inner.configure(&smoothed).unwrap();
            inner.accumulate(batch, handed)?;
            inner.configure(&LossSpec::token_mean()).unwrap();
            inner.accumulate(batch, &mut Nowhere)
        },
        configure: |(), _, _| Ok(()),
        info: |(), info| SubjectInfo { claims: Claims::One(LossSpec::token_mean()), ..info },
        ..Hooks::IDENTITY
    };
    wrap(pico(), (), hooks)
}

/// Where a gradient goes that nobody asks for.
struct Nowhere;

impl GradientSink for Nowhere {
    fn receive(&mut self, _: &str, _: &[usize], _: GradientView<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A trainer of sequences of eight tokens that scores labels by another position's prediction, wherever no
/// label is lost by that.
fn moved_by(by: isize) -> Door {
    let hooks = Hooks {
        info: |_: &isize, info: SubjectInfo| {
            let lengths = Count::exactly(8);
            SubjectInfo { limits: Limits { lengths, ..info.limits }, ..info }
        },
        batch: |by, batch| batch.map_sequences(|sequence| moved(sequence, *by)),
        ..Hooks::IDENTITY
    };
    wrap(honest(), by, hooks)
}

/// The sequence with every label at another position, unless one would fall off.
fn moved(sequence: &Sequence, by: isize) -> Sequence {
    let place = |position: usize| position.checked_add_signed(by).filter(|&to| to > 0 && to < sequence.len());
    let supervised = (1..sequence.len()).filter(|&position| given(sequence.labels()[position]));
    if supervised.clone().any(|position| place(position).is_none()) {
        return sequence.clone();
    }
    let moved = edit_freely(sequence, |fields| {
        let (labels, targets) = (fields.labels.clone(), fields.targets.clone());
        fields.labels[1..].fill(IGNORE_INDEX);
        for position in supervised {
            if let Some(to) = place(position) {
                (fields.labels[to], fields.targets[to]) = (labels[position], targets[position]);
            }
        }
    });
    // Padding and other documents predict nothing.
    if moved.supervised() == sequence.supervised() { moved } else { sequence.clone() }
}

const DEFECTS: &[Defect] = &[
    defect("nothing is wrong", "", honest),
    // Of the loss alone, forward and backward in agreement.
    defect("logarithms of base 2", "NS", || scaled(1.0 / LN_2, 1.0 / LN_2)),
    defect("a factor of 1.01 on loss and gradient", "NS", || scaled(1.01, 1.01)),
    known!("pad-in-denominator", "NS"),
    known!("counted-before-shift", "NS"),
    known!("ignore-index-not-honoured", "NS"),
    known!("temperature-in-training", ""),
    known!("softmax-twice", ""),
    // Of the position. Where the label is the last of its sequence it is lost by a shift that is missing, and where it
    // is the second by one too many: that costs nothing, so every label seems certain. What is lost has no score.
    known!("shift-missing", "NPS"),
    known!("shift-twice", "NP"),
    known!("causal-mask-off-by-one", "NPS"),
    defect("no shift where no label is lost by that", "P", || moved_by(1)),
    defect("two shifts where no label is lost by that", "P", || moved_by(-1)),
    // Of the scale of one of the two.
    defect("a factor of 1.01 on the reported loss", "NSLT", || scaled(1.01, 1.0)),
    defect("a factor of 1.01 on the gradient", "LT", || scaled(1.0, 1.01)),
    // Of the backward pass of the loss.
    defect("the gradient of a smoothed loss", "SLT", gradient_of_a_smoothed_loss),
    known!("ce-backward-clobbers-logits", "SLT", smoothed),
    // Of the backward pass of the model, which is linear.
    known!("layernorm-backward-mean-terms-dropped", "L0T"),
    known!("sqrt-grad-wrong-operand", "LT"),
    known!("gelu-backward-second-term", "LT"),
    known!("scatter-backward-wrong-axis", "LT"),
    known!("concat-gradient-misaligned", "LT"),
    known!("position-rows-misaligned", "LT"),
    known!("tied-embedding-detached", "LT"),
    known!("tied-head-detached", "LT"),
    known!("backward-factor", "LT"),
    known!("param-init-not-leaf", "LT?0"),
    known!("last-element-lost", "L0T"),
    // Which row is overwritten depends on the label where that is the last token.
    known!("index-backward-overwrites", "SLT"),
];

fn campaign() -> Campaign {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    Campaign { cases: 48, size, shrink: false, ..Campaign::default() }
}

fn run(law: &str, subject: &mut dyn Subject) -> Report {
    campaign().run(Law::named(law).unwrap(), subject).unwrap()
}

#[test]
fn each_anchor_sees_what_it_should_and_nothing_else() {
    let pairs: Vec<_> =
        DEFECTS.iter().flat_map(|defect| ANCHORS.map(|(letter, law)| (defect, letter, law))).collect();
    let wrong = |(defect, letter, law): (&Defect, char, &'static str)| {
        let report = run(law, &mut *(defect.make)());
        let (sees, undecided) = defect.seen_by.split_once('?').unwrap_or((defect.seen_by, ""));
        let due = match letter {
            letter if sees.contains(letter) => Verdict::Fail,
            letter if undecided.contains(letter) => Verdict::Unchecked,
            _ => Verdict::Pass,
        };
        (report.verdict != due).then(|| format!("{}: {law} is to {due}\n{report}", defect.what))
    };
    let wrong: Vec<_> = pairs.into_par_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a law says of a defect: the worst error, the number found and all statements.
fn told(law: &str, subject: &mut dyn Subject) -> (f64, f64, Vec<String>) {
    let failure = run(law, subject).failure.unwrap();
    let worst = &failure.violations[0];
    let statements = failure.violations.iter().map(|violation| violation.statement.clone()).collect();
    (worst.error, worst.pair.unwrap().0, statements)
}

/// With a factor a on the losses, Σ p^a is what is found. It is smallest where all V labels are equally likely:
/// V^(1 − a).
#[test]
fn probabilities_add_up_to_less_by_as_much_as_a_factor_says() {
    for factor in [1.0 / LN_2, 1.01] {
        let (_, total, _) = told("normalisation", &mut *scaled(factor, factor));
        let least = 64.0_f64.powf(1.0 - factor);
        assert!(least <= total && total < 1.0, "{factor}: {total}");
    }
}

/// A norm's backward pass without its mean terms leaves a sum over features of the size of what is summed.
#[test]
fn a_sum_over_features_is_rounding_or_far_from_it() {
    let honest = run("norm-null-directions", &mut *honest()).worst.unwrap().error;
    let (error, ..) = told(
        "norm-null-directions",
        &mut *fault("layernorm-backward-mean-terms-dropped", LossSpec::token_mean()),
    );
    assert!(honest < 1e-14 && error > 0.1, "{honest}, {error}");
}

/// Along its own gradient an element that is missing does not move, and along random signs it does. A factor
/// shows along both.
#[test]
fn a_missing_element_shows_along_random_signs_alone() {
    const NAME: &str = "h.0.mlp.c_proj.weight";
    let told = |defect: Break| -> Vec<String> {
        let of_seed = |seed| {
            let campaign = Campaign { seed, ..campaign() };
            let report = campaign.run(Law::named("loss-slope").unwrap(), &mut *defect.of(honest())).unwrap();
            report.failure.unwrap().violations.into_iter().map(|violation| violation.statement)
        };
        (0..8).flat_map(of_seed).collect()
    };
    let lost = told(Break::LostElement(NAME, 11));
    assert!(lost.iter().all(|statement| statement.contains("random signs")), "{lost:?}");
    let scaled = told(Break::ScaledGradient(NAME, 1.01));
    for along in ["random signs", "its gradient"] {
        assert!(scaled.iter().any(|statement| statement.contains(along)), "{scaled:?}");
    }
}

/// Behind loss, gradient and steps alone, along its own first step without decay what is missing from the gradient does
/// not move: that shows with decay, and a factor either way.
#[test]
fn steps_with_decay_see_what_is_missing_from_the_gradient() {
    let behind = |id: &str| {
        let faulty = Fault::named(id).unwrap().inject(pico());
        Profile::Steps.of(faulty, &LossSpec::token_mean(), Count::ANY).unwrap()
    };
    let (_, _, missing) = told("step-slope", &mut *behind("param-init-not-leaf"));
    assert!(missing.iter().all(|statement| statement.ends_with("with decay")), "{missing:?}");
    let (_, _, scaled) = told("step-slope", &mut *behind("backward-factor"));
    assert_eq!(scaled.len(), 2, "{scaled:?}");
}

/// In single precision a common factor of a percent shows along the trainer's own steps, and an honest trainer is
/// certified.
#[test]
fn steps_fix_the_scale_of_the_gradient_in_single_precision() {
    let single =
        || Profile::Steps.of(ours(Config::Pico, Dtype::F32), &LossSpec::token_mean(), Count::ANY).unwrap();
    let report = run("step-slope", &mut *single());
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    assert!(report.power.unwrap() < 1e-3, "{report}");
    let hooks = Hooks { gradient: |(): &mut (), _, handed| handed.scale(1.01), ..Hooks::IDENTITY };
    let report = run("step-slope", &mut *wrap(single(), (), hooks));
    assert_eq!(report.verdict, Verdict::Fail, "{report}");
}

/// A trainer that has Adam alone is moved by Adam's first step.
#[test]
fn a_trainer_without_sgd_is_moved_by_adam() {
    let adam_alone = |trainer: Door| {
        let hooks = Hooks {
            start: |(): &mut (), inner, optimizer| match optimizer.rule {
                Rule::Sgd { .. } => Err(Unsupported::new(&inner.info().name, "SGD")),
                _ => (Hooks::IDENTITY.start)(&mut (), inner, optimizer),
            },
            ..Hooks::IDENTITY
        };
        wrap(Profile::Steps.of(trainer, &LossSpec::token_mean(), Count::ANY).unwrap(), (), hooks)
    };
    let report = run("step-slope", &mut *adam_alone(pico()));
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    for id in ["backward-factor", "param-init-not-leaf"] {
        let faulty = Fault::named(id).unwrap().inject(pico());
        let report = run("step-slope", &mut *adam_alone(faulty));
        assert_eq!(report.verdict, Verdict::Fail, "{id}: {report}");
    }
}
