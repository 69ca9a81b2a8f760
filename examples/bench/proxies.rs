//! The proxies that are compared: started alike, watched through /proc.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Target;
use crate::others::Other;

/// A row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// No proxy.
    Direct,
    Nginx,
    /// threadtap that only forwards.
    Off,
    /// threadtap with capture, store and delivery.
    On,
    /// The other build of threadtap, only forwarding.
    OtherOff,
    /// The other build of threadtap, with everything on.
    OtherOn,
    /// Everything on, two workers, on both cores.
    OnTwoWorkers,
    /// Another proxy.
    Beside(Other),
    /// Everything on, and a disk whose every sync takes long.
    OnSlowDisk,
    /// Everything on, and a sink that refuses connections.
    OnSinkDead,
    /// Everything on, and queues so small that captures must be dropped.
    OnTinyQueues,
}

impl Row {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Off => "threadtap, capture off",
            Self::On => "threadtap, everything on",
            Self::OtherOff => "other build, capture off",
            Self::OtherOn => "other build, everything on",
            Self::OnTwoWorkers => "everything on, two workers",
            Self::Beside(other) => other.name(),
            Self::OnSlowDisk => "everything on, slow disk",
            Self::OnSinkDead => "everything on, sink dead",
            Self::OnTinyQueues => "everything on, tiny queues",
        }
    }

    /// The word that selects it on the command line.
    pub(crate) fn word(self) -> String {
        match self {
            Self::Beside(other) => format!("{other:?}"),
            row => format!("{row:?}"),
        }
    }

    /// Whether every run must arrive at the collector.
    pub(crate) fn delivers(self) -> bool {
        matches!(self, Self::On | Self::OtherOn | Self::OnTwoWorkers | Self::OnSlowDisk)
    }
}

/// Where everything is.
pub(crate) struct Site {
    /// The threadtap that is measured.
    pub(crate) binary: PathBuf,
    /// Another one, to compare with.
    pub(crate) other: Option<PathBuf>,
    /// Written to; on a disk, not in memory.
    pub(crate) directory: PathBuf,
    pub(crate) upstream: SocketAddr,
    pub(crate) upstream_tls: SocketAddr,
    pub(crate) collector: SocketAddr,
    /// The library that makes a disk slow.
    pub(crate) slow_disk: PathBuf,
    /// The certificate authority that made the TLS upstream's certificate.
    pub(crate) authority: PathBuf,
}

/// A proxy that runs; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) target: Target,
    /// From the start of the process until a connection was accepted.
    pub(crate) start_time: Duration,
    admin: Option<SocketAddr>,
    child: Option<Child>,
}

impl Proxy {
    /// Starts the proxy of a row, to the plain upstream or the one with TLS, and waits until it accepts.
    pub(crate) fn start(row: Row, site: &Site, tls: bool) -> Result<Self> {
        let directory = site.directory.join(row.word());
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let cores = if row == Row::OnTwoWorkers { "0,1" } else { "1" };
        let (address, admin) = (free_address()?, free_address()?);
        let mut target = Target { address, prefix: "" };
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(directory.join("log"))?);
        let is_threadtap = match row {
            Row::Direct => {
                let address = if tls { site.upstream_tls } else { site.upstream };
                target.address = address;
                return Ok(Self { target, start_time: Duration::ZERO, admin: None, child: None });
            }
            Row::Nginx => {
                let file = directory.join("nginx.conf");
                fs::write(&file, nginx(site, &directory, address, tls)?)?;
                command.arg("nginx").arg("-e").arg(directory.join("error.log")).arg("-c").arg(file);
                false
            }
            Row::Beside(other) => {
                command.args(other.arguments(&directory, address, site.upstream)?);
                command.envs(other.environment().iter().copied());
                target.prefix = other.prefix();
                false
            }
            _ => {
                let other = matches!(row, Row::OtherOff | Row::OtherOn);
                let binary = if other { site.other.as_ref() } else { Some(&site.binary) };
                let file = directory.join("threadtap.toml");
                fs::write(&file, threadtap(row, site))?;
                let upstream = if tls {
                    format!("https://localhost:{}", site.upstream_tls.port())
                } else {
                    format!("http://{}", site.upstream)
                };
                command.arg(binary.context("there is no other build: use --other")?);
                command.arg("--config").arg(file).args(["--upstream", &upstream]);
                command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
                command.arg("--data-dir").arg(directory.join("data"));
                command.env("SSL_CERT_FILE", &site.authority);
                if row == Row::OnSlowDisk {
                    command.env("LD_PRELOAD", &site.slow_disk).env("SLOW_MS", "100");
                }
                true
            }
        };
        for secret in ["RECONIFY_APP_KEY", "RECONIFY_API_KEY", "RECONIFY_URL", "RUST_LOG", "THREADTAP_CONFIG"]
        {
            command.env_remove(secret);
        }
        let began = Instant::now();
        let child = command.spawn().context("cannot start taskset")?;
        let mut proxy = Self {
            target,
            start_time: Duration::ZERO,
            admin: is_threadtap.then_some(admin),
            child: Some(child),
        };
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > START_PATIENCE {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                bail!("{} does not accept connections: {log}", row.name());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        proxy.start_time = began.elapsed();
        Ok(proxy)
    }

