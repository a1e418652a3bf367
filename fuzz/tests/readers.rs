//! Every reader reads or refuses, within its memory, whatever is changed of what it accepts. One test: memory
//! is counted for the whole process.

use lossproof_fuzz::{Entry, Feeder, Finding, READERS, Reader, Tally};

/// Inputs of each reader; `cargo xtask fuzz` hands over a million.
const INPUTS: u64 = 2000;

/// Characters of one string of an input that is larger than any of those.
const LONG: usize = 1 << 20;

#[test]
fn every_reader_reads_or_refuses() {
    for Entry { name, make, .. } in READERS {
        let reader = make().unwrap();
        let feeder = Feeder::new(&reader);
        let tally = Tally::of(&feeder, INPUTS, 0, |_| ());
        assert!(tally.is_clean(), "{name}: {:?}", tally.first);
        // A reader that refuses everything, or nothing, is not tried.
        assert!(tally.accepted > INPUTS / 100 && tally.accepted < INPUTS, "{name}: {}", tally.accepted);
        for valid in &reader.valid {
            long_strings(name, &feeder, valid);
        }
    }
    the_feeder_finds_what_a_reader_must_not_do();
}

/// Strings of a megabyte, in the first places where one begins.
fn long_strings(name: &str, feeder: &Feeder<'_>, valid: &[u8]) {
    let quotes = valid.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    for (quote, _) in quotes.step_by(2).take(8) {
        let (before, behind) = valid.split_at(quote + 1);
        let fed = feeder.feed(&[before, "x".repeat(LONG).as_bytes(), behind].concat());
        assert_eq!(fed.finding, None, "{name}");
    }
}

/// What the feeder finds of a reader on ten bytes.
fn found(read: impl Fn(&[u8]) -> Result<(), String> + 'static) -> Option<Finding> {
    let reader = Reader { file: None, multiple: 64, valid: Vec::new(), read: Box::new(read) };
    Feeder::new(&reader).feed(&[0; 10]).finding
}

/// Readers that do what none may.
fn the_feeder_finds_what_a_reader_must_not_do() {
    let panics = found(|bytes| Err(format!("{}", bytes[10])));
    assert!(matches!(&panics, Some(Finding::Panic(text)) if text.contains("out of bounds")), "{panics:?}");
    let hungry = found(|_| {
        let bytes = vec![1_u8; 1 << 30];
        Err(format!("{} bytes are no message", bytes.len()))
    });
    assert!(matches!(hungry, Some(Finding::Memory { peak, .. }) if peak >= 1 << 30), "{hungry:?}");
    let silent = found(|_| Err(String::new()));
    assert!(matches!(&silent, Some(Finding::Unfit(text)) if text.contains("empty")), "{silent:?}");
    let debug = found(|bytes| Err(format!("these bytes are none: {}", format!("{bytes:?}").repeat(200))));
    assert!(matches!(&debug, Some(Finding::Unfit(text)) if text.contains("at most")), "{debug:?}");
    assert_eq!(found(|_| Err("line 1: unknown field".to_owned())), None);
    assert_eq!(found(|_| Ok(())), None);
    // A valid input that is refused is one, too.
    let read = Box::new(|_: &[u8]| Err("line 1: no number".to_owned()));
    let reader = Reader { file: None, multiple: 1, valid: vec![b"1".to_vec()], read };
    let tally = Tally::of(&Feeder::new(&reader), 10, 0, |_| ());
    assert!(matches!(&tally.first[..], [(0, _, Finding::Refused(_))]), "{:?}", tally.first);
}
