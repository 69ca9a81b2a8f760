use std::io::Write;

use flate2::Compression;
use proptest::prelude::*;

use super::*;

const MIB: usize = 1024 * 1024;

fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(body).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        other => panic!("{other}"),
    }
}

/// The test data's name of a coding and its name in the header.
const CODINGS: [(&str, &str); 5] =
    [("gzip", "gzip"), ("deflate", "deflate"), ("raw deflate", "deflate"), ("br", "br"), ("zstd", "zstd")];

fn appending(out: &mut Vec<u8>) -> impl FnMut(&[u8]) -> ControlFlow<()> {
    |decoded| {
        out.extend_from_slice(decoded);
        ControlFlow::Continue(())
    }
}

fn decode<'a>(
    header: &str,
    limit: Limit,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(Some(header), limit).unwrap();
    let mut out = Vec::new();
    let decoded = parts.into_iter().try_for_each(|part| decoder.decode(part, &mut appending(&mut out)));
    (out, decoded.and_then(|()| decoder.finish()))
}

#[track_caller]
fn check(header: &str, encoded: &[u8], body: &[u8]) {
    for part_bytes in [1, 7, 4096, encoded.len()] {
        let (out, ended) = decode(header, Limit::TotalBytes(16 * MIB), encoded.chunks(part_bytes));
        assert!(out == body, "{header} in parts of {part_bytes}");
        assert_eq!(ended, Ok(()), "{header} in parts of {part_bytes}");
    }
}

/// Text that compresses as an event stream does.
fn events(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|n| {
            format!("event: thread.message.delta\ndata: {{\"value\":\"{}\"}}\n\n", n * n).into_bytes()
        })
        .collect()
}

/// Bytes without a pattern, the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect()
}

#[test]
fn each_coding_is_undone_however_it_is_cut() {
    for body in [Vec::new(), b"{}".to_vec(), events(2000), noise(100_000), vec![0; MIB]] {
        for (coding, header) in CODINGS {
            check(header, &encode(coding, &body), &body);
        }
    }
}

#[test]
fn without_a_coding_bytes_are_copied() {
    for header in [None, Some(""), Some("identity"), Some(" Identity , ,identity")] {
        let mut decoder = Decoder::new(header, Limit::TotalBytes(10)).unwrap();
        let mut out = b"before ".to_vec();
        decoder.decode(b"as", &mut appending(&mut out)).unwrap();
        decoder.decode(b" is", &mut appending(&mut out)).unwrap();
        assert_eq!(out, b"before as is");
        assert_eq!(decoder.finish(), Ok(()));
        assert_eq!(decoder.decode(b"123456", &mut appending(&mut out)), Err(DecodeError::TooLarge));
        assert_eq!(out, b"before as is12345");
    }
}

#[test]
fn stacked_codings_are_undone_from_the_last() {
    let body = events(500);
    check("gzip, br", &encode("br", &encode("gzip", &body)), &body);
    check("br,GZIP", &encode("gzip", &encode("br", &body)), &body);
    check("deflate, identity, zstd", &encode("zstd", &encode("raw deflate", &body)), &body);
    check("x-gzip, gzip, gzip, gzip", &(0..4).fold(body.clone(), |body, _| encode("gzip", &body)), &body);
}

#[test]
fn what_is_not_known_is_refused() {
    for header in ["compress", "gzip, sdch", "gzip;q=1", "gzip br", "*"] {
        assert_eq!(
            Decoder::new(Some(header), Limit::TotalBytes(1)).map(|_| ()),
            Err(UnsupportedEncoding::Unknown)
        );
    }
    let deep = ["br"; MAX_CODINGS + 1].join(",");
    assert_eq!(
        Decoder::new(Some(&deep), Limit::TotalBytes(1)).map(|_| ()),
        Err(UnsupportedEncoding::TooMany)
    );
}

#[test]
fn several_gzip_members_and_zstd_frames_make_one_body() {
    for coding in ["gzip", "zstd"] {
        let parts = [encode(coding, b"one "), encode(coding, b""), encode(coding, b"two")].concat();
        check(coding, &parts, b"one two");
    }
}

#[test]
fn a_gzip_header_with_every_field_is_read() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("a comment")
        .extra(vec![7; 300])
        .mtime(1_795_169_739)
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"body").unwrap();
    check("gzip", &encoder.finish().unwrap(), b"body");
}

#[test]
fn padding_behind_the_end_is_ignored() {
    for (coding, header) in CODINGS.into_iter().filter(|&(coding, _)| coding != "zstd") {
        for padding in [&[0; 600][..], b"\r\n", b"\x1f", b"\x1f\x8bxxxxxxxxxxxx"] {
            // What looks like the beginning of a member may be one that was cut.
            if header == "gzip" && padding == b"\x1f" {
                continue;
            }
            check(header, &[&encode(coding, b"body"), padding].concat(), b"body");
        }
    }
}

