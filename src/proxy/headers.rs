//! Decides which header lines are forwarded and which are removed. Forwarded lines keep their
//! position and spelling.

#[cfg(any(test, fuzzing))]
mod invariants;

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, StatusCode, Version};
use threadtap_http::head::{Fields, RequestHead, ResponseHead, Verdict, is};

use super::error::{Error, Kind};

#[cfg(any(test, fuzzing))]
pub use self::invariants::assert_heads_are_sound;

/// What the outgoing connection of a message requires of its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Another message may follow on the connection.
    Message,
    /// The connection becomes a WebSocket.
    WebSocket,
}

/// Whether a request asks for a WebSocket. No other protocol is tunnelled.
pub(super) fn hop(head: &RequestHead) -> Hop {
    let asks = head.version == Version::HTTP_11
        && head.fields.names("connection", "upgrade")
        && head.fields.names("upgrade", "websocket");
    if asks { Hop::WebSocket } else { Hop::Message }
}

/// Fields that need more than plain forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    Connection,
    ContentLength,
    Cookie,
    Host,
    /// Other fields that every hop consumes.
    HopByHop,
    /// What the app sends only to threadtap.
    Own,
    Te,
    TransferEncoding,
    Upgrade,
}

impl Special {
    fn of(name: &[u8]) -> Option<Self> {
        // Compared by length first, as most names are none of these.
        Some(match name.len() {
            2 if is(name, "te") => Self::Te,
            4 if is(name, "host") => Self::Host,
            6 if is(name, "cookie") => Self::Cookie,
            7 if is(name, "upgrade") => Self::Upgrade,
            10 if is(name, "connection") => Self::Connection,
            10 if is(name, "keep-alive") => Self::HopByHop,
            14 if is(name, "content-length") => Self::ContentLength,
            14 if is(name, "http2-settings") => Self::HopByHop,
            16 if is(name, "proxy-connection") => Self::HopByHop,
            17 if is(name, "transfer-encoding") => Self::TransferEncoding,
            _ if is(name.get(..OWN_PREFIX.len())?, OWN_PREFIX) => Self::Own,
            _ => return None,
        })
    }
}

/// Removes the lines from a request head that are not forwarded to upstream. `host` is the value
/// for `Host` if it differs from what the client sent.
///
/// # Errors
/// If the client sent two `Host` lines: upstream could use the other one.
pub(super) fn to_upstream(head: &mut RequestHead, hop: Hop, host: Option<&str>) -> Result<(), Error> {
    let RequestHead { version, fields, .. } = head;
    let hosts = fields.get_all("host").take(2).count();
    if hosts > 1 {
        return Err(Error::new(Kind::ClientHost));
    }
    let nominated = Nominated::by(fields);
    let chunked = fields.contains("transfer-encoding");
    let wants_trailers = fields.names("te", "trailers");
    // HTTP/2 may split cookies over several lines, HTTP/1 must not (RFC 9113 §8.2.3).
    let cookies = (*version == Version::HTTP_2 && fields.get_all("cookie").nth(1).is_some())
        .then(|| fields.get_all("cookie").collect::<Vec<_>>().join(&b"; "[..]));
    let mut said = Said::default();
    fields.rewrite(|name, value| {
        let Some(special) = Special::of(name) else { return Verdict::drop_if(nominated.contains(name)) };
        match special {
            Special::Host => host.map_or(Verdict::Keep, |host| Verdict::Replace(host.as_bytes())),
            Special::Te if wants_trailers && said.first(special) => Verdict::Replace(b"trailers"),
            Special::Connection if hop == Hop::WebSocket && said.first(special) => {
                Verdict::Replace(b"Upgrade")
            }
            Special::Upgrade if hop == Hop::WebSocket && said.first(special) => {
                if is(value, "websocket") {
                    Verdict::Keep
                } else {
                    Verdict::Replace(b"websocket")
                }
            }
            Special::Cookie => match &cookies {
                _ if nominated.contains(name) => Verdict::Drop,
                None => Verdict::Keep,
                Some(cookies) if said.first(special) => Verdict::Replace(cookies),
                Some(_) => Verdict::Drop,
            },
            // Several lines have the same value, or the request would have been refused.
            Special::ContentLength => Verdict::drop_if(chunked || !said.first(special)),
            Special::TransferEncoding => Verdict::Keep,
            Special::Connection | Special::HopByHop | Special::Own | Special::Te | Special::Upgrade => {
                Verdict::Drop
            }
        }
    });
    if let Some(host) = host.filter(|_| hosts == 0) {
        fields.push_front("host", host);
    }
    Ok(())
}

/// Removes the request trailers that are meant for threadtap.
pub(super) fn trailers_to_upstream(trailers: &mut HeaderMap) {
    let own = |name: &&HeaderName| name.as_str().starts_with(OWN_PREFIX);
    for name in trailers.keys().filter(own).cloned().collect::<Vec<_>>() {
        trailers.remove(name);
    }
}

/// Removes the lines from a response head that are not forwarded to a client that speaks `version`.
/// Where the response ends has been decided before.
pub(super) fn to_client(head: &mut ResponseHead, version: Version) {
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    // HTTP/2 has its own framing and forbids header fields for it (RFC 9113 §8.2.2).
    let framed = version == Version::HTTP_2;
    let nominated = if switches { Nominated::default() } else { Nominated::by(&head.fields) };
    head.fields.rewrite(|name, _| {
        let Some(special) = Special::of(name) else { return Verdict::drop_if(nominated.contains(name)) };
        match special {
            Special::Connection | Special::Upgrade => Verdict::drop_if(!switches),
            Special::TransferEncoding => Verdict::drop_if(framed),
            Special::Te | Special::HopByHop => Verdict::Drop,
            Special::ContentLength | Special::Host => Verdict::Keep,
            Special::Cookie | Special::Own => Verdict::drop_if(nominated.contains(name)),
        }
    });
}

/// Records for which fields a line has been seen.
#[derive(Default)]
struct Said(u16);

impl Said {
    /// Whether this is the first line of the field.
    fn first(&mut self, special: Special) -> bool {
        let bit = 1 << special as u16;
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

/// The fields that a message lists in `Connection` as meant only for this hop (RFC 9110 §7.6.1).
#[derive(Debug, Default)]
struct Nominated(HashSet<Vec<u8>>);

impl Nominated {
    fn by(fields: &Fields) -> Self {
        // `close` and `keep-alive` name no field. Fields for framing and `Host` cannot be removed
        // by listing them, see `Special`.
        let names = fields
            .tokens("connection")
            .filter(|token| !token.is_empty() && !is(token, "close") && !is(token, "keep-alive"));
        Self(names.map(<[u8]>::to_ascii_lowercase).collect())
    }

    fn contains(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains(&name.to_ascii_lowercase())
    }
}

const OWN_PREFIX: &str = "x-threadtap-";

#[cfg(test)]
mod tests;
