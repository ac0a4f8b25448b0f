//! A connection whose patience ends: a peer that doesn't read is cut off, and one that still
//! writes gets a moment to read why it was refused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a closed connection is kept for the peer to read what was said last. Closing it with
/// unread bytes would reset it, and the answer would be lost with them.
const LINGER: Duration = Duration::from_secs(1);
/// What is thrown away meanwhile, at most.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The stream and its two deadlines, neither of which costs anything while all goes well.
pub(super) struct Patient<S> {
    inner: S,
    write_timeout: Duration,
    /// Armed while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Armed once our side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
    closed: bool,
    drained: usize,
}

impl<S> Patient<S> {
    pub(super) const fn new(inner: S, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, stalled: None, lingering: None, closed: false, drained: 0 }
    }

    /// Lets a write through, or ends the patience with it.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer doesn't read")))
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// Throws away what still comes, until the peer has closed its side too.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        while self.drained < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.drained += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        lingering.as_mut().poll(context).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
            self.closed = true;
        }
        self.poll_linger(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_cut_off() {
        let (ours, _theirs) = duplex(16);
        let began = Instant::now();
        let error = Patient::new(ours, TIMEOUT).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_not() {
        let (ours, mut theirs) = duplex(16);
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..4 {
                tokio::time::advance(TIMEOUT - Duration::from_secs(1)).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
        });
        Patient::new(ours, TIMEOUT).write_all(&[0; 64]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_a_peer_that_still_writes() {
        let (ours, mut theirs) = duplex(16);
        let began = Instant::now();
        let peer = tokio::spawn(async move {
            theirs.write_all(&[0; 4096]).await.unwrap();
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).await.unwrap();
            said
        });
        let mut ours = Patient::new(ours, TIMEOUT);
        ours.write_all(b"no").await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(peer.await.unwrap(), b"no");
        assert!(began.elapsed() < LINGER, "it leaves as soon as the peer does");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_does_not_wait_for_ever() {
        let (ours, _theirs) = duplex(16);
        let began = Instant::now();
        Patient::new(ours, TIMEOUT).shutdown().await.unwrap();
        assert_eq!(began.elapsed(), LINGER);
    }
}
