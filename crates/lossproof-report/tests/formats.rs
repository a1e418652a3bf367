//! JUnit XML and JSON lines, read back.

#[path = "../examples/page/sample.rs"]
mod sample;

use lossproof_report::{
    Check, CheckOutcome, Checks, Outcome, Part, Report, SCHEMA, Section, json_lines, junit,
};
use roxmltree::{Document, Node};
use serde_json::{Value, json};

fn of(checks: Vec<Check>) -> Report {
    Report {
        title: "title".to_owned(),
        command: "command".to_owned(),
        subject: vec!["subject".to_owned()],
        outcome: Outcome::Conforms,
        summary: "summary".to_owned(),
        sections: vec![Section::new(
            "heading",
            vec![Part::Checks(Checks { name: "suite".to_owned(), checks })],
        )],
    }
}

fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn property<'a>(case: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut properties = case.descendants().filter(|node| node.has_tag_name("property"));
    properties.find(|node| node.attribute("name") == Some(name))?.attribute("value")
}

fn cases<'a, 'b>(document: &'a Document<'b>) -> Vec<Node<'a, 'b>> {
    document.descendants().filter(|node| node.has_tag_name("testcase")).collect()
}

#[test]
fn junit_has_every_check_with_its_outcome() {
    let text = junit(&sample::report()).unwrap();
    let document = Document::parse(&text).unwrap();
    let root = document.root_element();
    let counts = ["tests", "failures", "errors"].map(|name| root.attribute(name).unwrap());
    assert_eq!(counts, ["6", "1", "2"], "what is unchecked never counts as passed");
    assert_eq!(child(root, "testsuite").unwrap().attribute("name"), Some("laws"));
    let cases = cases(&document);
    let ids: Vec<_> = cases.iter().map(|case| case.attribute("name").unwrap()).collect();
    assert_eq!(ids, ["token-mean", "linearity", "causality", "adam-scale", "resuming", "validation"]);
    assert!(cases.iter().all(|case| case.attribute("classname") == Some("laws")));

    let failure = child(cases[0], "failure").unwrap();
    assert_eq!(failure.attribute("type"), Some("failed"));
    assert!(failure.attribute("message").unwrap().contains("1.5 times"));
    let description = failure.text().unwrap();
    assert!(description.contains("rank 1  micro-batch 0   [5 22]"), "{description}");
    assert!(description.ends_with("--case cases/token-mean-7.json"), "{description}");
    assert!(property(cases[0], "rerun").unwrap().starts_with("lossproof laws"));
    assert_eq!(cases[0].attribute("time"), Some("1.300"));
    assert_eq!(property(cases[1], "worst"), Some("2.1e-15"));
    assert!(["failure", "error", "skipped"].iter().all(|kind| child(cases[1], kind).is_none()));
    assert_eq!(child(cases[3], "error").unwrap().attribute("type"), Some("unchecked"));
    assert_eq!(property(cases[3], "worst"), Some("NaN"));
    assert_eq!(child(cases[4], "error").unwrap().attribute("type"), Some("errored"));
    let skipped = child(cases[5], "skipped").unwrap().attribute("message");
    assert_eq!(skipped, Some("the card has no capability `evaluation`"));
    assert!(!text.contains("timestamp"), "there are no dates in it");
}

#[test]
fn json_lines_have_the_head_and_every_check() {
    let text = json_lines(&sample::report()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(text.ends_with('\n') && lines.len() == 7);
    assert_eq!(lines[0]["schema"], SCHEMA);
    let header = &lines[0]["header"];
    assert_eq!(header["outcome"], "deviates");
    assert_eq!(header["checks"], 6);
    assert_eq!(header["command"], sample::report().command);
    assert_eq!(header["subject"].as_array().unwrap().len(), 2);
    assert_eq!(lines[1]["outcome"], "failed");
    assert!(lines[1]["details"].as_str().unwrap().contains('\n'));
    assert_eq!(
        lines[2],
        json!({
            "suite": "laws",
            "id": "linearity",
            "what": "the gradient of a sum of losses is the sum of their gradients",
            "outcome": "passed",
            "seconds": 0.81,
            "measures": { "cases": 256.0, "telling": 240.0, "worst": 2.1e-15, "bound": 2e-14 },
        })
    );
    assert_eq!(lines[4]["measures"]["worst"], "NaN");
    assert_eq!(lines[6]["reason"], "the card has no capability `evaluation`");
}

#[test]
fn numbers_that_are_not_finite_are_strings_in_json_and_no_durations_in_xml() {
    let check = Check::passed("id", "what")
        .measured("up", f64::INFINITY)
        .measured("down", f64::NEG_INFINITY)
        .with_seconds(f64::NAN);
    let negative = Check::passed("id", "what").with_seconds(-1.0);
    let report = of(vec![check, negative]);
    let text = json_lines(&report).unwrap();
    let line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["measures"], json!({ "up": "inf", "down": "-inf" }));
    assert_eq!(line["seconds"], "NaN");
    let text = junit(&report).unwrap();
    let document = Document::parse(&text).unwrap();
    assert!(cases(&document).iter().all(|case| case.attribute("time").is_none()));
}

#[test]
fn hostile_text_is_text_in_both() {
    for hostile in [
        "</failure><testcase name=\"x\"/>",
        "\" message=\"' & <![CDATA[ ]]> --> &amp;",
        "\u{1b}[31m\0\u{1}\u{b}\u{7f}\u{85}\u{fffe}\u{ffff}\u{202e}",
        " a\nb\r\nc\u{2028}d\n",
    ] {
        let text = || hostile.to_owned();
        let check = |outcome| {
            Check::new(text(), text(), outcome).measured(text(), 1.0).with_details(text()).with_rerun(text())
        };
        let outcomes = [
            CheckOutcome::Passed,
            CheckOutcome::Failed(text()),
            CheckOutcome::Errored(text()),
            CheckOutcome::Unchecked(text()),
            CheckOutcome::Skipped(text()),
        ];
        let mut report = of(outcomes.map(check).into());
        report.title = text();
        let xml = junit(&report).unwrap();
        let document = Document::parse(&xml).unwrap();
        assert_eq!(cases(&document).len(), 5, "{hostile:?}");
        let lines = json_lines(&report).unwrap();
        assert_eq!(lines.lines().count(), 6, "{hostile:?}");
        for line in lines.lines().skip(1) {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["id"], &line["details"]), (&json!(hostile), &json!(hostile)));
        }
    }
}

#[test]
fn long_text_is_whole_in_json_and_cut_in_xml() {
    let long = "x".repeat(1_000_000);
    let report = of(vec![Check::failed("id", "what", "why").with_details(long.as_str())]);
    assert!(json_lines(&report).unwrap().contains(&long));
    assert!(junit(&report).unwrap().len() < 100_000);
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(junit(&sample::report()).unwrap(), junit(&sample::report()).unwrap());
    assert_eq!(json_lines(&sample::report()).unwrap(), json_lines(&sample::report()).unwrap());
}
