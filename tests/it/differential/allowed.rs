//! What may differ, and why. Everything else is a failure.
//!
//! An allowance turns what a direct exchange showed into what the same exchange must show through threadtap; it states a result
//! rather than ignoring a place. The few that look at the proxied side say what they take from it.

use super::case::{Course, Exchange, Line, Version};
use super::play::Seen;
use super::wire::{Framed, Message};

/// One exchange, played directly and through threadtap.
pub(crate) struct Pair<'a> {
    pub(crate) exchange: &'a Exchange,
    /// Whether the client spoke HTTP/2 to threadtap.
    pub(crate) http2: bool,
    /// The value of `Host` upstream should see.
    pub(crate) host: &'a str,
    pub(crate) direct: Seen,
    pub(crate) proxied: Seen,
}

pub(crate) struct Allowance {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) apply: fn(&mut Pair<'_>),
}

pub(crate) const ALLOWED: &[Allowance] = &[
    Allowance {
        name: "hop-by-hop fields",
        reason: "they are for one connection only (RFC 9110 §7.6.1); only `Connection: close` and `keep-alive` may be new",
        apply: hop_by_hop,
    },
    Allowance {
        name: "te",
        reason: "hop-by-hop as well; that trailers are accepted is said again, because it holds for threadtap too",
        apply: te,
    },
    Allowance {
        name: "own fields",
        reason: "x-threadtap-* is said to threadtap",
        apply: |pair| {
            let own = |name: &str| name.to_ascii_lowercase().starts_with("x-threadtap-");
            in_requests(&mut pair.direct, |request| request.lines.retain(|(name, _)| !own(name)));
        },
    },
    Allowance {
        name: "host",
        reason: "upstream is called by its own name; in its place, or first where the client sent none",
        apply: host,
    },
    Allowance {
        name: "cookie crumbs",
        reason: "HTTP/2 may split cookies, HTTP/1 must not (RFC 9113 §8.2.3)",
        apply: cookies,
    },
    Allowance {
        name: "lines of one name come together",
        reason: "http::HeaderMap, which hyper's HTTP/2 uses, keeps the order of first occurrence and that of the values of one name",
        apply: |pair| {
            if pair.http2 {
                in_requests(&mut pair.direct, |request| group(&mut request.lines));
                in_answers(&mut pair.direct, |answer| group(&mut answer.lines));
            }
            in_requests(&mut pair.direct, |request| group(&mut request.trailers));
            in_answers(&mut pair.direct, |answer| group(&mut answer.trailers));
        },
    },
    Allowance {
        name: "chunks are announced last",
        reason: "HTTP/2 does not name the framing that HTTP/1 needs",
        apply: |pair| {
            if pair.http2 {
                in_requests(&mut pair.direct, |request| {
                    if request.framing == Framed::Chunked {
                        request.lines.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
                        request.lines.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
                    }
                });
            }
        },
    },
    Allowance {
        name: "version",
        reason: "each hop speaks its own (RFC 9110 §2.5)",
        apply: |pair| {
            in_requests(&mut pair.direct, |request| request.start[2] = "HTTP/1.1".to_owned());
            let version = if pair.http2 { "HTTP/2.0" } else { "HTTP/1.1" };
            in_answers(&mut pair.direct, |answer| answer.start[0] = version.to_owned());
            // To a client of HTTP/1.0 either is right.
            if pair.exchange.request.version == Version::Http10 {
                in_answers(&mut pair.proxied, |answer| answer.start[0] = version.to_owned());
            }
        },
    },
    Allowance {
        name: "absolute form",
        reason: "it is for proxies; upstream is no proxy",
        apply: |pair| {
            in_requests(&mut pair.direct, |request| {
                let target = &mut request.start[1];
                if !target.starts_with('/')
                    && let Some((_, rest)) = target.split_once("://")
                {
                    *target =
                        rest.split_once('/').map_or_else(|| "/".to_owned(), |(_, path)| format!("/{path}"));
                }
            });
        },
    },
    Allowance {
        name: "304 names no coding",
        reason: "there are no chunks, and some clients wait for them; to a HEAD none does",
        apply: |pair| {
            if pair.exchange.request.method != "HEAD" {
                in_answers(&mut pair.direct, |answer| {
                    if answer.status() == 304 {
                        answer.lines.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
                    }
                });
            }
        },
    },
    Allowance {
        name: "chunks are unknown to the client",
        reason: "HTTP/1.0 and HTTP/2 have no Transfer-Encoding, and the former no trailers",
        apply: unknown_to_the_client,
    },
    Allowance {
        name: "close-delimited and chunked",
        reason: "a body of unknown length is chunked for HTTP/1.1, ended by the close for HTTP/1.0, and framed by HTTP/2",
        apply: unknown_length,
    },
    Allowance { name: "trailers", reason: "their names go lower case; HTTP/1.0 has none", apply: trailers },
    Allowance {
        name: "informational answers",
        reason: "a hyper server can send none but 100",
        apply: |pair| pair.direct.interim.retain(|answer| answer.status() == 100),
    },
    Allowance {
        name: "no answer",
        reason: "threadtap says so with a 502 that names upstream's fault",
        apply: |pair| {
            let ours = pair.proxied.answer.as_ref().is_some_and(|answer| {
                answer.status() == 502
                    && answer.complete
                    && answer.values("x-threadtap-error").any(|kind| kind.starts_with("upstream_"))
            });
            if ours && pair.direct.answer.is_none() {
                pair.proxied.answer = None;
            }
        },
    },
    Allowance {
        name: "a second try",
        reason: "a GET or HEAD without a body is sent again when upstream closes a connection that was used before",
        apply: |pair| {
            let bodyless = matches!(pair.exchange.request.method.as_str(), "GET" | "HEAD")
                && !pair.exchange.request.has_body();
            let unanswered = matches!(pair.exchange.course(), Course::NoAnswer { .. });
            if let [first, second] = &pair.proxied.requests[..]
                && first == second
                && bodyless
                && unanswered
            {
                pair.proxied.requests.pop();
            }
        },
    },
    Allowance {
        name: "an upload after its answer",
        reason: "once upstream has answered, threadtap reads the rest from the client and need not send it on",
        apply: |pair| {
            let early = matches!(pair.exchange.course(), Course::Early { .. });
            if let ([direct], [proxied]) = (&pair.direct.requests[..], &mut pair.proxied.requests[..])
                && early
                && !proxied.complete
                && direct.body.0.starts_with(&proxied.body.0)
            {
                proxied.body = direct.body.clone();
                proxied.trailers = direct.trailers.clone();
                proxied.complete = true;
            }
        },
    },
    Allowance {
        name: "names in lower case",
        reason: "HTTP/2 has no others (RFC 9113 §8.2)",
        apply: |pair| {
            if pair.http2 {
                let lower = |message: &mut Message| {
                    message.lines.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase())
                };
                in_requests(&mut pair.direct, lower);
                in_requests(&mut pair.proxied, lower);
                in_answers(&mut pair.direct, lower);
            }
        },
    },
    Allowance {
        name: "reason phrase",
        reason: "HTTP/2 has none (RFC 9113 §8.3.2)",
        apply: |pair| {
            if pair.http2 {
                in_answers(&mut pair.direct, |answer| answer.start[2].clear());
            }
        },
    },
];

