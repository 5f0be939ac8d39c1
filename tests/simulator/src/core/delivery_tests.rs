//! What arrives, what is carried out and what is answered: three things.

use super::*;

/// The first start under this behaviour: what left, the verdict, the executions.
fn first_start(behaviour: Behaviour) -> (Outgoing, Verdict, usize) {
    let mut cloud = cloud(Switches::default());
    cloud.switches.faults = vec![Fault { calls: Some(1), behaviour, ..Fault::default() }];
    let outgoing = cloud.receive(at(0), start("n", at(0)).request()).outgoing;
    let verdict = cloud.ledger().entries().first().unwrap().verdict.clone();
    (outgoing, verdict, cloud.ledger().executions(JOB).len())
}

#[test]
fn what_is_executed_and_what_is_answered_are_two_things() {
    let internal = || Refusal::of("InternalError.System");
    let refused = || Verdict::Refused { code: "InternalError.System".to_owned(), status: 500 };
    let (outgoing, verdict, executions) = first_start(Behaviour::error(internal()));
    assert!(matches!(outgoing, Outgoing::Reply(reply) if reply.status == 500));
    assert_eq!((verdict, executions), (refused(), 0));
    let (outgoing, verdict, executions) = first_start(Behaviour::executed_error(internal()));
    assert!(matches!(outgoing, Outgoing::Reply(reply) if reply.status == 500));
    assert_eq!((verdict, executions), (refused(), 1));
    let rows = [
        (Behaviour::lost_answer(), Outgoing::Drop, Verdict::Accepted, 1),
        (Behaviour::swallowed(), Outgoing::Drop, Verdict::Accepted, 0),
        (Behaviour::lost_request(), Outgoing::Drop, Verdict::Underway, 0),
        (Behaviour::hang_before(), Outgoing::Hang, Verdict::Accepted, 0),
        (Behaviour::hang_after(), Outgoing::Hang, Verdict::Accepted, 1),
    ];
    for (behaviour, outgoing, verdict, executions) in rows {
        assert_eq!(first_start(behaviour.clone()), (outgoing, verdict, executions), "{behaviour:?}");
    }
    let (outgoing, verdict, executions) = first_start(Behaviour::odd(Oddity::Malformed));
    assert!(
        matches!(outgoing, Outgoing::Reply(reply) if reply.status == 200 && serde_json::from_slice::<Value>(&reply.body).is_err())
    );
    assert_eq!((verdict, executions), (Verdict::Accepted, 1));
}

#[test]
fn a_late_execution_burns_the_nonce_at_once_and_starts_the_job_later() {
    let mut cloud = cloud(Switches::default());
    cloud.switches.faults =
        vec![Fault { calls: Some(1), behaviour: Behaviour::late_execution(minutes(5)), ..Fault::default() }];
    assert_eq!(code(&mut cloud, at(0), &start("n", at(0))), "ok");
    assert_eq!(code(&mut cloud, at(60), &start("n", at(0))), "SignatureNonceUsed 400");
    assert_eq!((cloud.ledger().executions(JOB).len(), cloud.next_due()), (0, Some(at(300))));
    cloud.advance(at(9000));
    assert_eq!(cloud.ledger().executions(JOB).iter().map(|execution| execution.at).collect::<Vec<_>>(), [at(300)]);
    assert_eq!(cloud.job(JOB).unwrap().started_time, Some(at(300).as_second()));
}

#[test]
fn an_old_copy_that_arrives_after_its_resend_is_refused_for_its_nonce() {
    let late = |delay| Fault { calls: Some(1), behaviour: Behaviour::late_arrival(delay), ..Fault::default() };
    let mut resent = cloud(Switches::default());
    resent.switches.faults = vec![late(minutes(5))];
    assert_eq!(resent.receive(at(0), start("n", at(0)).request()).outgoing, Outgoing::Drop);
    assert_eq!(code(&mut resent, at(60), &start("n", at(0))), "ok");
    resent.advance(at(9000));
    let verdicts: Vec<_> = resent.ledger().entries().iter().map(|entry| entry.verdict.clone()).collect();
    let used = Verdict::Refused { code: "SignatureNonceUsed".to_owned(), status: 400 };
    assert_eq!(verdicts, [used, Verdict::Accepted]);
    assert_eq!(resent.ledger().executions(JOB).len(), 1);

    let mut alone = cloud(Switches::default());
    alone.switches.faults = vec![late(minutes(5)), late(minutes(16))];
    for nonce in ["a", "b"] {
        alone.receive(at(0), start(nonce, at(0)).request());
    }
    alone.advance(at(9000));
    let expired = Verdict::Refused { code: "InvalidTimeStamp.Expired".to_owned(), status: 400 };
    let verdicts: Vec<_> = alone.ledger().entries().iter().map(|entry| entry.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::Accepted, expired]);
    assert_eq!(alone.ledger().executions(JOB).iter().map(|execution| execution.at).collect::<Vec<_>>(), [at(300)]);
}

#[test]
fn the_network_can_deliver_the_same_bytes_twice() {
    let twice = |nonce_memory| {
        let mut cloud = cloud(Switches { nonce_memory, ..Switches::default() });
        cloud.switches.rules.start_on_running = StartOnRunning::Restart;
        let behaviour = Behaviour::doubled(minutes(2));
        cloud.switches.faults = vec![Fault { calls: Some(1), behaviour, ..Fault::default() }];
        assert_eq!(code(&mut cloud, at(0), &start("n", at(0))), "ok");
        cloud.advance(at(900));
        let copies: Vec<_> = cloud.ledger().starts(JOB).map(|entry| (entry.copy_of, entry.last_byte)).collect();
        assert_eq!(copies, [(None, at(0)), (Some(0), at(120))]);
        assert_eq!(cloud.ledger().entries()[1].answer, Fate::Dropped);
        cloud.ledger().executions(JOB).len()
    };
    assert_eq!((twice(Some(minutes(15))), twice(None)), (1, 2));
}

#[test]
fn a_start_whose_answer_is_lost_is_carried_out_when_the_switch_says() {
    let run = |seed: u64, execution_when_lost, behaviour| {
        let mut cloud = Cloud::new(Switches { execution_when_lost, ..Switches::default() }, seed);
        cloud.put_key("key", Key { account: "main".to_owned(), secret: "secret of key".to_owned() });
        cloud.put_job(at(-60), JOB, &JobPatch::default());
        cloud.switches.faults = vec![Fault { calls: Some(1), behaviour, ..Fault::default() }];
        cloud.receive(at(0), start("n", at(0)).request());
        cloud.advance(at(3600));
        cloud.ledger().executions(JOB).first().map(|execution| execution.at.duration_since(at(0)))
    };
    assert_eq!(run(7, When::Now, Behaviour::lost_answer()), Some(SignedDuration::ZERO));
    assert_eq!(run(7, When::Never, Behaviour::hang_after()), None);
    assert_eq!(run(7, When::Never, Behaviour::default()), Some(SignedDuration::ZERO), "the answer is not lost");
    assert_eq!(run(7, When::Now, Behaviour::swallowed()), None, "the fault itself says when");
    let within = When::Within(minutes(20));
    let delays: Vec<_> = (0..50).map(|seed| run(seed, within, Behaviour::lost_answer()).unwrap()).collect();
    assert!(delays.iter().all(|delay| *delay <= minutes(20)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay < minutes(4)) && delays.iter().any(|delay| *delay > minutes(16)));
    assert_eq!(run(3, within, Behaviour::lost_answer()), Some(delays[3]), "the same seed, the same delay");
}
