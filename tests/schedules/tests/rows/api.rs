//! What goes wrong at the API server.

use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use schedules::play::play;
use schedules::scene::Scene;
use schedules::story::Edit;
use schedules::weather::{Ill, Of};
use serde_json::json;
use simulator::{Behaviour, Fault, StartOnRunning};

use crate::tools::{accepted, asked, calls, condition, must, patch, played, s, text};

/// Covers: 17s.
#[test]
fn a_change_taken_back_unseen_starts_nothing() {
    let there = [
        json!({ "spec": { "realtimeStartSettings": { "startTime": 1_700_000_000 } } }),
        json!({ "spec": { "forceToRerun": true } }),
        json!({ "spec": { "rerunToken": "once" } }),
        json!({ "metadata": { "annotations": { "dijob.dev/rerun": "once" } } }),
        json!({ "spec": { "suspend": true } }),
    ];
    let back = [
        json!({ "spec": { "realtimeStartSettings": null } }),
        json!({ "spec": { "forceToRerun": false } }),
        json!({ "spec": { "rerunToken": "" } }),
        json!({ "metadata": { "annotations": { "dijob.dev/rerun": null } } }),
        json!({ "spec": { "suspend": false } }),
    ];
    for (there, back) in there.into_iter().zip(back) {
        let scene = Scene::of(90)
            .job("team-0", json!({}))
            .at(s(1), Edit::Create(0))
            .spell(60..70, Ill::Refuses, Of::Views)
            .at(s(62), patch(0, there.clone()))
            .at(s(64), patch(0, back))
            .act(s(66), "compaction", |world| world.api().compact());
        let record = played(scene);
        let starts = accepted(&record);
        must(&record, starts.len() == 1, &format!("{there}: starts at {starts:?}"));
        let last = record.last(0);
        let (seen, is) = (&last["status"]["observedGeneration"], &last["metadata"]["generation"]);
        must(&record, seen == is, &format!("{there}: generation {seen} of {is}"));
    }
}

/// Covers: 19s.
#[test]
fn an_outcome_that_cannot_be_written_for_ten_minutes_arrives_whole() {
    for ill in [Ill::Answers(500), Ill::Answers(503), Ill::Refuses, Ill::Silent] {
        for forced in [false, true] {
            let slow = Behaviour::late_answer(SignedDuration::from_secs(5));
            let action = Some("StartDIJob".to_owned());
            let scene = Scene::of(603)
                .job("team-0", json!({ "forceToRerun": forced }))
                .at(s(1), Edit::Create(0))
                .cloud(|c| c.faults.push(Fault { action, behaviour: slow, ..Fault::default() }))
                .spell(3..603, ill, Of::StatusWrites);
            let record = played(scene);
            let starts = calls(&record, "StartDIJob");
            must(&record, starts.len() == 1, &format!("{} calls", starts.len()));
            let id = starts[0].1.request_id.as_str();
            let first = record.versions(0).into_iter().find(|(at, _, _)| *at > 603.0).unwrap();
            let outcome = text(first.2, "/status/lastStart/outcome");
            must(&record, outcome == "Accepted", &format!("the first word after ten minutes is {outcome}"));
            must(&record, first.0 <= 603.0 + 300.0, "a backoff is longer than 5 minutes");
            let last = record.last(0);
            must(&record, text(last, "/status/lastStart/requestId") == id, "the RequestId is lost");
            must(&record, text(last, "/status/lastStart/outcome") == "Confirmed", "it is not confirmed");
            let tries = asked(&record, 3..603, |what| what.ends_with("dataintegrationjobs/status"));
            must(&record, (3..=40).contains(&tries), &format!("{tries} tries in ten minutes"));
        }
    }
}

/// Covers: 20s.
#[test]
fn an_api_server_that_is_away_doubles_nothing_and_is_at_work_soon_after() {
    for length in [15, 60, 300] {
        for (ill, soon) in [(Ill::Refuses, 10.0), (Ill::Silent, 45.0), (Ill::Answers(503), 10.0)] {
            let (begins, ends) = (30, 30 + length);
            let slow = Behaviour::late_answer(SignedDuration::from_secs(4));
            let fault = Fault { job: Some(7002), behaviour: slow, ..Fault::default() };
            let scene = Scene::of(ends + 5)
                .fleet(2, "team-0", 1)
                .job("team-0", json!({ "forceToRerun": true }))
                // Its answer comes when the API server is away already.
                .at(s(begins - 5), Edit::Create(2))
                .cloud(|c| c.faults.push(fault))
                .spell(begins..ends, ill, Of::All)
                .at(s(begins + 5), patch(1, json!({ "spec": { "rerunToken": "meanwhile" } })));
            let record = played(scene);
            let of = |job| record.ledger.executions(job).iter().map(|e| record.second(e.at)).collect::<Vec<f64>>();
            let end = f64::from(u32::try_from(ends).unwrap());
            must(&record, of(7000).len() == 1 && of(7002).len() == 1, &format!("{ill:?} {length} s: a double"));
            let (first, asked_for) = (of(7001)[0], calls(&record, "StartDIJob").last().unwrap().0);
            must(&record, first < 3.0 && asked_for > end, "the token was not seen afterwards");
            must(&record, asked_for <= end + soon, &format!("{ill:?} {length} s: at work at {asked_for}, not {end}"));
            let requests = asked(&record, begins..ends, |_| true);
            let most = 20 + usize::try_from(length).unwrap() * 2;
            must(&record, requests <= most, &format!("{ill:?} {length} s: {requests} requests"));
            let events = asked(&record, begins..ends + 60, |what| what == "Create events");
            must(&record, events <= 8, &format!("{events} events"));
            let ready = condition(record.last(2), "Ready").0;
            must(&record, ready == "True", &format!("{ill:?} {length} s: Ready is {ready}"));
        }
    }
}

