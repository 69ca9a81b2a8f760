//! What is sent: random legal requests and answers, and how they go.
//!
//! Text stands for bytes, one character each, so that a case prints as what it is.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// What happens over one client connection.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) exchanges: Vec<Exchange>,
    /// All requests are sent before the first answer is read, if every exchange is plain.
    pub(crate) pipelined: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) answer: Answer,
    /// What was drawn; what is done is [`Exchange::course`].
    pub(crate) wish: Course,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) lines: Vec<Line>,
    pub(crate) framing: Framing,
    pub(crate) body: Content,
    /// The client says that it sends nothing more.
    pub(crate) close: bool,
    /// Bytes per write; 0 is all at once.
    pub(crate) stride: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) version: Version,
    pub(crate) interim: Vec<u16>,
    pub(crate) lines: Vec<Line>,
    pub(crate) framing: Framing,
    pub(crate) body: Content,
    pub(crate) close: bool,
    pub(crate) stride: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// A name and a value as it stands after the colon, white space included.
pub(crate) type Line = (String, String);

#[derive(Clone, Debug)]
pub(crate) enum Framing {
    /// No body, and no word about it.
    Absent,
    /// The end of the connection ends the body. Answers only.
    Close,
    Chunked {
        /// Sizes of chunks, over and over.
        sizes: Vec<usize>,
        extension: Option<String>,
        trailers: Vec<Line>,
        /// Whether a `Trailer` line announces them.
        announced: bool,
    },
    Length,
}

#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    pub(crate) salt: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Json,
    Noise,
    Sse,
}

/// How an exchange goes. Points in a body are in parts of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Upstream goes in the middle of its answer's body.
    AnswerBreaks {
        at: usize,
        how: Leave,
    },
    /// The client goes in the middle of the answer's body.
    ClientLeaves {
        at: usize,
        how: Leave,
    },
    /// Upstream answers when it has read so much of the request's body, and reads on.
    Early {
        at: usize,
    },
    /// The client asks before it sends the body, and is told to.
    Invited,
    /// Upstream goes without an answer, after so much of its head.
    NoAnswer {
        at: usize,
        how: Leave,
    },
    Plain,
    /// The client asks before it sends the body, and is answered instead.
    Refused,
    /// The client goes in the middle of its body.
    UploadBreaks {
        at: usize,
        how: Leave,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Close,
    Reset,
}

impl Exchange {
    /// What was wished for, if this request and this answer allow it.
    pub(crate) fn course(&self) -> Course {
        let uploads = self.request.has_body();
        let downloads = self.answer_has_body();
        let modern = self.request.version == Version::Http11;
        let allowed = match self.wish {
            Course::Plain | Course::NoAnswer { .. } => true,
            // That a close cuts off what only a close delimits cannot be seen.
            Course::AnswerBreaks { how, .. } => {
                downloads && (how == Leave::Reset || !matches!(self.answer.framing, Framing::Close))
            }
            Course::ClientLeaves { .. } => downloads,
            Course::Early { .. } | Course::UploadBreaks { .. } => uploads,
            Course::Invited | Course::Refused => uploads && modern,
        };
        if allowed { self.wish } else { Course::Plain }
    }

    /// Whether the answer has a body, by the rules of RFC 9112 §6.3.
    pub(crate) fn answer_has_body(&self) -> bool {
        self.answer.may_have_body(&self.request.method)
            && self.answer.body.length > 0
            && !matches!(self.answer.framing, Framing::Absent)
    }

    /// Whether another request may follow on the connection.
    pub(crate) fn ends_connection(&self) -> bool {
        self.request.close
            || self.answer.close
            || self.request.version == Version::Http10
            || self.answer.version == Version::Http10
            || (matches!(self.answer.framing, Framing::Close)
                && self.answer.may_have_body(&self.request.method))
            || matches!(
                self.course(),
                Course::AnswerBreaks { .. }
                    | Course::ClientLeaves { .. }
                    | Course::NoAnswer { .. }
                    | Course::Refused
                    | Course::UploadBreaks { .. }
            )
    }
}

