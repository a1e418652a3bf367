//! Every reader of foreign bytes, fed with changed ones: it reads or refuses, within a stated amount of
//! memory.
//!
//! - [`READERS`] is the table of them: valid inputs, the call that reads, and the memory it may take;
//! - [`input`] makes an input out of valid ones, the same for the same number;
//! - [`Feeder`] hands one input to one reader and says what was wrong with what it did;
//! - [`fuzz`] is what a target of cargo-fuzz does.

mod bytes;
mod feeder;
mod mutation;
mod reader;
mod readers;
mod said;
mod tally;
mod texts;

pub use bytes::LONGEST;
pub use feeder::{Feeder, Finding, fuzz};
pub use mutation::input;
pub use reader::{FIXED, Made, Reader, Reading};
pub use readers::{Entry, READERS, named};
pub use said::{LONGEST_ERROR, unfit};
pub use tally::Tally;

/// Counts every byte that is allocated in a process with this library in it.
#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
