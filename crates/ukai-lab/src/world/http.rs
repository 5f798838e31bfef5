//! HTTP over a connection that somebody else accepted, and bodies that can break off.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Serves HTTP/1.1 or HTTP/2 until the client goes.
pub(super) async fn serve_connection<S, V, B>(stream: S, h2: bool, service: V)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Future: Send + 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serve_until(stream, h2, service, Arc::new(Notify::new())).await;
}

/// The same, but an HTTP/2 client is told to go away once `leave` is notified.
pub(super) async fn serve_until<S, V, B>(stream: S, h2: bool, service: V, leave: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Future: Send + 'static,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(stream);
    // How a connection ends is the client's finding, not ours.
    if h2 {
        let mut connection =
            pin!(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = leave.notified() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A body that is sent whole, or breaks off after what there is of it.
#[derive(Debug)]
pub(super) struct Answer {
    rest: Option<Bytes>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    /// One more turn, in which the server sends what it has.
    Flush,
    Cut,
}

impl Answer {
    pub fn whole(body: impl Into<Bytes>) -> Self {
        Self { rest: Some(body.into()), ending: Ending::Whole }
    }

    pub fn cut(body: impl Into<Bytes>) -> Self {
        Self { rest: Some(body.into()), ending: Ending::Flush }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        match self.ending {
            Ending::Whole => Poll::Ready(None),
            Ending::Flush => {
                self.ending = Ending::Cut;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ending::Cut => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.ending == Ending::Whole
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) if self.ending == Ending::Whole => SizeHint::with_exact(rest.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// A stream that sends so many bytes and then no more, as on a path that drops large packets.
#[derive(Debug)]
pub(super) struct Budgeted<S> {
    pub stream: S,
    /// `None` is without limit.
    pub left: Option<usize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Budgeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Budgeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.stream).poll_write(context, data);
        };
        let Some(allowed) = data.get(..left.min(data.len())).filter(|allowed| !allowed.is_empty()) else {
            return Poll::Pending;
        };
        let written = Pin::new(&mut self.stream).poll_write(context, allowed);
        if let Poll::Ready(Ok(written)) = &written {
            self.left = Some(left.saturating_sub(*written));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Waits for ever with a connection open, reading what comes and answering nothing.
pub(super) async fn swallow<S: AsyncRead + Unpin>(mut stream: S) {
    use tokio::io::AsyncReadExt;
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}
