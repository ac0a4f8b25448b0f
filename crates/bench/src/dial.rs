//! How a connection to the server is opened. A trait, so that the same run also works
//! over a unix socket or in memory.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Opens connections to one server.
pub trait Dial: Clone + Send + Sync + 'static {
    /// What a connection is made of.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens one more connection.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The server's name, for the `Host` header and the report.
    fn name(&self) -> String;
}

/// The usual way: TCP to one address.
#[derive(Clone, Copy, Debug)]
pub struct TcpDial(pub SocketAddr);

impl Dial for TcpDial {
    type Stream = TcpStream;

    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.0).await?;
        // Without it the kernel may hold a small request back and the latency would be its.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn name(&self) -> String {
        self.0.to_string()
    }
}
