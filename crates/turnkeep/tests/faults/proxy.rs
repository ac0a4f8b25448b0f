//! The way of one node to its database or to Redis, which can be cut or stand still.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::pass;

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything arrives.
    Pass,
    /// Connections end, and no new one is made.
    Cut,
    /// Nothing arrives and nobody hears of it; what was under way goes on afterwards.
    Hang,
}

/// Stands between one node and a server.
pub(crate) struct Proxy {
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Listens at this socket, and goes on to the server at the other one.
    pub(crate) fn new(near: &Path, server: PathBuf) -> Self {
        let listener = UnixListener::bind(near).unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let modes = mode.subscribe();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(near, server.clone(), modes.clone()));
            }
        });
        Self { mode }
    }

    pub(crate) fn cut_for(&self, mode: Mode, time: Duration) {
        let modes = self.mode.clone();
        modes.send_replace(mode);
        tokio::spawn(async move {
            pass(time).await;
            modes.send_replace(Mode::Pass);
        });
    }

    pub(crate) fn heal(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

/// Comes back once it may go on; false if it may not.
async fn may_pass(modes: &mut watch::Receiver<Mode>) -> bool {
    matches!(modes.wait_for(|mode| *mode != Mode::Hang).await.as_deref(), Ok(Mode::Pass))
}

async fn cut(mut modes: watch::Receiver<Mode>) {
    // An error would mean that the proxy is gone, and the connection with it.
    let _ = modes.wait_for(|mode| *mode == Mode::Cut).await;
}

async fn carry(near: UnixStream, server: PathBuf, mut modes: watch::Receiver<Mode>) {
    if !may_pass(&mut modes).await {
        return;
    }
    let Ok(far) = UnixStream::connect(server).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = copy(near_in, far_out, modes.clone()) => {}
        () = copy(far_in, near_out, modes.clone()) => {}
        () = cut(modes) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if !may_pass(&mut modes).await || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
