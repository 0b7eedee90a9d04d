#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duralog_tests::fuzz("frame", bytes));
