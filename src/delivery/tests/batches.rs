use std::collections::{BTreeMap, BTreeSet};

use threadtap_core::event::Event;
use threadtap_core::sink::Batch;

use super::backend::{Received, batching, event_of};
use super::*;

const FIFTY: Batch = Batch { events: 50, linger: Duration::ZERO };

#[tokio::test]
async fn what_waits_in_a_lane_goes_together_in_order_and_is_acknowledged_at_once() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add(&["s"], 0..1600);
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    let requests = backend.requests();
    check_delivered(&requests, (0..1600).collect());
    // Conversations are spread over lanes by chance; each lane's last batch may be smaller.
    assert!((32..=40).contains(&requests.len()), "{}", requests.len());
    assert_eq!(world.count("s", "ack"), requests.len() as u64);
    let delivered = world.metrics.delivered.get_or_create(&SinkLabel { sink: "s".to_owned() }).get();
    assert_eq!(delivered, 1600);
}

#[tokio::test]
async fn a_backlog_longer_than_a_lane_holds_makes_full_batches() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    world.add_numbers(&["s"], (0..2000).map(|number| number * THREADS));
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    check_delivered(&backend.requests(), (0..2000).map(|number| number * THREADS).collect());
    assert_eq!(backend.requests().len(), 2000 / 50);
}

#[tokio::test]
async fn a_batch_waits_for_company_and_the_last_call_ends_the_wait() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    let hour = Batch { events: 50, linger: Duration::from_secs(3600) };
    world.add_numbers(&["s"], [0]);
    let delivery = world.start(&[batching("s", &backend, hour)]);
    world.add_numbers(&["s"], [THREADS]);
    assert_eq!(world.waiting("s").await.deliveries, 2);
    delivery.shutdown(Duration::from_secs(20)).await;
    let requests = backend.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].events.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, THREADS]);
    assert_eq!(world.waiting("s").await, Waiting::default());
}

