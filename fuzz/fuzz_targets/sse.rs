//! The events of a stream do not depend on how it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| threadtap_core::sse::assert_cuts_do_not_matter(data));
