//! What a completion does. Its choices are created with the request.

use serde_json::{Map, Value, json};

use super::expected::{ChatCall, ChatChoice};
use crate::answers::{
    Function, REFUSAL, TIME, WEATHER, behaviour_named, conclusion, echo, long, shop_says, tokens,
};
use crate::random::Random;

/// What a completion does.
///
/// The request's metadata selects it (`{"behaviour": "tool"}`), or else the model: `fake-tool`
/// calls a tool. Any other model echoes. When the request asks for JSON, answers are JSON objects
/// with the text as their `answer`. When it asks for audio, answers are spoken. If there are
/// several choices, all but the first begin with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `echo`: answers `You said: ` and the user's new text, joined by ` / `.
    Echo,
    /// `empty`: says nothing.
    Empty,
    /// `error`: the stream reports an error in the middle and ends. Without a stream, the request
    /// gets a 500 response.
    Error,
    /// `fail_early`: the request gets a 429 response.
    FailEarly,
    /// `filter`: the content filter stops it in the middle of its answer.
    Filter,
    /// `function`: calls the function `get_weather` in the legacy format from before tools.
    Function,
    /// `handoff`: hands over to another agent with the first function of the request whose name
    /// indicates a handoff. The arguments are the `arguments` of the metadata. Then echoes the
    /// function's output once it is given.
    Handoff,
    /// `incomplete`: runs out of tokens in the middle of its answer.
    Incomplete,
    /// `long`: answers with 400 words.
    Long,
    /// `reason`: sends its reasoning in `reasoning_content`, as DeepSeek and vLLM do, then answers.
    Reason,
    /// `refuse`: answers with a refusal.
    Refuse,
    /// `shop`: answers like a shop, depending on the words of the question.
    Shop,
    /// `stall`: begins an answer and never ends it.
    Stall,
    /// `talk_tool`: says that it will look and calls `get_weather`, then echoes the output once it
    /// is given.
    TalkTool,
    /// `tool`: calls the function `get_weather`, then echoes the output once it is given.
    Tool,
    /// `tool_twice`: calls `get_weather`, then `get_time`, then echoes the last output.
    ToolTwice,
    /// `tools`: calls `get_weather` and `get_time` at once, then echoes their outputs once they are
    /// given.
    Tools,
}

/// The input of a completion.
pub(super) struct Asked<'a> {
    /// What the user said in this turn.
    pub(super) texts: &'a [String],
    /// The tool outputs since the last answer.
    pub(super) tool_outputs: &'a [String],
    /// The function that hands over to another agent.
    pub(super) handoff: Option<Function>,
    /// How many answers this turn already has.
    pub(super) depth: usize,
    /// Whether the answer must be JSON.
    pub(super) json: bool,
    /// Whether the answer must be spoken.
    pub(super) spoken: bool,
}

impl Behaviour {
    /// Finds the behaviour of a completion with this model and metadata.
    pub(super) fn of(model: &str, metadata: &Map<String, Value>) -> Self {
        behaviour_named(&NAMES, metadata, model.strip_prefix("fake-")).unwrap_or(Self::Echo)
    }

    /// The choice with this index.
    pub(super) fn choice(self, index: usize, asked: &Asked<'_>, random: &mut Random) -> ChatChoice {
        let texts: Vec<&str> = asked.texts.iter().map(String::as_str).collect();
        let outputs: Vec<&str> = asked.tool_outputs.iter().map(String::as_str).collect();
        let said = if outputs.is_empty() { echo(&texts) } else { conclusion(&outputs, &texts) };
        let mut choice = ChatChoice { index, finish_reason: "stop".to_owned(), ..ChatChoice::default() };
        let mut says = |text: &str| {
            let text = if index == 0 { text.to_owned() } else { format!("({}) {text}", index + 1) };
            let text = if asked.json { json!({ "answer": text }).to_string() } else { text };
            if asked.spoken { choice.transcript = Some(text) } else { choice.content = Some(text) }
        };
        let mut calls = Vec::new();
        match self {
            Self::Empty => says(""),
            Self::Filter | Self::Incomplete => {
                says(&said);
                choice.content = choice.content.as_deref().map(half);
                let reason = if self == Self::Filter { "content_filter" } else { "length" };
                choice.finish_reason = reason.to_owned();
            }
            Self::Long => says(&long()),
            Self::Reason => {
                says(&said);
                choice.reasoning = Some("The user wants an echo.".to_owned());
            }
            Self::Refuse => choice.refusal = Some(REFUSAL.to_owned()),
            Self::Shop => says(shop_says(texts.last().copied().unwrap_or_default())),
            Self::Function if outputs.is_empty() => {
                choice.function_call = Some(call(WEATHER, String::new()));
                choice.finish_reason = "function_call".to_owned();
            }
            Self::Handoff if outputs.is_empty() && asked.handoff.is_some() => {
                calls.extend(asked.handoff.clone())
            }
            Self::TalkTool if outputs.is_empty() => {
                says("Let me look.");
                calls.push(WEATHER);
            }
            Self::Tool | Self::ToolTwice if outputs.is_empty() => calls.push(WEATHER),
            Self::ToolTwice if asked.depth == 1 => calls.push(TIME),
            Self::Tools if outputs.is_empty() => calls.extend([WEATHER, TIME]),
            Self::Echo
            | Self::Error
            | Self::FailEarly
            | Self::Function
            | Self::Handoff
            | Self::Stall
            | Self::TalkTool
            | Self::Tool
            | Self::ToolTwice
            | Self::Tools => says(&said),
        }
        if !calls.is_empty() {
            choice.tool_calls = calls.into_iter().map(|function| call(function, random.id("call"))).collect();
            choice.finish_reason = "tool_calls".to_owned();
        }
        choice
    }
}

fn call(function: Function, id: String) -> ChatCall {
    ChatCall { id, name: function.name.into_owned(), arguments: function.arguments.into_owned() }
}

/// The first half of a text's words.
fn half(text: &str) -> String {
    let tokens: Vec<String> = tokens(text).collect();
    tokens[..tokens.len().div_ceil(2)].concat()
}

const NAMES: [(&str, Behaviour); 17] = [
    ("echo", Behaviour::Echo),
    ("empty", Behaviour::Empty),
    ("error", Behaviour::Error),
    ("fail_early", Behaviour::FailEarly),
    ("filter", Behaviour::Filter),
    ("function", Behaviour::Function),
    ("handoff", Behaviour::Handoff),
    ("incomplete", Behaviour::Incomplete),
    ("long", Behaviour::Long),
    ("reason", Behaviour::Reason),
    ("refuse", Behaviour::Refuse),
    ("shop", Behaviour::Shop),
    ("stall", Behaviour::Stall),
    ("talk_tool", Behaviour::TalkTool),
    ("tool", Behaviour::Tool),
    ("tool_twice", Behaviour::ToolTwice),
    ("tools", Behaviour::Tools),
];
