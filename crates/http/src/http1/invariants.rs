//! Properties that must hold for any input from a peer. Used by tests and fuzzing.

use std::task::{Context, Poll, Waker};

use http::Version;

use super::encoder::may_trail;
use super::{Decoder, Encoder, Framing, Input, Malformed, Output, Parser, of_request, settle_response};
use crate::head::{Fields, Verdict};

/// Asserts that messages are read the same however the input is split, and that a written message
/// is read back as the same message. The first byte of `data` sets the length of the parts and
/// selects requests or responses. The rest is the peer's input.
pub fn assert_messages_are_sound(data: &[u8]) {
    let Some((&choice, sent)) = data.split_first() else { return };
    let parser = Parser::new(20, 1000);
    let read = if choice & 1 == 0 { read_requests } else { read_answers };
    let whole = read(&parser, sent, sent.len().max(1));
    let cut = read(&parser, sent, usize::from(choice >> 1).max(1));
    let texts =
        |messages: &[Message]| messages.iter().map(|message| message.read.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&whole), texts(&cut), "cut otherwise, it is read otherwise");
    // The framing may need one extra line.
    let parser = Parser::new(21, 1100);
    for message in whole {
        assert_eq!(read(&parser, &message.written, usize::MAX)[0].read, message.read);
    }
}

struct Message {
    read: Text,
    /// The same message as it is written.
    written: Vec<u8>,
}

/// A message: its start line, its lines except for framing, its body, its trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    start: String,
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<String>,
}

fn read_requests(parser: &Parser, sent: &[u8], part: usize) -> Vec<Message> {
    read(sent, part, |input| {
        let Some(mut head) = parser.request(input)? else { return Ok(None) };
        let start = format!("{} {}", head.method, head.target);
        let framing = of_request(head.version, &head.fields)?;
        let lines = lines(&head.fields);
        one_framing(&mut head.fields);
        let encoder = Encoder::of_request(&mut head.fields, framing == Framing::Empty)?;
        let mut output = Output::default();
        super::write_request(&head, output.buffer());
        Ok(Some((start, lines, Decoder::of_request(framing), encoder, output)))
    })
}

fn read_answers(parser: &Parser, sent: &[u8], part: usize) -> Vec<Message> {
    read(sent, part, |input| {
        let Some(response) = parser.response(input)? else { return Ok(None) };
        let mut head = response.head;
        let start = format!("{} {:?}", head.status, head.reason);
        let framing = settle_response(&http::Method::GET, response.version, &mut head).framing;
        let lines = lines(&head.fields);
        let encoder = Encoder::of_response(&http::Method::GET, Version::HTTP_11, &mut head)?;
        let mut output = Output::default();
        super::write_response(&head, Version::HTTP_11, output.buffer());
        Ok(Some((start, lines, Decoder::of_response(framing), encoder, output)))
    })
}

type Head = (String, Vec<(Vec<u8>, Vec<u8>)>, Decoder, Encoder, Output);

fn read(
    sent: &[u8],
    part: usize,
    mut head: impl FnMut(&mut Input) -> Result<Option<Head>, Malformed>,
) -> Vec<Message> {
    let mut wire = Wire { parts: sent.chunks(part.min(sent.len().max(1))).collect() };
    wire.parts.reverse();
    let (mut input, mut messages) = (Input::default(), Vec::new());
    loop {
        match head(&mut input) {
            Ok(None) if wire.fill(&mut input) => {}
            Ok(None) | Err(_) => return messages,
            Ok(Some((start, lines, decoder, encoder, output))) => {
                let body = read_body(&mut wire, &mut input, decoder, encoder, output);
                // How much of an incomplete message is known depends on how the input is split.
                let Some((body, trailers, written)) = body else { return messages };
                messages.push(Message { read: Text { start, lines, body, trailers }, written });
            }
        }
    }
}

/// A complete body, its trailers, and its message as it is written.
type Body = (Vec<u8>, Vec<String>, Vec<u8>);

