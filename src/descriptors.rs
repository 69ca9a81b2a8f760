//! How many files the process may have open (`RLIMIT_NOFILE`), and what they are for.
//!
//! A socket is an open file. A client's connection needs one, and its exchange needs another one to
//! upstream. The files that threadtap needs for itself (the store, delivery, the admin listener)
//! are set aside first, so that clients cannot use them up.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Raises the soft limit of open files to the hard one, and returns what is allowed now.
///
/// Other processes are not affected. If the limit cannot be raised, it stays as it was, and a
/// warning is logged.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // macOS accepts no more than OPEN_MAX, whatever the hard limit is: setrlimit(2).
    let wanted = if cfg!(target_vendor = "apple") {
        Some(maximum.unwrap_or(OPEN_MAX).min(OPEN_MAX).max(current.unwrap_or(u64::MAX)))
    } else {
        maximum
    };
    if wanted != current
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether an operation failed because the process (`EMFILE`), or the system (`ENFILE`), has too
/// many files open.
#[must_use]
pub fn are_used_up(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What needs open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// `server.max_connections`.
    pub connections: usize,
    /// Threads that forward.
    pub workers: usize,
    /// Connections to backends that delivery may have at one time.
    pub deliveries: usize,
}

/// How the open files are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Files the process may have open.
    pub open_files: u64,
    /// Connections of clients that are open at one time.
    pub connections: usize,
    /// What `server.max_connections` asks for.
    pub connections_wanted: usize,
    /// Connections to upstream, in use and unused.
    pub upstream_connections: usize,
    /// Connections to the admin listener.
    pub admin_connections: usize,
}

impl Shares {
    /// Divides `open_files`. Clients get as many connections as configured, but at most half of
    /// what is not set aside, so that each can have a connection to upstream. Upstream gets the
    /// rest, because one HTTP/2 connection carries many requests.
    #[must_use]
    pub fn of(open_files: u64, needs: Needs) -> Self {
        let Needs { connections, workers, deliveries } = needs;
        let files = usize::try_from(open_files).unwrap_or(usize::MAX);
        let admin = (files / 8).clamp(MIN_ADMIN, MAX_ADMIN);
        let own = OWN_FILES
            .saturating_add(workers.saturating_mul(WORKER_FILES))
            .saturating_add(deliveries)
            .saturating_add(admin + 1);
        // Even with few files, some are left for forwarding. Connections that do not fit wait.
        let forwarding = files.saturating_sub(own).max(files / 4).max(2);
        let clients = connections.min(forwarding / 2);
        Self {
            open_files,
            connections: clients,
            connections_wanted: connections,
            upstream_connections: forwarding - clients,
            admin_connections: admin,
        }
    }
}

/// Standard streams, the store's files, signals, timers, name resolution, and a reserve.
const OWN_FILES: usize = 40;
/// Three for the runtime, one for the listener, and one for a client that waits for a place.
const WORKER_FILES: usize = 5;
const MIN_ADMIN: usize = 8;
const MAX_ADMIN: usize = 64;
/// `OPEN_MAX` of macOS.
const OPEN_MAX: u64 = 10_240;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(open_files: u64, connections: usize, expected: (usize, usize, usize)) {
        let shares = Shares::of(open_files, Needs { connections, workers: 2, deliveries: 16 });
        let got = (shares.connections, shares.upstream_connections, shares.admin_connections);
        assert_eq!(got, expected, "{open_files} {connections}");
        assert_eq!((shares.open_files, shares.connections_wanted), (open_files, connections));
    }

    #[test]
    fn clients_get_half_of_what_is_not_set_aside_or_what_they_are_to_have() {
        check(1024, 16_384, (446, 447, 64));
        check(256, 16_384, (78, 79, 32));
        check(1_048_576, 16_384, (16_384, 1_032_061, 64));
        check(u64::MAX, 16_384, (16_384, usize::MAX - 131 - 16_384, 64));
        check(1024, 10, (10, 883, 64));
        check(64, 16_384, (8, 8, 8));
        check(0, 16_384, (1, 1, 8));
    }

    proptest! {
        #[test]
        fn everybody_gets_some_and_nobody_more_than_there_is(
            open_files in 256_u64..2_000_000,
            connections in 1_usize..100_000,
            workers in 1_usize..16,
            deliveries in 0_usize..32,
        ) {
            let shares = Shares::of(open_files, Needs { connections, workers, deliveries });
            let given = shares.connections + shares.upstream_connections + shares.admin_connections;
            prop_assert!(given as u64 <= open_files);
            prop_assert!(shares.connections >= 1 && shares.connections <= connections);
            prop_assert!(shares.upstream_connections >= shares.connections);
        }
    }

    #[test]
    fn want_of_descriptors_is_told_from_other_errors() {
        assert!(are_used_up(&Errno::MFILE.into()));
        assert!(are_used_up(&Errno::NFILE.into()));
        assert!(!are_used_up(&Errno::CONNREFUSED.into()));
        assert!(!are_used_up(&io::Error::other("too many open files")));
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let allowed = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current.unwrap_or(u64::MAX), allowed);
        if cfg!(target_os = "linux") {
            assert_eq!(current, maximum);
        }
    }
}
