//! An HTTP/1.1 proxy that shows a test each exchange and stops chosen ones at a chosen moment.
//!
//! It listens on plain loopback HTTP and passes everything on, credentials included, to an API server over HTTPS or to the
//! simulator over HTTP. Answers are streamed, so watches work. It never retries and never reuses an upstream connection:
//! one exchange of its caller is one exchange of the upstream.
//!
//! **Guarantees**
//! 1. Exchanges are numbered from 1 in the order in which their whole request had come.
//! 2. An exchange that reached [`Moment::Forwarded`] runs on upstream, whatever happens to the caller: a lost answer, or a
//!    caller killed at that moment, is not a lost request. Of a caller killed before that, nothing is forwarded.
//! 3. What the upstream does not answer is not answered: the caller's connection closes.
//! 4. Lines of watches can be edited ([`Proxy::edit_watches`]); nothing else that passes is changed.
//! 5. Stops at one moment act one after the other, in the order in which they were set.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a broken test tool fails its test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use self::edit::Edited;
use self::edit::Lines;
use self::stop::{Ending, Kind, Predicate, Stop, Verdict};
use self::wire::Tracked;
pub use self::wire::Upstream;

mod edit;
mod stop;
mod wire;

/// Where an exchange can be stopped, in the order in which it comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The whole request has come; the upstream knows nothing of it.
    RequestSeen,
    /// The upstream's connection has the whole request. It may be at work, or have answered.
    Forwarded,
    /// The head of the upstream's answer has come; the caller knows nothing of it.
    AnswerSeen,
    /// The caller's connection has the whole answer. Nothing can be stopped any more: this moment only tells.
    AnswerSent,
}

/// One exchange, as far as it has come.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// From 1.
    pub number: usize,
    /// The request's method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The request's body.
    pub body: Bytes,
    /// The last moment that it reached.
    pub moment: Moment,
    /// What the caller was or is going to be answered.
    pub status: Option<StatusCode>,
    /// When it was over for the caller: answered whole, cut off, or gone away.
    pub ended: Option<Duration>,
    /// When the head of the upstream's answer had come: what was asked had been done by then.
    pub answered: Option<Duration>,
}

/// A running proxy. Dropped, it closes all connections of its callers.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    server: AbortHandle,
}

