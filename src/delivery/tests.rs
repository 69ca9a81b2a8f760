use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::metrics::{DeadLetterLabel, DeliveryLabel, SinkLabel};
use crate::store::{self, Waiting};

mod backend;
/// Several deliveries in one request.
mod batches;
/// What backends cannot make deliveries hold.
mod memory;

use backend::{Backend, Reply, event, sink};

#[tokio::test]
async fn everything_arrives_once_and_in_order_within_its_conversation() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["s"], 0..120);
    let delivery = world.start(&[sink("s", &backend)]);
    world.add(&["s"], 120..200);
    world.settled().await;

    let mut by_thread: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for request in backend.requests() {
        by_thread.entry(request.thread).or_default().push(request.number);
    }
    let in_order: BTreeMap<_, _> =
        (0..THREADS).map(|n| (format!("thread_{n}"), (n..200).step_by(THREADS).collect())).collect();
    assert_eq!(by_thread, in_order);
    assert_eq!(world.count("s", "ack"), 200);
    delivery.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_backend_that_fails_and_recovers_gets_everything_in_order() {
    let backend = Backend::start(|_, nth| if nth < 25 { Reply::status(503) } else { Reply::ok() }).await;
    let world = World::new(None);
    world.add(&["s"], 0..60);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;

    let acked: Vec<_> = backend.requests().into_iter().filter(|request| request.status == 200).collect();
    assert_eq!(acked.len(), 60);
    for thread in 0..THREADS {
        let of = acked.iter().filter(|request| request.thread == format!("thread_{thread}"));
        assert!(of.map(|request| request.number).is_sorted(), "thread {thread}");
    }
    assert_eq!((world.count("s", "retry"), world.count("s", "ack")), (25, 60));
}

#[tokio::test]
async fn a_failing_sink_is_probed_by_one_at_a_time() {
    let backend = Backend::start(|_, nth| {
        let reply = if nth < 40 { Reply::status(500) } else { Reply::ok() };
        Reply { delay: Duration::from_millis(3), ..reply }
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..64);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    let requests = backend.requests();
    let in_flight = |requests: &[backend::Received]| requests.iter().map(|request| request.in_flight).max();
    assert_eq!(in_flight(&requests[..8]), Some(8), "nothing is known yet");
    // A lane may have tried again before a second one failed too.
    assert_eq!(in_flight(&requests[16..40]), Some(1));
    assert_eq!(in_flight(&requests[41..]), Some(8), "it is well again");
}

#[tokio::test]
async fn a_wrong_key_keeps_everything_until_it_is_right() {
    let right = Arc::new(AtomicBool::new(false));
    let accepted = Arc::clone(&right);
    let backend =
        Backend::start(
            move |_, _| {
                if accepted.load(Ordering::SeqCst) { Reply::ok() } else { Reply::status(401) }
            },
        )
        .await;
    let world = World::new(None);
    world.add(&["s"], 0..50);
    let _delivery = world.start(&[sink("s", &backend)]);
    backend.received(12).await;
    assert_eq!(world.waiting("s").await.deliveries, 50);
    right.store(true, Ordering::SeqCst);
    world.settled().await;
    assert_eq!(world.waiting("s").await, Waiting::default());
    assert_eq!(world.count("s", "ack"), 50);
    assert!(world.count("s", "misconfigured") >= 12);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_is_given_up() {
    let other = Backend::start(|_, _| Reply::ok()).await;
    let location = other.url.clone();
    let backend = Backend::start(move |_, nth| match nth {
        0 => Reply { headers: vec![("location", location.clone())], ..Reply::status(307) },
        _ => Reply::ok(),
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..1);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    assert_eq!((backend.requests().len(), other.requests().len()), (2, 0));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let backend = Backend::start(|_, nth| match nth {
        0 => Reply { headers: vec![("retry-after", "1".to_owned())], ..Reply::status(429) },
        _ => Reply::ok(),
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..1);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    let requests = backend.requests();
    assert_eq!(requests.len(), 2);
    let gap = requests[1].at.since(requests[0].at);
    assert!(gap >= Duration::from_millis(990), "{gap:?}");
}

#[tokio::test]
async fn a_black_hole_delays_no_other_sink_and_is_tried_again() {
    let open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&open);
    let hole = Backend::start(move |_, _| {
        if opened.load(Ordering::SeqCst) {
            Reply::ok()
        } else {
            Reply { delay: Duration::MAX, ..Reply::ok() }
        }
    })
    .await;
    let healthy = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["hole", "healthy"], 0..100);
    let _delivery = world.start(&[sink("hole", &hole), sink("healthy", &healthy)]);
    healthy.received(100).await;
    hole.received(10).await;
    assert_eq!(world.waiting("hole").await.deliveries, 100);
    open.store(true, Ordering::SeqCst);
    world.settled().await;
}

#[tokio::test]
async fn a_long_backlog_of_a_dead_sink_delays_no_other_sink() {
    let dead = Backend::start(|_, _| Reply { delay: Duration::MAX, ..Reply::ok() }).await;
    let healthy = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["dead"], 0..10_000);
    world.add(&["healthy"], 10_000..10_100);
    // Whoever waited for the dead one would wait for this long.
    let config = Config { attempt_timeout: Duration::from_secs(3600), ..quick() };
    let _delivery = world.start_with(config, &[sink("dead", &dead), sink("healthy", &healthy)]);
    healthy.received(100).await;
    assert_eq!(world.waiting("dead").await.deliveries, 10_000);
}

#[tokio::test]
async fn connections_are_used_again() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["s"], 0..200);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    assert!(backend.connections() <= 8, "{}", backend.connections());
}

