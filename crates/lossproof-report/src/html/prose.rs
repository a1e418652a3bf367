//! Paragraphs, preformatted text, definitions, and what is certified and not covered.

use super::bounded;
use crate::model::{Coverage, Definition};
use crate::text;
use maud::{Markup, html};

/// The most definitions, or items of a list, that are shown.
const ITEMS: usize = 500;

pub(super) fn paragraph(paragraph: &str) -> Markup {
    html! { p { (text::line(paragraph, text::BLOCK)) } }
}

pub(super) fn preformatted(block: &str) -> Markup {
    html! { pre tabindex="0" { (text::block(block, text::BLOCK)) } }
}

pub(super) fn definitions(definitions: &[Definition]) -> Markup {
    let (definitions, note) = bounded(definitions, ITEMS, "definitions");
    html! {
        dl {
            @for definition in definitions {
                dt { (text::line(&definition.term, text::LINE)) }
                dd { (text::line(&definition.text, text::SENTENCE)) }
            }
        }
        (note)
    }
}

pub(super) fn coverage(coverage: &Coverage) -> Markup {
    html! {
        div.coverage {
            (items("certified", "Certified", &coverage.certified, "Nothing is certified."))
            (items("not-covered", "Not covered", &coverage.not_covered, "Nothing is left out."))
        }
    }
}

fn items(class: &str, heading: &str, all: &[String], none: &str) -> Markup {
    let (shown, note) = bounded(all, ITEMS, "statements");
    html! {
        div.(class) {
            h3 { (heading) }
            @if shown.is_empty() {
                p.note { (none) }
            } @else {
                ul { @for item in shown { li { (text::line(item, text::SENTENCE)) } } }
            }
            (note)
        }
    }
}
