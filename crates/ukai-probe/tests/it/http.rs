//! The `processing` and `transfer` stages of peers that mean well.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::json;
use ukai_core::observe::{ErrorClass, Stage};
use ukai_probe::{
    BodyRegex, Expectation, HeaderExpectation, JsonExpectation, Method, Request, Secret, StatusSet, USER_AGENT, explain,
};

use crate::authority::{Authority, HOST};
use crate::server::{Server, Visit, assert_failure, assert_success, text};

#[tokio::test]
async fn both_versions_of_http_say_the_endpoints_host() {
    let lab = Authority::new("lab");
    for (protocol, version) in [("http/1.1", "HTTP/1.1"), ("h2", "HTTP/2")] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = Server::https(lab.leaf(HOST).config(&[protocol]), move |request| {
            let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
            let host = host.or(request.uri().authority().map(ToString::to_string));
            let path = request.uri().path_and_query().unwrap().to_string();
            let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
            log.lock().unwrap().push((host.unwrap(), path, agent));
            text("ok")
        })
        .await;
        let mut visit = Visit::new(&server, "https").trusting(&lab);
        visit.endpoint = server.endpoint_of(&format!("https://{HOST}"), "/v1/status?full=1");
        let result = visit.go().await;
        assert_success(&result);
        let http = result.http.unwrap();
        assert_eq!((http.status, http.version.as_str(), http.body_bytes), (200, version, 2));
        assert_eq!(http.body_sha256.unwrap(), "2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df");
        assert!(http.date.is_some());
        let host = format!("{HOST}:{}", server.address.port());
        let expected = (host, "/v1/status?full=1".to_owned(), USER_AGENT.to_owned());
        assert_eq!(*seen.lock().unwrap(), [expected]);
    }
}

#[tokio::test]
async fn a_redirect_is_recorded_and_not_followed() {
    let target = Server::http(|_| text("here")).await;
    let location = format!("http://{}/login?token=hunter2", target.address);
    let server = Server::http(move |_| {
        let response = Response::builder().status(302).header("location", &location);
        response.body(Full::from("")).unwrap()
    })
    .await;
    let result = server.probe_http().await;
    assert_success(&result);
    let http = result.http.unwrap();
    assert_eq!(http.status, 302);
    assert_eq!(http.location.unwrap(), format!("http://{}/login", target.address));
    assert_eq!(target.accepted(), 0);

    let expectation = Expectation { status: StatusSet::parse(&["200"]).unwrap(), ..Expectation::default() };
    let result = Visit::new(&server, "http").expecting(expectation).go().await;
    let detail = assert_failure(&result, Stage::Processing, ErrorClass::HttpStatus);
    assert!(detail.starts_with("it answered 302 Found, and 200 was expected; it redirects to"));
    assert!(!detail.contains("hunter2"));
}

#[tokio::test]
async fn secrets_go_only_where_they_may() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Server::http(move |request| {
        let header = |name: &str| request.headers().get(name).cloned();
        log.lock().unwrap().push((header("authorization"), header("x-tenant")));
        let status = if request.headers().contains_key("authorization") { 200 } else { 401 };
        Response::builder().status(status).body(Full::from("")).unwrap()
    })
    .await;
    let with = Request::default()
        .header("x-tenant", "blue")
        .unwrap()
        .secret_header("authorization", &Secret::new("Bearer hunter2"))
        .unwrap();
    let result = Visit::new(&server, "http").sending(with.clone()).go().await;
    assert_success(&result);
    assert!(!format!("{result:?}").contains("hunter2"));

    let baseline = Expectation { status: StatusSet::parse(&["401"]).unwrap(), ..Expectation::default() };
    let visit = Visit::new(&server, "http").sending(with.without_secrets());
    assert_success(&visit.expecting(baseline).go().await);

    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0.as_ref().unwrap(), "Bearer hunter2");
    assert_eq!(seen[1].0, None);
    assert_eq!(seen[1].1.as_ref().unwrap(), "blue");
}

#[tokio::test]
async fn a_bad_status_carries_its_facts() {
    let server = Server::http(|_| {
        Response::builder()
            .status(503)
            .header("retry-after", "120")
            .header("server", "nginx\u{9}x")
            .header("via", "1.1 squid")
            .body(Full::from("down"))
            .unwrap()
    })
    .await;
    let result = server.probe_http().await;
    let detail = assert_failure(&result, Stage::Processing, ErrorClass::HttpStatus);
    assert_eq!(detail, "it answered 503 Service Unavailable, and 200–399 was expected");
    let http = result.http.as_ref().unwrap();
    assert_eq!(http.retry_after_s, Some(120));
    assert_eq!(http.server.as_deref(), Some("nginx\\tx"));
    assert_eq!(http.proxy.as_deref(), Some("Via: 1.1 squid"));
    assert_eq!(http.body_bytes, 4);
    let sentence = explain(&server.endpoint("http"), &result);
    assert!(sentence.contains("but it answered 503 Service Unavailable"), "{sentence}");
}

