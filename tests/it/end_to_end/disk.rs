//! What a disk can do to the store, with the real binary under load. `scripts/disk` lets each trouble last longer
//! (`THREADTAP_DISK_SECONDS`) and makes a table of the lines.
//!
//! As root, which nothing is refused to: a full disk is a small tmpfs, so mounting must be allowed; one that fails or only reads
//! is made by a library that is preloaded (`disk/fail.c`), so there must be a C compiler, as for the build.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use threadtap_testkit::assistants::Script;
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::Reaction;
use tokio::task::JoinSet;

use super::launch::{Launch, Threadtap};
use super::talk::finish;
use super::world::World;

#[tokio::test]
async fn a_disk_that_fills_up_and_is_freed() {
    let stage = Stage::on_small_disk().await;
    let ballast = stage.world.data_dir().join("ballast");
    let begin = async |_: &Threadtap| fill(&ballast);
    let end = async || fs::remove_file(&ballast).unwrap();
    let row = stage.play("disk full (16 MiB tmpfs), freed", Sign::Errors("full"), begin, end).await;
    assert_eq!(row.lost, 0, "what waits outlives it");
}

#[tokio::test]
async fn a_budget_that_is_full_of_history() {
    let mut stage = Stage::with("max_size = \"2MiB\"\nretain_size = \"1GiB\"", vec![]).await;
    // The store may need a second to make room, in which a quick machine fills 16 MiB: that bound is not what this is about.
    stage.settings = stage.settings.replace("budget = \"16MiB\"", "budget = \"64MiB\"");
    let begin = async |threadtap: &Threadtap| evicted(threadtap).await;
    let row = stage.play("budget full of history", Sign::Errors("full"), begin, async || {}).await;
    assert_eq!((row.refused, row.delivered), (0, row.asked), "history makes room");
}

#[tokio::test]
async fn a_budget_that_is_full_of_what_a_dead_backend_leaves() {
    let stage = Stage::with("max_size = \"4MiB\"", Reaction::Status(503, None).times(1_000_000)).await;
    let begin = async |_: &Threadtap| {};
    let end = async || stage.world.collector.recover();
    let row = stage.play("budget full, backend dead, then not", Sign::Refused, begin, end).await;
    assert!(row.refused > 0);
}

#[tokio::test]
async fn a_disk_that_takes_no_writes() {
    for (case, number) in [("read-only (EROFS)", 30), ("I/O errors (EIO)", 5)] {
        let stage = Stage::new().await;
        let begin = async |_: &Threadtap| stage.faults.fail(number);
        let end = async || stage.faults.end();
        let row = stage.play(case, Sign::Failing, begin, end).await;
        assert_eq!(row.lost, 0);
    }
}

#[tokio::test]
async fn pages_that_are_overwritten_while_it_runs() {
    let stage = Stage::new().await;
    stage.prepare(async |_| {}).await;
    let begin = async |threadtap: &Threadtap| {
        overwrite(&stage.database());
        read_until_set_aside(threadtap).await;
    };
    stage.play("pages overwritten, running", Sign::BegunAnew("corrupt"), begin, async || {}).await;
    assert_eq!(stage.set_aside(), 1);
}

#[tokio::test]
async fn a_database_that_is_truncated_while_it_runs() {
    let stage = Stage::new().await;
    stage.prepare(async |_| {}).await;
    let begin = async |threadtap: &Threadtap| {
        truncate(&stage.database());
        read_until_set_aside(threadtap).await;
    };
    stage.play("truncated, running", Sign::BegunAnew("corrupt"), begin, async || {}).await;
    assert_eq!(stage.set_aside(), 1);
}

#[tokio::test]
async fn pages_that_are_overwritten_while_it_is_stopped() {
    let stage = Stage::new().await;
    stage.prepare(async |stage| overwrite(&stage.database())).await;
    let begin = async |threadtap: &Threadtap| read_until_set_aside(threadtap).await;
    stage.play("pages overwritten, stopped", Sign::BegunAnew("corrupt"), begin, async || {}).await;
    assert_eq!(stage.set_aside(), 1);
}

#[tokio::test]
async fn a_database_that_is_truncated_while_it_is_stopped() {
    let stage = Stage::new().await;
    stage.prepare(async |stage| truncate(&stage.database())).await;
    let begin = async |threadtap: &Threadtap| read_until_set_aside(threadtap).await;
    stage.play("truncated, stopped", Sign::BegunAnew("corrupt"), begin, async || {}).await;
    assert_eq!(stage.set_aside(), 1);
}

