//! What goes wrong with processes, their clocks and their versions.

use api_server::{Kinds, Verb};
use jiff::{SignedDuration, Timestamp};
use schedules::play::play;
use schedules::scene::Scene;
use schedules::story::Edit;
use schedules::world::{CRDS, PEOPLE, Record, World, uri};
use serde_json::json;
use simulator::{Behaviour, Fault, Hint, Key, Refusal, StartOnRunning};

use crate::tools::{accepted, asked, calls, condition, ms, must, patch, played, s, watched};

fn kill_all(world: &World) {
    world.processes().iter().for_each(|p| world.kill(p));
}

fn stop_all(world: &World) {
    world.processes().iter().for_each(|p| world.stop(p));
}

fn an_hour_off(process: u64) -> SignedDuration {
    let hours = [0, 1, -1, 1, 0, -1][usize::try_from(process % 6).unwrap_or(0)];
    SignedDuration::from_secs(hours * 3600 + i64::try_from(process).unwrap_or(0))
}

/// A life's wall clock is read once, at its birth, so a jump shows in the next life.
///
/// Covers: 23s.
#[test]
fn wrong_clocks_sign_by_the_clouds_time_and_elect_one_leader() {
    for (replicas, drift) in [(1, 0), (1, 200), (1, -100), (2, 100)] {
        for lost in [false, true] {
            let mut scene = Scene::of(700).clocks(an_hour_off).drift(drift).job("team-0", json!({}));
            scene = scene.at(s(1), Edit::Create(0)).cloud(|c| {
                c.rules.start_on_running = StartOnRunning::Restart;
                if lost {
                    let action = Some("StartDIJob".to_owned());
                    c.faults.push(Fault { action, behaviour: Behaviour::lost_answer(), ..Fault::default() });
                }
            });
            if replicas > 1 {
                scene = scene.elects(replicas);
            }
            // A change each hundred seconds, and a kill at its heels, at other distances.
            for n in 1..6_u64 {
                let change = json!({ "spec": { "realtimeStartSettings": { "startTime": 1_700_000_000 + n } } });
                let at = s(100 * n);
                scene = scene.at(at, patch(0, change)).act(at + ms(7 * n * n), "kill", kill_all);
            }
            let record = played(scene);
            let what = format!("{replicas} replicas, drift {drift}, lost {lost}");
            for (_, start) in calls(&record, "StartDIJob") {
                let signed: Timestamp = start.signed_time.as_deref().unwrap_or_default().parse().unwrap();
                let off = start.last_byte.duration_since(signed).abs();
                let refused = start.status.is_some_and(|status| status >= 400);
                must(&record, refused || off < SignedDuration::from_secs(40), &format!("{what}: signed {off:#} off"));
            }
            let ran = record.ledger.executions(7000).len();
            must(&record, (1..=6).contains(&ran), &format!("{what}: {ran} executions of six triggers"));
            // Killed between intent and call, a forced start is not sent, and says so.
            let ready = condition(record.last(0), "Ready").1;
            let fine = ["JobRunning", "StartOutcomeUnknown"].contains(&ready);
            must(&record, fine, &format!("{what}: {ready}"));
        }
    }
}

fn secret_of(world: &World, account: &str) {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let key = Key { account: account.to_owned(), secret: "othersecret".to_owned() };
    world.cloud().put_key("LTAIother", key);
    let data = json!({ "accessKeyId": encode("LTAIother"), "accessKeySecret": encode("othersecret") });
    world.ask(PEOPLE, Verb::Merge, "/api/v1/namespaces/team-0/secrets/key", Some(json!({ "data": data })));
}

/// Covers: 25s.
#[test]
fn another_account_behind_the_key_or_the_reference_starts_nothing() {
    let swallowed = |calls| {
        let action = Some("StartDIJob".to_owned());
        Fault { calls: Some(calls), action, behaviour: Behaviour::swallowed(), ..Fault::default() }
    };
    let renamed = json!({ "spec": { "accountRef": { "name": "other" } } });
    for by_reference in [false, true] {
        for forced in [false, true] {
            for under_way in [false, true] {
                let change = renamed.clone();
                // At rest, or while the answer to a start is missing.
                let at = if under_way { s(5) } else { s(60) };
                let scene = Scene::of(1800)
                    .job("team-0", json!({ "forceToRerun": forced }))
                    .at(s(1), Edit::Create(0))
                    .cloud(|c| c.faults.extend(under_way.then(|| swallowed(1))))
                    .act(at, "another account", move |world| {
                        if !by_reference {
                            return secret_of(world, "1999999999999999");
                        }
                        let accounts = "/apis/dijob.dev/v1alpha1/namespaces/team-0/dataworksaccounts";
                        let spec = json!({
                            "regionId": "cn-shanghai", "edition": "Enterprise", "credentials": { "secretRef": { "name": "key" } },
                        });
                        let other = json!({
                            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
                            "metadata": { "name": "other", "namespace": "team-0" }, "spec": spec,
                        });
                        world.ask(PEOPLE, Verb::Create, accounts, Some(other));
                        world.ask(PEOPLE, Verb::Merge, &uri("team-0", "job-0"), Some(change.clone()));
                    });
                let record = played(scene);
                let starts = calls(&record, "StartDIJob");
                let what = format!("reference {by_reference}, forced {forced}, under way {under_way}");
                // An ordinary start that the cloud swallowed is sent again; nothing else is.
                let again = under_way && !forced;
                must(&record, again || starts.len() == 1, &format!("{what}: {} starts", starts.len()));
                let ran = record.ledger.executions(7000).len();
                must(&record, ran == usize::from(again || !under_way), &format!("{what}: {ran} executions"));
                let second = starts.get(1).map_or(f64::MAX, |(at, _)| *at);
                let same_key = by_reference;
                must(
                    &record,
                    same_key || second > 590.0,
                    &format!("{what}: a second copy under another key at {second}"),
                );
                let unknown = condition(record.last(0), "Stalled").1 == "StartOutcomeUnknown";
                must(&record, unknown == (forced && under_way), &format!("{what}: unknown {unknown}"));
            }
        }
    }
}

