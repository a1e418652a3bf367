//! `docs/SPEC.md` and [`CLAUSES`] say the same.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use lossproof_spec::{CLAUSES, Level};

const SPEC: &str = include_str!("../../../docs/SPEC.md");

/// A clause as `docs/SPEC.md` has it.
struct Written {
    id: String,
    /// The first paragraph, on one line.
    sentence: String,
    text: String,
}

fn written() -> Vec<Written> {
    let sections = SPEC.split("\n## ").flat_map(|group| group.split("\n### ").skip(1));
    let clause = |section: &str| {
        let (heading, text) = section.split_once('\n').unwrap();
        let (id, title) = heading.split_once(' ').unwrap();
        assert!(!title.trim().is_empty(), "clause {id} has no title");
        let paragraph = text.trim_start().split("\n\n").next().unwrap();
        let sentence = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        Written { id: id.to_owned(), sentence, text: text.to_owned() }
    };
    sections.map(clause).collect()
}

#[test]
fn every_clause_is_in_both_places_in_the_same_order_and_words() {
    let written = written();
    let in_spec: Vec<_> = written.iter().map(|c| (c.id.as_str(), c.sentence.as_str())).collect();
    let in_code: Vec<_> = CLAUSES.iter().map(|c| (c.id, c.sentence)).collect();
    for clause in &in_spec {
        assert!(in_code.contains(clause), "docs/SPEC.md has this clause, CLAUSES does not: {clause:?}");
    }
    for clause in &in_code {
        assert!(in_spec.contains(clause), "CLAUSES has this clause, docs/SPEC.md does not: {clause:?}");
    }
    assert_eq!(in_spec, in_code, "the clauses are in another order");
}

#[test]
fn clauses_are_numbered_without_gaps_within_their_group() {
    let mut previous = (0, 0);
    for clause in CLAUSES {
        let (group, number) = clause.id.split_once('.').unwrap();
        let (group, number): (u32, u32) = (group.parse().unwrap(), number.parse().unwrap());
        let expected = if group == previous.0 { (group, previous.1 + 1) } else { (previous.0 + 1, 1) };
        assert_eq!((group, number), expected);
        previous = expected;
    }
}

#[test]
fn a_sentence_says_how_binding_it_is() {
    for clause in CLAUSES {
        let (yes, no) = match clause.level {
            Level::Must => ("MUST", "SHOULD"),
            Level::Should => ("SHOULD", "MUST"),
        };
        assert!(clause.sentence.contains(yes) && !clause.sentence.contains(no), "{clause:?}");
        assert!(
            clause.sentence.ends_with('.') && !clause.sentence.contains(". "),
            "one sentence: {clause:?}"
        );
    }
}

#[test]
fn every_clause_names_its_source() {
    for clause in written() {
        assert!(clause.text.contains("\n- Source: "), "clause {}", clause.id);
    }
}

#[test]
fn every_clause_names_its_law() {
    for (clause, written) in CLAUSES.iter().zip(written()) {
        let law = clause.law;
        assert!(
            written.text.contains(&format!("\n- Law: `{law}`\n")),
            "clause {} lacks its law {law}",
            clause.id
        );
    }
}
