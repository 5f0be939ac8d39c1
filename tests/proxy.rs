//! The proxy of the end-to-end tests: before real servers, before the real API server, and with callers that go away.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
mod support {
    pub mod proxy;
}

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use control_plane::{ControlPlane, Options};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use support::proxy::{Edited, Exchange, Moment, Proxy, Upstream};

/// A server that counts what it was asked for.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<watch::Sender<usize>>,
    bodies: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    more: Arc<Notify>,
}

impl Server {
    async fn start(&self) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::http(&format!("http://{}", listener.local_addr().unwrap()));
        let router = axum::Router::new()
            .route("/echo", post(async |State(server): State<Self>, headers, body| server.echo(headers, body)))
            .route("/stream", get(async |State(server): State<Self>| server.stream()))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        upstream
    }

    fn echo(&self, headers: HeaderMap, body: Bytes) -> Bytes {
        self.asked.send_modify(|asked| *asked += 1);
        self.bodies.lock().unwrap().push((headers, body.clone()));
        body
    }

    /// Sends `one`, then `two` when told to, and never ends.
    fn stream(&self) -> Body {
        let more = self.more.clone();
        let one = stream::once(async { Ok::<_, Infallible>("one") });
        let two = stream::once(async move {
            more.notified().await;
            Ok("two")
        });
        Body::from_stream(one.chain(two).chain(stream::pending()))
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }
}

async fn plain() -> (Server, Proxy, reqwest::Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::default();
    let proxy = Proxy::start(server.start().await).await;
    let client = reqwest::Client::builder().retry(reqwest::retry::never()).no_proxy().build().unwrap();
    (server, proxy, client)
}

