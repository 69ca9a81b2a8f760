//! The real binary between the fakes of `threadtap_testkit`: an app, an Assistants server, an analytics backend.

/// The operator's commands, on an instance that runs and on what a stopped one left.
mod commands;
/// What a kill -9 may cost, which is nothing that was seen before it.
mod crash;
/// What a disk can do: fill, fail, be spoilt, vanish. The client does not notice, and every loss is counted.
#[cfg(target_os = "linux")]
mod disk;
/// Backends, upstreams and answers that are not as they should be: the client does not notice, the record is right.
mod faults;
/// Every way a run can go: the record and the payload are what the server says happened.
mod flows;
pub(crate) mod front;
mod launch;
/// What all clients share: open files, places, connections to upstream. Nobody can use it up.
#[cfg(target_os = "linux")]
mod limits;
/// What an operator sees: health, metrics, logs, records, an orderly end.
mod operation;
/// Every way a backend can be out of order, while clients stream.
mod outages;
/// Settings that are read again while it runs.
mod reload;
/// Secrets that pass, and where they must not stay.
mod secrets;
/// Align, sessions, users, and what the app says itself.
mod sessions;
/// Starting: what is refused, and what gives way.
mod startup;
/// Being stopped, for a while or in a hurry: nothing that was captured is lost.
mod stopping;
mod talk;
/// Data directories that cannot be used: what is refused, and what goes on in memory.
#[cfg(target_os = "linux")]
mod unusable;
mod world;
