//! What earlier attacks on the laws came through with, or were wrongly convicted of.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::{
    Fault, NaiveLoops, Profile, Unseen,
    kit::{Capability, HandedOver, Hooks, NamedTensor, wrap},
};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Report, Verdict};
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, Role};
use lossproof_subject::{Count, ParameterInfo, Subject};
use lossproof_tests::{Door, has_failed, ours, without_roles};
use rayon::prelude::*;

fn honest() -> Door {
    ours(Config::Pico, Dtype::F64)
}

fn run(law: &str, subject: &mut dyn Subject) -> Report {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    let campaign = Campaign { cases: 48, size, shrink: false, ..Campaign::default() };
    campaign.run(Law::named(law).unwrap(), subject).unwrap()
}

fn fails(law: &str, subject: &mut dyn Subject, how: &str) {
    has_failed(&run(law, subject), how);
}

/// Token losses that are reported in another order than documented fail, whether the trainer evaluates them too or not.
#[test]
fn reported_token_losses_are_in_the_order_of_the_predictions() {
    let orders: [fn(&mut Vec<f64>); 3] = [
        |losses| losses.reverse(),
        |losses| losses.sort_by(f64::total_cmp),
        |losses| {
            let middle = losses.len() / 2;
            losses.rotate_left(middle);
        },
    ];
    for evaluates in [true, false] {
        for order in orders {
            let hooks = Hooks {
                observation: |(order, _): &mut (fn(&mut Vec<f64>), bool), _, observed| {
                    observed.token_losses.iter_mut().for_each(*order);
                },
                offers: |(_, evaluates), capability, inside| {
                    inside && (*evaluates || capability != Capability::TokenLosses)
                },
                ..Hooks::IDENTITY
            };
            for trainer in
                [honest(), Profile::Full.of(honest(), &LossSpec::token_mean(), Count::ANY).unwrap()]
            {
                fails("reported-loss", &mut *wrap(trainer, (order, evaluates), hooks), "token losses");
            }
        }
        let hooks = Hooks {
            offers: |evaluates: &bool, capability, inside| {
                inside && (*evaluates || capability != Capability::TokenLosses)
            },
            ..Hooks::IDENTITY
        };
        let report = run("reported-loss", &mut *wrap(honest(), evaluates, hooks));
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
    }
}

/// A reset that leaves in force what was set.
#[test]
fn a_reset_undoes_what_was_set() {
    for (dtype, law) in
        [(Dtype::F64, "finite-differences"), (Dtype::F64, "loss-slope"), (Dtype::F32, "loss-slope")]
    {
        let hooks = Hooks {
            set: |kept: &mut Option<(String, Vec<f64>)>, inner, name, values| {
                *kept = Some((name.to_owned(), values.to_vec()));
                (Hooks::IDENTITY.set)(&mut (), inner, name, values)
            },
            load: |kept, inner, parameters| {
                *kept = None;
                (Hooks::IDENTITY.load)(&mut (), inner, parameters)
            },
            reset: |kept, inner| {
                inner.reset()?;
                match kept {
                    Some((name, values)) => (Hooks::IDENTITY.set)(&mut (), inner, name, values),
                    None => Ok(()),
                }
            },
            ..Hooks::IDENTITY
        };
        fails(law, &mut *wrap(ours(Config::Pico, dtype), None, hooks), "was set and the trainer reset");
    }
}

/// A backward pass that clamps the upstream weights to what is usual.
#[test]
fn large_upstream_weights_are_not_clamped() {
    let hooks = Hooks {
        backward: |(): &mut (), inner, batch, weights, handed| {
            let clamped: Vec<f64> = weights.iter().map(|weight| weight.clamp(-2.0, 2.0)).collect();
            (Hooks::IDENTITY.backward)(&mut (), inner, batch, &clamped, handed)
        },
        ..Hooks::IDENTITY
    };
    fails("linearity", &mut *wrap(honest(), (), hooks), "weighted sum of token losses");
}

/// Rows from here on are of another table.
const SPLIT: usize = 8;
const FIRST: &str = "positions.first";
const SECOND: &str = "positions.second";

/// The positions' table as two parameters of foreign names: a row that is short has no use for the second.
fn with_split_positions(role: Role) -> Door {
    let hooks = Hooks {
        parameters: |role: &Role, parameters: Vec<ParameterInfo>| {
            let mut split = Vec::new();
            for parameter in parameters {
                if parameter.name == "wpe.weight" {
                    let rows = parameter.shape[0];
                    for (name, rows) in [(FIRST, SPLIT), (SECOND, rows - SPLIT)] {
                        let shape = [rows, parameter.shape[1]];
                        split.push(ParameterInfo { role: *role, ..ParameterInfo::named(name, &shape) });
                    }
                } else {
                    split.push(parameter);
                }
            }
            split
        },
        gradient: |_, _, handed: &mut HandedOver| {
            let place = handed.tensors.iter().position(|tensor| tensor.name == "wpe.weight").unwrap();
            let whole = handed.tensors.remove(place);
            let (rows, width) = (whole.shape[0], whole.shape[1]);
            let (first, second) = whole.values.split_at(SPLIT * width);
            for (name, rows, values) in [(SECOND, rows - SPLIT, second), (FIRST, SPLIT, first)] {
                let tensor = NamedTensor {
                    name: name.to_owned(),
                    shape: vec![rows, width],
                    values: values.to_vec(),
                    dtype: whole.dtype,
                };
                handed.tensors.insert(place, tensor);
            }
        },
        offers: |_, _, _| false,
        ..Hooks::IDENTITY
    };
    wrap(honest(), role, hooks)
}

