//! What a pass does, row by row. Every status made on the way keeps the status laws.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "decide/conditions.rs"]
mod conditions;
#[path = "decide/confirm.rs"]
mod confirm;
#[path = "decide/edges.rs"]
mod edges;
#[path = "decide/faults.rs"]
mod faults;
#[path = "decide/kept.rs"]
mod kept;
#[path = "decide/lawful.rs"]
mod lawful;
#[path = "decide/laws.rs"]
mod laws;
#[path = "decide/record.rs"]
mod record;
#[path = "decide/resolve.rs"]
mod resolve;
#[path = "decide/rules.rs"]
mod rules;
#[path = "decide/starts.rs"]
mod starts;
#[path = "decide/told.rs"]
mod told;
#[path = "support"]
mod support {
    pub mod arbitrary;
    pub mod plan;
    pub mod schema;
}

use dijob_operator::api::condition::{ConditionStatus, Reason, reason_of, whole_seconds};
use dijob_operator::api::{JobStatus, LastError, PendingStart};
use dijob_operator::dataworks::error::{Error, ErrorKind, Operation};
use dijob_operator::plan::observed::{Account, Answer, Answered, Hold, Key, Lane, Reading, Seen, Turn};
use dijob_operator::plan::problem::Problem;
use dijob_operator::plan::trigger::Trigger;
use dijob_operator::plan::{
    Action, Next, Observed, Outcome, Plan, Rest, Stance, Verdict, Wait, decide, next_status, notice,
};
use jiff::Timestamp;
use support::plan::{
    Build as _, NEWER, SERVICE, ago, forced, hence, job, last, look_failed, now, observed, ordinary, refused, saw,
    status_laws, with_offset,
};

const STOPPED: &str = "Stopped";

struct Row {
    why: &'static str,
    seen: Observed,
    plan: Plan,
}

fn check(rows: Vec<Row>) {
    for Row { why, seen, plan } in rows {
        let decided = decide(&seen, now());
        assert_eq!(decided, plan, "{why}");
        if matches!(plan.action, Action::Nothing | Action::Adopt | Action::Tidy | Action::Settle(_)) {
            let _ = after(&seen, &Outcome::Done);
        }
    }
}

/// The status after `outcome` of what is decided, which keeps the laws.
fn after(seen: &Observed, outcome: &Outcome) -> Next {
    let next = next_status(seen, &decide(seen, now()), outcome, now());
    let untouched = matches!(next.plan.stance, Stance::Foreign | Stance::Leaving);
    if !untouched {
        status_laws(&next.status).unwrap_or_else(|law| panic!("{law}: {:#?}", next.status));
    }
    next
}

/// `seen` with the status after `outcome` stored.
fn stored(seen: &Observed, outcome: &Outcome) -> Observed {
    let mut record = after(seen, outcome).status;
    seen.clone().with(|o| {
        o.conditions = std::mem::take(&mut record.conditions);
        o.record = record;
        o.unrecorded = None;
        o.never_sent = false;
    })
}

fn answered(pending: PendingStart, answer: Answer) -> Outcome {
    Outcome::Answered(Box::new(Answered { pending, credentials_version: "a1/s1".to_owned(), answer }))
}

fn failed(kind: ErrorKind, code: &str, status: u16) -> Answer {
    Answer::Failed(refused(Operation::StartDiJob, kind, code, status))
}

fn silence() -> Answer {
    Answer::Failed(Error::unanswered(Operation::StartDiJob, false, "timed out"))
}

fn accepted() -> Answer {
    Answer::Accepted { request_id: Some("R-2".to_owned()) }
}

/// A failed call of 10 s ago, as status keeps it.
fn last_error(operation: Operation, http_status: i32) -> LastError {
    LastError {
        operation: operation.action().to_owned(),
        code: None,
        message: None,
        request_id: Some("R-9".to_owned()),
        http_status: Some(http_status),
        time: whole_seconds(ago(10)),
        generation: 3,
        rerun_tokens: Vec::new(),
        credentials_version: observed().credentials_version(),
    }
}

fn look(stance: Stance) -> Plan {
    Plan { action: Action::Look(job()), stance, wait: Wait::OnChange, lane: Some(Lane::Look) }
}

fn take(lane: Lane, stance: Stance) -> Plan {
    Plan { action: Action::TakeTurn(lane), stance, wait: Wait::OnTurn, lane: Some(lane) }
}

fn rest(stance: Stance) -> Plan {
    Plan { action: Action::Nothing, stance, wait: Wait::OnChange, lane: None }
}

fn until(stance: Stance, at: Timestamp) -> Plan {
    Plan { wait: Wait::Until(at), ..rest(stance) }
}

fn act(action: Action, stance: Stance) -> Plan {
    Plan { action, stance, wait: Wait::OnChange, lane: None }
}

fn settle(verdict: Verdict) -> Plan {
    act(Action::Settle(verdict), Stance::Leaving)
}

fn send(record: PendingStart, stance: Stance) -> Plan {
    Plan { action: Action::Start(Box::new(record)), stance, wait: Wait::OnChange, lane: Some(Lane::Start) }
}