impl Request {
    pub(crate) fn has_body(&self) -> bool {
        self.body.length > 0 && matches!(self.framing, Framing::Length | Framing::Chunked { .. })
    }

    /// The head, with `id` in it so that upstream knows what to do.
    pub(crate) fn head(&self, id: u64, course: Course) -> Vec<u8> {
        let version = self.version.text();
        let mut head = format!("{} {} {version}\r\n{EXCHANGE}: {id}\r\n", self.method, self.target);
        if self.version == Version::Http11 {
            head.push_str("Host: client.example\r\n");
        }
        if self.close && self.version == Version::Http11 {
            head.push_str("Connection: close\r\n");
        }
        if matches!(course, Course::Invited | Course::Refused) {
            head.push_str("Expect: 100-continue\r\n");
        }
        with_lines(head, &self.lines, &self.framing, self.body.length)
    }

    /// The body as it goes over the wire, up to so much of its content.
    pub(crate) fn wire_body(&self, upto: Option<usize>) -> Vec<u8> {
        encode(&self.framing, &self.body, upto)
    }
}

impl Answer {
    pub(crate) fn may_have_body(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    pub(crate) fn head(&self, method: &str) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.version.text(), self.status, self.reason);
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        // A 204 has no framing at all (RFC 9110 §8.6, RFC 9112 §6.1).
        let framing = if self.status == 204 { &Framing::Absent } else { &self.framing };
        let length = match framing {
            Framing::Absent if self.may_have_body(method) => 0,
            _ => self.body.length,
        };
        let framing = match framing {
            Framing::Absent if self.may_have_body(method) => &Framing::Length,
            framing => framing,
        };
        with_lines(head, &self.lines, framing, length)
    }

    pub(crate) fn wire_body(&self, method: &str, upto: Option<usize>) -> Vec<u8> {
        match self.framing {
            _ if !self.may_have_body(method) => Vec::new(),
            Framing::Absent => Vec::new(),
            _ => encode(&self.framing, &self.body, upto),
        }
    }
}

impl Version {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

impl Content {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let salt = self.salt;
        let pattern = match self.kind {
            Kind::Json => format!("{{\"id\":\"msg_{salt}\",\"object\":\"thread.message\"}}").into_bytes(),
            Kind::Sse => format!("event: thread.run.step\ndata: {{\"n\":{salt}}}\n\n").into_bytes(),
            Kind::Noise => {
                let mut state = u32::from(salt) | 1;
                let step = |_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                };
                (0..self.length.min(4093)).map(step).collect()
            }
        };
        pattern.iter().copied().cycle().take(self.length).collect()
    }

    /// So much of the content: less than all of it.
    pub(crate) fn upto(&self, at: usize) -> usize {
        (self.length * at / 1000).min(self.length.saturating_sub(1))
    }
}

/// The lines without one that would gainsay that the connection ends.
fn consistent(mut lines: Vec<Line>, ends: bool) -> Vec<Line> {
    lines.retain(|(name, value)| {
        !(ends && name.eq_ignore_ascii_case("connection") && value.contains("keep-alive"))
    });
    lines
}

/// The bytes a text stands for.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).expect("one character is one byte")).collect()
}

fn with_lines(mut head: String, lines: &[Line], framing: &Framing, length: usize) -> Vec<u8> {
    // Framing comes in the middle, where its position can be seen.
    let middle = lines.len() / 2;
    for (at, (name, value)) in lines.iter().enumerate() {
        if at == middle {
            push_framing(&mut head, framing, length);
        }
        head.push_str(&format!("{name}:{value}\r\n"));
    }
    if lines.is_empty() {
        push_framing(&mut head, framing, length);
    }
    head.push_str("\r\n");
    bytes(&head)
}

