//! Trainers that show little: what of every fault is recorded behind every profile and claim, and that without a
//! fault none of them raises an alarm.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_faults::{Class, Classes, Column, Control, Fault, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Verdict};
use lossproof_spec::Dtype;
use lossproof_subject::{Count, Device, Subject};
use lossproof_tests::{ours, theirs};
use lossproof_torch::{LlamaConfig, libtorch};
use rayon::prelude::*;

/// The campaign of `lossproof faults`.
fn campaign(cases: u32) -> Campaign {
    let size = Size { ranks: 1..=3, micro_batches: 1..=3, sequences: 1..=3, positions: 1..=12 };
    Campaign { cases, size, shrink: false, control: false, ..Campaign::default() }
}

/// Written by `lossproof faults --profiles --classes fixtures/fault-classes.txt`, in-sample.
fn recorded() -> Classes {
    include_str!("../../fixtures/fault-classes.txt").parse().unwrap()
}

/// They change nothing but the slope of the loss along the trainer's own step, which rounding hides in f32.
const HIDDEN_BY_ROUNDING: [&str; 3] = ["backward-factor", "gelu-backward-second-term", "tied-head-detached"];

#[test]
fn every_visible_fault_dies_but_for_those_that_rounding_hides() {
    let classes = recorded();
    let mut places = 0;
    for profile in Profile::ALL {
        for claim in NamedClaim::ALL {
            for fault in Fault::all() {
                let id = fault.bug.id;
                let row = classes.of(profile, &claim, fault);
                let row = row.unwrap_or_else(|| panic!("{profile}, {claim}: {id} is not recorded"));
                for (class, column) in row.into_iter().zip(Column::ALL) {
                    let hidden = profile == Profile::Steps && column.dtype == Dtype::F32;
                    let may_survive = hidden && HIDDEN_BY_ROUNDING.contains(&id);
                    let survived = class == Class::Survived;
                    assert!(may_survive || !survived, "{profile}, {claim}, {}: {id}", column.name);
                    places += 1;
                }
            }
        }
    }
    assert_eq!(places, 4 * 5 * 3 * Fault::all().count());
}

/// The others are found again by the command, every night.
#[test]
#[ignore = "thorough: minutes, for when laws, profiles or the catalogue change"]
fn what_is_recorded_of_one_claim_is_found_again() {
    let (profile, claim) = (Profile::Bare, "token-mean".parse::<NamedClaim>().unwrap());
    let classes = recorded();
    for (index, Column { name, dtype, micro_batches }) in Column::ALL.into_iter().enumerate() {
        let keyhole = Keyhole { profile, claim: claim.spec, micro_batches };
        let faults: Vec<&'static Fault> = Fault::all().collect();
        faults.par_iter().for_each(|fault| {
            let honest = |dtype| Ok(ours(Config::Pico, dtype));
            let found = keyhole.classify(fault, &campaign(24), dtype, honest).unwrap();
            let recorded = classes.of(profile, &claim, fault).unwrap()[index];
            assert_eq!(found.class, recorded, "{name}: {}", fault.bug.id);
        });
    }
}

/// Random batches of all trainers and profiles together.
const BATCHES: usize = 500;

fn sound_trainers(dtype: Dtype) -> Vec<Box<dyn Subject>> {
    let mut trainers = vec![
        ours(Config::Pico, dtype),
        theirs(Config::Pico, dtype),
        libtorch(&LlamaConfig::PICO, dtype, Device::Cpu).unwrap(),
    ];
    trainers.extend(Control::all().map(|control| control.inject(ours(Config::Pico, dtype))));
    trainers
}

#[test]
#[ignore = "thorough: minutes, for when laws, profiles or the catalogue change"]
fn no_trainer_without_a_fault_raises_an_alarm_through_any_profile() {
    let mut views = Vec::new();
    for profile in Profile::ALL {
        for claim in NamedClaim::ALL {
            for dtype in [Dtype::F64, Dtype::F32] {
                views.push((profile, claim, dtype));
            }
        }
    }
    // Each law has its turn with some trainer and some profile; which, changes from law to law.
    let places = views.len() * sound_trainers(Dtype::F64).len() * LAWS.len();
    let stride = places.div_ceil(BATCHES);
    let alarms: Vec<String> = views
        .par_iter()
        .enumerate()
        .flat_map_iter(|(index, &(profile, claim, dtype))| {
            let keyhole = Keyhole { profile, claim: claim.spec, micro_batches: Count::ANY };
            let mut alarms = Vec::new();
            for (number, trainer) in sound_trainers(dtype).into_iter().enumerate() {
                let mut subject = keyhole.of(trainer).unwrap();
                for (law_index, law) in LAWS.iter().enumerate() {
                    if !(law_index + 7 * number + 11 * index).is_multiple_of(stride) {
                        continue;
                    }
                    let campaign = Campaign { seed: index as u64, ..campaign(1) };
                    let report = campaign.run(law, &mut *subject).unwrap();
                    if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                        alarms.push(format!("{profile}, {claim}, {dtype}: {report}"));
                    }
                }
            }
            alarms
        })
        .collect();
    assert!(alarms.is_empty(), "{}", alarms.join("\n"));
}
