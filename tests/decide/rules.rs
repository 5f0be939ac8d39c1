//! Rules of what the record must say and when, and of what counts as seen, that no row of the decision table states.

use dijob_operator::api::{Applied, DataIntegrationJobSpec, FailoverSettings, OnUnknown, RealtimeStartSettings};
use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::observed::{JobRef, Reading};
use dijob_operator::plan::trigger::{Due, due};

use super::resolve::{sent, server, unknown};
use super::*;

fn applied(seen: &Observed) -> &Applied {
    seen.record.applied.as_ref().unwrap()
}

#[test]
fn empty_settings_are_no_other_spec() {
    let pending = unresolved(ordinary(40), 40).cloud(STOPPED, Some(100));
    let written = |settings| pending.clone().with(|o| o.spec.realtime_start_settings = Some(settings));
    let no_failover = RealtimeStartSettings { failover_settings: Some(FailoverSettings::default()), start_time: None };
    for settings in [RealtimeStartSettings::default(), no_failover] {
        assert!(start_of(&written(settings.clone())).is_some(), "{settings:?} is what was asked for before");
        let settled = observed().settled().with(|o| o.spec.realtime_start_settings = Some(settings.clone()));
        assert_eq!(decide(&settled, now()), rest(Stance::Settled(Rest::Running)), "{settings:?}");
    }
}

#[test]
fn what_counts_as_applied_is_what_spec_asked_and_not_what_was_sent() {
    let full = || observed().force().start_time(1_671_516_776).failover(10);
    let edit = |s: &mut DataIntegrationJobSpec| {
        let settings = s.realtime_start_settings.as_mut().unwrap();
        settings.failover_settings.as_mut().unwrap().interval = Some(20);
    };
    let seen = full().edited(edit).cloud(STOPPED, Some(100));
    let record = start_of(&seen).unwrap();
    assert!(!record.is_forced(), "neither one-shot setting is sent: {record:?}");
    let done = stored(&seen, &answered(record.clone(), accepted()));
    assert_eq!(applied(&done).inputs(), inputs_of(&seen.spec));
    assert_eq!(due(&done), Some(Due::Nothing));

    let by_annotation = observed().settled().token("t").cloud(STOPPED, Some(100));
    let by_annotation = by_annotation.with(|o| o.annotations.force = Some("t".to_owned()));
    let record = start_of(&by_annotation).unwrap();
    assert!(record.force_to_rerun);
    let done = stored(&by_annotation, &answered(record, accepted()));
    assert!(!applied(&done).force_to_rerun, "so that forceToRerun, once it stands in spec, is a change");
}

#[test]
fn tokens_start_over_with_a_start_of_another_job() {
    let there = |o: &mut Observed| {
        o.spec.di_job_id = 5;
        o.reading = Some(Reading { job: JobRef { di_job_id: 5, ..job() }, at: ago(1), seen: saw(STOPPED, Some(50)) });
    };
    let seen = observed().token("t").settled().with(there);
    let done = stored(&seen, &answered(start_of(&seen).unwrap(), accepted()));
    assert_eq!(done.record.handled_rerun_tokens, ["t"]);
    let old = observed().settled().with(|o| o.record.handled_rerun_tokens = vec!["old".to_owned()]).with(there);
    let done = stored(&old, &answered(start_of(&old).unwrap(), accepted()));
    assert_eq!(done.record.handled_rerun_tokens, [""; 0], "what the other job handled is not handled for this one");
    let same = observed().settled().token("t").with(|o| o.record.handled_rerun_tokens = vec!["old".to_owned()]);
    let same = same.cloud(STOPPED, Some(100));
    let done = stored(&same, &answered(start_of(&same).unwrap(), accepted()));
    assert_eq!(done.record.handled_rerun_tokens, ["old", "t"]);
}

#[test]
fn after_an_unknown_held_start_a_revert_closes_the_matter() {
    let before = observed().settled().hold_unknown();
    let edited = before.with(|o| o.object.generation = 4).failover(10);
    let record = ordinary(0).tap(|p| {
        "SpecChange".clone_into(&mut p.trigger);
        p.inputs = inputs_of(&edited.spec);
        p.realtime_start_settings.clone_from(&p.inputs.realtime_start_settings);
    });
    let seen = unknown(edited, record);
    assert!(applied(&seen).uncertain);
    let reverted = seen.with(|o| {
        o.object.generation = 5;
        o.spec.realtime_start_settings = None;
    });
    assert_eq!(decide(&reverted, now()).action, Action::Tidy, "it is never sent twice, so this is tidying up");
    assert!(!applied(&stored(&reverted, &Outcome::Done)).uncertain);
}

