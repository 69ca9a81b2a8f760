//! A random case: how the server is, and what clients, network and processes do, one step after the other.

use proptest::collection::vec;
use proptest::prelude::*;
use threadtap_testkit::assistants::{Framing, LineEnd, Progress, Script, UsageTiming, WireShape};

/// A case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
}

/// What stays the same for a whole case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) seed: u16,
    /// Whether runs are over, or wait for tools, before their creation is answered; else polls move them.
    pub(super) immediate: bool,
    /// Whether a thread refuses messages and runs while a run is active.
    pub(super) locks: bool,
    pub(super) created: u16,
    pub(super) compress: bool,
    pub(super) framing: Framing,
    pub(super) line_end: LineEnd,
    pub(super) done: bool,
    pub(super) usage: UsageTiming,
    /// Whether messages the app writes in the assistant's name are left out.
    pub(super) drops_app_messages: bool,
    /// Whether fates are looked at; else everything is seen at once.
    pub(super) rough: bool,
}

impl Setup {
    pub(super) fn script(&self) -> Script {
        Script {
            seed: self.seed.into(),
            progress: if self.immediate { Progress::Immediate } else { Progress::Polls },
            created_status: self.created,
            usage: self.usage,
            lock_active_runs: self.locks,
            wire: WireShape {
                compress: self.compress,
                line_end: self.line_end,
                framing: self.framing,
                comments: self.seed.is_multiple_of(3),
                done: self.done,
                ..WireShape::default()
            },
            ..Script::default()
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// How long after the one before.
    pub(super) after_ms: u16,
    pub(super) act: Act,
    pub(super) fate: Fate,
}

/// What becomes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is captured as it happens.
    Seen,
    /// Its answer comes late: it is captured some steps later.
    Held,
    /// It takes place, and is not captured: the answer was lost, or another proxy has it.
    Lost,
    /// The server answers 503 and does nothing.
    Refused,
    /// The client leaves in the middle of the answer.
    Short,
}

/// Which of several: counted back from the latest.
pub(super) type Back = u8;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Advance { run: Back, acts: u8 },
    Cancel { run: Back },
    CreateMessage { thread: Back, text: u8, assistant: bool },
    CreateRun { thread: Back, behaviour: u8, streamed: bool, additional: u8 },
    CreateThread { messages: u8 },
    CreateThreadAndRun { messages: u8, behaviour: u8, streamed: bool },
    DeleteMessage { thread: Back, message: Back },
    DeleteThread { thread: Back },
    Deliver { held: Back },
    Expire { run: Back },
    FetchMessage { thread: Back, message: Back },
    ListMessages { thread: Back, page: Page },
    ListRuns { thread: Back, ascending: bool, limit: u8 },
    ListSteps { run: Back, ascending: bool, limit: u8, goes_on: bool },
    ModifyMessage { thread: Back, message: Back },
    ModifyRun { run: Back },
    Poll { run: Back },
    Repeat,
    Restart,
    Shutdown,
    Stream { stream: Back, acts: u8 },
    StreamBreaks { stream: Back, how: Break, at: u8 },
    Submit { run: Back, streamed: bool },
    Wait { seconds: u16 },
}

/// Which page of a thread's messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) ascending: bool,
    pub(super) limit: u8,
    pub(super) start: Start,
    /// Only those of the thread's run so many back.
    pub(super) run: Option<Back>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// After some message.
    After(Back),
    /// Before some message.
    Before(Back),
    Beginning,
    /// Where the last page of the kind stopped.
    GoesOn,
}

/// How a stream breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    ClientGone,
    UpstreamFailed,
}

/// What is said; few words, so that the same are said often.
pub(super) const TEXTS: [&str; 3] = ["yes", "tell me more", "no"];

/// What runs do; see `Behaviour`.
pub(super) const BEHAVIOURS: [&str; 19] = [
    "echo",
    "fail",
    "tool",
    "messages",
    "cancel",
    "incomplete",
    "expire",
    "stall",
    "tool_fail",
    "tool_incomplete",
    "tool_expire",
    "tool_cancel",
    "fail_early",
    "error",
    "empty",
    "code",
    "tool_twice",
    "tools",
    "talk_tool",
];

/// Runs from beginning to end, and anything at all before, between and after.
pub(super) fn case() -> impl Strategy<Value = Case> {
    let part = prop_oneof![6 => step().prop_map(|step| vec![step]).boxed(), 1 => whole_run().boxed()];
    (setup(), vec(part, 4..32)).prop_map(|(setup, parts)| Case { setup, steps: parts.concat() })
}

