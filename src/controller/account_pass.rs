//! One pass of an account: it is told in its own status how it stands.
//!
//! **Guarantees**
//! 1. Status is written whole, under the version that was decided on. After a conflict it is read again.
//! 2. A count of the day is given to the governor only when the API server holds it.
//! 3. No pass of an account calls the cloud.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, ResourceExt as _};

use super::accounts::{JOBS, Passed};
use super::error::{Error, short, whole};
use super::observe::{Access, key_of, usable};
use super::queue::ObjectKey;
use super::record::{apply, put};
use super::{Context, invalid};
use crate::api::condition::is_ours;
use crate::api::{AccountStatus, DataWorksAccount};
use crate::plan::account::{Facts, next_status};
use crate::plan::backoff::delay;
use crate::plan::observed::{Key, credentials_version};
use crate::telemetry::{Ended, StatusWrite};

/// After a conflict.
const CONFLICT: Duration = Duration::from_millis(100);
/// Jobs may wait for what could not be written: once the API server is back, they do not wait much longer.
const LONGEST: Duration = Duration::from_secs(5);
/// With an old CRD nothing can be done until an admin applies the new one.
const OLD_CRD: Duration = Duration::from_secs(30);

/// One pass in its task.
pub(super) async fn one(ctx: Arc<Context>, key: ObjectKey) -> Passed {
    let result = pass(&ctx, &key).await;
    let now = ctx.clock.elapsed();
    let failures = |change: fn(i32) -> i32| {
        let all = ctx.accounts.update(&key, |known| {
            known.failures = change(known.failures);
            known.failures
        });
        all.unwrap_or(1)
    };
    let (next, wakes_jobs) = match result {
        Ok((next, wakes_jobs)) => {
            failures(|_| 0);
            (next, wakes_jobs)
        }
        Err(error) if error.is_conflict() => (Some(now + CONFLICT), false),
        Err(error) if error.is_not_found() => (None, false),
        Err(error @ Error::OldCrd(_)) => {
            tracing::error!(%error, "not ready");
            (Some(now + OLD_CRD), false)
        }
        Err(error) => {
            let wait = delay(failures(|n| n.saturating_add(1)), ctx.clock.jitter()).min(LONGEST);
            tracing::warn!(%error, retry_in = ?wait, "a pass of an account failed");
            (Some(now + wait), false)
        }
    };
    Passed { key, next, wakes_jobs }
}

/// Reads what there is to know, and tells it. Gives when to pass again, and whether its jobs are to be passed.
async fn pass(ctx: &Context, key: &ObjectKey) -> Result<(Option<Duration>, bool), Error> {
    let account = match ctx.objects.account(&key.namespace, &key.name) {
        None => return Ok((None, false)),
        Some(Err(problem)) => {
            invalid::tell::<DataWorksAccount>(ctx, key, &problem).await?;
            return Ok((Some(ctx.clock.elapsed() + invalid::AGAIN), false));
        }
        Some(Ok(account)) => account,
    };
    ctx.crd.check_account(ctx, key).await?;
    let Some((facts, access)) = facts(ctx, key, &account).await? else {
        return Ok((None, false)); // its key is being asked for: the end of that wakes it
    };
    let uid = account.uid().unwrap_or_default();
    let block = access.as_ref().and_then(|access| Some((&access.budget, ctx.turns.block(&access.budget, &uid)?)));
    let facts = Facts { block: block.map(|(_, block)| block), ..facts };
    let before = account.status.clone().unwrap_or_default();
    let now = ctx.clock.now();
    let next = next_status(&before, &facts, now);
    let is_news = next.status != ours(&before);
    let written = if is_news { write(ctx, key, &account, &next.status).await } else { Ok(()) };
    if let Some((budget, _)) = block {
        // A count that status holds already is another's, or that of a write whose answer was lost.
        ctx.turns.block_ended(budget, &uid, is_news && written.is_ok());
    }
    if is_news {
        written?;
        ctx.accounts.update(key, |known| known.written = Some(ctx.clock.elapsed()));
        if let Some(notice) = next.notice {
            ctx.events.send(&*account, notice);
        }
    }
    let version = credentials_version(&facts.account, &facts.key);
    let passed = ctx.accounts.update(key, |known| known.passed.replace(version.clone())).flatten();
    let wakes_jobs = passed.is_some_and(|passed| passed != version);
    let wait = |at: Timestamp| ctx.clock.elapsed() + Duration::try_from(at.duration_since(now)).unwrap_or_default();
    // What was not written is looked at anew: nobody else would ask for the next block.
    let unwritten = (block.is_some() && !is_news).then(|| ctx.clock.elapsed() + CONFLICT);
    Ok((unwritten.or(next.again.map(wait)), wakes_jobs))
}

