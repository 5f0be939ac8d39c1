//! What goes wrong at the cloud.

use api_server::Verb;
use schedules::scene::Scene;
use schedules::story::Edit;
use schedules::weather::{Ill, Of};
use schedules::world::{PEOPLE, Record, World, account_of};
use serde_json::json;
use simulator::{Behaviour, Console, Fault, Hint, Limits, Neighbour, Rate, Refusal, StartOnRunning, Window};

use crate::tools::{accepted, calls, condition, ms, must, patch, played, s, text, writes};

fn refused(action: Option<&str>, refusal: Refusal, hint: Hint) -> Fault {
    let behaviour = Behaviour::error(refusal).with_hint(hint);
    Fault { action: action.map(str::to_owned), behaviour, ..Fault::default() }
}

/// No job was made to wait for itself, or called refused.
fn nobody_is_punished(record: &Record) {
    for n in 0..record.schedule.jobs.len() {
        for (at, _, object) in record.versions(n) {
            let status = &object["status"];
            let punished = status["attempts"].as_i64().unwrap_or(0) > 0 || status.get("nextAttemptTime").is_some();
            must(record, !punished, &format!("job {n} has a delay of its own at {at}"));
            must(record, condition(object, "Stalled").0.is_empty(), &format!("job {n} is stalled at {at}"));
            let rejected = text(object, "/status/lastStart/outcome") == "Rejected";
            must(record, !rejected, &format!("job {n} is called rejected at {at}"));
        }
    }
}

/// Covers: 10s.
#[test]
fn ten_minutes_of_throttling_leave_no_trace_once_they_are_over() {
    for (action, jobs, length) in [(None, 24, 600_u32), (Some("StartDIJob"), 4, 60)] {
        let storm = refused(action, Refusal::of("Throttling.User"), Hint::None);
        // The faults of the cloud end with the scene.
        let record = played(Scene::of(u64::from(length)).fleet(jobs, "team-0", 1).cloud(|c| c.faults.push(storm)));
        nobody_is_punished(&record);
        let tries = calls(&record, action.unwrap_or("GetDIJob"));
        let end = f64::from(length);
        let during = tries.iter().filter(|(at, _)| *at < end).count();
        // From 50 reads or 20 writes a second it takes 16 refusals for each interval of the limit that ours grows.
        let (fewest, most) = if action.is_none() { (600, 1_000) } else { (100, 200) };
        must(&record, (fewest..=most).contains(&during), &format!("{during} calls in a storm of {length} s"));
        let first = tries.iter().map(|(at, _)| *at).find(|at| *at >= end).unwrap_or(f64::MAX);
        must(&record, first <= end + 2.0, &format!("the first call after the storm came at {first}"));
        let starts = accepted(&record);
        must(&record, starts.len() == jobs, &format!("{} starts of {jobs} jobs", starts.len()));
        let (first, last) = (starts[0], starts[jobs - 1]);
        must(&record, first <= end + 4.0 && last <= end + 40.0, &format!("starts from {first} to {last}"));
    }
}

/// Covers: 11s.
#[test]
fn throttling_in_odd_codes_and_with_absurd_hints_is_throttling() {
    let header = |value: &str| Hint::Header { name: "x-acs-retry-after".to_owned(), value: value.to_owned() };
    let codes = [
        Refusal::of("Throttling.User"),
        Refusal::of("Throttling.Api").with_status(400),
        Refusal::of("Throttling").with_status(503),
        Refusal::of("9990020002").with_status(400),
        Refusal::of("9990020002").with_status(200),
        Refusal::of("Odd.Code").with_status(429),
    ];
    let hints = [header("soon"), header("-5"), header("0"), header("1000000000000"), Hint::None];
    for (n, refusal) in codes.iter().enumerate() {
        let refusal = &refusal.clone().with_message("not now"); // so that the message gives nothing away
        let hint = hints[n % hints.len()].clone();
        let absurd = hint == header("1000000000000");
        let storm = |action| refused(action, refusal.clone(), hint.clone());
        for action in [None, Some("StartDIJob")] {
            let record = played(Scene::of(20).fleet(3, "team-0", 1).cloud(|c| c.faults.push(storm(action))));
            nobody_is_punished(&record);
            let starts = accepted(&record);
            must(&record, starts.len() == 3, &format!("{} starts of 3 jobs", starts.len()));
            let held = if absurd { 600.0..612.0 } else { 20.0..32.0 };
            let all = starts.iter().all(|at| held.contains(at));
            must(&record, all, &format!("{refusal:?} {hint:?}: starts at {starts:?}"));
        }
    }
}

