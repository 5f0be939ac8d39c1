//! Does the one action of a plan. A failure of the cloud is an outcome, not an error.

use std::sync::Arc;

use super::Context;
use super::error::Error;
use super::observe::{Access, Subject, account_of};
use super::record::write_status;
use crate::api::{DataIntegrationJob, PendingStart};
use crate::dataworks::error::{Error as CloudError, ErrorKind, Operation, Ran};
use crate::dataworks::model::{FailoverSettings, RealtimeStartSettings, StartDiJobRequest};
use crate::dataworks::{Reply, Stamp};
use crate::plan::observed::{Answer, Answered, JobRef, Reading, Seen, View};
use crate::plan::problem::read_is_refused;
use crate::plan::{Action, Outcome, Plan, next_status};
use crate::quota::Lane;
use crate::telemetry::{self, Metrics, StatusWrite};

/// What came of the action, and the object as it is now if the action wrote it.
pub type Done = (Outcome, Option<Arc<DataIntegrationJob>>);

/// One match on the action.
pub async fn execute(ctx: &Context, subject: &Subject, plan: &Plan) -> Result<Done, Error> {
    match &plan.action {
        Action::Nothing | Action::Adopt | Action::Tidy | Action::Settle(_) => Ok((Outcome::Done, None)),
        Action::TakeTurn(lane) => {
            if let Some(access) = &subject.access {
                ctx.turns.ask(&access.budget, &subject.seen.object.uid, &subject.key, *lane);
            }
            Ok((Outcome::Done, None))
        }
        Action::Look(job) => Ok((look(ctx, subject, job).await, None)),
        Action::Start(pending) => start(ctx, subject, plan, pending).await,
    }
}

/// One cloud read.
async fn look(ctx: &Context, subject: &Subject, job: &JobRef) -> Outcome {
    let uid = &subject.seen.object.uid;
    let (Some(access), Some(permit)) = (&subject.access, ctx.turns.take(uid, Lane::Look)) else { return Outcome::Done };
    if !ctx.turns.sent(&permit) {
        ctx.turns.return_unused(permit);
        return Outcome::Done;
    }
    let at = ctx.clock.now();
    let stamp = Stamp { nonce: ctx.clock.nonce(), time: subject.seen.cloud_time(at) };
    let reply = ctx.cloud.get_di_job(&access.service, &access.key, &stamp, job.di_job_id).await;
    ctx.turns.done(uid, permit, reply.result.as_ref().err());
    learn(ctx, subject, access, Operation::GetDiJob, &reply);
    let seen = match reply.result {
        Ok(found) => Seen::Job(View {
            word: found.status.unwrap_or_default(),
            started: found.started_time,
            project: found.project_id,
            name: found.name,
            error: found.error_message.filter(|e| !e.is_empty()),
        }),
        Err(error) => match error.kind {
            ErrorKind::Throttled | ErrorKind::DailyLimit => return Outcome::Done, // its turn comes again
            ErrorKind::NotFound => Seen::NotFound(error),
            _ if read_is_refused(&error) => Seen::Refused(error),
            ErrorKind::Denied
            | ErrorKind::Expired
            | ErrorKind::ClockSkew
            | ErrorKind::NonceUsed
            | ErrorKind::Invalid
            | ErrorKind::Server
            | ErrorKind::CallerUnknown => Seen::Failed(error),
        },
    };
    ctx.memory.update(uid, |facts| facts.reading = Some(Reading { job: job.clone(), at, seen }));
    Outcome::Looked
}

/// (a) The intent, under the version that was decided on; (b) the fence; (c) the call, once; (d) its answer.
async fn start(ctx: &Context, subject: &Subject, plan: &Plan, pending: &PendingStart) -> Result<Done, Error> {
    let uid = &subject.seen.object.uid;
    let (Some(access), Some(permit)) = (&subject.access, ctx.turns.take(uid, Lane::Start)) else {
        return Ok((Outcome::Done, None));
    };
    let intended = Outcome::Intended(Box::new(pending.clone()));
    let next = next_status(&subject.seen, plan, &intended, ctx.clock.now());
    let committed = match write_status(ctx, &subject.key, &subject.job, &next.status, StatusWrite::Intent).await {
        Ok(committed) => committed,
        Err(error) => {
            // The write may have been applied although its answer was lost; nothing leaves in either case.
            ctx.turns.return_unused(permit);
            never_sent(ctx, uid, pending);
            return Err(error);
        }
    };
    if !ctx.role.borrow().outlasts(ctx.clock.elapsed(), ctx.time_to_send) || !ctx.turns.sent(&permit) {
        tracing::warn!(id = pending.id, "the lease ends too soon, or the turn is void: the start is withdrawn");
        ctx.turns.return_unused(permit);
        never_sent(ctx, uid, pending);
        return Ok((Outcome::NotSent, committed));
    }
    let stamp = Stamp { nonce: pending.nonce.clone(), time: pending.signed_time.0 };
    let reply = ctx.cloud.start_di_job(&access.service, &access.key, &stamp, &request(pending)).await;
    ctx.turns.done(uid, permit, reply.result.as_ref().err());
    learn(ctx, subject, access, Operation::StartDiJob, &reply);
    let answer = match reply.result {
        Ok(answer) => Answer::Accepted { request_id: answer.request_id },
        Err(error) => Answer::Failed(error),
    };
    log_start(subject, pending, &answer);
    let credentials_version = subject.seen.credentials_version();
    let answered = Answered { pending: pending.clone(), credentials_version, answer };
    let may_have_run = match &answered.answer {
        Answer::Accepted { .. } => true,
        Answer::Failed(error) => error.ran() == Ran::May,
    };
    let now = ctx.clock.now();
    ctx.memory.update(uid, |facts| {
        facts.unrecorded = Some(answered.clone());
        facts.call.made(pending, may_have_run, now);
    });
    Ok((Outcome::Answered(Box::new(answered)), committed))
}

