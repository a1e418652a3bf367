//! The reader `loop-recording` of the table in fuzz/src/readers.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lossproof_fuzz::fuzz("loop-recording", bytes));
