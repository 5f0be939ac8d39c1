//! What a wire may do to a client, on tokio's paused clock, under the real `kube::Client`.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_server::{ApiServer, EventFate, RequestInfo, Route, Then, Verb, View, WatchInfo, Wire};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, timeout};

/// Shorter than the time between two bookmarks.
const QUIET: Duration = Duration::from_secs(50);

/// Of the paused clock.
#[expect(clippy::disallowed_methods, reason = "this is the edge of a test")]
fn now() -> Instant {
    Instant::now()
}

/// A wire as a test wants it: one route for each request that writes, lists or watches, one fate for each event.
#[derive(Default)]
struct Script {
    route: Mutex<Route>,
    fates: Mutex<Vec<EventFate>>,
    seen: Mutex<Vec<(Verb, String)>>,
}

impl Wire for Script {
    fn request(&self, info: &RequestInfo) -> Route {
        self.seen.lock().unwrap().push((info.verb, info.name.clone()));
        *self.route.lock().unwrap()
    }

    fn event(&self, _: &WatchInfo, nth: u64) -> EventFate {
        self.fates.lock().unwrap().get(usize::try_from(nth).unwrap()).copied().unwrap_or_default()
    }
}

struct World {
    server: ApiServer,
    wire: Arc<Script>,
    secrets: Api<Secret>,
}

impl World {
    fn new() -> Self {
        let server = ApiServer::new(&[], || Timestamp::UNIX_EPOCH).unwrap();
        let wire = Arc::new(Script::default());
        let client = Client::new(server.service("test", wire.clone()), "default");
        Self { server, wire, secrets: Api::namespaced(client, "default") }
    }

    fn route(&self, route: Route) {
        *self.wire.route.lock().unwrap() = route;
    }

    fn then(&self, then: Then) {
        self.route(Route { then, ..Route::default() });
    }

    /// Written past the wire.
    fn put(&self, name: &str, value: &str) {
        let body =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": { "k": value } });
        let uri = format!("/api/v1/namespaces/default/secrets/{name}?fieldManager=person&force=true");
        assert!(self.server.request("person", Verb::Apply, &uri, Some(body)).is_ok());
    }

    async fn write(&self, name: &str) -> kube::Result<Secret> {
        let body = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
        self.secrets.patch(name, &PatchParams::apply("test"), &Patch::Apply(&body)).await
    }

    fn is_there(&self, name: &str) -> bool {
        self.server.request("person", Verb::Get, &format!("/api/v1/namespaces/default/secrets/{name}"), None).is_ok()
    }

    /// What a watch from now on tells of these writes, until it is quiet or over.
    async fn told(&self, fates: &[EventFate], writes: &[&str]) -> Vec<String> {
        *self.wire.fates.lock().unwrap() = fates.to_vec();
        let from = self.server.version().to_string();
        let mut events = self.secrets.watch(&WatchParams::default(), &from).await.unwrap().boxed();
        for name in writes {
            self.put(name, "YQ==");
        }
        let mut told = Vec::new();
        while let Ok(event) = timeout(QUIET, events.next()).await {
            told.push(match event {
                Some(Ok(WatchEvent::Added(secret))) => secret.name_any(),
                Some(Ok(WatchEvent::Error(status))) => status.code.to_string(),
                Some(Ok(_)) => "another".to_owned(),
                Some(Err(_)) => "broken".to_owned(),
                None => "end".to_owned(),
            });
            if event_is_last(&told) {
                break;
            }
        }
        told
    }
}

fn event_is_last(told: &[String]) -> bool {
    told.last().is_some_and(|last| last == "end" || last == "broken")
}

#[tokio::test(start_paused = true)]
async fn a_request_and_its_answer_take_their_time() {
    let world = World::new();
    let (before, after) = (Duration::from_secs(2), Duration::from_secs(3));
    world.route(Route { before, after, ..Route::default() });
    let start = now();
    let (written, arrived) = tokio::join!(world.write("a"), async {
        tokio::time::sleep(Duration::from_millis(1999)).await;
        let early = world.is_there("a");
        tokio::time::sleep(Duration::from_millis(2)).await;
        (early, world.is_there("a"))
    });
    assert_eq!((written.unwrap().name_any().as_str(), arrived), ("a", (false, true)));
    assert_eq!(start.elapsed(), before + after);
}

