//! The dialects there are, and the one place where a further one is entered: a variant of [`Dialect`] and of [`Kind`], a line in
//! each `match`, and a file that has `interest` and an `Observer` with the functions called here.

use http::Method;
use serde_json::{Map, Value};

use super::{Config, Observed, Request, assistants, chat, directory, responses};
use crate::event::key_of;
use crate::exchange::{End, Ending, ExchangeId, Start};
use crate::time::UnixMillis;

/// A wire API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Threads, messages and runs.
    Assistants,
    /// Chat Completions.
    Chat,
    /// What assistants are called.
    Directory,
    /// Responses and Conversations.
    Responses,
}

/// What an observer begins with.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    /// The exchange; unique within the process.
    pub(super) exchange: ExchangeId,
    /// The request, and the head of its response.
    pub(super) start: &'a Start,
    /// The request's body.
    pub(super) request: Request,
    /// Settings of the dialects.
    pub(super) config: &'a Config,
}

impl Opening<'_> {
    /// An id for a run that the API gives none: no other exchange has the same, of any process.
    pub(super) fn own_id(&self) -> String {
        let Start { upstream, path, request_body, request_at, response_at, .. } = self.start;
        let bytes = &request_body.bytes;
        let numbers = [self.exchange.0, request_at.0, response_at.0, bytes.len() as u64];
        let numbers = numbers.map(|number| number.to_string()).join(" ");
        // Clock and counter tell the exchanges of one process apart; between processes, what was asked helps.
        let body = String::from_utf8_lossy(&bytes[..bytes.len().min(OWN_ID_BYTES)]);
        format!("exchange_{}", key_of(&[upstream, path, &body, &numbers]))
    }
}

impl Dialect {
    const ALL: [Self; 4] = [Self::Assistants, Self::Chat, Self::Directory, Self::Responses];

    /// The one a request speaks; none if no answer to it can tell anything. Looks at the request line only.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| match dialect {
            Self::Assistants => assistants::interest(method, path),
            Self::Chat => chat::interest(method, path),
            Self::Directory => directory::interest(method, path),
            Self::Responses => responses::interest(method, path),
        })
    }

    /// Begins to watch an exchange; none if its answer can tell nothing.
    pub(super) fn start(self, opening: Opening<'_>) -> Option<Kind> {
        match self {
            Self::Assistants => assistants::Observer::start(opening).map(Box::new).map(Kind::Assistants),
            Self::Chat => chat::Observer::start(opening).map(Box::new).map(Kind::Chat),
            Self::Directory => directory::Observer::start(&opening).map(Box::new).map(Kind::Directory),
            Self::Responses => responses::Observer::start(opening).map(Box::new).map(Kind::Responses),
        }
    }

    /// The name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Assistants | Self::Directory => "assistants",
            Self::Chat => "chat",
            Self::Responses => "responses",
        }
    }

    /// The member of a request's body that is a list which may be long, of which only the end is new. It is read item by item.
    pub(super) fn read_by_item(self) -> Option<&'static str> {
        match self {
            Self::Assistants | Self::Directory => None,
            Self::Chat => Some("messages"),
            Self::Responses => Some("input"),
        }
    }

    /// Whether an answer that refuses something may tell anything.
    pub(super) fn hears_refusals(self) -> bool {
        match self {
            Self::Assistants => true,
            Self::Chat | Self::Directory | Self::Responses => false,
        }
    }
}

/// How the body of a response is told to an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// As one document, when it is over.
    Document,
    /// As events, each when it passes.
    Events,
    /// As events, when it is over: nothing is known of when they passed.
    LateEvents,
}

/// A body, or an event's data, is no JSON, and not one of the words that stand for it.
#[derive(Debug)]
pub(super) struct NotJson;

/// The observer of whichever dialect.
#[derive(Debug)]
pub(super) enum Kind {
    Assistants(Box<assistants::Observer>),
    Chat(Box<chat::Observer>),
    Directory(Box<directory::Observer>),
    Responses(Box<responses::Observer>),
}

impl Kind {
    /// Says how the body is told; before anything else is told of it.
    pub(super) fn set_telling(&mut self, telling: Telling) {
        match self {
            Self::Assistants(observer) => observer.set_telling(telling),
            Self::Chat(observer) => observer.set_telling(telling),
            Self::Directory(_) => {}
            Self::Responses(observer) => observer.set_telling(telling),
        }
    }

    /// Says that part of the response was not seen, or could not be read.
    pub(super) fn miss(&mut self) {
        match self {
            Self::Assistants(observer) => observer.miss(),
            // What it tells before the end is not said to be all.
            Self::Chat(_) | Self::Directory(_) => {}
            Self::Responses(observer) => observer.miss(),
        }
    }

