//! What a run does. Its plan is fixed when it is created.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use crate::answers::{
    Failure, Function, REFUSAL, TIME, WEATHER, behaviour_named, echo, long, shop_says, tokens,
};

/// What a run does.
///
/// The run's metadata selects it (`{"behaviour": "fail"}`), or else the assistant's id: `asst_fail`
/// fails. Any other assistant echoes. The assistant `asst_missing` does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `cancel`: somebody else cancels the run in the middle of its answer.
    Cancel,
    /// `code`: runs the server's own code interpreter, then answers.
    Code,
    /// `echo`: answers `You said: ` and the inputs' text, joined by ` / `.
    Echo,
    /// `empty`: completes without a message.
    Empty,
    /// `error`: the stream reports an error and ends. The run fails only afterwards.
    Error,
    /// `expire`: expires in the middle of its answer.
    Expire,
    /// `fail`: fails in the middle of its answer.
    Fail,
    /// `fail_early`: fails before it does anything.
    FailEarly,
    /// `incomplete`: runs out of tokens in the middle of its answer.
    Incomplete,
    /// `long`: answers with 400 words.
    Long,
    /// `messages`: answers with two messages.
    Messages,
    /// `refuse`: answers with a refusal.
    Refuse,
    /// `search`: runs Azure's own searches, of its index and of the web, then answers.
    Search,
    /// `shop`: answers like a shop, depending on the words of the question.
    Shop,
    /// `slow`: stays in progress for eight polls (or paces) before it answers.
    Slow,
    /// `stall`: begins an answer, and then does nothing until it is cancelled, or expired by the
    /// test.
    Stall,
    /// `talk_tool`: says that it will look, calls `get_weather`, then echoes the output.
    TalkTool,
    /// `tool`: calls the function `get_weather`, then echoes the output.
    Tool,
    /// `tool_cancel`, `tool_expire`, `tool_fail`, `tool_incomplete`: calls `get_weather`, then ends
    /// with that status in the middle of its answer.
    ToolThen(Finish),
    /// `tool_twice`: calls `get_weather`, then `get_time`, then echoes their outputs.
    ToolTwice,
    /// `tools`: calls `get_weather` and `get_time` at once, then echoes their outputs.
    Tools,
}

impl Behaviour {
    /// Finds the behaviour of a run with this assistant and this metadata.
    pub(super) fn of(assistant: &str, metadata: &Map<String, Value>) -> Self {
        behaviour_named(&NAMES, metadata, assistant.strip_prefix("asst_")).unwrap_or(Self::Echo)
    }

    /// Creates the plan of a run that answers `inputs`.
    pub(super) fn plan(self, inputs: &[&str]) -> VecDeque<Act> {
        let echo = echo(inputs);
        let mut plan = VecDeque::from([Act::Start]);
        match self {
            Self::Cancel => cut(&mut plan, &echo, Finish::Cancel),
            Self::Code => {
                plan.push_back(Act::Interpret { input: "print(6 * 7)".to_owned(), logs: "42\n".to_owned() });
                answer(&mut plan, &echo);
                plan.push_back(Act::Complete);
            }
            Self::Echo => {
                answer(&mut plan, &echo);
                plan.push_back(Act::Complete);
            }
            Self::Empty => plan.push_back(Act::Complete),
            Self::Error => {
                open(&mut plan, &echo);
                plan.extend([Act::TellError, Act::Fail(Failure::SERVER)]);
            }
            Self::Expire => cut(&mut plan, &echo, Finish::Expire),
            Self::Fail => cut(&mut plan, &echo, Finish::Fail),
            Self::FailEarly => plan = VecDeque::from([Act::Fail(Failure::RATE_LIMIT)]),
            Self::Incomplete => cut(&mut plan, &echo, Finish::Incomplete),
            Self::Long => {
                answer(&mut plan, &long());
                plan.push_back(Act::Complete);
            }
            Self::Messages => {
                answer(&mut plan, "Let me think.");
                answer(&mut plan, &echo);
                plan.push_back(Act::Complete);
            }
            Self::Refuse => {
                plan.extend([
                    Act::OpenMessage,
                    Act::Refusal(REFUSAL.to_owned()),
                    Act::CloseMessage,
                    Act::Complete,
                ]);
            }
            Self::Search => {
                plan.push_back(Act::Search);
                answer(&mut plan, &echo);
                plan.push_back(Act::Complete);
            }
            Self::Shop => {
                answer(&mut plan, shop_says(inputs.last().copied().unwrap_or_default()));
                plan.push_back(Act::Complete);
            }
            Self::Slow => {
                plan.extend(std::iter::repeat_n(Act::Idle, SLOW_IDLES));
                answer(&mut plan, &echo);
                plan.push_back(Act::Complete);
            }
            Self::Stall => {
                open(&mut plan, &echo);
                plan.push_back(Act::Stall);
            }
            Self::TalkTool => {
                answer(&mut plan, "Let me look.");
                plan.extend([Act::CallTools(vec![WEATHER]), Act::RequireAction, Act::Conclude(None)]);
            }
            Self::Tool => {
                plan.extend([Act::CallTools(vec![WEATHER]), Act::RequireAction, Act::Conclude(None)]);
            }
            Self::ToolThen(finish) => {
                plan.extend([Act::CallTools(vec![WEATHER]), Act::RequireAction, Act::Conclude(Some(finish))])
            }
            Self::ToolTwice => plan.extend([
                Act::CallTools(vec![WEATHER]),
                Act::RequireAction,
                Act::CallTools(vec![TIME]),
                Act::RequireAction,
                Act::Conclude(None),
            ]),
            Self::Tools => {
                plan.extend([Act::CallTools(vec![WEATHER, TIME]), Act::RequireAction, Act::Conclude(None)]);
            }
        }
        plan
    }
}