/// Covers: 43s.
#[test]
fn a_newer_record_is_left_alone_and_an_older_crd_starts_nothing() {
    let of_a_newer_one = |world: &World| {
        let history = world.api().history(0);
        let versions = history.iter().filter(|c| &*c.resource == "dataintegrationjobs" && &*c.name == "job-0");
        let pending = versions.filter_map(|c| c.object().pointer("/status/pendingStart")).next_back().cloned();
        let mut pending = pending.unwrap_or_default();
        pending["protocol"] = json!(2);
        let status = format!("{}/status", uri("team-0", "job-0"));
        let answer = world.ask("newer", Verb::Merge, &status, Some(json!({ "status": { "pendingStart": pending } })));
        if !answer.is_ok() {
            world.complain(answer.value().to_string());
        }
    };
    let scene = Scene::of(3600)
        .fleet(2, "team-0", 1)
        .act(s(60), "a newer operator writes", of_a_newer_one)
        .at(s(90), patch(0, json!({ "spec": { "rerunToken": "again" } })))
        .act(s(120), "kill", kill_all)
        .at(s(130), patch(0, json!({ "spec": { "forceToRerun": true } })))
        .act(s(150), "SIGTERM", stop_all)
        .at(s(170), patch(1, json!({ "spec": { "rerunToken": "again" } })));
    // What the newer operator left unresolved stays so: this cannot be judged as a schedule that ends well.
    let record = play(scene.done(), s(0));
    must(&record, record.wrong.is_empty(), &format!("{:?}", record.wrong));
    let touched =
        record.versions(0).iter().filter(|(at, by, _)| *at > 60.0 && *by != "people" && *by != "newer").count();
    must(&record, touched == 0, &format!("{touched} writes of a newer record"));
    let called = record.ledger.entries().iter().filter(|e| e.job == Some(7000) && record.second(e.last_byte) > 60.0);
    must(&record, called.count() == 0, "the cloud is called for it");
    must(&record, accepted(&record).iter().any(|at| *at > 170.0), "the other object goes on");

    let old: Vec<String> = CRDS.iter().map(|crd| crd.replace("openUntil:\n", "openedUntil:\n")).collect();
    assert_ne!(old[0], CRDS[0], "the field has another name now");
    let scene = Scene::of(300)
        .act(s(0), "an older CRD", move |world| {
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            world.api().serve(&Kinds::read(&old).unwrap());
        })
        .fleet(2, "team-0", 5)
        .act(s(60), "kill", kill_all)
        .act(s(100), "is it ready", |world| {
            let ready = |p: &std::sync::Arc<schedules::process::Process>| {
                p.health.lock().unwrap().as_ref().map(dijob_operator::health::Health::ready)
            };
            if world.processes().iter().any(|p| ready(p) == Some(Ok(()))) {
                world.complain("a process is ready on an older CRD".to_owned());
            }
        })
        .act(s(120), "the CRD of this operator", |world| world.api().serve(&Kinds::read(&CRDS).unwrap()));
    let record = played(scene);
    let first = record.ledger.entries().iter().find(|e| e.job.is_some()); // whose the key is changes nothing, and may be asked
    let first = first.map_or(0.0, |e| record.second(e.last_byte));
    must(&record, (120.0..152.0).contains(&first), &format!("the cloud is first called at {first}"));
    must(&record, accepted(&record).len() == 2, "both start");
    let early = record.versions(0).iter().filter(|(at, by, _)| *at < 120.0 && *by != "people").count();
    must(&record, early == 0, &format!("{early} writes under an older CRD"));
}

