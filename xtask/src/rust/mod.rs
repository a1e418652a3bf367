//! The source of a crate as it is written: its modules, what they declare, and what a path in them means.

pub(crate) mod code;
pub(crate) mod imports;
pub(crate) mod names;
pub(crate) mod tree;
