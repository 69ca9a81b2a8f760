//! The composition root: starts every part, connects the parts, and stops them in order.
//!
//! Each proxy worker has its own thread and runtime, and only forwards. The pipeline and the store
//! have a thread each. One more thread runs everything else. Each part starts itself and returns a
//! handle that shuts it down within a bounded time. [`App::start`] shows the order in which parts
//! start, and `Parts::stop` the order in which they stop.

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

/// A running threadtap.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    admin: SocketAddr,
    live: Live,
    /// The settings at the start. Some of them change only with a restart.
    started: Config,
    /// The settings that were read last.
    latest: Config,
    stopper: Stopper,
    parts: Parts,
}

/// All running parts, in the order in which they were started.
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
    /// Starts all parts. When this returns, clients are accepted.
    ///
    /// # Errors
    /// When an explicit setting cannot be used: for example, the address is in use, or the data
    /// directory is locked.
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
        // The data directory exists now and may hold a caller key.
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

    /// The address on which clients are accepted.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The address of the admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Applies the settings that can change while it runs; [`Changes`] lists them. In the result,
    /// `applied` compares with the settings that were read last, and `needs_restart` compares with
    /// the settings at the start.
    ///
    /// # Errors
    /// When a setting cannot be used. Nothing is changed then.
    pub fn reload(&mut self, config: Config) -> Result<Changes> {
        self.live.replace(&config)?;
        let Changes { applied, .. } = Changes::between(&self.latest, &config);
        let Changes { needs_restart, .. } = Changes::between(&self.started, &config);
        self.latest = config;
        Ok(Changes { applied, needs_restart })
    }

    /// Returns a handle that hurries [`stop`](Self::stop).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Drains and stops all parts. Blocks the thread until that is done.
    ///
    /// # Errors
    /// When the proxy panicked.
    pub fn stop(self) -> Result<Drained> {
        self.parts.stop(self.latest.drain, &self.stopper).context("the proxy panicked")
    }
}

impl Parts {
    /// Closes the channels from the top. After [`Stopper::hurry`], every step except writing is cut
    /// short: exchanges are cut, and delivery makes no last attempt.
    fn stop(self, drain: Drain, stopper: &Stopper) -> Option<Drained> {
        let Self { background, store, pipeline, intake, delivery, readiness, admin, proxy } = self;
        let drained = background.block_on(async {
            readiness.draining();
            tracing::info!(delay = ?drain.delay, grace = ?drain.grace, "draining");
            stopper.pause(drain.delay).await;
            let drained = proxy.shutdown(stopper.pause(drain.grace)).await;
            // The last tap ended with the proxy. That ends the pipeline, after it has settled what
            // it can.
            pipeline.shutdown().await;
            // Delivery's last attempt sends only what is written, so this comes first. When
            // hurried, only wait for the store to close.
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
/// How long stopping waits for a store that cannot write. Closing the store then counts what is
/// lost.
const WRITING_PATIENCE: Duration = Duration::from_secs(10);
