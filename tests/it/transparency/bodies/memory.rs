//! Half a gigabyte each way through the real program, with an eye on its memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::support::binary::Binary;

const TOTAL: usize = 512 << 20;
const PIECE: usize = 64 << 10;

/// What the program may hold more than before. A transfer is in the buffers of two connections, and in at most one copy.
const ROOM_KIB: u64 = 16 << 10;
/// The same where the body is also copied, as far as a copy goes (`capture.max_body`), growing by doubling.
const ROOM_WITH_COPY_KIB: u64 = ROOM_KIB + (48 << 10);

#[test]
fn b9_half_a_gigabyte_is_uploaded_at_flat_memory() {
    let start = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let end = "\r\n--b--\r\n";
    let length = start.len() + TOTAL + end.len();
    let head = "Host: h\r\nContent-Type: multipart/form-data; boundary=b\r\n";
    let sized = format!("POST /v1/files HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{start}");
    check("upload", ROOM_KIB, |address, listener| {
        let upstream = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            read_head(&mut stream);
            expect(&mut stream, start.as_bytes());
            expect_pieces(&mut stream);
            expect(&mut stream, end.as_bytes());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(sized.as_bytes()).unwrap();
        write_pieces(&mut client);
        client.write_all(end.as_bytes()).unwrap();
        read_head(&mut client);
        expect(&mut client, b"ok");
        upstream.join().unwrap();
    });
}

#[test]
fn b10_half_a_gigabyte_is_downloaded_at_flat_memory() {
    check("download", ROOM_KIB, |address, listener| download(address, listener, "/v1/files/f/content"));
}

#[test]
fn b10_half_a_gigabyte_is_downloaded_at_flat_memory_where_it_is_copied() {
    check("tapped download", ROOM_WITH_COPY_KIB, |address, listener| {
        download(address, listener, "/v1/threads/t/messages");
    });
}

fn download(address: SocketAddr, listener: TcpListener, path: &str) {
    let upstream = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").unwrap();
        write_pieces(&mut stream);
    });
    let mut client = TcpStream::connect(address).unwrap();
    // To HTTP/1.0 the body comes without chunks in between.
    client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    read_head(&mut client);
    expect_pieces(&mut client);
    upstream.join().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// Runs `transfer` through a program that has just served a small request, and looks at the memory it took.
#[expect(clippy::print_stdout, reason = "the figures, for whoever runs it with --nocapture")]
fn check(what: &str, room_kib: u64, transfer: impl FnOnce(SocketAddr, TcpListener)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let binary = Binary::start(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(binary.address).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut upstream = listener.accept().unwrap().0;
    read_head(&mut upstream);
    upstream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok").unwrap();
    drop(upstream);
    read_head(&mut client);
    expect(&mut client, b"ok");
    #[cfg(target_os = "linux")]
    binary.forget_peak();
    #[cfg(target_os = "linux")]
    let (before, _) = binary.resident_kib();
    transfer(binary.address, listener);
    #[cfg(target_os = "linux")]
    {
        let (after, peak) = binary.resident_kib();
        println!("{what}: {before} KiB before, {peak} KiB at the peak, {after} KiB after");
        assert!(peak - before < room_kib, "{what}: from {before} to {peak} KiB");
    }
    #[cfg(not(target_os = "linux"))]
    println!("{what}: passed; that it took less than {room_kib} KiB is looked at on Linux only");
}

/// The pieces of a body, each with its number in front.
fn pieces() -> impl Iterator<Item = Vec<u8>> {
    let mut piece: Vec<u8> = (0..=255u8).cycle().take(PIECE).collect();
    (0..TOTAL / PIECE).map(move |number| {
        piece[..8].copy_from_slice(&number.to_be_bytes());
        piece.clone()
    })
}

fn write_pieces(stream: &mut TcpStream) {
    for piece in pieces() {
        stream.write_all(&piece).unwrap();
    }
}

fn expect_pieces(stream: &mut TcpStream) {
    for piece in pieces() {
        expect(stream, &piece);
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "a body was changed on the way");
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}
