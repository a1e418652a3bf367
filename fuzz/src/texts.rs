//! Changes to text: its numbers, its depth, its strings and its elements.

use crate::bytes::{LONGEST, place};
use rand::{RngExt as _, rngs::ChaCha8Rng};
use std::ops::Range;

/// Numbers at which a reader may break.
const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "-1",
    "1.5",
    "1e400",
    "-1e400",
    "1e-400",
    "0.1e1000000000000",
    "NaN",
    "nan",
    "-inf",
    "Infinity",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1.7976931348623157e308",
    "5e-324",
];

/// What may stand for a value.
const VALUES: [&str; 12] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "[[]]",
    "{\"a\":{}}",
    "\"NaN\"",
    "[1,\"a\",null]",
    "\"\\u0000\"",
    "\"\u{1b}[2J\"",
    "-",
];

/// How one level of a nested value begins and ends.
const LEVELS: [(&str, &str); 6] =
    [("[", "]"), ("{\"a\":", "}"), ("{\"\":", "}"), ("{\"a\":1,\"b\":", "}"), ("{a=", "}"), ("a.", "")];

/// Levels of a nested value, digits of a number and characters of a name at most.
const DEEPEST: usize = 8000;

/// The runs of bytes that have something in common.
fn runs(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, &byte) in bytes.iter().enumerate() {
        match runs.last_mut() {
            _ if !belongs(byte) => {}
            Some(last) if last.end == place => last.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

/// The place of a number, or any.
fn number_place(bytes: &[u8], random: &mut ChaCha8Rng) -> Range<usize> {
    let numbers = runs(bytes, |byte| byte.is_ascii_digit() || b"-+.".contains(&byte));
    if numbers.is_empty() {
        let place = place(bytes, random);
        return place..place;
    }
    numbers[random.random_range(0..numbers.len())].clone()
}

/// Another number for one.
pub(crate) fn number(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let range = number_place(bytes, random);
    let new = match random.random_range(0..8) {
        0 => "9".repeat(length(random)),
        1 => format!("0.{}1", "0".repeat(length(random))),
        2 => random.random::<u64>().to_string(),
        _ => NUMBERS[random.random_range(0..NUMBERS.len())].to_owned(),
    };
    drop(bytes.splice(range, new.into_bytes()));
}

/// A value in many others for a number.
pub(crate) fn nest(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let range = number_place(bytes, random);
    let depth = length(random);
    let (open, close) = LEVELS[random.random_range(0..LEVELS.len())];
    let mut new = open.repeat(depth);
    new.push('1');
    if random.random_range(0..4) > 0 {
        new.push_str(&close.repeat(depth));
    }
    drop(bytes.splice(range, new.into_bytes()));
}

/// Many characters in a string, or wherever there is none.
pub(crate) fn long(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const CHARACTERS: [&str; 4] = ["x", "\u{e9}", "\\n", "a/"];
    let place = in_a_string(bytes, random);
    let new = CHARACTERS[random.random_range(0..CHARACTERS.len())].repeat(length(random));
    drop(bytes.splice(place..place, new.into_bytes()));
}

/// Characters in a string that a terminal may obey, plain or escaped.
pub(crate) fn control(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const CHARACTERS: [&str; 4] = ["\u{1b}[2J", "\\u001b]0;x\\u0007", "\\r", "\u{85}"];
    let place = in_a_string(bytes, random);
    let new = CHARACTERS[random.random_range(0..CHARACTERS.len())];
    drop(bytes.splice(place..place, new.bytes()));
}

/// An element of a list, or a line, many times.
pub(crate) fn repeat_element(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let Some(range) = element(bytes, random) else { return };
    let times = length(random).min(LONGEST / range.len());
    let new = bytes[range.clone()].repeat(times);
    drop(bytes.splice(range, new));
}

/// The same, with a number in the first string of each: names that are all different.
pub(crate) fn repeat_numbered(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let Some(range) = element(bytes, random) else { return };
    let one = bytes[range.clone()].to_vec();
    let Some(quote) = one.iter().position(|&byte| byte == b'"') else { return };
    let times = length(random).min(LONGEST / one.len());
    let mut new = Vec::new();
    for number in 0..times {
        new.extend_from_slice(&one[..=quote]);
        new.extend_from_slice(number.to_string().as_bytes());
        new.extend_from_slice(&one[quote + 1..]);
    }
    drop(bytes.splice(range, new));
}

/// A value of another kind for a string or a number.
pub(crate) fn other_value(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let quotes = runs(bytes, |byte| byte == b'"');
    let range = if random.random() && quotes.len() > 1 {
        let first = random.random_range(0..quotes.len() - 1);
        quotes[first].start..quotes[first + 1].end
    } else {
        number_place(bytes, random)
    };
    let new = VALUES[random.random_range(0..VALUES.len())];
    drop(bytes.splice(range, new.bytes()));
}

/// How long or deep something is: mostly short, and seldom as long as may be.
fn length(random: &mut ChaCha8Rng) -> usize {
    let most = 1 << random.random_range(1..=DEEPEST.ilog2());
    random.random_range(1..=most)
}

/// A place behind a quotation mark, or any.
fn in_a_string(bytes: &[u8], random: &mut ChaCha8Rng) -> usize {
    let quotes = runs(bytes, |byte| byte == b'"');
    if quotes.is_empty() { place(bytes, random) } else { quotes[random.random_range(0..quotes.len())].end }
}

/// What stands between two commas, or two ends of lines, with the second of them.
fn element(bytes: &[u8], random: &mut ChaCha8Rng) -> Option<Range<usize>> {
    let end = if random.random_range(0..4) == 0 { b'\n' } else { b',' };
    let ends = runs(bytes, |byte| byte == end);
    let second = random.random_range(0..ends.len().max(1));
    let last = ends.get(second)?.end;
    // Sometimes several elements.
    let first = second.checked_sub(random.random_range(1..=3)).map_or(0, |first| ends[first].end);
    Some(first..last)
}
