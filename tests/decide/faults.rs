//! Rows of the fault matrix that a decision alone answers: keys that are no keys, accounts that change under a start,
//! objects that are made again, and status that is lost or a day old.

use dijob_operator::api::LastStart;
use dijob_operator::dataworks::AccessKey;
use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::observed::{Account, JobRef, Reading};
use dijob_operator::plan::problem::read_is_refused;

use super::*;

/// The key of a Secret that holds these texts.
fn key_of(id: &str, secret: &str, version: &str) -> Key {
    match AccessKey::new(id, secret, None) {
        Ok(key) => Key::Ready { id: key.id, version: version.to_owned() },
        Err(problem) => Key::Missing(format!("Secret \"prod\": {problem}")),
    }
}

/// Texts that a Secret may hold while it is half written, empty, of another encoding or not a key at all.
const NO_KEYS: [(&str, &str); 7] = [
    ("", "canary-secret"),
    ("LTAI", ""),
    ("LTAI", " \r\n"),
    ("LTAI\0", "canary-secret"),
    ("\u{feff}LTAI", "canary-secret"),
    ("LTAI", "canary\u{1b}secret"),
    ("LTAI", "canary secret\nof two lines"),
];

/// Covers: 24u.
#[test]
fn a_secret_that_is_no_key_starts_nothing_and_the_whole_one_is_used_as_soon_as_it_is_seen() {
    let missing = |seen: Observed, key: Key| {
        seen.with(|o| {
            o.key = key;
            o.missing_since = Some(now());
        })
    };
    let whole = |seen: &Observed| seen.clone().with(|o| o.key = key_of("LTAI2\n", "canary-secret", "s2"));
    for (id, secret) in NO_KEYS {
        let waits = missing(at_rest(), key_of(id, secret, "s1"));
        assert_eq!(start_of(&waits), None, "{id:?} {secret:?}");
        assert_eq!(decide(&waits, now()).wait, Wait::Until(hence(5)), "it is looked at again");
        let told = stored(&waits, &Outcome::Done);
        assert_eq!(ready(&told), (ConditionStatus::False, Reason::CredentialsMissing));
        let text = format!("{:?}{:?}", told.conditions, told.record);
        assert!(!text.contains("canary") && !text.contains("secret\\nof"), "{text}");
        assert_eq!(start_of(&whole(&told)).map(|p| p.key_id).as_deref(), Some("LTAI2"), "{id:?} {secret:?}");

        // A start that may have run is neither sent again nor given up while nobody can look.
        for (object, record) in [(observed(), ordinary(2_000)), (observed().force(), forced(2_000))] {
            let open = missing(object.called(2_000).pending(record.clone()), key_of(id, secret, "s1"));
            assert_eq!(decide(&open, now()).action, Action::Nothing, "{id:?} {secret:?}");
            assert_eq!(stored(&open, &Outcome::Done).record.pending_start, Some(record));
        }
    }
}

/// The id is the new one, the secret still the old one: the cloud refuses the pair.
///
/// Covers: 24u.
#[test]
fn a_secret_written_in_two_steps_is_tried_again_at_its_second_one() {
    let key = |version: &str| key_of("LTAI2", "canary-secret", version);
    let half = at_rest().with(|o| o.key = key("s1"));
    let record = start_of(&half).unwrap();
    let refusal = failed(ErrorKind::Denied, "SignatureDoesNotMatch", 400);
    let refused = stored(&half, &answered(record, refusal));
    assert_eq!(start_of(&refused), None, "15 minutes, if nothing changes");
    let again = start_of(&refused.with(|o| o.key = key("s2"))).unwrap();
    assert_eq!((again.attempt, again.key_id.as_str()), (1, "LTAI2"), "nothing ran: from the first step again");
}

/// Covers: 24u.
#[test]
fn a_key_that_is_new_never_signs_a_copy_of_an_old_request() {
    let other = |o: &mut Observed| o.key = key_of("LTAI2", "canary-secret", "s2");
    for signed in [0, 31, 300, 599, 600, 601, 899, 901] {
        let seen = unresolved(ordinary(signed), signed).cloud(STOPPED, Some(100)).with(other);
        if let Some(again) = start_of(&seen) {
            assert!(signed >= 600, "{signed} s: the first copy may still be taken beside it");
            assert_ne!(again.nonce, ordinary(0).nonce, "{signed} s");
            assert_eq!(again.signed_time, whole_seconds(now()), "{signed} s");
        }
        let never = unresolved(forced(signed), signed).force().cloud(STOPPED, Some(100)).with(other);
        assert_eq!(start_of(&never), None, "{signed} s");
    }
}

