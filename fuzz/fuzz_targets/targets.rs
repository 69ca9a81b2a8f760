//! An upstream is what its text says, and any target reaches it unchanged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| threadtap::proxy::assert_targets_are_kept(data));
