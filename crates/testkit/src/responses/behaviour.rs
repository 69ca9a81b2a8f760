//! What a response does. Its plan is fixed when it is created.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::answers::{
    Failure, Function, REFUSAL, TIME, WEATHER, behaviour_named, conclusion, echo, long, shop_says, tokens,
};

/// What a response does.
///
/// The response's metadata selects it (`{"behaviour": "tool"}`), or else the model: `fake-tool`
/// calls a tool. Any other model echoes. When the request asks for JSON, answers are JSON objects
/// with the text as their `answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `echo`: answers `You said: ` and the user's text, joined by ` / `.
    Echo,
    /// `empty`: completes without output.
    Empty,
    /// `error`: the stream reports an error and ends. Without a stream, the request gets a 500
    /// response.
    Error,
    /// `fail`: fails in the middle of its answer.
    Fail,
    /// `fail_early`: fails before it does anything.
    FailEarly,
    /// `filter`: the content filter stops it in the middle of its answer.
    Filter,
    /// `handoff`: hands over to another agent with the first function of the request whose name
    /// indicates a handoff. The arguments are the `arguments` of the metadata. Then echoes the
    /// function's output once it is given.
    Handoff,
    /// `incomplete`: runs out of tokens in the middle of its answer.
    Incomplete,
    /// `long`: answers with 400 words.
    Long,
    /// `mcp`: calls a tool of an MCP server, then answers.
    Mcp,
    /// `messages`: sends a comment about what it does, then answers.
    Messages,
    /// `reason`: thinks, then answers.
    Reason,
    /// `reason_tool`: thinks, calls `get_weather`, and echoes the output once it is given.
    ReasonTool,
    /// `refuse`: answers with a refusal.
    Refuse,
    /// `search`: searches the web, then answers with a citation.
    Search,
    /// `shop`: answers like a shop, depending on the words of the question.
    Shop,
    /// `slow`: does nothing for eight polls (or paces) before it answers.
    Slow,
    /// `stall`: begins an answer, and then does nothing until it is cancelled.
    Stall,
    /// `talk_tool`: says that it will look, calls `get_weather`, and echoes the output once it is
    /// given.
    TalkTool,
    /// `tool`: calls the function `get_weather`, and echoes the output once it is given.
    Tool,
    /// `tool_twice`: calls `get_weather`, then `get_time`, then echoes the last output.
    ToolTwice,
    /// `tools`: calls `get_weather` and `get_time` at once, and echoes their outputs once they are
    /// given.
    Tools,
}

/// The input of a response.
pub(super) struct Asked<'a> {
    /// What the user said in this turn.
    pub(super) texts: &'a [String],
    /// The tool outputs since the last response.
    pub(super) tool_outputs: &'a [String],
    /// The function that hands over to another agent.
    pub(super) handoff: Option<Function>,
    /// How many earlier responses this turn has.
    pub(super) depth: usize,
    /// Whether the answer must be JSON.
    pub(super) json: bool,
}

impl Behaviour {
    /// Finds the behaviour of a response with this model and metadata.
    pub(super) fn of(model: &str, metadata: &Map<String, Value>) -> Self {
        behaviour_named(&NAMES, metadata, model.strip_prefix("fake-")).unwrap_or(Self::Echo)
    }

    /// Creates the plan of a response.
    pub(super) fn plan(self, asked: &Asked<'_>) -> VecDeque<Act> {
        let texts: Vec<&str> = asked.texts.iter().map(String::as_str).collect();
        let outputs: Vec<&str> = asked.tool_outputs.iter().map(String::as_str).collect();
        let said = if outputs.is_empty() { echo(&texts) } else { conclusion(&outputs, &texts) };
        let said = asked.shaped(&said);
        let mut plan = VecDeque::from([Act::Start]);
        match self {
            Self::Empty => {}
            Self::Error => {
                open(&mut plan, &said);
                plan.extend([Act::TellError, Act::Fail(Failure::SERVER)]);
            }
            Self::Fail => {
                open(&mut plan, &said);
                plan.push_back(Act::Fail(Failure::SERVER));
            }
            Self::FailEarly => plan.push_back(Act::Fail(Failure::RATE_LIMIT)),
            Self::Filter => cut(&mut plan, &said, "content_filter"),
            Self::Incomplete => cut(&mut plan, &said, "max_output_tokens"),
            Self::Long => answer(&mut plan, None, &asked.shaped(&long())),
            Self::Mcp => {
                plan.push_back(Act::Mcp);
                answer(&mut plan, None, &said);
            }
            Self::Messages => {
                answer(&mut plan, Some("commentary"), "Let me think.");
                answer(&mut plan, Some("final_answer"), &said);
            }
            Self::Reason => {
                plan.push_back(Act::Reason("The user wants an echo."));
                answer(&mut plan, None, &said);
            }
            Self::Refuse => {
                plan.push_back(Act::Open(None));
                plan.extend(tokens(REFUSAL).map(Act::Refusal));
                plan.push_back(Act::Close("completed"));
            }
            Self::Search => {
                plan.extend([Act::Search, Act::Open(None)]);
                plan.extend(tokens(&said).map(Act::Text));
                plan.extend([Act::Cite, Act::Close("completed")]);
            }
            Self::Shop => {
                let says = shop_says(texts.last().copied().unwrap_or_default());
                answer(&mut plan, None, &asked.shaped(says));
            }
            Self::Slow => {
                plan.extend(std::iter::repeat_n(Act::Idle, SLOW_IDLES));
                answer(&mut plan, None, &said);
            }
            Self::Stall => {
                open(&mut plan, &said);
                plan.push_back(Act::Stall);
            }
            Self::Handoff if outputs.is_empty() && asked.handoff.is_some() => {
                plan.extend(asked.handoff.clone().map(Act::Call));
            }
            Self::ReasonTool if outputs.is_empty() => {
                plan.extend([Act::Reason("I have to look that up."), Act::Call(WEATHER)]);
            }
            Self::TalkTool if outputs.is_empty() => {
                answer(&mut plan, None, "Let me look.");
                plan.push_back(Act::Call(WEATHER));
            }
            Self::Tool | Self::ToolTwice if outputs.is_empty() => plan.push_back(Act::Call(WEATHER)),
            Self::ToolTwice if asked.depth == 1 => plan.push_back(Act::Call(TIME)),
            Self::Tools if outputs.is_empty() => plan.extend([Act::Call(WEATHER), Act::Call(TIME)]),
            Self::Echo
            | Self::Handoff
            | Self::ReasonTool
            | Self::TalkTool
            | Self::Tool
            | Self::ToolTwice
            | Self::Tools => answer(&mut plan, None, &said),
        }
        plan.push_back(Act::Complete);
        plan
    }
}

