//! The `threadtap` command.

use std::process::ExitCode;

/// Forwarding allocates little and often, capture frees on another thread what the proxy allocated: both cost the system's
/// allocator much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    threadtap::cli::run()
}
