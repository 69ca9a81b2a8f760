//! Holds the steps of capture to the instructions they may take, roughly: what doubles the cost of a step fails here, whatever
//! else the machine does at the time.
//!
//! The program runs itself under callgrind, for each step once and a few times more; the difference is the step's own. Limits
//! are for the test profile, a quarter above what was counted when they were set; an optimised build is far below them.
//!
//! Where valgrind is not installed, the steps are skipped, which is said. `THREADTAP_REQUIRE_VALGRIND=1` makes that an error.

#![cfg(target_os = "linux")]

#[path = "../benches/micro/work.rs"]
mod work;

use std::hint::black_box;
use std::io::Write;
use std::process::Command;

use work::Work;

fn check(step: &str, most: u64) {
    if !has_valgrind() {
        assert!(
            std::env::var_os(REQUIRE_VALGRIND).is_none(),
            "valgrind is not installed: {step} cannot be measured"
        );
        let said =
            format!("\nSKIPPED: the instructions of \"{step}\" are not counted, valgrind is not installed\n");
        // The macros would print this only when a test fails.
        std::io::stderr().write_all(said.as_bytes()).expect("stderr is open");
        return;
    }
    let instructions = (counted(step, 1 + TIMES) - counted(step, 1)) / TIMES;
    assert!(
        instructions <= most,
        "{step} takes {instructions} instructions for a run, at most {most} are allowed"
    );
    assert!(instructions > most / 100, "{step} takes {instructions} instructions: is it measured at all?");
}

fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The instructions of this program when it does a step so often and nothing else.
fn counted(step: &str, times: u64) -> u64 {
    let program = std::env::current_exe().expect("a program knows where it is");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--exact", "one_step_alone", "--nocapture", "--test-threads=1"])
        .env(STEP, format!("{step} {times}"))
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("callgrind counted nothing: {said}"))
}

/// What callgrind counts; on its own it has nothing to do.
#[test]
fn one_step_alone() {
    let Ok(wish) = std::env::var(STEP) else { return };
    let (step, times) = wish.rsplit_once(' ').unwrap();
    let work = Work::new();
    for _ in 0..times.parse().unwrap() {
        match step {
            "correlator" => {
                black_box(work.correlator());
            }
            "dialect" => {
                black_box(work.dialect());
            }
            "message" => {
                black_box(work.message());
            }
            "polls" => {
                black_box(work.polls());
            }
            "polled turn" => {
                assert_eq!(work.polled_turn(), 1);
            }
            "store" => work.store(),
            "sink" => {
                black_box(work.sink());
            }
            "sse" => {
                black_box(work.sse());
            }
            "tee" => {
                black_box(work.tee());
            }
            other => panic!("there is no step {other}"),
        }
    }
}

#[test]
fn the_correlator_keeps_to_its_instructions() {
    check("correlator", 380_000);
}

#[test]
fn the_dialect_keeps_to_its_instructions() {
    check("dialect", 11_960_000);
}

#[test]
fn a_created_message_keeps_to_its_instructions() {
    check("message", 505_000);
}

#[test]
fn polls_that_tell_nothing_new_keep_to_their_instructions() {
    check("polls", 3_780_000);
}

#[test]
fn a_polled_turn_keeps_to_its_instructions() {
    check("polled turn", 6_850_000);
}

#[test]
fn the_store_keeps_to_its_instructions() {
    check("store", 1_160_000);
}

#[test]
fn the_sink_keeps_to_its_instructions() {
    check("sink", 1_540_000);
}

#[test]
fn the_sse_decoder_keeps_to_its_instructions() {
    check("sse", 2_560_000);
}

#[test]
fn the_tee_keeps_to_its_instructions() {
    check("tee", 4_270_000);
}

const REQUIRE_VALGRIND: &str = "THREADTAP_REQUIRE_VALGRIND";
const STEP: &str = "THREADTAP_STEP";
const TIMES: u64 = 4;
