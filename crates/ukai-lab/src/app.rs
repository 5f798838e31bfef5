//! The application of the drill: a process of its own that calls the peer again and again and says how it went.
//!
//! It is an ordinary client. It asks the resolver that it was given, with a resolver library that is not ukai's and keeps
//! answers for their TTL; it connects, does TLS and sends a request. It knows nothing of overrides. Each call is one line
//! of JSON on standard output; it ends when nobody reads them any more.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use url::Url;

pub use crate::scenario::Pool;

/// The longest that one call may take: a user's patience rather than a network's.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// With several addresses the next is tried when one does not connect in this time, so that two fit into a call.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// One try at the resolver; it is asked twice within a call.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(900);
/// Telling ukai how the call went must not hold up the next one.
const SIGN_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_BODY: usize = 64 * 1_024;
const USER_AGENT: &str = "drill-app/1";

/// Everything that the process is told, as one JSON argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppOptions {
    pub url: Url,
    /// As `resolv.conf` would name it.
    pub dns: SocketAddr,
    /// PEM file of the authorities that it trusts.
    pub ca: PathBuf,
    pub every_ms: u64,
    pub pool: Pool,
    pub sign: Option<Sign>,
    /// The environment variable whose value goes into `Authorization`.
    pub secret_env: Option<String>,
    /// The status that it takes for success.
    pub status: u16,
    /// What a good answer holds; a parking page is no success to it either.
    pub body_contains: String,
}

/// Where the application reports its own success, as a metric of its own would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The whole URL that calls are posted to.
    pub url: Url,
    pub token_file: PathBuf,
    pub peer: String,
}

