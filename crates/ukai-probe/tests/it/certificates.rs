//! The `tls` stage: who answered, and whether that is who was asked.

use rcgen::date_time_ymd;
use rustls::version::{TLS12, TLS13};
use ukai_core::observe::{ErrorClass, Stage};
use ukai_probe::{ClientCertificate, Expectation, Request, Secret, explain};

use crate::authority::{Authority, HOST, Leaf};
use crate::server::{Server, Visit, assert_failure, assert_success, swallow, text};

#[tokio::test]
async fn a_private_ca_is_trusted_when_it_is_given() {
    let lab = Authority::new("lab");
    let server = serving(&lab.leaf(HOST)).await;
    let result = server.probe("https", &lab).await;
    assert_success(&result);
    let identity = result.identity.unwrap();
    assert!(identity.verified);
    assert_eq!(identity.names, [HOST]);
    assert_eq!(identity.issuer, "CN=lab");
    assert_eq!(identity.chain_length, 1);
    assert_eq!(identity.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(identity.alpn.as_deref(), Some("h2"));
    assert!(result.timings.transfer_us.is_some());
}

#[tokio::test]
async fn tls_alone_asks_for_no_http() {
    let lab = Authority::new("lab");
    let config = lab.leaf(HOST).config_of(&[&TLS12], &[]);
    let server = Server::tls(config, |mut stream| async move { swallow(&mut stream).await }).await;
    let result = server.probe("tls", &lab).await;
    assert_success(&result);
    let identity = result.identity.as_ref().unwrap();
    assert_eq!(identity.version.as_deref(), Some("TLSv1.2"));
    assert_eq!(identity.alpn, None);
    assert_eq!(result.http, None);
    assert!(explain(&server.endpoint("tls"), &result).contains("proved that it is api.peer.test"));
}

#[tokio::test]
async fn an_address_as_host_needs_a_certificate_for_the_address() {
    let lab = Authority::new("lab");
    let server = serving(&lab.leaf("127.0.0.1")).await;
    let mut visit = Visit::new(&server, "https").trusting(&lab);
    visit.endpoint = server.endpoint_of("https://127.0.0.1", "/");
    assert_success(&visit.go().await);
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let lab = Authority::new("lab");
    let server = serving(&lab.leaf("other.test")).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::NameMismatch);
    assert_eq!(detail, "the TLS certificate is for other.test, not api.peer.test");
    let identity = result.identity.as_ref().unwrap();
    assert!(!identity.verified);
    assert_eq!(identity.names, ["other.test"]);
    assert_eq!(result.http, None);
    let sentence = explain(&server.endpoint("https"), &result);
    assert!(sentence.starts_with("Connected to 127.0.0.1 in "), "{sentence}");
    assert!(sentence.ends_with(", but the TLS certificate is for other.test, not api.peer.test."));
}

#[tokio::test]
async fn certificates_out_of_date() {
    let lab = Authority::new("lab");
    let expired = lab.leaf_with(vec![HOST.to_owned()], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let result = serving(&expired).await.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::Expired);
    assert!(detail.contains("2021-01-01 00:00 UTC"), "{detail}");
    assert!(!result.identity.unwrap().verified);

    let early = lab.leaf_with(vec![HOST.to_owned()], |params| {
        params.not_before = date_time_ymd(2300, 1, 1);
        params.not_after = date_time_ymd(2301, 1, 1);
    });
    let result = serving(&early).await.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::NotYetValid);
    assert!(detail.contains("2300-01-01 00:00 UTC"), "{detail}");
}

#[tokio::test]
async fn a_strangers_expired_certificate_is_first_of_all_a_strangers() {
    let (lab, stranger) = (Authority::new("lab"), Authority::new("stranger"));
    let date = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2021, 1, 1);
    let unknown = stranger.leaf_with(vec![HOST.to_owned()], date);
    let result = serving(&unknown).await.probe("https", &lab).await;
    assert_failure(&result, Stage::Tls, ErrorClass::UntrustedIssuer);

    let other = lab.leaf_with(vec!["other.test".to_owned()], date);
    let result = serving(&other).await.probe("https", &lab).await;
    assert_failure(&result, Stage::Tls, ErrorClass::NameMismatch);
}

