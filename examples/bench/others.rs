//! Other proxies, measured beside threadtap where they are installed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

/// A proxy that only forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    Envoy,
    Haproxy,
    /// As a pass-through to one address: what it does to requests of its own APIs is another matter.
    Litellm,
    Mitmproxy,
}

impl Other {
    pub(crate) const ALL: [Self; 4] = [Self::Haproxy, Self::Envoy, Self::Mitmproxy, Self::Litellm];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::Litellm => "LiteLLM",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Litellm => "litellm",
            Self::Mitmproxy => "mitmdump",
        }
    }

    /// What it says of its version; none when it is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let option = if self == Self::Haproxy { "-v" } else { "--version" };
        let output = Command::new(self.command()).arg(option).stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// What goes before the API's own paths.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            // Below `/v1` LiteLLM answers itself.
            Self::Litellm => "/through",
            Self::Envoy | Self::Haproxy | Self::Mitmproxy => "",
        }
    }

    /// What is set for it in the environment.
    pub(crate) fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // It starts without a key, as the others do, and asks nobody for the prices of models.
            Self::Litellm => &[
                ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),
                ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ],
            Self::Envoy | Self::Haproxy | Self::Mitmproxy => &[],
        }
    }

    /// The words that start it, with one worker, listening and forwarding.
    pub(crate) fn arguments(
        self,
        directory: &Path,
        listen: SocketAddr,
        upstream: SocketAddr,
    ) -> Result<Vec<String>> {
        // Envoy tells the format by the name.
        let file = directory.join("config.yaml").display().to_string();
        let words: Vec<String> = match self {
            Self::Envoy => {
                fs::write(&file, envoy(listen, upstream))?;
                let options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"];
                options.iter().map(|option| (*option).to_owned()).chain([file]).collect()
            }
            Self::Haproxy => {
                fs::write(&file, haproxy(listen, upstream))?;
                ["-db", "-q", "-f"].iter().map(|option| (*option).to_owned()).chain([file]).collect()
            }
            Self::Litellm => {
                fs::write(&file, litellm(upstream))?;
                let (host, port) = (listen.ip().to_string(), listen.port().to_string());
                let words = ["--config", &file, "--host", &host, "--port", &port, "--num_workers", "1"];
                words.iter().map(|word| (*word).to_owned()).collect()
            }
            Self::Mitmproxy => vec![
                "-q".to_owned(),
                format!("--mode=reverse:http://{upstream}"),
                format!("--listen-host={}", listen.ip()),
                format!("--listen-port={}", listen.port()),
                // Otherwise it would hold a stream back until its end.
                "--set=stream_large_bodies=1".to_owned(),
                format!("--set=confdir={}", directory.display()),
            ],
        };
        Ok([vec![self.command().to_owned()], words].concat())
    }
}

fn haproxy(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend clients
  bind {listen} backlog 4096
  default_backend upstream
backend upstream
  server one {upstream} pool-max-conn 256
"
    )
}

fn litellm(upstream: SocketAddr) -> String {
    format!(
        "general_settings:
  pass_through_endpoints:
  - path: /through
    target: http://{upstream}
    include_subpath: true
    forward_headers: true
"
    )
}

fn envoy(listen: SocketAddr, upstream: SocketAddr) -> String {
    let address =
        |of: SocketAddr| format!("{{socket_address: {{address: {}, port_value: {}}}}}", of.ip(), of.port());
    format!(
        "static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: upstream, timeout: 0s}}}}]
          http_filters:
          - name: router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: upstream
    connect_timeout: 10s
    circuit_breakers: {{thresholds: [{{max_connections: 20000, max_requests: 20000, max_pending_requests: 20000}}]}}
    load_assignment:
      cluster_name: upstream
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]
",
        address(listen),
        address(upstream)
    )
}
