# What people do here. `just` lists it; each line also works on its own.

_default:
    @just --list --unsorted

# Run threadtap with a fake API, app and backend, and print what it records
demo:
    cargo run --release -- demo

# Rust tests only, all or those named; what needs valgrind is skipped where it is missing
test *filter:
    cargo test --locked {{ filter }}

# All that has to pass before a change is taken (about 30 minutes on 2 cores)
check:
    .ci/run

# Compare the cost of forwarding and capture with nginx
bench *options:
    scripts/bench {{ options }}

# Fuzz every target for a minute, or as many seconds as given
fuzz seconds="60" *targets:
    scripts/fuzz {{ seconds }} {{ targets }}
