//! Heads of HTTP messages. The header lines keep their order and the letter case of their names.
//!
//! A line is a name and a value, without the spaces around the value. There is no hash map: a head
//! has ten or twenty lines, and a linear search of so few lines is faster.

use http::{HeaderMap, Method, StatusCode, Version};
use memchr::memchr2;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target as received: a path and query, `*`, an absolute URL, or a host and port
    /// (RFC 9112 §3.2).
    pub target: String,
    /// The HTTP version of the client.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
}

impl RequestHead {
    /// The path of the target, still percent-encoded. Empty if the target has no path.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = path_and_query(&self.target);
        &path[..memchr2(b'?', b'#', path.as_bytes()).unwrap_or(path.len())]
    }

    /// The query of the target without its `?`. Empty if there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        let path = path_and_query(&self.target);
        let path = &path[..path.find('#').unwrap_or(path.len())];
        path.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    /// Always false for HTTP/1.0, which does not have it, and for HTTP/2, where we do not send it.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::HTTP_11
            && self.fields.get("expect").is_some_and(|expect| is(expect, "100-continue"))
    }

    /// The host of a target in absolute form.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        absolute(&self.target).map(|(authority, _)| authority)
    }
}

/// The part of a request target that is forwarded to a server: its path and everything after it.
/// Empty for a host and port, and for an absolute URL that ends with its host.
#[must_use]
pub fn path_and_query(target: &str) -> &str {
    match absolute(target) {
        Some((_, path)) => path,
        None if target.starts_with('/') || target == "*" => target,
        None => "",
    }
}

/// Splits a URL into its authority and everything after it.
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
    /// The reason phrase as received. `None` means the standard phrase for the status.
    pub reason: Option<Vec<u8>>,
    /// The header lines.
    pub fields: Fields,
}

impl ResponseHead {
    /// Creates a head without header lines.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, fields: Fields::default() }
    }
}

/// The header lines of a message.
#[derive(Clone, Default)]
pub struct Fields {
    /// Names and values, in no particular order. Replaced values remain in this buffer.
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// The position of a line in the text.
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

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Keeps the line unchanged.
    Keep,
    /// Removes the line.
    Drop,
    /// Keeps the line in its place, with this value.
    Replace(&'a [u8]),
}

impl Verdict<'_> {
    /// Drops the line if the condition holds, and keeps it otherwise.
    #[must_use]
    pub fn drop_if(condition: bool) -> Self {
        if condition { Self::Drop } else { Self::Keep }
    }
}

impl Fields {
    /// The memory a line needs in addition to its name and value.
    pub const LINE_BYTES: usize = size_of::<Line>();

    /// Creates an empty list with capacity for `lines` lines and `bytes` bytes of text.
    #[must_use]
    pub fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), lines: Vec::with_capacity(lines) }
    }

    /// Adds a line at the end.
    ///
    /// # Panics
    /// If names and values add up to 4 GiB. The limits on heads never allow that.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let line = Line { name: self.store(name.as_ref()), value: self.store(value.as_ref()) };
        self.lines.push(line);
    }

    /// Inserts a line before all others.
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

    /// The number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.lines.iter().map(|line| (self.text(line.name), self.text(line.value)))
    }

    /// The values of all lines with this name, ignoring case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.iter().filter(move |(other, _)| is(other, name)).map(|(_, value)| value)
    }

    /// The value of the first line with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| is(other, name)).map(|(_, value)| value)
    }

    /// Whether there is a line with this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The members of a list-valued field, collected from all its lines (RFC 9110 §5.6.1). Includes
    /// empty members.
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.get_all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(trim_blanks)
    }

    /// Whether a list-valued field has this member, ignoring case.
    #[must_use]
    pub fn names(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|other| is(other, token))
    }

    /// Calls a function for each line, in order, that decides what to do with the line.
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

/// Whether two tokens are equal, ignoring case.
#[must_use]
pub fn is(bytes: &[u8], token: &str) -> bool {
    bytes.eq_ignore_ascii_case(token.as_bytes())
}

/// Whether the bytes are a token, like names and the members of most lists (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || TOKEN_MARKS.contains(byte))
}

/// Whether the byte is whitespace that may surround values, names and members (RFC 9110 §5.6.3).
#[must_use]
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Trims the blanks around a value. Any other whitespace is part of the value.
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
    /// Shows names only, because values may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl From<&HeaderMap> for Fields {
    fn from(headers: &HeaderMap) -> Self {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        // Leaves some room for lines that the proxy adds for the next hop.
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
