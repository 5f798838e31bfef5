//! One question over a stream (RFC 7766): TCP, or TLS over TCP.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{AskError, Query};

/// Messages on our own connection that are no answer to our only question; after so many the server is not worth it.
const MAX_MISMATCHED: u32 = 16;

pub(super) async fn connect(server: SocketAddr) -> Result<TcpStream, AskError> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) async fn exchange<S>(stream: &mut S, query: &Query<'_>) -> Result<(Vec<u8>, u32), AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Length and message in one write: RFC 7766 section 8.
    let mut framed = u16::try_from(query.bytes.len())
        .map_err(|_| AskError::Malformed("the query is too long".to_owned()))?
        .to_be_bytes()
        .to_vec();
    framed.extend_from_slice(&query.bytes);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    for mismatched in 0..MAX_MISMATCHED {
        let len = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(len)];
        stream.read_exact(&mut bytes).await?;
        if query.is_answered_by(&bytes) {
            return Ok((bytes, mismatched));
        }
    }
    Err(AskError::Malformed("the server sends messages, but no reply to the query".to_owned()))
}