#[tokio::test]
async fn certificates_that_nobody_vouches_for() {
    let lab = Authority::new("lab");
    let unknown = Authority::new("stranger").leaf(HOST);
    let result = serving(&unknown).await.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::UntrustedIssuer);
    assert!(detail.ends_with("not trusted here: CN=stranger"), "{detail}");
    assert_eq!(result.identity.unwrap().issuer, "CN=stranger");

    for says_it_is_a_ca in [false, true] {
        let own = Leaf::self_signed(HOST, says_it_is_a_ca);
        let result = serving(&own).await.probe("https", &lab).await;
        assert_failure(&result, Stage::Tls, ErrorClass::SelfSigned);
        assert!(!result.identity.unwrap().verified);
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_identity() {
    let lab = Authority::new("lab");
    let config = lab.leaf(HOST).config_with_key_of(&lab.leaf("thief.test"));
    let server = Server::https(config, |_| text("ok")).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::UntrustedIssuer);
    assert_eq!(detail, "it shows a TLS certificate whose key it does not hold");
    assert!(!result.identity.unwrap().verified);
}

#[tokio::test]
async fn a_certificate_with_ten_thousand_names_is_counted_and_cut() {
    let lab = Authority::new("lab");
    let mut names = (0..9_999).map(|index| format!("{index:x}")).collect::<Vec<_>>();
    names.push(HOST.to_owned());
    let server = serving(&lab.leaf_with(names.clone(), |_| {})).await;
    let result = server.probe("https", &lab).await;
    assert_success(&result);
    let identity = result.identity.unwrap();
    assert_eq!((identity.names.len(), identity.names_total), (100, 10_000));

    names.pop();
    let server = serving(&lab.leaf_with(names, |_| {})).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::NameMismatch);
    assert_eq!(detail, "the TLS certificate is for 0, 1, 2 and 9996 more, not api.peer.test");
}

#[tokio::test]
async fn a_chain_beyond_the_bound_is_not_read() {
    let lab = Authority::new("lab");
    let mut leaf = lab.leaf(HOST);
    leaf.chain = vec![leaf.chain[0].clone(); 300];
    let server = serving(&leaf).await;
    let result = server.probe("https", &lab).await;
    assert_failure(&result, Stage::Tls, ErrorClass::TooLarge);
    assert_eq!(result.identity, None);
}

#[tokio::test]
async fn a_certificate_that_expires_soon() {
    let lab = Authority::new("lab");
    let leaf = lab.leaf_with(vec![HOST.to_owned()], |params| params.not_after = date_time_ymd(2300, 1, 1));
    let server = serving(&leaf).await;
    let days = |days| Expectation { certificate_days: Some(days), ..Expectation::default() };
    let visit = || Visit::new(&server, "https").trusting(&lab);
    assert_success(&visit().expecting(days(30)).go().await);

    let result = visit().expecting(days(1_000_000)).go().await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::ExpiresSoon);
    assert!(detail.ends_with("at least 1000000 days were expected"), "{detail}");
    assert_eq!(result.http.as_ref().unwrap().status, 200);
    assert!(result.identity.unwrap().verified);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_may_be() {
    let (lab, clients) = (Authority::new("lab"), Authority::new("clients"));
    let own = clients.client_leaf();
    let key = Secret::new(own.key.serialize_pem());
    let certificate = ClientCertificate::from_pem(own.chain_pem().as_bytes(), &key).unwrap();
    let with = Request::default().client_certificate(certificate);
    for version in [&TLS12, &TLS13] {
        let config = lab.leaf(HOST).config_for_clients(&clients, &[version]);
        let server = Server::https(config, |_| text("ok")).await;
        let visit = || Visit::new(&server, "https").trusting(&lab);

        assert_success(&visit().sending(with.clone()).go().await);
        for without in [Request::default(), with.without_secrets()] {
            let result = visit().sending(without).go().await;
            let detail = assert_failure(&result, Stage::Tls, ErrorClass::TlsAlert);
            assert!(detail.starts_with("it ended TLS with the alert "), "{detail}");
            assert!(result.identity.unwrap().verified, "who refused us is known");
        }
    }
}

async fn serving(leaf: &Leaf) -> Server {
    Server::https(leaf.config(&["h2", "http/1.1"]), |_| text("ok")).await
}
