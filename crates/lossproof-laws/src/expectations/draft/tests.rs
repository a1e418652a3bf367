use super::*;
use crate::expectations::{
    Broken, Expectations, Replay,
    package::{self, BROKEN, DECLARED, Package, outcome},
};

fn all(outcomes: &[Outcome]) -> Vec<(String, Outcome)> {
    outcomes.iter().map(|outcome| ("mine".to_owned(), outcome.clone())).collect()
}

/// The draft of a text after a run of the package in `/package`.
fn drafted(before: &str, outcomes: &[Outcome]) -> Drafted {
    draft(before, Path::new("/package"), &all(outcomes)).unwrap()
}

/// A law that a case in `cases` breaks: its loss is doubled.
fn broken(law: &'static str, case: &str) -> Outcome {
    let case = Some(format!("/package/cases/{case}").into());
    Outcome { case, broken: package::broken(&[("loss", 2.0)]), ..outcome(law, Verdict::Fail) }
}

/// What the kept case shows when it is replayed.
fn fails(units: &[(&str, f64)]) -> Replay {
    Replay::Fails(package::broken(units))
}

/// A trainer that fails with an error.
fn crash(law: &'static str, case: &str, error: &str) -> Outcome {
    Outcome { error: Some(error.to_owned()), broken: Broken::default(), ..broken(law, case) }
}

/// A comment at every place that a person may write one at.
const WRITTEN: &str = "\
# Mine to say.

