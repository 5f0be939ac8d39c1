//! The driver of one pass.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use super::error::Error;
use super::execute::execute;
use super::invalid;
use super::memory::Facts;
use super::observe::{Subject, observe, refresh};
use super::queue::ObjectKey;
use super::record::write_status;
use crate::api::DataIntegrationJob;
use crate::dataworks::Ran;
use crate::plan::backoff::delay;
use crate::plan::notice::notices;
use crate::plan::observed::{Answer, after};
use crate::plan::problem::Problem;
use crate::plan::trigger::Trigger;
use crate::plan::{Action, Next, Observed, Outcome, Plan, Stance, Verdict, Wait, decide, next_status};
use crate::telemetry::{self, Ended, StartOutcome, StatusWrite};

/// Actions of one object in a row, before others have their turn: look, turn, start, and some to spare.
const ACTIONS: usize = 8;

/// The Lease is renewed about this often.
const NOT_LEADING: Duration = Duration::from_secs(1);

/// After a conflict: long enough for the other writer's event to arrive.
const CONFLICT: Duration = Duration::from_millis(100);
/// A pass that takes longer is logged; it is never cut, since it may be between a call and its record.
const SLOW_PASS: Duration = Duration::from_secs(60);
/// With an old CRD nothing can be done until an admin applies the new one.
const OLD_CRD: Duration = Duration::from_secs(30);

/// When the object is passed again, apart from changes that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing to wait for but a change.
    OnChange,
    /// At that time.
    At(Timestamp),
    /// At once.
    Again,
}

/// What every log line of a pass names. The pass fills in `uid` and `generation` when it knows them.
pub(super) fn span_of(key: &ObjectKey) -> tracing::Span {
    tracing::info_span!(
        "pass",
        namespace = key.namespace,
        name = key.name,
        uid = tracing::field::Empty,
        generation = tracing::field::Empty
    )
}

/// One pass in its task: what it needs next, as a monotonic time.
pub async fn one(ctx: Arc<Context>, key: ObjectKey, problem: Option<String>) -> (ObjectKey, Option<Duration>) {
    let began = ctx.clock.elapsed();
    if let Some(problem) = problem {
        if let Err(error) = invalid::tell::<DataIntegrationJob>(&ctx, &key, &problem).await {
            tracing::warn!(%error, "cannot tell that an object is invalid");
        }
        return (key, Some(ctx.clock.elapsed() + invalid::AGAIN));
    }
    let Some(uid) = ctx.objects.uid(&key) else { return (key, None) };
    tracing::Span::current().record("uid", &uid);
    let result = Box::pin(pass(&ctx, &key, &uid)).await;
    ctx.metrics.pass(ended(&result));
    let now = ctx.clock.elapsed();
    if now.saturating_sub(began) > SLOW_PASS {
        tracing::warn!(seconds = now.saturating_sub(began).as_secs(), "a pass took long");
    }
    let failures = |change: fn(i32) -> i32| {
        ctx.memory.update(&uid, |facts| {
            facts.failures = change(facts.failures);
            facts.failures
        })
    };
    let next = match result {
        Ok(requeue) => {
            failures(|_| 0);
            match requeue {
                Requeue::OnChange => None,
                Requeue::Again => Some(now),
                Requeue::At(at) => {
                    let wait = at.duration_since(ctx.clock.now());
                    Some(now + Duration::try_from(wait).unwrap_or_default())
                }
            }
        }
        Err(error) if error.is_conflict() => Some(now + CONFLICT),
        Err(error) if error.is_not_found() => None,
        Err(error @ Error::OldCrd(_)) => {
            tracing::error!(%error, "not ready");
            Some(now + OLD_CRD)
        }
        Err(error) => {
            let wait = delay(failures(|n| n.saturating_add(1)), ctx.clock.jitter());
            tracing::warn!(%error, retry_in = ?wait, "a pass failed");
            Some(now + wait)
        }
    };
    if ctx.objects.uid(&key).as_ref() != Some(&uid) {
        ctx.forget(&uid); // it went while it was passed: what the pass asked for since would be kept for ever
    }
    (key, next)
}

/// All that is read, decided, done and recorded for the object of that uid. The only caller of [`execute`].
///
/// # Errors
/// Only if the Kubernetes API could not be read or written; whatever else is wrong is a value, and reaches status.
pub(super) async fn pass(ctx: &Context, key: &ObjectKey, uid: &str) -> Result<Requeue, Error> {
    for action in 0..ACTIONS {
        if action > 0 && ctx.stop.is_cancelled() {
            return Ok(Requeue::OnChange); // what was begun is recorded; nothing new is begun
        }
        let Some(subject) = observe(ctx, key).await? else { return Ok(Requeue::OnChange) };
        if subject.seen.object.uid != uid {
            return Ok(Requeue::Again); // made again under its name: another object, another pass
        }
        if action == 0 {
            tracing::Span::current().record("generation", subject.seen.object.generation);
        }
        ctx.crd.check(ctx, key).await?;
        let held = |facts: &mut Facts| facts.held(ctx.clock.elapsed());
        if let Some(wait) = ctx.memory.update(uid, held) {
            return Ok(Requeue::At(after(ctx.clock.now(), wait)));
        }
        let plan = decide(&subject.seen, ctx.clock.now());
        if plan.stance == Stance::Foreign {
            tracing::warn!("status holds the record of a newer operator: the object is left alone");
            return Ok(Requeue::OnChange);
        }
        tracing::debug!(action = ?plan.action, stance = ?plan.stance, "decided");
        let outward = matches!(plan.action, Action::TakeTurn(_) | Action::Look(_) | Action::Start(_));
        if outward && ctx.stop.is_cancelled() {
            return Ok(Requeue::OnChange);
        }
        if outward && !ctx.role.borrow().outlasts(ctx.clock.elapsed(), ctx.time_to_send) {
            // Before the intent, not only after it: a leader about to be deposed leaves no record for the next one.
            return Ok(Requeue::At(after(ctx.clock.now(), NOT_LEADING)));
        }
        let (next, told_at) = step(ctx, subject, plan).await?;
        match (&next.plan.action, next.plan.wait, told_at) {
            (_, Wait::Until(at), Some(told_at)) => return Ok(Requeue::At(at.min(told_at))),
            (_, _, Some(at)) | (Action::Nothing, Wait::Until(at), None) => return Ok(Requeue::At(at)),
            (Action::Nothing, Wait::OnChange | Wait::OnTurn, None) => return Ok(Requeue::OnChange),
            (_, _, _) => {} // more to do
        }
    }
    Ok(Requeue::Again)
}

