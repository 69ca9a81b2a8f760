//! Names of assistants, read from responses of `/assistants`, where apps create, retrieve and list
//! them.
//!
//! Runs identify their assistant only by its id. Foundry's classic agents have the same endpoints.

use std::sync::Arc;

use http::Method;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::object::{Object, for_each_item};
use super::path::Below;
use super::registry::{Dialect, NotJson, Observe, Opening, Telling};
use super::{NamedAssistant, Observed};
use crate::exchange::Ending;
use crate::observation::Api;
use crate::time::UnixMillis;

/// Names of assistants.
pub(super) const DIALECT: Dialect = Dialect {
    api: Api::Assistants,
    interest,
    start: |opening| Some(Box::new(Observer::start(&opening)?)),
    read_by_item: None,
    hears_refusals: false,
    is_sunset: false,
};

/// Whether a request is for one or more assistants.
fn interest(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::POST)
        && Below::of(path, "assistants").is_some_and(|below| below.read(|below| below.len() <= 1))
}

/// Watches one exchange.
#[derive(Debug)]
struct Observer {
    upstream: Arc<str>,
}

/// Only a complete response is used.
impl Observe for Observer {
    fn set_telling(&mut self, _: Telling) {}

    fn miss(&mut self) {}

    fn cannot_read(&mut self, _: UnixMillis, _: &mut Observed) {}

    fn event(&mut self, _: &str, _: &str, _: UnixMillis, _: &mut Observed) -> Result<(), NotJson> {
        Ok(())
    }

    /// A body that is not an assistant is ignored: other products have paths of the same form.
    fn document(&mut self, json: &str, _: UnixMillis, out: &mut Observed) -> Result<(), NotJson> {
        let body: &RawValue = serde_json::from_str(json).map_err(|_| NotJson)?;
        let Some(object) = Object::parse(body.get()) else { return Ok(()) };
        match object.raw("data") {
            Some(list) => for_each_item(list, |item| {
                if out.assistants.len() < MAX_NAMED {
                    out.assistants.extend(Object::parse(item.get()).and_then(|item| self.named(&item)));
                }
            }),
            None => out.assistants.extend(self.named(&object)),
        }
        Ok(())
    }

    fn prefix(&mut self, _: Map<String, Value>, _: Ending, _: UnixMillis, _: &mut Observed) {}

    fn hears_broken_responses(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn let_go(&mut self) {}

    fn end(&mut self, _: Ending, _: bool, _: UnixMillis, _: &mut Observed) {}
}

impl Observer {
    /// Starts watching an exchange that succeeded.
    fn start(opening: &Opening<'_>) -> Option<Self> {
        interest(&opening.start.method, &opening.start.path)
            .then(|| Self { upstream: opening.start.upstream.clone() })
    }

    fn named(&self, object: &Object<'_>) -> Option<NamedAssistant> {
        let short = |name: &str| object.text(name).filter(|text| text.len() <= MAX_NAME_BYTES);
        if object.text("object").is_some_and(|object| object != "assistant") {
            return None;
        }
        let (id, name) = (short("id")?.into_owned(), short("name")?.into_owned());
        Some(NamedAssistant { upstream: self.upstream.clone(), id, name })
    }
}

/// A page has at most 100.
const MAX_NAMED: usize = 1000;
/// Names have at most 256 characters.
const MAX_NAME_BYTES: usize = 1024;