impl Proxy {
    /// Starts a proxy on a free loopback port.
    pub async fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (exchanges, stops, edit) = Default::default();
        let shared = Arc::new(Shared { upstream, started: now(), exchanges, stops, edit });
        let server = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Self { url, shared, server }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All exchanges so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.borrow().clone()
    }

    /// How long it has been running: the clock of [`Exchange::ended`] and [`Exchange::answered`].
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Waits until the exchanges satisfy a condition. It is asked again at each moment of each exchange.
    pub async fn until(&self, mut holds: impl FnMut(&[Exchange]) -> bool) {
        self.shared.within_a_minute(&self.shared.exchanges, |exchanges| holds(exchanges)).await;
    }

    /// From now on, this comes in the place of each line of a watch. `None`: lines come as they are.
    pub fn edit_watches(&self, edit: Option<impl FnMut(&Exchange, &[u8]) -> Edited + Send + 'static>) {
        *self.shared.edit.lock().unwrap() = edit.map(|edit| Box::new(edit) as Edit);
    }

    /// Stops the next exchange that matches, and no other.
    pub fn hold(&self, moment: Moment, matches: impl Fn(&Exchange) -> bool + Send + Sync + 'static) -> Held {
        self.add(moment, Kind::Once, Box::new(move |exchange, _| matches(exchange)))
    }

    /// Stops each exchange that matches, until the result is dropped.
    pub fn hold_each(&self, moment: Moment, matches: impl Fn(&Exchange) -> bool + Send + Sync + 'static) -> Held {
        self.add(moment, Kind::Each, Box::new(move |exchange, _| matches(exchange)))
    }

    /// Stops the next exchange that matches, given all that came before it and itself, and no other.
    pub fn hold_among(
        &self,
        moment: Moment,
        matches: impl Fn(&Exchange, &[Exchange]) -> bool + Send + Sync + 'static,
    ) -> Held {
        self.add(moment, Kind::Once, Box::new(matches))
    }

    /// As [`Self::hold_among`] before it is forwarded, but released it is forwarded even if its caller has gone away: a
    /// request that the network held back.
    pub fn hold_back(&self, matches: impl Fn(&Exchange, &[Exchange]) -> bool + Send + Sync + 'static) -> Held {
        self.add(Moment::RequestSeen, Kind::Late, Box::new(matches))
    }

    fn add(&self, moment: Moment, kind: Kind, matches: Predicate) -> Held {
        let stop = Arc::new(Stop {
            moment,
            kind,
            matches,
            reached: watch::Sender::default(),
            verdict: watch::Sender::new(Verdict::Wait),
        });
        self.shared.stops.lock().unwrap().push(stop.clone());
        Held { stop, shared: self.shared.clone() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A stop point. Each exchange that reaches it waits for a verdict, which may have been given before. Dropped, it lets go.
pub struct Held {
    stop: Arc<Stop>,
    shared: Arc<Shared>,
}

impl Held {
    /// Waits until an exchange is here, and tells which was the first.
    pub async fn reached(&self) -> Exchange {
        self.reached_times(1).await.swap_remove(0)
    }

    /// Waits until so many exchanges have come here, and tells which.
    pub async fn reached_times(&self, times: usize) -> Vec<Exchange> {
        self.shared.within_a_minute(&self.stop.reached, |reached| reached.len() >= times).await
    }

    /// Lets the exchange go on.
    pub fn release(&self) {
        self.stop.verdict.send_replace(Verdict::Go);
    }

    /// Closes the caller's connection without an answer. What was forwarded goes on upstream.
    pub fn drop_connection(&self) {
        self.stop.verdict.send_replace(Verdict::Drop);
    }

    /// Answers the caller in the upstream's stead. What was forwarded goes on upstream.
    pub fn answer(&self, status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) {
        self.stop.verdict.send_replace(Verdict::Answer(status, content_type, body.into()));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.stops.lock().unwrap().retain(|stop| !Arc::ptr_eq(stop, &self.stop));
        self.stop.verdict.send_if_modified(|verdict| {
            let waits = matches!(verdict, Verdict::Wait);
            if waits {
                *verdict = Verdict::Go;
            }
            waits
        });
    }
}

type Edit = Box<dyn FnMut(&Exchange, &[u8]) -> Edited + Send>;

struct Shared {
    upstream: Upstream,
    started: Instant,
    exchanges: watch::Sender<Vec<Exchange>>,
    stops: Mutex<Vec<Arc<Stop>>>,
    edit: Mutex<Option<Edit>>,
}

impl Shared {
    fn begin(&self, parts: &http::request::Parts, body: &Bytes) -> usize {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut number = 0;
        self.exchanges.send_modify(|exchanges| {
            number = exchanges.len() + 1;
            exchanges.push(Exchange {
                number,
                method: parts.method.clone(),
                path,
                body: body.clone(),
                moment: Moment::RequestSeen,
                status: None,
                ended: None,
                answered: None,
            });
        });
        number
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Exchange)) {
        self.exchanges.send_modify(|exchanges| change(&mut exchanges[number - 1]));
    }

    fn edit(&self, number: usize, line: &[u8]) -> Edited {
        let exchange = self.exchanges.borrow()[number - 1].clone();
        self.edit.lock().unwrap().as_mut().map_or_else(|| Edited::kept(line), |edit| edit(&exchange, line))
    }

    /// A test that waits in vain fails and tells what it saw, instead of hanging.
    async fn within_a_minute(
        &self,
        seen: &watch::Sender<Vec<Exchange>>,
        holds: impl FnMut(&Vec<Exchange>) -> bool,
    ) -> Vec<Exchange> {
        let mut seen = seen.subscribe();
        match tokio::time::timeout(Duration::from_secs(60), seen.wait_for(holds)).await {
            Ok(seen) => seen.unwrap().clone(),
            Err(elapsed) => panic!("waited in vain, {elapsed}; the exchanges were {:#?}", self.exchanges.borrow()),
        }
    }

    /// Records that an exchange is here, and gives back the stops that wait for it here.
    fn reach(&self, number: usize, moment: Moment) -> (Exchange, Vec<Arc<Stop>>) {
        self.change(number, |exchange| exchange.moment = moment);
        let exchanges = self.exchanges.borrow();
        let until = &exchanges[..number];
        let exchange = until[number - 1].clone();
        let mut stops = self.stops.lock().unwrap();
        let here = |stop: &Arc<Stop>| stop.moment == moment && (stop.matches)(&exchange, until);
        let found: Vec<_> = stops.iter().filter(|stop| here(stop)).cloned().collect();
        stops.retain(|stop| stop.kind == Kind::Each || !found.iter().any(|other| Arc::ptr_eq(other, stop)));
        (exchange, found)
    }

    /// Waits at a moment for as long as a stop wants it; then goes on, or ends the exchange in its own way.
    async fn pass(&self, number: usize, moment: Moment) -> Result<(), Ending> {
        let (exchange, stops) = self.reach(number, moment);
        for stop in stops {
            stop.reached.send_modify(|reached| reached.push(exchange.clone()));
            if stop.kind == Kind::Late {
                return Err(Ending::Late(stop));
            }
            stop.judge().await?;
        }
        Ok(())
    }
}

/// Makes hyper close the caller's connection.
#[derive(Debug, thiserror::Error)]
#[error("the exchange ended without an answer")]
struct Dropped;

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // aborted with this task
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        let service = service_fn(move |request| answer(shared.clone(), request));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}

