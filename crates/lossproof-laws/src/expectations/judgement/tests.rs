use super::*;
use crate::expectations::{
    Expectations,
    package::{BROKEN, DECLARED, Package, broken, outcome},
};

/// What is declared: the loss is doubled.
const UNITS: &str = "units = [{ name = \"loss\", ratio = 2.0 }]\n";

/// The declared case shows what is declared.
fn fails() -> Replay {
    Replay::Fails(broken(&[("loss", 2.0)]))
}

/// Expects that `sum` decides and that a law is broken, with `error` for its error and units.
fn expectations(error: &str) -> Expectations {
    let package = Package::new();
    package.write(&format!(
        "[subject.mine]\ndecides = [\"sum\"]\n{DECLARED}reason = \"issue 7\"\ncase = \"{}\"\n{error}",
        package.case
    ));
    package.read().unwrap()
}

fn judged(outcome: &Outcome) -> Judgement {
    judge(expectations(UNITS).of("mine"), outcome)
}

/// The verdict and standing of the declared law.
fn of_declared(found: Outcome, replay: Replay) -> (Verdict, Standing, String) {
    let judgement = judged(&Outcome { replay: Some(replay), ..found });
    assert_eq!(judgement.warning, None, "a declaration holds whatever cases are drawn");
    (judgement.verdict, judgement.standing, judgement.reason.unwrap_or_default())
}

const UNDECIDED: [Verdict; 2] = [Verdict::Unsupported, Verdict::Unchecked];

#[test]
fn without_expectations_what_is_unchecked_is_red_and_says_what_to_do() {
    let unlisted = |verdict| judge(None, &outcome("sum", verdict));
    assert_eq!(unlisted(Verdict::Pass).standing, Standing::Green);
    assert_eq!(unlisted(Verdict::Unsupported).standing, Standing::Ignored);
    for red in [Verdict::Fail, Verdict::Errored, Verdict::Unchecked] {
        assert_eq!((unlisted(red).standing, unlisted(red).verdict), (Standing::Red, red));
    }
    assert!(unlisted(Verdict::Unchecked).reason.unwrap().contains("LOSSPROOF_EXPECT=write"));
}

#[test]
fn a_pinned_law_must_decide() {
    assert_eq!(judged(&outcome("sum", Verdict::Pass)).standing, Standing::Green);
    for verdict in UNDECIDED {
        let found = Outcome { why: Some("one rank".to_owned()), ..outcome("sum", verdict) };
        let own = judged(&found);
        assert_eq!((own.verdict, own.standing, own.warning), (verdict, Standing::Red, None));
        assert!(own.reason.unwrap().starts_with("pinned to decide, and no longer does: one rank;"));
        // Luck may decide otherwise on other cases.
        let other = judged(&Outcome { draw: Draw::Other, ..found });
        assert_eq!((other.verdict, other.standing), (verdict, Standing::Ignored));
        assert!(other.warning.unwrap().starts_with("pinned to decide"));
    }
}

#[test]
fn a_law_that_decides_must_be_pinned() {
    let own = judged(&outcome("shift", Verdict::Pass));
    assert_eq!((own.verdict, own.standing), (Verdict::UnexpectedPass, Standing::Red));
    assert!(own.reason.unwrap().starts_with("decides and is not pinned"));
    let other = judged(&Outcome { draw: Draw::Other, ..outcome("shift", Verdict::Pass) });
    assert_eq!((other.verdict, other.standing), (Verdict::Pass, Standing::Green));
    assert!(other.warning.is_some());
    for verdict in UNDECIDED {
        assert_eq!(judged(&outcome("shift", verdict)).standing, Standing::Ignored);
    }
}

#[test]
fn a_failure_that_is_not_declared_is_red_on_any_cases() {
    for (law, verdict) in [("sum", Verdict::Fail), ("shift", Verdict::Fail), ("sum", Verdict::Errored)] {
        for draw in [Draw::Own, Draw::Other] {
            let judgement = judged(&Outcome { draw, ..outcome(law, verdict) });
            assert_eq!((judgement.verdict, judgement.standing), (verdict, Standing::Red));
        }
    }
}

