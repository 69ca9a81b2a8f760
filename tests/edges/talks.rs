//! Clients that repeat their conversation with every request, and what becomes of their turns.
//!
//! Several talks go on at one time, of few users and with few words, so that many of them begin alike. Clients forget the beginning
//! of a talk, change what was said, ask again, and go on twice from one turn; processes begin anew, and time passes. The
//! test knows which talk each turn is of. It holds two things against the records: no turn is ever joined to another talk, and
//! a turn whose whole history is known, and nobody else's, is joined to the turn that said it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use threadtap_core::interaction::{Interaction, Pairing};

use crate::harness::{Settings, World};
use crate::sample::Sample;
use crate::script::{Exchange, Step as Run};

#[derive(Clone, Debug)]
enum Step {
    /// A talk begins.
    Begin {
        user: usize,
        responses: bool,
    },
    /// Two go on from one turn: a talk is copied up to one of its answers.
    Branch {
        talk: usize,
        at: usize,
    },
    /// A client changes what was said.
    Edit {
        talk: usize,
        at: usize,
    },
    /// A process ends, and another one goes on.
    Restart,
    /// A client asks the same again, and keeps the second answer.
    Retry {
        talk: usize,
        word: usize,
    },
    /// A client keeps a summary of a talk, and its end.
    Summarize {
        talk: usize,
        kept: usize,
    },
    /// A turn; with tools if `calls`. `question` and `word` choose what is said: a common word, or one of its own.
    Turn {
        talk: usize,
        question: usize,
        word: usize,
        calls: bool,
        streamed: bool,
    },
    /// A client keeps the end of a talk.
    Trim {
        talk: usize,
        kept: usize,
    },
    Wait {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..16_usize;
    prop_oneof![
        3 => (0..3_usize, any::<bool>()).prop_map(|(user, responses)| Step::Begin { user, responses }),
        1 => (n(), n()).prop_map(|(talk, at)| Step::Branch { talk, at }),
        1 => (n(), n()).prop_map(|(talk, at)| Step::Edit { talk, at }),
        1 => Just(Step::Restart),
        1 => (n(), 0..4_usize).prop_map(|(talk, word)| Step::Retry { talk, word }),
        1 => (n(), 1..3_usize).prop_map(|(talk, kept)| Step::Summarize { talk, kept }),
        12 => (n(), 0..4_usize, 0..4_usize, prop::bool::weighted(0.2), any::<bool>()).prop_map(
            |(talk, question, word, calls, streamed)| Step::Turn { talk, question, word, calls, streamed }
        ),
        1 => (n(), 1..3_usize).prop_map(|(talk, kept)| Step::Trim { talk, kept }),
        1 => prop_oneof![4 => Just(10_u64), 1 => Just(3700), 1 => Just(90_000)]
            .prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    User(String),
    Assistant(String),
    /// A call, and what came back.
    Call(String),
    Output(String),
}

#[derive(Clone, Debug)]
struct Talk {
    /// The talk it is, or was copied from.
    family: usize,
    user: usize,
    responses: bool,
    summary: Option<String>,
    /// What the client sends again.
    said: Vec<Said>,
}

/// A turn that was answered.
#[derive(Debug)]
struct Turn {
    family: usize,
    user: usize,
    responses: bool,
    /// What was said up to it, with its answer.
    said: Vec<Said>,
    run: String,
    /// The first run of its conversation, as it must be recorded; none if that is open.
    conversation: Option<String>,
    at: u64,
    /// Whether nothing happened for an hour at any time before it.
    waited: bool,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// It goes on with this run.
    After(String),
    /// It begins a conversation.
    Nothing,
    /// It may go on with any run of its family.
    Family,
}

struct Play {
    world: World,
    talks: Vec<Talk>,
    turns: Vec<Turn>,
    waited: bool,
    serial: usize,
}

impl Play {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Begin { user, responses } => self.talks.push(Talk {
                family: self.talks.len(),
                user,
                responses,
                summary: None,
                said: Vec::new(),
            }),
            Step::Restart => self.world.restart(),
            Step::Wait { seconds } => {
                self.world.wait(Duration::from_secs(seconds));
                self.waited |= seconds * 1000 >= HOUR;
            }
            _ if self.talks.is_empty() => {}
            Step::Branch { talk, at } => {
                let mut copy = self.talk(talk).clone();
                let answers = answers(&copy.said);
                if let Some(at) = answers.get(at % answers.len().max(1)) {
                    copy.said.truncate(at + 1);
                    self.talks.push(copy);
                }
            }
            Step::Edit { talk, at } => {
                self.serial += 1;
                let edited = format!("edited {}", self.serial);
                let said = &mut self.talk(talk).said;
                let place = at % said.len().max(1);
                if let Some(Said::User(text) | Said::Assistant(text)) = said.get_mut(place) {
                    *text = edited;
                }
            }
            Step::Retry { talk, word } => {
                let word = self.word(word, "Hello!", "Done.");
                let said = &mut self.talk(talk).said;
                if let Some(Said::Assistant(_)) = said.last() {
                    said.pop();
                    self.ask(talk, Said::Assistant(word), false);
                }
            }
            Step::Summarize { talk, kept } => {
                let talk = self.talk(talk);
                talk.summary = Some(format!("{} messages", talk.said.len()));
                keep(&mut talk.said, kept);
            }
            Step::Trim { talk, kept } => keep(&mut self.talk(talk).said, kept),
            Step::Turn { talk, question, word, calls, streamed } => {
                let question = self.word(question, "hi", "ok");
                self.talk(talk).said.push(Said::User(question));
                if calls {
                    self.serial += 1;
                    let call = format!("call_{:020}x", self.serial);
                    self.ask(talk, Said::Call(call.clone()), streamed);
                    self.talk(talk).said.push(Said::Output(call));
                }
                let word = self.word(word, "Hello!", "Done.");
                self.ask(talk, Said::Assistant(word), streamed);
            }
        }
    }

