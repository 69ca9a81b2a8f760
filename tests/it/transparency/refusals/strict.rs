//! An upstream that notices anything two readers could read in two ways.

use std::sync::{Arc, Mutex};

use super::OK;
use crate::support::{Raw, Rig, Upstream};

/// An upstream that reads requests as strictly as can be, notes them and answers them.
#[derive(Clone, Default)]
pub(super) struct Strict(Arc<Mutex<Vec<String>>>);

impl Strict {
    /// Takes the place of the rig's upstream.
    pub(super) async fn of(rig: &mut Rig) -> Self {
        let strict = Self::default();
        let mut listener = std::mem::replace(&mut rig.upstream, Upstream::bind().await);
        tokio::spawn({
            let strict = strict.clone();
            async move {
                loop {
                    tokio::spawn(strict.clone().serve(listener.accept().await));
                }
            }
        });
        strict
    }

    async fn serve(self, mut connection: Raw) {
        while let Some(request) = read_strictly(&mut connection).await {
            self.0.lock().unwrap().push(request);
            connection.send(OK).await;
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Reads one request as `METHOD TARGET BODY`, or `None` when the connection ends before it does. Anything that two readers
/// could read in two ways is noted as such.
async fn read_strictly(connection: &mut Raw) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(connection.exactly_or_end(1).await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
    let line: Vec<_> = lines.next().unwrap().split(' ').collect();
    let (mut hosts, mut framing) = (0, Vec::new());
    for line in lines {
        let sound = line
            .split_once(':')
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let Some((name, value)) = sound.filter(|_| !line.contains(['\r', '\n', '\0'])) else {
            return Some(format!("unsound line {line:?}"));
        };
        match &*name.to_ascii_lowercase() {
            "host" => hosts += 1,
            "content-length" | "transfer-encoding" => framing.push(value.trim().to_owned()),
            _ => {}
        }
    }
    let ([method, target, "HTTP/1.1"], 1, 0..=1) = (&*line, hosts, framing.len()) else {
        return Some(format!("unsound head {head:?}"));
    };
    let mut body = Vec::new();
    match framing.first().map(String::as_str) {
        None => {}
        Some("chunked") => loop {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.extend(connection.exactly_or_end(1).await?);
            }
            let size = std::str::from_utf8(&size).unwrap().trim_end();
            let length = usize::from_str_radix(size, 16).ok().filter(|_| !size.starts_with('+'))?;
            body.extend(connection.exactly_or_end(length).await?);
            if connection.exactly_or_end(2).await? != b"\r\n" {
                return Some("unsound chunk".to_owned());
            }
            if length == 0 {
                break;
            }
        },
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            body = connection.exactly_or_end(length.parse().unwrap()).await?;
        }
        Some(framing) => return Some(format!("unsound framing {framing:?}")),
    }
    Some(format!("{method} {target} {}", String::from_utf8_lossy(&body)))
}