    /// CPU time used so far, by all its processes and threads.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.processes().iter().map(|process| ticks(*process).unwrap_or(0)).sum();
        Duration::from_millis(ticks * MILLIS_PER_TICK)
    }

    /// Memory in use, in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that was ever in use, in bytes.
    pub(crate) fn peak_rss(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let count = |process: &u32| fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        self.processes().iter().map(count).sum()
    }

    /// The sum of a threadtap counter over all its labels.
    pub(crate) fn counter(&self, name: &str) -> Option<f64> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(self.admin?).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let values =
            text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        Some(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }

    fn processes(&self) -> Vec<u32> {
        let Some(parent) = self.child.as_ref().map(Child::id) else { return Vec::new() };
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(parent).chain(children).collect()
    }

    fn status(&self, field: &str) -> u64 {
        let read = |process: &u32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.processes().iter().filter_map(read).sum::<u64>() * 1024
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let processes = self.processes();
        if let Some(child) = &mut self.child {
            // The worker of nginx outlives a master that is killed.
            for process in processes.iter().skip(1) {
                Command::new("kill").args(["-9", &process.to_string()]).status().ok();
            }
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// User and system time, from the fields 14 and 15 of proc_pid_stat(5).
fn ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn threadtap(row: Row, site: &Site) -> String {
    let workers = if row == Row::OnTwoWorkers { 2 } else { 1 };
    let mut file = format!("[server]\nworkers = {workers}\n");
    if matches!(row, Row::Off | Row::OtherOff) {
        file.push_str("[capture]\nenabled = false\n");
        return file;
    }
    if row == Row::OnTinyQueues {
        file.push_str("[capture]\nqueue = 4\n");
    }
    // Port 9 is that of discard, where nothing listens.
    let collector =
        if row == Row::OnSinkDead { "127.0.0.1:9".to_owned() } else { site.collector.to_string() };
    let sink = "[[sinks]]\ntype = \"reconify\"\napp_key = \"bench\"\napi_key = \"bench\"";
    write!(file, "{sink}\nurl = \"http://{collector}/track\"\n").expect("a string takes everything");
    file
}

fn nginx(site: &Site, directory: &Path, listen: SocketAddr, tls: bool) -> Result<String> {
    let directory = directory.to_str().context("the directory's name is no text")?;
    let user = if fs::metadata("/proc/self")?.uid() == 0 { "user root;" } else { "" };
    let (scheme, server, options) = if tls {
        let authority = site.authority.display();
        let options = format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {authority}; proxy_ssl_name localhost; proxy_ssl_server_name on;"
        );
        ("https", site.upstream_tls, options)
    } else {
        ("http", site.upstream, String::new())
    };
    Ok(format!(
        "daemon off; {user} worker_processes 1; worker_rlimit_nofile 20000; pid {directory}/pid;
events {{ worker_connections 20000; }}
http {{
  access_log off; gzip off; client_max_body_size 0; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  upstream bench {{ server {server}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass {scheme}://bench; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout 1h;
      proxy_buffering off; proxy_request_buffering off; {options}
    }}
  }}
}}
"
    ))
}

/// LiteLLM takes a while.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// USER_HZ is 100 on every platform of Linux that Rust builds for but Alpha.
const MILLIS_PER_TICK: u64 = 10;
