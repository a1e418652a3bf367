//! What became of all inputs of one reader.

use crate::feeder::{Fed, Feeder, Finding};

/// Inputs shorter than this say nothing of a multiple: what a reader takes at any rate is most of it.
const TELLING: usize = 4096;

/// What became of all inputs of one reader.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Inputs.
    pub inputs: u64,
    /// Those that were read.
    pub accepted: u64,
    /// Panics.
    pub panics: u64,
    /// Errors that are none.
    pub unfit: u64,
    /// Inputs for which too much memory was taken.
    pub beyond: u64,
    /// Valid inputs that were refused.
    pub refused_valid: u64,
    /// Most bytes that were allocated at a time for each byte of an input of 4 KiB or more.
    pub multiple: f64,
    /// The number of the first input of each kind of finding, the input, and what was found.
    pub first: Vec<(u64, Vec<u8>, Finding)>,
}

impl Tally {
    /// Hands so many inputs to a reader; `before` hears the number of each before it is read.
    #[must_use]
    pub fn of(feeder: &Feeder<'_>, inputs: u64, seed: u64, mut before: impl FnMut(u64)) -> Self {
        let mut tally = Self::default();
        for number in 0..inputs {
            let bytes = feeder.input(number, seed);
            before(number);
            let mut fed = feeder.feed(&bytes);
            if feeder.is_valid(number) && !fed.accepted && fed.finding.is_none() {
                fed.finding = Some(Finding::Refused(format!("valid input {number} was refused")));
            }
            tally.add(&fed);
            if let Some(finding) = fed.finding {
                tally.keep(number, bytes, finding);
            }
        }
        tally
    }

    fn add(&mut self, fed: &Fed) {
        self.inputs += 1;
        self.accepted += u64::from(fed.accepted);
        if fed.bytes >= TELLING {
            self.multiple = self.multiple.max(fed.peak as f64 / fed.bytes as f64);
        }
        match fed.finding {
            None => {}
            Some(Finding::Panic(_)) => self.panics += 1,
            Some(Finding::Unfit(_)) => self.unfit += 1,
            Some(Finding::Memory { .. }) => self.beyond += 1,
            Some(Finding::Refused(_)) => self.refused_valid += 1,
        }
    }

    /// Keeps the first of each kind.
    fn keep(&mut self, number: u64, bytes: Vec<u8>, finding: Finding) {
        let kind = std::mem::discriminant(&finding);
        if self.first.iter().all(|(_, _, other)| std::mem::discriminant(other) != kind) {
            self.first.push((number, bytes, finding));
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.first.is_empty()
    }

    /// The tally as cells of a table.
    #[must_use]
    pub fn cells(&self) -> String {
        let Self { inputs, accepted, panics, unfit, beyond, .. } = self;
        let refused = inputs - accepted - panics;
        format!("{inputs} | {accepted} | {refused} | {panics} | {unfit} | {beyond} | {:.1}", self.multiple)
    }
}
