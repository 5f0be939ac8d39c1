//! What becomes of objects that others take away, or put back.

use api_server::Verb;
use schedules::scene::Scene;
use schedules::story::Edit;
use schedules::world::{PEOPLE, Record, World, uri};
use serde_json::{Value, json};
use simulator::{Behaviour, Console, Fault};

use crate::tools::{accepted, asked, calls, condition, ms, must, patch, played, s, text};

const TEAM: &str = "/api/v1/namespaces/team-0";
const ACCOUNT: &str = "/apis/dijob.dev/v1alpha1/namespaces/team-0/dataworksaccounts/main";

fn kubectl(world: &World, verb: Verb, uri: &str, body: Option<Value>) -> Value {
    let answer = world.ask(PEOPLE, verb, uri, body);
    if !answer.is_ok() {
        world.complain(format!("{verb:?} {uri}: {}", answer.value()));
    }
    answer.value()
}

/// As the controllers of namespaces do: the mark, then what is in it, in their order, then the namespace itself.
fn delete_namespace(scene: Scene, at: u64, jobs: usize) -> Scene {
    let scene = scene
        .act(s(at), "the namespace is deleted", |world| {
            kubectl(world, Verb::Delete, TEAM, None);
        })
        .act(s(at + 2), "its Secret is deleted", |world| {
            kubectl(world, Verb::Delete, &format!("{TEAM}/secrets/key"), None);
        })
        .act(s(at + 4), "its account is deleted", |world| {
            kubectl(world, Verb::Delete, ACCOUNT, None);
        });
    let scene = (0..jobs).fold(scene, |scene, n| scene.at(s(at + 6) + ms(5 * n as u64), Edit::Delete(n)));
    scene.act(s(at + 10), "it is gone", |world| {
        let finalize = format!("{TEAM}/finalize");
        kubectl(world, Verb::Replace, &finalize, Some(json!({ "metadata": { "name": "team-0" }, "spec": {} })));
    })
}

/// Covers: 28s.
#[test]
fn a_namespace_that_is_deleted_ends_without_a_storm() {
    // Half of the jobs are at work, half are being started, and the cloud is slow with those.
    let slow = Behaviour::late_answer(jiff::SignedDuration::from_secs(3));
    let scene = Scene::of(100).fleet(5, "team-0", 1).fleet(5, "team-0", 30).fleet(2, "team-b", 32).cloud(|c| {
        let faults = (7005..7010).map(|job| Fault { job: Some(job), behaviour: slow.clone(), ..Fault::default() });
        c.faults.extend(faults);
    });
    let record = played(delete_namespace(scene, 31, 10));
    let after = |from: u64, what: &str| asked(&record, from..100, |request| request.contains(what));
    let (writes, events) = (after(31, "status"), after(31, "Create events"));
    must(&record, writes <= 60, &format!("{writes} writes of status since the deletion"));
    must(&record, events <= 24, &format!("{events} events since the deletion"));
    let here = |a: &&schedules::weather::Asked| a.object.0 == "team-0" && a.at > s(45);
    let late: Vec<_> = record.asked.iter().filter(here).collect();
    must(&record, late.is_empty(), &format!("requests for what is gone: {late:?}"));
    let calls_after = calls(&record, "GetDIJob").iter().filter(|(at, e)| *at > 45.0 && e.job < Some(7010)).count();
    must(&record, calls_after == 0, &format!("{calls_after} calls for what is gone"));
    must(&record, record.ledger.executions(7010).len() == 1, "the other namespace goes on");
}

fn no_start_but(record: &Record, most: usize, what: &str) {
    let starts = accepted(record);
    must(record, starts.len() <= most, &format!("{what}: starts at {starts:?}"));
}

fn forget_status(world: &World) {
    let status = format!("{}/status", uri("team-0", "job-0"));
    kubectl(world, Verb::Merge, &status, Some(json!({ "status": null })));
}

/// Puts back spec, annotations and status as they were in the version that `which` picks.
fn restore(world: &World, which: impl Fn(&Value) -> bool) {
    let history = world.api().history(0);
    let jobs = history.iter().filter(|c| &*c.resource == "dataintegrationjobs" && &*c.name == "job-0");
    let Some(old) = jobs.map(|c| c.object()).find(|object| which(object)) else {
        return world.complain("there is no such version".to_owned());
    };
    let mut object = world.job(0);
    object["spec"] = old["spec"].clone();
    let there = uri("team-0", "job-0");
    let mut object = kubectl(world, Verb::Replace, &there, Some(object));
    object["status"] = old["status"].clone();
    kubectl(world, Verb::Replace, &format!("{there}/status"), Some(object));
}

/// Covers: 44s.
#[test]
fn a_status_that_is_lost_or_a_day_old_starts_nothing() {
    // Two hours stand for a day: longer than any wait, and than the life of any signature.
    let day = 2 * 3600;
    let begun = |spec: Value| Scene::of(day + 60).job("team-0", spec).at(s(1), Edit::Create(0));
    let change = json!({ "spec": { "realtimeStartSettings": { "failoverSettings": { "interval": 3 } } } });
    for restarts in [false, true] {
        let and_restart = |scene: Scene| {
            scene.act(s(day), "kill", move |world| {
                if restarts {
                    world.processes().iter().for_each(|p| world.kill(p));
                }
            })
        };
        let record = played(and_restart(begun(json!({})).act(s(100), "its status is lost", forget_status)));
        no_start_but(&record, 1, "lost status");
        must(&record, condition(record.last(0), "Ready").0 == "True", "a running job is not adopted");
        let last = record.last(0).pointer("/status/lastStart");
        must(&record, last.is_none(), "an adopted job has no start of ours");

        // One start is of the first spec and one of the next; a day later all is as it was after the first.
        let confirmed = |object: &Value| text(object, "/status/lastStart/outcome") == "Confirmed";
        let pending = |object: &Value| object.pointer("/status/pendingStart").is_some();
        for (what, which) in [("old status", confirmed as fn(&Value) -> bool), ("old intent", pending)] {
            let scene = begun(json!({}))
                .at(s(60), patch(0, change.clone()))
                .at(s(61), Edit::Console(0, Console::Stop))
                .at(s(90), Edit::Console(0, Console::Start))
                .act(s(day), "a backup is restored", move |world| restore(world, which));
            let record = played(and_restart(scene));
            no_start_but(&record, 2, what);
            let here = record.last(0);
            must(&record, here.pointer("/status/pendingStart").is_none(), &format!("{what}: unresolved"));
        }
    }
}