/// One action, and its record; and when what is not told yet may be told.
async fn step(ctx: &Context, mut subject: Subject, plan: Plan) -> Result<(Next, Option<Timestamp>), Error> {
    let uid = subject.seen.object.uid.clone();
    let (outcome, committed) = execute(ctx, &subject, &plan).await?;
    if let Some(job) = committed {
        subject.job = job;
    }
    subject.seen = refresh(ctx, &subject);
    let next = next_status(&subject.seen, &plan, &outcome, ctx.clock.now());
    ctx.turns.keep_only(&uid, next.plan.lane);
    let at_rest = matches!(next.plan.action, Action::Nothing);
    // A short wait for a turn is not worth a write; one that a person should know of is.
    let short_wait = next.plan.wait == Wait::OnTurn && !is_told(&next);
    // What a look showed may call for more than the record does: unwritten, the same record would be decided on for ever.
    let moves_on = match plan.action {
        Action::Nothing => !at_rest,
        Action::TakeTurn(_) => !at_rest && next.plan.lane != plan.lane,
        Action::Look(_) | Action::Start(_) | Action::Adopt | Action::Tidy | Action::Settle(_) => false,
    };
    let of_an_attempt = next.must_write && plan.action != Action::Tidy;
    let backs_off = next.status.attempts > subject.seen.record.attempts;
    let cannot_wait = of_an_attempt || moves_on;
    if cannot_wait || backs_off || next.must_write || (at_rest && !short_wait) {
        let now = ctx.clock.elapsed();
        let wait = ctx.memory.update(&uid, |facts| match (cannot_wait, backs_off) {
            (true, _) => Duration::ZERO,
            (false, true) => facts.until_backed_off(now),
            (false, false) => facts.until_told(now),
        });
        if !wait.is_zero() {
            // What a look found is still in memory, and a tidied spec is compared however late; a backoff is kept here.
            let backoff = next.status.next_attempt_time.as_ref().map(|at| at.0.duration_since(ctx.clock.now()));
            let backoff = backoff.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default();
            let wait = if backs_off { wait.max(backoff) } else { wait };
            ctx.memory.update(&uid, |facts| facts.held_until = backs_off.then_some(now + wait));
            return Ok((next, Some(after(ctx.clock.now(), wait))));
        }
        let written = write_status(ctx, &subject.key, &subject.job, &next.status, StatusWrite::Record).await?;
        ctx.memory.update(&uid, |facts| {
            facts.unrecorded = None;
            if written.is_some() {
                facts.never_sent.clear(); // an intent under an older version can no longer be applied
                if !of_an_attempt {
                    facts.tell(now);
                }
            }
        });
        for notice in notices(&subject.seen, &plan.action, &next.status) {
            ctx.events.send(&*subject.job, notice);
        }
        count(ctx, &subject.seen, &plan, &outcome);
    }
    Ok((next, None))
}

fn is_told(next: &Next) -> bool {
    next.status.conditions.iter().any(|c| c.type_ == crate::api::condition::ConditionType::Throttled.as_str())
}

fn count(ctx: &Context, seen: &Observed, plan: &Plan, outcome: &Outcome) {
    let pending = seen.record.pending_start.as_ref().map(|p| &p.trigger);
    let last = seen.record.last_start.as_ref().map(|l| &l.trigger);
    let (trigger, became) = match (outcome, &plan.action) {
        (Outcome::Answered(answered), _) | (_, Action::Settle(Verdict::Answered(answered))) => {
            (Some(&answered.pending.trigger), answer(&answered.answer))
        }
        (Outcome::NotSent, Action::Start(pending)) => (Some(&pending.trigger), StartOutcome::NotSent),
        (_, Action::Settle(Verdict::Confirmed)) => (pending.or(last), StartOutcome::Confirmed),
        (_, _) => return,
    };
    let trigger = match trigger.and_then(|word| Trigger::of(word)) {
        Some(Trigger::Rerun) | None => telemetry::Trigger::Rerun,
        Some(Trigger::FirstApply) => telemetry::Trigger::FirstApply,
        Some(Trigger::SpecChange) => telemetry::Trigger::SpecChange,
    };
    ctx.metrics.start(trigger, became);
}

fn answer(answer: &Answer) -> StartOutcome {
    match answer {
        Answer::Accepted { .. } => StartOutcome::Accepted,
        Answer::Failed(error) => match error.ran() {
            Ran::May => StartOutcome::Unknown,
            Ran::DidNot if Problem::of(error).needs_a_person() => StartOutcome::Rejected,
            Ran::DidNot => StartOutcome::NotSent,
        },
    }
}

/// The result of a pass, as a metric.
fn ended(result: &Result<Requeue, Error>) -> Ended {
    match result {
        Ok(_) => Ended::Ok,
        Err(error) if error.is_conflict() => Ended::Conflict,
        Err(_) => Ended::Error,
    }
}
