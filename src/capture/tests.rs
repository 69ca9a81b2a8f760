use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use proptest::prelude::*;
use threadtap_core::exchange::{End, Ending};
use threadtap_http::head::{Fields, RequestHead, ResponseHead};

use super::*;

/// A body of these frames, which knows its length or does not.
struct Frames {
    frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
    length: Option<u64>,
}

impl Frames {
    fn of<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))));
        Self { frames: frames.collect(), length: None }
    }

    fn then(mut self, frame: Result<Frame<Bytes>, &'static str>) -> Self {
        self.frames.push_back(frame);
        self
    }

    fn with_length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.length.is_some() && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

struct Bench {
    recorder: Recorder,
    receiver: Receiver,
    metrics: Metrics,
}

impl Bench {
    fn new(config: Config) -> Self {
        let (metrics, _registry) = Metrics::new();
        let (recorder, receiver) = new(config, metrics.clone(), Clock::start());
        Self { recorder, receiver, metrics }
    }

    fn request(&self) -> RequestTap {
        let head = RequestHead {
            method: http::Method::POST,
            target: "/v1/x".to_owned(),
            version: http::Version::HTTP_11,
            fields: Fields::default(),
        };
        self.recorder.tap_request("up".into(), &head)
    }

    fn response(&self, content_type: &str, body: Frames) -> ResponseTee<Frames> {
        let mut head = ResponseHead::new(http::StatusCode::OK);
        head.fields.push("content-type", content_type);
        self.request().tap_response(&head).unwrap().body(body)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.metrics.dropped.get_or_create(&DropLabel { reason }).get()
    }

    /// Everything in the queue: the copied bytes, the numbers of their segments, and the end.
    fn heard(&self) -> (Vec<u8>, Vec<u32>, Option<End>) {
        let (mut bytes, mut numbers, mut end) = (Vec::new(), Vec::new(), None);
        while let Ok(capture) = self.receiver.try_recv() {
            assert!(end.is_none(), "{capture:?} after the end");
            if let Some(segment) = capture.segment {
                bytes.extend(segment.bytes);
                numbers.push(segment.seq);
            }
            end = capture.end;
        }
        (bytes, numbers, end)
    }
}

fn next<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame,
        Poll::Pending => panic!("these bodies are always ready"),
    }
}

/// Reads all of `body` and tells how it ended for capture.
fn ending(bench: &Bench, mut body: ResponseTee<Frames>) -> Option<Ending> {
    while let Some(Ok(_)) = next(&mut body) {}
    bench.heard().2.map(|end| end.ending)
}

#[test]
fn every_ending_is_told_once() {
    let bench = Bench::new(Config::default());
    let abc = || Frames::of([&b"abc"[..]]);
    assert_eq!(ending(&bench, bench.response("a/b", abc())), Some(Ending::Complete));
    assert_eq!(ending(&bench, bench.response("a/b", abc().with_length(3))), Some(Ending::Complete));
    assert_eq!(
        ending(&bench, bench.response("a/b", abc().then(Err("broken")))),
        Some(Ending::UpstreamFailed)
    );
    let trailers = abc().then(Ok(Frame::trailers(HeaderMap::new())));
    assert_eq!(ending(&bench, bench.response("a/b", trailers)), Some(Ending::Complete));
    drop(bench.response("a/b", abc()));
    assert_eq!(bench.heard().2.unwrap().ending, Ending::ClientGone);
    let _empty = bench.response("a/b", Frames::of([]).with_length(0));
    assert_eq!(bench.heard().2.unwrap().ending, Ending::Complete);
    assert_eq!(bench.metrics.capture_bytes.get(), 0);
}

#[test]
fn the_end_is_in_the_queue_before_the_last_frame_is_returned() {
    let bench = Bench::new(Config::default());
    let mut body = bench.response("a/b", Frames::of([&b"ab"[..], b"c"]).with_length(3));
    next(&mut body).unwrap().unwrap();
    assert!(bench.heard().2.is_none());
    next(&mut body).unwrap().unwrap();
    assert_eq!(bench.heard().2.unwrap().ending, Ending::Complete);
    drop(body);
    assert!(bench.heard().2.is_none());
}

#[test]
fn a_tee_says_of_itself_what_the_body_says() {
    let bench = Bench::new(Config::default());
    let mut body = bench.response("a/b", Frames::of([&b"abc"[..]]).with_length(3));
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    next(&mut body);
    assert!(body.is_end_stream());
    let unknown = bench.request().body(Frames::of([&b"abc"[..]]));
    assert_eq!((unknown.size_hint().exact(), unknown.is_end_stream()), (None, false));
}

#[test]
fn a_segment_goes_when_it_is_old_enough() {
    let bench = Bench::new(Config { segment_age: Duration::ZERO, ..Config::default() });
    let mut body = bench.response("a/b", Frames::of([&b"a"[..], b"b", b"c"]));
    while next(&mut body).is_some() {}
    assert_eq!(bench.heard().1, [0, 1, 2]);
}