fn beijing(o: &mut Observed) {
    o.account = Account::Found {
        region: "cn-beijing".to_owned(),
        version: "a2".to_owned(),
        service: SERVICE.to_owned(),
        projects: vec![],
    };
}

fn renamed(o: &mut Observed) {
    o.object.generation += 1;
    "other".clone_into(&mut o.spec.account_ref.name);
}

fn other_account(o: &mut Observed) {
    o.account = Account::Found {
        region: job().region,
        version: "a9".to_owned(),
        service: SERVICE.to_owned(),
        projects: vec![],
    };
    o.key = Key::Ready { id: "LTAI-of-another".to_owned(), version: "s9".to_owned() };
}

/// A change, and what it is.
type Change = (&'static str, fn(&mut Observed));

/// What may change of the account while a start is under way.
fn changes() -> [Change; 7] {
    [
        ("the account means another region", beijing),
        ("the key belongs to another account", other_account),
        ("accountRef is renamed, and means the same", renamed),
        ("accountRef is renamed, and means another region", |o| {
            renamed(o);
            beijing(o);
        }),
        ("accountRef is renamed, with the key of another account", |o| {
            renamed(o);
            other_account(o);
        }),
        ("accountRef names nothing", |o| {
            renamed(o);
            o.account = Account::Absent;
            o.key = Key::Missing(String::new());
        }),
        ("the endpoint is refused", |o| o.account = Account::Invalid("evil is not allowed".to_owned())),
    ]
}

/// Whatever is looked at, there and where the account points now.
fn looks(seen: &Observed) -> Vec<Observed> {
    let jobs: Vec<JobRef> = seen.job().into_iter().chain([job()]).collect();
    let words = [saw(STOPPED, Some(100)), saw("Failed", Some(100)), saw(STOPPED, None)];
    let mut all = vec![seen.clone()];
    for job in jobs {
        for word in words.clone() {
            let reading = Some(Reading { job: job.clone(), at: ago(1), seen: word });
            all.push(seen.clone().with(|o| o.reading = reading));
        }
    }
    all
}

/// Covers: 25u.
#[test]
fn a_forced_start_under_way_is_not_sent_again_whatever_its_account_becomes() {
    let columns = [
        ("forced", observed().force(), forced as fn(i64) -> PendingStart),
        ("with an offset", observed().start_time(1_671_516_776), |s| with_offset(s, 1_671_516_776)),
        ("held", observed().hold_unknown(), ordinary),
    ];
    for (column, object, record) in columns {
        for (why, change) in changes() {
            for signed in [0, 31, 599, 601, 899, 901, 86_400] {
                let open = object.clone().called(signed).pending(record(signed)).with(change);
                for seen in looks(&open) {
                    assert_eq!(start_of(&seen), None, "{column}, {signed} s: {why}");
                }
            }
        }
    }
}

/// Covers: 25u.
#[test]
fn a_start_whose_account_points_elsewhere_is_closed_as_unknown_and_nothing_follows_by_itself() {
    for change in [beijing as fn(&mut Observed), |o| {
        renamed(o);
        beijing(o);
    }] {
        for (object, record) in [(observed(), ordinary as fn(i64) -> PendingStart), (observed().force(), forced)] {
            let at = |signed: i64| object.clone().called(signed).pending(record(signed)).with(change);
            let early = decide(&at(899), now());
            assert_eq!((early.action, early.wait), (Action::Nothing, Wait::Until(hence(1))), "it cannot be looked at");
            assert_eq!(decide(&at(900), now()), settle(Verdict::Unknown));
            let closed = stored(&at(900), &Outcome::Done);
            let applied = closed.record.applied.as_ref().unwrap();
            assert_eq!((applied.region.as_str(), applied.uncertain), ("cn-shanghai", true), "of the job that it named");
            let same_account = closed.spec.account_ref.name == "prod";
            let there = closed.job().unwrap();
            let looked = |word| Some(Reading { job: there.clone(), at: now(), seen: saw(word, Some(100)) });
            let stopped = closed.clone().with(|o| o.reading = looked(STOPPED));
            assert_eq!(start_of(&stopped).is_some(), !same_account, "only who names another account means its job");
            let running = closed.clone().with(|o| o.reading = looked("Running"));
            assert_eq!(decide(&running, now()).action == Action::Adopt, !same_account, "which may be at work");
        }
    }
}

/// Covers: 27u.
#[test]
fn an_object_made_again_under_its_name_inherits_nothing_and_adopts_a_running_job() {
    let first = observed().token("t").cloud(STOPPED, Some(100));
    let started = stored(&first, &answered(start_of(&first).unwrap(), accepted()));
    assert_eq!(started.record.handled_rerun_tokens, ["t"]);
    // Spec and annotations come from Git once more; status and the memory of the process are of another uid.
    let again = |reading: Option<Reading>| Observed {
        object: dijob_operator::plan::observed::Object { uid: "u-2".to_owned(), generation: 1, deleting: false },
        spec: started.spec.clone(),
        annotations: started.annotations.clone(),
        reading,
        ..observed()
    };
    let looked = |word, started| Some(Reading { job: job(), at: ago(1), seen: saw(word, started) });
    let adopted = stored(&again(looked("Running", Some(200))), &Outcome::Done);
    assert_eq!((adopted.record.uid.as_deref(), adopted.record.history.len()), (Some("u-2"), 0));
    assert_eq!(adopted.record.last_start, None, "the start of the one before is none of its own");
    assert_eq!(adopted.record.handled_rerun_tokens, ["t"]);
    assert_eq!((decide(&adopted, now()).action, ready(&adopted).1), (Action::Nothing, Reason::Adopted));
    let of_its_own = start_of(&again(looked(STOPPED, Some(100)))).unwrap();
    assert_eq!((of_its_own.trigger.as_str(), of_its_own.generation), ("Rerun", 1), "a job at rest is started");
}

/// Restored with a record of a day ago: whatever ran since shows, against the baseline of then.
///
/// Covers: 44u.
#[test]
fn a_record_rolled_back_by_a_day_is_confirmed_by_what_ran_since_and_never_forced_again() {
    let day = 86_400;
    for (object, record) in [(observed(), ordinary(day)), (observed().force(), forced(day))] {
        let at_once = object.clone().pending(record.clone()).called(1).looked(0, saw("Finished", Some(100 + day)));
        assert_eq!(decide(&at_once, now()), settle(Verdict::Confirmed));
        let confirmed = stored(&at_once, &Outcome::Done);
        assert_eq!(decide(&confirmed, now()).action, Action::Nothing, "nothing is due any more");
        let first_seen = object.pending(record.clone()).called(1).looked(0, saw(STOPPED, Some(100)));
        let plan = decide(&first_seen, now());
        let waits = matches!(plan, Plan { action: Action::Nothing, wait: Wait::Until(at), .. } if at == hence(29));
        assert!(waits, "its call counts from when it is first seen again: {plan:?}");
    }
    let no_sign = |object: Observed, record| object.pending(record).called(31).looked(0, saw(STOPPED, Some(100)));
    let lawful = start_of(&no_sign(observed(), ordinary(day))).unwrap();
    assert_eq!((lawful.attempt, lawful.nonce == ordinary(0).nonce), (2, false), "no sign, and the old bytes are dead");
    assert_eq!(decide(&no_sign(observed().force(), forced(day)), now()), settle(Verdict::Unknown));
}

/// Covers: 44u.
#[test]
fn spec_and_status_of_a_day_ago_start_nothing() {
    let yesterday = observed().token("t").settled();
    for word in ["Running", "Finished", STOPPED] {
        let restored = yesterday.clone().called(0).looked(0, saw(word, Some(86_500)));
        assert_eq!(start_of(&restored), None, "{word}");
        let read = stored(&restored, &Outcome::Done);
        assert_eq!(start_of(&read), None, "{word}");
        assert_eq!(read.record.applied.as_ref().map(dijob_operator::api::Applied::inputs), Some(inputs_of(&read.spec)));
    }
    for word in ["Running", "Finished"] {
        let lost = yesterday.clone().with(|o| o.record = JobStatus::default()).called(0);
        let lost = lost.with(|o| (o.call_at, o.reading) = (None, None)).looked(1, saw(word, Some(86_500)));
        assert_eq!(decide(&lost, now()).action, Action::Adopt, "{word}: status is lost, tokens and all");
        assert_eq!(stored(&lost, &Outcome::Done).record.handled_rerun_tokens, ["t"]);
    }
}

#[test]
fn a_request_made_in_another_way_is_no_repetition_and_waits_until_the_nonce_is_old() {
    let elsewhere = |o: &mut Observed| {
        o.account = Account::Found {
            region: job().region,
            version: "a2".to_owned(),
            service: "another".to_owned(),
            projects: vec![],
        };
    };
    let resent = |seconds, service: &str| {
        let record = PendingStart { service: service.to_owned(), ..ordinary(seconds) };
        unresolved(record, 40).cloud(STOPPED, Some(100)).with(elsewhere)
    };
    assert_eq!(decide(&resent(100, SERVICE), now()), until(closing_at(100), hence(500)));
    let again = start_of(&resent(600, SERVICE)).unwrap();
    assert_eq!((again.service.as_str(), again.nonce), ("another", observed().fresh_nonce));
    let unnamed = start_of(&resent(100, "")).unwrap();
    assert_eq!(unnamed.nonce, ordinary(100).nonce, "of an operator that knew one way alone");
}

#[test]
fn a_look_is_refused_for_good_by_what_a_start_does_not_need() {
    let refused = |kind, status| read_is_refused(&look_failed(kind, "x", status));
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        assert!(refused(kind, 403));
    }
    for kind in [
        ErrorKind::Throttled,
        ErrorKind::DailyLimit,
        ErrorKind::Expired,
        ErrorKind::ClockSkew,
        ErrorKind::NotFound,
        ErrorKind::NonceUsed,
        ErrorKind::CallerUnknown,
    ] {
        assert!(!refused(kind, 403), "{kind:?}");
    }
    let pages = [399, 400, 499, 500].map(|status| refused(ErrorKind::Server, status));
    assert_eq!(pages, [false, true, true, false], "a page of a gateway that knows no looks, or a failure");
}

