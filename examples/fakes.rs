//! The fake world as a process of its own, for tests that are not written in Rust (`tests/sdk`).
//!
//! Prints one line of JSON with its addresses: `assistants`, `collector`, `control`. It ends when its standard input does.
//! The control address serves
//!
//! - `GET /snapshot`: every run, as its record should be;
//! - `GET /responses`, `GET /completions`: every response, every chat completion, likewise;
//! - `GET /received`: the bodies the analytics backend has taken;
//! - `GET /requests?from=N`: what the server was sent, from the Nth request on;
//! - `POST /wire/plain`, `POST /wire/cut`, `POST /wire/hostile`, `POST /wire/bare`, `POST /wire/torn`: how the server answers
//!   from now on.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};
use threadtap_testkit::assistants::{
    Assistants, ChatShape, Framing, LineEnd, Script, Split, StreamedUsage, Tail, WireShape,
};
use threadtap_testkit::collector::Collector;
use tokio::net::TcpListener;

struct World {
    assistants: Assistants,
    collector: Collector,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let assistants = Assistants::start(Script { keep_requests: true, ..Script::default() }).await?;
    let collector = Collector::start([]).await?;
    let control = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = json!({
        "assistants": format!("http://{}", assistants.addr()),
        "collector": collector.url("/track"),
        "control": format!("http://{}", control.local_addr()?),
    });
    let router = Router::new()
        .route(
            "/snapshot",
            get(async |State(world): State<Arc<World>>| Json(json!(world.assistants.snapshot()))),
        )
        .route(
            "/responses",
            get(async |State(world): State<Arc<World>>| Json(json!(world.assistants.responses()))),
        )
        .route(
            "/completions",
            get(async |State(world): State<Arc<World>>| Json(json!(world.assistants.completions()))),
        )
        .route(
            "/received",
            get(async |State(world): State<Arc<World>>| Json(json!(world.collector.accepted()))),
        )
        .route("/requests", get(requests))
        .route("/wire/{shape}", post(reshape))
        .with_state(Arc::new(World { assistants, collector }));
    writeln!(std::io::stdout(), "{addresses}")?;
    let input_end =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        served = axum::serve(control, router) => served?,
        ended = input_end => { ended??; }
    }
    Ok(())
}

async fn requests(
    State(world): State<Arc<World>>,
    Query(query): Query<HashMap<String, usize>>,
) -> Json<Value> {
    let from = query.get("from").copied().unwrap_or(0);
    let requests = world.assistants.requests().into_iter().skip(from);
    Json(
        requests
            .map(|request| {
                json!({
                    "method": request.method, "target": request.target, "headers": request.headers,
                    "body": String::from_utf8_lossy(&request.body),
                })
            })
            .collect(),
    )
}

async fn reshape(State(world): State<Arc<World>>, Path(shape): Path<String>) -> StatusCode {
    let hostile = WireShape {
        compress: true,
        comments: true,
        line_end: LineEnd::CrLf,
        split: Split::Random(40),
        ..WireShape::default()
    };
    let usage = |usage| ChatShape { usage, async_filter: true };
    let wire = match shape.as_str() {
        "bare" => WireShape {
            framing: Framing::DataOnly,
            omit_links: true,
            chat: usage(StreamedUsage::AskedWithChoice),
            ..hostile
        },
        "hostile" => hostile,
        // The SDKs lose an event without a blank line, which nobody misses where it only says that all is done.
        "torn" => WireShape { tail: Tail::Nothing, chat: usage(StreamedUsage::Finish), ..hostile },
        "cut" => WireShape { compress: true, split: Split::Random(40), ..WireShape::default() },
        "plain" => WireShape::default(),
        _ => return StatusCode::NOT_FOUND,
    };
    world.assistants.reshape(wire);
    StatusCode::NO_CONTENT
}