/// Covers: 33s.
#[test]
fn a_hand_in_the_same_second_is_an_effect_and_ours_are_never_two() {
    let mut confirmed_by_hand = 0;
    for lost in [false, true] {
        for hand in [Console::Start, Console::Stop] {
            for n in 0..8 {
                let change = patch(0, json!({ "spec": { "realtimeStartSettings": { "startTime": 1_700_000_000 } } }));
                let scene = Scene::of(120)
                    .seed(n)
                    .job("team-0", json!({}))
                    .at(s(1), Edit::Create(0))
                    .at(ms(950 + 30 * n), Edit::Console(0, hand))
                    .at(s(60), change)
                    .at(ms(59_950 + 30 * n), Edit::Console(0, hand))
                    .cloud(|c| {
                        c.rules.start_on_running = StartOnRunning::Restart;
                        if lost {
                            let behaviour = Behaviour::swallowed();
                            let action = Some("StartDIJob".to_owned());
                            c.faults.push(Fault { calls: Some(1), action, behaviour, ..Fault::default() });
                        }
                    });
                let record = played(scene);
                let ran = record.ledger.executions(7000).len();
                let arrived = calls(&record, "StartDIJob").len();
                must(&record, ran <= 2, &format!("{ran} executions of two triggers"));
                // A copy that the cloud swallowed is sent again where no hand's start shows.
                must(&record, arrived <= 2 + usize::from(lost), &format!("{arrived} arrivals of two triggers"));
                // `StartedTime` is in whole seconds: in the very second of its baseline no effect can show.
                let outcome = text(record.last(0), "/status/lastStart/outcome");
                let fine = outcome == "Confirmed" || (hand == Console::Start && outcome == "Accepted");
                must(&record, fine, &format!("{outcome}: a start of the same second"));
                let early: Vec<_> = calls(&record, "StartDIJob")
                    .into_iter()
                    .filter(|(at, _)| *at < 59.9)
                    .map(|(_, e)| e.executed)
                    .collect();
                let seen = record
                    .versions(0)
                    .into_iter()
                    .any(|(at, _, object)| at < 59.9 && text(object, "/status/lastStart/outcome") == "Confirmed");
                confirmed_by_hand += usize::from(early == [None] && seen);
            }
        }
    }
    assert!(confirmed_by_hand > 0, "no hand was faster than the second copy");
}

/// Covers: 40s.
#[test]
fn a_cloud_that_takes_calls_and_answers_none_holds_up_its_own_account_alone() {
    let silent = Fault { account: Some(account_of("team-a")), behaviour: Behaviour::hang_after(), ..Fault::default() };
    let scene = Scene::of(60).fleet(100, "team-a", 1).fleet(5, "team-b", 8).cloud(|c| c.faults.push(silent));
    let record = played(scene);
    let of = |account: &str| {
        let starts = calls(&record, "StartDIJob").into_iter();
        starts.filter(|(_, e)| e.account.as_deref() == Some(account)).map(|(at, _)| at).collect::<Vec<f64>>()
    };
    let others = of(&account_of("team-b"));
    must(&record, others.len() == 5, &format!("{} starts of 5 others", others.len()));
    must(&record, others.iter().all(|at| *at < 9.0), &format!("the others start at {others:?}"));
    must(&record, of(&account_of("team-a")).len() >= 100, "the silent account is served when it answers again");
}

/// Covers: 30s.
#[test]
fn a_spec_that_changes_a_hundred_times_a_second_is_sent_as_it_is_last() {
    let mut scene = Scene::of(60).job("team-0", json!({})).at(s(1), Edit::Create(0));
    for n in 1..=1000_u64 {
        let failover = json!({ "interval": 1 + n % 50, "upperLimit": n % 7 });
        let change = json!({ "spec": { "realtimeStartSettings": { "failoverSettings": failover } } });
        scene = scene.at(ms(5000 + 10 * n), patch(0, change));
    }
    let record = played(scene.cloud(|c| c.rules.start_on_running = StartOnRunning::Restart));
    let starts = accepted(&record);
    must(&record, (2..=9).contains(&starts.len()), &format!("starts at {starts:?}"));
    let after = starts.last().copied().unwrap_or_default();
    must(&record, (15.0..40.0).contains(&after), &format!("the last spec is sent at {after}"));
    let last = &record.last(0)["status"]["applied"]["realtimeStartSettings"]["failoverSettings"];
    must(&record, *last == json!({ "interval": 1, "upperLimit": 6 }), &format!("handled: {last}"));
    let looks = calls(&record, "GetDIJob").len();
    must(&record, looks <= 40, &format!("{looks} looks"));
    let made = writes(&record, 0);
    must(&record, made <= 10 + 4 * starts.len(), &format!("{made} writes for {} starts", starts.len()));
    let conflicts = record.asked.iter().filter(|a| a.resource == "dataintegrationjobs/status").count() - made;
    must(&record, conflicts <= 150, &format!("{conflicts} conflicts"));
    let value = record.last(0)["status"]["observedGeneration"].as_i64();
    must(&record, value == Some(1001), &format!("observed generation {value:?}"));
}

