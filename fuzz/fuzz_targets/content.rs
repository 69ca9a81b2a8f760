//! What a body decodes to does not depend on how it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap_core::content::assert_cuts_do_not_matter(data));