[subject.other]
decides = [\"sum\"] # one

# The trainer.
[subject.mine] # here
# Pins.
decides = [
    \"duplication\", # first
    \"ratios\",
]

# Known.
[[subject.mine.fails]]
law = \"loss-scaling\"
reason = \"issue 7\" # upstream
# Smallest.
case = \"cases/old.json\"
units = [{ name = \"loss\", ratio = 2.0 }] # all

# The end.
";

#[test]
fn a_draft_pins_what_passes_and_declares_what_fails() {
    let errored = crash("adam", "2.json", "out of memory\nin step 3");
    let several = package::broken(&[("wte.weight", 0.333_333), ("loss", 2.0), ("grad norm", f64::NAN)]);
    let found = [
        outcome("sum", Verdict::Pass),
        Outcome { broken: several, ..broken("counting", "1.json") },
        errored,
        outcome("duplication", Verdict::Pass),
        outcome("ratios", Verdict::Unsupported),
        outcome("linearity", Verdict::Unchecked),
    ];
    let Drafted { text, unexplained, undrafted } = drafted("", &found);
    insta::assert_snapshot!(text, @r#"
    # What `cargo test` expects of this package's trainers. `LOSSPROOF_EXPECT=write cargo test` drafts lossproof.toml;
    # the reasons are yours.

    [subject.mine]
    # The laws that decide, and that it keeps, at the test's own seed and number of cases.
    decides = [
        "duplication",
        "sum",
    ]

    [[subject.mine.fails]]
    law = "counting"
    reason = "TODO: why is this law broken?"
    case = "cases/1.json"
    units = [
        { name = "grad norm", deviation = 1.0 },
        { name = "loss", ratio = 2.0 },
        { name = "wte.weight", ratio = 0.333333 },
    ]

    [[subject.mine.fails]]
    law = "adam"
    reason = "TODO: why is this law broken?"
    case = "cases/2.json"
    error = "out of memory"
    "#);
    assert_eq!((unexplained, undrafted), (2, Vec::new()));
}

#[test]
fn what_stays_as_it_was_stays_as_it_was_written() {
    let known = Outcome { replay: Some(fails(&[("loss", 2.0)])), ..broken(BROKEN, "new.json") };
    let found = [outcome("ratios", Verdict::Pass), known, outcome("shift", Verdict::Unsupported)];
    assert_eq!(drafted(WRITTEN, &found).text, WRITTEN);
    // Laws that the run did not try are no matter of the draft.
    assert_eq!(drafted(WRITTEN, &[]).text, WRITTEN);
    let of_another = [("new".to_owned(), outcome("sum", Verdict::Pass))];
    let Drafted { text, .. } = draft(WRITTEN, Path::new("/package"), &of_another).unwrap();
    assert!(text.starts_with(WRITTEN.trim_end_matches("\n# The end.\n")), "{text}");
    assert!(text.contains("\n[subject.new]\n") && text.contains("# The end."), "{text}");
}

#[test]
fn a_law_that_decides_otherwise_moves() {
    let found = [
        outcome(BROKEN, Verdict::Pass),
        broken("ratios", "1.json"),
        outcome("duplication", Verdict::Unchecked),
    ];
    let Drafted { text, .. } = drafted(WRITTEN, &found);
    let expected = WRITTEN
        .replace("    \"duplication\", # first\n    \"ratios\",\n", "    \"loss-scaling\",\n")
        .replace("# Known.\n", "")
        .replace(
            "law = \"loss-scaling\"\nreason = \"issue 7\" # upstream\n# Smallest.\n",
            "law = \"ratios\"\n",
        )
        .replace(
            "case = \"cases/old.json\"",
            "reason = \"TODO: why is this law broken?\"\ncase = \"cases/1.json\"",
        )
        .replace(" # all", "");
    assert_eq!(text, expected);
}

#[test]
fn a_reason_is_put_in_question_when_its_case_is_another() {
    for replay in [Replay::Passes, Replay::Untried("no".to_owned()), Replay::Errors("crash".to_owned())] {
        let found = Outcome { replay: Some(replay), ..broken(BROKEN, "new.json") };
        let Drafted { text, unexplained, .. } = drafted(WRITTEN, &[found]);
        let expected = WRITTEN
            .replace("\"issue 7\" # upstream", "\"TODO: is this still why? issue 7\" # upstream")
            .replace("old.json", "new.json");
        assert_eq!((text.as_str(), unexplained), (expected.as_str(), 1));
    }
    let crash = |error: &str| Outcome {
        replay: Some(Replay::Errors(error.to_owned())),
        ..crash(BROKEN, "old.json", error)
    };
    let Drafted { text, .. } = drafted(WRITTEN, &[crash("out of memory")]);
    assert!(text.contains("error = \"out of memory\"\n") && text.contains("still why? issue 7"), "{text}");
    // The failure is there, and a crash on another case besides: only one of them can be declared, and the
    // crash is new.
    let beside = Outcome { replay: Some(fails(&[("loss", 2.0)])), ..crash("out of memory") };
    let both = drafted(WRITTEN, &[beside]).text;
    assert_eq!(both, text.replace("error = \"out", "units = [{ name = \"loss\" }] # all\nerror = \"out"));
    // A question that nobody has answered is not asked twice, and an error that is gone is not declared.
    let Drafted { text: again, .. } = drafted(&text, &[broken(BROKEN, "old.json")]);
    assert!(!again.contains("error =") && again.matches("still why?").count() == 1, "{again}");
    // A part of the message is enough.
    let known = text.replace("TODO: is this still why? ", "");
    assert_eq!(drafted(&known, &[crash("out of memory at step 3")]).text, known);
}

#[test]
fn what_no_other_machine_could_replay_is_not_declared() {
    let elsewhere = Outcome { case: Some("/tmp/1.json".into()), ..outcome("sum", Verdict::Fail) };
    let nowhere = Outcome { why: Some("dropout?".to_owned()), ..outcome("ratios", Verdict::Errored) };
    let Drafted { text, undrafted, .. } = drafted(WRITTEN, &[elsewhere, nowhere]);
    assert_eq!(text, WRITTEN);
    let laws: Vec<_> = undrafted.iter().map(|undrafted| undrafted.law).collect();
    assert_eq!(laws, ["sum", "ratios"]);
    let draft = Draft { path: "lossproof.toml".into(), unexplained: 0, undrafted };
    let said = draft.to_string();
    assert!(said.contains("/tmp/1.json lies outside") && said.contains("(dropout?)"), "{said}");
}

#[test]
fn tables_in_one_line_are_spread() {
    let before = "subject = { mine = { decides = [\"ratios\"], fails = [{ law = \"loss-scaling\", reason = \"issue 7\", \
                  case = \"cases/old.json\" }] } }\n";
    let Drafted { text, .. } =
        drafted(before, &[outcome("sum", Verdict::Pass), broken("counting", "1.json")]);
    let spread: DocumentMut = text.parse().unwrap();
    let mine = &spread["subject"]["mine"];
    assert_eq!(mine["decides"].as_array().unwrap().len(), 2, "{text}");
    let fails = mine["fails"].as_array_of_tables().unwrap();
    assert!(fails.len() == 2 && fails.get(0).unwrap()["reason"].as_str() == Some("issue 7"), "{text}");
}

#[test]
fn remarks_in_an_empty_file_stay_on_top() {
    let Drafted { text, .. } = drafted("# Mine to say.\n", &[outcome("sum", Verdict::Pass)]);
    assert!(text.starts_with("# Mine to say.\n\n[subject.mine]\n"), "{text}");
}

#[test]
fn what_is_no_toml_is_left_alone() {
    let package = Package::new();
    package.write("[subject.mine]\n\ndecides = [");
    let outcomes = all(&[outcome("sum", Verdict::Pass)]);
    let error = Expectations::write(&package.path(FILE), &outcomes).unwrap_err().to_string();
    assert!(error.contains("lossproof.toml:3: "), "{error}");
    assert_eq!(package.text(), "[subject.mine]\n\ndecides = [");
}

#[test]
fn a_draft_cannot_pass_unseen() {
    let package = Package::new();
    let path = package.path(FILE);
    let found = Outcome { case: Some(package.path(&package.case)), ..broken(BROKEN, "") };
    let draft = Expectations::write(&path, &all(&[found.clone(), outcome("sum", Verdict::Pass)])).unwrap();
    assert_eq!((draft.unexplained, draft.undrafted.len()), (1, 0));
    assert!(package.read().unwrap_err().to_string().contains("write a reason"));
    let unfinished = Expectations::read_draft(&path).unwrap().unwrap();
    assert!(unfinished.of("mine").unwrap().declared(BROKEN).is_some());
    // Once the reason is there, the next draft is the same.
    package.write(&package.text().replace("TODO: why is this law broken?", "issue 7"));
    let before = package.text();
    assert!(package.read().unwrap().of("mine").unwrap().pins("sum"));
    let known = Outcome { replay: Some(fails(&[("loss", 2.0)])), ..found };
    Expectations::write(&path, &all(&[known, outcome("sum", Verdict::Pass)])).unwrap();
    assert_eq!(package.text(), before);
    assert!(before.contains(DECLARED), "{before}");
}

#[test]
fn what_other_cases_found_is_not_drafted() {
    let package = Package::new();
    let other = Outcome { draw: Draw::Other, ..outcome("sum", Verdict::Pass) };
    let error = Expectations::write(&package.path(FILE), &all(&[other])).unwrap_err();
    assert!(matches!(error, ExpectationsError::OtherCases { .. }), "{error}");
    assert!(!package.path(FILE).exists());
}

#[test]
fn runs_that_write_at_once_lose_nothing() {
    let package = Package::new();
    let path = package.path(FILE);
    let laws: Vec<_> = crate::LAWS.iter().map(crate::Law::id).collect();
    std::thread::scope(|scope| {
        for law in &laws {
            let path = &path;
            scope.spawn(move || Expectations::write(path, &all(&[outcome(law, Verdict::Pass)])).unwrap());
        }
    });
    let expectations = package.read().unwrap();
    let mine = expectations.of("mine").unwrap();
    assert!(laws.iter().all(|law| mine.pins(law)), "{}", package.text());
}

#[test]
fn a_draft_keeps_a_case_that_fails_as_declared_and_says_what_else_fails() {
    let of = |found: &[(&str, f64)], replay: &[(&str, f64)]| Outcome {
        broken: package::broken(found),
        replay: Some(fails(replay)),
        ..broken(BROKEN, "new.json")
    };
    let questioned = WRITTEN.replace("issue 7", "TODO: is this still why? issue 7");
    let one = "[{ name = \"loss\", ratio = 2.0 }]";
    // Another multiple of the same; the case of the campaign says nothing of it.
    let text = drafted(WRITTEN, &[of(&[("loss", -1.0)], &[("loss", 2.002)])]).text;
    assert_eq!(text, WRITTEN);
    let text = drafted(WRITTEN, &[of(&[("loss", 2.0)], &[("loss", -1.0)])]).text;
    assert_eq!(text, questioned.replace("ratio = 2.0", "ratio = -1.0"));
    // Another unit, on the declared case and elsewhere.
    let spread = |wte: &str| format!("[\n    {{ name = \"loss\", ratio = 2.0 }},\n    {wte},\n]");
    let text = drafted(WRITTEN, &[of(&[], &[("loss", 2.0), ("wte", 0.5)])]).text;
    assert_eq!(text, questioned.replace(one, &spread("{ name = \"wte\", ratio = 0.5 }")));
    let text = drafted(WRITTEN, &[of(&[("wte", 0.5)], &[("loss", 2.0)])]).text;
    assert_eq!(text, questioned.replace(one, &spread("{ name = \"wte\" }")));
    // A unit that fails no more.
    let text = drafted(&text, &[of(&[("loss", 2.0)], &[("loss", 2.0)])]).text;
    assert_eq!(text, questioned);
    // A declaration of the time before units keeps its reason.
    let old = WRITTEN.replace(&format!("units = {one} # all\n"), "");
    let text = drafted(&old, &[of(&[("loss", 2.0)], &[("loss", 2.0)])]).text;
    assert_eq!(text, WRITTEN.replace(" # all", ""));
}

#[cfg(unix)]
#[test]
fn a_link_stays_one_and_what_it_leads_to_is_drafted() {
    let (package, shared) = (Package::new(), tempfile::tempdir().unwrap());
    let target = shared.path().join("expectations.toml");
    fs::write(&target, "# Shared.\n").unwrap();
    let path = package.path(FILE);
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let found = Outcome { case: Some(package.path(&package.case)), ..broken(BROKEN, "") };
    let draft = Expectations::write(&path, &all(&[found])).unwrap();
    assert!(draft.undrafted.is_empty() && path.is_symlink(), "{draft}");
    let text = fs::read_to_string(&target).unwrap();
    assert!(text.starts_with("# Shared.\n") && text.contains(&package.case), "{text}");
    assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 1, "nothing is left behind");
    // A link that leads nowhere is the owner's to mend.
    fs::remove_file(&target).unwrap();
    let error = Expectations::write(&path, &[]).unwrap_err();
    assert!(matches!(error, ExpectationsError::Write { .. }) && path.is_symlink(), "{error}");
}
