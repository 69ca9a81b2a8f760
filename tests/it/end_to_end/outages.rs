//! Every way a backend can be out of order, while clients stream: what they feel, and what arrives in the end.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use threadtap_core::message::content_text;
use threadtap_testkit::assistants::{Assistants, Pace, Script};
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::{Collector, Reaction};
use tokio::task::JoinSet;

use super::front::{Front, Mode};
use super::launch::{Launch, Threadtap};
use super::talk::Talk;
use crate::support::soon;

/// `scripts/outages` runs these for longer: `THREADTAP_OUTAGE_TURNS` says how many runs each client asks for in each outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outage_of_reconify_is_felt_or_loses_anything() {
    go_through_all(Kind::Reconify).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outage_of_align_is_felt_or_loses_anything() {
    go_through_all(Kind::Align).await;
}

async fn go_through_all(kind: Kind) {
    let turns = std::env::var("THREADTAP_OUTAGE_TURNS").ok().map_or(3, |turns| turns.parse().unwrap());
    let healthy = Site::start(kind, Outage::None).await;
    let say = |text: &str| std::io::stdout().write_all(text.as_bytes()).unwrap();
    say(
        "\n| backend | sink | runs | delivered | dead letters | a turn, p50 / p99 | beside a healthy one | peak RSS | caught up in |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for outage in Outage::ALL {
        let row = go_through(kind, outage, turns, &healthy).await;
        say(&row.markdown());
        row.check();
    }
}

/// Lets clients talk to a threadtap whose backend is out of order and, in turns, to one whose backend is well.
async fn go_through(kind: Kind, outage: Outage, turns: usize, healthy: &Site) -> Row {
    let site = Site::start(kind, outage).await;
    let (there, beside) = (site.threadtap.client(), healthy.threadtap.client());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (there, beside) = (there.clone(), beside.clone());
        clients.spawn(async move {
            let mut times = Vec::new();
            for turn in 0..turns {
                let poison = if (client, turn) == (0, turns / 2) { POISON } else { "" };
                let question = format!("{outage:?} {client} {turn} {poison}");
                // Which goes first changes, so that what else the machine does hits both alike.
                let (a, b) = if (client + turn).is_multiple_of(2) {
                    let a = take_turn(&there, &question).await;
                    (a, take_turn(&beside, &question).await)
                } else {
                    let b = take_turn(&beside, &question).await;
                    (take_turn(&there, &question).await, b)
                };
                times.push((question, a, b));
            }
            times
        });
    }
    let times: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    site.until_felt().await;
    // Whoever waits for a backend that takes nothing is not answered before it recovers.
    assert!(outage.takes_some() || site.delivered().is_empty());
    let asked = times.iter().map(|(question, ..)| question);
    let expected: BTreeSet<String> =
        asked.filter(|question| outage != Outage::Poison || !question.ends_with(POISON)).cloned().collect();
    let recovered_at = now();
    site.recover();
    let all = async {
        let waiting = format!("threadtap_delivery_queue_depth{{sink=\"{}\"}}", kind.name());
        while !site.delivered().is_superset(&expected) || site.threadtap.metric(&waiting).await > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What is lost never comes; the row says so.
    let caught_up = tokio::time::timeout(CATCH_UP, all).await.is_ok().then(|| recovered_at.elapsed());
    if outage == Outage::Poison {
        let dead = format!("threadtap_dead_lettered_total{{sink=\"{}\",reason=\"refused\"}}", kind.name());
        site.threadtap.wait_for_metric(&dead, 1.0).await;
    }
    let delivered = site.delivered();
    Row {
        kind,
        outage,
        runs: times.len(),
        expected: expected.len(),
        delivered: expected.intersection(&delivered).count(),
        dead: site.threadtap.metric(&format!("threadtap_dead_letters{{sink=\"{}\"}}", kind.name())).await,
        there: Percentiles::of(times.iter().map(|(_, there, _)| *there)),
        beside: Percentiles::of(times.iter().map(|(.., beside)| *beside)),
        peak_mib: site.threadtap.peak_kib() / 1024,
        caught_up,
    }
}

