//! The API server as a `tower` service, under a [`Wire`].
//!
//! **May touch:** tokio's tasks and time; the [`ApiServer`].
//!
//! **Guarantees**
//! 1. What was sent arrives even if its caller forgets it: bytes that left a process do not come back when it dies.
//! 2. No thread and no clock but tokio's: under a paused clock and one thread, equal wires give equal runs.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use http::Response;
use http_body::Frame;
use kube::client::Body;
use tokio::sync::oneshot;
use tower::Service;

use crate::ApiServer;
use crate::answer::{Answer, Refusal};
use crate::request::Request;
use crate::stream::events;
use crate::wire::{RequestInfo, Route, Then, Verb, WatchInfo, Wire};

/// One client's way to the API server. Clones count requests together.
#[derive(Clone)]
pub struct ApiService {
    server: ApiServer,
    caller: Arc<str>,
    wire: Arc<dyn Wire>,
    sent: Arc<AtomicU64>,
}

impl ApiService {
    pub(crate) fn new(server: ApiServer, caller: &str, wire: Arc<dyn Wire>) -> Self {
        Self { server, caller: caller.into(), wire, sent: Arc::default() }
    }
}

impl Service<http::Request<Body>> for ApiService {
    type Response = Response<AnswerBody>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().now_or_never().and_then(Result::ok).unwrap_or_default();
        let content_type = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Some(mut request) = Request::from_http(parts.method.as_str(), uri, content_type.unwrap_or_default(), &body)
        else {
            let refusal = Refusal::new(415, "UnsupportedMediaType", "this method or content type is not served");
            return Box::pin(std::future::ready(Ok(whole(&refusal.answer()))));
        };
        let info = self.info(&request);
        let route = self.wire.request(&info);
        request.view = route.view;
        let watch =
            WatchInfo { caller: info.caller, request: info.nth, resource: info.resource, namespace: info.namespace };
        let (tell, told) = oneshot::channel();
        let (server, wire) = (self.server.clone(), self.wire.clone());
        tokio::spawn(async move {
            if let Some(answer) = carry(server, request, watch, wire, route).await {
                let _ = tell.send(answer);
            }
        });
        Box::pin(async move {
            match told.await {
                Ok(answer) => answer,
                Err(_) => pending().await,
            }
        })
    }
}

impl ApiService {
    fn info(&self, request: &Request) -> RequestInfo {
        let target = request.target().unwrap_or_default();
        let named = request.body.as_ref().and_then(|body| body.pointer("/metadata/name")?.as_str());
        let name = if target.name.is_empty() && request.verb == Verb::Create {
            named.unwrap_or_default().to_owned()
        } else {
            target.name
        };
        RequestInfo {
            caller: self.caller.clone(),
            nth: self.sent.fetch_add(1, Ordering::Relaxed),
            verb: request.verb,
            resource: target.resource,
            subresource: target.subresource,
            namespace: target.namespace,
            name,
            uri: request.uri.clone(),
            dry_run: request.is_dry_run(),
            body: request.body.clone(),
        }
    }
}

/// `None`: no answer ever comes.
async fn carry(
    server: ApiServer,
    request: Request,
    watch: WatchInfo,
    wire: Arc<dyn Wire>,
    route: Route,
) -> Option<io::Result<Response<AnswerBody>>> {
    wait(route.before).await;
    let arrives = match route.then {
        Then::HangBefore => return None,
        Then::LoseRequest | Then::Refuse(_) => None,
        Then::Deliver | Then::LoseAnswer | Then::HangAfter | Then::TakeThenRefuse(_) => Some(()),
    };
    let answer = arrives.map(|()| {
        if request.verb == Verb::Watch {
            match server.open_watch(&request) {
                Ok(open) => Response::new(AnswerBody::Stream(events(server, open, watch, wire).boxed())),
                Err(refusal) => whole(&refusal.answer()),
            }
        } else {
            whole(&server.respond(&watch.caller, &request))
        }
    });
    if route.then == Then::HangAfter {
        return None;
    }
    wait(route.after).await;
    Some(match (route.then, answer) {
        (Then::Refuse(code) | Then::TakeThenRefuse(code), _) => Ok(whole(&Refusal::of_code(code).answer())),
        (Then::Deliver, Some(answer)) => Ok(answer),
        _ => Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")),
    })
}

async fn wait(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn whole(answer: &Answer) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(Some(answer.bytes())));
    *response.status_mut() = http::StatusCode::from_u16(answer.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// The body of an answer: all at once, or the events of a watch.
pub enum AnswerBody {
    /// All at once.
    Whole(Option<Bytes>),
    /// One event after the other.
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll_next_unpin(context).map(|next| next.map(|r| r.map(Frame::data))),
        }
    }
}