/// The account is switched to another version of the API.
fn switched(service: &str) -> impl FnOnce(&mut Observed) {
    let account = Account::Found {
        region: job().region,
        version: "a2".to_owned(),
        service: service.to_owned(),
        projects: vec![],
    };
    move |o: &mut Observed| o.account = account
}

/// Covers: 25u.
#[test]
fn in_the_version_without_started_time_a_change_of_word_is_a_sign() {
    let record = PendingStart { service: NEWER.to_owned(), baseline_started_time: None, ..ordinary(100) };
    let seen = |word| decide(&unresolved(record.clone(), 40).with(switched(NEWER)).cloud(word, None), now());
    for word in ["Running", "Finished", "Failed"] {
        assert_eq!(seen(word).action, Action::Settle(Verdict::Confirmed), "{word}");
    }
    let resent = start_of(&unresolved(record.clone(), 40).with(switched(NEWER)).cloud(STOPPED, None)).unwrap();
    assert_eq!(resent.nonce, record.nonce, "no sign: it is sent again as it was");
}

/// Covers: 25u.
#[test]
fn a_baseline_of_one_version_proves_nothing_of_a_look_in_the_other() {
    for (before, after, started) in [(SERVICE, NEWER, None), ("", NEWER, None), (NEWER, SERVICE, Some(200))] {
        let record = |forced| PendingStart {
            service: before.to_owned(),
            baseline_started_time: Some(100).filter(|_| before != NEWER),
            force_to_rerun: forced,
            ..ordinary(1000)
        };
        let at_work = |forced| unresolved(record(forced), 100).with(switched(after)).cloud("Running", started);
        for forced in [false, true] {
            let plan = decide(&at_work(forced), now());
            assert_eq!(plan.action, Action::Settle(Verdict::Unknown), "{before} to {after}: neither sign nor repeated");
        }
        let accepted = LastStart { service: before.to_owned(), ..last("Accepted") };
        let settled = observed().settled().with(|o| o.record.last_start = Some(accepted));
        let read = settled.called(40).with(switched(after)).cloud("Running", started);
        assert_eq!(decide(&read, now()).action, Action::Settle(Verdict::Unreadable), "{before} to {after}");
    }
}