/// Shortest schedule: a 5xx, a resend with a new nonce, the death of its process, a look without a sign.
#[test]
fn what_was_said_of_one_copy_is_not_said_of_the_next() {
    let failed = sent(&at_rest(), ordinary(0), server()).called(40).cloud(STOPPED, Some(100));
    let second = start_of(&failed).unwrap();
    assert_eq!((second.attempt, second.answered), (2, false), "nothing is known of this one yet");
    let died = unresolved(second.clone(), 70).cloud(STOPPED, Some(100));
    assert_eq!(start_of(&died).unwrap().nonce, second.nonce, "it may be on its way, so its nonce prevents a double");
}

#[test]
fn a_wait_written_by_another_clock_ends_by_ours() {
    let refusal = failed(ErrorKind::Invalid, "InvalidParameter", 400);
    let next = stored(&at_rest(), &answered(ordinary(0), refusal));
    let far = next.with(|o| o.record.next_attempt_time = Some(whole_seconds(hence(86_400))));
    let Stance::Blocked { until: told, .. } = decide(&far, now()).stance else { panic!("not blocked") };
    assert_eq!(told, Some(hence(900)));
}

#[test]
fn a_late_answer_changes_an_unknown_outcome_and_no_other() {
    let late = |outcome: &str| {
        let pending = ordinary(300).tap(|p| "old".clone_into(&mut p.id));
        let answered = Answered { pending, credentials_version: "a1/s1".to_owned(), answer: accepted() };
        let seen = observed().settled().with(|o| {
            o.record.last_start = Some(last(outcome));
            o.unrecorded = Some(answered);
        });
        stored(&seen, &Outcome::Done).record.last_start.unwrap()
    };
    assert_eq!((late("Unknown").outcome.as_str(), late("Unknown").request_id.as_deref()), ("Accepted", Some("R-2")));
    for outcome in ["Confirmed", "Accepted", "Rejected"] {
        assert_eq!(late(outcome), last(outcome), "{outcome}");
    }
}

#[test]
fn a_look_that_failed_is_no_sight_of_rest() {
    let failed = || Seen::Failed(look_failed(ErrorKind::Server, "InternalError.System", 500));
    let accepted = observed().settled().with(|o| o.record.last_start = Some(last("Accepted")));
    let over = accepted.called(121).turn(Turn::Held(Lane::Look));
    assert_eq!(decide(&over.looked(0, failed()), now()).action, Action::Look(job()), "not NotRunning");
    let expired = unresolved(forced(905), 905).force().turn(Turn::Held(Lane::Look));
    assert_eq!(decide(&expired.looked(1, failed()), now()).action, Action::Look(job()), "not Unknown");
}

#[test]
fn a_start_seen_by_its_time_is_looked_for_until_its_word_shows_it() {
    let confirmed = |called| {
        let seen = observed().settled().called(called).turn(Turn::Held(Lane::Look));
        seen.with(|o| o.record.job_status = Some(STOPPED.to_owned())).looked(called - 2, saw(STOPPED, Some(200)))
    };
    assert_eq!(decide(&confirmed(5), now()).stance, Stance::Confirming(hence(115)), "a word may lag behind the time");
    let over = confirmed(200).looked(0, saw(STOPPED, Some(200)));
    let timed_out = stored(&over, &Outcome::Done);
    assert_eq!(ready(&timed_out), (ConditionStatus::False, Reason::NotRunning));
    assert_eq!(timed_out.record.last_start.unwrap().outcome, "Confirmed", "it did start");
}

#[test]
fn a_refused_start_is_not_confirmed_by_the_start_of_somebody_else() {
    let seen = observed().settled().with(|o| {
        o.record.last_start = Some(last("Rejected"));
        o.record.job_status = Some(STOPPED.to_owned());
    });
    let looked = seen.called(600).looked(0, saw(STOPPED, Some(200)));
    assert_eq!(decide(&looked, now()).action, Action::Nothing);
    assert_eq!(stored(&looked, &Outcome::Done).record.last_start.unwrap().outcome, "Rejected");
}

