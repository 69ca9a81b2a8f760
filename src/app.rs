//! The composition root: builds every part, wires them, and takes them down in order.
//!
//! The proxy's workers have a thread and a runtime each, and do nothing but forward; one more thread is for delivery and the admin
//! listener, and the pipeline and the store have one each. Shutting down is closing channels from the top: readiness off, `drain.delay`,
//! stop accepting, exchanges end within `drain.grace`; the last tap's end ends the pipeline, which settles what it can; the store
//! writes; delivery makes one last attempt; the store closes. Hurried ([`Stopper::hurry`]), each step but writing is cut short:
//! exchanges are cut, no last attempt is made.

mod back;
mod caller_key;
mod limits;
mod live;
mod opening;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{self, Readiness};
use crate::capture;
use crate::clock::Clock;
use crate::config::{Choice, Config, Drain, Interactions};
use crate::console::Console;
use crate::delivery;
use crate::descriptors::Shares;
use crate::intake::{Answer, Intake, Listener};
use crate::metrics::Metrics;
use crate::net::{self, Drained};
use crate::operations::Operations;
use crate::pipeline;
use crate::proxy::{OwnAnswer, OwnRequest, OwnRequests, Proxy};
use crate::store::{self, Store};
use crate::users::Users;
use live::{Live, Settings, Sinks};
use opening::open_store;
pub use stop::Stopper;
use stop::{Stop, told};

/// A threadtap that runs.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    admin: SocketAddr,
    stop: watch::Sender<Stop>,
    live: Live,
    /// What cannot be changed while it runs, as it is now.
    fixed: Vec<(&'static str, String)>,
    thread: JoinHandle<Drained>,
}

impl App {
    /// Starts everything. When it returns, clients are accepted.
    ///
    /// # Errors
    /// When a setting that somebody asked for cannot be used: an address that is taken, a data directory that is locked.
    pub fn start(mut config: Config) -> Result<Self> {
        let front = net::runtime()?;
        let listener = front
            .block_on(async { net::bind(config.net.listen) })
            .with_context(|| format!("listen is `{}`: cannot listen there", config.net.listen))?;
        // It is for another runtime than this one.
        let admin_listener = front.block_on(bind_admin(&config.admin_listen))?.into_std()?;
        let fixed = fixed(&config);
        let shares = limits::share(&mut config);
        let (parts, live) = Parts::build(config, shares, front, listener, admin_listener)?;
        let (listen, admin) = (parts.listener.local_addr()?, parts.admin_listener.local_addr()?);
        let (stop, stopped) = watch::channel(Stop::Not);
        let thread = std::thread::Builder::new()
            .name("threadtap-proxy".to_owned())
            .spawn(move || parts.run(stopped))
            .context("cannot start a thread")?;
        Ok(Self { listen, admin, stop, live, fixed, thread })
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

    /// Takes over what can change while it runs: sinks, keys and tokens. Returns the sections whose changes need a restart.
    ///
    /// # Errors
    /// When a setting cannot be used; nothing has changed then.
    pub fn reload(&mut self, config: &Config) -> Result<Vec<&'static str>> {
        self.live.replace(config)?;
        let now = self.fixed.iter();
        Ok(now.zip(fixed(config)).filter(|(now, new)| now.1 != new.1).map(|(now, _)| now.0).collect())
    }

    /// What hurries [`stop`](Self::stop).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::new(self.stop.clone())
    }

    /// Drains and takes everything down, blocking the thread until it is done.
    ///
    /// # Errors
    /// When a part panicked.
    pub fn stop(self) -> Result<Drained> {
        self.stop.send_modify(|stop| *stop = Stop::Draining.max(*stop));
        self.thread.join().ok().context("a part of threadtap panicked")
    }
}