fn gauges(record: &Record, kept: &[String]) -> (i64, i64) {
    let sum = |of: &str, event: &str| -> i64 {
        let lines = kept.iter().filter(|l| l.starts_with(of) && l.contains(event));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<i64>().ok()).sum()
    };
    let granted = sum("dijob_permits_total", "granted") - sum("dijob_permits_total", "returned");
    let of_dataworks = record.ledger.entries().iter().filter(|e| e.job.is_some()); // STS takes no turns
    let made = i64::try_from(of_dataworks.count()).unwrap();
    (granted - made, sum("dijob_waiting_turns", ""))
}

/// Covers: 45s.
#[test]
fn a_day_of_churn_leaves_nothing_behind() {
    let (day, jobs) = (24 * 900_u64, 3_usize); // each of its hours has 15 minutes
    let mut scene = (0..jobs).fold(Scene::of(day), |scene, _| scene.job("team-0", json!({})));
    scene = scene.cloud(|c| c.rules.start_on_running = StartOnRunning::Restart);
    for n in 0..jobs {
        for round in 0..24_u64 {
            let begin = 900 * round + 10 + 7 * n as u64;
            let change = json!({ "spec": { "realtimeStartSettings": { "startTime": 1_700_000_000 + round } } });
            let rerun = json!({ "spec": { "rerunToken": format!("round-{round}") } });
            let wish = scene.at(s(begin), Edit::Create(n)).at(s(begin + 150), patch(n, change));
            // Every other time it is deleted while it waits for its turn, which the cloud holds back.
            let late = if round % 2 == 0 { ms(600_000) } else { ms(310_000 + 40 * round) };
            scene = wish.at(s(begin + 300), patch(n, rerun)).at(s(begin) + late, Edit::Delete(n));
            if n == 0 {
                let hold = |world: &World| {
                    let behaviour =
                        Behaviour::error(Refusal::of("Throttling.User")).with_hint(Hint::RetryAfter(Some(30_000)));
                    world.cloud().switches.faults.push(Fault { behaviour, ..Fault::default() });
                };
                let hold_no_more = |world: &World| world.cloud().switches.faults.clear();
                scene = scene.act(s(begin + 299), "hold", hold).act(s(begin + 318), "hold no more", hold_no_more);
                scene = scene.at(s(begin + 700), Edit::Rotate(n));
            }
        }
    }
    let kept = std::sync::Arc::new(std::sync::Mutex::new((Vec::new(), Vec::new())));
    let count = |scene: Scene, at: u64| {
        let kept = kept.clone();
        scene.act(s(at), "count", move |world| {
            let mut kept = kept.lock().unwrap();
            kept.0.push(tokio::runtime::Handle::current().metrics().num_alive_tasks());
            let metrics = world.processes().last().map(|p| p.metrics.encode().unwrap()).unwrap_or_default();
            kept.1 = metrics.lines().map(str::to_owned).collect();
        })
    };
    let scene = count(count(count(scene, 880), 12 * 900 - 10), day - 10);
    let record = watched(scene.done(), s(600));
    let (tasks, lines) = std::mem::take(&mut *kept.lock().unwrap());
    must(&record, tasks[0] == tasks[2] && tasks[1] <= tasks[0], &format!("tasks: {tasks:?}"));
    must(&record, gauges(&record, &lines) == (0, 0), &format!("turns left behind: {lines:#?}"));
    let ran: usize = (7000..7003).map(|job| record.ledger.executions(job).len()).sum();
    must(&record, (100..=jobs * 24 * 3).contains(&ran), &format!("{ran} executions"));
    let late = asked(&record, day - 200..day, |what| what.contains("dataintegrationjobs/") || what.contains("events"));
    must(&record, late == 0, &format!("{late} requests when all is gone"));
}

#[test]
fn a_process_asked_to_end_at_any_step_ends_in_time_and_leaves_no_start_unknown() {
    let mut between = 0;
    for step in 0..40_u64 {
        let scene = Scene::of(120)
            .seed(step)
            .job("team-0", json!({ "forceToRerun": true }))
            .at(s(1), Edit::Create(0))
            .act(ms(1000 + 7 * step), "SIGTERM", stop_all)
            .cloud(|c| {
                let slow = Behaviour::late_answer(SignedDuration::from_millis(60));
                c.faults.push(Fault { behaviour: slow, ..Fault::default() });
            });
        let record = played(scene);
        let (_, asked, ended) = record.stopped[0];
        let took = ended.map_or(f64::MAX, |ended| record.second(ended) - record.second(asked));
        must(&record, took < 20.0, &format!("step {step}: it took {took} s to end"));
        must(&record, record.ledger.executions(7000).len() == 1, &format!("step {step}: executions"));
        must(&record, condition(record.last(0), "Ready").1 == "JobRunning", &format!("step {step}"));
        let pending = |object: &serde_json::Value| object.pointer("/status/pendingStart").is_some();
        let at = record.second(asked);
        let versions = record.versions(0);
        let before = versions.iter().rfind(|(time, _, _)| *time < at);
        between += usize::from(before.is_some_and(|(_, _, object)| pending(object)));
    }
    assert!(between > 0, "none was asked between intent and outcome");
}
