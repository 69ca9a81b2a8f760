use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Name, data and id.
type Seen = (String, String, String);

fn decode<'a>(config: Config, parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Decoder) {
    let mut decoder = Decoder::new(config);
    let mut events = Vec::new();
    for mut part in parts {
        take(&mut decoder, &mut part, &mut events);
        assert!(part.is_empty());
    }
    (events, decoder)
}

fn take(decoder: &mut Decoder, part: &mut &[u8], events: &mut Vec<Seen>) {
    while let Some(event) = decoder.next_event(part) {
        events.push((event.name.to_owned(), event.data.into_owned(), event.id.to_owned()));
    }
}

fn last(decoder: &mut Decoder) -> Option<String> {
    decoder.finish().map(|event| event.data.into_owned())
}

/// Checks what a stream gives as a whole, byte by byte, and cut in two at every place.
#[track_caller]
fn check(stream: &[u8], expected: &[(&str, &str)]) {
    check_with_ids(stream, &expected.iter().map(|&(name, data)| (name, data, "")).collect::<Vec<_>>());
}

#[track_caller]
fn check_with_ids(stream: &[u8], expected: &[(&str, &str, &str)]) {
    let expected: Vec<Seen> =
        expected.iter().map(|&(n, d, i)| (n.to_owned(), d.to_owned(), i.to_owned())).collect();
    let config = Config::default();
    assert_eq!(decode(config, [stream]).0, expected, "whole");
    assert_eq!(decode(config, stream.chunks(1)).0, expected, "byte by byte");
    for at in 0..=stream.len() {
        let (head, tail) = stream.split_at(at);
        assert_eq!(decode(config, [head, tail]).0, expected, "cut at {at}");
        assert_eq!(decode(config, [head, b"", tail]).0, expected, "cut at {at}, with nothing between");
    }
}

#[test]
fn lines_end_in_lf_cr_or_crlf_in_any_mixture() {
    check(b"data: a\n\ndata: b\n\n", &[("message", "a"), ("message", "b")]);
    check(b"data: a\r\rdata: b\r\r", &[("message", "a"), ("message", "b")]);
    check(b"data: a\r\n\r\ndata: b\r\n\r\n", &[("message", "a"), ("message", "b")]);
    check(
        b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n",
        &[("message", "a"), ("message", "b"), ("message", "c")],
    );
    check(b"data: a\n\rdata: b\r\n\r", &[("message", "a"), ("message", "b")]);
}

#[test]
fn a_cr_at_the_end_of_a_part_neither_makes_nor_swallows_a_blank_line() {
    check(b"data: a\r\ndata: b\r\n\r\n", &[("message", "a\nb")]);
    check(b"data: a\r\r\ndata: b\r\r", &[("message", "a"), ("message", "b")]);
}

#[test]
fn an_event_is_given_with_its_blank_line_not_with_what_follows() {
    assert_eq!(decode(Config::default(), [&b"data: a\r\n\r"[..]]).0.len(), 1);
    assert_eq!(decode(Config::default(), [&b"data: a\n\n"[..]]).0.len(), 1);
    assert_eq!(decode(Config::default(), [&b"data: a\r\n"[..]]).0.len(), 0);
}

#[test]
fn fields_are_read_as_the_standard_says() {
    check(b"event: thread.run.created\ndata: {}\n\n", &[("thread.run.created", "{}")]);
    check(b"data: {}\nevent:late\n\n", &[("late", "{}")]);
    check(b"event: one\nevent: two\ndata: x\n\n", &[("two", "x")]);
    check(b"event: x\nevent\ndata: y\n\n", &[("message", "y")]);
    check(b"data:none\ndata: one\ndata:  two\ndata:\ttab\n\n", &[("message", "none\none\n two\n\ttab")]);
    check(b"data: a:b: c\n\n", &[("message", "a:b: c")]);
    check(b"data\n\ndata:\n\ndata: \n\n", &[("message", ""), ("message", ""), ("message", "")]);
    check(b"data\ndata\n\n", &[("message", "\n")]);
    check(b"Data: a\nDATA: b\n data: c\ndata : d\nunknown: e\nretry: 10\n\n", &[]);
}