/// The sections that only a restart changes. No value in them is a secret, which would change unseen.
fn fixed(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("listen or [server]", format!("{:?}", config.net)),
        ("upstream or [proxy]", format!("{:?}", config.proxy)),
        ("[capture]", format!("{:?}", config.capture)),
        ("[correlation]", format!("{:?}", config.pipeline)),
        (
            "data_dir or [store]",
            format!("{:?} {:?} {}", config.data_dir, config.store, config.store_required),
        ),
        ("[delivery]", format!("{:?}", config.delivery)),
        ("admin_listen", format!("{:?}", config.admin_listen)),
        ("intake.on_proxy", config.intake_on_proxy.to_string()),
        ("log.interactions", format!("{:?}", config.log.interactions)),
        ("[drain]", format!("{:?}", config.drain)),
    ]
}

/// Everything that was built, before it runs.
struct Parts {
    front: Runtime,
    listener: TcpListener,
    admin_listener: std::net::TcpListener,
    admin_limits: admin::Limits,
    net: net::Config,
    proxy: Proxy,
    pipeline: JoinHandle<()>,
    store: Store,
    intake: Intake,
    own_requests: mpsc::Receiver<OwnRequest>,
    operations: Operations,
    delivery: delivery::Config,
    sinks: watch::Receiver<Sinks>,
    admin: watch::Receiver<admin::Config>,
    registry: Registry,
    metrics: Metrics,
    clock: Clock,
    drain: Drain,
}

impl Parts {
    fn build(
        config: Config,
        shares: Shares,
        front: Runtime,
        listener: TcpListener,
        admin_listener: std::net::TcpListener,
    ) -> Result<(Self, Live)> {
        let listen = listener.local_addr()?;
        let upstream = config.proxy.upstream.clone();
        if front.block_on(upstream.is_served_by(listen)) {
            bail!("upstream is `{upstream}`: that is threadtap's own listener; name the API's address");
        }
        let clock = Clock::start();
        let (metrics, registry) = Metrics::new();
        let named = store::Config {
            holder: listen.to_string(),
            admin: admin_listener.local_addr()?.to_string(),
            ..config.store.clone()
        };
        let (store, recovered) =
            open_store(named, config.data_dir.as_ref(), config.store_required, &metrics, clock)?;
        // The data directory is there now, and may keep a key.
        let (live, Settings { sinks, admin, intake, caller_key }) = Live::new(&config)?;
        let console = match config.log.interactions {
            Interactions::Always => Console::Plain,
            Interactions::Auto if config.sinks.is_empty() => Console::on_terminal(),
            Interactions::Auto | Interactions::Never => Console::Off,
        };
        let (recorder, captures) = capture::new(config.capture, metrics.clone(), clock);
        let mut pipeline = config.pipeline;
        pipeline.dialect.budget = captures.budget().clone();
        let users = Users::new(pipeline.max_users);
        let intake = Intake::new(intake, store.clone(), users.clone(), sinks.clone(), metrics.clone(), clock);
        pipeline.correlation.first_used = recovered.first_used_at();
        let (handle, commands) = pipeline::commands();
        let operations = Operations::new(store.clone(), Some((handle, users.clone())), sinks.clone());
        let operations = operations.with_limits(shares);
        let pipeline = pipeline::spawn(
            pipeline,
            pipeline::Ports {
                captures,
                commands,
                store: store.clone(),
                recovered,
                users,
                sinks: sinks.clone(),
                console,
                metrics: metrics.clone(),
                clock,
            },
        )
        .context("cannot start a thread")?;
        let mut proxy = config.proxy;
        let (own, own_requests) = mpsc::channel(OWN_REQUESTS);
        proxy.own = config.intake_on_proxy.then(|| OwnRequests::new(door(&intake, listen), own));
        let proxy = Proxy::new(proxy, caller_key, recorder, &metrics)?;
        let names: Vec<&str> = config.sinks.iter().map(|sink| &**sink.name()).collect();
        tracing::info!(
            listen = %listen,
            upstream = %upstream,
            admin = %admin_listener.local_addr()?,
            sinks = if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            connections = shares.connections,
            "threadtap forwards"
        );
        limits::announce(&shares, &metrics);
        let parts = Self {
            front,
            listener,
            admin_listener,
            admin_limits: admin::Limits { connections: shares.admin_connections, ..admin::Limits::default() },
            net: config.net,
            proxy,
            pipeline,
            store,
            operations,
            intake,
            own_requests,
            delivery: config.delivery,
            sinks,
            admin,
            registry,
            metrics,
            clock,
            drain: config.drain,
        };
        Ok((parts, live))
    }