/// A run with its question, and some way to learn of its end: what chance alone seldom puts together.
fn whole_run() -> impl Strategy<Value = Vec<Step>> {
    (0..6_u8, 0..12_u8, 0..5_usize, page(), any::<bool>()).prop_map(
        |(route, ending, finish, page, listed)| {
            let behaviours = match ending {
                0..3 => ["stall", "error", "tool", "stall", "error"],
                3..6 => ["tool", "tool_fail", "tool_cancel", "tool_expire", "tool_incomplete"],
                _ => ["messages", "fail", "cancel", "expire", "incomplete"],
            };
            let behaviour = BEHAVIOURS.iter().position(|name| *name == behaviours[finish]).unwrap();
            let behaviour = u8::try_from(behaviour).unwrap();
            let streamed = matches!(ending, 1 | 6);
            let (thread, run, stream) = (0, 0, 0);
            let mut acts = Vec::new();
            match route {
                0 => acts.extend([
                    Act::CreateThread { messages: 0 },
                    Act::CreateMessage { thread, text: 0, assistant: false },
                ]),
                1 => acts.push(Act::CreateThread { messages: 1 }),
                2 => acts.push(Act::CreateThreadAndRun { messages: 1, behaviour, streamed }),
                4 => acts.extend([
                    Act::CreateThread { messages: 0 },
                    Act::CreateMessage { thread, text: 1, assistant: false },
                ]),
                _ => acts.push(Act::CreateThread { messages: 0 }),
            }
            let asked = acts.len() - 1;
            if route != 2 {
                acts.push(Act::CreateRun { thread, behaviour, streamed, additional: u8::from(route == 3) });
            }
            let whole = Page { ascending: false, limit: 20, start: Start::Beginning, run: None };
            if route == 4 {
                acts.push(Act::ListMessages { thread, page: whole });
            }
            acts.push(if streamed {
                Act::Stream { stream, acts: 80 }
            } else {
                Act::Advance { run, acts: 80 }
            });
            acts.extend(match ending {
                0 => vec![Act::Poll { run }],
                1 => vec![Act::StreamBreaks { stream, how: Break::ClientGone, at: 0 }],
                2 => vec![Act::DeleteThread { thread }],
                3 => vec![Act::Submit { run, streamed: false }],
                4 => vec![Act::Cancel { run }],
                5 => vec![Act::Submit { run, streamed: true }, Act::Stream { stream, acts: 80 }],
                7 | 8 => vec![Act::Poll { run }],
                9 => vec![Act::ListRuns { thread, ascending: listed, limit: 20 }],
                10 | 11 => vec![Act::ModifyRun { run }],
                _ => Vec::new(),
            });
            acts.push(Act::ListMessages { thread, page });
            let fate = |at: usize| if route == 4 && at == asked { Fate::Lost } else { Fate::Seen };
            (0..).zip(acts).map(|(at, act)| Step { after_ms: 400, act, fate: fate(at) }).collect()
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    let framing =
        prop_oneof![3 => Just(Framing::Named), 1 => Just(Framing::DataOnly), 1 => Just(Framing::Wrapped)];
    let line_end = prop_oneof![4 => Just(LineEnd::Lf), 1 => Just(LineEnd::CrLf), 1 => Just(LineEnd::Cr)];
    let usage = prop_oneof![
        4 => Just(UsageTiming::Terminal), 1 => Just(UsageTiming::Late), 1 => Just(UsageTiming::Never)
    ];
    let flags = (rarely(2), rarely(3), rarely(5), rarely(5), rarely(6), rarely(2));
    (any::<u16>(), prop_oneof![Just(200_u16), Just(201)], framing, line_end, usage, flags).prop_map(
        |(seed, created, framing, line_end, usage, (immediate, free, compress, ends_bare, drops, rough))| {
            Setup {
                seed,
                immediate,
                locks: !free,
                created,
                compress,
                framing,
                line_end,
                done: !ends_bare,
                usage,
                drops_app_messages: drops,
                rough,
            }
        },
    )
}

/// True once in so many cases.
fn rarely(often: u32) -> impl Strategy<Value = bool> {
    (0..often).prop_map(move |n| n + 1 == often)
}

fn step() -> impl Strategy<Value = Step> {
    let after_ms = prop_oneof![2 => Just(0_u16), 3 => 1..700_u16, 4 => Just(1000), 2 => 1000..4000_u16];
    let fate = prop_oneof![
        14 => Just(Fate::Seen), 2 => Just(Fate::Held), 2 => Just(Fate::Lost), 1 => Just(Fate::Short), 1 => Just(Fate::Refused),
    ];
    (after_ms, act().boxed(), fate).prop_map(|(after_ms, act, fate)| Step { after_ms, act, fate })
}

/// Four times in five the latest, else one of five.
fn back() -> impl Strategy<Value = Back> {
    (0..25_u8).prop_map(|n| n.saturating_sub(20))
}

fn behaviour() -> impl Strategy<Value = u8> {
    0..u8::try_from(BEHAVIOURS.len()).unwrap()
}

fn page() -> impl Strategy<Value = Page> {
    let start = prop_oneof![
        6 => Just(Start::Beginning), 4 => Just(Start::GoesOn), 1 => back().prop_map(Start::After),
        1 => back().prop_map(Start::Before),
    ];
    let limit = prop_oneof![2 => Just(20_u8), 1 => 1..4_u8];
    let run = prop_oneof![3 => Just(None), 1 => back().prop_map(Some)];
    (rarely(3), limit, start, run).prop_map(|(ascending, limit, start, run)| Page {
        ascending,
        limit,
        start,
        run,
    })
}

fn act() -> impl Strategy<Value = Act> {
    let asks = prop_oneof![
        2 => (0..3_u8).prop_map(|messages| Act::CreateThread { messages }),
        4 => (back(), 0..3_u8, rarely(6))
            .prop_map(|(thread, text, assistant)| Act::CreateMessage { thread, text, assistant }),
    ];
    let runs = prop_oneof![
        5 => (back(), behaviour(), any::<bool>(), prop_oneof![2 => Just(0_u8), 1 => 1..3_u8]).prop_map(
            |(thread, behaviour, streamed, additional)| Act::CreateRun { thread, behaviour, streamed, additional }),
        2 => (0..3_u8, behaviour(), any::<bool>())
            .prop_map(|(messages, behaviour, streamed)| Act::CreateThreadAndRun { messages, behaviour, streamed }),
        3 => (back(), any::<bool>()).prop_map(|(run, streamed)| Act::Submit { run, streamed }),
        2 => back().prop_map(|run| Act::Cancel { run }),
    ];
    let goes_on = prop_oneof![
        6 => (back(), prop_oneof![1 => 1..12_u8, 2 => Just(80_u8)])
            .prop_map(|(stream, acts)| Act::Stream { stream, acts }),
        1 => (back(), any::<bool>(), any::<u8>()).prop_map(|(stream, client, at)| Act::StreamBreaks {
            stream, at, how: if client { Break::ClientGone } else { Break::UpstreamFailed },
        }),
        3 => (back(), prop_oneof![1 => 1..12_u8, 1 => Just(80_u8)]).prop_map(|(run, acts)| Act::Advance { run, acts }),
        1 => back().prop_map(|run| Act::Expire { run }),
    ];
    let looks = prop_oneof![
        6 => back().prop_map(|run| Act::Poll { run }),
        2 => (back(), any::<bool>(), prop_oneof![Just(20_u8), 1..3_u8])
            .prop_map(|(thread, ascending, limit)| Act::ListRuns { thread, ascending, limit }),
        2 => back().prop_map(|run| Act::ModifyRun { run }),
        6 => (back(), page().boxed()).prop_map(|(thread, page)| Act::ListMessages { thread, page }),
        2 => (back(), any::<bool>(), prop_oneof![2 => Just(20_u8), 1 => 1..3_u8], any::<bool>()).prop_map(
            |(run, ascending, limit, goes_on)| Act::ListSteps { run, ascending, limit, goes_on }),
        1 => (back(), back()).prop_map(|(thread, message)| Act::FetchMessage { thread, message }),
    ];
    let changes = prop_oneof![
        3 => (back(), back()).prop_map(|(thread, message)| Act::ModifyMessage { thread, message }),
        2 => (back(), back()).prop_map(|(thread, message)| Act::DeleteMessage { thread, message }),
        2 => back().prop_map(|thread| Act::DeleteThread { thread }),
    ];
    let world = prop_oneof![
        3 => Just(Act::Restart),
        1 => Just(Act::Shutdown),
        3 => back().prop_map(|held| Act::Deliver { held }),
        1 => Just(Act::Repeat),
        3 => (1..40_u16).prop_map(|seconds| Act::Wait { seconds }),
        1 => (600..700_u16).prop_map(|seconds| Act::Wait { seconds }),
    ];
    // In boxes, for a tree of choices is moved often and holds each choice in place.
    prop_oneof![
        6 => asks.boxed(), 9 => runs.boxed(), 9 => goes_on.boxed(), 12 => looks.boxed(), 2 => changes.boxed(),
        4 => world.boxed(),
    ]
}
