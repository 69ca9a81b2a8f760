//! Connections of well-formed and malformed messages, read in every way they can be cut in two, and byte by byte.

use std::task::{Context, Poll, Waker};

use http::Method;

use super::{BodyError, Decoder, Input, Malformed, Parser, of_request, settle_response};
use crate::head::Fields;

/// Whose messages a connection carries.
#[derive(Clone, Copy, Debug)]
enum Sender {
    Client,
    /// It answers requests of this method.
    Server(&'static str),
}

/// Asserts what is read of a connection that carries `sent` and then ends: of each message its start, its header lines, its body
/// and its trailers; at a fault what it is.
#[track_caller]
fn check(sender: Sender, sent: &str, expected: &[&str]) {
    let sent = sent.as_bytes();
    let bytes: Vec<&[u8]> = sent.chunks(1).collect();
    assert_eq!(read(sender, &[sent]), expected, "{sender:?}, whole");
    assert_eq!(read(sender, &bytes), expected, "{sender:?}, byte by byte");
    for at in 1..sent.len() {
        let (first, second) = sent.split_at(at);
        let cut = String::from_utf8_lossy(first);
        assert_eq!(read(sender, &[first, second]), expected, "{sender:?}, cut after {cut:?}");
    }
}

fn client(sent: &str, expected: &[&str]) {
    check(Sender::Client, sent, expected);
}

fn server(sent: &str, expected: &[&str]) {
    check(Sender::Server("GET"), sent, expected);
}

fn read(sender: Sender, pieces: &[&[u8]]) -> Vec<String> {
    let parser = Parser::new(MAX_LINES, MAX_BYTES);
    let (mut input, mut pieces, mut seen) = (Input::default(), pieces.iter().copied(), Vec::new());
    loop {
        match head(sender, &parser, &mut input) {
            Ok(None) => {
                if fill(&mut input, &mut pieces) == 0 {
                    seen.extend((!input.is_empty()).then(|| "half a head".to_owned()));
                    return seen;
                }
            }
            Ok(Some((head, decoder))) => {
                let (rest, is_whole) = body(decoder, &mut input, &mut pieces);
                seen.push(head + &rest);
                if !is_whole {
                    return seen;
                }
            }
            Err(malformed) => {
                seen.push(format!("!{malformed:?}"));
                return seen;
            }
        }
    }
}

/// The start and lines of the next head, and what decodes the body after it.
fn head(sender: Sender, parser: &Parser, input: &mut Input) -> Result<Option<(String, Decoder)>, Malformed> {
    match sender {
        Sender::Client => {
            let Some(head) = parser.request(input)? else { return Ok(None) };
            let framing = of_request(head.version, &head.fields)?;
            let text = format!("{} {} {:?}{}", head.method, head.target, head.version, lines(&head.fields));
            Ok(Some((text, Decoder::of_request(framing))))
        }
        Sender::Server(method) => {
            let Some(response) = parser.response(input)? else { return Ok(None) };
            let mut head = response.head;
            let method = method.parse::<Method>().unwrap();
            let framing = settle_response(&method, response.version, &mut head).framing;
            let text = format!("{:?} {}{}", response.version, head.status.as_u16(), lines(&head.fields));
            Ok(Some((text, Decoder::of_response(framing))))
        }
    }
}

fn lines(fields: &Fields) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| format!(" [{}: {}]", text(name), text(value))).collect()
}

/// A body, its trailers and its fault, and whether it has none.
fn body<'a>(
    mut decoder: Decoder,
    input: &mut Input,
    pieces: &mut impl Iterator<Item = &'a [u8]>,
) -> (String, bool) {
    let (mut data, mut trailers) = (Vec::new(), String::new());
    let mut cx = Context::from_waker(Waker::noop());
    let fault = loop {
        let polled = decoder.poll_frame(input, &mut cx, |input, _| Poll::Ready(Ok(fill(input, pieces))));
        let Poll::Ready(frame) = polled else { panic!("there is always more to read, or the end") };
        match frame.transpose() {
            Ok(None) => break None,
            Ok(Some(frame)) => match frame.into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(frame) => {
                    for (name, value) in &frame.into_trailers().expect("data or trailers") {
                        trailers += &format!(" [{name}: {}]", value.to_str().unwrap());
                    }
                }
            },
            Err(BodyError::Malformed(malformed)) => break Some(format!(" !{malformed:?}")),
            Err(BodyError::Truncated) => break Some(" !Truncated".to_owned()),
            Err(BodyError::Io(error)) => panic!("{error}"),
        }
    };
    let data = String::from_utf8(data).unwrap();
    let data = if data.is_empty() { data } else { format!(" {data}") };
    (data + &trailers + fault.as_deref().unwrap_or_default(), fault.is_none())
}

/// Reads the next piece: how many bytes it has, 0 at the end.
fn fill<'a>(input: &mut Input, pieces: &mut impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(piece) = pieces.next() else { return 0 };
    let polled = input.poll_fill(&mut { piece }, &mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(length)) if length == piece.len()), "one read takes a piece");
    piece.len()
}

const MAX_LINES: usize = 4;
const MAX_BYTES: usize = 160;

