//! Random talks with a server of Responses and Conversations, as capture sees them, and what becomes of them.
//!
//! A [`case`] says how the server writes and what clients, network and processes do. It is [played](play) through dialect and
//! correlator: streams are cut anywhere and go on later, exchanges are lost, clients leave, processes begin anew. The [`ledger`]
//! mirrors what capture was shown, and so knows what each record must say.

mod case;
mod ledger;
mod play;
mod server;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

#[test]
fn whatever_happens_records_of_responses_are_what_was_shown() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")),
        Err(_) => default,
    };
    let cases = u32::try_from(number("THREADTAP_MODEL_CASES", CASES)).unwrap();
    let seed = number("THREADTAP_MODEL_SEED", 1);
    let mut bytes = [1; 16]; // All zero is no seed.
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes));
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    let outcome = runner
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

const CASES: u64 = 1000;
