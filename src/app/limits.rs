//! Derives the limits on connections from the number of files the process may have open.

use crate::config::Config;
use crate::descriptors::{self, Needs, Shares};
use crate::metrics::Metrics;
use crate::net;

/// Raises the limit of open files, divides the files among the parts, and sets the limits of the
/// parts accordingly.
pub(super) fn share(config: &mut Config) -> Shares {
    let Config { net, proxy, delivery, sinks, .. } = config;
    let needs = Needs {
        connections: net.max_connections,
        workers: net::workers(net.workers),
        deliveries: sinks.len().max(1).saturating_mul(delivery.lanes as usize),
    };
    let shares = Shares::of(descriptors::raise(), needs);
    net.max_connections = shares.connections;
    proxy.max_connections = shares.upstream_connections;
    shares
}

/// Sets the metrics of the limits. Logs one warning if fewer connections are possible than the
/// settings ask for.
pub(super) fn announce(shares: &Shares, metrics: &Metrics) {
    let Shares { open_files, connections, connections_wanted, upstream_connections, admin_connections: _ } =
        *shares;
    let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.connections_limit.set(gauge(connections));
    metrics.upstream_connections_limit.set(gauge(upstream_connections));
    if connections < connections_wanted {
        tracing::warn!(
            open_files,
            connections,
            max_connections = connections_wanted,
            "the limit of open files allows fewer client connections than server.max_connections; further clients wait. Raise \
             the hard limit (ulimit -Hn, LimitNOFILE= of systemd), or lower the setting"
        );
    }
}