/// An earlier attempt under the same id may be on its way: then the record says nothing about this one.
fn never_sent(ctx: &Context, uid: &str, pending: &PendingStart) {
    if pending.attempt <= 1 {
        ctx.memory.update(uid, |facts| facts.never_sent.insert(pending.id.clone()));
    }
}

fn request(pending: &PendingStart) -> StartDiJobRequest {
    let settings = pending.realtime_start_settings.as_ref().map(|s| RealtimeStartSettings {
        start_time: s.start_time,
        failover_settings: s
            .failover_settings
            .as_ref()
            .map(|f| FailoverSettings { interval: f.interval, upper_limit: f.upper_limit }),
    });
    StartDiJobRequest {
        di_job_id: pending.di_job_id,
        force_to_rerun: pending.force_to_rerun,
        realtime_start_settings: settings,
    }
}

/// What any answer teaches: the cloud's clock, a key that it refuses, a count.
fn learn<T>(ctx: &Context, subject: &Subject, access: &Access, operation: Operation, reply: &Reply<T>) {
    if let Some(theirs) = reply.server_time {
        ctx.memory.learn_time(access.service.endpoint.host(), theirs, ctx.clock.now());
    }
    let error = reply.result.as_ref().err();
    if let Some(error) = error {
        ctx.credentials.refused(&access.account, &access.key.id, error);
    }
    count_call(&ctx.metrics, operation, error);
    let account = account_of(&subject.key, &subject.job);
    ctx.count_call(&account, counted(operation), error.map_or(telemetry::Answer::Ok, label));
    let version = subject.seen.credentials_version();
    ctx.accounts.learned(&account, &version, operation, error, ctx.clock.now());
}

/// Counts a call of the cloud by what came of it.
pub(super) fn count_call(metrics: &Metrics, operation: Operation, error: Option<&CloudError>) {
    metrics.cloud_call(counted(operation), error.map_or(telemetry::Answer::Ok, label));
}

fn counted(operation: Operation) -> telemetry::Operation {
    match operation {
        Operation::StartDiJob => telemetry::Operation::StartDiJob,
        Operation::GetDiJob => telemetry::Operation::GetDiJob,
        Operation::AssumeRole => telemetry::Operation::AssumeRole,
        Operation::AssumeRoleWithOidc => telemetry::Operation::AssumeRoleWithOidc,
        Operation::GetCallerIdentity => telemetry::Operation::GetCallerIdentity,
        Operation::MachineKey => telemetry::Operation::MachineKey,
    }
}

fn label(error: &CloudError) -> telemetry::Answer {
    match error.kind {
        ErrorKind::Throttled => telemetry::Answer::Throttled,
        ErrorKind::DailyLimit => telemetry::Answer::DailyLimit,
        ErrorKind::Denied => telemetry::Answer::Denied,
        ErrorKind::Expired => telemetry::Answer::Expired,
        ErrorKind::ClockSkew => telemetry::Answer::ClockSkew,
        ErrorKind::NotFound => telemetry::Answer::NotFound,
        ErrorKind::NonceUsed => telemetry::Answer::NonceUsed,
        ErrorKind::Invalid => telemetry::Answer::Invalid,
        ErrorKind::Server if error.never_left() => telemetry::Answer::NeverLeft,
        ErrorKind::Server => telemetry::Answer::Server,
        ErrorKind::CallerUnknown => telemetry::Answer::CallerUnknown,
    }
}

fn log_start(subject: &Subject, pending: &PendingStart, answer: &Answer) {
    let (id, attempt, job) = (&pending.id, pending.attempt, pending.di_job_id);
    let trigger = &pending.trigger;
    let generation = subject.seen.object.generation;
    match answer {
        Answer::Accepted { request_id } => {
            let request_id = request_id.as_deref().unwrap_or_default();
            tracing::info!(id, attempt, job, trigger, generation, request_id, "StartDIJob accepted");
        }
        Answer::Failed(error) => {
            tracing::warn!(id, attempt, job, trigger, generation, %error, "StartDIJob failed");
        }
    }
}