fn push_framing(head: &mut String, framing: &Framing, length: usize) {
    match framing {
        Framing::Absent | Framing::Close => {}
        Framing::Length => head.push_str(&format!("Content-Length: {length}\r\n")),
        Framing::Chunked { trailers, announced, .. } => {
            if *announced && !trailers.is_empty() {
                let names: Vec<&str> = trailers.iter().map(|(name, _)| name.as_str()).collect();
                head.push_str(&format!("Trailer: {}\r\n", names.join(", ")));
            }
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
    }
}

fn encode(framing: &Framing, body: &Content, upto: Option<usize>) -> Vec<u8> {
    let content = body.bytes();
    let shown = upto.unwrap_or(content.len());
    let Framing::Chunked { sizes, extension, trailers, .. } = framing else {
        return if matches!(framing, Framing::Absent) { Vec::new() } else { content[..shown].to_vec() };
    };
    let mut wire = Vec::new();
    let mut at = 0;
    let mut sizes = sizes.iter().copied().cycle();
    while at < content.len() {
        // Thousands of chunks of one byte show no more than hundreds, and take their time.
        let least = content.len() / 500 + 1;
        let size = sizes.next().unwrap_or(usize::MAX).max(least).min(content.len() - at);
        // They stay below the 16 KiB in all that hyper takes for an attack.
        let extension = extension.as_deref().unwrap_or_default();
        wire.extend(bytes(&format!("{size:x}{extension}\r\n")));
        if shown < at + size {
            wire.extend(&content[at..shown]);
            return wire;
        }
        wire.extend(&content[at..at + size]);
        at += size;
        if at == shown && upto.is_some() {
            return wire;
        }
        wire.extend(b"\r\n");
    }
    wire.extend(b"0\r\n");
    for (name, value) in trailers {
        wire.extend(bytes(&format!("{name}:{value}\r\n")));
    }
    wire.extend(b"\r\n");
    wire
}

/// Tells upstream which exchange a request belongs to.
pub(crate) const EXCHANGE: &str = "X-Exchange";

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (vec(exchange(), 1..4), prop::bool::weighted(0.2))
        .prop_map(|(exchanges, pipelined)| Case { exchanges, pipelined })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (request(), answer(), course()).prop_map(|(request, answer, wish)| Exchange { request, answer, wish })
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop_oneof![
        4 => Just("GET"), 6 => Just("POST"), 2 => Just("HEAD"), 1 => Just("PUT"), 1 => Just("PATCH"),
        2 => Just("DELETE"), 1 => Just("OPTIONS"), 1 => Just("M-SEARCH"), 1 => Just("get"), 1 => Just("!#$%&'*+.^_`|~"),
    ];
    let framing = prop_oneof![2 => Just(Framing::Absent), 2 => Just(Framing::Length), 2 => chunked()];
    let close = prop::bool::weighted(0.1);
    (method, target(), version(), lines(request_line()), framing, content(), close, stride()).prop_map(
        |(method, target, version, lines, framing, body, close, stride)| Request {
            // `*` is a target of OPTIONS alone (RFC 9112 §3.2.4).
            target: if target == "*" && method != "OPTIONS" { "/".to_owned() } else { target },
            method: method.to_owned(),
            version,
            lines: consistent(lines, close || version == Version::Http10),
            // HTTP/1.0 knows no chunks.
            framing: match framing {
                Framing::Chunked { .. } if version == Version::Http10 => Framing::Length,
                framing => framing,
            },
            body,
            close,
            stride,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        10 => Just(200_u16), 1 => Just(201), 1 => Just(202), 2 => Just(204), 1 => Just(206), 1 => Just(299),
        1 => Just(301), 1 => Just(304), 1 => Just(400), 1 => Just(401), 1 => Just(404), 1 => Just(413),
        1 => Just(429), 1 => Just(500), 1 => Just(502), 1 => Just(503), 1 => Just(599),
    ];
    let reason =
        prop_oneof![4 => Just("OK"), 1 => Just(""), 1 => Just("Fine By  Me"), 1 => Just("\u{e9}t\u{e9}\tou")];
    let interim = prop_oneof![12 => Just(vec![]), 1 => vec(prop_oneof![Just(102_u16), Just(103)], 1..3)];
    let framing = prop_oneof![
        1 => Just(Framing::Absent), 4 => Just(Framing::Length), 4 => chunked(), 2 => Just(Framing::Close)
    ];
    let close = prop::bool::weighted(0.1);
    let first = (status, reason, version(), interim, lines(answer_line()));
    (first, framing, content(), close, stride()).prop_map(
        |((status, reason, version, interim, lines), framing, body, close, stride)| Answer {
            status,
            reason: reason.to_owned(),
            version,
            interim: if version == Version::Http11 { interim } else { Vec::new() },
            lines: consistent(lines, close || version == Version::Http10),
            framing: match framing {
                Framing::Chunked { .. } if version == Version::Http10 => Framing::Close,
                framing => framing,
            },
            body,
            close,
            stride,
        },
    )
}

fn course() -> impl Strategy<Value = Course> {
    let at = || 0_usize..1000;
    let how = || prop_oneof![Just(Leave::Close), Just(Leave::Reset)];
    prop_oneof![
        12 => Just(Course::Plain),
        1 => (at(), how()).prop_map(|(at, how)| Course::AnswerBreaks { at, how }),
        1 => (at(), how()).prop_map(|(at, how)| Course::ClientLeaves { at, how }),
        1 => at().prop_map(|at| Course::Early { at }),
        1 => Just(Course::Invited),
        1 => (at(), how()).prop_map(|(at, how)| Course::NoAnswer { at, how }),
        1 => Just(Course::Refused),
        1 => (at(), how()).prop_map(|(at, how)| Course::UploadBreaks { at, how }),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![9 => Just(Version::Http11), 1 => Just(Version::Http10)]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(/(tapped)?)?/[a-zA-Z0-9._~!$&'()+,;=:@-]{0,12}(/|//|%2F|%2f|%00|;x=1|\\.\\.)?(\\?[a-zA-Z0-9._~!$&'()+,;=:@/?%20-]{0,20})?"
            .prop_filter_map("a percent sign starts an escape", |target| {
                let escapes = target.split('%').skip(1);
                let legal = escapes.into_iter().all(|rest| {
                    rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
                });
                legal.then(|| if target.starts_with('/') { target } else { format!("/{target}") })
            }),
        3 => Just("/tapped/v1/threads/thread_1/runs".to_owned()),
        1 => Just("//".to_owned()),
        1 => Just("/?".to_owned()),
        1 => Just("*".to_owned()),
        1 => Just("http://elsewhere.example:81/v1/x?y".to_owned()),
        1 => (1_usize..9000).prop_map(|length| format!("/long?{}", "q".repeat(length))),
    ]
}