#[tokio::test(start_paused = true)]
async fn each_fate_of_a_request_is_what_it_says() {
    let table = [
        (Then::Deliver, true, "ok"),
        (Then::LoseRequest, false, "error"),
        (Then::LoseAnswer, true, "error"),
        (Then::HangBefore, false, "nothing"),
        (Then::HangAfter, true, "nothing"),
        (Then::Refuse(503), false, "503"),
        (Then::TakeThenRefuse(504), true, "504"),
    ];
    for (then, arrives, hears) in table {
        let world = World::new();
        world.then(then);
        let heard = match timeout(Duration::from_secs(60), world.write("a")).await {
            Ok(Ok(_)) => "ok".to_owned(),
            Ok(Err(kube::Error::Api(status))) => status.code.to_string(),
            Ok(Err(_)) => "error".to_owned(),
            Err(_) => "nothing".to_owned(),
        };
        assert_eq!((world.is_there("a"), heard.as_str()), (arrives, hears), "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_a_dead_process_arrives() {
    let world = World::new();
    world.route(Route { before: Duration::from_secs(5), ..Route::default() });
    assert!(timeout(Duration::from_secs(1), world.write("a")).await.is_err());
    assert!(!world.is_there("a"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.is_there("a"));
}

#[tokio::test(start_paused = true)]
async fn a_wire_is_told_what_is_asked() {
    let world = World::new();
    world.write("a").await.unwrap();
    world.secrets.get("a").await.unwrap();
    world.secrets.list(&kube::api::ListParams::default()).await.unwrap();
    let seen: Vec<(Verb, String)> = world.wire.seen.lock().unwrap().clone();
    let expected = [(Verb::Apply, "a"), (Verb::Get, "a"), (Verb::List, "")].map(|(verb, name)| (verb, name.to_owned()));
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn each_fate_of_an_event_is_what_it_says() {
    use EventFate::{Break, Close, Deliver, Double, Gone, Lose, Silence};
    let table: [(&[EventFate], &[&str]); 7] = [
        (&[Deliver, Deliver], &["a", "b", "c"]),
        (&[Lose], &["b", "c"]),
        (&[Deliver, Double], &["a", "b", "b", "c"]),
        (&[Deliver, Silence], &["a"]),
        (&[Deliver, Close], &["a", "end"]),
        (&[Deliver, Break], &["a", "broken"]),
        (&[Deliver, Gone], &["a", "410", "end"]),
    ];
    for (fates, expected) in table {
        let world = World::new();
        assert_eq!(world.told(fates, &["a", "b", "c"]).await, expected, "{fates:?}");
    }
    let world = World::new();
    let start = now();
    assert_eq!(world.told(&[EventFate::Delay(Duration::from_secs(7))], &["a", "b"]).await, ["a", "b"]);
    assert_eq!(start.elapsed(), Duration::from_secs(7) + QUIET, "the second comes right after the first");
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_the_past_and_a_read_never_does() {
    let world = World::new();
    world.put("a", "YQ==");
    world.put("a", "Yg==");
    world.put("b", "YQ==");
    let now = world.server.version().to_string();
    for (behind, names, value) in [(0, vec!["a", "b"], "b"), (1, vec!["a"], "b"), (2, vec!["a"], "a"), (3, vec![], "")]
    {
        world.route(Route { view: View::Behind(behind), ..Route::default() });
        let list = world.secrets.list(&kube::api::ListParams::default()).await.unwrap();
        let shown: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(shown, names, "{behind} behind");
        let first = list.items.first().and_then(|secret| secret.data.as_ref()?.get("k").cloned());
        assert_eq!(first.map(|value| value.0).unwrap_or_default(), value.as_bytes());
        assert_eq!(list.metadata.resource_version.unwrap() == now, behind == 0);
        assert_eq!(world.secrets.get("a").await.unwrap().data.unwrap()["k"].0, b"b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_tells_an_event_when_others_followed() {
    let world = World::new();
    world.route(Route { view: View::Behind(1), ..Route::default() });
    assert_eq!(world.told(&[], &["a", "b", "c"]).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_time_and_says_how_far_it_is_before() {
    let world = World::new();
    let how = WatchParams::default().timeout(90);
    let from = world.server.version().to_string();
    let start = now();
    let events: Vec<WatchEvent<Secret>> = world.secrets.watch(&how, &from).await.unwrap().try_collect().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(90));
    let [WatchEvent::Bookmark(mark)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(mark.metadata.resource_version, from);
}

#[tokio::test(start_paused = true)]
async fn the_real_watcher_gets_over_a_compaction() {
    let world = World::new();
    world.put("a", "YQ==");
    let mut events = watcher(world.secrets.clone(), watcher::Config::default()).boxed();
    let mut seen = Vec::new();
    let mut failures = 0;
    while let Ok(Some(event)) = timeout(Duration::from_secs(400), events.next()).await {
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => seen.push(secret.name_any()),
            Ok(Event::InitDone) if seen.len() == 1 => {
                // What its watch is to go on from is forgotten before it begins.
                world.put("b", "YQ==");
                world.server.compact();
            }
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
            Err(_) => failures += 1,
        }
        if seen.len() == 3 {
            break;
        }
    }
    assert_eq!((seen, failures), (["a", "a", "b"].map(str::to_owned).to_vec(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_fall_into_the_past_ends_watches_and_takes_versions_back() {
    let world = World::new();
    world.put("a", "YQ==");
    let (past, then) = (world.server.snapshot(), world.server.version());
    let events = world.secrets.watch(&WatchParams::default(), &then.to_string()).await.unwrap().boxed();
    for name in ["b", "c"] {
        world.put(name, "YQ==");
    }
    let known = world.server.version();
    world.server.restore(&past);
    let told: Vec<WatchEvent<Secret>> = timeout(QUIET, events.try_collect()).await.unwrap().unwrap();
    assert!(told.is_empty(), "what is lost is not told any more: {told:?}");
    assert_eq!((world.server.version(), world.is_there("b")), (then, false));
    // Who knows of a later version is told nothing until that is passed.
    let events = world.secrets.watch(&WatchParams::default(), &known.to_string()).await.unwrap().boxed();
    for name in ["d", "e", "f"] {
        world.put(name, "YQ==");
    }
    let first = timeout(QUIET, events.into_future()).await.unwrap().0.unwrap().unwrap();
    let WatchEvent::Added(first) = first else { panic!("{first:?}") };
    assert_eq!((first.name_any(), first.resource_version()), ("f".to_owned(), Some((known + 1).to_string())));
}

#[tokio::test(start_paused = true)]
async fn the_history_holds_every_version_and_who_made_it() {
    let world = World::new();
    let start = world.server.version();
    world.put("a", "YQ==");
    let patch = json!({ "data": { "k": "Yg==" } });
    world.secrets.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    world.secrets.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let uri = "/api/v1/namespaces/default/secrets/a";
    assert!(world.server.request("person", Verb::Delete, uri, None).is_ok());
    let history = world.server.history(start);
    let told: Vec<String> = history.iter().map(|c| format!("{} {:?} {:?}", c.caller, c.verb, c.happened)).collect();
    assert_eq!(told, ["person Apply Created", "test Merge Modified", "person Delete Deleted"]);
    let versions: Vec<u64> = history.iter().map(|change| change.version).collect();
    assert_eq!(versions, [start + 1, start + 2, start + 3]);
    let written: Vec<&str> =
        history.iter().map(|c| c.object()["metadata"]["resourceVersion"].as_str().unwrap()).collect();
    assert_eq!(written, versions.iter().map(u64::to_string).collect::<Vec<_>>());
}