#[test]
fn several_data_lines_are_joined() {
    check(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10")]);
}

#[test]
fn comments_and_repeated_blank_lines_give_nothing() {
    check(b": ping\n\n:\n\n\n\r\n\r\rdata: a\n: in between\ndata: b\n\n\n\n", &[("message", "a\nb")]);
    check(b": ping - 2026-11-20 12:00:00+00:00\r\n\r\nevent: x\r\ndata: 1\r\n\r\n", &[("x", "1")]);
}

#[test]
fn an_event_without_data_is_none_and_leaves_no_name_behind() {
    check(b"event: gone\n\ndata: a\n\n", &[("message", "a")]);
}

#[test]
fn one_byte_order_mark_is_dropped() {
    check(b"\xEF\xBB\xBFdata: a\n\n", &[("message", "a")]);
    check(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n", &[("message", "b")]);
    check(b"\xEF\xBBdata: a\n\ndata: b\n\n", &[("message", "b")]);
    check(b"\n\xEF\xBB\xBFdata: a\n\n", &[]);
    check(b"\xEF\xBB\xBF\n\ndata: a\n\n", &[("message", "a")]);
}

#[test]
fn text_that_is_not_utf8_is_replaced() {
    check(b"event: \xFFx\ndata: a\xC3\xA9\xE2\x82z\n\n", &[("\u{FFFD}x", "a\u{E9}\u{FFFD}z")]);
    check(b"data: \xF0\x9F\x98\ndata: \x80\n\n", &[("message", "\u{FFFD}\n\u{FFFD}")]);
    check("data: gr\u{FC}\u{DF}e \u{1F600}\n\n".as_bytes(), &[("message", "gr\u{FC}\u{DF}e \u{1F600}")]);
}

#[test]
fn an_id_stays_until_another_and_one_with_nul_is_ignored() {
    check_with_ids(
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\nid: x\0y\ndata: c\n\nid\ndata: d\n\n",
        &[("message", "a", "1"), ("message", "b", "1"), ("message", "c", "2"), ("message", "d", "")],
    );
    let long = format!("id: 1\nid: {}\ndata: a\n\n", "x".repeat(MAX_ID_BYTES + 1));
    check_with_ids(long.as_bytes(), &[("message", "a", "1")]);
}

#[test]
fn the_end_completes_an_event_only_if_its_data_cannot_have_been_cut() {
    for (stream, expected) in [
        (&b"data: {\"a\":1}\n"[..], Some("{\"a\":1}")),
        (b"data: {\"a\":1}", Some("{\"a\":1}")),
        (b"data: {\"a\":1}\r", Some("{\"a\":1}")),
        (b"data: {\ndata: }", Some("{\n}")),
        (b"data: []\nevent: x", Some("[]")),
        (b"data: {}\n: comm", Some("{}")),
        (b"data: {\"a\":1", None),
        (b"data: {\"a\":1}}", None),
        // The digits might have gone on.
        (b"data: 12", None),
        (b"data: [DONE]\n", Some("[DONE]")),
        (b"data: [DONE]", Some("[DONE]")),
        (b"data: [DONE", None),
        (b"data: [DONE]]", None),
        (b"data: {}\ndata: {", None),
        (b"event: x\n", None),
        (b"dat", None),
        (b"\xEF\xBB", None),
        (b"", None),
        (b"data: {}\n\n", None),
    ] {
        let shown = String::from_utf8_lossy(stream);
        for parts in [stream.chunks(1).collect::<Vec<_>>(), vec![stream]] {
            let mut decoder = decode(Config::default(), parts).1;
            assert_eq!(last(&mut decoder).as_deref(), expected, "{shown}");
            assert_eq!(last(&mut decoder), None, "{shown}: only once");
        }
    }
}

#[test]
fn an_event_beyond_the_limit_is_skipped_and_the_stream_goes_on() {
    let config = Config { max_event_bytes: 16 };
    for (stream, expected, skipped) in [
        ("data: 0123456789\n\ndata: b\n\n", &["0123456789", "b"][..], 0),
        ("data: 0123456789x\n\ndata: b\n\n", &["b"], 1),
        ("data: 012\ndata: 456\ndata: 890\n\ndata: b\n\n", &["b"], 1),
        ("event: 0123456789\ndata: 4567\n\ndata: b\n\n", &["b"], 1),
        ("unknown: 0123456789\ndata: 1\n\ndata: b\n\n", &["b"], 1),
        ("data: a\n: a comment may be of any length\n\ndata: b\n\n", &["a", "b"], 0),
        ("data: 0123456789abcdef\n\n\n: x\n\ndata: 0123456789abcdef\r\n\r\ndata: b\n\n", &["b"], 2),
        ("data: 0123456789abcdef", &[], 1),
    ] {
        for at in 0..=stream.len() {
            let (head, tail) = stream.as_bytes().split_at(at);
            let (events, mut decoder) = decode(config, [head, tail]);
            let data: Vec<_> = events.iter().map(|(_, data, _)| data.as_str()).collect();
            assert_eq!(data, expected, "{stream:?} cut at {at}");
            assert_eq!(last(&mut decoder), None);
            assert_eq!(decoder.skipped(), skipped, "{stream:?} cut at {at}");
        }
    }
}

#[test]
fn a_skipped_event_takes_no_memory_and_a_large_one_gives_it_back() {
    let config = Config { max_event_bytes: 1 << 20 };
    let mut decoder = Decoder::new(config);
    let part = vec![b'x'; 64 * 1024];
    for _ in 0..64 {
        assert_eq!(decoder.next_event(&mut &part[..]), None);
        assert!(decoder.line.capacity() + decoder.data.capacity() <= 2 << 20);
    }
    assert_eq!(decoder.skipped(), 1);
    assert_eq!(decoder.line.capacity() + decoder.data.capacity(), 0);

    let large = [b"\n\ndata: ", part.repeat(8).as_slice(), b"\n\ndata: small\n\n"].concat();
    let mut rest = &large[..];
    assert_eq!(decoder.next_event(&mut rest).map(|event| event.data.len()), Some(512 * 1024));
    assert_eq!(decoder.next_event(&mut rest).map(|event| event.data.len()), Some(5));
    assert!(decoder.line.capacity() + decoder.data.capacity() <= 2 * KEPT_BYTES);
}

#[test]
fn after_a_hole_reading_picks_up_at_the_next_blank_line() {
    for (before, after, expected) in [
        ("data: {\"a\":", "1}\n\ndata: b\n\n", &["b"][..]),
        ("data: a\n\ndata: lost", "event: x\ndata: y\n\ndata: b\n\n", &["a", "b"]),
        // The first line's end may be that of a line whose beginning was lost.
        ("event: x\nda", "\ndata: part\n\ndata: b\n\n", &["b"]),
        ("data: a\r\n\r", "\ndata: x\n\ndata: b\n\n", &["a", "b"]),
        ("data: a\n\n", "\n\ndata: b\n\n", &["a", "b"]),
        ("\u{FEFF}", "\u{FEFF}x\n\ndata: b\n\n", &["b"]),
        ("", "\r\r\ndata: b\r\n\r\n", &["b"]),
    ] {
        for at in 0..=after.len() {
            let (mut events, mut decoder) = decode(Config::default(), [before.as_bytes()]);
            decoder.resync();
            let (mut head, mut tail) = after.as_bytes().split_at(at);
            take(&mut decoder, &mut head, &mut events);
            take(&mut decoder, &mut tail, &mut events);
            let data: Vec<_> = events.iter().map(|(_, data, _)| data.as_str()).collect();
            assert_eq!(data, expected, "{before:?} | {after:?} cut at {at}");
            assert_eq!((last(&mut decoder), decoder.skipped()), (None, 0));
        }
    }
}

#[test]
fn a_hole_drops_the_rest_even_if_it_looks_complete() {
    let (_, mut decoder) = decode(Config::default(), [&b"data: {\"a\": {}"[..]]);
    decoder.resync();
    assert_eq!(decoder.next_event(&mut &b"}\ndata: {}\n"[..]), None);
    assert_eq!(last(&mut decoder), None);
}

#[test]
fn a_long_line_fed_byte_by_byte_takes_linear_time() {
    let time = |bytes: usize| {
        let stream = [b"data: ", "x".repeat(bytes).as_bytes(), b"\n\n"].concat();
        let started = Instant::now();
        let (events, _) = decode(Config::default(), stream.chunks(1));
        assert_eq!(events.len(), 1);
        started.elapsed()
    };
    // 16 times the bytes: about 16 times as long when linear, 256 times when each byte scans the line again. A busy machine may
    // hold up some rounds, and a quadratic decoder fails them all.
    let rounds: Vec<_> =
        std::iter::repeat_with(|| (time(128 * 1024), time(2 * 1024 * 1024))).take(5).collect();
    let is_linear = |(short, long): &(Duration, Duration)| *long < *short * 80 + Duration::from_millis(50);
    assert!(rounds.iter().any(is_linear), "for 128 KiB and for 2 MiB: {rounds:?}");
}

#[test]
fn thousands_of_lines_in_one_event_take_linear_time() {
    let stream = "data: x\n: y\n".repeat(200_000) + "\n";
    let (events, _) = decode(Config::default(), stream.as_bytes().chunks(7));
    assert_eq!(events[0].1.len(), 2 * 200_000 - 1);
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b"id: 7".to_vec()),
        Just(b":".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"{\"a\":1}".to_vec()),
        Just(b"\xEF\xBB\xBF".to_vec()),
        Just("\u{1F600}".into()),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_events_do_not_depend_on_the_cuts(
        stream in streams(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in prop_oneof![1..40_usize, Just(1 << 20)],
    ) {
        let config = Config { max_event_bytes: limit };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            parts.push(&stream[from..cut]);
            from = cut;
        }
        let (whole, mut one) = decode(config, [&stream[..]]);
        let (cut, mut other) = decode(config, parts);
        prop_assert_eq!(whole, cut);
        prop_assert_eq!(last(&mut one), last(&mut other));
        prop_assert_eq!(one.skipped(), other.skipped());
    }

    #[test]
    fn single_bytes_and_even_parts_make_no_difference(seed: u8, stream in streams()) {
        assert_cuts_do_not_matter(&[&[seed][..], &stream].concat());
    }

    #[test]
    fn what_was_written_is_what_is_read(
        events in proptest::collection::vec(("[a-z.]{1,12}", "[^\r\n]{0,40}"), 0..8),
        end in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
    ) {
        let stream: String =
            events.iter().map(|(name, data)| format!("event: {name}{end}data: {data}{end}{end}")).collect();
        let read: Vec<_> = decode(Config::default(), [stream.as_bytes()])
            .0
            .into_iter()
            .map(|(name, data, _)| (name, data))
            .collect();
        prop_assert_eq!(read, events);
    }
}

#[test]
fn every_input_that_fuzzing_kept_is_sound() {
    threadtap_corpus::replay("sse", assert_cuts_do_not_matter);
}

#[test]
fn a_stream_is_known_by_its_first_bytes() {
    for text in [
        "data: x",
        "data\n",
        "event:x",
        "id: 1",
        "retry: 5\n",
        ": hi",
        "\n\r\n data:x",
        "\u{feff}data: x",
        "\u{feff}\n:",
    ] {
        assert_eq!(begins(text.as_bytes()), Beginning::Events, "{text}");
    }
    for text in ["{\"a\":1}", "[1]", "<html>", "datas: x", "data x: y", "x", "\u{feff}x", "\u{a0}data:"] {
        assert_eq!(begins(text.as_bytes()), Beginning::Other, "{text}");
    }
    for text in
        [&b""[..], b" \n", b"d", b"data", b"\xef", b"\xef\xbb", b"\xef\xbb\xbf", b"\xef\xbb\xbf\nretr"]
    {
        assert_eq!(begins(text), Beginning::Unsure, "{text:?}");
    }
}
