//! How a connection to the server is opened. A trait, so that the same run also works
//! over a unix socket or in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// Opens connections to one server, or to several that are one deployment.
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

    /// The server's name, for the report.
    fn name(&self) -> String;

    /// Its name for the `Host` header.
    fn host(&self) -> String {
        self.name()
    }

    /// One for each server, to ask it what it used.
    fn each(&self) -> Vec<Self> {
        vec![self.clone()]
    }
}

/// The usual way: TCP. Of several addresses each connection takes the next one.
#[derive(Clone, Debug)]
pub struct TcpDial {
    servers: Arc<[SocketAddr]>,
    next: Arc<AtomicUsize>,
}

impl TcpDial {
    /// To these servers; `None` where there is none.
    pub fn new(servers: &[SocketAddr]) -> Option<Self> {
        (!servers.is_empty()).then(|| Self { servers: servers.into(), next: Arc::default() })
    }

    fn server(&self) -> SocketAddr {
        self.servers[self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len()]
    }
}

impl Dial for TcpDial {
    type Stream = TcpStream;

    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.server()).await?;
        // Without it the kernel may hold a small request back and the latency would be its.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn dial_from(&self, number: usize) -> io::Result<TcpStream> {
        let server = self.server();
        if !server.ip().is_loopback() || !server.is_ipv4() {
            return TcpStream::connect(server).await;
        }
        let socket = TcpSocket::new_v4()?;
        // From 127.0.0.2 to 127.0.0.9; the healthy users come from 127.0.0.1.
        let last = 2 + u8::try_from(number % 8).unwrap_or(0);
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
        socket.connect(server).await
    }

    fn name(&self) -> String {
        let all: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        all.join(", ")
    }

    fn host(&self) -> String {
        self.servers[0].to_string()
    }

    fn each(&self) -> Vec<Self> {
        let one = |server: &SocketAddr| Self { servers: [*server].into(), next: Arc::default() };
        self.servers.iter().map(one).collect()
    }
}