#[test]
fn a_declared_failure_that_is_there_is_green_whatever_other_cases_show() {
    for verdict in [Verdict::Fail, Verdict::Pass, Verdict::Unchecked, Verdict::Unsupported] {
        for draw in [Draw::Own, Draw::Other] {
            let found = Outcome { draw, ..outcome(BROKEN, verdict) };
            let (verdict, standing, reason) = of_declared(found, fails());
            assert_eq!((verdict, standing), (Verdict::ExpectedFailure, Standing::Green));
            assert!(reason.starts_with("issue 7 (cases/loss-scaling/"), "{reason}");
        }
    }
}

#[test]
fn a_declared_failure_that_is_gone_is_red_and_can_be_deleted() {
    for verdict in [Verdict::Pass, Verdict::Unchecked, Verdict::Unsupported] {
        for draw in [Draw::Own, Draw::Other] {
            let found = Outcome { draw, ..outcome(BROKEN, verdict) };
            let (verdict, standing, reason) = of_declared(found, Replay::Passes);
            assert_eq!((verdict, standing), (Verdict::UnexpectedPass, Standing::Red));
            assert!(reason.contains("can be deleted"), "{reason}");
        }
    }
}

#[test]
fn a_declared_failure_excuses_no_other() {
    let another = Outcome { case: Some("new.json".into()), ..outcome(BROKEN, Verdict::Fail) };
    let (verdict, standing, reason) = of_declared(another, Replay::Passes);
    assert_eq!((verdict, standing), (Verdict::Fail, Standing::Red));
    assert!(reason.contains("new.json"), "{reason}");
    let (verdict, standing, _) = of_declared(outcome(BROKEN, Verdict::Errored), Replay::Passes);
    assert_eq!((verdict, standing), (Verdict::Errored, Standing::Red));
    // The failure is there, and on another case there is a crash besides.
    let crash = Outcome { error: Some("out of memory".to_owned()), ..outcome(BROKEN, Verdict::Errored) };
    let (verdict, standing, reason) = of_declared(crash, fails());
    assert_eq!((verdict, standing), (Verdict::Errored, Standing::Red));
    assert!(reason.contains("out of memory"), "{reason}");
}

#[test]
fn a_crash_is_expected_by_its_message_only() {
    let crash = || Some("a value of `w` is not finite".to_owned());
    let found =
        Outcome { error: crash(), replay: crash().map(Replay::Errors), ..outcome(BROKEN, Verdict::Fail) };
    let standing = |error: &str, found: &Outcome| {
        let judgement = judge(expectations(error).of("mine"), found);
        (judgement.verdict, judgement.standing)
    };
    let red = (Verdict::Errored, Standing::Red);
    assert_eq!(standing(UNITS, &found), red);
    assert_eq!(standing("error = \"panicked\"", &found), red);
    let green = (Verdict::ExpectedFailure, Standing::Green);
    assert_eq!(standing("error = \"not finite\"", &found), green);
    let wrong = Outcome { error: None, replay: Some(fails()), ..found.clone() };
    assert_eq!(standing("error = \"not finite\"", &wrong), (Verdict::Fail, Standing::Red));
    let another = Outcome { error: Some("panicked".to_owned()), ..found };
    assert_eq!(standing("error = \"not finite\"", &another), (Verdict::Fail, Standing::Red));
}

#[test]
fn a_declared_case_that_cannot_be_tried_is_never_green() {
    for verdict in [Verdict::Pass, Verdict::Unchecked] {
        let untried = Replay::Untried("the trainer does not take it".to_owned());
        let (judged, standing, reason) = of_declared(outcome(BROKEN, verdict), untried);
        // What the law is on other cases is not the answer.
        let found = if verdict == Verdict::Pass { Verdict::UnexpectedPass } else { verdict };
        assert_eq!((judged, standing), (found, Standing::Red));
        assert!(reason.contains("does not take it") && reason.contains("name a case"), "{reason}");
    }
    for verdict in [Verdict::Fail, Verdict::Errored, Verdict::Unsupported] {
        let judgement = judged(&outcome(BROKEN, verdict));
        assert_eq!((judgement.verdict, judgement.standing), (verdict, Standing::Red));
    }
}