#[test]
fn a_tap_whose_start_was_lost_is_quiet() {
    let bench = Bench::new(Config { queue: 1, segment_age: Duration::ZERO, ..Config::default() });
    let mut first = bench.response("a/b", Frames::of([&b"abc"[..]]));
    let mut second = bench.response("a/b", Frames::of([&b"abc"[..], b"def"]));
    next(&mut first);
    next(&mut second);
    assert_eq!(bench.dropped(DropReason::queue_full), 1);
    assert!(bench.receiver.try_recv().unwrap().start.is_some());
    while next(&mut second).is_some() {}
    assert!(bench.receiver.try_recv().is_err());
    drop(first);
    assert!(bench.receiver.try_recv().unwrap().end.is_some());
    assert_eq!((bench.dropped(DropReason::queue_full), bench.metrics.captured.get()), (1, 1));
}

#[test]
fn a_short_exchange_is_a_single_capture() {
    let bench = Bench::new(Config::default());
    let mut body = bench.response("a/b", Frames::of([&b"abc"[..]]).with_length(3));
    while next(&mut body).is_some() {}
    let capture = bench.receiver.try_recv().unwrap();
    assert!(capture.start.is_some() && capture.segment.is_some() && capture.end.is_some());
    assert!(bench.receiver.try_recv().is_err());
}

#[test]
fn an_event_stream_has_no_limit_and_goes_on_after_a_hole() {
    let limits = Config { max_body_bytes: 10, budget_bytes: 5000, ..Config::default() };
    let bench = Bench::new(limits);
    let (small, large) = (vec![b'a'; 1000], vec![b'b'; 4000]);
    let mut body = bench.response("Text/Event-Stream;x=y", Frames::of([&*small, &*large, &*large, &*small]));
    while next(&mut body).is_some() {}
    let (bytes, numbers, end) = bench.heard();
    assert_eq!((bytes.len(), &*numbers, end.unwrap().segments), (2000, &[0, 2][..], 3));
    assert_eq!(bench.dropped(DropReason::byte_budget), 1);
    assert_eq!(bench.metrics.capture_bytes.get(), 0);
}

#[test]
fn of_a_refusal_a_prefix_is_enough() {
    let bench = Bench::new(Config { max_prefix_bytes: 4, ..Config::default() });
    let head = ResponseHead::new(http::StatusCode::BAD_GATEWAY);
    let mut body = bench.request().tap_response(&head).unwrap().body(Frames::of([&b"<html>"[..]]));
    while next(&mut body).is_some() {}
    let (bytes, _, end) = bench.heard();
    assert_eq!((&*bytes, end.unwrap().segments), (&b"<htm"[..], 2));
}

#[test]
fn the_bytes_of_what_nobody_takes_are_given_back() {
    let bench = Bench::new(Config::default());
    let mut request = bench.request().body(Frames::of([&b"abc"[..]]));
    while next(&mut request).is_some() {}
    let mut response = bench.response("a/b", Frames::of([&b"abc"[..]]));
    while next(&mut response).is_some() {}
    assert!(bench.metrics.capture_bytes.get() > 0);
    drop((request, bench.receiver));
    assert_eq!((bench.metrics.capture_bytes.get(), bench.metrics.pipeline_queue.get()), (0, 0));
}

proptest! {
    #[test]
    fn however_a_body_is_split_the_copy_is_the_body(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in proptest::collection::vec(0usize..2000, 0..20),
        segment_bytes in 1usize..500,
        known in any::<bool>(),
    ) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut frames = Frames::of(cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
        if known {
            frames = frames.with_length(bytes.len() as u64);
        }
        let bench = Bench::new(Config { segment_bytes, ..Config::default() });
        let mut passed = Vec::new();
        let mut body = bench.response("application/json", frames);
        while let Some(Ok(frame)) = next(&mut body) {
            passed.extend_from_slice(&frame.into_data().unwrap());
        }
        let (copied, numbers, end) = bench.heard();
        prop_assert_eq!(&passed, &bytes);
        prop_assert_eq!(&copied, &bytes);
        let count = u32::try_from(numbers.len()).unwrap();
        prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        let end = end.unwrap();
        prop_assert_eq!((end.segments, end.ending), (count, Ending::Complete));
        prop_assert_eq!(bench.metrics.capture_bytes.get(), 0);
    }
}

#[test]
fn an_end_that_finds_the_queue_full_comes_late_and_not_never() {
    let bench = Bench::new(Config { queue: 1, ..Config::default() });
    let mut body = bench.response("a/b", Frames::of([&b"abc"[..]]));
    while let Some(Ok(_)) = next(&mut body) {}
    let (bytes, _, end) = bench.heard();
    assert_eq!((bytes.as_slice(), end.map(|end| end.ending)), (&b"abc"[..], Some(Ending::Complete)));
    assert_eq!(bench.metrics.pipeline_queue.get(), 0);
}
