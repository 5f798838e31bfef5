//! What is found out at the addresses themselves: default sites, controls over IPv6, and hosts that say anything.

use std::path::Path as FilePath;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use ukai_core::diagnose::evidence::Reached;
use ukai_core::observe::{ErrorClass, Stage};

use super::*;
use crate::socket::LINE_BYTES;

const HOST: &str = "api.peer.test";
/// A gathering that hangs is ended here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate that vouches for itself.
struct Shown {
    pem: String,
    certified: Arc<CertifiedKey>,
}

impl Shown {
    fn of(name: &str) -> Shown {
        Shown::with(name, |certificate| certificate)
    }

    fn with(name: &str, change: fn(CertificateDer<'static>) -> CertificateDer<'static>) -> Shown {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let key = rustls::crypto::ring::default_provider().key_provider.load_private_key(key.into()).unwrap();
        let certified = Arc::new(CertifiedKey::new(vec![change(made.cert.der().clone())], key));
        Shown { pem: made.cert.pem(), certified }
    }
}

/// One for who names the host, another one for who does not.
#[derive(Debug)]
struct Names {
    named: Arc<CertifiedKey>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(if hello.server_name() == Some(HOST) { self.named.clone() } else { self.default.clone() })
    }
}

fn acceptor(named: &Shown, default: &Shown) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let names = Names { named: named.certified.clone(), default: default.certified.clone() };
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(names))))
}

/// Hands each connection to `serve`.
async fn host<F>(at: SocketAddr, tasks: &mut JoinSet<()>, serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(at).await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    at
}

async fn swallow(mut stream: impl tokio::io::AsyncRead + Unpin) {
    while matches!(stream.read(&mut [0; 4096]).await, Ok(read) if read > 0) {}
}

async fn https(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    let _ = stream.shutdown().await;
}

/// A port that is free on all of these addresses.
async fn port_on(addresses: &[&str]) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut free = true;
        for address in addresses.iter().filter(|address| **address != "127.0.0.1") {
            free &= TcpListener::bind((*address, port)).await.is_ok();
        }
        if free {
            return port;
        }
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn configured_with(text: &str, dir: &FilePath) -> (Vantage, Subject) {
    let config = Config::parse(text, &dir.join("ukai.toml")).unwrap();
    let configured = configure(&config).unwrap();
    (configured.vantage, configured.subjects["api"].clone())
}

async fn gathered(vantage: &Vantage, subject: &Subject, order: &Order) -> Evidence {
    tokio::time::timeout(PATIENCE, gather(vantage, subject, order)).await.unwrap()
}

#[tokio::test]
async fn a_candidate_shows_what_it_serves_to_who_names_nobody() {
    let (mut tasks, dir) = (JoinSet::new(), TempDir::new().unwrap());
    let (peer, default) = (Shown::of(HOST), Shown::of("default.hosting.test"));
    std::fs::write(dir.path().join("ca.pem"), &peer.pem).unwrap();
    let port = port_on(&["127.0.0.5", "127.0.0.6"]).await;
    let (shared, alone) = (acceptor(&peer, &default), acceptor(&peer, &peer));
    host(at("127.0.0.5", port), &mut tasks, move |stream| https(stream, shared.clone())).await;
    host(at("127.0.0.6", port), &mut tasks, move |stream| https(stream, alone.clone())).await;
    let mind: Mind = Arc::new(|name, qtype, _| {
        let servers = ["ns-1.peer.test", "ns-2.peer.test"].map(|server| ns("peer.test", server));
        zone("peer.test", &[&servers[..], &[address(HOST, "127.0.0.5")]].concat(), name, qtype)
    });
    let servers = Servers::start(|ip| vec![(1, root(ip)), (3, mind.clone()), (4, mind.clone())]).await;
    let text = format!(
        "resolver = [\"{}\"]\nindependent = [\"127.0.0.1:1\"]\nroot_hints = [\"{}\"]\nauthority_port = {}\n\
         controls = \"none\"\nca = \"ca.pem\"\nevidence_bound = \"5s\"\nallow_addresses = [\"127.0.0.0/8\"]\n\
         [[peer]]\nname = \"api\"\nurls = [\"https://{HOST}:{port}/\"]\n",
        servers.address(3),
        servers.address(1).ip(),
        servers.port,
    );
    let (vantage, subject) = configured_with(&text, dir.path());
    let asked = Order { known: ips(&["127.0.0.6"]), ..order(Timestamp::UNIX_EPOCH) };
    let evidence = gathered(&vantage, &subject, &asked).await;
    let sites: Vec<_> = evidence
        .default_sites
        .iter()
        .map(|site| (site.address.to_string(), site.names.join(" "), site.is_for_host))
        .collect();
    let found = [("127.0.0.5", "default.hosting.test", false), ("127.0.0.6", HOST, true)];
    assert_eq!(sites, found.map(|(address, names, own)| (address.to_owned(), names.to_owned(), own)));
    for candidate in &evidence.candidates {
        assert!(candidate.is_proved(&evidence.endpoints, candidates::PROOFS), "{candidate:#?}");
    }
    let peace = Order { purpose: Purpose::Baseline, ..asked };
    assert_eq!(gathered(&vantage, &subject, &peace).await.default_sites, []);
}

