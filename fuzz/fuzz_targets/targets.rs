//! An upstream is what its text says, and any target reaches it unchanged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap::proxy::assert_targets_are_kept(&String::from_utf8_lossy(data)));
