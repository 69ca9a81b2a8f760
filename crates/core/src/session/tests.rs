use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::attribution::Attribution;

const MINUTE: u64 = 60_000;

struct SessionFixture {
    sessions: Sessions,
    events: Vec<String>,
    stored: HashMap<SessionKey, SessionState>,
}

impl SessionFixture {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self { sessions: Sessions::new(config), events: Vec::new(), stored: HashMap::new() }
    }

    fn talk(&mut self, minute: u64, thread: &str, session: Option<&str>) {
        self.talk_with(
            minute,
            thread,
            Attribution { session: session.map(str::to_owned), ..Attribution::default() },
        );
    }

    fn talk_with(&mut self, minute: u64, thread: &str, attribution: Attribution) {
        self.sessions.handle_timeout(UnixMillis(minute * MINUTE));
        self.sessions.handle(&interaction(thread, attribution), UnixMillis(minute * MINUTE));
        self.collect();
    }

    fn wait_until(&mut self, minute: u64) {
        self.sessions.handle_timeout(UnixMillis(minute * MINUTE));
        self.collect();
    }

    fn delete(&mut self, minute: u64, thread: &str) {
        self.sessions.handle_deletion(&conversation(thread), UnixMillis(minute * MINUTE));
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.sessions.poll() {
            match output {
                SessionChange::Event(Event::SessionOpened(opened)) => {
                    self.events.push(format!("open {}", opened.session.id))
                }
                SessionChange::Event(Event::SessionClosed(closed)) => {
                    let SessionClosed { session, at, reason, .. } = *closed;
                    self.events.push(format!("close {} {reason:?} at {}", session.id, at.0 / MINUTE));
                }
                SessionChange::Event(other) => panic!("{other:?}"),
                SessionChange::Remember(key, Some(state)) => {
                    // What is stored must be read back.
                    let json = serde_json::to_string(&state).unwrap();
                    self.stored.insert(key, serde_json::from_str(&json).unwrap());
                }
                SessionChange::Remember(key, None) => {
                    self.stored.remove(&key);
                }
            }
        }
    }

    /// Another process takes over.
    fn restart(&mut self) {
        self.sessions = Sessions::new(self.sessions.config.clone());
        for (key, state) in self.stored.clone() {
            self.sessions.restore(key, state);
        }
    }
}

fn conversation(thread: &str) -> ConversationKey {
    ConversationKey { upstream: "u".into(), id: thread.into() }
}

fn interaction(thread: &str, attribution: Attribution) -> Interaction {
    let json = json!({"key": "k", "conversation": {"upstream": "u", "id": thread}, "run": "r", "status": "completed",
        "assistant": "a", "model": "m", "inputs": [], "outputs": [], "tool_calls": [], "usage": null, "usage_absent": "not_reported",
        "error": null, "metadata": null, "times": {"created_at": null, "started_at": null, "ended_at": null, "request_at": 1,
        "first_token_at": null, "end_at": 2}, "inputs_complete": true, "outputs_complete": true, "assumed": false,
        "pairing": "exact"});
    Interaction { attribution, ..serde_json::from_str(&json.to_string()).unwrap() }
}

#[test]
fn a_session_opens_at_its_first_interaction_and_closes_when_it_was_idle_for_30_minutes() {
    let mut world = SessionFixture::new();
    world.talk(0, "t", None);
    world.talk(29, "t", None);
    world.wait_until(58);
    assert_eq!(world.events, ["open t"]);
    assert_eq!(world.sessions.poll_timeout(), Some(UnixMillis(59 * MINUTE)));
    world.wait_until(100);
    assert_eq!(world.events, ["open t", "close t Idle at 59"]);
    assert!(world.stored.is_empty() && world.sessions.is_empty());
}