#[tokio::test]
async fn nothing_is_given_up_unless_that_is_configured_and_then_it_is_counted() {
    let backend = Backend::start(|_, _| Reply::status(503)).await;
    let world = World::new(None);
    world.add(&["s"], 0..40);
    let delivery = world.start(&[sink("s", &backend)]);
    backend.received(100).await;
    assert_eq!(world.waiting("s").await, Waiting { dead_letters: 0, ..world.waiting("s").await });
    delivery.shutdown(Duration::from_secs(5)).await;
    assert_eq!(world.waiting("s").await.deliveries, 40);

    let config = Config { give_up_after_attempts: Some(3), ..quick() };
    let _delivery = world.start_with(config, &[sink("s", &backend)]);
    world.settled().await;
    assert_eq!(world.waiting("s").await.dead_letters, 40);
    assert_eq!(world.dead("s", "given_up"), 40);
}

#[tokio::test]
async fn what_is_too_old_is_given_up_with_one_failure_of_its_sink_but_not_before_it() {
    let well = Arc::new(AtomicBool::new(true));
    let answering = Arc::clone(&well);
    let backend =
        Backend::start(
            move |_, _| {
                if answering.load(Ordering::SeqCst) { Reply::ok() } else { Reply::status(401) }
            },
        )
        .await;
    let world = World::new(None);
    world.add(&["s"], 0..100);
    let config = Config { give_up_after_age: Some(Duration::ZERO), ..quick() };
    let delivery = world.start_with(config.clone(), &[sink("s", &backend)]);
    world.settled().await;
    assert_eq!((backend.requests().len(), world.waiting("s").await), (100, Waiting::default()));
    delivery.shutdown(Duration::from_secs(5)).await;

    well.store(false, Ordering::SeqCst);
    world.add(&["s"], 100..1100);
    let _delivery = world.start_with(config, &[sink("s", &backend)]);
    world.settled().await;
    assert_eq!((world.waiting("s").await.dead_letters, world.dead("s", "given_up")), (1000, 1000));
    let failed = backend.requests().len() - 100;
    assert!(failed < 100, "{failed} requests for what a few could tell");
}

