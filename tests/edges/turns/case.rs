//! What a case is made of.

use proptest::collection::vec;
use proptest::prelude::*;

/// A server, and what happens.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) style: Style,
    /// Whether what hands in tool outputs is merged with what called the tools.
    pub(crate) merges: bool,
    pub(crate) steps: Vec<Step>,
}

/// How a server writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether events have names of their own.
    pub(crate) names: bool,
    pub(crate) crlf: bool,
    /// Whether answers leave out the conversation and the response before.
    pub(crate) omits: bool,
    /// Whether whole texts and items follow their pieces.
    pub(crate) repeats: bool,
    /// Whether the last word has no output, which was streamed already.
    pub(crate) bare: bool,
}

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    AddItem {
        conversation: usize,
        lost: bool,
    },
    /// A background response goes on at the server.
    Advance {
        response: usize,
        answer: Answer,
    },
    Ask {
        link: Link,
        how: How,
        answer: Answer,
        fate: Fate,
    },
    Cancel {
        response: usize,
    },
    CreateConversation {
        items: usize,
        lost: bool,
    },
    DeleteConversation {
        conversation: usize,
    },
    DeleteItem {
        conversation: usize,
    },
    /// What the tools of a response returned is handed in.
    HandIn {
        response: usize,
        way: usize,
        how: How,
        answer: Answer,
    },
    /// A stream that was held back goes on.
    More,
    Poll {
        response: usize,
    },
    Restart,
    Resume {
        response: usize,
    },
    Wait {
        seconds: u64,
    },
}

/// What a request goes on from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Conversation(usize),
    Nothing,
    Previous(usize),
    /// The history, sent again.
    Resent(usize),
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Background,
    BackgroundStream,
    Json,
    Stream,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Failed,
    Incomplete,
    Reasoned,
    Refused,
    Text,
    Tools(usize),
    Two,
}

/// What becomes of an exchange; shares are of its bytes, in 256ths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Breaks(u8),
    Held(u8),
    Leaves(u8),
    Lost,
    Seen,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let style = any::<(bool, bool, bool, bool, bool)>()
        .prop_map(|(names, crlf, omits, repeats, bare)| Style { names, crlf, omits, repeats, bare });
    (style, any::<bool>(), vec(step(), 1..24)).prop_map(|(style, merges, steps)| Case {
        style,
        merges,
        steps,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..64_usize;
    let lost = || prop::bool::weighted(0.1);
    prop_oneof![
        8 => (link(), how(), answer(), fate())
            .prop_map(|(link, how, answer, fate)| Step::Ask { link, how, answer, fate }),
        6 => (n.clone(), 0..3_usize, how(), answer())
            .prop_map(|(response, way, how, answer)| Step::HandIn { response, way, how, answer }),
        3 => (n.clone(), answer()).prop_map(|(response, answer)| Step::Advance { response, answer }),
        4 => n.clone().prop_map(|response| Step::Poll { response }),
        1 => n.clone().prop_map(|response| Step::Cancel { response }),
        1 => n.clone().prop_map(|response| Step::Resume { response }),
        1 => (0..3_usize, lost()).prop_map(|(items, lost)| Step::CreateConversation { items, lost }),
        2 => (n.clone(), lost()).prop_map(|(conversation, lost)| Step::AddItem { conversation, lost }),
        1 => n.clone().prop_map(|conversation| Step::DeleteItem { conversation }),
        1 => n.prop_map(|conversation| Step::DeleteConversation { conversation }),
        2 => Just(Step::More),
        1 => Just(Step::Restart),
        2 => prop_oneof![Just(5_u64), Just(70), Just(400), Just(700), Just(1000)]
            .prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn link() -> impl Strategy<Value = Link> {
    let n = || 0..64_usize;
    prop_oneof![
        2 => Just(Link::Nothing),
        3 => n().prop_map(Link::Previous),
        3 => n().prop_map(Link::Conversation),
        1 => n().prop_map(Link::Resent),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Json), Just(How::Stream), Just(How::Background), Just(How::BackgroundStream)]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Text),
        1 => Just(Answer::Two),
        1 => Just(Answer::Reasoned),
        1 => Just(Answer::Refused),
        1 => Just(Answer::Incomplete),
        1 => Just(Answer::Failed),
        3 => (1..3_usize).prop_map(Answer::Tools),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Seen),
        1 => Just(Fate::Lost),
        2 => any::<u8>().prop_map(Fate::Leaves),
        1 => any::<u8>().prop_map(Fate::Breaks),
        2 => any::<u8>().prop_map(Fate::Held),
    ]
}
