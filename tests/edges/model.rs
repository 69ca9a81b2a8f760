//! Random conversations with the fake server, as capture sees them, and what becomes of them.
//!
//! A [`case`] says how the server is and what clients, network and processes do. It is [played](play) without sockets: requests go
//! to the server as a value, the bytes of its answers through dialect and correlator, cut anywhere; time passes, exchanges are
//! lost, late, repeated and broken off, processes are killed and begin anew. Each record is held by the [`oracle`] against the
//! server's own truth and the [`ledger`] of what was shown. Failing cases are made small and printed with their seed; a longer
//! form is `scripts/model`.

mod case;
mod coverage;
mod ledger;
mod oracle;
mod play;

use std::cell::RefCell;

use proptest::test_runner::{TestCaseError, TestError};

use coverage::Coverage;

use crate::sample::Sample;

#[test]
fn whatever_happens_records_are_what_the_server_knows() {
    let sample = Sample::of(CASES);
    let Sample { cases, seed } = sample;
    let coverage = RefCell::new(Coverage::default());
    let outcome = sample.runner().run(&case::case(), |case| {
        play::play(&case, &mut coverage.borrow_mut()).map_err(TestCaseError::fail)
    });
    if let Err(TestError::Fail(wrong, case)) = outcome {
        let (wrong, case) = smallest(wrong.to_string(), case);
        let steps: Vec<String> = case.steps.iter().map(|step| format!("{step:?}")).collect();
        panic!("seed {seed}: {wrong}\n{:?}\n{}", case.setup, steps.join("\n"));
    }
    outcome.unwrap();
    let coverage = coverage.into_inner();
    println!("{cases} cases, seed {seed}\n{}", coverage.table());
    let empty = coverage.empty();
    assert!(cases < CASES || empty.is_empty(), "seed {seed}: {cases} cases never came to {empty:#?}");
}

/// Leaves out every step that the failure does not need.
fn smallest(mut wrong: String, mut case: case::Case) -> (String, case::Case) {
    for at in (0..case.steps.len()).rev() {
        let mut smaller = case.clone();
        smaller.steps.remove(at);
        if let Err(still) = play::play(&smaller, &mut Coverage::default()) {
            (wrong, case) = (still, smaller);
        }
    }
    (wrong, case)
}

/// So many that every cell is come to, and as few as a normal run of the tests can bear.
const CASES: u32 = 3000;
