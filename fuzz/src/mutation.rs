//! An input out of valid ones: some changes, drawn from a number, so that the same number is the same input.

use crate::{
    bytes::{LONGEST, place},
    texts,
};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use std::ops::Range;

/// Changes to one input at most.
const MOST_CHANGES: usize = 5;

/// Of so many inputs one is noise, and one is made of two valid ones.
const NOISE: u32 = 64;
const SPLICED: u32 = 8;

/// A change to bytes.
type Change = fn(&mut Vec<u8>, &mut ChaCha8Rng);

/// What is done to any bytes.
const TO_BYTES: [Change; 8] = [replace, insert, remove, truncate, duplicate, swap, word, repeat];

/// What is done to text besides, and to the text in a header.
const TO_TEXT: [Change; 8] = [
    texts::number,
    texts::number,
    texts::nest,
    texts::long,
    texts::control,
    texts::repeat_element,
    texts::repeat_numbered,
    texts::other_value,
];

/// The input of a number, made of these.
#[must_use]
pub fn input(valid: &[Vec<u8>], number: u64) -> Vec<u8> {
    let random = &mut ChaCha8Rng::seed_from_u64(number);
    if valid.is_empty() || random.random_range(0..NOISE) == 0 {
        return noise(random);
    }
    let mut bytes = valid[random.random_range(0..valid.len())].clone();
    if random.random_range(0..SPLICED) == 0 {
        let other = &valid[random.random_range(0..valid.len())];
        let (end, start) = (place(&bytes, random), place(other, random));
        bytes.truncate(end);
        bytes.extend_from_slice(&other[start..]);
    }
    match parted(&bytes) {
        // A header whose length is not right is refused before anything in it is read.
        Some((header, data)) if random.random_range(0..4) > 0 => {
            let (mut header, mut data) = (header.to_vec(), data.to_vec());
            if random.random_range(0..4) == 0 {
                change(&mut data, random);
            }
            change(&mut header, random);
            bytes = joined(&header, &data);
        }
        _ => change(&mut bytes, random),
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Some changes, one after the other.
fn change(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    // What is changed once is more often read to its end than what is changed all over.
    let changes = if random.random() { 1 } else { random.random_range(1..=MOST_CHANGES) };
    for _ in 0..changes {
        let change = if random.random() {
            TO_BYTES[random.random_range(0..TO_BYTES.len())]
        } else {
            TO_TEXT[random.random_range(0..TO_TEXT.len())]
        };
        change(bytes, random);
        bytes.truncate(LONGEST);
    }
}

/// Header and data of what begins like a safetensors file: the header's length, and its text.
fn parted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, data) = rest.split_at_checked(length)?;
    header.starts_with(b"{").then_some((header, data))
}

fn joined(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn noise(random: &mut ChaCha8Rng) -> Vec<u8> {
    let length = random.random_range(0..512);
    (0..length).map(|_| random.random()).collect()
}

/// A range of bytes, more often a short one.
fn range(bytes: &[u8], random: &mut ChaCha8Rng) -> Range<usize> {
    let start = place(bytes, random);
    let longest = if random.random() { 16 } else { bytes.len() };
    start..start + random.random_range(0..=(bytes.len() - start).min(longest))
}

/// A byte: any, or one that means something to a reader of text.
fn byte(random: &mut ChaCha8Rng) -> u8 {
    const TELLING: &[u8] = b"\"\\{}[]:,=#.-+eE0 \n\r\t\0\x1b\x7f\x80\xff";
    if random.random() { random.random() } else { TELLING[random.random_range(0..TELLING.len())] }
}

#[expect(clippy::ptr_arg, reason = "one of a table of changes, some of which change the length")]
fn replace(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let range = range(bytes, random);
    // One at a time tells more than many.
    if let Some(first) = bytes[range].first_mut() {
        *first = byte(random);
    }
}

fn insert(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let place = place(bytes, random);
    let new: Vec<u8> = (0..random.random_range(1..4)).map(|_| byte(random)).collect();
    drop(bytes.splice(place..place, new));
}

fn remove(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    drop(bytes.drain(range(bytes, random)));
}

fn truncate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    bytes.truncate(place(bytes, random));
}

fn duplicate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let copy = bytes[range(bytes, random)].to_vec();
    let place = place(bytes, random);
    drop(bytes.splice(place..place, copy));
}

fn repeat(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let range = range(bytes, random);
    let times = 1 << random.random_range(0..12);
    let copies = bytes[range.clone()].repeat(times.min(LONGEST / range.len().max(1)));
    drop(bytes.splice(range, copies));
}

/// Swaps two ranges of bytes.
fn swap(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let (one, other) = (range(bytes, random), range(bytes, random));
    let (first, second) = if one.start <= other.start { (one, other) } else { (other, one) };
    if first.end > second.start {
        return;
    }
    let parts = [
        &bytes[..first.start],
        &bytes[second.clone()],
        &bytes[first.end..second.start],
        &bytes[first],
        &bytes[second.end..],
    ];
    *bytes = parts.concat();
}

/// Makes one of the words of a binary file an extreme number: a length, a size, a magic number.
#[expect(clippy::ptr_arg, reason = "one of a table of changes, some of which change the length")]
fn word(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const EXTREME: [u64; 9] =
        [0, 1, 8, 255, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64, u64::MAX, 100_000_000];
    let value = EXTREME[random.random_range(0..EXTREME.len())];
    let width = if random.random() { 4 } else { 8 };
    // Headers are short and at the start.
    let words = (bytes.len() / width).min(16);
    if words > 0 {
        let start = random.random_range(0..words) * width;
        bytes[start..start + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_the_same_input_and_another_is_another() {
        let valid = [b"{\"a\": 1.5, \"b\": [1, 2, 3]}".to_vec(), b"{\"c\": \"text\"}".to_vec()];
        let inputs: Vec<_> = (0..500).map(|number| input(&valid, number)).collect();
        assert!((0..500).all(|number| input(&valid, number) == inputs[usize::try_from(number).unwrap()]));
        let mut different = inputs.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > 400, "{}", different.len());
        assert!(inputs.iter().all(|input| input.len() <= LONGEST));
        assert!(inputs.iter().any(|input| input.len() > LONGEST / 2));
    }

    #[test]
    fn the_header_of_a_changed_safetensors_file_mostly_has_its_length() {
        let valid = [joined(b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", &[0; 4])];
        let whole = |number: &u64| {
            let bytes = input(&valid, *number);
            parted(&bytes).is_some() && bytes != valid[0]
        };
        assert!((0..500).filter(whole).count() > 150);
    }
}