/// How a run ends if it does not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Somebody else cancels it.
    Cancel,
    /// It expires.
    Expire,
    /// It fails.
    Fail,
    /// It runs out of tokens.
    Incomplete,
}

/// One act of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Calls functions of the app.
    CallTools(Vec<Function>),
    /// Ends the run as cancelled.
    Cancel,
    /// Changes the status to cancelling.
    Cancelling,
    /// Finishes the open message and its step.
    CloseMessage,
    /// Ends the run as completed.
    Complete,
    /// Plans the answer with the tools' outputs, and how it ends early, if it does.
    Conclude(Option<Finish>),
    /// Ends the open message early, with this reason. Its step ends as usual.
    CutMessage(&'static str),
    /// Ends the run as expired.
    Expire,
    /// Ends the run as failed.
    Fail(Failure),
    /// Does nothing for one poll or pace.
    Idle,
    /// Ends the run as incomplete, with this reason.
    Incomplete(&'static str),
    /// Runs code with the server's own interpreter.
    Interpret {
        /// The code.
        input: String,
        /// What it printed.
        logs: String,
    },
    /// Begins a message and its step.
    OpenMessage,
    /// Refuses.
    Refusal(String),
    /// Waits for the tools' outputs.
    RequireAction,
    /// Searches an index and the web, with the server's own tools.
    Search,
    /// Changes the status to in progress.
    Start,
    /// Waits until somebody changes the plan.
    Stall,
    /// Sends an error on the stream, which ends the stream but not the run.
    TellError,
    /// Adds some text.
    Text(String),
}

impl Act {
    /// Whether a poll stops here, because the client can now see something new.
    pub(super) fn shows(&self) -> bool {
        matches!(
            self,
            Self::Cancel
                | Self::Complete
                | Self::Expire
                | Self::Fail(_)
                | Self::Idle
                | Self::Incomplete(_)
                | Self::RequireAction
                | Self::Start
        )
    }

    /// Whether it takes the time that a real model needs for its next words.
    pub(super) fn takes_time(&self) -> bool {
        matches!(self, Self::Idle | Self::OpenMessage | Self::Refusal(_) | Self::Text(_))
    }
}

/// Plans a whole message.
pub(super) fn answer(plan: &mut VecDeque<Act>, text: &str) {
    plan.push_back(Act::OpenMessage);
    plan.extend(tokens(text).map(Act::Text));
    plan.push_back(Act::CloseMessage);
}

/// Plans the first half of a message, and how the run ends in the middle of it.
pub(super) fn cut(plan: &mut VecDeque<Act>, text: &str, finish: Finish) {
    open(plan, text);
    match finish {
        Finish::Cancel => plan.extend([Act::Cancelling, Act::Cancel]),
        Finish::Expire => plan.push_back(Act::Expire),
        Finish::Fail => plan.push_back(Act::Fail(Failure::SERVER)),
        Finish::Incomplete => {
            plan.extend([Act::CutMessage("max_tokens"), Act::Incomplete("max_completion_tokens")]);
        }
    }
}

/// Plans the first half of a message.
fn open(plan: &mut VecDeque<Act>, text: &str) {
    plan.push_back(Act::OpenMessage);
    let tokens: Vec<String> = tokens(text).collect();
    let half = tokens.len().div_ceil(2);
    plan.extend(tokens.into_iter().take(half).map(Act::Text));
}

const SLOW_IDLES: usize = 8;

const NAMES: [(&str, Behaviour); 24] = [
    ("cancel", Behaviour::Cancel),
    ("code", Behaviour::Code),
    ("echo", Behaviour::Echo),
    ("empty", Behaviour::Empty),
    ("error", Behaviour::Error),
    ("expire", Behaviour::Expire),
    ("fail", Behaviour::Fail),
    ("fail_early", Behaviour::FailEarly),
    ("incomplete", Behaviour::Incomplete),
    ("long", Behaviour::Long),
    ("messages", Behaviour::Messages),
    ("refuse", Behaviour::Refuse),
    ("search", Behaviour::Search),
    ("shop", Behaviour::Shop),
    ("slow", Behaviour::Slow),
    ("stall", Behaviour::Stall),
    ("talk_tool", Behaviour::TalkTool),
    ("tool", Behaviour::Tool),
    ("tool_cancel", Behaviour::ToolThen(Finish::Cancel)),
    ("tool_expire", Behaviour::ToolThen(Finish::Expire)),
    ("tool_fail", Behaviour::ToolThen(Finish::Fail)),
    ("tool_incomplete", Behaviour::ToolThen(Finish::Incomplete)),
    ("tool_twice", Behaviour::ToolTwice),
    ("tools", Behaviour::Tools),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_outranks_the_assistant_and_unknown_assistants_echo() {
        let none = Map::new();
        assert_eq!(Behaviour::of("asst_fail", &none), Behaviour::Fail);
        assert_eq!(Behaviour::of("asst_0123", &none), Behaviour::Echo);
        let metadata = Map::from_iter([("behaviour".to_owned(), json!("tool"))]);
        assert_eq!(Behaviour::of("asst_fail", &metadata), Behaviour::Tool);
    }
}
