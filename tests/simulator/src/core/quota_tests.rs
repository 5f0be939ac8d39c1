//! What the quota refuses, and when: windows, the day, a neighbour.

use super::*;

#[test]
fn a_throttled_call_burns_its_nonce_only_if_so_switched() {
    for (throttled_burns_nonce, expected) in [(false, "ok"), (true, "SignatureNonceUsed 400")] {
        let switches = Switches { throttled_burns_nonce, limits: Limits::basic(), ..Switches::default() };
        let mut cloud = cloud(switches);
        for n in 0..5 {
            assert_eq!(code(&mut cloud, at(0), &read(&n, at(0))), "ok");
        }
        assert_eq!(code(&mut cloud, at(0), &start("s", at(0))), "Throttling.Api 429");
        assert_eq!(code(&mut cloud, at(1), &start("s", at(0))), expected);

        let injected = Behaviour::error(Refusal::of("Throttling.System"));
        cloud.switches.faults = vec![Fault { calls: Some(1), behaviour: injected, ..Fault::default() }];
        assert_eq!(code(&mut cloud, at(5), &start("t", at(5))), "Throttling.System 429");
        assert_eq!(code(&mut cloud, at(6), &start("t", at(5))), expected);
    }
}

#[test]
fn a_refusal_by_the_window_names_the_wait() {
    let mut cloud =
        cloud(Switches { limits: Limits { window: Window::SlidingLog, ..Limits::basic() }, ..Switches::default() });
    for n in 0..5 {
        assert_eq!(code(&mut cloud, at(0), &read(&n, at(0))), "ok");
    }
    let now = at(0) + SignedDuration::from_millis(300);
    let refused = reply(&mut cloud, now, read("late", at(0)).request());
    assert_eq!((refused.status, refused.header("x-acs-retry-after")), (429, Some("700")));
    cloud.switches.limits.hint = Hint::Header { name: "x-acs-retry-after".to_owned(), value: "soon".to_owned() };
    let refused = reply(&mut cloud, now, read("later", at(0)).request());
    assert_eq!(refused.header("x-acs-retry-after"), Some("soon"));
}

#[test]
fn the_day_counts_failed_calls_and_turns_at_midnight_of_utc_plus_8() {
    let mut cloud = cloud(Switches { limits: Limits::basic(), ..Switches::default() });
    let midnight: Timestamp = "2026-01-02T16:00:00Z".parse().unwrap();
    let noon = midnight - SignedDuration::from_hours(12);
    let unknown = |n: i64| read(&n, noon).with(|call| call.body = "DIJobId=5".to_owned());
    for n in 0..100 {
        let now = noon + SignedDuration::from_secs(n);
        assert_eq!(code(&mut cloud, now, &unknown(n)), "500130 404");
    }
    let last = midnight - SignedDuration::from_secs(1);
    let refused = reply(&mut cloud, last, read("a", last).request());
    assert_eq!(code_of(&refused), "Throttling.User 429");
    assert!(body(&refused)["Message"].as_str().unwrap().contains("daily limit is exceeded"));
    assert_eq!(refused.header("x-acs-retry-after"), None);
    assert_eq!(code(&mut cloud, last, &read("b", last).with(|call| call.key = "key2")), "Throttling.User 429");
    assert_eq!(code(&mut cloud, midnight, &read("c", midnight)), "ok");
    assert_eq!(cloud.ledger().entries().last().unwrap().day_count, Some(1));
}

#[test]
fn a_neighbour_draws_on_the_quota_as_time_passes_and_however_it_is_looked_at() {
    let neighbour = Neighbour { account: Some("main".to_owned()), reads_per_second: 3, writes_per_second: 1 };
    let run = |steps: &[i64]| {
        let limits = Limits { rate: Rate::Total(5), ..Limits::enterprise() };
        let mut cloud = cloud(Switches { limits, ..Switches::default() });
        cloud.switches.neighbour = Some(neighbour.clone());
        cloud.advance(at(0));
        for step in steps {
            cloud.advance(at(*step));
        }
        // Late in the second, all four calls of the neighbour are before ours.
        let now = at(10) + SignedDuration::from_millis(999);
        let codes = [0, 1].map(|n| code(&mut cloud, now, &read(&n, at(10))));
        (codes, cloud.ledger().neighbour("main"), cloud.ledger().neighbours().len(), cloud.ledger().entries().to_vec())
    };
    let (codes, drawn, accounts, entries) = run(&[]);
    assert_eq!(codes, ["ok", "Throttling.Api 429"]);
    assert_eq!((drawn.calls, drawn.refused, accounts), (42, 0, 1));
    assert_eq!(entries[0].day_count, Some(43));
    let small: Vec<i64> = (1..=10).collect();
    assert_eq!(run(&small), (codes, drawn, accounts, entries));
}

#[test]
fn a_neighbour_is_refused_what_we_took_before_it() {
    let limits = Limits { rate: Rate::Total(5), ..Limits::enterprise() };
    let neighbour = Neighbour { reads_per_second: 5, ..Neighbour::default() };
    let mut cloud = cloud(Switches { limits, ..Switches::default() });
    cloud.switches.neighbour = Some(neighbour);
    for n in 0..3 {
        assert_eq!(code(&mut cloud, at(0), &read(&n, at(0))), "ok");
    }
    // Five calls at 0.2 s to 1.0 s: two of the four in our second pass, and the first of the next.
    cloud.advance(at(1));
    assert_eq!((cloud.ledger().neighbour("main").calls, cloud.ledger().neighbour("main").refused), (5, 2));
    assert_eq!((cloud.ledger().neighbour("other").calls, cloud.ledger().neighbour("other").refused), (5, 0));
}

#[test]
fn a_rolling_day_opens_as_its_calls_grow_old() {
    let limits = Limits { per_day: Some(2), day_turn: DayTurn::Rolling, ..Limits::unlimited() };
    let mut cloud = cloud(Switches { limits, ..Switches::default() });
    let day = 86_400;
    let codes = [0, 3600, 7200, day - 1, day + 7200].map(|t| code(&mut cloud, at(t), &read(&t, at(t))));
    // Refused calls count too: at the end those of the hours 1 and 2 and a second ago have left or stayed.
    assert_eq!(codes, ["ok", "ok", "Throttling.User 429", "Throttling.User 429", "ok"]);
}
