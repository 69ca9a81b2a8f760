//! All dialects, and what each of them provides. A new dialect is a variant of [`Api`], a line in
//! [`of`], and a file of its own; `CONTRIBUTING.md` has the list.

use std::fmt;

use http::Method;
use serde_json::{Map, Value};

use super::{Config, Observed, Request, assistants, chat, directory, responses};
use crate::event::key_of;
use crate::exchange::{End, Ending, ExchangeId, Start};
use crate::observation::Api;
use crate::time::UnixMillis;

/// The requests of an API, and the observer for their responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// The API.
    pub(super) api: Api,
    /// Whether a response to a request can report anything. Looks at the request line only.
    pub(super) interest: fn(&Method, &str) -> bool,
    /// Starts watching an exchange. None if its response cannot report anything.
    pub(super) start: fn(Opening<'_>) -> Option<Box<dyn Observe>>,
    /// The member of a request's body that is a possibly long list, of which only the end is new.
    /// It is read item by item.
    pub(super) read_by_item: Option<&'static str>,
    /// Whether a response that refuses a request may report anything.
    pub(super) hears_refusals: bool,
    /// Whether the vendor has shut down the API, so that its callers should be found.
    pub(super) is_sunset: bool,
}

impl Dialect {
    /// The dialect of a request. None if no response to the request can report anything. Looks at
    /// the request line only.
    pub(super) fn find(method: &Method, path: &str) -> Option<&'static Self> {
        let mut all = Api::ALL.into_iter().flat_map(of);
        all.find(|dialect| (dialect.interest)(method, path))
    }
}

/// The dialects of an API.
fn of(api: Api) -> &'static [Dialect] {
    match api {
        Api::Assistants => &[assistants::DIALECT, directory::DIALECT],
        Api::Chat => &[chat::DIALECT],
        Api::Responses => &[responses::DIALECT],
    }
}

/// The input of a new observer.
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
    /// An id for a run that has no id from the API. No other exchange has the same id, in any
    /// process.
    pub(super) fn local_id(&self) -> String {
        let Start { upstream, path, request_body, request_at, response_at, .. } = self.start;
        let bytes = &request_body.bytes;
        let numbers = [self.exchange.0, request_at.0, response_at.0, bytes.len() as u64];
        let numbers = numbers.map(|number| number.to_string()).join(" ");
        // Clock and counter tell the exchanges of one process apart. The request body helps to tell
        // processes apart.
        let body = String::from_utf8_lossy(&bytes[..bytes.len().min(LOCAL_ID_BYTES)]);
        format!("exchange_{}", key_of(&[upstream, path, &body, &numbers]))
    }
}

/// How an observer receives the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// As one document, when it is over.
    Document,
    /// As events, each when it arrives.
    Events,
    /// As events, when the body is over. It is not known when they arrived.
    LateEvents,
}

/// A body, or an event's data, is neither JSON nor one of the known markers.
#[derive(Debug)]
pub(super) struct NotJson;

/// Watches one exchange. A method without a default is a choice that each dialect has to make.
pub(super) trait Observe: fmt::Debug + Send {
    /// Sets how the body is delivered. Called before anything else.
    fn set_telling(&mut self, telling: Telling);

    /// Notes that part of the response was not seen, or could not be read.
    fn miss(&mut self);

    /// Notes that the response is over and cannot be used.
    fn cannot_read(&mut self, at: UnixMillis, out: &mut Observed);

    /// Reads the name and the data of an event.
    ///
    /// # Errors
    /// When the data is not JSON. Nothing was read in that case.
    fn event(&mut self, name: &str, data: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson>;

    /// Reads a whole JSON body.
    ///
    /// # Errors
    /// When it is not JSON.
    fn document(&mut self, json: &str, at: UnixMillis, out: &mut Observed) -> Result<(), NotJson>;

    /// Reads the part of a JSON object that arrived before it was cut. Either only the copy was
    /// cut, or the response itself, according to `ending`.
    fn prefix(&mut self, members: Map<String, Value>, ending: Ending, at: UnixMillis, out: &mut Observed);

    /// Whether a response that was broken off reports something. This is so if a response is a
    /// whole turn. A run is polled again.
    fn hears_broken_responses(&self) -> bool;

    /// How many bytes are held of the request, and of a response that is still in progress.
    fn held_bytes(&self) -> usize;

    /// Drops what is held of the response.
    fn let_go(&mut self);

    /// Ends the body. `missed` says whether part of it was not seen.
    fn end(&mut self, ending: Ending, missed: bool, at: UnixMillis, out: &mut Observed);

    /// Whether messages of the request were left out because there are too many or they have too
    /// many parts.
    fn has_cut_request(&self) -> bool {
        false
    }

    /// Members with long text that is never read.
    fn omitted(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Reports that a response cannot be used, if the response came to its end.
pub(super) fn cannot_read(observer: &mut dyn Observe, end: &End, out: &mut Observed) {
    if end.ending == Ending::Complete {
        observer.cannot_read(end.at, out);
    }
}

/// How much of a request goes into an id. More would not be worth the cost.
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
