//! Peers of the tests, and the probes that visit them.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use ukai_core::observe::{AddressResult, ErrorClass, Stage};
use ukai_probe::{Endpoint, Expectation, Prober, ProberOptions, Request, Timeouts};

use crate::authority::{Authority, HOST};

/// Short enough to wait for, long enough for a loopback answer on a loaded machine not to matter: only used for the one
/// stage in which the peer never answers.
pub const SOON: Duration = Duration::from_millis(150);

/// A listening peer; it ends with the value.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Hands each accepted socket to `serve`.
    pub async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1", serve).await
    }

    pub async fn start_at<F, S>(address: &str, serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(socket));
            }
        });
        Self { address, accepted, _tasks: tasks }
    }

    /// Sends these bytes at once, and holds the connection open.
    pub async fn saying(bytes: &'static [u8]) -> Self {
        Self::start(move |mut socket| async move {
            let _ = socket.write_all(bytes).await;
            swallow(&mut socket).await;
        })
        .await
    }

    /// Reads a request head, then writes these bytes and closes.
    pub async fn answering(bytes: &'static [u8]) -> Self {
        Self::start(move |mut socket| async move {
            read_head(&mut socket).await;
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            swallow(&mut socket).await;
        })
        .await
    }

    /// Reads a request head, writes the first bytes once and the second until the other side has enough.
    pub async fn endless(first: &'static [u8], again: &'static [u8]) -> Self {
        Self::start(move |mut socket| async move {
            read_head(&mut socket).await;
            let mut written = socket.write_all(first).await;
            while written.is_ok() {
                written = socket.write_all(again).await;
            }
        })
        .await
    }

    pub async fn tls<F, S>(config: ServerConfig, serve: S) -> Self
    where
        S: Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |socket| {
            let (acceptor, serve) = (acceptor.clone(), serve.clone());
            async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    serve(stream).await;
                }
            }
        })
        .await
    }

    /// TLS and HTTP, of the version that ALPN chose.
    pub async fn https<S>(config: ServerConfig, answer: S) -> Self
    where
        S: Fn(&HttpRequest<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    {
        Self::tls(config, move |stream| {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve_http(stream, http2, answer.clone())
        })
        .await
    }

    pub async fn http<S>(answer: S) -> Self
    where
        S: Fn(&HttpRequest<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    {
        Self::start(move |socket| serve_http(socket, false, answer.clone())).await
    }

    pub fn endpoint(&self, scheme: &str) -> Endpoint {
        self.endpoint_of(&format!("{scheme}://{HOST}"), "")
    }

    pub fn endpoint_of(&self, origin: &str, path: &str) -> Endpoint {
        Endpoint::parse(&format!("{origin}:{}{path}", self.address.port())).unwrap()
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// One probe of this server, trusting `authority`.
    pub async fn probe(&self, scheme: &str, authority: &Authority) -> AddressResult {
        Visit::new(self, scheme).trusting(authority).go().await
    }

    pub async fn probe_http(&self) -> AddressResult {
        Visit::new(self, "http").go().await
    }
}

async fn serve_http<I, S>(io: I, http2: bool, answer: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(&HttpRequest<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let response = answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let io = TokioIo::new(io);
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

/// One probe, with what is special about it.
pub struct Visit<'a> {
    server: &'a Server,
    pub endpoint: Endpoint,
    pub expectation: Expectation,
    pub request: Request,
    pub timeouts: Timeouts,
    roots: Vec<Vec<u8>>,
}

impl<'a> Visit<'a> {
    pub fn new(server: &'a Server, scheme: &str) -> Self {
        Self {
            server,
            endpoint: server.endpoint(scheme),
            expectation: Expectation::default(),
            request: Request::default(),
            timeouts: Timeouts::default(),
            roots: Vec::new(),
        }
    }

    pub fn trusting(mut self, authority: &Authority) -> Self {
        self.roots.push(authority.pem());
        self
    }

    pub fn expecting(mut self, expectation: Expectation) -> Self {
        self.expectation = expectation;
        self
    }

    pub fn sending(mut self, request: Request) -> Self {
        self.request = request;
        self
    }

    pub fn within(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    pub async fn go(self) -> AddressResult {
        let prober = prober(self.roots);
        let address = self.server.address.ip();
        prober.probe_address(&self.endpoint, address, &self.expectation, &self.request, &self.timeouts).await
    }
}

/// A prober that may visit loopback, and trusts these roots only; Mozilla's where there are none.
pub fn prober(roots: Vec<Vec<u8>>) -> Prober {
    let roots = if roots.is_empty() { vec![Authority::new("nobody").pem()] } else { roots };
    Prober::new(ProberOptions {
        extra_roots: roots,
        use_system_roots: false,
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        max_concurrent: 64,
    })
    .unwrap()
}

pub fn text(body: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::from(body))
}

pub async fn read_head<R: AsyncRead + Unpin>(stream: &mut R) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 * 1024 {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads until the other side has closed.
pub async fn swallow<R: AsyncRead + Unpin>(stream: &mut R) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}

#[track_caller]
pub fn assert_failure(result: &AddressResult, stage: Stage, class: ErrorClass) -> &str {
    let failure = result.failure.as_ref().expect("the probe fails");
    assert_eq!((failure.stage, failure.class), (stage, class), "{}", failure.detail);
    &failure.detail
}

#[track_caller]
pub fn assert_success(result: &AddressResult) {
    assert_eq!(result.failure, None);
}
