//! The receiver of the drill's notifications: an ordinary webhook that keeps what came.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpStream;

use super::http::{Answer, serve_connection};
use super::request_log::Notification;
use super::{Live, lock};

/// Larger messages than any chat takes are refused.
const MAX_BODY: usize = 1 << 20;
/// A drill that notifies more often than this is wrong anyway, and is told so with 503.
const MAX_NOTIFICATIONS: usize = 1_000;

pub(super) async fn serve(live: Arc<Live>, stream: TcpStream) {
    let service = hyper::service::service_fn(move |request| {
        let live = live.clone();
        async move { Ok::<_, Infallible>(receive(&live, request).await) }
    });
    serve_connection(stream, false, service).await;
}

async fn receive(live: &Live, request: Request<Incoming>) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || parts.uri.path() != "/hook" {
        return status(StatusCode::NOT_FOUND);
    }
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let notification = Notification {
        at: Timestamp::now(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    let mut notifications = lock(&live.notifications);
    if notifications.len() >= MAX_NOTIFICATIONS {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    notifications.push(notification);
    status(StatusCode::OK)
}

fn status(code: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(""));
    *response.status_mut() = code;
    response
}
