//! Trainers that show little: without a fault none of them raises an alarm through any profile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_cases::strategies::Size;
use lossproof_faults::{Control, Keyhole, NamedClaim, Profile};
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