/// A new thread, a question, and its answer as a stream: how long that takes.
async fn take_turn(client: &Client, question: &str) -> Duration {
    let begun = now();
    let talk = Talk::begin(client.clone(), &[]).await;
    talk.say(question).await;
    assert_eq!(talk.stream("asst_echo").await["status"], "completed");
    begun.elapsed()
}

/// A kind of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Many records in one request.
    Align,
    /// One record in each request.
    Reconify,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Align => "align",
            Self::Reconify => "reconify",
        }
    }

    fn settings(self, base: &str) -> String {
        match self {
            Self::Align => format!(
                "type = \"align\"\nhost = \"{base}\"\napi_key = \"key\"\nproject_id = \"project\"\nlinger = \"300ms\"\n"
            ),
            Self::Reconify => {
                format!("type = \"reconify\"\nurl = \"{base}/track\"\napp_key = \"app\"\napi_key = \"api\"\n")
            }
        }
    }

    /// What users asked, as far as a payload tells it.
    fn questions(self, payload: &Value) -> Vec<String> {
        match self {
            Self::Align => {
                let events = payload["events"].as_array().into_iter().flatten();
                let messages = events.map(|event| &event["properties"]["messageProperties"]);
                let asked = messages.filter(|message| message["messageRole"] == "ROLE_USER");
                asked.map(|message| message["messageContent"].as_str().unwrap().to_owned()).collect()
            }
            Self::Reconify => vec![content_text(&payload["request"]["content"])],
        }
    }
}

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    None,
    Slow,
    Failing,
    Throttling,
    Refusing,
    Silent,
    Impostor,
    Garbled,
    WrongKey,
    Poison,
}

impl Outage {
    const ALL: [Self; 10] = [
        Self::None,
        Self::Slow,
        Self::Failing,
        Self::Throttling,
        Self::Refusing,
        Self::Silent,
        Self::Impostor,
        Self::Garbled,
        Self::WrongKey,
        Self::Poison,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::None => "healthy",
            Self::Slow => "answers after 2 s",
            Self::Failing => "500",
            Self::Throttling => "429 with `Retry-After: 1`",
            Self::Refusing => "refuses connections",
            Self::Silent => "accepts, never answers",
            Self::Impostor => "shows a wrong certificate",
            Self::Garbled => "answers with no HTTP",
            Self::WrongKey => "401 until the key is right",
            Self::Poison => "400 for one payload",
        }
    }

    /// How connections are treated while it lasts, and after it.
    fn modes(self) -> (Mode, Mode) {
        match self {
            Self::Garbled => (Mode::Garble, Mode::Pass),
            Self::Impostor => (Mode::Impersonate, Mode::PassSecurely),
            Self::Refusing => (Mode::Refuse, Mode::Pass),
            Self::Silent => (Mode::Swallow, Mode::Pass),
            Self::Failing | Self::None | Self::Poison | Self::Slow | Self::Throttling | Self::WrongKey => {
                (Mode::Pass, Mode::Pass)
            }
        }
    }

    fn reaction(self) -> Option<Reaction> {
        match self {
            Self::Failing => Some(Reaction::Status(500, None)),
            Self::Slow => Some(Reaction::Slow(Duration::from_secs(2))),
            Self::Throttling => Some(Reaction::Status(429, Some(1))),
            Self::WrongKey => Some(Reaction::Status(401, None)),
            Self::Garbled | Self::Impostor | Self::None | Self::Poison | Self::Refusing | Self::Silent => {
                None
            }
        }
    }

    /// Whether the backend takes records while it lasts.
    fn takes_some(self) -> bool {
        matches!(self, Self::None | Self::Poison | Self::Slow)
    }

    /// What attempts come to while it lasts.
    fn verdict(self) -> &'static str {
        match self {
            Self::None | Self::Slow => "ack",
            Self::Poison => "dead_letter",
            Self::WrongKey => "misconfigured",
            Self::Failing
            | Self::Garbled
            | Self::Impostor
            | Self::Refusing
            | Self::Silent
            | Self::Throttling => "retry",
        }
    }
}

/// A threadtap between an API and a backend.
struct Site {
    kind: Kind,
    outage: Outage,
    threadtap: Threadtap,
    front: Front,
    collector: Arc<Collector>,
    _assistants: Assistants,
    _home: TempDir,
}

