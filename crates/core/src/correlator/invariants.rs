//! Builds traffic from arbitrary bytes, and checks what must hold for all traffic.
//!
//! The first byte selects the settings. Exchanges follow, each ended by `0xFF`. Their fields, each
//! ended by `0xFE`, are: four control bytes (see [`Steering`]), the request line without its
//! version, headers in lines, the request's body, and the response's. Neither separator occurs in
//! UTF-8, so real traffic can be written in this form, and stays recognisable when it is mutated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{
    AppMessages, Config, ConversationState, Correlator, Effect, Limits, Placed, Remembered, Standing,
};
use crate::dialect::{self, Observed, Observer};
use crate::exchange::{End, Ending, ExchangeId, RequestBody, Segment, Start};
use crate::interaction::Interaction;
use crate::observation::{ConversationKey, Observation};
use crate::time::UnixMillis;

/// Asserts that traffic of arbitrary bytes does no harm. Nothing panics. The observations do not
/// depend on how a body is split, and survive the journal. The correlator's bookkeeping is
/// consistent and within its limits. A run is recorded once. A new process continues where the last
/// one stopped. At the end nothing is left.
pub fn assert_invariants(data: &[u8]) {
    let Some((&settings, exchanges)) = data.split_first() else { return };
    let mut world = Process::new(settings);
    for exchange in exchanges.split(|byte| *byte == 0xFF).take(MAX_EXCHANGES) {
        world.exchange(exchange);
    }
    world.end();
}

/// The meaning of an exchange's four control bytes. Missing ones are 0.
struct Steering {
    /// Status and type of the response (3 bits), how it ended (2), whether the request was copied
    /// whole (1), and whether the process is killed, or shuts down, and restarts before the
    /// exchange (2).
    kind: u8,
    /// The size of the pieces in which the response arrives. 0 is whole.
    piece_bytes: u8,
    /// The square root of the seconds since the last exchange.
    wait: u8,
    /// Which piece is lost, counted from 1; 0 is none.
    lost: u8,
}

/// A process, its storage, and its output.
struct Process {
    config: Config,
    dialect: dialect::Config,
    correlator: Correlator,
    now: UnixMillis,
    journal: Vec<(ConversationKey, String)>,
    states: BTreeMap<ConversationKey, String>,
    histories: Vec<Remembered>,
    /// Keys of the records that this process emitted, except for conversations it has forgotten.
    recorded: BTreeMap<ConversationKey, BTreeSet<String>>,
    evicts: bool,
}

impl Process {
    fn new(settings: u8) -> Self {
        let evicts = settings & 1 == 1;
        let tight = Limits {
            conversations: 3,
            text_bytes: 24_000,
            conversation_messages: 4,
            conversation_runs: 2,
            conversation_text_bytes: 12_000,
            remembered_turns: 2,
        };
        let remembers = settings & 4 == 0;
        let limits = if evicts { tight } else { Limits::default() };
        let config = Config {
            first_used: UnixMillis(START),
            continuation_grace: Duration::from_secs(if settings & 8 == 8 { 300 } else { 0 }),
            app_messages: if settings & 2 == 2 { AppMessages::Drop } else { AppMessages::Include },
            limits: Limits {
                remembered_turns: if remembers { limits.remembered_turns } else { 0 },
                ..limits
            },
            ..Config::default()
        };
        Self {
            correlator: Correlator::new(config.clone()),
            config,
            dialect: dialect::Config::default(),
            now: UnixMillis(START),
            journal: Vec::new(),
            states: BTreeMap::new(),
            histories: Vec::new(),
            recorded: BTreeMap::new(),
            evicts,
        }
    }

    fn exchange(&mut self, exchange: &[u8]) {
        let mut fields = exchange.split(|byte| *byte == 0xFE);
        let mut field = || fields.next().unwrap_or_default();
        let byte = |of: &[u8], place: usize| of.get(place).copied().unwrap_or_default();
        let steering = field();
        let steering = Steering {
            kind: byte(steering, 0),
            piece_bytes: byte(steering, 1),
            wait: byte(steering, 2),
            lost: byte(steering, 3),
        };
        self.now = self.now.after(Duration::from_secs(u64::from(steering.wait).pow(2)));
        self.correlator.handle_timeout(self.now);
        self.collect();
        assert!(self.correlator.poll_timeout().is_none_or(|at| at > self.now));
        match steering.kind >> 6 {
            1 => {
                let before = self.standing();
                self.restart();
                assert!(
                    self.evicts || self.standing() == before,
                    "a killed process's successor knows something else"
                );
            }
            2 => {
                self.finish();
                self.restart();
            }
            _ => {}
        }
        let Some(start) = self.start(&steering, field(), field(), field()) else { return };
        for observation in self.observe(&steering, &start, field()) {
            self.tell(observation);
        }
    }

