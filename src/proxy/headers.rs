//! Which header fields go on, and which end here.
//!
//! A map is rebuilt rather than thinned out, because `HeaderMap::remove` fills the gap with the last entry and so changes the
//! order. A response from which nothing has to go keeps its map.

#[cfg(any(test, fuzzing))]
mod soundness;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, StatusCode, Version, request, response};

use super::error::{Error, Kind};

#[cfg(any(test, fuzzing))]
pub use self::soundness::assert_heads_are_sound;

/// What the connection a message goes out on asks of its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Another message may follow on it.
    Message,
    /// It becomes a WebSocket.
    WebSocket,
}

/// Whether a request asks for a WebSocket. No other protocol is tunnelled.
pub(super) fn hop(head: &request::Parts) -> Hop {
    let asks = head.version == Version::HTTP_11
        && tokens(&head.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        && tokens(&head.headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(b"websocket"));
    if asks { Hop::WebSocket } else { Hop::Message }
}

/// Replaces the headers of a request by those that go on to upstream.
///
/// `host` is the value of `Host` if it is not the client's own; `streamed` says that there is a body of unknown length.
///
/// # Errors
///
/// When the client sent two `Host` lines: upstream could take the other one.
pub(super) fn to_upstream(
    head: &mut request::Parts,
    hop: Hop,
    host: Option<&HeaderValue>,
    streamed: bool,
) -> Result<(), Error> {
    let headers = std::mem::take(&mut head.headers);
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(Error::new(Kind::ClientHost));
    }
    let nominated = Nominated::by(&headers);
    let wants_trailers = tokens(&headers, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    if let Some(host) = host
        && !headers.contains_key(HOST)
    {
        kept.append(HOST, host.clone());
    }
    for_each_line(headers, |name, value| {
        let value = match *name {
            HOST => host.unwrap_or(&value).clone(),
            TE if wants_trailers && !kept.contains_key(TE) => HeaderValue::from_static("trailers"),
            CONNECTION if hop == Hop::WebSocket && !kept.contains_key(CONNECTION) => {
                HeaderValue::from_static("Upgrade")
            }
            UPGRADE if hop == Hop::WebSocket && !kept.contains_key(UPGRADE) => web_socket(value),
            // HTTP/2 may split cookies over several lines, HTTP/1 must not (RFC 9113 §8.2.3).
            COOKIE if head.version == Version::HTTP_2 => match kept.get_mut(COOKIE) {
                Some(cookies) => {
                    *cookies = joined(cookies, &value);
                    return;
                }
                None => value,
            },
            _ if name.as_str().starts_with(OWN_PREFIX) => return,
            _ if is_hop_by_hop(name) || nominated.contains(name) => return,
            _ => value,
        };
        kept.append(name.clone(), value);
    });
    // Without it hyper takes a GET of unknown length for one without a body.
    if streamed
        && matches!(head.method, Method::GET | Method::HEAD)
        && !kept.contains_key(CONTENT_LENGTH)
        && !kept.contains_key(TRANSFER_ENCODING)
    {
        kept.append(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    head.headers = kept;
    Ok(())
}

/// Takes from the headers of a response those that do not go on to a client that speaks `version`.
pub(super) fn to_client(head: &mut response::Parts, version: Version) {
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    // HTTP/2 frames messages itself and forbids to speak of it (RFC 9113 §8.2.2).
    let framed = version == Version::HTTP_2;
    // Where both are given the length means nothing (RFC 9112 §6.3), and hyper would write no answer at all.
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let ends_here = |nominated: &Nominated, name: &HeaderName| {
        (is_hop_by_hop(name) && !(switches && matches!(*name, CONNECTION | UPGRADE)))
            || (framed && *name == TRANSFER_ENCODING)
            || (chunked && *name == CONTENT_LENGTH)
            || nominated.contains(name)
    };
    let nominated = if switches { Nominated::default() } else { Nominated::by(&head.headers) };
    if !head.headers.keys().any(|name| ends_here(&nominated, name)) {
        return;
    }
    let headers = std::mem::take(&mut head.headers);
    let mut kept = HeaderMap::with_capacity(headers.len());
    for_each_line(headers, |name, value| {
        if !ends_here(&nominated, name) {
            kept.append(name.clone(), value);
        }
    });
    head.headers = kept;
}

/// The fields a message names in `Connection` as meant for this hop only (RFC 9110 §7.6.1).
#[derive(Debug, Default)]
struct Nominated(Vec<HeaderName>);

impl Nominated {
    fn by(headers: &HeaderMap) -> Self {
        let names = tokens(headers, &CONNECTION)
            // The usual ones name no field, and need no look-up.
            .filter(|token| {
                !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive")
            })
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            // Where a message ends and whom it is for cannot be struck out by naming it.
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING));
        Self(names.collect())
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}

/// The fields every hop consumes. `Transfer-Encoding` is one of them, but hyper writes the framing it names; a coding it does
/// not undo (`gzip, chunked`) must keep its name.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

fn for_each_line(headers: HeaderMap, mut line: impl FnMut(&HeaderName, HeaderValue)) {
    let mut current = None;
    for (name, value) in headers {
        // Only the first value of a name comes with it.
        if name.is_some() {
            current = name;
        }
        line(current.as_ref().expect("a header map begins with a name"), value);
    }
}

/// The members of a list-valued field, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// The value of `Upgrade` without the protocols that are not tunnelled.
fn web_socket(value: HeaderValue) -> HeaderValue {
    if value.as_bytes().eq_ignore_ascii_case(b"websocket") {
        value
    } else {
        HeaderValue::from_static("websocket")
    }
}

fn joined(cookies: &HeaderValue, cookie: &HeaderValue) -> HeaderValue {
    let all = [cookies.as_bytes(), cookie.as_bytes()].join(&b"; "[..]);
    HeaderValue::from_bytes(&all).expect("two valid values and a separator are valid")
}

/// What the app says to threadtap, and to nobody else.
const OWN_PREFIX: &str = "x-threadtap-";

#[cfg(test)]
mod tests;