async fn facts(
    ctx: &Context,
    key: &ObjectKey,
    account: &Arc<DataWorksAccount>,
) -> Result<Option<(Facts, Option<Access>)>, Error> {
    let (view, service) = usable(ctx, Some(&Ok(account.clone())));
    let (key_view, access) = match service {
        Some(service) => match key_of(ctx, account, service).await? {
            Some(found) => found,
            None => return Ok(None),
        },
        None => (Key::Missing(String::new()), None),
    };
    let now = ctx.clock.now();
    let version = credentials_version(&view, &key_view);
    let missing = matches!(key_view, Key::Missing(_));
    if missing {
        // Who creates account, Secret and job in this order does not wait for what was read before the Secret was there.
        ctx.credentials.read_again(account);
    }
    let known = ctx.accounts.update(key, |known| {
        known.meets(&version);
        known.missing_since = if missing { known.missing_since.or(Some(now)) } else { None };
        known.clone()
    });
    let known = known.unwrap_or_default(); // it went meanwhile
    let elapsed = ctx.clock.elapsed();
    let facts = Facts {
        generation: account.metadata.generation.unwrap_or_default(),
        account: view,
        key: key_view,
        missing_since: known.missing_since,
        grace: ctx.settings.grace,
        answers: known.answers,
        usage: access.as_ref().and_then(|access| ctx.turns.usage(&access.budget)),
        block: None,
        jobs: ctx.objects.count_jobs_of(key),
        jobs_may_be_told: known.written.is_none_or(|at| elapsed.saturating_sub(at) >= JOBS),
    };
    Ok(Some((facts, access)))
}

/// Without the conditions of others.
fn ours(status: &AccountStatus) -> AccountStatus {
    let mut status = status.clone();
    status.conditions.retain(is_ours);
    status
}

async fn write(
    ctx: &Context,
    key: &ObjectKey,
    account: &Arc<DataWorksAccount>,
    next: &AccountStatus,
) -> Result<(), Error> {
    let api: Api<DataWorksAccount> = Api::namespaced(ctx.client.clone(), &key.namespace);
    // As with jobs: an apply takes away only what it alone put there.
    let written = if account.managed_fields().is_empty() {
        whole(apply(&api, account, next)).await
    } else {
        let mut next = next.clone();
        let stored = account.status.iter().flat_map(|status| &status.conditions);
        next.conditions.extend(stored.filter(|c| !is_ours(c)).cloned());
        whole(put(&api, account, &next)).await
    };
    let written = written.map_err(Error::kube("cannot write the status of an account"));
    let ended = match &written {
        Ok(_) => Ended::Ok,
        Err(error) if error.is_conflict() => Ended::Conflict,
        Err(_) => Ended::Error,
    };
    ctx.metrics.status_write(StatusWrite::Account, ended);
    match written {
        Ok(account) => ctx.objects.put_written_account(account),
        Err(error) => {
            read_again(&api, ctx, account).await;
            return Err(error);
        }
    }
    Ok(())
}

/// After a write that failed, the view here may be old. One that is gone is told by the watch.
async fn read_again(api: &Api<DataWorksAccount>, ctx: &Context, before: &Arc<DataWorksAccount>) {
    match whole(api.get_opt(&before.name_any())).await {
        Ok(Some(account)) => ctx.objects.believe_account(account, before),
        Ok(None) => {}
        Err(error) => tracing::debug!(error = short(&error), "cannot read the account again"),
    }
}
