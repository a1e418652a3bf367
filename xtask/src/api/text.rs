//! What stands in the source, on one line.

use syn::Generics;
use syn::spanned::Spanned;

/// The source of `part`, on one line and as rustfmt writes it where there is room.
pub(super) fn of(part: &impl Spanned) -> String {
    one_line(&part.span().source_text().unwrap_or_default())
}

/// `text` without line breaks, nor what rustfmt writes beside them only.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    for (broken, whole) in [
        ("( ", "("),
        (", )", ")"),
        (" )", ")"),
        ("[ ", "["),
        (", ]", "]"),
        (" ]", "]"),
        (", >", ">"),
        ("< ", "<"),
    ] {
        line = line.replace(broken, whole);
    }
    line
}

/// `<'a, T: Bound>`, or nothing.
pub(super) fn generics(generics: &Generics) -> String {
    if generics.params.is_empty() { String::new() } else { of(generics) }
}

/// ` where T: Bound`, or nothing.
pub(super) fn bounds(generics: &Generics) -> String {
    generics.where_clause.as_ref().map_or_else(String::new, |clause| {
        let clause = of(clause);
        format!(" {}", clause.trim_end_matches(','))
    })
}