    fn run(self, stopped: watch::Receiver<Stop>) -> Drained {
        let Self {
            front,
            listener,
            admin_listener,
            admin_limits,
            net,
            proxy,
            pipeline,
            store,
            operations,
            intake,
            own_requests,
            delivery,
            sinks,
            admin,
            registry,
            metrics,
            clock,
            drain,
        } = self;
        let readiness = Readiness::default();
        let (stop_back, back_stopped) = oneshot::channel::<()>();
        let back = back::Back {
            delivery,
            sinks,
            store: store.clone(),
            metrics: metrics.clone(),
            clock,
            admin_listener,
            admin: admin::Ports {
                config: admin,
                limits: admin_limits,
                registry,
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                operations,
                intake: intake.clone(),
            },
            intake,
            own_requests,
        };
        let hurried = stopped.clone();
        let back = back.start(back_stopped, async move { told(hurried, Stop::Hurried).await });
        let back = match back {
            Ok(back) => Some(back),
            Err(error) => {
                tracing::error!(%error, "no thread for delivery and the admin listener; records are kept on disk");
                None
            }
        };
        readiness.ready();
        let drained = front.block_on(async {
            let unless_hurried = async |pause| {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = told(stopped.clone(), Stop::Hurried) => {}
                }
            };
            let shutdown = async {
                told(stopped.clone(), Stop::Draining).await;
                readiness.draining();
                tracing::info!(delay = ?drain.delay, grace = ?drain.grace, "draining");
                unless_hurried(drain.delay).await;
            };
            let grace = async { unless_hurried(drain.grace).await };
            net::serve(listener, net, proxy, &metrics, shutdown, grace).await
        });
        // With the proxy the last tap is gone.
        front.shutdown_timeout(Duration::from_secs(1));
        if pipeline.join().is_err() {
            tracing::error!("the pipeline panicked");
        }
        // What is delivered at the last call must be written before. Whoever is in a hurry waits for the store's end alone.
        let mut looks = FLUSH_PATIENCE.as_millis() / FLUSH_LOOK.as_millis();
        while *stopped.borrow() < Stop::Hurried
            && let Err(error) = store.flush(FLUSH_LOOK)
        {
            looks -= 1;
            if looks == 0 {
                tracing::error!(%error, "not all that was captured is written yet");
                break;
            }
        }
        stop_back.send(()).ok();
        if back.is_some_and(|back| !matches!(back.join(), Ok(Ok(())))) {
            tracing::error!("delivery or the admin listener failed");
        }
        store.close();
        tracing::info!(cut = drained == Drained::Cut, "stopped");
        drained
    }
}

/// Who may say something on the proxy's listener.
fn door(
    intake: &Intake,
    listen: SocketAddr,
) -> impl Fn(&http::request::Parts) -> Result<(), OwnAnswer> + use<> {
    let intake = intake.clone();
    let listener = Listener::Proxy { on_loopback: listen.ip().is_loopback() };
    move |head| intake.admit(listener, head).map_err(|Answer { status, body }| OwnAnswer { status, body })
}

async fn bind_admin(choice: &Choice<SocketAddr>) -> Result<TcpListener> {
    let mut address = *choice.value();
    loop {
        match net::bind(address) {
            Ok(listener) => {
                if address != *choice.value() {
                    tracing::warn!(admin = %address, "the admin port {} is in use, so the next free one is taken", choice.value().port());
                }
                return Ok(listener);
            }
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && matches!(choice, Choice::Default(_)) =>
            {
                let port = address.port().checked_add(1).context("no admin port is free")?;
                address.set_port(port);
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("admin_listen is `{address}`: cannot listen there"));
            }
        }
    }
}

/// How long the end waits for a store that cannot write; closing it then counts what is lost.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is to hurry.
const FLUSH_LOOK: Duration = Duration::from_millis(100);
/// Requests for threadtap itself that may wait.
const OWN_REQUESTS: usize = 256;
