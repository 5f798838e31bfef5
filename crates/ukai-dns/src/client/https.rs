//! One question over HTTPS (RFC 8484): a POST on a connection of its own, HTTP/2 if the server speaks it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{AskError, Query};
use crate::message::MAX_MESSAGE;

const MEDIA_TYPE: &str = "application/dns-message";

pub(super) async fn exchange(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    server_name: Option<&str>,
    path: &str,
    query: &Query<'_>,
) -> Result<(Vec<u8>, u32), AskError> {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let authority = authority(address, server_name);
    let request = request(http2, &authority, path, query)?;
    let response = send(stream, http2, request).await?;
    let bytes = body(response).await?;
    if !query.is_answered_by(&bytes) {
        return Err(AskError::Malformed("the body is not a reply to the query".to_owned()));
    }
    Ok((bytes, 0))
}

fn request(http2: bool, authority: &str, path: &str, query: &Query<'_>) -> Result<Request<Full<Bytes>>, AskError> {
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

/// The connection lives as long as the response is read: both are driven here, and both end with the caller's time-out.
async fn send(stream: TlsStream<TcpStream>, http2: bool, request: Request<Full<Bytes>>) -> Result<Exchange, AskError> {
    let io = TokioIo::new(stream);
    let mut tasks = tokio::task::JoinSet::new();
    let response = if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(http_error)?;
        tasks.spawn(async move { drop(connection.await) });
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(http_error)?;
        tasks.spawn(async move { drop(connection.await) });
        sender.send_request(request).await
    };
    Ok(Exchange { response: response.map_err(http_error)?, _connection: tasks })
}

struct Exchange {
    response: Response<Incoming>,
    _connection: tokio::task::JoinSet<()>,
}

async fn body(exchange: Exchange) -> Result<Vec<u8>, AskError> {
    let Exchange { response, _connection } = exchange;
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
