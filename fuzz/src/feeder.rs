//! One input to one reader: whether it panicked, took too much memory, or said nothing of use.

use crate::{MEMORY, Reader, input, named, said::unfit};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a reader did that it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It panicked.
    Panic(String),
    /// It refused with an error that is none: what is wrong with it.
    Unfit(String),
    /// It took more memory than it may.
    Memory {
        /// Bytes that were allocated at a time.
        peak: usize,
        /// Bytes that may be.
        allowed: usize,
    },
    /// It refused an input that nothing was changed of.
    Refused(String),
}

/// What became of one input.
#[derive(Clone, Debug)]
pub struct Fed {
    /// Bytes of the input.
    pub bytes: usize,
    /// Bytes that were allocated at a time to read it.
    pub peak: usize,
    /// Whether it was read.
    pub accepted: bool,
    /// What was wrong with that.
    pub finding: Option<Finding>,
}

/// Hands inputs to a reader.
pub struct Feeder<'a> {
    reader: &'a Reader,
}

impl<'a> Feeder<'a> {
    /// Of this reader.
    #[must_use]
    pub fn new(reader: &'a Reader) -> Self {
        Self { reader }
    }

    /// The input of a number: the first are the valid ones, as they are.
    #[must_use]
    pub fn input(&self, number: u64, seed: u64) -> Vec<u8> {
        let unchanged = usize::try_from(number).ok().and_then(|number| self.reader.valid.get(number));
        unchanged.cloned().unwrap_or_else(|| input(&self.reader.valid, seed.wrapping_add(number)))
    }

    /// Whether nothing is changed of the input of a number.
    #[must_use]
    pub fn is_valid(&self, number: u64) -> bool {
        usize::try_from(number).is_ok_and(|number| number < self.reader.valid.len())
    }

    /// Hands one over. Nothing else may allocate in this process at the same time.
    #[must_use]
    pub fn feed(&self, bytes: &[u8]) -> Fed {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let read = catch_unwind(AssertUnwindSafe(|| (self.reader.read)(bytes)));
        let peak = MEMORY.peak_usage().saturating_sub(before);
        let allowed = self.reader.allowed(bytes.len());
        let accepted = matches!(read, Ok(Ok(())));
        let finding = match read {
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Some(Finding::Panic(text.unwrap_or_default()))
            }
            Ok(_) if peak > allowed => Some(Finding::Memory { peak, allowed }),
            Ok(Ok(())) => None,
            Ok(Err(error)) => unfit(&error, self.reader.file).map(Finding::Unfit),
        };
        Fed { bytes: bytes.len(), peak, accepted, finding }
    }
}

thread_local! {
    static MADE: RefCell<BTreeMap<String, Reader>> = const { RefCell::new(BTreeMap::new()) };
}

/// Hands an input to the reader of a name, which is made once: what a target of cargo-fuzz does.
///
/// # Panics
/// At a finding, which is how cargo-fuzz learns of it, and when there is no such reader.
pub fn fuzz(name: &str, bytes: &[u8]) {
    MADE.with_borrow_mut(|made| {
        let reader = made.entry(name.to_owned()).or_insert_with(|| {
            let entry = named(name).expect("the name is one of the table");
            (entry.make)().expect("its files can be made")
        });
        let fed = Feeder::new(reader).feed(bytes);
        assert_eq!(fed.finding, None, "{name}");
    });
}