    fn talk(&mut self, n: usize) -> &mut Talk {
        let place = n % self.talks.len();
        &mut self.talks[place]
    }

    fn word(&mut self, choice: usize, common: &str, other: &str) -> String {
        self.serial += 1;
        match choice {
            0 => common.to_owned(),
            1 => other.to_owned(),
            _ => format!("word {}", self.serial),
        }
    }

    /// A request with all that was said, and its answer. The client keeps both.
    fn ask(&mut self, place: usize, answer: Said, streamed: bool) {
        let talk = self.talk(place).clone();
        self.serial += 1;
        let run = format!("run_{}", self.serial);
        let mut exchange = match talk.responses {
            true => responses_exchange(&talk, &run, &answer),
            false => chat_exchange(&talk, &run, &answer, streamed),
        };
        if talk.user > 0 {
            exchange.headers = vec![("x-threadtap-user".to_owned(), format!("user {}", talk.user))];
        }
        let at = self.world.now.0 + 1000;
        let (expected, conversation) = self.expect(&talk, &run, at);
        self.world.run(&[Run::Exchange(exchange)]);
        let asked = self.talk(place);
        asked.said.push(answer);
        let Talk { family, user, responses, said, .. } = asked.clone();
        let waited = self.waited;
        self.turns.push(Turn { family, user, responses, said, run, conversation, at, waited, expected });
    }

