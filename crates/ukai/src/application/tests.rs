use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use jiff::Timestamp;
use std::time::Instant;
use ukai_core::metric::Namespace;

use super::*;
use crate::application::calls::{BODY_BYTES, CALLS_PER_REQUEST, ERROR_CHARACTERS, PATH};
use crate::application::rate::{RATE_BURST, RATE_PER_SECOND, Rate};
use crate::metrics::otlp::Options;
use crate::metrics::{Put, deflate};

const TOKEN: &str = "hunter2";

#[tokio::test]
async fn a_call_reaches_the_engine() {
    let (address, mut calls) = listen(8).await;
    let call = json!({"peer": "api", "host": "API.peer.test.", "ok": true, "address": "127.0.0.9", "error": null});
    assert_eq!(post(address, TOKEN, &call).await.0, 204);
    let reported = calls.recv().await.unwrap();
    assert_eq!((reported.peer.as_str(), reported.call.ok), ("api", true));
    assert_eq!(reported.call.address, "127.0.0.9".parse().ok());
    let failed =
        json!([{"peer": "api", "host": "api.peer.test", "ok": false, "error": "line\n\u{1b}[31m".repeat(100)}]);
    assert_eq!(post(address, TOKEN, &failed).await.0, 204);
    let error = calls.recv().await.unwrap().call.error.unwrap();
    assert_eq!(error.chars().count(), ERROR_CHARACTERS + 1);
    assert!(!error.contains(char::is_control), "{error}");
}

#[tokio::test]
async fn every_refusal_is_a_sentence() {
    let (address, mut calls) = listen(8).await;
    let good = json!({"peer": "api", "host": "api.peer.test", "ok": true});
    let many = Value::Array(vec![good.clone(); CALLS_PER_REQUEST + 1]);
    let cases = [
        (request("POST", "/v1/elsewhere", TOKEN, &good.to_string()), 404),
        (request("GET", PATH, TOKEN, ""), 405),
        (request("POST", PATH, "wrong", &good.to_string()), 401),
        (request("POST", PATH, "", &good.to_string()), 401),
        (request("POST", PATH, TOKEN, "{"), 400),
        (request("POST", PATH, TOKEN, &json!({"peer": "api", "host": "api.peer.test"}).to_string()), 400),
        (
            request(
                "POST",
                PATH,
                TOKEN,
                &json!({"peer": "api", "host": "api.peer.test", "ok": true, "x": 1}).to_string(),
            ),
            400,
        ),
        (request("POST", PATH, TOKEN, &json!({"peer": "api", "host": "evil.test", "ok": true}).to_string()), 400),
        (request("POST", PATH, TOKEN, &json!({"peer": "none", "host": "api.peer.test", "ok": true}).to_string()), 404),
        (request("POST", PATH, TOKEN, &many.to_string()), 400),
        (request("POST", PATH, TOKEN, &" ".repeat(BODY_BYTES + 1)), 413),
    ];
    for (request, status) in cases {
        let (found, body) = exchange(address, &request).await;
        assert_eq!(found, status, "{}", &request[..request.len().min(300)]);
        assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}");
    }
    assert!(calls.try_recv().is_err(), "nothing of that reached the engine");
}