/// One exchange, from the caller's side. It is dropped when the caller goes away.
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Tracked<BoxBody<Bytes, hyper::Error>>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let caller = Caller { number: shared.begin(&parts, &body), shared };
    let (shared, number) = (&caller.shared, caller.number);
    let answer = match shared.pass(number, Moment::RequestSeen).await {
        // In a task of its own, since from here on it must go on without us.
        Ok(()) => tokio::spawn(exchange(shared.clone(), number, parts, body)).await.unwrap_or(Err(Ending::Drop)),
        Err(Ending::Late(stop)) => {
            tokio::spawn(late(stop, shared.clone(), number, parts, body)).await.unwrap_or(Err(Ending::Drop))
        }
        Err(ending) => Err(ending),
    };
    let answer = match answer {
        Ok(answer) | Err(Ending::Answer(answer)) => answer,
        Err(Ending::Drop | Ending::Late(_)) => return Err(Dropped),
    };
    shared.change(number, |exchange| exchange.status = Some(answer.status()));
    Ok(answer.map(|body| {
        Tracked::new(body, move |whole| {
            if whole {
                let (exchange, stops) = caller.shared.reach(caller.number, Moment::AnswerSent);
                for stop in stops {
                    stop.reached.send_modify(|reached| reached.push(exchange.clone()));
                }
            }
        })
    }))
}

/// Dropped when an exchange is over for its caller, in whatever way.
struct Caller {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let ended = self.shared.started.elapsed();
        self.shared.change(self.number, |exchange| exchange.ended = Some(ended));
    }
}

async fn late(
    stop: Arc<Stop>,
    shared: Arc<Shared>,
    number: usize,
    parts: http::request::Parts,
    body: Bytes,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Ending> {
    stop.judge().await?;
    exchange(shared, number, parts, body).await
}

/// One exchange, from the upstream's side: what comes after the whole request and before the answer's body.
async fn exchange(
    shared: Arc<Shared>,
    number: usize,
    mut parts: http::request::Parts,
    body: Bytes,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Ending> {
    let mut sender = shared.upstream.connect().await.map_err(|_| Ending::Drop)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let edit = path.contains("watch=true");
    parts.uri = shared.upstream.path(path).parse().unwrap();
    for framing in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(framing); // hyper's to set, for each of the two connections
    }
    let (sent, all_sent) = oneshot::channel();
    let body = Tracked::new(Full::new(body), move |_| {
        let _ = sent.send(());
    });
    let answer = tokio::spawn(async move { sender.send_request(Request::from_parts(parts, body)).await });
    let _ = all_sent.await;
    shared.pass(number, Moment::Forwarded).await?;
    let mut answer = answer.await.map_err(|_| Ending::Drop)?.map_err(|_| Ending::Drop)?;
    for framing in [CONNECTION, TRANSFER_ENCODING] {
        answer.headers_mut().remove(framing);
    }
    shared.change(number, |exchange| {
        exchange.status = Some(answer.status());
        exchange.answered = Some(shared.started.elapsed());
    });
    shared.pass(number, Moment::AnswerSeen).await?;
    let edited = move |line: &[u8]| shared.edit(number, line);
    Ok(answer.map(|body| if edit { Lines::new(body.boxed(), edited).boxed() } else { body.boxed() }))
}

#[expect(clippy::disallowed_methods, reason = "real exchanges take real time")]
fn now() -> Instant {
    Instant::now()
}
