//! JSON as trainers write it: Python's `json` writes NaN and infinities as bare words, which JSON does not have.

use crate::printed::Printed;
use lossproof_spec::shortened;
use serde::de::Error as _;
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

/// Bytes of the name of a number, with those of the objects that it is in: each number keeps all of it.
const LONGEST_NAME: usize = 256;

/// Objects that lie in one another.
const DEEPEST: usize = 32;

/// The numbers of an object by their names; those of objects in it by `outer/inner`. What is no number is left out.
pub(crate) fn numbers(object: &RawValue) -> Result<BTreeMap<String, Printed>, serde_json::Error> {
    let mut found = BTreeMap::new();
    collect("", DEEPEST, object, &mut found)?;
    Ok(found)
}

fn collect(
    prefix: &str,
    deeper: usize,
    object: &RawValue,
    found: &mut BTreeMap<String, Printed>,
) -> Result<(), serde_json::Error> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())?;
    for (name, value) in fields {
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let number = match value.get().as_bytes().first() {
            Some(b'{') => {
                short(&name)?;
                let problem = || format!("objects lie in one another more than {DEEPEST} deep");
                let deeper = deeper.checked_sub(1).ok_or_else(|| serde_json::Error::custom(problem()))?;
                collect(&name, deeper, value, found)?;
                None
            }
            Some(b'-' | b'0'..=b'9') => Printed::parse(value.get()),
            Some(b'"') => {
                let text: String = serde_json::from_str(value.get())?;
                Printed::parse(&text).filter(|number| number.last_place.is_none())
            }
            _ => None,
        };
        if let Some(number) = number {
            short(&name)?;
            found.insert(name, number);
        }
    }
    Ok(())
}

/// Refuses a name that is too long for all that may bear it.
fn short(name: &str) -> Result<(), serde_json::Error> {
    if name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let problem = format!("the name `{}` has more than {LONGEST_NAME} bytes", shortened(name));
    Err(serde_json::Error::custom(problem))
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

    #[test]
    fn objects_are_not_deep_and_names_not_long() {
        let numbers = |text: &str| numbers(serde_json::from_str(text).unwrap());
        let nested = |depth: usize, name: &str| {
            format!("{}1{}", format!("{{\"{name}\":").repeat(depth), "}".repeat(depth))
        };
        assert_eq!(numbers(&nested(DEEPEST, "a")).unwrap().len(), 1);
        // A stack overflows at some ten thousands, and nobody can catch that.
        for name in ["", "a"] {
            let error = numbers(&nested(100_000, name)).unwrap_err().to_string();
            assert!(error.contains("more than 32 deep"), "{error}");
        }
        let error = numbers(&nested(2, &"x".repeat(200))).unwrap_err().to_string();
        assert!(error.contains("more than 256 bytes") && error.len() < 1000, "{error}");
    }
}
