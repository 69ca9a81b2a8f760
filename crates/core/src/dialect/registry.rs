//! The dialects there are, and what each has to offer. A further one is a variant of [`Api`], a line in [`of`], and a file of its
//! own; `CONTRIBUTING.md` has the list.

use std::fmt;

use http::Method;
use serde_json::{Map, Value};

use super::{Config, Observed, Request, assistants, chat, directory, responses};
use crate::event::key_of;
use crate::exchange::{End, Ending, ExchangeId, Start};
use crate::observation::Api;
use crate::time::UnixMillis;

/// Requests of an API, and who reads their responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// The API.
    pub(super) api: Api,
    /// Whether a response to a request can tell anything. Looks at the request line only.
    pub(super) interest: fn(&Method, &str) -> bool,
    /// Begins to watch an exchange; none if its response can tell nothing.
    pub(super) start: fn(Opening<'_>) -> Option<Box<dyn Observe>>,
    /// The member of a request's body that is a list which may be long, of which only the end is new. It is read item by item.
    pub(super) read_by_item: Option<&'static str>,
    /// Whether a response that refuses something may tell anything.
    pub(super) hears_refusals: bool,
    /// Whether the API was shut down at its vendor, so that callers are to be found.
    pub(super) is_sunset: bool,
}

impl Dialect {
    /// The one a request speaks; none if no response to it can tell anything. Looks at the request line only.
    pub(super) fn find(method: &Method, path: &str) -> Option<&'static Self> {
        let mut all = Api::ALL.into_iter().flat_map(of);
        all.find(|dialect| (dialect.interest)(method, path))
    }
}

/// Who reads the requests of an API.
fn of(api: Api) -> &'static [Dialect] {
    match api {
        Api::Assistants => &[assistants::DIALECT, directory::DIALECT],
        Api::Chat => &[chat::DIALECT],
        Api::Responses => &[responses::DIALECT],
    }
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
    pub(super) fn local_id(&self) -> String {
        let Start { upstream, path, request_body, request_at, response_at, .. } = self.start;
        let bytes = &request_body.bytes;
        let numbers = [self.exchange.0, request_at.0, response_at.0, bytes.len() as u64];
        let numbers = numbers.map(|number| number.to_string()).join(" ");
        // Clock and counter tell the exchanges of one process apart; between processes, what was asked helps.
        let body = String::from_utf8_lossy(&bytes[..bytes.len().min(LOCAL_ID_BYTES)]);
        format!("exchange_{}", key_of(&[upstream, path, &body, &numbers]))
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

/// Watches one exchange. What has no default is a choice that each dialect has to make.
pub(super) trait Observe: fmt::Debug + Send {
    /// Says how the body is told; before anything else is told of it.
    fn set_telling(&mut self, telling: Telling);

    /// Says that part of the response was not seen, or could not be read.
    fn miss(&mut self);

    /// Says that the response is over, and that nothing can be made of it.
    fn cannot_read(&mut self, at: UnixMillis, out: &mut Observed);

    /// Takes the name and the data of an event.
    ///
    /// # Errors
    /// When the data is no JSON. Nothing was taken of it.
    fn event(&mut self, name: &str, data: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson>;

    /// Takes a whole JSON body.
    ///
    /// # Errors
    /// When it is no JSON.
    fn document(&mut self, json: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson>;

    /// Takes what came of a JSON object before it was cut: the copy of it, or by this ending the response itself.
    fn prefix(&mut self, members: Map<String, Value>, ending: Ending, at: UnixMillis, out: &mut Observed);

    /// Whether a response that was broken off tells something: so where it is a whole turn. A run is looked at again.
    fn hears_broken_responses(&self) -> bool;

    /// How many bytes are held of the request, and of a response that is still being told.
    fn held_bytes(&self) -> usize;

    /// Lets go of what is held of the response.
    fn let_go(&mut self);

    /// The body is over; `missed` says whether part of it was not seen.
    fn end(&mut self, ending: Ending, missed: bool, at: UnixMillis, out: &mut Observed);

    /// Whether messages of the request were left out, because they are too many or have too many parts.
    fn has_cut_request(&self) -> bool {
        false
    }

    /// Members of a long text that nobody reads.
    fn omitted(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Says that nothing can be made of a response, if it came to its end.
pub(super) fn cannot_read(observer: &mut dyn Observe, end: &End, out: &mut Observed) {
    if end.ending == Ending::Complete {
        observer.cannot_read(end.at, out);
    }
}

/// How much of a request goes into an id; more would cost more than it tells.
const LOCAL_ID_BYTES: usize = 1024;

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
            Opening { exchange, start: &start, request, config: &config }.local_id()
        };
        assert_eq!(id(1, 1, "a"), id(1, 1, "a"));
        let ids = [id(1, 1, "a"), id(2, 1, "a"), id(1, 2, "a"), id(1, 1, "b")];
        assert!((1..4).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    }

    #[test]
    fn every_dialect_is_of_the_api_it_stands_with() {
        for api in Api::ALL {
            assert!(!of(api).is_empty() && of(api).iter().all(|dialect| dialect.api == api), "{api:?}");
        }
    }
}
