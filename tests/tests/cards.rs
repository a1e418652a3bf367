//! What a card says wrongly, or does not say: an honest trainer is not convicted of it, what is no number is said
//! to be none, and no bug is named with certainty for want of a word.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::{
    Fault,
    kit::{Capability, HandedOver, Hooks, wrap},
};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Report, Summary, Verdict};
use lossproof_spec::{Dtype, Role};
use lossproof_subject::{
    Count, Device, Limits, ModelInfo, ParameterInfo, SubjectInfo, Tensor, TensorSet, TensorValues,
};
use lossproof_tests::{Door, ours};
use lossproof_torch::{LlamaConfig, libtorch};
use rayon::prelude::*;

fn llama(config: &LlamaConfig) -> Door {
    libtorch(config, Dtype::F64, Device::Cpu).unwrap()
}

fn held_to(law: &'static Law, mut subject: Door) -> Report {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    Campaign { cases: 24, size, shrink: false, ..Campaign::default() }.run(law, &mut *subject).unwrap()
}

fn declaring(inner: Door, parameter: fn(ParameterInfo) -> ParameterInfo) -> Door {
    let hooks = Hooks {
        parameters: |declare: &fn(ParameterInfo) -> ParameterInfo, all| {
            all.into_iter().map(declare).collect()
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, parameter, hooks)
}

fn with_card(inner: Door, change: fn(&mut SubjectInfo)) -> Door {
    let hooks = Hooks {
        info: |change: &fn(&mut SubjectInfo), mut info| {
            change(&mut info);
            info
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, change, hooks)
}

/// More cases would decide nothing, and nobody is told that they would.
#[test]
fn a_law_whose_batches_are_outside_the_limits_says_which_limit() {
    let own_labels = with_card(ours(Config::Pico, Dtype::F64), |card| card.limits.free_labels = false);
    let report = held_to(Law::named("weight-tying").unwrap(), own_labels);
    assert_eq!(report.verdict, Verdict::Unchecked, "{report}");
    let reason = report.reason.as_deref().unwrap();
    assert!(
        reason.contains("limits rule out") && reason.contains("labels that are not its tokens"),
        "{reason}"
    );
}

/// What these laws ask for is within the limits in another form.
#[test]
fn laws_of_the_token_loss_decide_without_ignored_labels_and_with_two_micro_batches() {
    let cards: [fn(&mut SubjectInfo); 2] =
        [|card| card.limits.ignore_index = false, |card| card.limits.micro_batches = Count::exactly(2)];
    for card in cards {
        for law in ["shift", "token-loss"] {
            let law = Law::named(law).unwrap();
            let report = held_to(law, with_card(ours(Config::Pico, Dtype::F64), card));
            assert_eq!(report.verdict, Verdict::Pass, "{report}");
            let wrong = Fault::named("shift-twice").unwrap().inject(ours(Config::Pico, Dtype::F64));
            assert_eq!(held_to(law, with_card(wrong, card)).verdict, Verdict::Fail, "{}", law.id());
        }
    }
}

#[test]
fn a_summary_names_no_size_that_the_trainer_does_not_take() {
    let limits =
        Limits { ranks: Count::exactly(1), micro_batches: Count::up_to(2), ..Limits::of_model(64, 16) };
    let summary = Summary::new("a trainer", &Size::default().within(&limits), []).to_string();
    let sizes = "batches of more than 1 rank, 2 micro-batches, 6 sequences or 16 positions";
    assert!(summary.contains(sizes), "{summary}");
}

/// Queries and keys have no gradient where each prediction sees one token alone; what is left is rounding.
#[test]
fn queries_under_a_name_of_their_own_are_no_mistake() {
    LAWS.par_iter().for_each(|law| {
        let undeclared = |parameter| ParameterInfo { role: Role::Weight, ..parameter };
        let report = held_to(law, declaring(llama(&LlamaConfig::PICO), undeclared));
        assert!(!matches!(report.verdict, Verdict::Fail | Verdict::Errored), "{report}");
    });
}

#[test]
fn a_factor_that_is_no_positive_number_is_said_to_be_none() {
    let cards: [fn(&mut SubjectInfo); 6] = [
        |card| card.model.embedding_scale = 0.0,
        |card| card.model.embedding_scale = f64::NAN,
        |card| card.model.logit_scale = -1.0,
        |card| card.model.logit_scale = f64::NAN,
        |card| card.model.logit_cap = Some(f64::INFINITY),
        |card| card.model.logit_cap = Some(-30.0),
    ];
    for card in cards {
        let report = held_to(Law::named("duplication").unwrap(), with_card(llama(&LlamaConfig::PICO), card));
        assert_eq!(report.verdict, Verdict::Fail, "{report}");
        assert!(report.to_string().contains("which is not a positive number"), "{report}");
    }
}

/// Losses above 709 nats, whose perplexity is infinite for the trainer and the law alike.
#[test]
fn an_infinite_perplexity_is_what_it_should_be() {
    for law in ["perplexity", "validation-loss", "validation-batches", "nothing-validated"] {
        let config = LlamaConfig { logit_scale: 1000.0, ..LlamaConfig::PICO };
        let report = held_to(Law::named(law).unwrap(), llama(&config));
        assert!(!matches!(report.verdict, Verdict::Fail | Verdict::Errored), "{report}");
    }
}

const FINAL_NORM: [&str; 2] = ["ln_f.weight", "ln_f.bias"];

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|value| factor * value).collect()
}