    /// Whether messages of the request were left out, because they are too many or have too many parts.
    pub(super) fn has_cut_request(&self) -> bool {
        match self {
            Self::Assistants(_) | Self::Directory(_) => false,
            Self::Chat(observer) => observer.has_cut_request(),
            Self::Responses(observer) => observer.has_cut_request(),
        }
    }

    /// Members of a long text that nobody reads.
    pub(super) fn omitted(&self) -> &'static [&'static str] {
        match self {
            Self::Assistants(_) | Self::Chat(_) | Self::Directory(_) => &[],
            Self::Responses(_) => responses::OMITTED,
        }
    }

    /// Says that the response is over, and that nothing can be made of it.
    pub(super) fn cannot_read(&mut self, end: &End, out: &mut Observed) {
        if end.ending != Ending::Complete {
            return;
        }
        match self {
            Self::Assistants(observer) => observer.cannot_read(end.at, out),
            Self::Chat(observer) => observer.cannot_read(),
            Self::Directory(_) => {}
            Self::Responses(observer) => observer.cannot_read(end.at, out),
        }
    }

    /// Takes the name and the data of an event.
    ///
    /// # Errors
    /// When the data is no JSON. Nothing was taken of it.
    pub(super) fn event(
        &mut self,
        name: &str,
        data: &str,
        at: UnixMillis,
        out: &mut Observed,
    ) -> Result<(), NotJson> {
        match self {
            Self::Assistants(observer) => observer.event(name, data, at, out),
            Self::Chat(observer) => observer.event(data, at, out),
            Self::Directory(_) => Ok(()),
            Self::Responses(observer) => observer.event(name, data, at, out),
        }
    }

    /// Takes a whole JSON body.
    ///
    /// # Errors
    /// When it is no JSON.
    pub(super) fn document(&mut self, json: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        match self {
            Self::Assistants(observer) => observer.document(json, at, out),
            Self::Chat(observer) => observer.document(json, out),
            Self::Directory(observer) => observer.document(json, out),
            Self::Responses(observer) => observer.document(json, at, out),
        }
    }

    /// Takes what came of a JSON object before it was cut: the copy of it, or by this ending the answer itself.
    pub(super) fn prefix(
        &mut self,
        members: Map<String, Value>,
        ending: Ending,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        match self {
            Self::Assistants(observer) => observer.prefix(members, at, out),
            Self::Chat(observer) => observer.prefix(members),
            Self::Directory(_) => {}
            Self::Responses(observer) => observer.prefix(members, ending, at, out),
        }
    }

    /// Whether an answer that was broken off tells something: so where it is a whole turn. A run is looked at again.
    pub(super) fn hears_broken_answers(&self) -> bool {
        match self {
            Self::Assistants(_) | Self::Directory(_) => false,
            Self::Chat(_) | Self::Responses(_) => true,
        }
    }

    /// How many bytes are held of the request, and of a response that is still being told.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Assistants(observer) => observer.held_bytes(),
            Self::Chat(observer) => observer.held_bytes(),
            Self::Directory(_) => 0,
            Self::Responses(observer) => observer.held_bytes(),
        }
    }

    /// Lets go of what is held of the response.
    pub(super) fn let_go(&mut self) {
        match self {
            Self::Assistants(observer) => observer.let_go(),
            Self::Chat(observer) => observer.let_go(),
            Self::Directory(_) => {}
            Self::Responses(observer) => observer.let_go(),
        }
    }

    /// The body is over; `missed` says whether part of it was not seen.
    pub(super) fn end(&mut self, end: &End, missed: bool, out: &mut Observed) {
        match self {
            Self::Assistants(observer) => observer.end(end.ending, end.at, out),
            Self::Chat(observer) => observer.end(end.ending, missed, end.at, out),
            Self::Directory(_) => {}
            Self::Responses(observer) => observer.end(end.ending, missed, end.at, out),
        }
    }
}

/// How much of a request goes into an id; more would cost more than it tells.
const OWN_ID_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::RequestBody;

    #[test]
    fn an_id_of_our_own_is_no_other_exchanges() {
        let id = |exchange, at, body: &str| {
            let start = Start {
                upstream: "api".into(),
                caller: None,
                method: Method::POST,
                path: "/v1/responses".to_owned(),
                query: String::new(),
                request_headers: Vec::new(),
                request_body: RequestBody { bytes: body.as_bytes().to_vec(), complete: true },
                request_at: UnixMillis(at),
                status: 200,
                content_type: None,
                content_encoding: None,
                response_at: UnixMillis(at),
            };
            let config = Config::default();
            let exchange = ExchangeId(exchange);
            let request = Request::default();
            Opening { exchange, start: &start, request, config: &config }.own_id()
        };
        assert_eq!(id(1, 1, "a"), id(1, 1, "a"));
        let ids = [id(1, 1, "a"), id(2, 1, "a"), id(1, 2, "a"), id(1, 1, "b")];
        assert!((1..4).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    }
}