fn in_requests(seen: &mut Seen, change: impl Fn(&mut Message)) {
    seen.requests.iter_mut().for_each(change);
}

fn in_answers(seen: &mut Seen, change: impl Fn(&mut Message)) {
    seen.answer.iter_mut().for_each(change);
}

fn hop_by_hop(pair: &mut Pair<'_>) {
    let strike = |message: &mut Message| {
        let nominated: Vec<String> = message
            .values("connection")
            .flat_map(|value| value.split(','))
            .map(|token| token.trim().to_ascii_lowercase())
            .collect();
        message.lines.retain(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !HOP_BY_HOP.contains(&name.as_str()) && !nominated.contains(&name)
        });
    };
    in_requests(&mut pair.direct, strike);
    in_answers(&mut pair.direct, strike);
    in_answers(&mut pair.proxied, |answer| {
        answer.lines.retain(|(name, value)| {
            !(name.eq_ignore_ascii_case("connection") && matches!(value.as_str(), "close" | "keep-alive"))
        });
    });
}

fn te(pair: &mut Pair<'_>) {
    in_requests(&mut pair.direct, |request| {
        let wanted = request.names("te", "trailers");
        let mut said = false;
        request.lines.retain_mut(|(name, value)| {
            if !name.eq_ignore_ascii_case("te") {
                return true;
            }
            let first = !std::mem::replace(&mut said, true);
            "trailers".clone_into(value);
            wanted && first
        });
    });
}

