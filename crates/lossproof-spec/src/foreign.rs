//! What strangers wrote, as an error may repeat it: not at any length, and nothing that a terminal obeys.

use serde::de::Error;

/// Bytes of what an error repeats at most.
const LONGEST: usize = 400;

/// Bytes of the end that are kept of what is longer: a reader says there where it was.
const END: usize = 80;

/// The same text with a space for every control character.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A name or a message of a stranger's, as an error may repeat it: printable, and with its beginning and its
/// end alone where it is long.
#[must_use]
pub fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return printable(text);
    }
    let beginning = &text[..text.floor_char_boundary(LONGEST - END)];
    let end = &text[text.ceil_char_boundary(text.len() - END)..];
    printable(&format!("{beginning} […] {end}"))
}

/// The same error of a deserializer, with its text [`shortened`]: it repeats unknown names and wrong values
/// whole.
#[must_use]
pub fn concise<E: Error>(error: E) -> E {
    let text = error.to_string();
    let shortened = shortened(&text);
    if shortened == text { error } else { E::custom(shortened) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_short_and_printable_stays_as_it_is() {
        assert_eq!(shortened("unknown field `é` at line 1 column 2"), "unknown field `é` at line 1 column 2");
        assert_eq!(shortened("a\u{1b}[2J\u{85}b\r\n"), "a [2J b  ");
        let long = shortened(&"é\u{7}".repeat(5000));
        assert!(long.len() < 500 && long.contains("[…]") && !long.contains('\u{7}'), "{long}");
    }

    #[test]
    fn an_error_keeps_its_place() {
        let text = format!("{{\n \"a\": \"{}\"}}", "x\\u001b".repeat(500));
        let error = serde_json::from_str::<BTreeMap<String, u64>>(&text).unwrap_err();
        let place = (error.line(), error.column());
        let error = concise(error);
        assert_eq!((error.line(), error.column()), place);
        assert!(error.is_data());
        let said = error.to_string();
        assert!(said.starts_with("invalid type: string \"xx") || said.len() < 600, "{said}");
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
}