#[test]
fn a_unit_that_is_not_declared_is_red_and_named() {
    let red = (Verdict::Fail, Standing::Red);
    for draw in [Draw::Own, Draw::Other] {
        let found = Outcome { draw, ..outcome(BROKEN, Verdict::Fail) };
        // On the declared case, and on another.
        let both = Replay::Fails(broken(&[("loss", 2.0), ("wte", 2.0)]));
        let elsewhere = Outcome { broken: broken(&[("wte", 2.0)]), ..found.clone() };
        for (found, replay) in [(found, both), (elsewhere, fails())] {
            let (verdict, standing, reason) = of_declared(found, replay);
            assert_eq!((verdict, standing), red);
            assert!(reason.contains(": `wte` is not declared to fail, and failed; where"), "{reason}");
        }
    }
    // What an error hides on its own case is not declared on another.
    let error = "error = \"crash\"\n";
    let crash = Some(Replay::Errors("a crash".to_owned()));
    let found = Outcome { broken: broken(&[("loss", 2.0)]), replay: crash, ..outcome(BROKEN, Verdict::Fail) };
    let judged = |text: &str| judge(expectations(text).of("mine"), &found);
    assert_eq!((judged(error).verdict, judged(error).standing), red);
    assert_eq!(judged(&format!("{error}{UNITS}")).standing, Standing::Green);
    // There it may also go without notice, because nobody has to find both.
    let silent = Outcome { broken: broken(&[]), ..found.clone() };
    let judgement = judge(expectations(&format!("{error}{UNITS}")).of("mine"), &silent);
    assert_eq!((judgement.standing, judgement.warning), (Standing::Green, None));
}

#[test]
fn another_multiple_of_the_same_unit_is_red_on_the_declared_case_alone() {
    let replayed = |ratio: f64| {
        let found = Outcome { broken: broken(&[("loss", 7.0)]), ..outcome(BROKEN, Verdict::Fail) };
        of_declared(found, Replay::Fails(broken(&[("loss", ratio)])))
    };
    for ratio in [1.991, 2.0, 2.009] {
        assert_eq!(replayed(ratio).1, Standing::Green, "{ratio}");
    }
    for ratio in [1.989, 2.011, -1.0, 0.0, f64::NAN] {
        let (verdict, standing, reason) = replayed(ratio);
        assert_eq!((verdict, standing), (Verdict::Fail, Standing::Red), "{ratio}");
        assert!(reason.contains("`loss` is") && reason.contains("declared to be 2 times"), "{reason}");
    }
}

#[test]
fn a_declared_unit_that_no_longer_fails_is_an_unexpected_pass() {
    let units = "units = [{ name = \"loss\", ratio = 2.0 }, { name = \"wte\" }]\n";
    let judged = |draw, elsewhere: &[(&str, f64)]| {
        let found = outcome(BROKEN, Verdict::Fail);
        let found = Outcome { draw, broken: broken(elsewhere), replay: Some(fails()), ..found };
        judge(expectations(units).of("mine"), &found)
    };
    let own = judged(Draw::Own, &[]);
    assert_eq!((own.verdict, own.standing), (Verdict::UnexpectedPass, Standing::Red));
    let reason = own.reason.unwrap();
    assert!(reason.starts_with("`wte` is declared to fail, and no longer did; "), "{reason}");
    // Other cases need not show it.
    let other = judged(Draw::Other, &[]);
    assert_eq!((other.verdict, other.standing), (Verdict::ExpectedFailure, Standing::Green));
    assert!(other.warning.unwrap().starts_with("`wte` is declared"));
    assert_eq!(judged(Draw::Own, &[("wte", 3.0)]).standing, Standing::Green);
}
