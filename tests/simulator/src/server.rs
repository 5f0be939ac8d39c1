//! The shell over sockets: HTTP/1.1 in, what the core says out.
//!
//! **May touch:** its listener and connections; the core behind one lock that is never held across an await.
//!
//! **Guarantees**
//! 1. Each connection is a task of its own, so a drop closes that socket and a hang holds up nobody else.
//! 2. What became of every answer reaches the ledger, also if the client went away first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jiff::{SignedDuration, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::core::answer::Reply;
use crate::core::ledger::Fate;
use crate::core::{Cloud, Headers, Outgoing, Request};

/// No call of this API comes near it.
const BODY_CAP: usize = 1 << 20;

/// The core, its clock, and word of each change.
pub(crate) struct Shared {
    cloud: Mutex<Cloud>,
    wall_at_start: Timestamp,
    start: Instant,
    changed: watch::Sender<()>,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "edge: the one place that reads the clock")]
    pub(crate) fn new(cloud: Cloud, wall_at_start: Timestamp) -> Self {
        Self { cloud: Mutex::new(cloud), wall_at_start, start: Instant::now(), changed: watch::Sender::new(()) }
    }

    /// Wall time that never goes back.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall_at_start + SignedDuration::try_from(self.start.elapsed()).unwrap_or_default()
    }

    /// Looks at the cloud as it is now.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Cloud, Timestamp) -> T) -> T {
        let mut cloud = self.cloud.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: the core must not see time go back.
        let now = self.now();
        cloud.advance(now);
        look(&mut cloud, now)
    }

    /// Changes the cloud and wakes who waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Cloud, Timestamp) -> T) -> T {
        let result = self.look(change);
        self.changed.send_replace(());
        result
    }

    /// Word of each change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[derive(Clone)]
struct Connection {
    number: u64,
    cut: CancellationToken,
}

/// Serves until told to stop; then every connection is closed with the runtime.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // An accept fails for want of files or for a client that left at once: the next one may not.
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        number += 1;
        tokio::spawn(connection(stream, Arc::clone(&shared), number));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, number: u64) {
    // Without it small answers wait for the client's acknowledgements and lateness is not what was asked for.
    let _ = stream.set_nodelay(true);
    let cut = CancellationToken::new();
    let app =
        admin::routes().fallback(cloud).layer(Extension(Connection { number, cut: cut.clone() })).with_state(shared);
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        _ = served => {}
    }
}

async fn cloud(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: axum::extract::Request,
) -> Response {
    let first_byte = shared.now();
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_CAP).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = Request {
        connection: connection.number,
        first_byte,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: text(CONTENT_TYPE),
        host: text(HOST).unwrap_or_default(),
        body: body.to_vec(),
    };
    let headers: Headers =
        head.headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect();
    let answer = shared.change(|cloud, now| cloud.receive(now, request.with_headers(headers)));
    let delivery = Delivery { shared: &shared, seq: answer.seq, fate: Fate::ClientGone };
    if let Ok(after) = answer.after.try_into() {
        tokio::time::sleep(after).await;
    }
    match answer.outgoing {
        Outgoing::Reply(reply) => {
            delivery.ends(Fate::Sent);
            response(reply)
        }
        Outgoing::Drop => {
            delivery.ends(Fate::Dropped);
            connection.cut.cancel();
            std::future::pending().await
        }
        Outgoing::Hang => {
            delivery.ends(Fate::Hung);
            std::future::pending().await
        }
    }
}

/// Tells the ledger what became of an answer; if the task is dropped before that, the client has gone.
struct Delivery<'a> {
    shared: &'a Shared,
    seq: u64,
    fate: Fate,
}

impl Delivery<'_> {
    fn ends(mut self, fate: Fate) {
        self.fate = fate;
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.shared.change(|cloud, now| cloud.answered(now, self.seq, self.fate));
    }
}

fn response(reply: Reply) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in reply.headers {
        // A header that HTTP cannot carry is left out: garbage ends where the protocol does.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let body = match (reply.cut, reply.bytes_per_second) {
        (None, None) => Body::from(reply.body),
        (cut, pace) => Body::new(OddBody::new(reply.body, cut, pace)),
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, headers, body).into_response()
}

/// A body that declares its whole length, and trickles, or breaks off before its end.
struct OddBody {
    rest: Bytes,
    declared: u64,
    is_cut: bool,
    is_flushed: bool,
    /// Bytes in one step, and the pause before each.
    step: usize,
    pause: Option<Interval>,
}

/// Short enough that a pace looks even to a client.
const PAUSE: Duration = Duration::from_millis(100);

impl OddBody {
    fn new(mut body: Vec<u8>, cut: Option<usize>, bytes_per_second: Option<u32>) -> Self {
        let declared = u64::try_from(body.len()).unwrap_or(u64::MAX);
        body.truncate(cut.unwrap_or(usize::MAX));
        let pause = bytes_per_second.map(|pace| {
            // Below ten bytes a second a step is one byte, and the pause longer.
            let mut pause = interval(if pace >= 10 { PAUSE } else { Duration::from_secs(1) / pace.max(1) });
            pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pause
        });
        let step = bytes_per_second.map_or(usize::MAX, |pace| usize::try_from(pace / 10).unwrap_or(1).max(1));
        Self { rest: Bytes::from(body), declared, is_cut: cut.is_some(), is_flushed: false, step, pause }
    }
}

impl http_body::Body for OddBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.rest.is_empty() {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.poll_tick(cx));
            }
            let step = self.step.min(self.rest.len());
            return Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(step)))));
        }
        if !self.is_cut {
            return Poll::Ready(None);
        }
        if !self.is_flushed {
            // One turn of the loop, in which what was given is written out before the connection breaks.
            self.is_flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.declared)
    }
}