#[test]
fn a_session_that_goes_on_after_it_was_over_is_opened_again_under_a_key_of_its_own() {
    let mut world = SessionFixture::new();
    let mut keys = Vec::new();
    for minute in [0, 31] {
        world.sessions.handle_timeout(UnixMillis(minute * MINUTE));
        world.sessions.handle(&interaction("t", Attribution::default()), UnixMillis(minute * MINUTE));
        while let Some(output) = world.sessions.poll() {
            if let SessionChange::Event(event) = output {
                keys.push(event.key().to_owned());
            }
        }
    }
    assert_eq!(keys.len(), 3, "opened, closed, opened");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn the_app_may_name_the_time_and_the_session() {
    let mut world = SessionFixture::new();
    let named = Attribution {
        session: Some("s".to_owned()),
        session_timeout_minutes: Some(5),
        ..Attribution::default()
    };
    world.talk_with(0, "t1", named.clone());
    world.talk_with(4, "t2", named);
    world.wait_until(9);
    assert_eq!(world.events, ["open s", "close s Idle at 9"]);
}

#[test]
fn a_deleted_conversation_ends_its_session_but_not_one_that_has_others() {
    let mut world = SessionFixture::new();
    world.talk(0, "t1", None);
    world.talk(0, "t2", Some("alone"));
    world.talk(0, "t3", Some("shared"));
    world.talk(0, "t4", Some("shared"));
    for thread in ["t1", "t2", "t3", "t4", "unknown"] {
        world.delete(1, thread);
    }
    let expected = ["close t1 ConversationDeleted at 1", "close alone ConversationDeleted at 1"];
    assert_eq!(world.events[3..], expected);
}

#[test]
fn a_conversation_that_was_part_of_two_named_sessions_ends_both() {
    let mut world = SessionFixture::new();
    world.talk(0, "t", Some("first"));
    world.talk(0, "t", Some("second"));
    world.restart();
    world.delete(1, "t");
    assert_eq!(world.events.len(), 4, "{:?}", world.events);
}

#[test]
fn sessions_of_two_apps_with_one_name_are_two() {
    let mut world = SessionFixture::new();
    for app in ["a", "b"] {
        let app = Some(app.to_owned());
        world.talk_with(0, "t", Attribution { session: Some("1".to_owned()), app, ..Attribution::default() });
    }
    assert_eq!(world.events, ["open 1", "open 1"]);
    assert_eq!(world.sessions.len(), 2);
}

#[test]
fn beyond_the_limit_the_one_that_would_close_first_is_closed() {
    let mut world = SessionFixture::with(Config { max_sessions: 2, ..Config::default() });
    for (minute, thread) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
        world.talk(minute, thread, None);
    }
    assert_eq!(world.events, ["open a", "open b", "open c", "close b Evicted at 3"]);
}

#[test]
fn what_sessions_take_in_memory_is_bounded_however_long_their_names_are() {
    let mut world = SessionFixture::with(Config { max_bytes: 100_000, ..Config::default() });
    for number in 0..100 {
        let session = Some(format!("{number} {}", "x".repeat(4000)));
        world.talk_with(number, "t", Attribution { session, ..Attribution::default() });
    }
    assert!((20..25).contains(&world.sessions.len()), "{}", world.sessions.len());
    for number in 0..100 {
        let conversation = ConversationKey { upstream: "api".into(), id: format!("t{number}").into() };
        world.sessions.handle_deletion(&conversation, UnixMillis(0));
    }
    world.sessions.handle_timeout(UnixMillis(u64::MAX));
    assert_eq!((world.sessions.len(), world.sessions.bytes), (0, 0), "all of it is given back");
}

proptest! {
    /// Whatever happens, opens and closes of a session alternate, and a restart changes nothing.
    #[test]
    fn opens_and_closes_alternate_also_across_restarts(
        steps in prop::collection::vec((0..4u8, 0..3usize, 0..40u64, prop::option::of(0..2usize)), 1..60),
    ) {
        let (mut world, mut steady) = (SessionFixture::new(), SessionFixture::new());
        let mut minute = 0;
        for (kind, thread, wait, session) in steps {
            minute += wait;
            let thread = ["t0", "t1", "t2"][thread];
            let session = session.map(|at| ["s0", "s1"][at]);
            match kind {
                0 => world.restart(),
                1 => {
                    world.delete(minute, thread);
                    steady.delete(minute, thread);
                }
                _ => {
                    world.talk(minute, thread, session);
                    steady.talk(minute, thread, session);
                }
            }
        }
        world.wait_until(minute + 31);
        steady.wait_until(minute + 31);
        prop_assert!(world.sessions.is_empty() && world.sessions.named.is_empty() && world.stored.is_empty());
        let sorted = |events: &[String]| {
            // Those that close in the same minute have no order.
            let mut events = events.to_vec();
            events.sort();
            events
        };
        prop_assert_eq!(sorted(&world.events), sorted(&steady.events));
        let mut open = BTreeSet::new();
        for event in &world.events {
            let (what, rest) = event.split_once(' ').unwrap();
            let id = rest.split(' ').next().unwrap();
            let turned = if what == "open" { open.insert(id) } else { open.remove(id) };
            prop_assert!(turned, "{:?}", world.events);
        }
        prop_assert!(open.is_empty());
    }
}