#[test]
fn the_largest_started_time_of_this_job_is_kept() {
    let told = |second| Some(whole_seconds(Timestamp::from_second(second).unwrap()));
    let known = observed().settled().with(|o| o.record.job_started_time = told(500));
    let after_a_look = |seen: &Observed, second| after(&seen.clone().cloud("Running", Some(second)), &Outcome::Done);
    assert_eq!(after_a_look(&known, 100).status.job_started_time, told(500), "a read may lag");
    assert_eq!(after_a_look(&known, 600).status.job_started_time, told(600));
    let of_another = known.clone().with(|o| o.record.applied.as_mut().unwrap().di_job_id = 5);
    assert_eq!(after_a_look(&of_another, 100).status.job_started_time, told(100), "that was another job");
    let before = known.token("t").with(|o| o.record.applied.as_mut().unwrap().di_job_id = 5);
    let start = start_of(&before.cloud(STOPPED, Some(100))).unwrap();
    assert_eq!(start.baseline_started_time, Some(100), "that was another job");
}

/// Suspended, replaced or withdrawn after its commit: what may have run is neither sent again nor forgotten.
#[test]
fn what_may_have_run_is_not_forgotten_for_an_edit() {
    for (why, edit) in [
        ("suspended", (|o| o.spec.suspend = true) as fn(&mut Observed)),
        ("replaced", |o| o.spec.force_to_rerun = true),
        ("another job", |o| o.spec.di_job_id = 5),
        ("Hold", |o| o.spec.on_unknown = OnUnknown::Hold),
    ] {
        let seen = unresolved(ordinary(40), 40).with(edit).with(|o| o.object.generation += 1);
        let seen = seen.cloud(STOPPED, Some(100));
        assert_eq!(start_of(&seen), None, "{why}");
        let kept = stored(&seen, &Outcome::Done).record.pending_start;
        assert_eq!(kept.map(|p| p.id), Some(ordinary(0).id), "{why}");
    }
}

#[test]
fn an_adoption_forgets_the_start_before() {
    let there = Reading { job: JobRef { di_job_id: 5, ..job() }, at: ago(1), seen: saw("Running", Some(50)) };
    let seen = observed().settled().with(|o| {
        o.spec.di_job_id = 5;
        o.reading = Some(there);
        o.record.last_start = Some(last("Unknown"));
    });
    let adopted = stored(&seen, &Outcome::Done);
    assert_eq!(adopted.record.last_start, None, "it was a start of another job");
    assert_eq!(ready(&adopted), (ConditionStatus::True, Reason::Adopted));
    assert_eq!(condition(&adopted, "Started"), None);
}

#[test]
fn the_expiry_of_a_call_is_kept_past_its_resolution() {
    let confirmed = stored(&unresolved(ordinary(40), 40).cloud("Running", Some(200)), &Outcome::Done);
    assert_eq!(confirmed.record.open_until, Some(whole_seconds(hence(860))), "its first copy may still arrive");
    let closed = unknown(observed().force(), forced(0));
    assert_eq!(closed.record.open_until, Some(whole_seconds(ago(1))));
}

#[test]
fn an_accepted_start_without_a_baseline_is_confirmed_by_nothing() {
    let seen = observed().settled().called(5).with(|o| {
        let before = o.record.last_start.insert(last("Accepted"));
        (before.baseline_started_time, before.baseline_job_status) = (None, None);
    });
    for (word, started) in [("Running", Some(200)), ("Running", None), (STOPPED, Some(200))] {
        let looked = seen.clone().cloud(word, started);
        assert_eq!(decide(&looked, now()), settle(Verdict::Unreadable), "{word} {started:?}: since when?");
        assert_eq!(stored(&looked, &Outcome::Done).record.last_start.unwrap().outcome, "Accepted");
    }
}

/// Shortest schedule: a refusal, an edit, a start without an answer.
#[test]
fn an_unknown_start_does_not_wait_out_the_refusal_before_it() {
    let refusal = failed(ErrorKind::Invalid, "InvalidParameter", 400);
    let refused = stored(&at_rest(), &answered(ordinary(0), refusal));
    assert_eq!(refused.record.next_attempt_time, Some(whole_seconds(hence(900))));
    let edited = refused.with(|o| o.object.generation += 1);
    let open = sent(&edited, start_of(&edited).unwrap(), silence());
    assert_eq!(open.record.next_attempt_time, None);
    let later = open.called(40).cloud(STOPPED, Some(100));
    assert!(start_of(&later).is_some(), "it is resolved after the settle time, not after 15 minutes");
}

