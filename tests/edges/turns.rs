//! Random talks with a server of Responses and Conversations, as capture sees them, and what becomes of them.
//!
//! A [`case`] says how the server writes and what clients, network and processes do. It is [played](play) through dialect and
//! correlator: streams are cut anywhere and go on later, exchanges are lost, clients leave, processes begin anew. The [`ledger`]
//! mirrors what capture was shown, and so knows what each record must say.

mod case;
mod ledger;
mod play;
mod server;

use proptest::test_runner::TestCaseError;

use crate::sample::Sample;

#[test]
fn whatever_happens_records_of_responses_are_what_was_shown() {
    let sample = Sample::of(CASES);
    let Sample { cases, seed } = sample;
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    let outcome = sample
        .runner()
        .run(&case::case(), |case| play::play(&case, &mut seen.borrow_mut()).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("seed {seed}: {error}");
    }
    let seen = seen.into_inner();
    println!("{cases} cases, seed {seed}: {seen:#?}");
    for cell in ledger::CELLS {
        assert!(cases < 500 || seen.contains_key(cell), "no record was ever {cell}");
    }
}

const CASES: u32 = 1000;