    /// Where a request must be recorded.
    fn expect(&self, talk: &Talk, run: &str, at: u64) -> (Expected, Option<String>) {
        let own = || Some(run.to_owned());
        let Some(last) =
            talk.said.iter().rposition(|said| matches!(said, Said::Assistant(_) | Said::Call(_)))
        else {
            return (Expected::Nothing, own());
        };
        let history = &talk.said[..=last];
        let same = |turn: &&Turn| {
            turn.user == talk.user
                && turn.responses == talk.responses
                && at - turn.at <= DAY
                && turn.said == history
        };
        let found: Vec<&Turn> = self.turns.iter().rev().filter(same).collect();
        if let [Said::Call(call), Said::Output(_), ..] = &talk.said[last..] {
            // What a tool returned has the call's own id.
            let made =
                self.turns.iter().rev().find(|turn| turn.said.last() == Some(&Said::Call(call.clone())));
            if let Some(caller) = made {
                if at - caller.at > DAY {
                    return (Expected::Family, None);
                }
                return (Expected::After(caller.run.clone()), caller.conversation.clone());
            }
        }
        let Some(newest) = found.first() else { return (Expected::Family, None) };
        if found.iter().any(|turn| turn.conversation.is_none()) {
            return (Expected::Family, None);
        }
        let is_open = |turn: &Turn| at - turn.at < HOUR;
        let others = self.turns.iter().filter(|turn| {
            let same = turn.user == talk.user && turn.responses == talk.responses && at - turn.at <= DAY;
            same && turn.conversation != newest.conversation && (!is_open(newest) || is_open(turn))
        });
        let others: Vec<&Turn> = others.collect();
        // What another talk ends with may be what is left of it.
        let rivals = || others.iter().filter(|other| other.said.ends_with(history));
        if rivals().any(|rival| rival.conversation.is_none()) {
            return (Expected::Family, None);
        }
        if rivals().next().is_some() {
            return (Expected::Nothing, own());
        }
        // More than two exchanges are not compared one by one.
        let end = &history[answers(history).iter().rev().nth(2).map_or(0, |place| place + 1)..];
        if others.iter().any(|other| other.said.ends_with(end)) {
            return (Expected::Family, None);
        }
        (Expected::After(newest.run.clone()), newest.conversation.clone())
    }

    fn judge(&self, seen: &mut BTreeMap<&'static str, u32>) -> Result<(), String> {
        let records = &self.world.records;
        let record = |run: &str| records.iter().find(|record| record.run == run);
        let mut families: BTreeMap<&str, &Turn> = BTreeMap::new();
        for turn in &self.turns {
            let found = record(&turn.run).ok_or_else(|| format!("no record of {}", turn.run))?;
            let parent = found.parent_id.as_deref();
            let of = |run: &str| self.turns.iter().find(|turn| turn.run == run);
            match &turn.expected {
                Expected::After(before) if parent != Some(before) => {
                    return Err(format!("{} follows {parent:?} and not {before}", turn.run));
                }
                Expected::Nothing if parent.is_some() => {
                    return Err(format!("{} follows {parent:?}, and nothing tells which", turn.run));
                }
                _ => {}
            }
            let first = families.entry(&found.conversation.id).or_insert(turn);
            // A talk that was quiet for an hour is no longer open, and what it says may be taken for another's.
            if first.family != turn.family && !turn.waited {
                return Err(format!(
                    "{} is of the conversation of {}, a different talk",
                    turn.run, first.run
                ));
            }
            if let Some(parent) = parent {
                let parent_conversation = record(parent).map(|parent| &parent.conversation);
                if parent_conversation != Some(&found.conversation) || of(parent).is_none() {
                    return Err(format!("{} is not in its parent's conversation", turn.run));
                }
            }
            for cell in cells(turn, found) {
                *seen.entry(cell).or_default() += 1;
            }
        }
        Ok(())
    }
}

fn cells(turn: &Turn, record: &Interaction) -> Vec<&'static str> {
    let joined = record.pairing == Pairing::History;
    let is = [
        (
            "after a tool",
            joined && turn.said.iter().rev().nth(3).is_some_and(|said| matches!(said, Said::Output(_))),
        ),
        ("joined to the whole", joined && matches!(turn.expected, Expected::After(_))),
        ("joined to a part", joined && matches!(turn.expected, Expected::Family)),
        ("shared", !joined && matches!(turn.expected, Expected::Nothing) && turn.said.len() > 2),
        ("of Responses", joined && turn.responses),
    ];
    is.into_iter().filter(|(_, is)| *is).map(|(cell, _)| cell).collect()
}

/// Where the assistant's answers are.
fn answers(said: &[Said]) -> Vec<usize> {
    let is_answer = |place: &usize| matches!(said[*place], Said::Assistant(_) | Said::Call(_));
    (0..said.len()).filter(is_answer).collect()
}

