//! What a command operates on: the instance that holds the data directory or, if none runs, the
//! store itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use threadtap_core::settings::Secret;
use tokio::sync::watch;

use super::{Failure, with_warnings};
use crate::clock::Clock;
use crate::config::{Choice, Config, Flags, ProcessEnvironment};
use crate::metrics::Metrics;
use crate::operations::{
    Changed, DeadLetterPage, DeadLetterQuery, ExportPage, ExportQuery, Operations, ResendPage, ResendQuery,
    Status,
};
use crate::store::{self, DeadLetter, DeadLetters, Erased, OpenError, Store, Subject};

/// What a command operates on.
pub(super) enum Target {
    /// A running instance, through its admin listener.
    Running(Box<Api>),
    /// The store, which this process holds while the command runs.
    Stopped(Operations),
}

impl Target {
    /// Finds the target with the settings of an instance.
    pub(super) fn find(flags: &Flags) -> Result<Self, Failure> {
        let config = Config::load(flags, &ProcessEnvironment).map_err(Failure::unusable)?;
        with_warnings(&config.log)?;
        let asked = match config.admin_listen {
            // Port 0 is not an address to connect to.
            Choice::Explicit(address) if address.port() != 0 => Some(address),
            _ => None,
        };
        let token = config.admin.token;
        let Some(data_dir) = config.data_dir.map(|choice| choice.value().clone()) else {
            return Err(anyhow::anyhow!("there is no data directory").into());
        };
        if !data_dir.join("threadtap.db").exists() {
            // An instance may run without a disk, or elsewhere.
            return match asked {
                Some(address) => Ok(Self::Running(Box::new(Api::new(address, token)))),
                None => Err(anyhow::anyhow!("there is no threadtap data in {}", data_dir.display()).into()),
            };
        }
        let holder = "a command".to_owned();
        let config_of_store = store::Config { data_dir: Some(data_dir), holder, ..config.store };
        match Store::open(config_of_store, Metrics::new().0, Clock::start()) {
            Ok((store, _)) => {
                let sinks = watch::channel(config.sinks).1;
                Ok(Self::Stopped(Operations::new(store, None, sinks)))
            }
            Err(OpenError::Locked { path, holder, admin }) => {
                let told = admin.and_then(|admin| admin.parse().ok());
                let Some(address) = asked.or(told) else {
                    let error = anyhow::anyhow!(
                        "{} is in use by {holder}, and its lock file names no admin address",
                        path.display()
                    );
                    return Err(error.into());
                };
                Ok(Self::Running(Box::new(Api::new(address, token))))
            }
            // An instance may run without the store.
            Err(error) => match asked {
                Some(address) => Ok(Self::Running(Box::new(Api::new(address, token)))),
                None => Err(anyhow::Error::from(error).into()),
            },
        }
    }

    pub(super) async fn status(&self) -> Result<Status> {
        match self {
            Self::Running(api) => api.get("/status").await,
            Self::Stopped(operations) => Ok(operations.status().await?),
        }
    }

    pub(super) async fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage> {
        match self {
            Self::Running(api) => api.get(&format!("/dead-letters?{}", encoded(query)?)).await,
            Self::Stopped(operations) => Ok(operations.dead_letters(query).await?),
        }
    }

    pub(super) async fn dead_letter(&self, id: u64) -> Result<DeadLetter> {
        match self {
            Self::Running(api) => api.get(&format!("/dead-letters/{id}")).await,
            Self::Stopped(operations) => Ok(operations.dead_letter(id).await?),
        }
    }

    pub(super) async fn retry(&self, which: DeadLetters) -> Result<Changed> {
        match self {
            Self::Running(api) => api.post("/dead-letters/retry", &which).await,
            Self::Stopped(operations) => Ok(operations.retry(which).await?),
        }
    }

    pub(super) async fn drop_letters(&self, which: DeadLetters) -> Result<Changed> {
        match self {
            Self::Running(api) => api.post("/dead-letters/drop", &which).await,
            Self::Stopped(operations) => Ok(operations.drop(which).await?),
        }
    }

    pub(super) async fn export(&self, query: &ExportQuery) -> Result<ExportPage> {
        match self {
            Self::Running(api) => api.get(&format!("/export?{}", encoded(query)?)).await,
            Self::Stopped(operations) => Ok(operations.export(*query).await?),
        }
    }

    pub(super) async fn resend(&self, query: &ResendQuery) -> Result<ResendPage> {
        match self {
            Self::Running(api) => api.post("/resend", query).await,
            Self::Stopped(operations) => Ok(operations.resend(query).await?),
        }
    }

    pub(super) async fn forget(&self, subject: &Subject) -> Result<Erased> {
        match self {
            Self::Running(api) => api.post("/forget", subject).await,
            Self::Stopped(operations) => Ok(operations.forget(subject).await?),
        }
    }

    /// Whether an instance runs.
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// The API of a running instance.
pub(super) struct Api {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    token: Option<Secret>,
}

impl Api {
    fn new(mut address: SocketAddr, token: Option<Secret>) -> Self {
        // An instance that listens on all addresses is reachable on loopback.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Self { http: legacy::Client::builder(TokioExecutor::new()).build_http(), address, token }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}/api/v1{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body))?;
        let asked = || format!("cannot reach the instance at {}", self.address);
        let response = self.http.request(request).await.with_context(asked)?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(asked)?.to_bytes();
        if !status.is_success() {
            let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            match told.as_ref().and_then(|told| told["error"].as_str()) {
                Some(error) => bail!("{error}"),
                None => {
                    bail!(
                        "{} responded with {status}: {}",
                        self.address,
                        String::from_utf8_lossy(&body).trim()
                    )
                }
            }
        }
        serde_json::from_slice(&body)
            .context("cannot read the response of the instance; its version may differ")
    }
}

fn encoded(query: &impl Serialize) -> Result<String> {
    Ok(serde_urlencoded::to_string(query)?)
}