#[tokio::test]
async fn a_chunked_body_has_the_same_bound() {
    let (address, _calls) = listen(8).await;
    let chunk = format!("{:x}\r\n{}\r\n", 8192, " ".repeat(8192));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: ukai\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let (status, _) = exchange(address, &format!("{head}{}0\r\n\r\n", chunk.repeat(3))).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_full_queue_takes_all_of_a_request_or_nothing() {
    let (address, mut calls) = listen(2).await;
    let good = json!({"peer": "api", "host": "api.peer.test", "ok": true});
    assert_eq!(post(address, TOKEN, &Value::Array(vec![good.clone(); 3])).await.0, 429);
    assert!(calls.try_recv().is_err());
    assert_eq!(post(address, TOKEN, &Value::Array(vec![good; 2])).await.0, 204);
    assert!(calls.try_recv().is_ok() && calls.try_recv().is_ok());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (address, _calls) = listen(1).await;
    let (_keep, hosts) = watch::channel(BTreeMap::new());
    let refused = ApplicationListener::bind(address, Secret::new(TOKEN), destinations(hosts, mpsc::channel(1).0).0)
        .await
        .unwrap_err();
    let sentence = refused.to_string();
    assert!(sentence.contains(&address.to_string()) && sentence.contains("in use"), "{sentence}");
}

#[test]
fn the_rate_is_bounded_and_comes_back() {
    let start = Instant::now();
    let mut rate = Rate::full(start);
    assert_eq!((0..RATE_BURST + 50).filter(|_| rate.take(start)).count(), RATE_BURST as usize);
    let later = start + Duration::from_secs(1);
    assert_eq!((0..RATE_BURST).filter(|_| rate.take(later)).count(), RATE_PER_SECOND as usize);
}

/// A listener, the calls that come out of it, and the metrics.
async fn listen(queue: usize) -> (SocketAddr, mpsc::Receiver<Reported>) {
    let (address, calls, _) = listen_for_metrics(queue).await;
    (address, calls)
}

async fn listen_for_metrics(queue: usize) -> (SocketAddr, mpsc::Receiver<Reported>, mpsc::Receiver<Put>) {
    let (calls, receiver) = mpsc::channel(queue);
    let (keep, hosts) = watch::channel(BTreeMap::from([("api".to_owned(), "api.peer.test".to_owned())]));
    let (destinations, puts) = destinations(hosts, calls);
    let listen = "127.0.0.1:0".parse().unwrap();
    let listener = ApplicationListener::bind(listen, Secret::new(TOKEN), destinations).await.unwrap();
    let address = listener.local_address().unwrap();
    tokio::spawn(async move {
        listener.run().await;
        drop(keep);
    });
    (address, receiver, puts)
}

fn destinations(
    hosts: watch::Receiver<BTreeMap<String, String>>,
    calls: mpsc::Sender<Reported>,
) -> (Destinations, mpsc::Receiver<Put>) {
    let (intake, puts) = Intake::new();
    let options = Options { namespace: Namespace::new("OTel").unwrap(), dimensions: None };
    let otlp = OtlpReceiver::new(watch::channel(options).1, intake.clone(), Timestamp::now());
    (Destinations { hosts, calls, intake, otlp }, puts)
}

async fn post(address: SocketAddr, token: &str, body: &Value) -> (u16, Value) {
    exchange(address, &request("POST", PATH, token, &body.to_string())).await
}

fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: ukai\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn exchange(address: SocketAddr, request: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A refusal can come before all of a large body is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn event(value: &str) -> String {
    let ms = Timestamp::now().as_millisecond();
    format!(
        "{{\"_aws\":{{\"Timestamp\":{ms},\"CloudWatchMetrics\":[{{\"Namespace\":\"N\",\"Dimensions\":[[]],\"Metrics\":[{{\"Name\":\"m\"}}]}}]}},\"m\":{value}}}"
    )
}

#[tokio::test]
async fn emf_lines_are_taken_and_bad_ones_are_told() {
    let (address, _calls, mut puts) = listen_for_metrics(8).await;
    let body = format!("{}\n\nno event\n{}\n{}\n", event("1"), event("\"x\""), event("[2, 3]"));
    let (status, answer) = exchange(address, &request("POST", "/v1/emf", TOKEN, &body)).await;
    assert_eq!((status, &answer["lines"], &answer["data"], &answer["refused"]), (200, &json!(4), &json!(2), &json!(2)));
    assert_eq!((&answer["errors"][0]["line"], &answer["errors"][1]["line"]), (&json!(3), &json!(4)));
    assert!(answer["errors"][1]["error"].as_str().unwrap().contains("Metrics[0]: the member \"m\""), "{answer}");
    assert_eq!(puts.recv().await.unwrap().data.len(), 2);
    let (status, answer) = exchange(address, &request("POST", "/v1/emf", TOKEN, "no event\n")).await;
    assert_eq!((status, &answer["refused"]), (400, &json!(1)));
    assert!(puts.try_recv().is_err());
}

#[tokio::test]
async fn metric_data_is_taken_whole_or_refused_in_cloudwatchs_words() {
    let (address, _calls, mut puts) = listen_for_metrics(8).await;
    let good = json!({"MetricName": "m", "Value": 1});
    let both = json!({"MetricName": "m", "Value": 1, "Values": [1]});
    let body = |data: &[&Value]| json!({"Namespace": "N", "MetricData": data}).to_string();
    let path = "/v1/metric-data";
    let (status, answer) = exchange(address, &request("POST", path, TOKEN, &body(&[&good, &both]))).await;
    assert_eq!((status, answer["__type"].as_str()), (400, Some("InvalidParameterCombination")));
    assert_eq!(
        answer["message"],
        "The parameters MetricData.member.2.Value and MetricData.member.2.Values are mutually exclusive and you have specified both."
    );
    assert!(puts.try_recv().is_err(), "nothing half taken");
    assert_eq!(exchange(address, &request("POST", path, TOKEN, &body(&[&good]))).await.0, 204);
    assert_eq!(puts.recv().await.unwrap().data.len(), 1);
    let large = " ".repeat(1024 * 1024 + 1);
    for path in [path, "/v1/emf", "/v1/metrics"] {
        let large =
            request("POST", path, TOKEN, &large).replace("Host: ukai", "Host: ukai\r\nContent-Type: application/json");
        assert_eq!(exchange(address, &large).await.0, 413, "{path}");
        assert_eq!(exchange(address, &request("POST", path, "wrong", "{}")).await.0, 401, "{path}");
        assert_eq!(exchange(address, &request("GET", path, TOKEN, "")).await.0, 405, "{path}");
    }
}

#[tokio::test]
async fn otlp_answers_in_the_encoding_of_the_request() {
    let (address, _calls, mut puts) = listen_for_metrics(8).await;
    let post = |kind: &str, more: &str, body: &[u8]| {
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nHost: ukai\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let points = json!([{"asInt": "1"}, {"asDouble": "NaN"}]);
    let body =
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "g", "gauge": {"dataPoints": points}}]}]}]});
    let body = body.to_string().into_bytes();
    let (status, head, answer) = exchange_bytes(address, &post("application/json; charset=utf-8", "", &body)).await;
    assert!(status == 200 && head.contains("content-type: application/json"), "{head}");
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
    assert_eq!(puts.recv().await.unwrap().data.len(), 1);

    let gzip = deflate(&body);
    let (status, _, _) = exchange_bytes(address, &post("application/json", "Content-Encoding: gzip\r\n", &gzip)).await;
    assert_eq!((status, puts.recv().await.unwrap().data.len()), (200, 1));
    let bomb = deflate(&vec![b' '; 8 << 20]);
    let (status, head, answer) =
        exchange_bytes(address, &post("application/x-protobuf", "Content-Encoding: gzip\r\n", &bomb)).await;
    assert!(status == 413 && head.contains("content-type: application/x-protobuf"), "{head}");
    // google.rpc.Status: field 1 is RESOURCE_EXHAUSTED, field 2 the message.
    assert!(answer.starts_with(&[0x08, 8, 0x12]), "{answer:?}");
    let (status, _, answer) = exchange_bytes(address, &post("application/x-protobuf", "", b"\xff")).await;
    assert!(status == 400 && answer.starts_with(&[0x08, 3]), "{answer:?}");
    assert_eq!(exchange_bytes(address, &post("text/plain", "", &body)).await.0, 415);
    assert_eq!(exchange_bytes(address, &post("application/json", "Content-Encoding: br\r\n", &body)).await.0, 415);
    let broken = exchange_bytes(address, &post("application/json", "Content-Encoding: gzip\r\n", &body)).await;
    assert_eq!(broken.0, 400);
    assert!(puts.try_recv().is_err());
}

#[tokio::test]
async fn a_full_queue_of_metrics_asks_to_come_again() {
    let (address, _calls, mut puts) = listen_for_metrics(8).await;
    let body = json!({"Namespace": "N", "MetricData": [{"MetricName": "m", "Value": 1}]}).to_string();
    let post = async || exchange_bytes(address, request("POST", "/v1/metric-data", TOKEN, &body).as_bytes()).await;
    let mut taken = 0;
    let head = loop {
        let (status, head, _) = post().await;
        if status != 204 {
            break head;
        }
        taken += 1;
    };
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("retry-after: 1"), "{head}");
    assert_eq!(std::iter::from_fn(|| puts.try_recv().ok()).count(), taken);
    assert_eq!(post().await.0, 204);
}

async fn exchange_bytes(address: SocketAddr, request: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, answer[end + 4..].to_vec())
}