#[tokio::test]
async fn a_full_batch_does_not_linger_and_a_lone_record_does_not_linger_for_ever() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    let linger = Duration::from_millis(200);
    let _delivery = world.start(&[batching("s", &backend, Batch { events: 2, linger })]);
    world.add_numbers(&["s"], [0, THREADS, 2 * THREADS]);
    let queued_at = world.clock.now();
    world.settled().await;
    let requests = backend.requests();
    assert_eq!(requests.iter().map(|request| request.events.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(requests[1].at.since(queued_at) >= linger / 2, "it waited for company");
    assert!(requests[0].at < requests[1].at);
}

#[tokio::test]
async fn poisonous_payloads_die_alone_and_all_others_are_delivered_once_and_in_order() {
    for seed in 1..=5_usize {
        // One in a hundred, at places that differ.
        let is_poisonous = move |number: usize| (number * 7919 + seed * 104_729).is_multiple_of(97);
        let backend = Backend::start(move |request, _| {
            if request.events.iter().any(|(number, _)| is_poisonous(*number)) {
                Reply { body: "one of them is bad", ..Reply::status(400) }
            } else {
                Reply::ok()
            }
        })
        .await;
        let world = World::new(None);
        world.add(&["s"], 0..800);
        let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
        world.settled().await;
        let requests = backend.requests();
        let (poisonous, healthy): (Vec<usize>, Vec<usize>) =
            (0..800).partition(|number| is_poisonous(*number));
        check_delivered(&requests, healthy.into_iter().collect());
        assert_eq!(world.dead("s", "refused"), poisonous.len() as u64);
        assert_eq!(world.waiting("s").await.dead_letters, poisonous.len() as u64);
        let alone =
            |number: usize| requests.iter().filter(|r| r.events.len() == 1 && r.number == number).count();
        assert!(poisonous.iter().all(|number| alone(*number) == 1));
        assert!(requests.len() <= 800 / 50 + 8 + poisonous.len() * 12, "{} requests", requests.len());
    }
}

#[tokio::test]
async fn one_poisonous_payload_in_a_backlog_of_ten_thousand_costs_a_dozen_requests() {
    let poisonous = 4_321 * THREADS;
    let backend = Backend::start(move |request, _| {
        let refused = request.events.iter().any(|(number, _)| *number == poisonous);
        if refused { Reply::status(400) } else { Reply::ok() }
    })
    .await;
    let world = World::new(None);
    world.add_numbers(&["s"], (0..10_000).map(|number| number * THREADS));
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    let requests = backend.requests();
    let healthy = (0..10_000).map(|number| number * THREADS).filter(|number| *number != poisonous);
    check_delivered(&requests, healthy.collect());
    assert_eq!(world.dead("s", "refused"), 1);
    assert!((201..=212).contains(&requests.len()), "{} requests", requests.len());
}

#[tokio::test]
async fn a_batch_too_large_for_the_backend_is_divided_until_it_fits() {
    let backend =
        Backend::start(|request, _| if request.events.len() > 7 { Reply::status(413) } else { Reply::ok() })
            .await;
    let world = World::new(None);
    world.add(&["s"], 0..400);
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    check_delivered(&backend.requests(), (0..400).collect());
    assert_eq!(world.waiting("s").await.dead_letters, 0);
}

#[tokio::test]
async fn of_a_batch_that_fails_while_others_succeed_only_what_is_stuck_is_parked() {
    let stuck = 5 * THREADS;
    let backend = Backend::start(move |request, _| {
        let fails = request.events.iter().any(|(number, _)| *number == stuck);
        if fails { Reply::status(500) } else { Reply::ok() }
    })
    .await;
    let world = World::new(None);
    world.add_numbers(&["s"], (0..20).map(|number| number * THREADS));
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    let mut added = BTreeSet::new();
    for number in 1.. {
        if world.waiting("s").await.dead_letters == 1 {
            break;
        }
        // Another conversation, so that something succeeds meanwhile.
        world.add_numbers(&["s"], [number * THREADS + 1]);
        added.insert(number * THREADS + 1);
        backend.received(backend.requests().len() + 1).await;
    }
    world.settled().await;
    let mut healthy: BTreeSet<_> = (0..20).map(|number| number * THREADS).collect();
    healthy.remove(&stuck);
    healthy.extend(added);
    check_delivered(&backend.requests(), healthy);
    assert_eq!((world.dead("s", "stuck"), world.waiting("s").await.dead_letters), (1, 1));
    let alone = backend.requests().iter().filter(|r| r.events.len() == 1 && r.number == stuck).count();
    assert!(alone >= 8, "{alone}");
}

#[tokio::test]
async fn a_batch_never_tells_more_events_than_the_backend_takes_save_one_record_that_does() {
    let messages = |number: usize| if number.is_multiple_of(37) { 30 } else { 1 + number % 4 };
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    let op = |number: usize| {
        let event = event_of(number, &format!("thread_{}", number % THREADS), messages(number));
        store::Op::event(&event, world.clock.now(), vec![Arc::from("s")])
    };
    world.store.commit((0..600).map(op).collect(), Duration::from_secs(5)).unwrap();
    let batch = Batch { events: 20, linger: Duration::ZERO };
    let _delivery = world.start(&[batching("s", &backend, batch)]);
    world.settled().await;
    check_delivered(&backend.requests(), (0..600).collect());
    for request in backend.requests() {
        let told: usize = request.events.iter().map(|(number, _)| messages(*number)).sum();
        assert!(told <= 20 || request.events.len() == 1, "{told} events of {} records", request.events.len());
    }
}

#[tokio::test]
async fn a_batch_holds_no_more_bytes_than_it_may_save_one_record_that_does() {
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(None);
    let large = |number: usize, bytes: usize| {
        let Event::Interaction(mut interaction) = event(number, "thread_0") else { unreachable!() };
        interaction.model = Some("m".repeat(bytes));
        let sinks = vec![Arc::from("s")];
        store::Op::event(&Event::Interaction(interaction), world.clock.now(), sinks)
    };
    let sizes = [400 << 10, 400 << 10, 400 << 10, 3 << 20, 10, 10];
    let ops = sizes.iter().enumerate().map(|(number, bytes)| large(number, *bytes)).collect();
    world.store.commit(ops, Duration::from_secs(5)).unwrap();
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    let told = |request: &Received| request.events.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    let requests: Vec<_> = backend.requests().iter().map(told).collect();
    assert_eq!(requests, [vec![0, 1], vec![2], vec![3], vec![4, 5]]);
}

#[tokio::test]
async fn an_outage_of_a_batching_sink_loses_and_repeats_nothing_and_keeps_the_order() {
    let backend = Backend::start(|_, nth| match nth {
        0..20 => Reply::status(503),
        20..30 => Reply { headers: vec![("retry-after", "0".to_owned())], ..Reply::status(429) },
        30..32 => Reply::status(401),
        _ => Reply::ok(),
    })
    .await;
    let world = World::new(None);
    world.add(&["s"], 0..400);
    let _delivery = world.start(&[batching("s", &backend, FIFTY)]);
    world.settled().await;
    check_delivered(&backend.requests(), (0..400).collect());
    assert_eq!((world.count("s", "retry"), world.count("s", "misconfigured")), (30, 2));
}

#[tokio::test]
async fn a_courier_dropped_in_the_middle_repeats_at_most_one_batch_per_lane() {
    let dir = tempfile::TempDir::new().unwrap();
    let backend = Backend::start(|_, _| Reply::ok()).await;
    let world = World::new(Some(dir.path().to_owned()));
    world.add(&["s"], 0..800);
    let ten = Batch { events: 10, linger: Duration::ZERO };
    let delivery = world.start(&[batching("s", &backend, ten)]);
    backend.received(30).await;
    drop(delivery);
    world.store.close();
    let world = World::new(Some(dir.path().to_owned()));
    let _delivery = world.start(&[batching("s", &backend, ten)]);
    world.settled().await;
    let sent: Vec<usize> =
        backend.requests().iter().flat_map(|request| request.events.iter().map(|event| event.0)).collect();
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 800);
    assert!(sent.len() - 800 <= 8 * 10, "{} were repeated", sent.len() - 800);
}

/// These were taken once each, and in order within their conversation.
fn check_delivered(requests: &[Received], expected: BTreeSet<usize>) {
    let mut by_thread: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == 200) {
        for (number, thread) in &request.events {
            by_thread.entry(thread).or_default().push(*number);
        }
    }
    for (thread, numbers) in &by_thread {
        assert!(numbers.is_sorted(), "{thread}: {numbers:?}");
    }
    let delivered: Vec<usize> = by_thread.into_values().flatten().collect();
    assert_eq!(delivered.len(), expected.len());
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>(), expected);
}