/// Covers: 25u.
#[test]
fn a_copy_in_another_version_begins_from_a_look_in_that_version() {
    for (before, after, started) in [(SERVICE, NEWER, None), (NEWER, SERVICE, Some(90))] {
        let record = PendingStart { service: before.to_owned(), ..ordinary(700) };
        let read = unresolved(record, 40).with(switched(after)).cloud("Initialized", started);
        let copy = start_of(&read).unwrap();
        assert_eq!((copy.service.as_str(), copy.baseline_started_time), (after, started));
        assert_eq!(copy.baseline_job_status.as_deref(), Some("Initialized"));
    }
    let record = PendingStart { key_id: "LTAI-old".to_owned(), ..ordinary(700) };
    let copy = start_of(&unresolved(record.clone(), 40).cloud("Initialized", Some(100))).unwrap();
    assert_eq!(copy.baseline_job_status, record.baseline_job_status, "the same version: the first baseline stays");
}

/// Covers: 25u.
#[test]
fn a_start_in_the_version_without_started_time_compares_none() {
    let due = observed().token("t").settled().with(|o| o.record.handled_rerun_tokens.clear());
    let before = whole_seconds(jiff::Timestamp::UNIX_EPOCH);
    let due = due.with(switched(NEWER)).with(|o| o.record.job_started_time = Some(before));
    let start = start_of(&due.called(3600).looked(1, saw(STOPPED, None))).unwrap();
    assert_eq!((start.baseline_started_time, start.baseline_job_status.as_deref()), (None, Some(STOPPED)));
}