#[tokio::test]
async fn a_refused_payload_is_a_dead_letter_with_the_answer_and_its_lane_goes_on() {
    let backend = Backend::start(|request, _| match request.number {
        3 => Reply { body: "no such thing", ..Reply::status(400) },
        4 => Reply { body: r#"{"status":"invalid"}"#, ..Reply::ok() },
        5 => Reply::status(413),
        _ => Reply::ok(),
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..40);
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    assert_eq!(backend.requests().len(), 40);
    assert_eq!(world.waiting("s").await.dead_letters, 3);
    let dead = world.metrics.dead_letters.get_or_create(&SinkLabel { sink: "s".to_owned() }).get();
    assert_eq!((dead, world.count("s", "dead_letter"), world.count("s", "split")), (3, 2, 1));
    let by_reason = ["refused", "status_not_ok", "too_large"].map(|reason| world.dead("s", reason));
    assert_eq!(by_reason, [1, 1, 1]);
}

#[tokio::test]
async fn a_payload_that_fails_while_others_succeed_is_parked() {
    let backend = Backend::start(|request, _| match request.number {
        0 => Reply::status(500),
        _ => Reply::ok(),
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..1);
    let _delivery = world.start(&[sink("s", &backend)]);
    for number in 1.. {
        if world.waiting("s").await.dead_letters == 1 {
            break;
        }
        // Another conversation, so that something succeeds meanwhile.
        world.add(&["s"], number * THREADS + 1..number * THREADS + 2);
        backend.received(backend.requests().len() + 1).await;
    }
    world.settled().await;
    let failed = backend.requests().into_iter().filter(|request| request.number == 0).count();
    assert!(failed >= 8, "{failed}");
}

#[tokio::test]
async fn what_was_acknowledged_is_not_sent_again_by_the_next_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let backend = Backend::start(|_, _| Reply::ok()).await;
    for start in 0..4 {
        let world = World::new(Some(dir.path().to_owned()));
        world.add(&["s"], start * 50..start * 50 + 50);
        let delivery = world.start(&[sink("s", &backend)]);
        backend.received(start * 50 + 20).await;
        delivery.shutdown(Duration::from_secs(10)).await;
        world.store.close();
    }
    let mut numbers: Vec<_> = backend.requests().iter().map(|request| request.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_courier_dropped_in_the_middle_repeats_at_most_one_per_lane_under_the_same_key() {
    let dir = tempfile::TempDir::new().unwrap();
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(Some(dir.path().to_owned()));
    world.add(&["s"], 0..200);
    let delivery = world.start(&[sink("s", &backend)]);
    backend.received(60).await;
    drop(delivery);
    world.store.close();
    let world = World::new(Some(dir.path().to_owned()));
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    let mut keys: Vec<_> = backend.requests().into_iter().map(|request| request.key).collect();
    let sent = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 200);
    assert!(sent - 200 <= 8, "{sent}");
}

#[tokio::test]
async fn the_last_call_tries_once_more_what_waits() {
    let well = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&well);
    let backend =
        Backend::start(
            move |_, _| {
                if answering.load(Ordering::SeqCst) { Reply::ok() } else { Reply::status(500) }
            },
        )
        .await;
    let world = World::new(None);
    world.add(&["s"], 0..40);
    let hour = Duration::from_secs(3600);
    let config = Config { backoff: Backoff::new(hour, hour).unwrap(), ..Config::default() };
    let delivery = world.start_with(config, &[sink("s", &backend)]);
    backend.received(8).await;
    well.store(true, Ordering::SeqCst);
    delivery.shutdown(Duration::from_secs(20)).await;
    assert_eq!(world.waiting("s").await, Waiting::default());
}

#[tokio::test]
async fn the_last_call_of_a_dead_sink_ends_after_one_attempt_per_lane() {
    let backend = Backend::start(|_, _| Reply::status(500)).await;
    let world = World::new(None);
    world.add(&["s"], 0..40);
    let delivery = world.start(&[sink("s", &backend)]);
    backend.received(10).await;
    delivery.shutdown(Duration::from_secs(20)).await;
    assert_eq!(world.waiting("s").await.deliveries, 40);
    assert!(backend.requests().iter().all(|request| request.number < THREADS));
}

#[tokio::test]
async fn a_long_backlog_of_one_conversation_is_delivered_in_order_beside_others() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    let one = (0..1000).map(|number| number * THREADS);
    world.add_numbers(&["s"], one.clone().chain([1, 2, 3]));
    let _delivery = world.start(&[sink("s", &backend)]);
    world.settled().await;
    let requests = backend.requests();
    let of = requests.iter().filter(|request| request.thread == "thread_0").map(|request| request.number);
    assert_eq!(of.collect::<Vec<_>>(), one.collect::<Vec<_>>());
    assert_eq!(requests.len(), 1003);
}

#[tokio::test]
async fn an_address_nobody_listens_at_is_tried_again() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["s"], 0..3);
    let _delivery = world.start(&[backend::sink_at("s", "http://127.0.0.1:1/track")]);
    while world.count("s", "retry") < 6 {
        tokio::task::yield_now().await;
    }
    assert_eq!((world.waiting("s").await.deliveries, backend.requests().len()), (3, 0));
}