/// Keeps the last answers, and what was asked for them.
fn keep(said: &mut Vec<Said>, kept: usize) {
    let starts: Vec<usize> = (0..said.len()).filter(|place| matches!(said[*place], Said::User(_))).collect();
    if let Some(from) = starts.len().checked_sub(kept).and_then(|first| starts.get(first)) {
        said.drain(..from);
    }
}

fn chat_exchange(talk: &Talk, run: &str, answer: &Said, streamed: bool) -> Exchange {
    let call = |id: &str| json!([{"index": 0, "id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let message = |said: &Said| match said {
        Said::User(text) => json!({"role": "user", "content": text}),
        Said::Assistant(text) => json!({"role": "assistant", "content": text}),
        Said::Call(id) => json!({"role": "assistant", "content": null, "tool_calls": call(id)}),
        Said::Output(id) => json!({"role": "tool", "tool_call_id": id, "content": "5"}),
    };
    let system = talk.summary.iter().map(|text| json!({"role": "system", "content": text}));
    let messages: Vec<Value> = system.chain(talk.said.iter().map(message)).collect();
    let request = json!({"model": "m", "messages": messages, "stream": streamed});
    let reason = if matches!(answer, Said::Call(_)) { "tool_calls" } else { "stop" };
    let (kind, body) = if streamed {
        let chunk = |delta: Value, reason: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
            format!(
                "data: {}\n\n",
                json!({"id": run, "object": "chat.completion.chunk", "choices": [choice]})
            )
        };
        let whole = chunk(message(answer), None) + &chunk(json!({}), Some(reason)) + "data: [DONE]\n\n";
        ("text/event-stream", whole)
    } else {
        let choice = json!({"index": 0, "message": message(answer), "finish_reason": reason});
        ("application/json", json!({"id": run, "object": "chat.completion", "choices": [choice]}).to_string())
    };
    exchange("/v1/chat/completions", &request, kind, body)
}

fn responses_exchange(talk: &Talk, run: &str, answer: &Said) -> Exchange {
    let item = |said: &Said| match said {
        Said::User(text) => json!({"role": "user", "content": [{"type": "input_text", "text": text}]}),
        Said::Assistant(text) => {
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
        }
        Said::Call(id) => json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}),
        Said::Output(id) => json!({"type": "function_call_output", "call_id": id, "output": "5"}),
    };
    let system = talk.summary.iter().map(|text| json!({"role": "system", "content": text}));
    let input: Vec<Value> = system.chain(talk.said.iter().map(item)).collect();
    let body = json!({"id": run, "object": "response", "status": "completed", "output": [item(answer)]});
    let request = json!({"model": "m", "input": input});
    exchange("/v1/responses", &request, "application/json", body.to_string())
}

fn exchange(target: &str, request: &Value, content_type: &str, body: String) -> Exchange {
    Exchange {
        method: "POST".to_owned(),
        target: target.to_owned(),
        request: request.to_string(),
        status: 200,
        content_type: content_type.to_owned(),
        pieces: vec![body.into_bytes()],
        ..Exchange::default()
    }
}

#[test]
fn turns_are_joined_to_their_own_talk_and_to_no_other() {
    let seen = RefCell::new(BTreeMap::new());
    let sample = Sample::of(CASES);
    let Sample { cases, seed } = sample;
    let outcome = sample.runner().run(&vec(step(), 1..60), |steps| {
        let world = World::without_cuts(Settings::default());
        let mut play = Play { world, talks: Vec::new(), turns: Vec::new(), waited: false, serial: 0 };
        steps.iter().for_each(|step| play.step(step));
        play.world.finish();
        let judged = play.judge(&mut seen.borrow_mut());
        judged.map_err(|wrong| TestCaseError::fail(format!("{wrong}\n{:#?}", play.turns)))
    });
    if let Err(error) = outcome {
        panic!("seed {seed}: {error}");
    }
    let seen = seen.into_inner();
    println!("{cases} cases, seed {seed}: {seen:#?}");
    for cell in ["after a tool", "joined to the whole", "joined to a part", "shared", "of Responses"] {
        assert!(cases < 500 || seen.contains_key(cell), "no turn was ever {cell}");
    }
}

const CASES: u32 = 1000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
