//! Lists of checks: those that did not pass with what a person needs to understand them, then all of them.

use super::{bounded, capitalised, labelled_sign, scrolling};
use crate::model::{Check, CheckOutcome, Checks};
use crate::{number, text};
use maud::{Markup, html};

/// The most checks that are listed.
const LISTED: usize = 1_000;
/// The most checks that are told at length.
const TOLD: usize = 200;
/// The most numbers of a check that are listed.
const MEASURES: usize = 20;

/// `id` is what the identifiers of the list begin with.
pub(super) fn checks(id: &str, checks: &Checks) -> Markup {
    let mut told = Vec::new();
    for (index, check) in checks.checks.iter().enumerate() {
        if is_told(check) {
            told.push((index, check));
        }
    }
    let (told, note) = bounded(&told, TOLD, "checks that did not pass");
    let linked = told.last().map_or(0, |(index, _)| index + 1);
    html! {
        p.counts { (counts(checks)) }
        @for (index, check) in told { (article(&check_id(id, *index), check)) }
        (note)
        (list(id, checks, linked))
    }
}

/// Whether there is more to say of a check than fits in a list. What was skipped has its reason there.
fn is_told(check: &Check) -> bool {
    !matches!(check.outcome, CheckOutcome::Passed | CheckOutcome::Skipped(_))
}

fn check_id(id: &str, index: usize) -> String {
    format!("{id}-check-{}", index + 1)
}

fn counts(checks: &Checks) -> Markup {
    let words = CheckOutcome::WORDS.iter().map(|word| (*word, checks.count(word)));
    html! {
        (text::line(&checks.name, text::LINE)) ": "
        @if checks.checks.is_empty() { "no checks" }
        @for (index, (word, count)) in words.filter(|(_, count)| *count > 0).enumerate() {
            @if index > 0 { ", " }
            span.(word) { (count) " " (word) }
        }
    }
}

/// A check that did not pass: its reason, its details, and the line that tries it again.
fn article(id: &str, check: &Check) -> Markup {
    html! {
        article.check.(check.outcome.word()) id=(id) {
            h3 {
                span.(check.outcome.word()) { (sign(&check.outcome)) }
                " " code { (text::line(&check.id, text::NAME)) } " " span.word { (check.outcome.word()) }
            }
            p.what { (capitalised(&text::line(&check.what, text::SENTENCE))) }
            @if let Some(reason) = check.outcome.reason() {
                p.reason { (capitalised(&text::line(reason, text::SENTENCE))) }
            }
            (rest(check))
        }
    }
}

fn rest(check: &Check) -> Markup {
    html! {
        @if !check.details.is_empty() {
            pre tabindex="0" { (text::block(&check.details, text::BLOCK)) }
        }
        @if let Some(rerun) = &check.rerun {
            p.rerun-label { "Again:" }
            pre.command tabindex="0" { code { (text::block(rerun, text::COMMAND)) } }
        }
    }
}

/// All checks in their order. Those before `linked` that are told at length lead there.
fn list(id: &str, checks: &Checks, linked: usize) -> Markup {
    let (shown, note) = bounded(&checks.checks, LISTED, "checks");
    let measures = measures(shown);
    let timed = shown.iter().any(|check| check.seconds.is_some());
    let caption = format!("All checks of {}", text::line(&checks.name, text::LINE));
    let content = html! {
        table.checks aria-label=(caption) {
            thead {
                tr {
                    th scope="col" { "check" }
                    th scope="col" { "outcome" }
                    th scope="col" { "what it says" }
                    @for name in &measures { th.end scope="col" { (text::line(name, text::NAME)) } }
                    @if timed { th.end scope="col" { "seconds" } }
                }
            }
            tbody {
                @for (index, check) in shown.iter().enumerate() {
                    @let target = (is_told(check) && index < linked).then(|| check_id(id, index));
                    (row(check, target.as_deref(), &measures, timed))
                }
            }
        }
    };
    html! { @if !shown.is_empty() { p.caption { (caption) } (scrolling(&caption, &content)) (note) } }
}

fn row(check: &Check, target: Option<&str>, measures: &[&str], timed: bool) -> Markup {
    let name = html! { code { (text::line(&check.id, text::NAME)) } };
    html! {
        tr {
            th scope="row" {
                @if let Some(target) = target { a href={ "#" (target) } { (name) } } @else { (name) }
            }
            td.outcome.(check.outcome.word()) { (sign(&check.outcome)) " " (check.outcome.word()) }
            td.what {
                (text::line(&check.what, text::SENTENCE))
                @if let CheckOutcome::Skipped(reason) = &check.outcome {
                    span.reason { " Skipped: " (text::line(reason, text::SENTENCE)) }
                }
                @if matches!(check.outcome, CheckOutcome::Passed) && !check.details.is_empty() {
                    details { summary { "details" } (rest(check)) }
                }
            }
            @for name in measures { td.end { (measured(check, name)) } }
            @if timed { td.end { @if let Some(seconds) = check.seconds { (number::short(seconds)) } } }
        }
    }
}

/// The names of what the checks measured, in the order in which they first occur.
fn measures(checks: &[Check]) -> Vec<&str> {
    let mut names = Vec::new();
    for measure in checks.iter().flat_map(|check| &check.measures) {
        if names.len() < MEASURES && !names.contains(&measure.name.as_str()) {
            names.push(measure.name.as_str());
        }
    }
    names
}

fn measured(check: &Check, name: &str) -> String {
    let found = check.measures.iter().find(|measure| measure.name == name);
    found.map_or_else(String::new, |measure| number::short(measure.value))
}

fn sign(outcome: &CheckOutcome) -> Markup {
    labelled_sign(outcome.sign(), outcome.word())
}