/// Covers: 12s.
#[test]
fn a_neighbour_on_the_same_quota_has_its_share_and_nobody_is_called_at_rest() {
    for window in [Window::FixedSecond, Window::TokenBucket] {
        let jobs = 15;
        let scene = Scene::of(400).fleet(jobs, "team-0", 1).cloud(|c| {
            c.limits.rate = Rate::Total(5);
            c.limits.window = window;
            c.neighbour = Some(Neighbour { reads_per_second: 2, ..Neighbour::default() });
        });
        // For three minutes it takes all there is, so that looks at what was started wait longer than a start may go
        // unseen.
        let draws = |world: &World, reads_per_second| {
            if let Some(neighbour) = &mut world.cloud().switches.neighbour {
                neighbour.reads_per_second = reads_per_second;
            }
        };
        let scene = scene.act(s(9), "it takes all", move |world| {
            let theirs = world.cloud().ledger().neighbour(&account_of("team-0"));
            if theirs.calls < 10 || 100 * theirs.refused > 35 * theirs.calls {
                world.complain(format!("{window:?}: beside us it was served so: {theirs:?}"));
            }
            draws(world, 400);
        });
        let scene = scene.act(s(160), "it takes less", move |world| draws(world, 2));
        let record = played(scene);
        let confirmed = |n| {
            let object = record.last(n);
            text(object, "/status/lastStart/outcome") == "Confirmed"
        };
        let seen = (0..jobs).filter(|n| confirmed(*n)).count();
        must(&record, seen == jobs, &format!("{window:?}: {seen} confirmed"));
        let mut longest = 0.0_f64;
        for n in 0..jobs {
            let mut accepted = None;
            for (at, _, object) in record.versions(n) {
                let given_up = object.pointer("/status/lastStart/confirmation").is_some();
                let reason = condition(object, "Stalled").1;
                must(&record, !given_up && reason.is_empty(), &format!("{window:?}: job {n} is {reason} at {at}"));
                match text(object, "/status/lastStart/outcome") {
                    "Accepted" => accepted = accepted.or(Some(at)),
                    "Confirmed" => longest = longest.max(at - accepted.take().unwrap_or(at)),
                    _ => {}
                }
            }
        }
        must(&record, longest > 120.0, &format!("{window:?}: no look waited for longer than {longest} s"));
        let starts = accepted(&record);
        let before = starts.iter().filter(|at| **at < 9.0).count();
        must(&record, before >= 5, &format!("{window:?}: our share: {before} starts in the first seconds"));
    }
}

/// Covers: 13s.
#[test]
fn a_day_that_is_used_up_is_parked_in_sight_until_it_turns() {
    const ACCOUNT: &str = "/apis/dijob.dev/v1alpha1/namespaces/team-0/dataworksaccounts/main";
    let basic = |scene: Scene, limit: u32| {
        let quota = json!({ "spec": { "edition": "Basic", "quota": { "callsPerDay": limit } } });
        // Ten minutes before midnight of UTC+8.
        scene.begins(15 * 3600 + 50 * 60).act(ms(0), "Basic edition", move |world| {
            let answer = world.ask(PEOPLE, Verb::Merge, ACCOUNT, Some(quota.clone()));
            assert!(answer.is_ok(), "{}", answer.value());
        })
    };
    // Our own count is at its end; or others have used up the day, and only the cloud knows, and tells it anew to a
    // process that begins in between.
    for (limit, restart) in [(11, false), (100, false), (100, true)] {
        let scene = basic(Scene::of(700).fleet(6, "team-0", 2).fleet(1, "team-0", 100), limit).act(
            s(300),
            "kill",
            move |world| {
                if restart {
                    world.processes().iter().for_each(|p| world.kill(p));
                }
            },
        );
        let record = played(scene.cloud(|c| {
            c.limits = Limits::basic();
            c.limits.per_day = Some(if limit == 11 { 100 } else { 11 });
        }));
        let of_today = |range: std::ops::Range<f64>| {
            let of_dataworks = record.ledger.entries().iter().filter(|e| e.job.is_some()); // STS has no days
            of_dataworks.filter(|e| range.contains(&record.second(e.last_byte))).count()
        };
        let (spent, late) = (of_today(0.0..100.0), of_today(100.0..600.0));
        let most = if limit == 11 { 11 } else { 11 + 2 };
        must(&record, (11..=most).contains(&spent), &format!("limit {limit}: {spent} calls of the old day"));
        must(&record, late <= 2 * usize::from(restart), &format!("limit {limit}: {late} calls while it is parked"));
        let waits = |n: usize| {
            record.versions(n).into_iter().any(|(at, _, object)| {
                let (status, reason) = condition(object, "Throttled");
                let until = object["status"].to_string().contains("2026-11-24T16:00:");
                at < 600.0 && status == "True" && reason == "DailyLimitReached" && until
            })
        };
        // Those who asked before the day was used up are not told of it.
        let told = (0..6).filter(|n| waits(*n)).count();
        must(&record, told >= 2 && waits(6), &format!("limit {limit}: {told} of 6 tell of it"));
        nobody_is_punished(&record);
        let starts = accepted(&record);
        let after = starts.iter().filter(|at| **at >= 600.0).count();
        must(&record, starts.len() == 7 && after >= 2, &format!("limit {limit}: starts at {starts:?}"));
        must(&record, starts[6] < 690.0, &format!("limit {limit}: the last start at {}", starts[6]));
    }
}

