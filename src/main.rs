//! The `threadtap` command.

use std::process::ExitCode;

/// Forwarding makes many small allocations, and capture frees on another thread what the proxy
/// allocated. Both are expensive with the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    threadtap::cli::run()
}