/// One line of the application's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    pub t: Timestamp,
    pub ok: bool,
    /// The address connected to, or the one that did not connect.
    pub address: Option<IpAddr>,
    /// How far the call came.
    pub stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    #[default]
    Resolve,
    Connect,
    Tls,
    Http,
    Ok,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the drill's application takes one JSON argument: {0}")]
    Options(String),
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up name resolution: {0}")]
    Resolver(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs until nobody reads the output. `arguments` are those after the subcommand's name.
pub fn main(arguments: impl IntoIterator<Item = String>) -> Result<(), AppError> {
    let argument = arguments.into_iter().next().ok_or_else(|| AppError::Options("there is none".to_owned()))?;
    let options: AppOptions = serde_json::from_str(&argument).map_err(|error| AppError::Options(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options, |report| {
        let mut line = serde_json::to_vec(report).map_err(std::io::Error::other)?;
        line.push(b'\n');
        let mut output = std::io::stdout().lock();
        output.write_all(&line)?;
        output.flush()
    }))
}

/// Calls for ever, handing each report to `report`; ends with its error.
pub async fn run(
    options: AppOptions,
    mut report: impl FnMut(&CallReport) -> std::io::Result<()>,
) -> Result<(), AppError> {
    let mut client = Client::new(&options)?;
    let mut ticks = interval(Duration::from_millis(options.every_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let called = client.call().await;
        report(&called)?;
        if let Some(sign) = &options.sign {
            // Whoever reads the metric may be down; the application goes on.
            let _ = timeout(SIGN_TIMEOUT, send_sign(sign, &client, &called)).await;
        }
    }
}

struct Client {
    host: String,
    port: u16,
    url: Url,
    pool: Pool,
    authorization: Option<String>,
    status: u16,
    body_contains: String,
    resolver: TokioResolver,
    tls: Option<tokio_rustls::TlsConnector>,
    token: Option<String>,
    pinned: Option<IpAddr>,
    standing: Option<Connection>,
}

struct Connection {
    address: IpAddr,
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How far the call under way has come, so that one that times out can still say so.
#[derive(Debug, Default)]
struct Progress(Mutex<(Stage, Option<IpAddr>)>);

impl Progress {
    fn reach(&self, stage: Stage, address: Option<IpAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (stage, address);
    }

    fn reached(&self) -> (Stage, Option<IpAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn new(options: &AppOptions) -> Result<Self, AppError> {
        let tls = if options.url.scheme() == "https" { Some(connector(&options.ca)?) } else { None };
        let host = options.url.host_str().ok_or_else(|| AppError::Options("the url has no host".to_owned()))?;
        let authorization = options.secret_env.as_ref().and_then(|name| std::env::var(name).ok());
        let token = options.sign.as_ref().map(|sign| read_text(&sign.token_file)).transpose()?;
        Ok(Self {
            host: host.to_owned(),
            port: options.url.port_or_known_default().unwrap_or(443),
            url: options.url.clone(),
            pool: options.pool,
            authorization,
            status: options.status,
            body_contains: options.body_contains.clone(),
            resolver: resolver(options.dns)?,
            tls,
            token,
            pinned: None,
            standing: None,
        })
    }

    async fn call(&mut self) -> CallReport {
        let progress = Progress::default();
        let called = match timeout(CALL_TIMEOUT, self.attempt(&progress)).await {
            Ok(called) => called,
            Err(_) => {
                self.standing = None;
                Err((None, "timeout".to_owned()))
            }
        };
        let (stage, address) = progress.reached();
        let t = Timestamp::now();
        match called {
            Ok(status) => CallReport { t, ok: true, address, stage: Stage::Ok, status: Some(status), error: None },
            Err((status, error)) => CallReport { t, ok: false, address, stage, status, error: Some(error) },
        }
    }

    async fn attempt(&mut self, progress: &Progress) -> Result<u16, (Option<u16>, String)> {
        let mut connection = match self.standing.take() {
            Some(standing) if !standing.requests.is_closed() => standing,
            _ => self.connect(progress).await.map_err(|error| (None, error))?,
        };
        progress.reach(Stage::Http, Some(connection.address));
        let (status, body) = self.request(&mut connection).await.map_err(|error| (None, error))?;
        if self.pool == Pool::Pinned {
            self.standing = Some(connection);
        }
        if status.as_u16() != self.status {
            return Err((Some(status.as_u16()), format!("HTTP status {status}")));
        }
        if !String::from_utf8_lossy(&body).contains(&self.body_contains) {
            return Err((Some(status.as_u16()), "the answer is not what the application understands".to_owned()));
        }
        Ok(status.as_u16())
    }

    async fn connect(&mut self, progress: &Progress) -> Result<Connection, String> {
        let addresses = self.addresses().await?;
        let mut last = "no address".to_owned();
        for address in addresses {
            progress.reach(Stage::Connect, Some(address));
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((address, self.port))).await;
            let stream = match connected {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    last = error.to_string();
                    continue;
                }
                Err(_) => {
                    last = "timeout".to_owned();
                    continue;
                }
            };
            if self.pool == Pool::Pinned {
                self.pinned = Some(address);
            }
            return self.handshake(progress, address, stream).await;
        }
        Err(last)
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        if let Some(address) = self.pinned {
            return Ok(vec![address]);
        }
        // With a dot at the end, no search list applies.
        let found = self.resolver.lookup_ip(format!("{}.", self.host)).await.map_err(|error| error.to_string())?;
        Ok(found.iter().collect())
    }

    async fn handshake(&self, progress: &Progress, address: IpAddr, stream: TcpStream) -> Result<Connection, String> {
        let Some(tls) = &self.tls else {
            return speak_http(address, stream).await;
        };
        progress.reach(Stage::Tls, Some(address));
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await.map_err(|error| error.to_string())?;
        speak_http(address, stream).await
    }

    async fn request(&self, connection: &mut Connection) -> Result<(StatusCode, Bytes), String> {
        let path = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let mut request = Request::get(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        send(connection, request).await
    }
}

async fn speak_http<S>(address: IpAddr, stream: S) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(async move {
        // The request that is under way learns of the error.
        let _ = connection.await;
    });
    Ok(Connection { address, requests, driver })
}

async fn send(connection: &mut Connection, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    connection.requests.ready().await.map_err(|error| error.to_string())?;
    let response = connection.requests.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

async fn send_sign(sign: &Sign, client: &Client, called: &CallReport) -> Result<(), String> {
    let host = sign.url.host_str().unwrap_or_default();
    let port = sign.url.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let address = stream.peer_addr().map_err(|error| error.to_string())?.ip();
    let mut connection = speak_http(address, stream).await?;
    let body = serde_json::json!({
        "peer": sign.peer, "host": client.host, "ok": called.ok, "address": called.address, "error": called.error,
    });
    let request = Request::post(sign.url.path())
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token.as_deref().unwrap_or_default()))
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    send(&mut connection, request).await.map(|_| ())
}

fn resolver(dns: SocketAddr) -> Result<TokioResolver, AppError> {
    let mut server = NameServerConfig::udp_and_tcp(dns.ip());
    for connection in &mut server.connections {
        connection.port = dns.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = RESOLVE_TIMEOUT;
    options.attempts = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|error| AppError::Resolver(error.to_string()))
}

fn connector(ca: &Path) -> Result<tokio_rustls::TlsConnector, AppError> {
    let unreadable = |error: String| AppError::File { path: ca.to_owned(), error };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unreadable(error.to_string()))? {
        roots.add(certificate.map_err(|error| unreadable(error.to_string()))?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

fn read_text(path: &Path) -> Result<String, AppError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| AppError::File { path: path.to_owned(), error: error.to_string() })
}