fn preparing(trigger: Trigger) -> Stance {
    Stance::Preparing(trigger)
}

/// The start that is decided on, if one is.
fn start_of(seen: &Observed) -> Option<PendingStart> {
    match decide(seen, now()).action {
        Action::Start(record) => Some(*record),
        Action::Nothing | Action::TakeTurn(_) | Action::Look(_) | Action::Adopt | Action::Tidy | Action::Settle(_) => {
            None
        }
    }
}

/// A first start, signed now.
fn first() -> PendingStart {
    PendingStart { nonce: observed().fresh_nonce, ..ordinary(0) }
}

/// Turn, look and key at hand: the cloud says that the job is stopped, last started at 100.
fn at_rest() -> Observed {
    observed().cloud(STOPPED, Some(100))
}

/// Status holds `record`, whose call ended `seconds` ago.
fn unresolved(record: PendingStart, seconds: i64) -> Observed {
    observed().called(seconds).pending(record)
}

fn closing_at(signed_ago: i64) -> Stance {
    Stance::Resolving(hence(900 - signed_ago))
}

#[test]
fn every_row_of_the_decision_table() {
    let newer = ordinary(10).tap(|p| p.protocol = 2);
    let late = Answered { pending: ordinary(10), credentials_version: "a1/s1".to_owned(), answer: accepted() };
    check(vec![
        Row {
            why: "a record of a newer protocol is left alone, even with an answer of our own at hand",
            seen: unresolved(newer, 10).with(|o| o.unrecorded = Some(late.clone())),
            plan: rest(Stance::Foreign),
        },
        Row {
            why: "an answer that status does not hold comes before anything else, deletion too",
            seen: unresolved(ordinary(10), 10).with(|o| {
                o.unrecorded = Some(late.clone());
                o.object.deleting = true;
            }),
            plan: settle(Verdict::Answered(Box::new(late))),
        },
        Row {
            why: "an intent that was surely not sent is withdrawn",
            seen: unresolved(ordinary(10), 10).with(|o| o.never_sent = true),
            plan: settle(Verdict::NotSent),
        },
        Row {
            why: "nothing is called for an object that is being deleted",
            seen: at_rest().with(|o| o.object.deleting = true),
            plan: rest(Stance::Leaving),
        },
        Row {
            why: "a sign confirms a start without an answer",
            seen: unresolved(ordinary(40), 40).cloud("Running", Some(200)),
            plan: settle(Verdict::Confirmed),
        },
        Row {
            why: "a forced start is closed as unknown once its signature has expired and a look shows no sign",
            seen: unresolved(forced(901), 890).force().cloud(STOPPED, Some(100)),
            plan: settle(Verdict::Unknown),
        },
        Row {
            why: "an ordinary start without a sign is sent again",
            seen: unresolved(ordinary(40), 40).cloud(STOPPED, Some(100)),
            plan: send(ordinary(40).tap(|p| p.attempt = 2), closing_at(40)),
        },
        Row {
            why: "a start that is due waits for the last one to be confirmed",
            seen: observed().settled().with(|o| o.record.last_start = Some(last("Accepted"))).token("new").called(1),
            plan: until(Stance::Confirming(hence(119)), hence(1)),
        },
        Row {
            why: "a start that is due is held back by suspend, visibly",
            seen: at_rest().suspended(),
            plan: rest(Stance::Suspended(Trigger::FirstApply)),
        },
        Row {
            why: "a start needs a look first, and the look its turn",
            seen: observed(),
            plan: take(Lane::Look, preparing(Trigger::FirstApply)),
        },
        Row {
            why: "a look is made in its turn",
            seen: observed().turn(Turn::Held(Lane::Look)),
            plan: look(preparing(Trigger::FirstApply)),
        },
        Row {
            why: "a job that waits for its turn asks no second time",
            seen: observed().turn(Turn::Waiting { lane: Lane::Look, long: false }),
            plan: Plan { action: Action::Nothing, ..take(Lane::Look, preparing(Trigger::FirstApply)) },
        },
        Row {
            why: "a start waits for a turn of its own",
            seen: at_rest().turn(Turn::Held(Lane::Look)),
            plan: take(Lane::Start, preparing(Trigger::FirstApply)),
        },
        Row {
            why: "a start that is due, with look and turn at hand, is sent",
            seen: at_rest(),
            plan: send(first(), preparing(Trigger::FirstApply)),
        },
        Row {
            why: "nothing is due, and the job runs",
            seen: observed().settled(),
            plan: rest(Stance::Settled(Rest::Running)),
        },
    ]);
}

/// Changes a value in passing.
trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for PendingStart {}
impl Tap for JobStatus {}

fn condition(seen: &Observed, type_: &str) -> Option<(ConditionStatus, Reason)> {
    let found = seen.conditions.iter().find(|c| c.type_ == type_)?;
    Some((found.status, reason_of(&found.reason).unwrap()))
}

fn ready(seen: &Observed) -> (ConditionStatus, Reason) {
    condition(seen, "Ready").unwrap()
}
