//! One question over HTTPS (RFC 8484): a POST, by HTTP/2 if the server speaks it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{AskError, Query};
use crate::message::MAX_MESSAGE;

const MEDIA_TYPE: &str = "application/dns-message";

/// Who is asked, and where.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub address: SocketAddr,
    pub path: &'a str,
    pub server_name: Option<&'a str>,
}

/// On a new connection. One of HTTP/2 is given to `keep`, and then lives as long as it is kept.
pub(super) async fn exchange(
    stream: TlsStream<TcpStream>,
    target: Target<'_>,
    query: &Query<'_>,
    keep: impl FnOnce(http2::SendRequest<Full<Bytes>>),
) -> Result<(Vec<u8>, u32), AskError> {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let request = request(is_http2, target, query)?;
    let io = TokioIo::new(stream);
    if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(http_error)?;
        // It ends when nobody can send on it any more.
        tokio::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(http_error)?;
        let reply = read(response, query).await?;
        keep(sender);
        return Ok(reply);
    }
    let (mut sender, connection) = http1::handshake(io).await.map_err(http_error)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(http_error)?;
    read(response, query).await
}

/// On a connection of HTTP/2 that was kept.
pub(super) async fn exchange_again(
    mut sender: http2::SendRequest<Full<Bytes>>,
    target: Target<'_>,
    query: &Query<'_>,
) -> Result<(Vec<u8>, u32), AskError> {
    let request = request(true, target, query)?;
    read(sender.send_request(request).await.map_err(http_error)?, query).await
}

async fn read(response: Response<Incoming>, query: &Query<'_>) -> Result<(Vec<u8>, u32), AskError> {
    let bytes = body(response).await?;
    if !query.is_answered_by(&bytes) {
        return Err(AskError::Malformed("the body is not a reply to the query".to_owned()));
    }
    Ok((bytes, 0))
}

fn request(http2: bool, target: Target<'_>, query: &Query<'_>) -> Result<Request<Full<Bytes>>, AskError> {
    let (authority, path) = (authority(target.address, target.server_name), target.path);
    let mut builder = Request::post(if http2 { format!("https://{authority}{path}") } else { path.to_owned() })
        .header(header::CONTENT_TYPE, MEDIA_TYPE)
        .header(header::ACCEPT, MEDIA_TYPE);
    if !http2 {
        builder = builder.header(header::HOST, authority);
    }
    builder.body(Full::new(Bytes::copy_from_slice(&query.bytes))).map_err(|error| AskError::Http(error.to_string()))
}

fn authority(address: SocketAddr, server_name: Option<&str>) -> String {
    let host = match (server_name, address) {
        (Some(name), _) => name.to_owned(),
        (None, SocketAddr::V4(address)) => address.ip().to_string(),
        (None, SocketAddr::V6(address)) => format!("[{}]", address.ip()),
    };
    match address.port() {
        443 => host,
        port => format!("{host}:{port}"),
    }
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, AskError> {
    if response.status() != hyper::StatusCode::OK {
        return Err(AskError::HttpStatus(response.status().as_u16()));
    }
    let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(MEDIA_TYPE)) {
        return Err(AskError::Http(format!(
            "the body is {}, not {MEDIA_TYPE}",
            media_type.unwrap_or("of no stated type")
        )));
    }
    let collected = Limited::new(response.into_body(), MAX_MESSAGE)
        .collect()
        .await
        .map_err(|error| AskError::Http(error.to_string()))?;
    Ok(collected.to_bytes().to_vec())
}

fn http_error(error: hyper::Error) -> AskError {
    AskError::Http(error.to_string())
}