/// A GPT-2 whose logits are scaled: what its card has is the final norm without the scale, which is put into it.
fn with_scaled_logits(inner: Door, scale: f64) -> Door {
    let hooks = Hooks {
        info: |&scale: &f64, info: SubjectInfo| SubjectInfo {
            model: ModelInfo { logit_scale: scale, ..ModelInfo::default() },
            ..info
        },
        offers: |_, capability, inside| inside && capability != Capability::OptimizerSteps,
        gradient: |scale, _, handed: &mut HandedOver| {
            for name in FINAL_NORM {
                handed.tensor(name).scale(*scale);
            }
        },
        load: |scale, inner, parameters: &TensorSet| {
            let mut all = parameters.clone();
            for name in FINAL_NORM {
                let values = TensorValues::F64(scaled(&all[name].to_f64(), *scale));
                let tensor = Tensor::new(all[name].shape().to_vec(), values).unwrap();
                all.insert(name.to_owned(), tensor);
            }
            inner.parameter_loading().unwrap().load(&all)
        },
        set: |scale, inner, name, values| {
            let factor = if FINAL_NORM.contains(&name) { *scale } else { 1.0 };
            inner.parameter_loading().unwrap().set(name, &scaled(values, factor))
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, scale, hooks)
}

#[test]
fn a_constant_on_scaled_logits_is_none_of_the_loss() {
    let law = Law::named("constant-invariance").unwrap();
    let fault = Fault::named("ce-offset-cancellation").unwrap();
    for scale in [0.125, 32.0] {
        let report = held_to(law, with_scaled_logits(ours(Config::Pico, Dtype::F64), scale));
        assert_eq!(report.verdict, Verdict::Pass, "{scale}: {report}");
        let faulty = fault.inject(ours(Config::Pico, Dtype::F64));
        let report = held_to(law, with_scaled_logits(faulty, scale));
        assert_eq!(report.verdict, Verdict::Fail, "{scale}: {report}");
    }
}

/// Where a parameter stands is not said, and so not which of the operators behind it is wrong.
#[test]
fn without_blocks_no_wrong_operator_is_named_with_certainty() {
    let unsaid = |parameter| ParameterInfo { block: None, ..parameter };
    for id in ["gelu-backward-second-term", "softmax-backward-diagonal-only", "sqrt-grad-wrong-operand"] {
        let faulty = Fault::named(id).unwrap().inject(ours(Config::Pico, Dtype::F64));
        let mut truth = declaring(ours(Config::Pico, Dtype::F64), unsaid);
        let diagnosis = Diagnosis::of(&mut *declaring(faulty, unsaid), Some(&mut *truth)).unwrap();
        assert!(!diagnosis.sound, "{id}");
        for candidate in diagnosis.candidates.iter().filter(|candidate| candidate.bug.id != id) {
            assert!(candidate.likelihood <= 0.5, "{id} is taken for {}: {diagnosis}", candidate.bug.id);
        }
    }
}
