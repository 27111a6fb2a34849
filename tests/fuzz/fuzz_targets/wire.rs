#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| s3cors_fuzz::wire(bytes));