#[tokio::test]
async fn a_proxy_that_wants_to_be_paid_is_reported() {
    let server = Server::http(|_| {
        let response = Response::builder().status(407).header("proxy-authenticate", "Basic");
        response.body(Full::from("")).unwrap()
    })
    .await;
    let result = server.probe_http().await;
    let detail = assert_failure(&result, Stage::Processing, ErrorClass::HttpStatus);
    assert!(detail.contains("a proxy stands between"), "{detail}");
    assert!(result.http.unwrap().proxy.unwrap().starts_with("407 Proxy Authentication Required"));
}

#[tokio::test]
async fn every_kind_of_expectation_is_met_and_missed() {
    let server = Server::http(|_| {
        let response = Response::builder().header("x-region", "eu-1");
        response.body(Full::from(r#"{"status":"ok","nodes":[1,2]}"#)).unwrap()
    })
    .await;
    let with = |change: &dyn Fn(&mut Expectation)| {
        let mut expectation = Expectation::default();
        change(&mut expectation);
        Visit::new(&server, "http").expecting(expectation).go()
    };
    let header = |rule: Result<HeaderExpectation, _>| vec![rule.unwrap()];
    let met = [
        with(&|e| e.status = StatusSet::parse(&["200-204"]).unwrap()).await,
        with(&|e| e.headers = header(HeaderExpectation::exact("X-Region", "eu-1"))).await,
        with(&|e| e.headers = header(HeaderExpectation::matches("x-region", "^eu"))).await,
        with(&|e| e.body_contains = Some("\"ok\"".to_owned())).await,
        with(&|e| e.body_regex = Some(BodyRegex::new(r"nodes.:\[\d").unwrap())).await,
        with(&|e| e.body_json = Some(JsonExpectation::equals("$.status", json!("ok")).unwrap())).await,
        with(&|e| e.max_time = Some(Duration::from_secs(60))).await,
    ];
    for result in &met {
        assert_success(result);
    }
    let missed = [
        (with(&|e| e.status = StatusSet::parse(&["204"]).unwrap()).await, ErrorClass::HttpStatus),
        (with(&|e| e.headers = header(HeaderExpectation::exact("x-region", "us"))).await, ErrorClass::HeaderMismatch),
        (
            with(&|e| e.headers = header(HeaderExpectation::matches("x-region", "^us"))).await,
            ErrorClass::HeaderMismatch,
        ),
        (with(&|e| e.body_contains = Some("ill".to_owned())).await, ErrorClass::BodyMismatch),
        (with(&|e| e.body_regex = Some(BodyRegex::new("^x").unwrap())).await, ErrorClass::BodyMismatch),
        (
            with(&|e| e.body_json = Some(JsonExpectation::equals("$.nodes[0]", json!(2)).unwrap())).await,
            ErrorClass::BodyMismatch,
        ),
        (with(&|e| e.max_time = Some(Duration::ZERO)).await, ErrorClass::TooSlow),
    ];
    for (result, class) in &missed {
        assert_eq!(result.failure.as_ref().unwrap().class, *class);
        assert_eq!(result.http.as_ref().unwrap().status, 200);
    }
}

#[tokio::test]
async fn head_has_no_body_to_wait_for() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n").await;
    let visit = Visit::new(&server, "http").sending(Request::new(Method::Head));
    let result = visit.go().await;
    assert_success(&result);
    assert_eq!(result.http.unwrap().body_bytes, 0);
}

#[tokio::test]
async fn a_parking_page_is_not_the_peer() {
    const PAGE: &str = "<html><title>Welcome</title><a href=/>Buy this domain</a></html>";
    for status in [200, 404] {
        let server = Server::http(move |_| html(status, PAGE)).await;
        let result = server.probe_http().await;
        let detail = assert_failure(&result, Stage::Transfer, ErrorClass::Parked);
        assert!(detail.contains("buy this domain"), "{detail}");
    }
    let server = Server::http(|_| {
        let response = Response::builder().status(302).header("location", "https://www.sedo.com/x?y");
        response.body(Full::from("")).unwrap()
    })
    .await;
    assert_failure(&server.probe_http().await, Stage::Processing, ErrorClass::Parked);

    let server = Server::http(|_| html(200, PAGE)).await;
    let expectation = Expectation::default().body_containing("Welcome").unwrap();
    assert_success(&Visit::new(&server, "http").expecting(expectation).go().await);
}

fn html(status: u16, page: &'static str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "text/html");
    response.body(Full::from(page)).unwrap()
}