#[tokio::test]
async fn a_crowd_of_candidates_is_not_asked_twice_over() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let (mut tasks, dir) = (JoinSet::new(), TempDir::new().unwrap());
    let peer = Shown::of(HOST);
    let shown = acceptor(&peer, &peer);
    let everywhere = host(at("0.0.0.0", 0), &mut tasks, move |stream| https(stream, shown.clone())).await;
    let port = everywhere.port();
    let text = format!(
        "resolver = [\"{nobody}\"]\ncontrols = \"none\"\nallow_addresses = [\"127.0.0.0/8\"]\n\
         [[peer]]\nname = \"api\"\nurls = [\"https://{HOST}:{port}/\"]\n"
    );
    let (vantage, subject) = configured_with(&text, dir.path());
    let (found, finds) = Found::channel();
    for last in 100..120 {
        found.send(IpAddr::from([127, 0, 0, last]), Source::Authority);
    }
    drop(found);
    let deadline = Instant::now() + PATIENCE;
    let known = (1..=8).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    let asked = Order { known, ..order(Timestamp::UNIX_EPOCH) };
    let collected = candidates::collect(&vantage, &subject, &asked, deadline, finds).await;
    assert_eq!(collected.candidates.len(), 28);
    let told: Vec<String> = collected.default_sites.iter().map(|site| site.address.to_string()).collect();
    let (known, named) = told.split_at(4);
    assert_eq!(known, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    assert_eq!(named, ["127.0.0.100", "127.0.0.101", "127.0.0.102", "127.0.0.103"]);
}

/// What became of the control over IPv6.
async fn v6_of(control: &str, resolver: SocketAddr, is_routed: fn(SocketAddr) -> bool) -> Option<Reached> {
    let text = format!("allow_addresses = [\"127.0.0.0/8\", \"::1/128\"]\n[[control]]\n{control}");
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let text = format!(
        "resolver = [\"{resolver}\"]\nindependent = [\"{nobody}\"]\n{text}\n\
         [[peer]]\nname = \"api\"\nurls = [\"http://{HOST}:1/\"]\n"
    );
    let (mut vantage, _) = configured_with(&text, FilePath::new("."));
    vantage.is_routed = is_routed;
    let mut told = controls::probe(&vantage).await;
    told.remove(0).v6
}

#[tokio::test]
async fn a_control_is_reached_over_both_families() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut tasks = JoinSet::new();
    let (open, silent, shut) = (port_on(&["::1"]).await, port_on(&["::1"]).await, port_on(&["::1"]).await);
    host(at("::1", open), &mut tasks, swallow).await;
    host(at("::1", silent), &mut tasks, swallow).await;
    let control = |scheme: &str, port: u16| {
        format!("url = \"{scheme}://control.test:{port}/\"\naddress = \"127.0.0.1\"\naddress_v6 = \"::1\"")
    };
    assert_eq!(v6_of(&control("http", open), nobody, |_| true).await, Some(Reached::Yes));
    assert_eq!(v6_of(&control("http", open), nobody, |address| address.is_ipv4()).await, None, "no route");
    let refused = v6_of(&control("http", shut), nobody, |_| true).await;
    assert!(matches!(&refused, Some(Reached::No(why)) if why.contains("refused")), "{refused:?}");
    let stalled = v6_of(&control("https", silent), nobody, |_| true).await;
    assert!(matches!(&stalled, Some(Reached::No(why)) if why.contains("handshake")), "{stalled:?}");

    let unknown = format!("url = \"http://control.test:{open}/\"");
    assert_eq!(v6_of(&unknown, nobody, |_| true).await, None, "no address of it is known");
    let mind: Mind = Arc::new(|name, qtype, _| {
        zone("test", &[address("control.test", "127.0.0.1"), address("control.test", "::1")], name, qtype)
    });
    let named = Servers::start(|_| vec![(1, mind.clone())]).await;
    assert_eq!(v6_of(&unknown, named.address(1), |_| true).await, Some(Reached::Yes), "what its name gives");
}

#[tokio::test]
async fn a_control_with_a_foreign_certificate_was_reached() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut tasks = JoinSet::new();
    let port = port_on(&["::1"]).await;
    let stranger = Shown::of("stranger.test");
    let shown = acceptor(&stranger, &stranger);
    host(at("::1", port), &mut tasks, move |stream| https(stream, shown.clone())).await;
    let control = format!("url = \"https://control.test:{port}/\"\naddress = \"::1\"");
    assert_eq!(v6_of(&control, nobody, |_| true).await, Some(Reached::Yes));
}

/// Sends this again and again.
async fn endless(mut stream: TcpStream, first: &'static [u8], again: &'static [u8]) {
    let mut sent = stream.write_all(first).await;
    while sent.is_ok() {
        sent = stream.write_all(again).await;
    }
}