impl Asked<'_> {
    /// Formats the text as the request requires.
    fn shaped(&self, text: &str) -> String {
        if self.json { json!({ "answer": text }).to_string() } else { text.to_owned() }
    }
}

/// One act of a response.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Calls a function of the app.
    Call(Function),
    /// Cites a source in the open message.
    Cite,
    /// Ends the open message with this status.
    Close(&'static str),
    /// Ends the response as completed.
    Complete,
    /// Ends the response as failed.
    Fail(Failure),
    /// Does nothing for one poll or pace.
    Idle,
    /// Ends the response as incomplete, with this reason.
    Incomplete(&'static str),
    /// Calls a tool of an MCP server.
    Mcp,
    /// Begins a message with this phase.
    Open(Option<&'static str>),
    /// Thinks, with this text as the summary.
    Reason(&'static str),
    /// Adds some text to a refusal.
    Refusal(String),
    /// Searches the web.
    Search,
    /// Waits until somebody cancels it.
    Stall,
    /// Changes the status to in progress.
    Start,
    /// Sends an error on the stream, which ends the stream.
    TellError,
    /// Adds some text.
    Text(String),
}

impl Act {
    /// Whether a poll stops here, because the client can now see something new.
    pub(super) fn shows(&self) -> bool {
        matches!(self, Self::Complete | Self::Fail(_) | Self::Idle | Self::Incomplete(_) | Self::Start)
    }

    /// Whether it takes the time that a real model needs for its next words.
    pub(super) fn takes_time(&self) -> bool {
        matches!(self, Self::Idle | Self::Open(_) | Self::Refusal(_) | Self::Text(_))
    }
}

/// Plans a whole message.
fn answer(plan: &mut VecDeque<Act>, phase: Option<&'static str>, text: &str) {
    plan.push_back(Act::Open(phase));
    plan.extend(tokens(text).map(Act::Text));
    plan.push_back(Act::Close("completed"));
}

/// Plans half a message and leaves it open.
fn open(plan: &mut VecDeque<Act>, text: &str) {
    let tokens: Vec<String> = tokens(text).collect();
    let half = tokens.len().div_ceil(2);
    plan.push_back(Act::Open(None));
    plan.extend(tokens.into_iter().take(half).map(Act::Text));
}

/// Plans half a message, and then the end of the response.
fn cut(plan: &mut VecDeque<Act>, text: &str, reason: &'static str) {
    open(plan, text);
    plan.extend([Act::Close("incomplete"), Act::Incomplete(reason)]);
}

const SLOW_IDLES: usize = 8;

const NAMES: [(&str, Behaviour); 22] = [
    ("echo", Behaviour::Echo),
    ("empty", Behaviour::Empty),
    ("error", Behaviour::Error),
    ("fail", Behaviour::Fail),
    ("fail_early", Behaviour::FailEarly),
    ("filter", Behaviour::Filter),
    ("handoff", Behaviour::Handoff),
    ("incomplete", Behaviour::Incomplete),
    ("long", Behaviour::Long),
    ("mcp", Behaviour::Mcp),
    ("messages", Behaviour::Messages),
    ("reason", Behaviour::Reason),
    ("reason_tool", Behaviour::ReasonTool),
    ("refuse", Behaviour::Refuse),
    ("search", Behaviour::Search),
    ("shop", Behaviour::Shop),
    ("slow", Behaviour::Slow),
    ("stall", Behaviour::Stall),
    ("talk_tool", Behaviour::TalkTool),
    ("tool", Behaviour::Tool),
    ("tool_twice", Behaviour::ToolTwice),
    ("tools", Behaviour::Tools),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_outranks_the_model_and_unknown_models_echo() {
        let none = Map::new();
        assert_eq!(Behaviour::of("fake-fail", &none), Behaviour::Fail);
        assert_eq!(Behaviour::of("gpt-5", &none), Behaviour::Echo);
        let metadata = Map::from_iter([("behaviour".to_owned(), json!("tool"))]);
        assert_eq!(Behaviour::of("fake-fail", &metadata), Behaviour::Tool);
    }

    #[test]
    fn every_plan_ends() {
        for (name, behaviour) in NAMES {
            for outputs in [&[][..], &["fine".to_owned()]] {
                let asked = Asked {
                    texts: &["hi".to_owned()],
                    tool_outputs: outputs,
                    handoff: None,
                    depth: outputs.len(),
                    json: false,
                };
                let plan = behaviour.plan(&asked);
                let ends = |act: &Act| matches!(act, Act::Complete | Act::Fail(_) | Act::Incomplete(_));
                assert!(plan.front() == Some(&Act::Start) && plan.iter().any(ends), "{name}");
            }
        }
    }
}
