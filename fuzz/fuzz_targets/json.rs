//! JSON of any kind becomes JSON that any reader takes, of bounded size.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap_core::dialect::assert_any_json_is_cleaned(data));
