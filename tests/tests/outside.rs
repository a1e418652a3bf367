//! Mistakes that came from outside, which the laws or a diagnosis had nothing to say of, and honest trainers that were
//! convicted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::{
    Fault, Profile,
    kit::{HandedOver, Hooks, wrap},
};
use lossproof_gpt2::{Config, probe_initial};
use lossproof_laws::{Campaign, Law, Report, Verdict};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec};
use lossproof_subject::{Count, Subject, Tensor, TensorValues};
use lossproof_tests::{Door, has_failed, ours, without_roles};

/// A trainer with one loss, at parameters that are loaded.
fn with_one_loss(inner: Door, claim: &LossSpec) -> Door {
    Profile::Parameters.of(inner, claim, Count::ANY).unwrap()
}

fn run(law: &str, subject: &mut dyn Subject) -> Report {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=16 };
    let campaign = Campaign { cases: 32, size, shrink: false, ..Campaign::default() };
    campaign.run(Law::named(law).unwrap(), subject).unwrap()
}

#[track_caller]
fn fails(law: &str, subject: &mut dyn Subject, how: &str) {
    has_failed(&run(law, subject), how);
}

/// A step whose loss is large is logged, and not made.
fn skips_spikes(inner: Door) -> Door {
    let hooks = Hooks {
        accumulate: |(): &mut (), inner, batch, handed: &mut HandedOver| {
            let observation = inner.accumulate(batch, handed)?;
            if observation.loss > 8.0 {
                handed.scale(0.0);
            }
            Ok(observation)
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, (), hooks)
}

/// Tokens that cost three times as much as the mean are taken for noise, and left out of loss and gradient.
fn drops_outliers(inner: Door) -> Door {
    let hooks = Hooks {
        accumulate: |(): &mut (), inner, batch, handed| {
            let losses = inner.token_losses().unwrap().evaluate(batch)?;
            let supervised = || batch.predictions().zip(&losses).filter(|(p, _)| p.supervised);
            let mean = supervised().map(|(_, loss)| loss).sum::<f64>() / supervised().count().max(1) as f64;
            let mut rest = losses.iter();
            let kept = batch.map_sequences(|sequence| {
                let own: Vec<f64> = rest.by_ref().take(sequence.len() - 1).copied().collect();
                sequence.supervise_only(|position| own[position] <= 3.0 * mean)
            });
            inner.accumulate(&kept, handed)
        },
        ..Hooks::IDENTITY
    };
    wrap(inner, (), hooks)
}

#[test]
fn the_size_of_a_loss_does_not_decide_whether_it_is_trained_on() {
    for dtype in [Dtype::F64, Dtype::F32] {
        let mut spikes = with_one_loss(skips_spikes(ours(Config::Pico, dtype)), &LossSpec::token_mean());
        fails("closed-form-gradient", &mut *spikes, "dear labels: gradient of");
        let mut outliers = with_one_loss(drops_outliers(ours(Config::Pico, dtype)), &LossSpec::sum());
        fails("closed-form-gradient", &mut *outliers, "one dear label");
        let report = run("closed-form-gradient", &mut *ours(Config::Pico, dtype));
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
    }
}

/// Rows of the position table from here on are never updated.
const LATE: usize = 8;

/// In single precision the loss of a batch hardly moves along random signs, and elements that are missing show there
/// alone.
#[test]
fn rows_without_a_gradient_are_seen_in_single_precision() {
    let hooks = Hooks {
        gradient: |(): &mut (), _: &GlobalBatch, handed: &mut HandedOver| {
            let table = handed.tensor("wpe.weight");
            let width = table.shape[1];
            table.values.iter_mut().skip(LATE * width).for_each(|value| *value = 0.0);
        },
        ..Hooks::IDENTITY
    };
    let frozen = wrap(ours(Config::Nano, Dtype::F32), (), hooks);
    fails(
        "loss-slope",
        &mut *with_one_loss(frozen, &LossSpec::token_mean()),
        "along random signs in wpe.weight",
    );
}

/// Of a loss that hardly depends on tokens two may round to the same number.
#[test]
fn a_token_that_hardly_matters_is_no_mistake() {
    let hooks = Hooks {
        observation: |(): &mut (), _: &GlobalBatch, observed| {
            observed.loss = (observed.loss * 8.0).round() / 8.0;
        },
        ..Hooks::IDENTITY
    };
    let coarse = wrap(ours(Config::Pico, Dtype::F64), (), hooks);
    let report = run("next-position", &mut *with_one_loss(coarse, &LossSpec::token_mean()));
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
}

/// Everything is right but for what is claimed.
#[test]
fn another_loss_than_the_claimed_one_is_named() {
    for (computed, words) in [
        (
            LossSpec::sequence_mean(),
            "computed is the per-sequence mean over the global batch, or what weighs alike",
        ),
        (LossSpec::batch_mean(), "computed is the batch mean"),
    ] {
        let hooks = Hooks {
            configure: |computed: &mut LossSpec, inner: &mut dyn Subject, _: &LossSpec| {
                inner.configure(computed)
            },
            ..Hooks::IDENTITY
        };
        let other = wrap(ours(Config::Pico, Dtype::F64), computed, hooks);
        let diagnosis = Diagnosis::alone(&mut *with_one_loss(other, &LossSpec::token_mean()));
        let found = diagnosis.other_loss.map(|other| other.computed);
        assert_eq!(found, Some(computed), "{diagnosis}");
        assert!(diagnosis.to_string().contains(words), "{diagnosis}");
        assert!(diagnosis.likeness().looks_like.starts_with("another loss than the claimed one"));
    }
    let sound =
        Diagnosis::alone(&mut *with_one_loss(ours(Config::Pico, Dtype::F64), &LossSpec::token_mean()));
    assert!(sound.sound && sound.other_loss.is_none(), "{sound}");
}

/// A loss that says nothing of the probes that are wrong does not explain them.
#[test]
fn what_is_wrong_where_nothing_is_supervised_is_no_other_loss() {
    let hooks = Hooks {
        accumulate: |(): &mut (), inner, batch: &GlobalBatch, handed: &mut HandedOver| {
            let mut observation = inner.accumulate(batch, handed)?;
            if batch.sequences().any(|sequence| sequence.supervised() == 0) {
                handed.scale(1.3);
                observation.loss *= 1.3;
            }
            Ok(observation)
        },
        ..Hooks::IDENTITY
    };
    let wrong = wrap(ours(Config::Pico, Dtype::F64), (), hooks);
    let diagnosis = Diagnosis::alone(&mut *with_one_loss(wrong, &LossSpec::sequence_mean()));
    assert!(!diagnosis.sound && diagnosis.other_loss.is_none(), "{diagnosis}");
}

/// Blocks that add nothing yet leave nothing to attend to, which is not a mistake of a trainer whose parameters nobody
/// can replace.
#[test]
fn a_model_that_does_not_look_back_yet_is_sound() {
    let mut inner = ours(Config::Pico, Dtype::F64);
    let mut parameters = probe_initial(Config::Pico.shape(), 0);
    for name in ["h.0.attn.c_proj.weight", "h.0.attn.c_proj.bias"] {
        let shape = parameters[name].shape().to_vec();
        let zeros = TensorValues::F64(vec![0.0; shape.iter().product()]);
        parameters.insert(name.to_owned(), Tensor::new(shape, zeros).unwrap());
    }
    inner.parameter_loading().unwrap().load(&parameters).unwrap();
    let mut fixed = Profile::Bare.of(inner, &LossSpec::token_mean(), Count::ANY).unwrap();
    let diagnosis = Diagnosis::alone(&mut *fixed);
    assert!(diagnosis.sound, "{diagnosis}");
    assert!(diagnosis.to_string().contains("no loss looks back"), "{diagnosis}");
}

/// What is cut off behind the twelfth token has no part in any batch of a diagnosis but this.
#[test]
fn tokens_that_are_cut_off_are_seen_without_roles() {
    let hooks = Hooks {
        batch: |(): &mut (), batch: &GlobalBatch| {
            batch.map_sequences(|sequence| {
                sequence.supervise_only(|position| position < 12 && sequence.supervises(position))
            })
        },
        ..Hooks::IDENTITY
    };
    let cut = wrap(ours(Config::Pico, Dtype::F64), (), hooks);
    let diagnosis = Diagnosis::alone(&mut *without_roles(with_one_loss(cut, &LossSpec::token_mean())));
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
}

/// Who attends to whom is seen of a trainer without token losses as well: by the losses of lone labels.
#[test]
fn a_leak_is_looked_at_label_by_label() {
    let inverted = Fault::named("causal-mask-inverted").unwrap().inject(ours(Config::Pico, Dtype::F64));
    let diagnosis = Diagnosis::alone(&mut *with_one_loss(inverted, &LossSpec::token_mean()));
    assert_eq!(diagnosis.first().first().map(|bug| bug.id), Some("causal-mask-inverted"), "{diagnosis}");
    assert!(diagnosis.to_string().contains("the loss at position 0 depends on"), "{diagnosis}");
}
