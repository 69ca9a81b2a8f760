//! A request's body, as JSON.

use std::ops::ControlFlow;

use http::Method;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::clean::{self, Clean, Files, Halves, Rules};
use super::object::Object;
use super::{Config, Observed, Problem};
use crate::budget::Charge;
use crate::content;
use crate::exchange::{RequestBody, Start};

/// A request's body.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// The whole body, without credentials. Empty if there is none, or it cannot be read.
    text: String,
    /// Its members, without the list that is read item by item. Null if it is not an object.
    pub(super) body: Value,
    /// Whether there was a body of which part could not be read.
    pub(super) lost: bool,
}

impl Request {
    /// Reads the body of a request. `by_item` names the list in it that is read item by item.
    pub(super) fn read(
        start: &Start,
        by_item: Option<&str>,
        config: &Config,
        charge: &mut Charge,
        out: &mut Observed,
    ) -> Self {
        let RequestBody { bytes, complete } = &start.request_body;
        if start.method != Method::POST || bytes.is_empty() {
            return Self::default();
        }
        let read = match complete {
            true => Self::decode(start, bytes, by_item, config, charge, out),
            false => Err(Problem::RequestIncomplete),
        };
        read.unwrap_or_else(|problem| {
            out.problem(problem);
            Self { lost: true, ..Self::default() }
        })
    }

    fn decode(
        start: &Start,
        bytes: &[u8],
        by_item: Option<&str>,
        config: &Config,
        charge: &mut Charge,
        out: &mut Observed,
    ) -> Result<Self, Problem> {
        let mut decoded = Vec::new();
        let Some(encoding) = start.request_header("content-encoding") else {
            return Self::of(bytes, by_item, config, charge, out);
        };
        let limit = content::Limit::TotalBytes(config.max_body_bytes);
        let decoder = content::Decoder::new(Some(encoding), limit);
        let mut decoder = decoder.map_err(|_| Problem::ContentEncoding)?;
        let most = decoder.most_held_bytes();
        let mut is_refused = false;
        let result = decoder.decode(bytes, &mut |piece| {
            // Its buffer doubles when it grows. If there are several codings, the window of each
            // one fills with it.
            let decoded_bytes = decoded.len() + piece.len();
            let wanted = 2 * decoded_bytes + most.min(content::MAX_CODINGS * (decoded_bytes + FEW_BYTES));
            is_refused = charge.resize(wanted).is_err();
            if is_refused {
                return ControlFlow::Break(());
            }
            decoded.extend_from_slice(piece);
            ControlFlow::Continue(())
        });
        out.over_budget |= is_refused;
        result.map_err(|error| match error {
            content::DecodeError::Stopped | content::DecodeError::TooLarge => Problem::RequestIncomplete,
            _ => Problem::ContentEncoding,
        })?;
        drop(decoder);
        Self::of(&decoded, by_item, config, charge, out)
    }

    fn of(
        json: &[u8],
        by_item: Option<&str>,
        config: &Config,
        charge: &mut Charge,
        out: &mut Observed,
    ) -> Result<Self, Problem> {
        if charge
            .resize(2 * json.len() + clean::workspace_bytes(json.len(), clean::values_in(json, 0)))
            .is_err()
        {
            out.over_budget = true;
            return Err(Problem::RequestIncomplete);
        }
        if let Ok(text) = str::from_utf8(json)
            && clean::is_plain(text, &config.credentials)
            && clean::is_shallow(text)
            && let Some(body) = members(text, by_item)
        {
            return Ok(Self { text: text.to_owned(), body, lost: false });
        }
        let rules = Rules {
            credentials: Some(&config.credentials),
            files: Files::Kept,
            halves: Halves::Replaced,
            omitted: &[],
            read_by_item: by_item,
        };
        let Clean { text, found, .. } = clean::clean_all(json, rules).ok_or(Problem::InvalidJson)?;
        out.problems.extend(found.problems());
        let body = members(&text, by_item).unwrap_or_default();
        Ok(Self { text, body, lost: found.left_out })
    }

    /// A body that is read as a whole.
    #[cfg(test)]
    pub(super) fn of_json(body: &Value) -> Self {
        Self { text: body.to_string(), body: body.clone(), lost: false }
    }

    /// The members as they were written, in order.
    pub(super) fn members(&self) -> Object<'_> {
        Object::parse(&self.text).unwrap_or_default()
    }

    /// The whole body, as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Takes the whole body out.
    pub(super) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// A member that is a possibly long list.
    pub(super) fn items(&self, name: &str) -> Option<&RawValue> {
        self.members().raw(name)
    }
}

/// The members of an object, except for one list. None if it is not an object.
fn members(json: &str, but: Option<&str>) -> Option<Value> {
    let object = Object::parse(json)?;
    let members = object.members().filter(|(name, _)| Some(*name) != but);
    let members =
        members.map(|(name, raw)| (name.to_owned(), serde_json::from_str(raw.get()).unwrap_or_default()));
    Some(Value::Object(members.collect::<Map<_, _>>()))
}

/// What a decoder needs at the start.
const FEW_BYTES: usize = 64 << 10;