fn read_body(
    wire: &mut Wire<'_>,
    input: &mut Input,
    mut decoder: Decoder,
    mut encoder: Encoder,
    mut output: Output,
) -> Option<Body> {
    let mut written = drained(&mut output);
    let mut body = Vec::new();
    while !decoder.is_over() {
        match decoder.data(input) {
            Err(_) => return None,
            Ok(Some(data)) => {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
                encoder.data(data, &mut output).expect("a decoder gives no more than was announced");
                written.extend(drained(&mut output));
            }
            Ok(None) if decoder.is_over() || wire.fill(input) => {}
            Ok(None) => decoder.close().ok()?,
        }
    }
    let trailers = decoder.trailers();
    encoder.end(trailers.as_ref(), &mut output).expect("a whole body is as long as was announced");
    written.extend(drained(&mut output));
    let trailers = trailers.iter().flatten().filter(|(name, _)| may_trail(name));
    let trailers = trailers.map(|(name, value)| format!("{name}: {value:?}")).collect();
    Some((body, trailers, written))
}

/// The bytes that are written to a connection that accepts one byte, then two, and so on.
fn drained(output: &mut Output) -> Vec<u8> {
    let mut wire = Taker { taken: Vec::new(), most: 0 };
    while !output.is_empty() {
        let polled = output.poll_flush(&mut wire, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(())) | Poll::Pending));
    }
    wire.taken
}

/// The lines that do not describe framing. Only the encoder may write the framing lines.
fn lines(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let told = |name: &[u8]| !tells_framing(name);
    let lines = fields.iter().filter(|(name, _)| told(name));
    lines.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn tells_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// Does what a proxy does before it writes: it forwards only one of several lengths, and none if
/// the body is chunked.
fn one_framing(fields: &mut Fields) {
    let chunked = fields.contains("transfer-encoding");
    let mut said = false;
    fields.rewrite(|name, _| {
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        Verdict::drop_if(is_length && (chunked || std::mem::replace(&mut said, true)))
    });
}

/// A connection whose bytes arrive in parts, stored in reverse order.
struct Wire<'a> {
    parts: Vec<&'a [u8]>,
}

impl Wire<'_> {
    /// Reads the next part. Returns false at the end.
    fn fill(&mut self, input: &mut Input) -> bool {
        let Some(part) = self.parts.pop() else { return false };
        let mut part = part;
        let filled = input.poll_fill(&mut part, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(filled, Poll::Ready(Ok(length)) if length > 0));
        // What this read did not take is read next time.
        if !part.is_empty() {
            self.parts.push(part);
        }
        true
    }
}

/// A connection that accepts few bytes at a time.
struct Taker {
    taken: Vec<u8>,
    most: usize,
}

impl tokio::io::AsyncWrite for Taker {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.most += 1;
        if self.most.is_multiple_of(3) {
            return Poll::Pending;
        }
        let taken = bytes.len().min(self.most);
        self.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_messages_are_sound(choice: u8, text in MESSAGES) {
            super::assert_messages_are_sound(&[&[choice], text.as_bytes()].concat());
        }

        #[test]
        fn any_bytes_are_sound(data: Vec<u8>) {
            super::assert_messages_are_sound(&data);
        }
    }

    #[test]
    fn every_input_that_fuzzing_kept_is_sound() {
        threadtap_corpus::replay("messages", super::assert_messages_are_sound);
    }

    const MESSAGES: &str = "(((GET|POST|x) (/|/a\\?b|\\*|http://h/) HTTP/1\\.[01]|HTTP/(1\\.[0-29]|2) {1,2}(200|204|103|304) ?(OK|\\x01|\u{e9}|\0|\r)?)\r?\n((Content-Length: ?[0-4](, ?[0-4])?|Content-Length:|content-length: 3|Transfer-Encoding: (gzip, |, )?chunked|Transfer-Encoding: (gzip|identity|chunked, chunked)|A: ?[\0-~]{0,4}|B : c|c: d\r\n e|Connection: close)\r?\n){0,4}\r?\n( ?([0-3]|02|1F|3 ;x=y|2;z)\r?\n[a-c]{0,3}\r?\n|[a-c]{0,4}|(0\r?\n((X|Host|x|x y): y\r?\n)?)\r?\n){0,4}){1,3}";
}