fn lines(line: impl Strategy<Value = Line> + 'static) -> impl Strategy<Value = Vec<Line>> {
    let many = (100_usize..400)
        .prop_map(|count| (0..count).map(|n| (format!("H{n}"), format!(" {n}"))).collect::<Vec<Line>>());
    prop_oneof![40 => vec(line, 0..12).boxed(), 1 => many.boxed()]
}

fn request_line() -> impl Strategy<Value = Line> {
    prop_oneof![
        12 => any_line(),
        1 => fixed("Connection", " keep-alive, X-A"),
        1 => fixed("connection", " x-odd"),
        1 => fixed("Keep-Alive", " timeout=5"),
        1 => fixed("Proxy-Connection", " keep-alive"),
        2 => fixed("TE", " trailers"),
        1 => fixed("te", " gzip;q=0.5, trailers"),
        1 => fixed("Upgrade", " h2c"),
        1 => fixed("HTTP2-Settings", " AAMAAABk"),
        1 => fixed("X-ThreadTap-User", " me"),
        1 => fixed("x-threadtap-session", " s"),
        1 => fixed("Authorization", " Bearer sk-1"),
        1 => fixed("Cookie", " a=1"),
        1 => fixed("cookie", " b=2; c=3"),
        1 => fixed("Content-Type", " application/json"),
        1 => fixed("Accept-Encoding", " gzip, br"),
        1 => fixed("Via", " 1.0 fred"),
        1 => fixed("Forwarded", " for=\"[::1]\""),
        1 => fixed("Max-Forwards", " 0"),
    ]
}

