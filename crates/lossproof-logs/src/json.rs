//! JSON as trainers write it: Python's `json` writes NaN and infinities as bare words, which JSON does not have.

use crate::printed::Printed;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// The same text with its bare `NaN`, `Infinity` and `-Infinity` in quotes.
pub(crate) fn quoted(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if WORDS.iter().all(|word| !text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if !in_string && let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        match next {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && next == '\\' && !escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    Cow::Owned(out)
}

/// The numbers of an object by their names; those of objects in it by `outer/inner`. What is no number is left out.
pub(crate) fn numbers(object: &RawValue) -> Result<BTreeMap<String, Printed>, serde_json::Error> {
    let mut found = BTreeMap::new();
    collect("", object, &mut found)?;
    Ok(found)
}

fn collect(
    prefix: &str,
    object: &RawValue,
    found: &mut BTreeMap<String, Printed>,
) -> Result<(), serde_json::Error> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())?;
    for (name, value) in fields {
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        match value.get().as_bytes().first() {
            Some(b'{') => collect(&name, value, found)?,
            Some(b'-' | b'0'..=b'9') => {
                if let Some(number) = Printed::parse(value.get()) {
                    found.insert(name, number);
                }
            }
            Some(b'"') => {
                let text: String = serde_json::from_str(value.get())?;
                if let Some(number) = Printed::parse(&text).filter(|number| number.last_place.is_none()) {
                    found.insert(name, number);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_numbers_and_words_in_strings_are_none() {
        let text =
            r#"{"loss": NaN, "note": "NaN \" Infinity", "a": {"norm": -Infinity}, "n": 1.50, "s": "2.5"}"#;
        let quoted = quoted(text);
        let object: &RawValue = serde_json::from_str(&quoted).unwrap();
        let numbers = numbers(object).unwrap();
        assert_eq!(numbers.keys().collect::<Vec<_>>(), ["a/norm", "loss", "n"]);
        assert!(numbers["loss"].value.is_nan());
        assert_eq!(numbers["n"].last_place, Some(-2));
        assert!(matches!(super::quoted(r#"{"loss": 1}"#), Cow::Borrowed(_)));
    }
}