/// A store, metrics and a clock.
struct World {
    store: Store,
    metrics: Metrics,
    clock: Clock,
}

impl World {
    fn new(data_dir: Option<std::path::PathBuf>) -> Self {
        let (metrics, _registry) = Metrics::new();
        let clock = Clock::start();
        let config = store::Config { data_dir, ..store::Config::default() };
        let (store, _) = Store::open(config, metrics.clone(), clock).unwrap();
        Self { store, metrics, clock }
    }

    /// Events with these numbers; conversation by number modulo [`THREADS`].
    fn add(&self, sinks: &[&str], numbers: std::ops::Range<usize>) {
        self.add_numbers(sinks, numbers);
    }

    fn add_numbers(&self, sinks: &[&str], numbers: impl IntoIterator<Item = usize>) {
        let ops = numbers.into_iter().map(|number| {
            let sinks = sinks.iter().map(|sink| Arc::from(*sink)).collect();
            store::Op::event(&event(number, &format!("thread_{}", number % THREADS)), self.clock.now(), sinks)
        });
        self.store.commit(ops.collect(), Duration::from_secs(5)).unwrap();
    }

    fn start(&self, sinks: &[Arc<Sink>]) -> Delivery {
        self.start_with(quick(), sinks)
    }

    fn start_with(&self, config: Config, sinks: &[Arc<Sink>]) -> Delivery {
        Delivery::start(config, sinks, &self.store, &self.metrics, self.clock)
    }

    /// Until nothing waits at any sink.
    async fn settled(&self) {
        self.store.apply(Vec::new()).await.unwrap();
        while self.store.backlog().await.unwrap().sinks.values().any(|waiting| waiting.deliveries > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn waiting(&self, sink: &str) -> Waiting {
        self.store.apply(Vec::new()).await.unwrap();
        self.store.backlog().await.unwrap().sinks.get(sink).copied().unwrap_or_default()
    }

    fn dead(&self, sink: &str, reason: &'static str) -> u64 {
        self.metrics.dead_lettered.get_or_create(&DeadLetterLabel { sink: sink.to_owned(), reason }).get()
    }

    fn count(&self, sink: &str, verdict: &'static str) -> u64 {
        self.metrics.deliveries.get_or_create(&DeliveryLabel { sink: sink.to_owned(), verdict }).get()
    }
}

/// Settings that have no test wait.
fn quick() -> Config {
    let millis = Duration::from_millis;
    Config {
        // What is answered must not be given up because the machine is busy.
        attempt_timeout: millis(10_000),
        backoff: Backoff::new(millis(1), millis(5)).unwrap(),
        misconfigured_pause: millis(10),
        ..Config::default()
    }
}

const THREADS: usize = 16;
