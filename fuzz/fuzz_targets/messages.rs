//! Messages of HTTP/1 are read the same however they are cut, and written so that they are read as the same again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap_http::http1::assert_messages_are_sound(data));