fn echo(
    client: &reqwest::Client,
    proxy: &Proxy,
    body: &'static str,
) -> tokio::task::JoinHandle<reqwest::Result<(u16, String)>> {
    let request =
        client.post(format!("{}/echo?a=b", proxy.url())).header("Authorization", "Bearer t").body(body).send();
    tokio::spawn(async move {
        let answer = request.await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

fn says(text: &'static str) -> impl Fn(&Exchange) -> bool + Send + Sync + 'static {
    move |exchange| exchange.body == text
}

#[tokio::test]
async fn requests_and_answers_pass_whole_and_are_numbered() {
    let (server, proxy, client) = plain().await;
    for body in ["first", "second"] {
        assert_eq!(echo(&client, &proxy, body).await.unwrap().unwrap(), (200, body.to_owned()));
    }
    assert_eq!(server.bodies.lock().unwrap()[0].0["authorization"], "Bearer t");
    assert_eq!(server.bodies.lock().unwrap()[0].0["content-length"], "5");
    proxy.until(|all| all.iter().all(|exchange| exchange.ended.is_some())).await;
    let seen: Vec<_> = proxy
        .exchanges()
        .into_iter()
        .map(|e| (e.number, e.method.to_string(), e.path, e.body, e.status.unwrap().as_u16(), e.moment))
        .collect();
    let row =
        |number, body: &'static str| (number, "POST".into(), "/echo?a=b".into(), body.into(), 200, Moment::AnswerSent);
    assert_eq!(seen, [row(1, "first"), row(2, "second")]);
}

#[tokio::test]
async fn a_request_held_before_it_is_forwarded_reaches_the_upstream_only_when_released() {
    let (server, proxy, client) = plain().await;
    let held = proxy.hold(Moment::RequestSeen, says("held"));
    let waiting = echo(&client, &proxy, "held");
    assert_eq!(held.reached().await.path, "/echo?a=b");
    assert_eq!(echo(&client, &proxy, "other").await.unwrap().unwrap().0, 200);
    assert_eq!(server.asked(), 1, "the other alone");
    held.release();
    assert_eq!(waiting.await.unwrap().unwrap(), (200, "held".to_owned()));
    assert_eq!(echo(&client, &proxy, "held").await.unwrap().unwrap().0, 200, "one stop stops one exchange");
}

#[tokio::test]
async fn a_forwarded_request_is_carried_out_though_its_caller_was_cut_off() {
    let (server, proxy, client) = plain().await;
    for moment in [Moment::Forwarded, Moment::AnswerSeen] {
        let held = proxy.hold(moment, |_| true);
        held.drop_connection();
        let error = echo(&client, &proxy, "cut").await.unwrap().unwrap_err();
        assert!(error.is_request(), "{error:?}");
    }
    server.asked.subscribe().wait_for(|asked| *asked == 2).await.unwrap();
    assert_eq!(proxy.exchanges()[1].status, Some(StatusCode::OK));
}

#[tokio::test]
async fn a_caller_that_goes_away_before_its_request_was_forwarded_is_forgotten() {
    let (server, proxy, client) = plain().await;
    let held = proxy.hold(Moment::RequestSeen, says("gone"));
    let waiting = echo(&client, &proxy, "gone");
    held.reached().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    proxy.until(|all| all[0].ended.is_some()).await;
    held.release();
    assert_eq!(echo(&client, &proxy, "other").await.unwrap().unwrap().0, 200);
    assert_eq!(server.asked(), 1, "the other alone");
}

#[tokio::test]
async fn a_request_that_was_held_back_arrives_though_its_caller_has_gone_away() {
    let (server, proxy, client) = plain().await;
    let second = proxy.hold_back(|exchange, all| says("x")(exchange) && all.len() == 2);
    assert_eq!(echo(&client, &proxy, "x").await.unwrap().unwrap().0, 200, "the first is another one");
    let waiting = echo(&client, &proxy, "x");
    second.reached().await;
    waiting.abort();
    proxy.until(|all| all[1].ended.is_some()).await;
    assert_eq!(server.asked(), 1);
    second.release();
    proxy.until(|all| all[1].answered.is_some()).await;
    assert_eq!(server.asked(), 2);
    let seen = proxy.exchanges().swap_remove(1);
    assert!(seen.ended < seen.answered && seen.answered < Some(proxy.elapsed()));
}

#[tokio::test]
async fn two_stops_at_one_moment_act_one_after_the_other() {
    let (server, proxy, client) = plain().await;
    let first = proxy.hold(Moment::RequestSeen, says("x"));
    let second = proxy.hold_among(Moment::RequestSeen, |exchange, _| says("x")(exchange));
    let waiting = echo(&client, &proxy, "x");
    first.reached().await;
    second.drop_connection();
    assert!(!waiting.is_finished());
    first.release();
    assert!(waiting.await.unwrap().unwrap_err().is_request());
    assert_eq!((second.reached().await.number, server.asked()), (1, 0));
}

#[test]
fn within_a_namespace_our_kinds_are_listed_and_watched_there_alone() {
    let upstream = Upstream::http("http://127.0.0.1:1").within("one");
    let all = "/apis/dijob.dev/v1alpha1/dataintegrationjobs?watch=true";
    assert_eq!(upstream.path(all), "/apis/dijob.dev/v1alpha1/namespaces/one/dataintegrationjobs?watch=true");
    for other in ["/apis/dijob.dev/v1alpha1/namespaces/two/dataintegrationjobs", "/api/v1/namespaces/two/secrets/a"] {
        assert_eq!(upstream.path(other), other);
    }
}

#[tokio::test]
async fn the_proxy_answers_by_itself_until_the_stop_is_dropped() {
    let (server, proxy, client) = plain().await;
    let held = proxy.hold_each(Moment::RequestSeen, |exchange| exchange.path.starts_with("/echo"));
    held.answer(StatusCode::TOO_MANY_REQUESTS, "text/plain", "slow down");
    for _ in 0..2 {
        assert_eq!(echo(&client, &proxy, "x").await.unwrap().unwrap(), (429, "slow down".to_owned()));
    }
    assert_eq!(held.reached_times(2).await.len(), 2);
    assert_eq!(server.asked(), 0);
    drop(held);
    assert_eq!(echo(&client, &proxy, "x").await.unwrap().unwrap(), (200, "x".to_owned()));
}

#[tokio::test]
async fn a_dropped_stop_lets_go_what_it_held() {
    let (_server, proxy, client) = plain().await;
    let held = proxy.hold(Moment::AnswerSeen, |_| true);
    let waiting = echo(&client, &proxy, "x");
    assert_eq!(held.reached().await.status, Some(StatusCode::OK));
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap(), (200, "x".to_owned()));
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece_and_ends_with_its_reader() {
    let (server, proxy, client) = plain().await;
    let mut answer = client.get(format!("{}/stream", proxy.url())).send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "one");
    server.more.notify_one();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "two");
    assert_eq!(proxy.exchanges()[0].ended, None);
    drop(answer);
    proxy.until(|all| all[0].ended.is_some()).await;
    assert_eq!(proxy.exchanges()[0].moment, Moment::AnswerSeen, "it was not sent whole");
}

#[tokio::test]
async fn without_an_upstream_the_callers_connection_closes() {
    let (_server, _proxy, client) = plain().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(Upstream::http(&format!("http://{closed}"))).await;
    assert!(echo(&client, &proxy, "x").await.unwrap().unwrap_err().is_request());
    assert_eq!(proxy.exchanges()[0].status, None);
}

#[tokio::test]
async fn kube_talks_to_the_real_api_server_through_it_with_a_token_over_plain_http() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options { users: vec!["operator".to_owned()], ..Options::default() };
    let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&options).unwrap()).await.unwrap();
    let proxy = Proxy::start(Upstream::https(&plane.server_url(), plane.ca_pem())).await;
    let maps = |user: &str| {
        let yaml = plane.kubeconfig_yaml_via(proxy.url(), user).unwrap();
        async move {
            let kubeconfig = Kubeconfig::from_yaml(&yaml).unwrap();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Api::<ConfigMap>::default_namespaced(kube::Client::try_from(config).unwrap())
        }
    };
    let (admin, operator) = (maps("admin").await, maps("operator").await);
    let kube::Error::Api(status) = operator.list(&ListParams::default()).await.unwrap_err() else { unreachable!() };
    assert!(status.is_forbidden() && status.message.contains("\"operator\""), "{status:?}");

    let mut events = admin.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let map = serde_json::from_value(serde_json::json!({"metadata": {"name": "seen"}, "data": {"a": "1"}})).unwrap();
    admin.create(&PostParams::default(), &map).await.unwrap();
    loop {
        if let WatchEvent::Added(map) = events.next().await.unwrap().unwrap()
            && map.metadata.name.as_deref() == Some("seen")
        {
            break;
        }
    }

    proxy.edit_watches(Some(|_: &Exchange, line: &[u8]| Edited::Last(vec![Bytes::copy_from_slice(line); 2])));
    let edited: Vec<_> = admin.watch(&WatchParams::default(), "0").await.unwrap().collect().await;
    assert!(matches!(&edited[..], [Ok(_), Ok(_)]), "the first event twice, and then the end: {edited:?}");

    let held = proxy.hold(Moment::AnswerSeen, |exchange| exchange.method == "DELETE");
    held.drop_connection();
    assert!(matches!(
        admin.delete("seen", &DeleteParams::default()).await,
        Err(kube::Error::HyperError(_) | kube::Error::Service(_))
    ));
    assert!(admin.get_opt("seen").await.unwrap().is_none(), "the lost answer was not a lost request");
}
