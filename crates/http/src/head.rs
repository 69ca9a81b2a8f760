//! Heads of HTTP messages, line by line as they came: in their order, with the letter case of their names.
//!
//! A line is a name and a value without the spaces around it. Nothing is looked up by hash: a head has ten or twenty lines, and
//! what is wanted of them is found faster by going through them.

use http::{HeaderMap, Method, StatusCode, Version};
use memchr::memchr2;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target, as it came: a path and query, `*`, an absolute URL, or a host and port (RFC 9112 §3.2).
    pub target: String,
    /// The version the client spoke.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
}

impl RequestHead {
    /// The path the target names, still percent-encoded; empty when it names none.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = path_and_query(&self.target);
        &path[..memchr2(b'?', b'#', path.as_bytes()).unwrap_or(path.len())]
    }

    /// The query of the target without its `?`; empty when there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        let path = path_and_query(&self.target);
        let path = &path[..path.find('#').unwrap_or(path.len())];
        path.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether the client waits for an invitation before it sends the body (RFC 9110 §10.1.1). HTTP/1.0 knows none, and HTTP/2 is not
    /// sent one.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::HTTP_11
            && self.fields.get("expect").is_some_and(|expect| is(expect, "100-continue"))
    }

    /// The host a target in absolute form names.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        absolute(&self.target).map(|(authority, _)| authority)
    }
}

/// What of a request target goes on to a server: its path and what follows. Empty for a host and port, and for an absolute URL
/// that ends with its host.
#[must_use]
pub fn path_and_query(target: &str) -> &str {
    match absolute(target) {
        Some((_, path)) => path,
        None if target.starts_with('/') || target == "*" => target,
        None => "",
    }
}

/// The authority of a URL and what follows it.
fn absolute(target: &str) -> Option<(&str, &str)> {
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase, as it came; none is the usual one of the status.
    pub reason: Option<Vec<u8>>,
    /// The header lines.
    pub fields: Fields,
}

impl ResponseHead {
    /// A head without lines.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, fields: Fields::default() }
    }
}

/// The header lines of a message.
#[derive(Clone, Default)]
pub struct Fields {
    /// Names and values, in no order; what was replaced is still among it.
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// Where in the text a line is.
#[derive(Clone, Copy)]
struct Line {
    name: Span,
    value: Span,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It stays as it is.
    Keep,
    /// It goes.
    Drop,
    /// It stays in its place, with this value.
    Replace(&'a [u8]),
}

impl Verdict<'_> {
    /// Drops what a condition holds for, and keeps the rest.
    #[must_use]
    pub fn drop_if(condition: bool) -> Self {
        if condition { Self::Drop } else { Self::Keep }
    }
}

impl Fields {
    /// What a line takes beside its name and value.
    pub const LINE_BYTES: usize = size_of::<Line>();

    /// No lines, with room for so many and so much text.
    #[must_use]
    pub fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), lines: Vec::with_capacity(lines) }
    }

    /// Adds a line at the end.
    ///
    /// # Panics
    /// When names and values come to 4 GiB, which no limit of heads lets through.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let line = Line { name: self.store(name.as_ref()), value: self.store(value.as_ref()) };
        self.lines.push(line);
    }

    /// Adds a line before the others.
    pub fn push_front(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(name, value);
        self.lines.rotate_right(1);
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = offset(self.text.len());
        self.text.extend_from_slice(bytes);
        Span { start, end: offset(self.text.len()) }
    }

    fn text(&self, span: Span) -> &[u8] {
        &self.text[span.start as usize..span.end as usize]
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.lines.iter().map(|line| (self.text(line.name), self.text(line.value)))
    }

    /// The values of all lines of a name, whatever its letter case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.iter().filter(move |(other, _)| is(other, name)).map(|(_, value)| value)
    }

    /// The value of the first line of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| is(other, name)).map(|(_, value)| value)
    }

    /// Whether there is a line of a name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The members of a list-valued field over all its lines (RFC 9110 §5.6.1), empty ones included.
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.get_all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(trim_blanks)
    }

    /// Whether a list-valued field has a member, whatever its letter case.
    #[must_use]
    pub fn names(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|other| is(other, token))
    }

    /// Decides of each line, in their order, what becomes of it.
    pub fn rewrite<'a>(&mut self, mut verdict: impl FnMut(&[u8], &[u8]) -> Verdict<'a>) {
        let Self { text, lines } = self;
        lines.retain_mut(|line| {
            let name = &text[line.name.start as usize..line.name.end as usize];
            let value = &text[line.value.start as usize..line.value.end as usize];
            match verdict(name, value) {
                Verdict::Keep => true,
                Verdict::Drop => false,
                Verdict::Replace(new) => {
                    let start = offset(text.len());
                    text.extend_from_slice(new);
                    line.value = Span { start, end: offset(text.len()) };
                    true
                }
            }
        });
    }
}

