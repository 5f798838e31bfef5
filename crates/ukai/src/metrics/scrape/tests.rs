use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use ukai_core::metric::DatumValue;

use super::super::Put;
use super::*;
use crate::notify::HttpsOptions;

/// A target that answers each scrape with the next of these; what it was asked comes out of the channel.
async fn target(answers: Vec<String>) -> (Target, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, receiver) = mpsc::channel(answers.len());
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            asked.send(String::from_utf8_lossy(&request[..length]).into_owned()).await.unwrap();
            // Whoever refuses an answer need not read it.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let target = Target {
        url: format!("http://127.0.0.1:{port}/metrics?a=b").parse().unwrap(),
        interval: Duration::from_millis(20),
        namespace: Namespace::new("Prometheus").unwrap(),
        keep: vec![Keep::new("c*"), Keep::new("up")],
        token: Some(Secret::new("hunter2")),
    };
    (target, receiver)
}

fn ok(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn values(put: &Put) -> Vec<(&str, f64)> {
    let value = |value: &DatumValue| match value {
        DatumValue::Single(value) => *value,
        other => panic!("{other:?}"),
    };
    put.data.iter().map(|datum| (&*datum.metric.metric_name, value(&datum.value))).collect()
}

#[tokio::test]
async fn a_target_is_asked_and_answers() {
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (target, mut asked) = target(vec![
        ok("text/plain; version=0.0.4", "# TYPE c_total counter\nc_total 5\nother 1\n"),
        ok(open, "# TYPE c counter\nc_total 7.0 # {trace_id=\"x\"} 1.0\nwrong\n# EOF\n"),
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        ok("text/plain", "\u{0}").replace("Content-Length: 1", "Content-Length: 2"),
    ])
    .await;
    let (intake, mut puts) = Intake::new();
    let client = HttpsClient::new(HttpsOptions::default()).unwrap();
    let running = tokio::spawn(run(target, client, intake.clone()));
    let request = asked.recv().await.unwrap().to_ascii_lowercase();
    for part in
        ["get /metrics?a=b http/1.1\r\n", "authorization: bearer hunter2\r\n", "accept: application/openmetrics-text"]
    {
        assert!(request.contains(part), "{part}: {request}");
    }
    let mut next = async || puts.recv().await.unwrap();
    assert_eq!(values(&next().await), [("up", 1.0)]);
    assert_eq!(values(&next().await), [("up", 1.0), ("c_total", 2.0)]);
    let (refused, why) = intake.refused();
    assert!(refused == 1 && why.unwrap().ends_with("line 3: a sample needs a name and a value"));
    for what in ["refused", "cut", "gone"] {
        assert_eq!(values(&next().await), [("up", 0.0)], "{what}");
    }
    running.abort();
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let (target, _asked) = target(vec![ok("text/plain", &"c 1\n".repeat(BODY_BYTES / 4 + 1))]).await;
    let client = HttpsClient::new(HttpsOptions::default()).unwrap();
    let why = fetch(&Target { interval: TIMEOUT, ..target }, &client).await.unwrap_err();
    assert!(why.contains("16777216 bytes"), "{why}");
}
