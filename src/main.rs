//! The `threadtap` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    threadtap::cli::run()
}