/// Covers: 39s.
#[test]
fn a_slow_api_server_ends_every_wait_and_holds_up_its_own_alone() {
    use std::time::Duration;
    for ill in
        [Ill::Slow(Duration::from_secs(29)), Ill::Slow(Duration::from_secs(31)), Ill::Trickles(Duration::from_secs(1))]
    {
        let scene = Scene::of(300).fleet(20, "team-slow", 1).fleet(5, "team-b", 3).spell(
            0..300,
            ill,
            Of::Namespace("team-slow"),
        );
        let record = played(scene);
        let starts = calls(&record, "StartDIJob");
        let at = |job| starts.iter().find(|(_, e)| e.job == Some(job)).map_or(f64::MAX, |(at, _)| *at);
        let others: Vec<f64> = (7020..7025).map(at).collect();
        must(&record, others.iter().all(|at| *at < 5.0), &format!("{ill:?}: the others start at {others:?}"));
        let slow: Vec<f64> = (7000..7020).map(at).collect();
        must(&record, slow.iter().all(|at| *at < 300.0 + 330.0), &format!("{ill:?}: they start at {slow:?}"));
        // Each wait ends within 35 s, and is followed by a backoff of at most a minute by then.
        let reads = asked(&record, 60..300, |what| what == "Get secrets");
        must(&record, reads >= 2, &format!("{ill:?}: the Secret is asked for {reads} times in four minutes"));
    }
}

/// Covers: 15s.
#[test]
fn an_api_server_that_falls_back_into_the_past_repeats_no_start() {
    let change = json!({ "spec": { "realtimeStartSettings": { "startTime": 1_700_000_000 } } });
    let story = |seconds| {
        let scene = Scene::of(seconds).cloud(|c| c.rules.start_on_running = StartOnRunning::Restart);
        scene.job("team-0", json!({})).at(s(1), Edit::Create(0)).at(s(60), patch(0, change.clone()))
    };
    // Its lists and watches show the past, from before our last writes; the store itself goes on.
    let mut refused = 0;
    for restarts in [false, true] {
        for versions in 1..=7 {
            let scene = story(200).spell(100..160, Ill::Past(versions), Of::Jobs).act(s(100), "kill", move |world| {
                world.api().compact(); // a watch that lives on must list again
                if restarts {
                    world.processes().iter().for_each(|p| world.kill(p));
                }
            });
            let record = played(scene);
            let starts = calls(&record, "StartDIJob").len();
            must(&record, starts == 2, &format!("{starts} calls, {versions} versions behind"));
            let tries = asked(&record, 100..160, |what| what == "Apply dataintegrationjobs/status");
            let made = record.versions(0).iter().filter(|(at, _, _)| (100.0..160.0).contains(at)).count();
            must(&record, made == 0, &format!("{made} writes of what is settled"));
            must(&record, restarts || tries == 0, &format!("{tries} writes on what is older than our own"));
            refused += tries;
        }
    }
    assert!(refused > 0, "nothing was ever decided on the past");
    // The store itself is restored from a backup, under a process that lives on.
    let kept = Arc::new(Mutex::new(None));
    let (put, take) = (kept.clone(), kept);
    let scene = story(400)
        .act(s(60), "a backup", move |world| *put.lock().unwrap() = Some(world.api().snapshot()))
        .act(s(100), "it is restored", move |world| world.api().restore(take.lock().unwrap().as_ref().unwrap()));
    // The object stays as it was restored until the server's versions have passed our own: only the calls are judged.
    let record = play(scene.done(), s(0));
    let starts = calls(&record, "StartDIJob").len();
    must(&record, starts == 2, &format!("{starts} calls around a restored backup"));
    let wrong = &record.wrong;
    must(&record, wrong.is_empty(), &format!("{wrong:?}"));
}