/// Of a parameter without a role it is not known what it is for. Where nothing that a batch has needs it, that is no
/// mistake; where the longest row has no use for it either, it is.
#[test]
fn a_parameter_that_short_rows_do_not_need_is_no_mistake() {
    let report = run("every-parameter", &mut *with_split_positions(Role::Weight));
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    let hooks = Hooks {
        gradient: |(): &mut (), _, handed: &mut HandedOver| handed.tensor(SECOND).scale(0.0),
        ..Hooks::IDENTITY
    };
    let mut unused = wrap(with_split_positions(Role::Weight), (), hooks);
    fails("every-parameter", &mut *unused, "the role must be declared");
}

/// What is kept from one call to the next is not taken for dropout.
#[test]
fn a_gradient_that_is_not_the_batchs_own_is_said_to_be_kept() {
    let reason = |hooks: Hooks<HandedOver>| {
        let mut subject = wrap(honest(), HandedOver::default(), hooks);
        // Something has to have been asked before.
        run("shares", &mut *subject);
        let report = run("shares", &mut *subject);
        assert_eq!(report.verdict, Verdict::Errored, "{report}");
        report.reason.unwrap()
    };
    // The gradient of the batch before.
    let stale = Hooks {
        gradient: |kept: &mut HandedOver, _: &GlobalBatch, handed: &mut HandedOver| {
            let now = handed.clone();
            if !kept.tensors.is_empty() {
                handed.clone_from(kept);
            }
            *kept = now;
        },
        ..Hooks::IDENTITY
    };
    assert!(reason(stale).contains("state is kept from one call to the next"), "{}", reason(stale));
    // Never cleared.
    let growing = Hooks {
        gradient: |kept: &mut HandedOver, _, handed| {
            if !kept.tensors.is_empty() {
                handed.add(1.0, kept);
            }
            kept.clone_from(handed);
        },
        ..Hooks::IDENTITY
    };
    assert!(reason(growing).contains("state is kept from one call to the next"), "{}", reason(growing));
    let random = Hooks {
        gradient: |kept: &mut HandedOver, _, handed| {
            kept.tensors.push(handed.tensors[0].clone());
            let share = (kept.tensors.len() as f64 * 0.618).fract();
            handed.scale(1.0 + 0.1 * share);
        },
        ..Hooks::IDENTITY
    };
    assert!(reason(random).contains("dropout?"), "{}", reason(random));
}

/// Sums from left to right over a layer that is wider than the first parameter says.
#[test]
fn plain_loops_over_a_wide_layer_are_within_their_bounds() {
    let campaign = Campaign { cases: 32, shrink: false, ..Campaign::default() };
    LAWS.par_iter().for_each(|law| {
        let report = campaign.run(law, &mut NaiveLoops::new(512)).unwrap();
        assert!(!matches!(report.verdict, Verdict::Fail | Verdict::Errored), "{report}");
    });
}

/// A token loss that is cut off adds up like any other, and its gradient is its slope. It is no logarithm of a
/// probability, which shows where the model is sure of itself.
#[test]
fn a_loss_that_is_cut_off_is_seen_without_roles() {
    let fault = Unseen::named("token-loss-capped").unwrap();
    let capped = || without_roles(fault.inject(honest()));
    fails("normalisation", &mut *capped(), "none a larger: losses are cut off");
    let diagnosis = Diagnosis::alone(&mut *capped());
    assert!(!diagnosis.sound && diagnosis.candidates.is_empty(), "{diagnosis}");
    assert!(diagnosis.to_string().contains("and none has a larger"), "{diagnosis}");
    let diagnosis = Diagnosis::alone(&mut *without_roles(honest()));
    assert!(diagnosis.sound, "{diagnosis}");
}

/// Nor is one made of probabilities that are taken for logits, which are never far apart.
#[test]
fn a_softmax_too_many_is_named_without_roles() {
    let twice = Fault::named("softmax-twice").unwrap();
    let diagnosis = Diagnosis::alone(&mut *without_roles(twice.inject(honest())));
    assert_eq!(diagnosis.first().first().map(|bug| bug.id), Some("softmax-twice"), "{diagnosis}");
}

/// Where a law needs a role that nobody declared, more cases would not help, and it says what would.
#[test]
fn what_lacks_a_role_is_told_to_declare_it() {
    for law in ["shift", "token-loss"] {
        let report = run(law, &mut *without_roles(honest()));
        assert!(matches!(report.verdict, Verdict::Unchecked | Verdict::Unsupported), "{report}");
        let reason = report.reason.unwrap();
        assert!(reason.contains("declared") && !reason.contains("--cases"), "{law}: {reason}");
    }
}