fn answer_line() -> impl Strategy<Value = Line> {
    prop_oneof![
        12 => any_line(),
        1 => fixed("Connection", " X-A, keep-alive"),
        1 => fixed("Keep-Alive", " timeout=5"),
        1 => fixed("Proxy-Connection", " keep-alive"),
        1 => fixed("Date", " Sun, 06 Nov 1994 08:49:37 GMT"),
        1 => fixed("Server", " x"),
        2 => fixed("Set-Cookie", " a=1; Path=/"),
        1 => fixed("set-cookie", " b=2"),
        1 => fixed("Content-Type", " text/event-stream"),
        1 => fixed("Content-Type", " application/json"),
        1 => fixed("Content-Encoding", " gzip"),
        1 => fixed("X-Folded", " one\r\n  two\r\n\tthree"),
        1 => fixed("Alt-Svc", " h3=\":443\""),
        1 => fixed("x-threadtap-error", " upstreams_own"),
        1 => fixed("x-request-id", " req_1"),
    ]
}

fn any_line() -> impl Strategy<Value = Line> {
    let name = prop_oneof![
        3 => prop_oneof![Just("X-A"), Just("x-a"), Just("X-B"), Just("x-odd"), Just("X-ODD"), Just("Accept")]
            .prop_map(str::to_owned),
        1 => "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,16}".prop_filter("it means nothing", |name| {
            !SPEAKING.iter().any(|speaking| name.eq_ignore_ascii_case(speaking))
        }),
    ];
    let value = prop_oneof![
        4 => "[ \t]{0,2}([!-~\u{80}-\u{ff}]([ -~\t\u{80}-\u{ff}]{0,24}[!-~\u{80}-\u{ff}])?)?[ \t]{0,2}",
        1 => (1_usize..3000).prop_map(|length| format!(" {}", "v".repeat(length))),
    ];
    (name, value)
}

fn fixed(name: &'static str, value: &'static str) -> Just<Line> {
    Just((name.to_owned(), value.to_owned()))
}

fn chunked() -> impl Strategy<Value = Framing> {
    let size = prop_oneof![Just(1_usize), 2_usize..40, 1000_usize..20_000];
    let extension = option::weighted(0.2, prop_oneof![Just(";a=b"), Just(";q=\"x;y\""), Just(";flag")]);
    let trailer = prop_oneof![Just("X-Sum"), Just("x-other"), Just("X-Third")].prop_map(str::to_owned);
    let trailers = prop_oneof![3 => Just(vec![]), 1 => vec((trailer, " [a-z0-9]{0,8}"), 1..4)];
    (vec(size, 1..4), extension, trailers, any::<bool>()).prop_map(
        |(sizes, extension, trailers, announced)| Framing::Chunked {
            sizes,
            extension: extension.map(str::to_owned),
            trailers,
            announced,
        },
    )
}

fn content() -> impl Strategy<Value = Content> {
    let length = prop_oneof![
        2 => Just(0_usize), 2 => Just(1), 8 => 2_usize..200, 6 => 200_usize..9000, 2 => 16_000_usize..17_000,
        1 => 60_000_usize..200_000,
    ];
    let kind = prop_oneof![Just(Kind::Json), Just(Kind::Noise), Just(Kind::Sse)];
    (kind, length, any::<u8>()).prop_map(|(kind, length, salt)| Content { kind, length, salt })
}

fn stride() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(0_usize), 1 => Just(1), 2 => 2_usize..100, 2 => 100_usize..5000]
}

/// Names whose lines would change how a message is read; they are drawn on purpose only.
const SPEAKING: &[&str] =
    &["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];
