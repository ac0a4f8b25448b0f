//! How a connection to the server is opened. A trait, so that the same run also works
//! over a unix socket or in memory.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// Opens connections to one server.
pub trait Dial: Clone + Send + Sync + 'static {
    /// What a connection is made of.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens one more connection.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Opens one from another address of this machine, where there are several; `number` chooses.
    fn dial_from(&self, number: usize) -> impl Future<Output = io::Result<Self::Stream>> + Send {
        let _ = number;
        self.dial()
    }

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

    async fn dial_from(&self, number: usize) -> io::Result<TcpStream> {
        if !self.0.ip().is_loopback() || !self.0.is_ipv4() {
            return self.dial().await;
        }
        let socket = TcpSocket::new_v4()?;
        // From 127.0.0.2 to 127.0.0.9; the healthy users come from 127.0.0.1.
        let last = 2 + u8::try_from(number % 8).unwrap_or(0);
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
        socket.connect(self.0).await
    }

    fn name(&self) -> String {
        self.0.to_string()
    }
}