/// Whether two tokens are the same whatever their letter case.
#[must_use]
pub fn is(bytes: &[u8], token: &str) -> bool {
    bytes.eq_ignore_ascii_case(token.as_bytes())
}

/// Whether it is a token, as names and the members of most lists are (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || TOKEN_MARKS.contains(byte))
}

/// Whether it may stand around values, names and members (RFC 9110 §5.6.3).
#[must_use]
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without the blanks around it. Others than these are part of a value.
#[must_use]
pub fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let Some(first) = bytes.iter().position(|byte| !is_blank(*byte)) else { return b"" };
    let last = bytes.iter().rposition(|byte| !is_blank(*byte)).unwrap_or(first);
    &bytes[first..=last]
}

const TOKEN_MARKS: &[u8] = b"-_!#$%&'*+.^`|~";

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("heads are limited")
}

impl std::fmt::Debug for Fields {
    /// Names only: values may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl From<&HeaderMap> for Fields {
    fn from(headers: &HeaderMap) -> Self {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        // Some room for what the next hop is told in addition.
        let mut fields = Self::with_capacity(headers.len() + 1, bytes.sum::<usize>() + 64);
        for (name, value) in headers {
            fields.push(name, value);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str) -> RequestHead {
        RequestHead {
            method: Method::GET,
            target: target.to_owned(),
            version: Version::HTTP_11,
            fields: Fields::default(),
        }
    }

    #[test]
    fn a_target_has_its_path_and_query() {
        for (target, authority, path, query) in [
            ("/v1/a?b=c", None, "/v1/a", "b=c"),
            ("/", None, "/", ""),
            ("/a?b?c#d?e", None, "/a", "b?c"),
            ("/a#b?c", None, "/a", ""),
            ("//h/x://y", None, "//h/x://y", ""),
            ("*", None, "*", ""),
            ("a:80", None, "", ""),
            ("http://h:1/a?b", Some("h:1"), "/a", "b"),
            ("HTTP://h", Some("h"), "", ""),
            ("http://h?a", Some("h"), "", "a"),
            ("://h/a", None, "", ""),
        ] {
            let head = head(target);
            assert_eq!((head.authority(), head.path(), head.query()), (authority, path, query), "{target}");
        }
    }

    #[test]
    fn lines_keep_their_order_and_are_rewritten_in_place() {
        let mut fields = Fields::default();
        for (name, value) in [("A", "1"), ("Host", "h"), ("a", "2"), ("b", "3")] {
            fields.push(name, value);
        }
        assert_eq!(fields.get_all("a").collect::<Vec<_>>(), [b"1", b"2"]);
        fields.rewrite(|name, value| match name {
            b"Host" => Verdict::Replace(b"other"),
            _ if value == b"2" => Verdict::Drop,
            _ => Verdict::Keep,
        });
        fields.push_front("first", "0");
        let lines: Vec<_> = fields.iter().map(|(name, value)| [name, value].concat()).collect();
        assert_eq!(lines, [&b"first0"[..], b"A1", b"Hostother", b"b3"]);
        assert_eq!(format!("{fields:?}"), r#"["first", "A", "Host", "b"]"#);
    }

    #[test]
    fn lists_go_over_all_lines() {
        let mut fields = Fields::default();
        fields.push("Connection", "keep-alive, X");
        fields.push("connection", "\tclose ");
        assert!(fields.names("CONNECTION", "x") && fields.names("connection", "close"));
        assert!(!fields.names("connection", "y") && !fields.names("te", "x"));
    }
}
