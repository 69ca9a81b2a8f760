//! Replays the saved fuzzing inputs as tests.
//!
//! Each fuzz target has one archive, `fuzz/corpus/<target>.tar.gz`, with one file for each input.
//! `scripts/fuzz` unpacks it, adds the inputs it finds, and packs it again.

use std::fs::File;
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::Archive;

/// Calls `check` with every saved input of a fuzz target. `check` panics when an input breaks a
/// rule.
///
/// # Panics
/// If the archive cannot be read or is empty, or if any input fails. The message names all inputs
/// that fail.
pub fn replay(target: &str, check: impl Fn(&[u8])) {
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{target}: the archive is empty");
    let fails = |input: &[u8]| panic::catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
    let failed: Vec<_> =
        inputs.iter().filter(|(_, input)| fails(input)).map(|(name, _)| name.as_str()).collect();
    assert!(failed.is_empty(), "{} of {} inputs fail: {}", failed.len(), inputs.len(), failed.join(", "));
}

/// The inputs of a target, each with its name in the archive.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fuzz/corpus/{target}.tar.gz"));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut inputs = Vec::new();
    for entry in Archive::new(GzDecoder::new(file)).entries().expect("the archive can be read") {
        let mut entry = entry.expect("the archive is whole");
        if entry.header().entry_type().is_file() {
            let name = entry.path().expect("names are UTF-8").display().to_string();
            let mut input = Vec::new();
            entry.read_to_end(&mut input).expect("the archive is whole");
            inputs.push((name, input));
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_fails_is_named() {
        let largest = inputs("sse").into_iter().max_by_key(|(_, input)| input.len()).expect("there are some");
        let fails = || replay("sse", |input| assert!(input != largest.1));
        let said = panic::catch_unwind(fails).expect_err("one input fails");
        let said = said.downcast::<String>().expect("panics have a message");
        assert!(said.starts_with("1 of ") && said.ends_with(&largest.0), "{said}");
    }
}