#[test]
fn requests() {
    client("", &[]);
    client("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &["GET / HTTP/1.1 [Host: h]"]);
    client("GET / HTTP/1.1\nHost:h \n\n", &["GET / HTTP/1.1 [Host: h]"]);
    client("\r\n\r\n\nGET / HTTP/1.0\r\n\r\n", &["GET / HTTP/1.0"]);
    client("OPTIONS * HTTP/1.1\r\nA:\r\na: \t1\r\n\r\n", &["OPTIONS * HTTP/1.1 [A: ] [a: 1]"]);
    client("PUT /a?b=c HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &["PUT /a?b=c HTTP/1.1 [Content-Length: 0]"]);
}

#[test]
fn requests_of_a_length() {
    client("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", &["POST / HTTP/1.1 [Content-Length: 3] abc"]);
    client(
        "POST / HTTP/1.0\r\ncontent-length: 3\r\nContent-Length: 03\r\n\r\nabc",
        &["POST / HTTP/1.0 [content-length: 3] [Content-Length: 03] abc"],
    );
    client(
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        &["POST / HTTP/1.1 [Expect: 100-continue] [Content-Length: 3] abc"],
    );
}

#[test]
fn requests_in_chunks() {
    let check = |body: &str, expected: &str| {
        client(
            &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[&format!("POST / HTTP/1.1 [Transfer-Encoding: chunked]{expected}")],
        );
    };
    check("0\r\n\r\n", "");
    check("3\r\nabc\r\n0\r\n\r\n", " abc");
    check("1\r\na\r\n0002\r\nbc\r\nA\r\n0123456789\r\n000\r\n\r\n", " abc0123456789");
    check("0b\r\n\r\n0\r\n\r\n is\n\r\n0\r\n\r\n", " \r\n0\r\n\r\n is\n");
    check("3;a\r\nabc\r\n1;b=c;d=\"e;f\"\r\nd\r\n0;last\r\n\r\n", " abcd");
    check("3  \r\nabc\r\n0 ;a\r\n\r\n", " abc");
    check("3\r\nabc\r\n0\r\nX: y\r\nz:  1 \r\n\r\n", " abc [x: y] [z: 1]");
}

#[test]
fn requests_one_after_the_other() {
    client("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", &["GET /1 HTTP/1.1", "GET /2 HTTP/1.1"]);
    client(
        "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nPOST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nde\r\n0\r\n\r\nGET /3 HTTP/1.1\r\n\r\n",
        &[
            "POST /1 HTTP/1.1 [Content-Length: 3] abc",
            "POST /2 HTTP/1.1 [Transfer-Encoding: chunked] de",
            "GET /3 HTTP/1.1",
        ],
    );
    client("GET / HTTP/1.1\r\n\r\nG\u{1}T / HTTP/1.1\r\n\r\n", &["GET / HTTP/1.1", "!Head"]);
}

#[test]
fn requests_that_do_not_end() {
    client("GET / HTTP/1.1\r\nHost: h\r\n", &["half a head"]);
    client(
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
        &["POST / HTTP/1.1 [Content-Length: 3] ab !Truncated"],
    );
    for (sent, data) in
        [("3", ""), ("3\r\nab", " ab"), ("3\r\nabc", " abc"), ("3\r\nabc\r\n", " abc"), ("0\r\nX: y\r\n", "")]
    {
        client(
            &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{sent}"),
            &[&format!("POST / HTTP/1.1 [Transfer-Encoding: chunked]{data} !Truncated")],
        );
    }
}

#[test]
fn heads_of_requests_that_are_none() {
    for line in
        ["A : b", " A: b", "A", ": b", "A\u{0}: b", "A: \u{0}", "A: b\r\n c", "A\u{e9}: b", "A: b\rC: d"]
    {
        client(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n"), &["!Head"]);
    }
    for start in
        ["G(T / HTTP/1.1", "GET /", "GET  / HTTP/1.1", "GET / HTTP/2.0", "GET / HTTP/1.1 ", "GET / http/1.1"]
    {
        client(&format!("{start}\r\nHost: h\r\n\r\n"), &["!Head"]);
    }
}

#[test]
fn requests_without_a_certain_end() {
    for lines in [
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length: ",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
    ] {
        client(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\nabc"), &["!Framing"]);
    }
    client("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &["!Framing"]);
}

#[test]
fn chunks_of_requests_that_are_none() {
    for (body, data) in [
        ("\r\n", ""),
        ("x\r\n", ""),
        (" 3\r\nabc\r\n", ""),
        ("-3\r\nabc\r\n", ""),
        ("0x3\r\nabc\r\n", ""),
        ("3\nabc\r\n", ""),
        ("3\rabc\r\n", ""),
        ("3 3\r\nabc\r\n", ""),
        ("3\r\nabcd\r\n", " abc"),
        ("3\r\nabc\n", " abc"),
        ("3\r\nabc\r\n\r\n", " abc"),
        ("10000000000000000\r\nabc", ""),
        ("3\r\nabc\r\n0\r\nX : y\r\n\r\n", " abc"),
        ("3\r\nabc\r\n0\r\nX\r\n\r\n", " abc"),
        ("3\r\nabc\r\n0\r\nX: y\n\r\n", " abc"),
    ] {
        client(
            &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[&format!("POST / HTTP/1.1 [Transfer-Encoding: chunked]{data} !Chunk")],
        );
    }
}

#[test]
fn heads_that_are_too_large() {
    let most = "A: b\r\n".repeat(MAX_LINES);
    client(
        &format!("GET / HTTP/1.1\r\n{most}\r\n"),
        &[&format!("GET / HTTP/1.1{}", " [A: b]".repeat(MAX_LINES))],
    );
    client(&format!("GET / HTTP/1.1\r\n{most}A: b\r\n\r\n"), &["!TooLarge"]);
    server(
        &format!("HTTP/1.1 204 N\r\n{most}\r\n"),
        &[&format!("HTTP/1.1 204{}", " [A: b]".repeat(MAX_LINES))],
    );
    server(&format!("HTTP/1.1 204 N\r\n{most}A: b\r\n\r\n"), &["!TooLarge"]);
    for (longest, expected) in [(MAX_BYTES, None), (MAX_BYTES + 1, Some("!TooLarge"))] {
        for (check, start, read) in [
            (client as fn(&str, &[&str]), "GET / HTTP/1.1\r\nA: ", "GET / HTTP/1.1 [A: "),
            (server, "HTTP/1.1 204 N\r\nA: ", "HTTP/1.1 204 [A: "),
        ] {
            let value = "b".repeat(longest - start.len() - "\r\n\r\n".len());
            let read = format!("{read}{value}]");
            check(&format!("{start}{value}\r\n\r\n"), &[expected.unwrap_or(&read)]);
        }
    }
}

#[test]
fn responses() {
    server("", &[]);
    server("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", &["HTTP/1.1 200 [Content-Length: 3] abc"]);
    server("HTTP/1.1 200\nContent-Length : 3, 3\n\nabc", &["HTTP/1.1 200 [Content-Length: 3] abc"]);
    server(
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nnone\r\nContent-Length: 0\r\n\r\n",
        &["HTTP/1.1 200 [A: b c] [Content-Length: 0]"],
    );
    server("HTTP/1.0 404 \r\n\r\nuntil it closes", &["HTTP/1.0 404 until it closes"]);
    server(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        &["HTTP/1.1 200 HTTP/1.1 200 OK\r\n\r\n"],
    );
    server(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        &["HTTP/1.1 200 [Transfer-Encoding: gzip] abc"],
    );
}

#[test]
fn responses_in_chunks() {
    let check = |body: &str, expected: &str| {
        server(
            &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[&format!("HTTP/1.1 200 [Transfer-Encoding: chunked]{expected}")],
        );
    };
    check("0\r\n\r\n", "");
    check("3;a=\"b\"\r\nabc\r\n 2 \r\nde\r\n0\r\n\r\n", " abcde");
    check("3\nabc\n0\n\n", " abc");
    check("3\r\nabc\r\n0\r\nX: y\r\nX-Sum: 1\r\n\r\n", " abc [x: y] [x-sum: 1]");
    check("3\r\nabc\r\n0\r\nno trailer\r\nX: y\n\r\n", " abc [x: y]");
    check("3\r\nab", " ab !Truncated");
    check("3\r\nabcd\r\n", " abc !Chunk");
    check("x\r\n", " !Chunk");
}

#[test]
fn responses_without_a_body() {
    server("HTTP/1.1 204 N\r\n\r\nHTTP/1.1 204 N\r\n\r\n", &["HTTP/1.1 204", "HTTP/1.1 204"]);
    server("HTTP/1.1 304 N\r\nContent-Length: 3\r\n\r\n", &["HTTP/1.1 304 [Content-Length: 3]"]);
    check(
        Sender::Server("HEAD"),
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        &["HTTP/1.1 200 [Content-Length: 3]", "HTTP/1.1 200 [Transfer-Encoding: chunked]"],
    );
}

#[test]
fn responses_one_after_the_other() {
    server(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        &["HTTP/1.1 100", "HTTP/1.1 103 [Link: l]", "HTTP/1.1 200 [Content-Length: 3] abc"],
    );
    server(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nHTTP/1.1 404 N\r\nContent-Length: 1\r\n\r\nb",
        &["HTTP/1.1 200 [Transfer-Encoding: chunked] a", "HTTP/1.1 404 [Content-Length: 1] b"],
    );
    server(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb",
        &["HTTP/1.1 200 [Content-Length: 1] a", "HTTP/1.1 200 [Content-Length: 1] b"],
    );
}

#[test]
fn responses_that_are_none() {
    for sent in [
        "HTP/1.1 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1200 OK",
        "HTTP/x 200 OK",
        "http/1.1 200 OK",
    ] {
        server(&format!("{sent}\r\nA: b\r\n\r\n"), &["!Head"]);
    }
    server("HTTP/1.1 200 OK\r\nA: b\r\n", &["half a head"]);
    server(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        &["HTTP/1.1 200 [Content-Length: 3] ab !Truncated"],
    );
}