/// The cloud allows more than the account says, so only our own count ends the day, over kills too.
///
/// Covers: 13s, 5s.
#[test]
fn a_restart_does_not_refill_the_day() {
    const ACCOUNT: &str = "/apis/dijob.dev/v1alpha1/namespaces/team-0/dataworksaccounts/main";
    const LIMIT: usize = 30;
    for seed in 1..=6 {
        // Ten minutes before midnight of UTC+8.
        let mut scene = Scene::of(700).seed(seed).begins(15 * 3600 + 50 * 60).fleet(12, "team-0", 2).act(
            ms(0),
            "a limit",
            |world| {
                let quota = json!({ "spec": { "quota": { "callsPerDay": LIMIT } } });
                let answer = world.ask(PEOPLE, Verb::Merge, ACCOUNT, Some(quota));
                assert!(answer.is_ok(), "{}", answer.value());
            },
        );
        for kill in 0..3 {
            scene = scene.act(ms(2500 + 400 * kill), "kill", |world| {
                world.processes().iter().for_each(|p| world.kill(p));
            });
        }
        let record = played(scene);
        let calls = record.ledger.entries().iter().filter(|e| record.second(e.last_byte) < 600.0).count();
        must(&record, calls <= LIMIT, &format!("seed {seed}: {calls} calls of a day of {LIMIT}"));
        must(
            &record,
            calls + 3 * 5 >= LIMIT,
            &format!("seed {seed}: {calls} calls of a day of {LIMIT}, after three kills"),
        );
        nobody_is_punished(&record);
        must(&record, accepted(&record).len() == 12, &format!("seed {seed}: the rest starts on the next day"));
    }
}

#[test]
fn without_a_count_of_the_day_no_call_is_made_and_the_jobs_say_so() {
    const ACCOUNT: &str = "/apis/dijob.dev/v1alpha1/namespaces/team-0/dataworksaccounts/main";
    let limited = Scene::of(120).fleet(6, "team-0", 5).act(ms(0), "a limit", |world| {
        let quota = json!({ "spec": { "quota": { "callsPerDay": 100 } } });
        assert!(world.ask(PEOPLE, Verb::Merge, ACCOUNT, Some(quota)).is_ok());
    });
    let record = played(limited.spell(3..63, Ill::Answers(500), Of::AccountWrites));
    let of_dataworks = record.ledger.entries().iter().filter(|e| e.job.is_some()); // STS has no days
    let calls: Vec<f64> = of_dataworks.map(|e| record.second(e.last_byte)).collect();
    let first = calls.iter().copied().fold(f64::MAX, f64::min);
    must(&record, (63.0..=70.0).contains(&first), &format!("the first call at {first}"));
    for n in 0..6 {
        let versions = record.versions(n);
        let told =
            versions.iter().find(|(_, _, object)| object["status"].to_string().contains("no call is made uncounted"));
        let at = told.map_or(f64::MAX, |(at, _, _)| *at);
        must(&record, (9.0..=12.0).contains(&at), &format!("job {n} says so at {at}"));
        let (status, reason) = told.map(|(_, _, object)| condition(object, "Throttled")).unwrap_or_default();
        must(&record, (status, reason) == ("True", "WaitingForTurn"), &format!("job {n}: {reason}"));
        let during = versions.iter().filter(|(at, _, _)| (12.0..63.0).contains(at)).count();
        must(&record, during == 0, &format!("job {n} is written {during} times while it waits"));
    }
    nobody_is_punished(&record);
    must(&record, accepted(&record).len() == 6, "all start once it is written");
}
