//! Measures threadtap beside nginx, with the same fake upstream and the same load, in one run. Started by `scripts/bench`,
//! which installs and builds what it needs.
//!
//! The load, the upstream and the collector share one thread, which belongs on core 0; the proxies run on core 1. Rows take
//! turns (A B A B), so that whatever else the machine does hits them alike. CPU is what /proc says of the proxy's processes;
//! with everything on, until the last record was delivered.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_possible_truncation, reason = "counts are far below any limit")]

mod answers;
mod client;
mod loads;
mod machine;
mod others;
mod pace;
mod plot;
mod proxies;
mod report;
mod soak;
mod upstream;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use loads::{Bench, Load, Scale};
use pace::Pacer;
use proxies::{Proxy, Row, Site};
use report::Report;
use upstream::World;

#[derive(Parser)]
struct Arguments {
    /// Short windows and small numbers: two to three minutes in all
    #[arg(long)]
    quick: bool,
    /// The threadtap to measure
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// Another build, measured beside it
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// Only these loads: message, rate, stream, turn, polled, events, idle, download, upload, tls, workers, trouble, start
    #[arg(long, value_delimiter = ',', value_name = "LOAD")]
    loads: Vec<String>,
    /// Only these rows: direct, nginx, haproxy, envoy, mitmproxy, litellm, off, on, otheroff, otheron
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// How often each row is measured
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes
    #[arg(long)]
    seconds: Option<f64>,
    /// Instead of all else: whole turns at half of capacity, for so many minutes
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Where databases and logs of the proxies go: a directory on a disk
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Where the table and the plots go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { quick, binary, other, loads, rows, rounds, seconds, soak, work, out } = arguments;
    std::fs::create_dir_all(&work)?;
    let work = work.canonicalize()?;
    let mut scale = if quick { QUICK } else { FULL };
    if let Some(seconds) = seconds {
        scale.window = Duration::from_secs_f64(seconds);
    }
    let rounds = rounds.unwrap_or(if quick { 2 } else { 5 });
    let world = World::new(loads::DELTAS as usize, Pacer::start());
    let (authority, acceptor) = certificates(&work)?;
    let site = Site {
        binary,
        other,
        directory: work.clone(),
        upstream: upstream::listen(&world).await?,
        upstream_tls: upstream::listen_tls(&world, acceptor).await?,
        collector: upstream::listen(&world).await?,
        slow_disk: slow_disk(&work)?,
        authority,
    };
    let bench = Bench::new(Arc::clone(&world), scale);
    if let Some(minutes) = soak {
        return soak::soak(&bench, &site, Duration::from_secs_f64(minutes * 60.0), &out).await;
    }
    let setting = format!(
        "- {rounds} rounds of {:?}{}",
        scale.window,
        if quick { ", the quick form: numbers are rough, and smaller than the real ones" } else { "" }
    );
    let mut report = Report::new(&setting, &site);
    for word in &loads {
        if !Load::ALL.iter().any(|load| load.word() == word) {
            bail!("there is no load `{word}`");
        }
    }
    for load in Load::ALL {
        if !loads.is_empty() && !loads.iter().any(|word| word == load.word()) {
            continue;
        }
        let wished =
            |row: &Row| rows.is_empty() || rows.iter().any(|word| word.eq_ignore_ascii_case(&row.word()));
        let rows: Vec<Row> = load.rows(site.other.is_some()).into_iter().filter(wished).collect();
        measure(load, &rows, rounds, &bench, &site, &mut report).await?;
        writeln!(std::io::stdout(), "{}", report.table(load))?;
    }
    if world.repeated() > 0 {
        writeln!(std::io::stdout(), "{} records were delivered more than once", world.repeated())?;
    }
    report.write(&out)
}

async fn measure(
    load: Load,
    rows: &[Row],
    rounds: usize,
    bench: &Bench,
    site: &Site,
    report: &mut Report,
) -> Result<()> {
    let tls = load == Load::Tls;
    // Each of these is measured on a fresh process, and says the same each time but for noise.
    let fresh = matches!(load, Load::Idle | Load::Start);
    let rounds = if matches!(load, Load::Events | Load::Idle) { rounds.div_ceil(3) } else { rounds };
    let mut proxies = Vec::new();
    for row in rows {
        proxies.push(if fresh { None } else { Some(started(*row, site, tls, load, bench).await?) });
    }
    for _ in 0..rounds {
        for (row, proxy) in rows.iter().zip(&proxies) {
            let started_now;
            let proxy = match proxy {
                Some(proxy) => proxy,
                None => {
                    started_now = Proxy::start(*row, site, tls)?;
                    &started_now
                }
            };
            let figures = load.measure(bench, *row, proxy, bench.scale.window).await;
            let figures = figures.with_context(|| format!("{} under load {}", row.name(), load.word()))?;
            report.add(load, *row, figures);
        }
    }
    Ok(())
}

/// Starts a proxy and lets it warm up.
async fn started(row: Row, site: &Site, tls: bool, load: Load, bench: &Bench) -> Result<Proxy> {
    let proxy = Proxy::start(row, site, tls)?;
    loads::check(proxy.target).await.with_context(|| row.name())?;
    if !matches!(load, Load::Events | Load::Download | Load::Upload) {
        load.measure(bench, row, &proxy, WARM_UP)
            .await
            .with_context(|| format!("{} warms up", row.name()))?;
    }
    Ok(proxy)
}

/// Builds the library that makes a disk slow.
fn slow_disk(directory: &Path) -> Result<PathBuf> {
    let (source, library) = (directory.join("slow.c"), directory.join("slow.so"));
    std::fs::write(&source, include_str!("slow.c"))?;
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.context("cannot run cc")?.success() {
        bail!("cc cannot build {}", source.display());
    }
    Ok(library)
}

/// Makes a certificate authority and a certificate for the TLS upstream.
fn certificates(directory: &Path) -> Result<(PathBuf, TlsAcceptor)> {
    let [ca, ca_key, key, request, certificate, names] =
        ["ca.pem", "ca.key", "key.pem", "request.pem", "certificate.pem", "names"]
            .map(|file| directory.join(file).display().to_string());
    std::fs::write(&names, "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().context("cannot run openssl")?;
        if !done.status.success() {
            bail!("openssl: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root =
        ["req", "-x509", "-days", "2", "-subj", "/CN=bench authority", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&root[..], &new_key].concat())?;
    let leaf = ["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request];
    openssl(&[&leaf[..], &new_key].concat())?;
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-extfile",
        &names,
        "-out",
        &certificate,
    ])?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate)?],
            PrivateKeyDer::from_pem_file(&key)?,
        )?;
    Ok((PathBuf::from(ca), TlsAcceptor::from(Arc::new(config))))
}

const QUICK: Scale = Scale {
    window: Duration::from_millis(1000),
    rate: 5000,
    streams: 500,
    stream_time: Duration::from_secs(3),
    idle: 1000,
    large: 8,
};
const FULL: Scale = Scale {
    window: Duration::from_millis(3500),
    rate: 5000,
    streams: 1000,
    stream_time: Duration::from_secs(30),
    idle: 8000,
    large: 16,
};
const WARM_UP: Duration = Duration::from_millis(300);
