//! A wire of bytes between operator and API server that is cut, held, swallowed or slowed, whatever the bytes mean.
//!
//! It knows nothing of HTTP and TLS: what runs over it is end to end, and a broken wire breaks it as a network does.
//!
//! **Guarantees**
//! 1. Whatever the state, a connection is accepted: as behind a balancer that lost its servers.
//! 2. A connection that lived while bytes were swallowed never carries another byte, and is never closed by us: as after
//!    a firewall that forgot it. A held one loses nothing: as after TCP sent it all again.
#![expect(clippy::unwrap_used, reason = "a broken test tool fails its test")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, timeout};

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They pass.
    Pass,
    /// They wait until the state changes.
    Hold,
    /// They are gone, and so is the connection, but nobody is told.
    Swallow,
    /// Each piece of an answer comes so much later.
    Late(Duration),
    /// One byte of an answer comes in this time.
    Trickle(Duration),
}

/// A wire. Dropped, it closes all connections.
pub struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    cuts: watch::Sender<usize>,
    server: AbortHandle,
}

impl Wire {
    /// A wire from a free loopback port to `upstream`, `IP:PORT`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, cuts) = (watch::Sender::new(State::Pass), watch::Sender::new(0));
        let server = tokio::spawn(serve(listener, upstream, state.clone(), cuts.clone())).abort_handle();
        Self { address, state, cuts, server }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Closes all connections that there are now.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, state: watch::Sender<State>, cuts: watch::Sender<usize>) {
    let mut connections = JoinSet::new(); // aborted with this task
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(connection(stream, upstream, state.subscribe(), cuts.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    mut caller: TcpStream,
    upstream: SocketAddr,
    state: watch::Receiver<State>,
    mut cuts: watch::Receiver<usize>,
) {
    cuts.mark_unchanged();
    let _ = caller.set_nodelay(true);
    let carry = async {
        if *state.borrow() == State::Swallow {
            return forget(&mut caller).await;
        }
        let Ok(mut server) = TcpStream::connect(upstream).await else { return };
        let _ = server.set_nodelay(true);
        let end = {
            let (mut from_caller, mut to_caller) = caller.split();
            let (mut from_server, mut to_server) = server.split();
            let (mut up, mut down) = (state.clone(), state.clone());
            tokio::select! {
                end = copy(&mut from_caller, &mut to_server, &mut up, false) => end,
                end = copy(&mut from_server, &mut to_caller, &mut down, true) => end,
            }
        };
        if end == End::Swallowed {
            drop(server);
            forget(&mut caller).await;
        }
    };
    tokio::select! {
        () = carry => {}
        _ = cuts.changed() => {}
    }
}

/// Takes and drops what the caller sends until it goes away by itself.
async fn forget(caller: &mut TcpStream) {
    let mut buffer = vec![0; 1 << 14];
    while caller.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

#[derive(PartialEq, Eq)]
enum End {
    Closed,
    Swallowed,
}

async fn copy<R, W>(from: &mut R, to: &mut W, state: &mut watch::Receiver<State>, is_answer: bool) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 1 << 14];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = state.wait_for(|state| *state == State::Swallow) => return End::Swallowed,
        };
        let mut bytes = buffer.get(..read).unwrap_or_default();
        let now = *state.borrow_and_update();
        match now {
            State::Swallow => return End::Swallowed,
            State::Hold => drop(state.wait_for(|state| *state != State::Hold).await),
            State::Late(time) if is_answer => drop(timeout(time, state.changed()).await),
            State::Trickle(time) if is_answer => {
                let mut beat = interval(time);
                while let Some((byte, rest)) = bytes.split_first().filter(|_| *state.borrow() == now) {
                    tokio::select! {
                        _ = beat.tick() => if to.write_all(&[*byte]).await.is_err() { return End::Closed },
                        _ = state.changed() => break,
                    }
                    bytes = rest;
                }
            }
            State::Pass | State::Late(_) | State::Trickle(_) => {}
        }
        if *state.borrow() == State::Swallow {
            return End::Swallowed;
        }
        if read == 0 || to.write_all(bytes).await.is_err() {
            return End::Closed;
        }
    }
}
