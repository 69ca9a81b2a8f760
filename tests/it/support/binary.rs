//! The real program as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `threadtap`. It is killed when dropped.
pub(crate) struct Binary {
    process: Child,
    pub(crate) address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Binary {
    /// Starts it in front of `upstream` and waits until it listens.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        Self::start_with(&format!("http://{upstream}"), None)
    }

    /// The same for an upstream that speaks TLS, with a certificate that is to be trusted.
    pub(crate) fn start_securely(upstream: SocketAddr, trusted: &Path) -> Self {
        Self::start_with(&format!("https://{upstream}"), Some(trusted))
    }

    fn start_with(upstream: &str, trusted: Option<&Path>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_threadtap"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--upstream", upstream, "--data-dir"])
            .arg(data.path())
            .env_clear()
            .envs(trusted.map(|trusted| ("SSL_CERT_FILE", trusted)))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = log
            .by_ref()
            .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
            .find_map(|line| line["listen"].as_str()?.parse().ok())
            .expect("it should tell where it listens");
        // What it says later must not block it.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address, _data: data }
    }

    /// Resident memory now, and its peak since the last [`Binary::forget_peak`], in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_kib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Makes the peak start anew, see proc(5).
    #[cfg(target_os = "linux")]
    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