#[tokio::test]
async fn candidates_that_say_anything_are_on_record_as_what_they_are() {
    let mut tasks = JoinSet::new();
    let hosts = ["127.0.0.41", "127.0.0.42", "127.0.0.43", "127.0.0.44", "127.0.0.45"];
    let port = port_on(&hosts).await;
    let rubbish = Shown::with(HOST, |_| CertificateDer::from(b"no certificate".to_vec()));
    let rubbish = acceptor(&rubbish, &rubbish);
    host(at(hosts[0], port), &mut tasks, swallow).await;
    host(at(hosts[1], port), &mut tasks, |stream| endless(stream, b"HTTP/1.1 200 OK\r\n", b"X-Again: and again\r\n"))
        .await;
    host(at(hosts[2], port), &mut tasks, move |stream| https(stream, rubbish.clone())).await;
    host(at(hosts[3], port), &mut tasks, |stream| endless(stream, b"", &[0x16; 4096])).await;
    host(at(hosts[4], port), &mut tasks, |stream| async move { drop(stream) }).await;
    let text = format!(
        "resolver = [\"127.0.0.1:1\"]\ncontrols = \"none\"\nevidence_bound = \"5s\"\n\
         allow_addresses = [\"127.0.0.0/8\"]\n[[peer]]\nname = \"api\"\n\
         urls = [\"http://127.0.0.40:{port}/\", \"https://127.0.0.40:{port}/\"]\n"
    );
    let (vantage, subject) = configured_with(&text, FilePath::new("."));
    let asked = Order { also: ips(&hosts), ..order(Timestamp::UNIX_EPOCH) };
    let evidence = gathered(&vantage, &subject, &asked).await;
    let told = |address: &str, scheme: &str| {
        let candidate = evidence.candidates.iter().find(|one| one.address.to_string() == address).unwrap();
        let mut proofs = candidate.proofs.iter().filter(|proof| proof.endpoint.starts_with(&format!("{scheme}:")));
        let (proof, more) = (proofs.next().unwrap(), proofs.next());
        assert!(more.is_none(), "the first failure ends it: {candidate:?}");
        let failure = proof.result.failure.as_ref().unwrap();
        (failure.stage, failure.class, proof.result.stalled_after)
    };
    assert_eq!(told(hosts[0], "http"), (Stage::Processing, ErrorClass::Timeout, Some(0)));
    assert_eq!(told(hosts[0], "https"), (Stage::Tls, ErrorClass::Timeout, Some(0)));
    assert_eq!(told(hosts[1], "http"), (Stage::Processing, ErrorClass::TooLarge, None));
    assert_eq!(told(hosts[1], "https"), (Stage::Tls, ErrorClass::Protocol, None));
    assert_eq!(told(hosts[2], "https"), (Stage::Tls, ErrorClass::Protocol, None));
    let (stage, class, _) = told(hosts[3], "https");
    assert!(stage == Stage::Tls && matches!(class, ErrorClass::Protocol | ErrorClass::TooLarge), "{class:?}");
    for scheme in ["http", "https"] {
        assert_eq!(told(hosts[4], scheme).1, ErrorClass::Reset);
    }
    assert_eq!(evidence.default_sites, []);
    assert!(serde_json::to_string(&evidence).unwrap().len() < LINE_BYTES);
}

/// Keeps the head of every request, and answers.
async fn kept(heads: Arc<std::sync::Mutex<Vec<String>>>, mut stream: TcpStream) {
    let mut head = [0; 4096];
    let read = stream.read(&mut head).await.unwrap_or(0);
    heads.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.ok();
}

#[tokio::test]
async fn past_our_override_nobody_gets_a_secret() {
    let (resolver, mut tasks) = (dual_stack().await, JoinSet::new());
    let heads: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let keeper = heads.clone();
    let place = host("127.0.0.1:0".parse().unwrap(), &mut tasks, move |stream| kept(keeper.clone(), stream)).await;
    let (mut vantage, mut subject) = configured(resolver.address(1), resolver.address(1), "controls = \"none\"");
    vantage.is_routed = |address| address.is_ipv4();
    subject.watched[0].endpoint = ukai_probe::Endpoint::parse(&format!("http://{HOST}:{}/", place.port())).unwrap();
    let secret = ukai_probe::Secret::new("hunter2");
    subject.watched[0].request = ukai_probe::Request::default().secret_header("x-key", &secret).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let told = async |gathered: Option<Purpose>, path| {
        let observations = match gathered {
            Some(purpose) => gather(&vantage, &subject, &Order { purpose, ..order(now) }).await.observations,
            None => vantage.observe(&subject, path, now).await,
        };
        assert!(observations.iter().all(|observation| !observation.any_failed()), "{observations:?}");
        let heads = std::mem::take(&mut *heads.lock().unwrap());
        heads.iter().filter(|head| head.contains("hunter2")).count()
    };
    assert_eq!(told(None, Path::Normal).await, 1, "as the application goes");
    assert_eq!(told(None, Path::Bypass).await, 0);
    assert_eq!(told(Some(Purpose::Standing), Path::Bypass).await, 0);
    assert_eq!(told(Some(Purpose::Diagnose), Path::Bypass).await, 1, "without an override it is the application's way");
}
