//! Whether a client has begun to speak does not depend on how its bytes are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap::net::assert_greetings_are_told(data));
