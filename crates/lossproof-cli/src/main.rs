//! The lossproof command.
fn main() {}