#[test]
fn a_cut_body_gives_what_was_there_and_says_so() {
    let body = events(300);
    for (coding, header) in CODINGS {
        let encoded = encode(coding, &body);
        for cut in 1..encoded.len() {
            let (out, ended) = decode(header, Limit::TotalBytes(MIB), [&encoded[..cut]]);
            assert!(body.starts_with(&out), "{coding} cut at {cut}");
            assert!(matches!(ended, Err(DecodeError::Truncated(_))), "{coding} cut at {cut}: {ended:?}");
        }
        assert_eq!(
            decode(header, Limit::TotalBytes(MIB), [&b""[..]]),
            (Vec::new(), Ok(())),
            "{coding}: nothing"
        );
    }
}

#[test]
fn garbage_is_an_error_that_stays() {
    for (coding, header) in CODINGS.into_iter().filter(|&(coding, _)| coding != "raw deflate") {
        let mut decoder = Decoder::new(Some(header), Limit::TotalBytes(MIB)).unwrap();
        let mut out = Vec::new();
        let error = decoder.decode(&[0xFF; 4096], &mut appending(&mut out)).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt(_)), "{coding}: {error}");
        assert_eq!(decoder.decode(&encode(coding, b"body"), &mut appending(&mut out)), Err(error));
        assert_eq!(decoder.finish(), Err(error));
        assert!(out.is_empty(), "{coding}");
    }
}

#[test]
fn a_damaged_checksum_is_an_error() {
    for coding in ["gzip", "deflate"] {
        let mut encoded = encode(coding, b"body");
        *encoded.last_mut().unwrap() ^= 1;
        let (out, ended) = decode(coding, Limit::TotalBytes(MIB), [&encoded[..]]);
        assert_eq!(out, b"body");
        assert!(matches!(ended, Err(DecodeError::Corrupt(_))));
    }
}

#[test]
fn a_body_that_decodes_to_too_much_stops_at_the_limit() {
    let zeros = vec![0; 32 * MIB];
    for (coding, header) in CODINGS {
        let bomb = encode(coding, &zeros);
        for part_bytes in [64, bomb.len()] {
            let (out, ended) = decode(header, Limit::TotalBytes(MIB), bomb.chunks(part_bytes));
            assert_eq!((out.len(), ended), (MIB, Err(DecodeError::TooLarge)), "{coding}");
        }
        let nested = encode("gzip", &bomb);
        let (out, ended) = decode(&format!("{header}, gzip"), Limit::TotalBytes(MIB), [&nested[..]]);
        assert_eq!((out.len(), ended), (MIB, Err(DecodeError::TooLarge)), "{coding} in gzip");
    }
}

#[test]
fn a_stack_that_grows_and_shrinks_again_stops_at_the_limit() {
    // Empty stored blocks: they take any number of bytes and give none. Behind an end, all is padding.
    let empty_blocks = [0, 0, 0, 0xFF, 0xFF].repeat(MIB);
    let padded = [encode("deflate", b"body"), vec![0; 5 * MIB]].concat();
    for inner in [empty_blocks, padded] {
        let nested = encode("gzip", &inner);
        for limit in [Limit::TotalBytes(MIB), Limit::BurstBytes(MIB)] {
            let (out, ended) = decode("deflate, gzip", limit, [&nested[..]]);
            assert!(out.len() <= 4);
            assert_eq!(ended, Err(DecodeError::TooLarge));
        }
    }
}

#[test]
fn a_body_of_exactly_the_limit_is_read() {
    for (coding, header) in CODINGS {
        let encoded = encode(coding, &vec![b'x'; MIB]);
        assert_eq!(decode(header, Limit::TotalBytes(MIB), [&encoded[..]]).1, Ok(()), "{coding}");
        assert_eq!(
            decode(header, Limit::TotalBytes(MIB - 1), [&encoded[..]]).1,
            Err(DecodeError::TooLarge),
            "{coding}"
        );
    }
}

#[test]
fn a_stream_of_any_length_is_read_but_no_bomb() {
    for (coding, header) in CODINGS {
        // 16 times the burst in all, of which each part decodes to little.
        let mut decoder = Decoder::new(Some(header), Limit::BurstBytes(64 * 1024)).unwrap();
        let encoded = encode(coding, &noise(MIB));
        let mut total = 0;
        for part in encoded.chunks(16 * 1024) {
            let mut out = Vec::new();
            decoder.decode(part, &mut appending(&mut out)).unwrap();
            total += out.len();
        }
        assert_eq!((total, decoder.finish()), (MIB, Ok(())), "{coding}");

        let bomb = encode(coding, &vec![0; 32 * MIB]);
        let mut decoder = Decoder::new(Some(header), Limit::BurstBytes(64 * 1024)).unwrap();
        let mut longest = 0;
        let ended = bomb.chunks(16).try_for_each(|part| {
            let mut out = Vec::new();
            let decoded = decoder.decode(part, &mut appending(&mut out));
            longest = longest.max(out.len());
            decoded
        });
        assert_eq!(ended, Err(DecodeError::TooLarge), "{coding}");
        assert!(longest <= 64 * 1024, "{coding}: {longest}");
    }
}

