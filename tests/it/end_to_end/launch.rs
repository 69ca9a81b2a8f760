//! The binary as a process: started on free ports, with nothing of the test's own environment.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use threadtap_testkit::client::Client;
use tokio::sync::watch;

use crate::support::soon;

/// A command line and environment to start threadtap with.
pub(crate) struct Launch {
    command: Command,
}

impl Launch {
    /// `home` takes whatever a process leaves without being told where.
    pub(crate) fn new(home: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_threadtap"));
        command.env_clear().env("HOME", home).current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// With free ports, where the test does not care.
    pub(crate) fn on_free_ports(home: &Path) -> Self {
        Self::new(home).flag("--listen", "127.0.0.1:0").flag("--admin-listen", "127.0.0.1:0")
    }

    /// With limits of open files, the soft one and the hard one.
    pub(crate) fn with_open_files(mut self, soft: u32, hard: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\""));
        shell.arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        shell.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = self.command.get_current_dir() {
            shell.current_dir(directory);
        }
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = shell;
        self
    }

    pub(crate) fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn command(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// Starts it and waits until it forwards.
    pub(crate) async fn start(self) -> Threadtap {
        let mut threadtap = self.spawn();
        let lines = threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains(FORWARDS))).await;
        let told = lines.iter().find(|line| line.contains(FORWARDS)).unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        let address = |name: &str| told[name].as_str().unwrap().parse().unwrap();
        (threadtap.listen, threadtap.admin) = (address("listen"), address("admin"));
        threadtap
    }

    /// Runs it to its end: the exit code, standard output and standard error.
    pub(crate) async fn run(self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let mut threadtap = self.spawn();
        let status = threadtap.ended().await;
        (status.code(), threadtap.stdout.lines(), threadtap.stderr.lines())
    }

    /// Runs it, expects that it refuses to start, and returns its one line.
    pub(crate) async fn refusal(self) -> String {
        let (code, stdout, mut stderr) = self.run().await;
        assert_eq!((code, &stdout[..], stderr.len()), (Some(2), &[][..], 1), "{stderr:?}");
        stderr.remove(0)
    }

    fn spawn(mut self) -> Threadtap {
        let mut child = self.command.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        let nowhere = ([127, 0, 0, 1], 0).into();
        Threadtap { child, listen: nowhere, admin: nowhere, stdout, stderr }
    }
}

/// A process that runs. Dropping it kills it.
pub(crate) struct Threadtap {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Threadtap {
    /// An app that was told to use it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://{}/v1", self.listen))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it ever held, in KiB; 0 where the system does not tell.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_ascii_whitespace().next());
        peak.map_or(0, |kib| kib.parse().unwrap())
    }

    /// SIGKILL, and nothing left of it.
    pub(crate) async fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended().await;
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Any signal, as kill(1) names it.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it is gone.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.stdout.closed().await;
        self.stderr.closed().await;
        self.child.wait().unwrap()
    }

    /// An answer of the admin listener: status and body.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        let admin = Client::new(&format!("http://{}", self.admin));
        let answered = admin.send(Method::GET, path, &Value::Null).await.unwrap();
        let status = answered.status.as_u16();
        (status, String::from_utf8(answered.bytes().await.unwrap().to_vec()).unwrap())
    }

    /// A metric, by its name with labels; 0 while it was never counted.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: f64) {
        soon(&format!("{name} to be {value}"), async {
            while (self.metric(name).await - value).abs() > 0.1 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
    }

    /// Waits until there are so many records, and returns them, oldest first.
    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let records = soon(&format!("{count} records"), async {
            loop {
                let records = self.all_records().await;
                if records.len() >= count {
                    return records;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        assert_eq!(records.len(), count);
        records
    }

    /// The newest records, newest first.
    pub(crate) async fn newest_records(&self, limit: usize) -> Vec<Value> {
        let (_, text) = self.ask(&format!("/api/v1/interactions?limit={limit}")).await;
        let mut page: Value = serde_json::from_str(&text).unwrap();
        let rows = page["data"].as_array_mut().unwrap_or_else(|| panic!("not a page: {text}"));
        rows.iter_mut().map(|row| row["interaction"].take()).collect()
    }

    /// The records there are now, oldest first.
    pub(crate) async fn all_records(&self) -> Vec<Value> {
        let (mut records, mut from) = (Vec::new(), String::new());
        loop {
            let (_, text) = self.ask(&format!("/api/v1/interactions?limit=500{from}")).await;
            let mut page: Value = serde_json::from_str(&text).unwrap();
            let Value::Array(rows) = page["data"].take() else { panic!("not a page: {text}") };
            if rows.is_empty() {
                records.reverse();
                return records;
            }
            records.extend(rows.into_iter().map(|mut row| row["interaction"].take()));
            from = format!("&before={}", page["before"]);
        }
    }
}

impl Drop for Threadtap {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines of a process, as they come.
pub(crate) struct Output {
    lines: watch::Receiver<Vec<String>>,
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let line = line.unwrap();
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self { lines }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    pub(crate) async fn wait_for(&mut self, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let waited = soon("a line of the process", self.lines.wait_for(|lines| enough(lines))).await;
        let waited = waited.map(|lines| lines.clone());
        waited.unwrap_or_else(|_| panic!("it ended without the line; it said {:?}", self.lines()))
    }

    async fn closed(&mut self) {
        // Only a sender that is gone ends this.
        let never = soon("the process to end", self.lines.wait_for(|_| false)).await;
        assert!(never.is_err());
    }
}

const FORWARDS: &str = "threadtap forwards";
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
