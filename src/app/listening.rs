//! Binding the two listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};

use crate::config::Choice;
use crate::net;

/// Binds the proxy's listener. Must be called within a runtime, like the other function.
pub(super) fn bind_proxy(address: SocketAddr) -> Result<TcpListener> {
    let listener = net::bind(address).and_then(tokio::net::TcpListener::into_std);
    listener.with_context(|| format!("listen is `{address}`: cannot listen there"))
}

/// Binds the admin listener. If the port is in use, takes the next free port, unless the port was
/// set explicitly.
pub(super) fn bind_admin(choice: &Choice<SocketAddr>) -> Result<TcpListener> {
    let mut address = *choice.value();
    loop {
        match net::bind(address).and_then(tokio::net::TcpListener::into_std) {
            Ok(listener) => {
                if address != *choice.value() {
                    tracing::warn!(admin = %address, "the admin port {} is in use; using the next free port", choice.value().port());
                }
                return Ok(listener);
            }
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && matches!(choice, Choice::Default(_)) =>
            {
                let port = address.port().checked_add(1).context("no admin port is free")?;
                address.set_port(port);
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("admin_listen is `{address}`: cannot listen there"));
            }
        }
    }
}
