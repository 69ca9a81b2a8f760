//! How many random cases a test plays, and which.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// So many random cases, always the same for one seed.
pub(crate) struct Sample {
    pub(crate) cases: u32,
    pub(crate) seed: u64,
}

impl Sample {
    /// As many cases as a normal run of the tests can bear, or what `THREADTAP_MODEL_CASES` and `THREADTAP_MODEL_SEED` say
    /// (`scripts/model`).
    pub(crate) fn of(usual_cases: u32) -> Self {
        Self {
            cases: variable("THREADTAP_MODEL_CASES").unwrap_or(usual_cases),
            seed: variable("THREADTAP_MODEL_SEED").unwrap_or(1),
        }
    }

    pub(crate) fn runner(&self) -> TestRunner {
        let config = Config {
            cases: self.cases,
            max_shrink_iters: 20_000,
            failure_persistence: None,
            ..Config::default()
        };
        let mut bytes = [1; 16]; // All zero is no seed.
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        // Each choice between strategies begins a generator of its own, and ChaCha's beginning took a third of the time.
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}