fn host(pair: &mut Pair<'_>) {
    let (http2, host) = (pair.http2, pair.host);
    in_requests(&mut pair.direct, |request| {
        let line = request.lines.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        match line {
            Some((_, value)) if !http2 => host.clone_into(value),
            _ => {
                request.lines.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
                request.lines.insert(0, ("host".to_owned(), host.to_owned()));
            }
        }
    });
}

fn cookies(pair: &mut Pair<'_>) {
    if !pair.http2 {
        return;
    }
    in_requests(&mut pair.direct, |request| {
        let joined = request.values("cookie").collect::<Vec<_>>().join("; ");
        let mut first = true;
        request.lines.retain_mut(|(name, value)| {
            if !name.eq_ignore_ascii_case("cookie") {
                return true;
            }
            joined.clone_into(value);
            std::mem::replace(&mut first, false)
        });
    });
}

fn group(lines: &mut Vec<Line>) {
    let mut grouped: Vec<Line> = Vec::with_capacity(lines.len());
    for (name, _) in &*lines {
        if !grouped.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            grouped.extend(lines.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).cloned());
        }
    }
    *lines = grouped;
}

fn unknown_to_the_client(pair: &mut Pair<'_>) {
    let http2 = pair.http2;
    let to_head = pair.exchange.request.method == "HEAD";
    let old = !http2 && pair.exchange.request.version == Version::Http10;
    in_answers(&mut pair.direct, |answer| {
        let bodyless = to_head || answer.status() == 304;
        answer.lines.retain(|(name, _)| match name.to_ascii_lowercase().as_str() {
            "trailer" => !old || bodyless,
            "transfer-encoding" => !http2,
            _ => true,
        });
    });
}

fn unknown_length(pair: &mut Pair<'_>) {
    let old = pair.exchange.request.version == Version::Http10;
    let http2 = pair.http2;
    let (Some(direct), Some(proxied)) = (&mut pair.direct.answer, &mut pair.proxied.answer) else { return };
    if !matches!(direct.framing, Framed::Chunked | Framed::Close) {
        return;
    }
    let expected = if old || http2 { Framed::Close } else { Framed::Chunked };
    if proxied.framing == expected && direct.framing != expected {
        let is_framing = |name: &str| name.eq_ignore_ascii_case("transfer-encoding");
        direct.lines.retain(|(name, _)| !is_framing(name));
        if expected == Framed::Chunked {
            proxied.lines.retain(|(name, _)| !is_framing(name));
        }
        direct.framing = expected;
    }
}

fn trailers(pair: &mut Pair<'_>) {
    let lower =
        |message: &mut Message| message.trailers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    in_requests(&mut pair.direct, lower);
    in_answers(&mut pair.direct, lower);
    if !pair.http2 && pair.exchange.request.version == Version::Http10 {
        in_answers(&mut pair.direct, |answer| answer.trailers.clear());
    }
}

const HOP_BY_HOP: &[&str] = &["connection", "http2-settings", "keep-alive", "proxy-connection", "upgrade"];