#[tokio::test]
async fn a_data_directory_that_is_deleted_and_made_again_by_itself() {
    let stage = Stage::new().await;
    let begin = async |_: &Threadtap| remove(&stage.world.data_dir());
    stage.play("directory deleted", Sign::BegunAnew("vanished"), begin, async || {}).await;
    assert!(stage.database().exists());
}

#[tokio::test]
async fn a_data_directory_that_is_replaced() {
    let stage = Stage::new().await;
    let begin = async |_: &Threadtap| {
        fs::rename(stage.world.data_dir(), stage.world.data_dir().with_extension("old")).unwrap();
        fs::create_dir(stage.world.data_dir()).unwrap();
    };
    stage.play("directory replaced", Sign::BegunAnew("vanished"), begin, async || {}).await;
    assert!(stage.database().exists());
}

#[tokio::test]
async fn a_data_directory_that_is_deleted_and_cannot_be_made_again_for_a_while() {
    let stage = Stage::new().await;
    let data = stage.world.data_dir();
    let begin = async |_: &Threadtap| {
        remove(&data);
        // Threadtap may have been quicker.
        while fs::write(&data, "in the way").is_err() {
            remove(&data);
        }
    };
    let end = async || fs::remove_file(&data).unwrap();
    stage.play("directory deleted, in the way, freed", Sign::Failing, begin, end).await;
    assert!(stage.database().exists());
}

