//! The composition root: starts every part, wires them, and takes them down in order.
//!
//! The proxy's workers have a thread and a runtime each, and do nothing but forward; the pipeline and the store have a thread each, and
//! one more is for all else. Each part starts itself and returns a handle that shuts it down within a bounded time:
//! [`App::start`] has them in the order in which they start, and `Parts::stop` in that in which they end.

mod background;
mod caller_key;
mod intake;
mod limits;
mod listening;
mod live;
mod opening;
mod stop;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use threadtap_core::dialect::Interest;

use self::background::Background;
use self::intake::IntakeService;
use self::live::{Live, Settings};
use crate::admin::{self, Readiness};
use crate::capture;
use crate::clock::Clock;
use crate::config::{Changes, Config, Drain};
use crate::delivery;
use crate::descriptors::Shares;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::net::{self, Drained};
use crate::operations::Operations;
use crate::pipeline;
use crate::proxy::Proxy;
use crate::store::Store;
use crate::users::Users;

pub use self::stop::Stopper;

/// A threadtap that runs.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    admin: SocketAddr,
    live: Live,
    /// What it was started with; only a restart changes some of it.
    started: Config,
    /// What was read last.
    latest: Config,
    stopper: Stopper,
    parts: Parts,
}

/// All that runs, in the order in which it was started.
#[derive(Debug)]
struct Parts {
    background: Background,
    store: Store,
    pipeline: pipeline::Service,
    intake: IntakeService,
    delivery: delivery::Service,
    readiness: Readiness,
    admin: admin::Service,
    proxy: net::Service,
}

impl App {
    /// Starts everything. When it returns, clients are accepted.
    ///
    /// # Errors
    /// When a setting that somebody asked for cannot be used: an address that is taken, a data directory that is locked.
    pub fn start(mut config: Config) -> Result<Self> {
        let started = config.clone();
        let background = Background::start().context(NO_THREAD)?;
        let runtime = background.enter();

        let listener = listening::bind_proxy(config.net.listen)?;
        let admin_listener = listening::bind_admin(&config.admin_listen)?;
        let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
        let upstream = config.proxy.upstream.clone();
        ensure!(
            !background.block_on(upstream.is_served_by(listen)),
            "upstream is `{upstream}`: that is threadtap's own listener; name the API's address"
        );
        let shares = limits::share(&mut config);
        let clock = Clock::start();
        let (metrics, registry) = Metrics::new();

        let (store, recovered) = opening::open_store(&config, listen, admin, &metrics, clock)?;
        // The data directory is there now, and may keep a key.
        let (live, Settings { sinks, delivery, admin: admin_config, intake, console, caller_key }) =
            Live::new(&config)?;
        let users = Users::new(config.pipeline.max_users);
        let (recorder, captures) = capture::new(config.capture, metrics.clone(), clock);
        let ports = pipeline::Ports {
            captures,
            store: store.clone(),
            recovered,
            users: users.clone(),
            sinks: sinks.clone(),
            console,
            metrics: metrics.clone(),
            clock,
        };
        let pipeline = pipeline::Service::start(config.pipeline, ports).context(NO_THREAD)?;

        let told = Intake::new(intake, store.clone(), users.clone(), sinks.clone(), metrics.clone(), clock);
        let (intake, local_endpoints) = IntakeService::start(&told, listen);

        let ports = delivery::Ports {
            config: delivery,
            sinks: sinks.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            clock,
        };
        let delivery = delivery::Service::start(ports);

        let operations = Operations::new(store.clone(), Some((pipeline.handle(), users)), sinks);
        let readiness = Readiness::default();
        let ports = admin::Ports {
            config: admin_config,
            limits: admin::Limits { connections: shares.admin_connections, ..admin::Limits::default() },
            registry,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            operations: operations.with_limits(shares),
            intake: told,
        };
        let admin_service = admin::Service::start(admin_listener, ports)?;

        config.proxy.local_endpoints = Some(local_endpoints);
        if !config.capture_enabled {
            config.proxy.interest = |_, _| Interest::None;
        }
        let proxy = Proxy::new(config.proxy, caller_key, recorder, &metrics)?;
        let proxy = net::Service::start(listener, config.net, proxy, metrics.clone()).context(NO_THREAD)?;
        readiness.ready();

        drop(runtime);
        let parts =
            Parts { background, store, pipeline, intake, delivery, readiness, admin: admin_service, proxy };
        let stopper = Stopper::new();
        let app = Self { listen, admin, live, latest: started.clone(), started, stopper, parts };
        app.announce(&shares);
        limits::announce(&shares, &metrics);
        Ok(app)
    }

    fn announce(&self, shares: &Shares) {
        let Config { proxy, sinks, .. } = &self.started;
        let names: Vec<&str> = sinks.iter().map(|sink| &**sink.name()).collect();
        tracing::info!(
            listen = %self.listen,
            upstream = %proxy.upstream,
            admin = %self.admin,
            sinks = if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            connections = shares.connections,
            "threadtap forwards"
        );
    }

    /// Where clients are accepted.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Takes over what can change while it runs; [`Changes`] says what that is. What was applied has changed since it was last
    /// read, what needs a restart since the start.
    ///
    /// # Errors
    /// When a setting cannot be used; nothing has changed then.
    pub fn reload(&mut self, config: Config) -> Result<Changes> {
        self.live.replace(&config)?;
        let Changes { applied, .. } = Changes::between(&self.latest, &config);
        let Changes { needs_restart, .. } = Changes::between(&self.started, &config);
        self.latest = config;
        Ok(Changes { applied, needs_restart })
    }

    /// What hurries [`stop`](Self::stop).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Drains and takes everything down, blocking the thread until it is done.
    ///
    /// # Errors
    /// When the proxy panicked.
    pub fn stop(self) -> Result<Drained> {
        self.parts.stop(self.latest.drain, &self.stopper).context("the proxy panicked")
    }
}

impl Parts {
    /// Closes channels from the top. Hurried ([`Stopper::hurry`]), each step but writing is cut short: exchanges are cut, no last
    /// attempt is made.
    fn stop(self, drain: Drain, stopper: &Stopper) -> Option<Drained> {
        let Self { background, store, pipeline, intake, delivery, readiness, admin, proxy } = self;
        let drained = background.block_on(async {
            readiness.draining();
            tracing::info!(delay = ?drain.delay, grace = ?drain.grace, "draining");
            stopper.pause(drain.delay).await;
            let drained = proxy.shutdown(stopper.pause(drain.grace)).await;
            // With the proxy the last tap is gone, which ends the pipeline: it settles what it can.
            pipeline.shutdown().await;
            // What is delivered at the last call must be written before. Whoever is in a hurry waits for the store's end alone.
            tokio::select! {
                biased;
                () = stopper.told() => {}
                written = tokio::time::timeout(WRITING_PATIENCE, store.apply(Vec::new())) => {
                    if !matches!(written, Ok(Ok(()))) {
                        tracing::error!("some captures are not written yet");
                    }
                }
            }
            delivery.shutdown(stopper.told()).await;
            intake.shutdown().await;
            admin.shutdown().await;
            drained
        });
        store.close();
        background.shutdown();
        tracing::info!(cut = drained == Some(Drained::Cut), "stopped");
        drained
    }
}

const NO_THREAD: &str = "cannot start a thread";
/// How long the end waits for a store that cannot write; closing it then counts what is lost.
const WRITING_PATIENCE: Duration = Duration::from_secs(10);