    fn start(&self, steering: &Steering, request: &[u8], headers: &[u8], body: &[u8]) -> Option<Start> {
        let request = String::from_utf8_lossy(request);
        let (method, target) = request.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = headers.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let value = HeaderValue::from_bytes(&line[colon + 1..]).ok()?;
            Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
        });
        let (status, content_type) = match steering.kind & 7 {
            0 => (200, Some("application/json")),
            1 => (200, Some("text/event-stream; charset=utf-8")),
            2 => (200, None),
            3 => (400, Some("application/json")),
            4 => (404, Some("application/json")),
            5 => (201, Some("application/problem+json")),
            6 => (200, Some("text/html")),
            _ => (500, None),
        };
        Some(Start {
            upstream: Arc::from("api.openai.com:443"),
            caller: None,
            method: Method::from_bytes(method.as_bytes()).ok()?,
            path: path.to_owned(),
            query: query.to_owned(),
            request_headers: headers.collect(),
            request_body: RequestBody { bytes: body.to_vec(), complete: steering.kind & 32 == 0 },
            request_at: self.now,
            status,
            content_type: content_type.map(HeaderValue::from_static),
            // The least specific type is combined with no coding.
            content_encoding: (steering.kind & 7 == 6).then(|| HeaderValue::from_static("none")),
            response_at: self.now,
        })
    }

    /// The observations of an exchange. They do not depend on how it is split, if nothing is lost.
    fn observe(&self, steering: &Steering, start: &Start, body: &[u8]) -> Vec<Observation> {
        let at = self.now;
        let ending = match (steering.kind >> 3) & 3 {
            0 | 1 => Ending::Complete,
            2 => Ending::ClientGone,
            _ => Ending::UpstreamFailed,
        };
        let watch = |piece_bytes: usize, lost: usize| {
            let mut observed = Observed::default();
            let mut segments = 0;
            let Some(mut observer) = Observer::start(ExchangeId(at.0), start, &self.dialect, &mut observed)
            else {
                return observed;
            };
            for (seq, bytes) in (0_u32..).zip(body.chunks(piece_bytes.max(1))) {
                segments = seq + 1;
                if segments as usize != lost {
                    observer.feed(&Segment { seq, at, bytes: bytes.to_vec() }, &mut observed);
                }
            }
            observer.end(&End { segments, at, ending }, &mut observed);
            observed
        };
        let piece_bytes = match steering.piece_bytes {
            0 => body.len(),
            bytes => usize::from(bytes),
        };
        let cut = watch(piece_bytes, usize::from(steering.lost));
        if steering.lost == 0 && piece_bytes < body.len() {
            let whole = watch(body.len(), 0);
            assert_eq!(format!("{cut:?}"), format!("{whole:?}"), "what is told depends on the cuts");
        }
        cut.observations
    }

    fn tell(&mut self, observation: Observation) {
        self.correlator.handle(observation, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.correlator.poll() {
            match output {
                Effect::Interaction(interaction) => {
                    let json = serde_json::to_string(&interaction).expect("a record can be written");
                    let read: Interaction = serde_json::from_str(&json).expect("a record can be read back");
                    assert_eq!(format!("{read:?}"), format!("{interaction:?}"), "the store changes a record");
                    assert!(interaction.usage.is_some() != interaction.usage_absent.is_some());
                    let known = self.recorded.entry(interaction.conversation).or_default();
                    let new = known.insert(interaction.key.clone());
                    assert!(new || known.len() > REMEMBERED, "{} is recorded twice", interaction.run);
                }
                Effect::Journal(placed) => {
                    let row = serde_json::to_string(&placed).expect("an observation can be written");
                    let read: Placed = serde_json::from_str(&row).expect("an observation can be read back");
                    assert_eq!(
                        format!("{read:?}"),
                        format!("{placed:?}"),
                        "the journal changes an observation"
                    );
                    self.journal.push((placed.conversation().clone(), row));
                }
                Effect::Note(_) => {}
                Effect::Remembered(remembered) => {
                    let json = serde_json::to_string(&remembered).expect("it can be written");
                    let read: Remembered = serde_json::from_str(&json).expect("it can be read back");
                    assert_eq!(read, remembered, "the store changes what is remembered");
                    self.histories.push(remembered);
                }
                Effect::Settled(key, state) => {
                    self.journal.retain(|(of, _)| *of != key);
                    match state {
                        Some(state) => {
                            let json = serde_json::to_string(&state).expect("a state can be written");
                            self.states.insert(key, json);
                        }
                        None => {
                            self.states.remove(&key);
                            self.recorded.remove(&key);
                        }
                    }
                }
            }
        }
        self.assert_books_balance();
    }

    fn assert_books_balance(&self) {
        let Correlator { config, conversations, deadlines, chains, open_runs, text_bytes, .. } =
            &self.correlator;
        let (mut runs, mut bytes, mut places, mut links) = (0, 0, Vec::new(), 0);
        for (key, conversation) in conversations {
            let standing = Standing::of(key, conversation, config);
            runs += standing.open_runs;
            bytes += standing.text_bytes;
            assert!(deadlines.contains(standing.place, key), "a conversation is not where it is looked for");
            places.push(standing.place);
            links += conversation.state.chain.len();
        }
        assert_eq!((*open_runs, *text_bytes), (runs, bytes), "the books do not balance");
        assert_eq!(deadlines.len(), places.len(), "a place is nobody's");
        assert!(chains.len() <= links, "a link leads nowhere");
        let Limits { conversations: most, text_bytes: most_bytes, remembered_turns, .. } = config.limits;
        assert!(self.correlator.histories.len() <= remembered_turns, "too much is remembered");
        assert!(conversations.len() <= most && *text_bytes <= most_bytes, "{text_bytes} bytes are held");
    }

    /// A shutdown settles finished runs. The next process continues with the rest.
    fn finish(&mut self) {
        self.correlator.finish(self.now);
        self.collect();
        for conversation in self.correlator.conversations.values() {
            let mut over = conversation.last_runs().filter(|run| run.is_terminal());
            // Held runs stay held if the journal stays.
            assert!(
                over.all(|run| run.is_held() && !conversation.is_settled()),
                "a shutdown leaves what is over"
            );
        }
    }

    /// Starts a new process on the storage of the last one. Records that were already emitted are
    /// emitted again, and the store's unique key removes the duplicates.
    fn restart(&mut self) {
        self.correlator = Correlator::new(self.config.clone());
        for (key, state) in &self.states {
            let state: ConversationState = serde_json::from_str(state).expect("a state can be read back");
            self.correlator.restore(key.clone(), state);
        }
        self.correlator.restore_histories(self.histories.iter().cloned());
        self.recorded.clear();
        for (_, row) in self.journal.clone() {
            let placed: Placed = serde_json::from_str(&row).expect("a row can be read");
            self.correlator.replay(&placed);
        }
        self.correlator.handle_timeout(self.now);
        self.collect();
        self.recorded.clear();
    }

    /// The known state of each conversation.
    fn standing(&self) -> BTreeMap<ConversationKey, String> {
        let known = self.correlator.conversations.iter();
        known.map(|(key, known)| (key.clone(), known.shown())).collect()
    }

    fn end(&mut self) {
        self.finish();
        self.correlator.handle_timeout(UnixMillis(u64::MAX));
        self.collect();
        let Correlator { conversations, deadlines, chains, open_runs, text_bytes, .. } = &self.correlator;
        assert_eq!(chains.len(), 0, "a link is never forgotten");
        assert!(conversations.is_empty(), "something is never forgotten: {conversations:?}");
        assert_eq!((deadlines.len(), *open_runs, *text_bytes), (0, 0, 0));
        assert!(self.journal.is_empty() && self.states.is_empty(), "something stays in the store");
    }
}

/// A time later than those in the traffic that seeds were made from.
const START: u64 = 1_000_000;
/// Keeps inputs quick.
const MAX_EXCHANGES: usize = 64;
/// Fewer runs than a conversation can remember.
const REMEMBERED: usize = 100;
