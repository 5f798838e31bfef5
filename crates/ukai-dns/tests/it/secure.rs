use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hickory_proto::op::{Message, ResponseCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use ukai_dns::{AskError, AskOptions, Client, ClientOptions, Question, RecordType, Transport, Upstream};

use crate::peer::{a, asked, framed, reply};
use crate::running::{PATIENCE, Running, addresses, config, directory};

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions {
            extra_roots: vec![self.certificate.der().clone()],
            system_roots: false,
            ..ClientOptions::default()
        })
    }

    fn acceptor(&self, names: &[&str], alpn: &[&str]) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn answer(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut message = reply(&query, ResponseCode::NoError);
    message.add_answer(a(&asked(&query), 60, "192.0.2.1"));
    message.to_vec().unwrap()
}

/// DNS over TLS.
async fn tls_server(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    return;
                };
                while let Ok(len) = stream.read_u16().await {
                    let mut query = vec![0; usize::from(len)];
                    if stream.read_exact(&mut query).await.is_err() {
                        return;
                    }
                    stream.write_all(&framed(&answer(&query))).await.ok();
                    stream.flush().await.ok();
                }
            });
        }
    });
    address
}

/// DNS over HTTPS: the path chooses how well it behaves.
async fn https_server(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else {
                    return;
                };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = TokioIo::new(stream);
                if http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service_fn(respond))
                        .await
                        .ok();
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(respond)).await.ok();
                }
            });
        }
    });
    address
}

async fn respond(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, std::convert::Infallible>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    assert_eq!(request.headers()["content-type"], "application/dns-message");
    let query = request.into_body().collect().await?.to_bytes();
    let dns = Response::builder().header("content-type", "application/dns-message");
    let full = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).boxed();
    Ok(match path.as_str() {
        "/dns-query" => dns.body(full(answer(&query))).unwrap(),
        "/page" => Response::new(full(b"<html>".to_vec())),
        "/endless" => dns.body(Endless.boxed()).unwrap(),
        "/other" => {
            let mut bytes = answer(&query);
            bytes[0] ^= 0xff;
            dns.body(full(bytes)).unwrap()
        }
        _ => Response::builder().status(503).body(full(Vec::new())).unwrap(),
    })
}

/// A body that never ends.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 4096])))))
    }
}

fn question() -> Question {
    Question::new("api.peer.test", RecordType::A).unwrap()
}

fn patient() -> AskOptions {
    AskOptions { timeout: PATIENCE, ..AskOptions::default() }
}

#[tokio::test]
async fn over_tls() {
    let authority = Authority::new();
    let address = tls_server(authority.acceptor(&["dns.test", "127.0.0.1"], &["dot"])).await;
    let upstream = |name: Option<&str>| Upstream::Tls { address, server_name: name.map(str::to_owned) };
    for name in [Some("dns.test"), None] {
        let reply = authority.client().ask(&upstream(name), &question(), &patient()).await.unwrap();
        assert_eq!(reply.addresses(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(reply.transport, Transport::Tls);
    }
    let other_name = authority.client().ask(&upstream(Some("other.test")), &question(), &patient()).await.unwrap_err();
    assert!(matches!(&other_name, AskError::Tls(text) if text.contains("not valid for name")), "{other_name:?}");
    let stranger =
        Authority::new().client().ask(&upstream(Some("dns.test")), &question(), &patient()).await.unwrap_err();
    assert!(matches!(&stranger, AskError::Tls(_)), "{stranger:?}");
}

#[tokio::test]
async fn over_https_in_both_versions() {
    let authority = Authority::new();
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let address = https_server(authority.acceptor(&["dns.test"], alpn)).await;
        let upstream: Upstream = format!("https://{address}/dns-query#dns.test").parse().unwrap();
        let reply = authority.client().ask(&upstream, &question(), &patient()).await.unwrap();
        assert_eq!(reply.addresses(), ["192.0.2.1".parse::<IpAddr>().unwrap()], "{alpn:?}");
        assert_eq!(reply.transport, Transport::Https);
    }
}

/// How many connections a server was asked for, and a way to it that counts them.
async fn counted(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_forwarder_asks_again_on_the_same_connection_and_who_measures_does_not() {
    let authority = Authority::new();
    let tls = tls_server(authority.acceptor(&["dns.test"], &["dot"])).await;
    let https = https_server(authority.acceptor(&["dns.test"], &["h2"])).await;
    for (server, scheme, path) in [(tls, "tls", ""), (https, "https", "/dns-query")] {
        for (keep_connections, connections) in [(true, 1), (false, 5)] {
            let (address, count) = counted(server).await;
            let upstream: Upstream = format!("{scheme}://{address}{path}#dns.test").parse().unwrap();
            let roots = vec![authority.certificate.der().clone()];
            let client = Client::new(ClientOptions { extra_roots: roots, system_roots: false, keep_connections });
            for _ in 0..5 {
                let reply = client.ask(&upstream, &question(), &patient()).await.unwrap();
                assert_eq!(reply.addresses(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
            }
            assert_eq!(count.load(Ordering::SeqCst), connections, "{scheme}, kept: {keep_connections}");
        }
    }
}

#[tokio::test]
async fn https_servers_that_misbehave() {
    let authority = Authority::new();
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let address = https_server(authority.acceptor(&["dns.test"], alpn)).await;
        let ask = async |path: &str| {
            let upstream = Upstream::Https { address, path: path.to_owned(), server_name: Some("dns.test".to_owned()) };
            authority.client().ask(&upstream, &question(), &patient()).await.unwrap_err()
        };
        assert_eq!(ask("/nowhere").await, AskError::HttpStatus(503));
        assert!(matches!(ask("/page").await, AskError::Http(text) if text.contains("not application/dns-message")));
        assert!(matches!(ask("/endless").await, AskError::Http(_)));
        assert!(matches!(ask("/other").await, AskError::Malformed(_)));
    }
}

#[tokio::test]
async fn the_server_forwards_over_tls() {
    let (authority, dir) = (Authority::new(), directory());
    let address = tls_server(authority.acceptor(&["dns.test"], &[])).await;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.certificate.pem()).unwrap();
    let mut config = config(dir.path(), &[]);
    config.settings.upstreams = vec![Upstream::Tls { address, server_name: Some("dns.test".to_owned()) }];
    config.ca = Some(ca);
    let server = Running::start(config).await;
    assert_eq!(addresses(&server.ask("www.example.com", hickory_proto::rr::RecordType::A).await), ["192.0.2.1"]);
}