impl Site {
    async fn start(kind: Kind, outage: Outage) -> Self {
        let script = Script { pace: Pace::Even(Duration::from_millis(1)), ..Script::default() };
        let assistants = Assistants::start(script).await.unwrap();
        let refuse = move |payload: &Value| {
            let is_poison = |question: &String| question.ends_with(POISON);
            let refused = outage == Outage::Poison && kind.questions(payload).iter().any(is_poison);
            refused.then_some(Reaction::Status(400, None))
        };
        let collector = Collector::start_judging(Box::new(refuse)).await.unwrap();
        collector.script(outage.reaction().map_or_else(Vec::new, |reaction| reaction.times(100_000)));
        let front = Front::start(outage.modes().0, collector.addr());
        let home = tempfile::tempdir().unwrap();
        let scheme = if outage == Outage::Impostor { "https" } else { "http" };
        let sink = kind.settings(&format!("{scheme}://{}", front.address));
        let file = home.path().join("threadtap.toml");
        std::fs::write(&file, format!("{DELIVERY}[[sinks]]\n{sink}")).unwrap();
        let launch = Launch::on_free_ports(home.path())
            .flag("--upstream", format!("http://{}", assistants.addr()))
            .flag("--data-dir", home.path().join("data"))
            .flag("--config", file)
            .variable("SSL_CERT_FILE", Front::trusted());
        let threadtap = launch.start().await;
        let collector = Arc::new(collector);
        Self { kind, outage, threadtap, front, collector, _assistants: assistants, _home: home }
    }

    /// Waits until an attempt has met the outage.
    async fn until_felt(&self) {
        let (sink, verdict) = (self.kind.name(), self.outage.verdict());
        let counted = format!("threadtap_deliveries_total{{sink=\"{sink}\",verdict=\"{verdict}\"}}");
        soon("the outage to be met", async {
            while self.threadtap.metric(&counted).await < 1.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn recover(&self) {
        let (during, after) = self.outage.modes();
        if during != after {
            assert!(during == Mode::Refuse || self.front.connections() > 0);
            self.front.turn(after);
        }
        self.collector.recover();
    }

    /// The questions whose payloads were taken.
    fn delivered(&self) -> BTreeSet<String> {
        self.collector.accepted().iter().flat_map(|payload| self.kind.questions(payload)).collect()
    }
}

/// What came of an outage.
struct Row {
    kind: Kind,
    outage: Outage,
    runs: usize,
    expected: usize,
    delivered: usize,
    dead: f64,
    there: Percentiles,
    beside: Percentiles,
    peak_mib: u64,
    caught_up: Option<Duration>,
}

impl Row {
    fn check(&self) {
        let Self { expected, delivered, dead, there, beside, .. } = self;
        let told = self.markdown();
        assert_eq!(delivered, expected, "{told}");
        assert_eq!(*dead as u64, u64::from(self.outage == Outage::Poison), "{told}");
        // A second is far more than one of two alike is held up by a busy machine in most of its turns, and half of what waiting
        // for the quickest of the backends that answer late would cost in each.
        assert!(there.p50 <= beside.p50 * 2 + Duration::from_secs(1), "{told}");
    }

    fn markdown(&self) -> String {
        let Self { kind, outage, runs, expected, delivered, dead, there, beside, peak_mib, caught_up } = self;
        let caught_up = caught_up.map_or_else(|| "never".to_owned(), |time| format!("{time:.1?}"));
        format!(
            "| {} | {} | {runs} | {delivered} of {expected} | {dead} | {there} | {beside} | {peak_mib} MiB | {caught_up} |\n",
            outage.title(),
            kind.name(),
        )
    }
}

struct Percentiles {
    p50: Duration,
    p99: Duration,
}

impl Percentiles {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        Self { p50: at(50), p99: at(99) }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?} / {:.1?}", self.p50, self.p99)
    }
}

#[expect(clippy::disallowed_methods, reason = "the time clients and backends wait is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// Pauses as short as the test needs them; all else is the default.
const DELIVERY: &str = "[delivery]\nattempt_timeout = \"3s\"\nmin_backoff = \"100ms\"\nmax_backoff = \"1s\"\n\
                        misconfigured_pause = \"1s\"\n\n";
const CLIENTS: usize = 4;
const POISON: &str = "poison";
const CATCH_UP: Duration = Duration::from_secs(60);
