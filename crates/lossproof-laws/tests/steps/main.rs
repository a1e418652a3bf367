//! Mistakes of steps and of what is reported, and the laws that see them: in a trainer that takes its steps
//! undisturbed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bigram;

use bigram::{Bigram, Mistake, Offer, OfferedAdam};
use lossproof_laws::{Campaign, Law, Report, Verdict};
use lossproof_subject::LogPolicy;

/// Everything that has to do with steps, or with what is reported beside a gradient.
const LAWS: [&str; 13] = [
    "partial-window",
    "zero-grad",
    "reported-loss",
    "step-slope",
    "clipping",
    "sgd",
    "adam",
    "adamw",
    "adam-scale",
    "schedule",
    "loss-scaling",
    "validation-loss",
    "validation-trace",
];

const POLICIES: [LogPolicy; 4] =
    [LogPolicy::Window, LogPolicy::LastMicroBatch, LogPolicy::FirstRank, LogPolicy::MeanOfMicroBatches];

fn report(law: &str, trainer: &mut Bigram) -> Report {
    let campaign = Campaign { cases: 48, ..Campaign::default() };
    campaign.run(Law::named(law).unwrap(), trainer).unwrap()
}

fn passes(law: &str, trainer: &mut Bigram) {
    let report = report(law, trainer);
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
}

/// The law fails, and what it says contains `how`.
fn fails(law: &str, trainer: &mut Bigram, how: &str) {
    let report = report(law, trainer);
    assert_eq!(report.verdict, Verdict::Fail, "{law}: {report}");
    assert!(report.to_string().contains(how), "{report}");
}

fn mistaken(mistake: Mistake) -> Bigram {
    Bigram::new(Offer::ALL, Some(mistake))
}

#[test]
fn an_honest_trainer_passes() {
    for law in LAWS {
        passes(law, &mut Bigram::new(Offer::ALL, None));
    }
}

#[test]
fn a_trainer_that_loads_no_parameters_is_held_to_its_steps_too() {
    for law in [
        "partial-window",
        "zero-grad",
        "step-slope",
        "clipping",
        "sgd",
        "adam",
        "adamw",
        "schedule",
        "loss-scaling",
    ] {
        passes(law, &mut Bigram::new(Offer { loads: false, ..Offer::ALL }, None));
    }
    for law in ["sgd", "zero-grad"] {
        let mut trainer = Bigram::new(Offer { loads: false, ..Offer::ALL }, Some(Mistake::StepNeverClears));
        fails(law, &mut trainer, " norm");
    }
}

#[test]
fn a_gradient_that_a_step_leaves_behind_is_seen_in_the_next() {
    for law in ["sgd", "adam", "adamw", "schedule", "zero-grad", "partial-window"] {
        fails(law, &mut mistaken(Mistake::StepNeverClears), " norm");
    }
}

#[test]
fn a_warm_up_that_is_never_capped_is_seen_after_its_end() {
    fails("schedule", &mut mistaken(Mistake::WarmUpNeverCapped), "learning rate");
}

#[test]
fn an_optimizer_that_does_not_wait_at_a_skipped_step_is_seen_in_the_next() {
    for mistake in [Mistake::CountAdvancesOnSkip, Mistake::MomentsAdvanceOnSkip] {
        fails("loss-scaling", &mut mistaken(mistake), "the optimizer did not wait");
    }
    let how = "after a skipped step the learning rate is";
    fails("loss-scaling", &mut mistaken(Mistake::ScheduleAdvancesOnSkip), how);
    let how = "a step after a skipped one is skipped";
    fails("loss-scaling", &mut mistaken(Mistake::SkipNeverClears), how);
    // Without Adam, the velocity shows as much.
    let mut sgd_alone =
        Bigram::new(Offer { adam: OfferedAdam::None, ..Offer::ALL }, Some(Mistake::MomentsAdvanceOnSkip));
    fails("loss-scaling", &mut sgd_alone, "the optimizer did not wait");
    passes("loss-scaling", &mut Bigram::new(Offer { adam: OfferedAdam::None, ..Offer::ALL }, None));
}

#[test]
fn epsilon_stands_where_it_is_declared_to() {
    for law in ["adam", "adamw"] {
        fails(law, &mut mistaken(Mistake::EpsilonAlwaysAfter), "update of");
        // A trainer that refuses it is held to the other place.
        passes(
            law,
            &mut Bigram::new(
                Offer { adam: OfferedAdam::AfterCorrection, ..Offer::ALL },
                Some(Mistake::EpsilonAlwaysAfter),
            ),
        );
    }
}

#[test]
fn what_a_step_reports_is_what_accumulation_reports() {
    for mistake in [Mistake::StepLogs(2.0), Mistake::StepLogs(1.0 + 1e-9), Mistake::StepLogsConstant(1.5)] {
        for law in ["sgd", "adam", "schedule"] {
            fails(law, &mut mistaken(mistake), "logged loss");
        }
    }
    let how = "supervised tokens are reported of";
    fails("sgd", &mut mistaken(Mistake::StepCountsOneMore), how);
    fails("sgd", &mut mistaken(Mistake::StepReversesTokenLosses), "token losses");
}

#[test]
fn counts_and_token_losses_beside_the_gradient_are_looked_at() {
    fails("reported-loss", &mut mistaken(Mistake::CountsOneMore), "supervised tokens are reported of");
    let too_large = Mistake::TokenLossesTooLarge(1e-9);
    fails("reported-loss", &mut mistaken(too_large), "token losses");
    let mut alone = Bigram::new(Offer { evaluates: false, ..Offer::ALL }, Some(too_large));
    fails("reported-loss", &mut alone, "of the reported token losses");
}

#[test]
fn a_trainer_is_held_to_the_log_policy_that_it_declares() {
    for declared in POLICIES {
        for evaluates in [true, false] {
            for logs in POLICIES {
                let mistake = (logs != declared).then_some(Mistake::LogsBy(logs));
                let mut trainer =
                    Bigram::new(Offer { log_policy: declared, evaluates, ..Offer::ALL }, mistake);
                if logs == declared {
                    passes("reported-loss", &mut trainer);
                } else {
                    fails("reported-loss", &mut trainer, "reported loss");
                }
            }
        }
    }
}

#[test]
fn laws_of_the_gradient_hold_under_every_log_policy() {
    for log_policy in POLICIES {
        for law in ["sum", "token-mean", "naive-deviation", "split-invariance", "rank-order", "ratios", "sgd"]
        {
            passes(law, &mut Bigram::new(Offer { log_policy, ..Offer::ALL }, None));
        }
    }
    // What another policy would be is not mistaken for one.
    let mut undeclared = mistaken(Mistake::LogsBy(LogPolicy::LastMicroBatch));
    fails("token-mean", &mut undeclared, "loss");
}

#[test]
fn a_divisor_that_a_validation_has_from_training_is_seen() {
    let mut trainer = mistaken(Mistake::DividesByTraining);
    fails("validation-trace", &mut trainer, "after a window of other counts");
}
