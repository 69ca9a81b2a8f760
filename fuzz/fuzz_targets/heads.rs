//! Of any head exactly those lines go on that should.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap::proxy::assert_heads_are_sound(data));
