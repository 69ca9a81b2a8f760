//! Lists: pages of messages, runs and steps.

use serde_json::value::RawValue;

use super::members::{Members, Name};
use super::object_kind::ObjectKind;
use super::route::Route;
use super::{Observer, object};
use crate::dialect::path::percent_decode;
use crate::dialect::{Observed, Problem};
use crate::message::Message;
use crate::observation::{Fact, MessagePage, PageOrder, PageStart};
use crate::time::UnixMillis;

impl Observer {
    /// Reads a list.
    pub(super) fn list(&mut self, body: &Members<'_>, at: UnixMillis, out: &mut Observed) {
        let Some(mut items) = body.items() else { return out.problem(Problem::UnexpectedShape) };
        if items.len() > MAX_ITEMS {
            // Placing them takes time quadratic in their number.
            items.truncate(MAX_ITEMS);
            out.problem(Problem::TooManyValues);
            self.missed = true;
        }
        // If a list was cut, it is not known whether there are more items.
        let (listed, more) = (items.len(), body[Name::HasMore].as_bool().map(|more| more || self.missed));
        match &self.route {
            Route::Messages { .. } => {
                let messages = read(&items, &self.route, ObjectKind::Message, object::message);
                self.message_page(messages, listed, more, at, out);
            }
            Route::Runs { .. } => {
                // Reported oldest first, in the order they happened.
                let mut runs = read(&items, &self.route, ObjectKind::Run, |json, _| Some(json));
                if runs.len() < listed {
                    out.problem(Problem::UnexpectedShape);
                }
                if page_order(&self.query) == PageOrder::Descending {
                    runs.reverse();
                }
                for run in runs {
                    if let Ok(members) = Members::of(run) {
                        self.run(run, &members, at, out);
                    }
                }
            }
            Route::Steps { run, .. } => {
                let step = |_: &str, members: &Members<'_>| object::step(members, Some(run));
                let mut steps = read(&items, &self.route, ObjectKind::Step, step);
                let (mut follows, mut precedes) = (cursor(&self.query), None);
                if page_order(&self.query) == PageOrder::Descending {
                    steps.reverse();
                    std::mem::swap(&mut follows, &mut precedes);
                }
                let more = has_more(more, &self.query, listed);
                let whole = page_start(&self.query) == PageStart::Beginning && more == Some(false);
                let run = run.clone();
                let requested_at = self.request_at;
                let fact = Fact::StepsListed { run, steps, whole, requested_at, follows, precedes };
                self.emit(fact, at, out);
            }
            _ => out.problem(Problem::UnexpectedShape),
        }
    }

    fn message_page(
        &mut self,
        messages: Vec<Message>,
        listed: usize,
        more: Option<bool>,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let has_more = has_more(more, &self.query, listed);
        if messages.len() < listed {
            out.problem(Problem::UnexpectedShape);
            if messages.is_empty() {
                return;
            }
        }
        let page = MessagePage {
            messages,
            order: page_order(&self.query),
            run_filter: query_value(&self.query, "run_id"),
            start: page_start(&self.query),
            has_more,
            requested_at: self.request_at,
        };
        self.emit(Fact::MessagesListed(page), at, out);
    }
}

/// How many items of a page are read. The API's own pages have at most 100 (API reference,
/// `limit`).
const MAX_ITEMS: usize = 1000;

/// Reads the items of one kind. [`Members`] are much larger than an item may be, so they are not
/// held.
fn read<'a, T>(
    items: &[&'a RawValue],
    route: &Route,
    kind: ObjectKind,
    read: impl Fn(&'a str, &Members<'_>) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        let Ok(members) = Members::of(item.get()) else { continue };
        if ObjectKind::of_item(&members, route) == Some(kind) {
            found.extend(read(item.get(), &members));
        }
    }
    found
}

/// Whether more pages follow. If the server does not say, a page with fewer items than requested is
/// the last one. Nothing follows an empty page, whatever the server says: `openai-responses` sends
/// `has_more` there too, and the SDKs stop.
fn has_more(said: Option<bool>, query: &str, items: usize) -> Option<bool> {
    if items == 0 {
        return Some(false);
    }
    let limit =
        query_value(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(DEFAULT_PAGE_LIMIT);
    said.or_else(|| (items < limit).then_some(false))
}

fn page_order(query: &str) -> PageOrder {
    match query_value(query, "order").as_deref() {
        Some("asc") => PageOrder::Ascending,
        _ => PageOrder::Descending,
    }
}

fn page_start(query: &str) -> PageStart {
    if query_value(query, "before").is_some() {
        return PageStart::Unknown;
    }
    query_value(query, "after").map_or(PageStart::Beginning, PageStart::After)
}

/// The cursor after which a page continues.
fn cursor(query: &str) -> Option<String> {
    match page_start(query) {
        PageStart::After(id) => Some(id),
        PageStart::Beginning | PageStart::Unknown => None,
    }
}

/// The decoded value of a query parameter. An empty value counts as missing.
fn query_value(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.filter(|(key, _)| *key == name).find(|(_, value)| !value.is_empty())?;
    Some(percent_decode(&value.replace('+', " ")).into_owned())
}

/// The API's default page size (API reference, list messages).
const DEFAULT_PAGE_LIMIT: usize = 20;