/// How it shows that trouble has begun.
#[derive(Clone, Copy)]
enum Sign {
    BegunAnew(&'static str),
    Errors(&'static str),
    Failing,
    Refused,
}

impl Sign {
    async fn shows(self, threadtap: &Threadtap) -> bool {
        let metric = match self {
            Self::BegunAnew(kind) => format!("threadtap_store_recreated_total{{kind=\"{kind}\"}}"),
            Self::Errors(kind) => format!("threadtap_store_errors_total{{kind=\"{kind}\"}}"),
            Self::Failing => FAILING.to_owned(),
            Self::Refused => REFUSED.to_owned(),
        };
        threadtap.metric(&metric).await > 0.0
    }
}

/// What came of a case.
struct Row {
    asked: usize,
    delivered: usize,
    refused: usize,
    lost: usize,
}

/// A world, and threadtap with little room in memory, so that a bound shows.
struct Stage {
    world: World,
    settings: String,
    faults: Faults,
    _mount: Option<Mount>,
}

impl Stage {
    async fn new() -> Self {
        Self::with("", vec![]).await
    }

    async fn with(store: &str, reactions: Vec<Reaction>) -> Self {
        let world = World::with(Script::default(), reactions).await;
        let settings = format!(
            "[capture]\nbudget = \"16MiB\"\nqueue = 1024\n[delivery]\nmin_backoff = \"20ms\"\nmax_backoff = \"200ms\"\n\
             [store]\nqueue = \"1MiB\"\n{store}\nSINK"
        );
        Self { world, settings, faults: Faults::new(), _mount: None }
    }

    async fn on_small_disk() -> Self {
        let stage = Self::new().await;
        let mount = Mount::tmpfs(&stage.world.data_dir());
        Self { _mount: Some(mount), ..stage }
    }

    async fn start(&self) -> Threadtap {
        self.faults.below(&self.world.data_dir(), self.world.launch_with(&self.settings)).start().await
    }

    /// Leaves a database to be spoilt, and spoils it.
    async fn prepare(&self, spoil: impl AsyncFnOnce(&Self)) {
        let mut threadtap = self.start().await;
        grow(&threadtap).await;
        threadtap.terminate();
        assert_eq!(threadtap.ended().await.code(), Some(0));
        spoil(self).await;
    }

    fn database(&self) -> PathBuf {
        self.world.data_dir().join("threadtap.db")
    }

    fn set_aside(&self) -> usize {
        let names = fs::read_dir(self.world.data_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names
            .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
            .count()
    }

    /// Lets trouble begin under load and end again, and holds threadtap to what it promises: no client feels it, memory is
    /// bounded, every loss is counted, and it goes on by itself.
    async fn play(
        &self,
        case: &str,
        sign: Sign,
        begin: impl AsyncFnOnce(&Threadtap),
        end: impl AsyncFnOnce(),
    ) -> Row {
        let threadtap = self.start().await;
        let load = Load::start(&threadtap);
        load.asked(20).await;
        begin(&threadtap).await;
        soon(&format!("{case}: the trouble"), async {
            while !sign.shows(&threadtap).await {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        tokio::time::sleep(lasting()).await;
        load.asked(20).await;
        end().await;
        let ended = now();
        let again = async {
            while threadtap.metric(FAILING).await > 0.0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            // What is asked now is recorded and delivered.
            while !self.is_delivered(&threadtap).await {}
        };
        if tokio::time::timeout(PATIENCE, again).await.is_err() {
            let (_, metrics) = threadtap.ask("/metrics").await;
            let told = metrics.lines().filter(|line| line.starts_with("threadtap_store_"));
            let told: Vec<&str> = told.filter(|line| !line.contains("_bucket")).collect();
            panic!("{case}: the trouble does not end: {told:#?} {:#?}", threadtap.stderr.lines());
        }
        let recovered = ended.elapsed();
        let (asked, errors) = load.stop().await;
        // Once this one is through, so is all that came before it.
        while !self.is_delivered(&threadtap).await {}
        threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
        let mut lost = 0.0;
        for reason in ["corrupt", "vanished", "refused", "rejected"] {
            let name = format!("threadtap_deliveries_lost_total{{sink=\"reconify\",reason=\"{reason}\"}}");
            lost += threadtap.metric(&name).await;
        }
        let mut refused = threadtap.metric(REFUSED).await;
        for reason in ["queue_full", "byte_budget"] {
            refused +=
                threadtap.metric(&format!("threadtap_capture_dropped_total{{reason=\"{reason}\"}}")).await;
        }
        let (lost, refused) = (lost as usize, refused as usize);
        let keys = |question| {
            let received = self.world.collector.received().into_iter();
            let keys = received
                .filter(|received| is_taken(&received.reaction) && asks(&received.body, question))
                .map(|received| received.headers["idempotency-key"].clone());
            keys.collect::<HashSet<_>>().len()
        };
        let delivered = keys(QUESTION);
        let peak_mib = peak_mib(&threadtap);
        let line = format!(
            "| {case} | {asked} | {delivered} | {refused} | {lost} | {} | {peak_mib} | {errors} |",
            recovered.as_millis()
        );
        let mut out = std::io::stdout();
        writeln!(out, "{line}").unwrap();
        assert_eq!(errors, 0, "{line}");
        assert!(asked.saturating_sub(delivered) <= lost + refused, "a loss is not counted: {line}");
        assert!(peak_mib < 256, "{line}");
        Row { asked, delivered, refused, lost }
    }

    /// Asks once more; whether that was delivered within a while.
    async fn is_delivered(&self, threadtap: &Threadtap) -> bool {
        let markers = self.markers();
        if ask(&threadtap.client(), MARKER, 0).await.is_err() {
            return false;
        }
        let delivered = self.world.collector.wait_until(|received| {
            received
                .iter()
                .filter(|received| asks(&received.body, MARKER) && is_taken(&received.reaction))
                .count()
                > markers
        });
        tokio::time::timeout(Duration::from_secs(2), delivered).await.is_ok()
    }

    fn markers(&self) -> usize {
        let received = self.world.collector.received();
        received
            .iter()
            .filter(|received| asks(&received.body, MARKER) && is_taken(&received.reaction))
            .count()
    }
}

fn asks(payload: &Value, question: &str) -> bool {
    payload["request"]["content"].to_string().contains(question)
}

fn is_taken(reaction: &Reaction) -> bool {
    matches!(reaction, Reaction::Ok)
}

/// Apps that ask one question after the other.
struct Load {
    stopped: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    errors: Arc<AtomicUsize>,
    apps: JoinSet<()>,
}

impl Load {
    fn start(threadtap: &Threadtap) -> Self {
        let load = Self {
            stopped: Arc::default(),
            asked: Arc::default(),
            errors: Arc::default(),
            apps: JoinSet::new(),
        };
        let mut apps = JoinSet::new();
        for _ in 0..APPS {
            let client = threadtap.client();
            let (stopped, asked, errors) =
                (Arc::clone(&load.stopped), Arc::clone(&load.asked), Arc::clone(&load.errors));
            apps.spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    match ask(&client, QUESTION, BULK_BYTES).await {
                        Ok(()) => asked.fetch_add(1, Ordering::Relaxed),
                        Err(_) => errors.fetch_add(1, Ordering::Relaxed),
                    };
                    // An app that has nothing to do but ask would be all the load this machine takes.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { apps, ..load }
    }

    /// Waits until so many more were answered.
    async fn asked(&self, count: usize) {
        let until = self.asked.load(Ordering::Relaxed) + count;
        soon("apps to be answered", async {
            while self.asked.load(Ordering::Relaxed) < until {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
    }

    /// How many were answered, and how many were not.
    async fn stop(mut self) -> (usize, usize) {
        self.stopped.store(true, Ordering::Relaxed);
        while let Some(app) = self.apps.join_next().await {
            app.unwrap();
        }
        (self.asked.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed))
    }
}

/// A question in a thread of its own, streamed, with so many bytes of instructions: they are recorded, and not echoed.
async fn ask(client: &Client, question: &str, bulk: usize) -> std::io::Result<()> {
    let body = json!({
        "assistant_id": "asst_echo", "stream": true, "instructions": "x".repeat(bulk),
        "thread": {"messages": [{"role": "user", "content": question}]},
    });
    let answered = client.send(Method::POST, "/threads/runs", &body).await?;
    if answered.status != 200 || finish(answered).await["status"] != "completed" {
        return Err(std::io::Error::other("not answered"));
    }
    Ok(())
}

/// Has more recorded than the database's cache holds.
async fn grow(threadtap: &Threadtap) {
    for _ in 0..40 {
        ask(&threadtap.client(), "is this much?", 300_000).await.unwrap();
    }
    threadtap.wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
}

/// Reads the oldest records again and again until it is noticed that some cannot be.
async fn read_until_set_aside(threadtap: &Threadtap) {
    soon("corruption to be noticed", async {
        while !Sign::BegunAnew("corrupt").shows(threadtap).await {
            threadtap.ask("/api/v1/interactions?limit=20&before=25").await;
        }
    })
    .await;
}

async fn evicted(threadtap: &Threadtap) {
    soon("history to be let go of", async {
        while threadtap.metric("threadtap_store_evicted_total{kind=\"room\"}").await == 0.0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    })
    .await;
}

fn overwrite(database: &Path) {
    let file = OpenOptions::new().write(true).open(database).unwrap();
    let bytes = file.metadata().unwrap().len();
    let from = SPARED_BYTES.min(bytes);
    file.write_all_at(&vec![0xA5; usize::try_from(bytes - from).unwrap()], from).unwrap();
}

fn truncate(database: &Path) {
    OpenOptions::new().write(true).open(database).unwrap().set_len(SPARED_BYTES).unwrap();
}

pub(crate) fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for piece in [vec![0; 64 << 10], vec![0; 4096]] {
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Removes a directory in which another process goes on making files.
fn remove(directory: &Path) {
    while fs::remove_dir_all(directory).is_err() && directory.exists() {}
}

fn peak_mib(threadtap: &Threadtap) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", threadtap.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Like the other tests', with more patience.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

fn lasting() -> Duration {
    let seconds = std::env::var("THREADTAP_DISK_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    seconds.map_or(Duration::from_millis(500), Duration::from_secs)
}

#[expect(clippy::disallowed_methods, reason = "the time it takes to recover is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// A disk that fails or is slow when told to.
pub(crate) struct Faults {
    tools: TempDir,
}

impl Faults {
    pub(crate) fn new() -> Self {
        let tools = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/end_to_end/disk/fail.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(tools.path().join("fail.so")).args([source, "-ldl"]);
        assert!(compiler.status().unwrap().success());
        Self { tools }
    }

    /// What is to be launched, with this disk below a directory.
    pub(crate) fn below(&self, directory: &Path, launch: Launch) -> Launch {
        launch
            .variable("LD_PRELOAD", self.tools.path().join("fail.so"))
            .variable("FAIL_WITH", self.told())
            .variable("FAIL_BELOW", directory)
    }

    /// Writes and syncs fail with this number of errno(3).
    pub(crate) fn fail(&self, number: i32) {
        fs::write(self.told(), number.to_string()).unwrap();
    }

    /// Writes and syncs take so many milliseconds longer.
    pub(crate) fn slow(&self, millis: u32) {
        fs::write(self.told(), format!("0 {millis}")).unwrap();
    }

    pub(crate) fn end(&self) {
        fs::remove_file(self.told()).unwrap();
    }

    fn told(&self) -> PathBuf {
        self.tools.path().join("fail-with")
    }
}

/// A small file system of its own; gone when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn tmpfs(at: &Path) -> Self {
        Self::tmpfs_with(at, "size=16m,mode=700")
    }

    /// With options of mount(8).
    pub(crate) fn tmpfs_with(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(mounted.unwrap().success(), "mounting must be allowed, to fill a disk");
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that is about to end may still use it.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

const FAILING: &str = "threadtap_store_state{state=\"failing\"}";
const REFUSED: &str = "threadtap_capture_dropped_total{reason=\"disk\"}";
const QUESTION: &str = "and now?";
/// The pipeline alone waits five seconds for room before it gives a batch up.
const PATIENCE: Duration = Duration::from_secs(30);
const MARKER: &str = "a marker";
const APPS: usize = 4;
const BULK_BYTES: usize = 40_000;
/// The schema and the tables' roots: what opening looks at.
const SPARED_BYTES: u64 = 4096 * 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