#[test]
fn each_flush_of_the_server_is_seen_at_once() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    let mut br = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let mut decoders = ["gzip", "deflate", "deflate", "br", "zstd"]
        .map(|header| Decoder::new(Some(header), Limit::BurstBytes(MIB)));
    for event in events(50).split_inclusive(|&byte| byte == b'\n') {
        let mut sent = Vec::new();
        gzip.write_all(event).unwrap();
        gzip.flush().unwrap();
        sent.push(std::mem::take(gzip.get_mut()));
        zlib.write_all(event).unwrap();
        zlib.flush().unwrap();
        sent.push(std::mem::take(zlib.get_mut()));
        raw.write_all(event).unwrap();
        raw.flush().unwrap();
        sent.push(std::mem::take(raw.get_mut()));
        br.write_all(event).unwrap();
        br.flush().unwrap();
        sent.push(std::mem::take(br.get_mut()));
        zstd.write_all(event).unwrap();
        zstd.flush().unwrap();
        sent.push(std::mem::take(zstd.get_mut()));
        for (decoder, sent) in decoders.iter_mut().zip(sent) {
            let mut out = Vec::new();
            decoder.as_mut().unwrap().decode(&sent, &mut appending(&mut out)).unwrap();
            assert_eq!(out, event, "{decoder:?}");
        }
    }
}

#[test]
fn a_zstd_window_beyond_what_http_allows_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(24)).unwrap();
    encoder.write_all(b"body").unwrap();
    let encoded = encoder.finish().unwrap();
    assert_eq!(
        decode("zstd", Limit::TotalBytes(MIB), [&encoded[..]]).1,
        Err(DecodeError::Corrupt(Coding::Zstd))
    );
}

#[test]
fn empty_pieces_change_nothing() {
    for (coding, header) in CODINGS {
        let encoded = encode(coding, b"some body");
        let parts = encoded.chunks(3).flat_map(|part| std::iter::repeat_n(&b""[..], 40).chain([part]));
        assert_eq!(
            decode(header, Limit::TotalBytes(MIB), parts),
            (b"some body".to_vec(), Ok(())),
            "{coding}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_body_survives_any_cuts(
        body in proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..4000),
        which in 0..CODINGS.len(),
        outer in 0..CODINGS.len(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let (coding, header) = CODINGS[which];
        let (outer_coding, outer_header) = CODINGS[outer];
        let encoded = encode(outer_coding, &encode(coding, &body));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(encoded.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([encoded.len()]) {
            parts.push(&encoded[from..cut]);
            from = cut;
        }
        let (out, ended) = decode(&format!("{header}, {outer_header}"), Limit::TotalBytes(MIB), parts);
        prop_assert_eq!(out, body);
        prop_assert_eq!(ended, Ok(()));
    }

    #[test]
    fn damage_is_met_alike_however_the_body_is_cut(
        seed: u8,
        body in proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..3000),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut encoded = match seed & 7 {
            0 => encode("gzip", &body),
            1 => encode("deflate", &body),
            2 => encode("br", &body),
            3 => encode("zstd", &body),
            4 => encode("br", &encode("gzip", &body)),
            5 => encode("deflate", &encode("zstd", &body)),
            6 => encode("gzip", &encode("gzip", &body)),
            _ => body,
        };
        for (at, byte) in damage {
            if !encoded.is_empty() {
                let at = at.index(encoded.len());
                encoded[at] = byte;
            }
        }
        assert_cuts_do_not_matter(&[&[seed][..], &encoded].concat());
    }

    #[test]
    fn noise_is_met_alike_however_it_is_cut(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        assert_cuts_do_not_matter(&data);
    }
}

#[test]
fn a_zstd_frame_that_lies_about_its_size_is_judged_alike_however_it_is_cut() {
    // Its head says 8 bytes; its only block is empty.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x24, 8, 1, 0, 0, 0x99, 0xE9, 0xD8, 0x51];
    assert_cuts_do_not_matter(&[&[3][..], &frame].concat());
}

#[test]
fn every_input_that_fuzzing_kept_is_sound() {
    threadtap_corpus::replay("content", assert_cuts_do_not_matter);
}
