//! A report as one static page: no script, no network, no font of its own, and nothing that is taken for
//! markup.

mod axis;
mod checks;
mod colour;
mod curves;
mod heat_map;
mod kill_matrix;
mod panel;
mod prose;
mod table;

use crate::model::{Outcome, Part, Report, Section};
use crate::text;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// How the page looks, in both colour schemes and on paper.
const STYLE: &str = include_str!("style.css");
/// What the page may do: be styled by what stands in it. Were something not escaped, it still could not run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// From how many sections on there is a table of contents.
const SECTIONS_WITH_CONTENTS: usize = 4;

/// The report as one page of HTML, complete in itself. The same report gives the same bytes.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = text::line(&report.title, text::LINE);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – " (report.outcome.word()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report, &title))
                @if report.sections.len() >= SECTIONS_WITH_CONTENTS { (contents(&report.sections)) }
                main {
                    @for (index, each) in report.sections.iter().enumerate() { (section(index, each)) }
                }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report, title: &str) -> Markup {
    html! {
        header {
            h1 { (title) }
            p.verdict.(class(report.outcome)) {
                (sign(report.outcome)) " " strong { (capitalised(report.outcome.word())) } "."
                " " span { (text::line(&report.summary, text::SENTENCE)) }
            }
            @if !report.subject.is_empty() {
                ul.subject {
                    @for line in &report.subject { li { (text::line(line, text::SENTENCE)) } }
                }
            }
            pre.command tabindex="0" { code { (text::block(&report.command, text::COMMAND)) } }
        }
    }
}

fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-labelledby="contents" {
            h2 #contents { "Contents" }
            ol {
                @for (index, section) in sections.iter().enumerate() {
                    li { a href={ "#" (section_id(index)) } { (text::line(&section.heading, text::LINE)) } }
                }
            }
        }
    }
}

fn section(index: usize, section: &Section) -> Markup {
    let id = section_id(index);
    let heading = format!("{id}-heading");
    html! {
        section id=(id) aria-labelledby=(heading) {
            h2 id=(heading) { (text::line(&section.heading, text::LINE)) }
            @for (number, each) in section.parts.iter().enumerate() {
                (part(&format!("{id}-part-{}", number + 1), each))
            }
        }
    }
}

/// A part of a section. What it identifies in the page begins with `id`.
fn part(id: &str, part: &Part) -> Markup {
    match part {
        Part::Paragraph(text) => prose::paragraph(text),
        Part::Preformatted(text) => prose::preformatted(text),
        Part::Definitions(definitions) => prose::definitions(definitions),
        Part::Coverage(coverage) => prose::coverage(coverage),
        Part::Table(table) => table::table(table),
        Part::HeatMaps(maps) => heat_map::heat_maps(maps),
        Part::Curves(curves) => curves::curves(curves),
        Part::Checks(checks) => checks::checks(id, checks),
        Part::KillMatrix(matrix) => kill_matrix::kill_matrix(matrix),
    }
}

fn section_id(index: usize) -> String {
    format!("section-{}", index + 1)
}

/// The class of what has this outcome.
fn class(outcome: Outcome) -> &'static str {
    outcome.word()
}

/// The sign of an outcome, with its word for those who do not see it.
fn sign(outcome: Outcome) -> Markup {
    labelled_sign(outcome.sign(), outcome.word())
}

fn labelled_sign(sign: &str, word: &str) -> Markup {
    html! { span.sign role="img" aria-label=(word) { (sign) } }
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The first `limit` of `all`, and a paragraph that says so where there are more.
fn bounded<'a, T>(all: &'a [T], limit: usize, noun: &str) -> (&'a [T], Markup) {
    let shown = all.get(..limit).unwrap_or(all);
    let note = html! {
        @if shown.len() < all.len() {
            p.note { "The first " (shown.len()) " of " (all.len()) " " (noun) " are shown." }
        }
    };
    (shown, note)
}

/// What is wider than a phone scrolls by itself; its label is read where it is reached by the keyboard.
fn scrolling(label: &str, content: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(label) tabindex="0" { (content) } }
}
