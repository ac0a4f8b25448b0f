//! An engine that says whatever a test wants.

use std::convert::Infallible;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use turnkeep_hatchet::Token;

use crate::kit::PATIENCE;

/// What it answers.
pub(crate) enum Answer {
    /// A message.
    Says(Vec<u8>),
    /// No message, but a code, a text and details.
    Fails(u16, &'static str, Vec<u8>),
    /// Messages as long as somebody sends them.
    Streams(mpsc::Receiver<Vec<u8>>),
    /// The beginning of a message of this size.
    Begins(u32),
    /// Nothing ever.
    Hangs,
}

/// A message, as an answer.
pub(crate) fn says(message: &impl Message) -> Answer {
    Answer::Says(message.encode_to_vec())
}

/// A stream that is open and says nothing more than this.
pub(crate) fn streams(messages: Vec<Vec<u8>>) -> (mpsc::Sender<Vec<u8>>, Answer) {
    let (sender, receiver) = mpsc::channel(messages.len().max(1));
    for message in messages {
        sender.try_send(message).unwrap();
    }
    (sender, Answer::Streams(receiver))
}

/// What was called, and with what.
type Called = (String, Bytes);

pub(crate) struct Stub {
    port: u16,
    called: Mutex<mpsc::UnboundedReceiver<Called>>,
    server: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stub {
    /// One that answers like this.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str) -> Answer + Send + Sync + 'static,
    {
        Self::start_with(answer, None).await
    }

    /// The same, by TLS.
    pub(crate) async fn start_with<F>(answer: F, identity: Option<Identity>) -> Self
    where
        F: Fn(&str) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, called) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (calls, answer) = (calls.clone(), Arc::clone(&answer));
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                let message = body.unwrap_or_default();
                drop(calls.send((path.clone(), message.slice(message.len().min(5)..))));
                Ok::<_, Infallible>(respond(answer(&path)).await)
            }
        });
        let mut server = Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            drop(server.serve_with_incoming(service, incoming).await);
        });
        Self { port, called: Mutex::new(called), server }
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// A token of it.
    pub(crate) fn token(&self) -> Token {
        self.token_at("127.0.0.1")
    }

    /// The same, by a name of this machine.
    pub(crate) fn token_at(&self, host: &str) -> Token {
        let claims = format!(r#"{{"sub":"t","grpc_broadcast_address":"{host}:{}"}}"#, self.port);
        Token::decode(&format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))).unwrap()
    }

    /// Waits for a call of that kind; what it was called with.
    pub(crate) async fn called(&self, path: &str) -> Bytes {
        let mut called = self.called.lock().await;
        loop {
            let (name, message) = timeout(PATIENCE, called.recv()).await.unwrap().unwrap();
            if name.ends_with(path) {
                return message;
            }
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    frame.freeze()
}

fn trailers(code: u16) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    Frame::trailers(trailers)
}

async fn respond(answer: Answer) -> Response<Body> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    let body = match answer {
        Answer::Says(message) => frames(vec![Frame::data(framed(&message)), trailers(0)]),
        Answer::Fails(code, text, details) => {
            let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
            response = response.header("grpc-status", code).header("grpc-message", text);
            response = response.header("grpc-status-details-bin", details);
            frames(Vec::new())
        }
        Answer::Streams(messages) => {
            let next = |mut messages: mpsc::Receiver<Vec<u8>>| async move {
                let message = messages.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(framed(&message))), messages))
            };
            let ends = stream::once(async { Ok(trailers(0)) });
            let all = futures_util::StreamExt::chain(stream::unfold(messages, next), ends);
            Body::new(StreamBody::new(all))
        }
        Answer::Begins(size) => {
            let mut begin = BytesMut::new();
            begin.put_u8(0);
            begin.put_u32(size);
            frames(vec![Frame::data(begin.freeze())])
        }
        Answer::Hangs => return std::future::pending().await,
    };
    response.body(body).unwrap()
}

fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    Body::new(StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>))))
}

/// A way to a server whose connections can be made to swallow everything.
pub(crate) struct Way {
    pub(crate) port: u16,
    /// How often that happened.
    swallows: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let swallows = watch::Sender::new(0);
        let watched = swallows.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut swallowed = watched.subscribe();
                swallowed.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends stay open, and nothing goes between them.
                        _ = swallowed.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port: here, swallows, task }
    }

    /// Whatever is connected now.
    pub(crate) fn swallow(&self) {
        self.swallows.send_modify(|times| *times += 1);
    }
}

/// What a server proves to be `localhost` with, and who vouches for it: itself.
pub(crate) fn certificate(folder: &Path) -> (Identity, String) {
    let (key, certificate) = (folder.join("key"), folder.join("certificate"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null());
    assert!(openssl.status().unwrap().success());
    let certificate = std::fs::read_to_string(certificate).unwrap();
    let key = std::fs::read_to_string(key).unwrap();
    (Identity::from_pem(&certificate, key), certificate)
}
