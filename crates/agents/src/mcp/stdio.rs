//! Messages over the standard streams of a process.
//!
//! The SDK has such a transport of its own; this one settles a call at once whose answer is too long
//! or makes no sense, where that one would let it wait for its timeout.

use std::io;

use rmcp::RoleClient;
use rmcp::model::{ErrorCode, ErrorData, JsonRpcMessage, NumberOrString};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::lines::{Line, Reader};
use super::scan::Scan;

/// Longest message of a server.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Lines in a row that are no messages, before nothing more is heard.
const NONSENSE_MAX: usize = 1000;
/// Messages that may wait to be written.
const UNWRITTEN_MAX: usize = 64;
/// What stands in for an answer that can't be taken; no server says this.
pub(super) const UNUSABLE: ErrorCode = ErrorCode(-32_099);

type Unwritten = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// The streams of one process.
pub(super) struct Stdio<R> {
    reader: Reader<R>,
    /// None once it is closed: then the writer ends, and with it the server's standard input.
    out: Option<mpsc::Sender<Unwritten>>,
    nonsense: usize,
}

impl<R: AsyncRead + Unpin> Stdio<R> {
    pub(super) fn new<W>(stdout: R, stdin: W) -> Self
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (out, unwritten) = mpsc::channel(UNWRITTEN_MAX);
        tokio::spawn(write(stdin, unwritten));
        Self { reader: Reader::new(stdout, MESSAGE_BYTES_MAX), out: Some(out), nonsense: 0 }
    }

    /// What a line means to whoever waits for answers.
    fn read(&mut self, line: Line) -> Option<RxJsonRpcMessage<RoleClient>> {
        let (answers, what) = match line {
            Line::TooLong(answers) => (answers, format!("more than {MESSAGE_BYTES_MAX} bytes")),
            Line::Whole(bytes) => match serde_json::from_slice(&bytes) {
                Ok(message) => {
                    self.nonsense = 0;
                    return Some(message);
                }
                Err(error) => {
                    let mut scan = Scan::default();
                    scan.feed(&bytes);
                    (scan.answers(), error.to_string())
                }
            },
        };
        self.nonsense += 1;
        tracing::debug!(what, "a tool server said something that is no message");
        let id = NumberOrString::Number(answers?);
        let error = ErrorData::new(UNUSABLE, what, None);
        Some(JsonRpcMessage::error(error, Some(id)))
    }
}

/// A task of its own, so that no message is torn where somebody stops waiting for it.
async fn write(mut stdin: impl AsyncWrite + Unpin, mut unwritten: mpsc::Receiver<Unwritten>) {
    while let Some((bytes, done)) = unwritten.recv().await {
        let written = match stdin.write_all(&bytes).await {
            Ok(()) => stdin.flush().await,
            Err(error) => Err(error),
        };
        // Nobody may be left to hear of it.
        let _ = done.send(written);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the tool server's standard input is closed")
}

impl<R: AsyncRead + Unpin + Send> Transport<RoleClient> for Stdio<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let out = self.out.clone();
        async move {
            let mut bytes = serde_json::to_vec(&item)?;
            bytes.push(b'\n');
            let (done, written) = oneshot::channel();
            out.ok_or_else(closed)?.send((bytes, done)).await.map_err(|_| closed())?;
            written.await.map_err(|_| closed())?
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let line = self.reader.next().await?;
            if let Some(message) = self.read(line) {
                return Some(message);
            }
            if self.nonsense > NONSENSE_MAX {
                return None;
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.out = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(said: &str, expect: &[&str]) {
        let mut stdio = Stdio::new(said.as_bytes(), tokio::io::sink());
        let mut heard = Vec::new();
        while let Some(message) = stdio.receive().await {
            heard.push(serde_json::to_value(message).unwrap());
        }
        let expect: Vec<serde_json::Value> =
            expect.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(heard, expect);
    }

    #[tokio::test]
    async fn what_makes_no_sense_settles_the_call_that_it_answers() {
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        check(&format!("listening\n{answer}\n"), &[answer]).await;
        let unusable = |id: i64, what: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32099,"message":"{what}"}}}}"#)
        };
        let broken = r#"{"jsonrpc":"2.0","id":3,"result":{]}"#;
        check(
            &format!("{broken}\n{answer}\n"),
            &[&unusable(3, "key must be a string at line 1 column 35"), answer],
        )
        .await;
        let long = format!(r#"{{"jsonrpc":"2.0","result":"{}","id":4}}"#, "x".repeat(5 << 20));
        check(&format!("{long}\n{answer}\n"), &[&unusable(4, "more than 4194304 bytes"), answer])
            .await;
    }

    #[tokio::test]
    async fn endless_nonsense_has_an_end() {
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        check(&format!("{}{answer}\n", "x\n".repeat(NONSENSE_MAX + 1)), &[]).await;
        check(&format!("{}{answer}\n", "x\n".repeat(NONSENSE_MAX)), &[answer]).await;
    }
}