#[test]
fn a_revert_closes_the_matter_even_where_it_sets_something() {
    let edited = observed().failover(10).settled().with(|o| o.object.generation = 4);
    let edited = edited.failover(20).start_time(1_671_516_776);
    let record = with_offset(0, 1_671_516_776).tap(|p| {
        "SpecChange".clone_into(&mut p.trigger);
        p.inputs = inputs_of(&edited.spec);
        p.realtime_start_settings.clone_from(&p.inputs.realtime_start_settings);
    });
    let seen = unknown(edited, record);
    let reverted = seen.with(|o| o.object.generation = 5).failover(10);
    let reverted = reverted.with(|o| o.spec.realtime_start_settings.as_mut().unwrap().start_time = None);
    assert_eq!(decide(&reverted, now()).action, Action::Tidy, "the interval is what it was before that start");
    assert!(!applied(&stored(&reverted, &Outcome::Done)).uncertain);
}

#[test]
fn a_start_closed_as_unknown_keeps_what_was_said_of_it() {
    let open = sent(&at_rest().force(), forced(0), server());
    let over = |o: &mut Observed| {
        o.record.pending_start.as_mut().unwrap().signed_time = whole_seconds(ago(901));
        o.call_at = Some(ago(901));
    };
    let closed = stored(&open.with(over).looked(0, saw(STOPPED, Some(100))), &Outcome::Done);
    assert_eq!(closed.record.last_start.as_ref().unwrap().outcome, "Unknown");
    assert_eq!(closed.record.last_error.unwrap().code.as_deref(), Some("InternalError.System"));
}

#[test]
fn a_rerun_without_an_answer_is_sent_again_by_who_leads_now() {
    let record = ordinary(40).tap(|p| {
        (p.trigger, p.rerun_tokens) = ("Rerun".to_owned(), vec!["t".to_owned()]);
        (p.holder, p.lease_transitions) = ("before".to_owned(), 3);
    });
    let seen = unresolved(record, 40).token("t").cloud(STOPPED, Some(100));
    let again = start_of(&seen.with(|o| (o.holder, o.lease_transitions) = ("now".to_owned(), 4))).unwrap();
    assert_eq!((again.attempt, again.holder.as_str(), again.lease_transitions), (2, "now", 4));
}

fn allows(projects: &[i64]) -> impl FnOnce(&mut Observed) + '_ {
    move |o| {
        let Account::Found { projects: allowed, .. } = &mut o.account else { return };
        *allowed = projects.to_vec();
    }
}

#[test]
fn an_unlisted_project_is_refused() {
    let blocked = |why: &str, until| {
        let why = format!(
            "job 11743 {why}, and DataWorksAccount \"prod\" allows project 1, 2 only: correct diJobId, or the account's allowedProjects"
        );
        Stance::Blocked { problem: Problem::ProjectNotAllowed(why), stalled: true, until }
    };
    assert!(start_of(&observed().with(allows(&[1, 10_000])).cloud(STOPPED, None)).is_some());
    for word in [STOPPED, "Running"] {
        let plan = decide(&observed().with(allows(&[1, 2])).cloud(word, None), now());
        assert_eq!(plan, rest(blocked("is in project 10000", None)), "{word}: neither started nor adopted");
    }
    let hidden = dijob_operator::plan::observed::View { word: STOPPED.to_owned(), ..Default::default() };
    let plan = decide(&observed().with(allows(&[1, 2])).looked(1, Seen::Job(hidden)), now());
    assert_eq!(plan, rest(blocked("does not show its project", None)));
    let denied = |seconds| {
        let error = look_failed(ErrorKind::Denied, "Forbidden.RAM", 403);
        decide(&observed().with(allows(&[1, 2])).looked(seconds, Seen::Refused(error)), now())
    };
    assert_eq!(denied(1), until(blocked("cannot be read", Some(hence(899))), hence(899)));
    assert_eq!(denied(900).action, Action::TakeTurn(Lane::Look), "it is asked for again");
    let many: Vec<i64> = (1..=6).collect();
    let Stance::Blocked { problem, .. } = decide(&observed().with(allows(&many)).cloud(STOPPED, None), now()).stance
    else {
        panic!("not refused");
    };
    assert!(problem.face().message.contains("allows project 1, 2, 3, 4, 5, … only"), "{}", problem.face().message);
}

#[test]
fn a_start_whose_project_is_no_longer_allowed_is_not_sent_again() {
    let open = |projects| unresolved(ordinary(100), 40).with(allows(projects)).cloud(STOPPED, Some(100));
    assert!(start_of(&open(&[10_000])).is_some());
    assert_eq!(start_of(&open(&[1])), None);
    let closed = unresolved(ordinary(1000), 100).with(allows(&[1])).cloud(STOPPED, Some(100));
    assert_eq!(decide(&closed, now()).action, Action::Settle(Verdict::Unknown));
}
