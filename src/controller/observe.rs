//! Object, account, Secret and memory into one [`Observed`]. No cloud call.

use std::sync::Arc;

use kube::ResourceExt as _;

use super::Context;
use super::credentials::{AccountKey, KeyView};
use super::error::Error;
use super::memory::Facts;
use super::queue::ObjectKey;
use super::turns::{BudgetKey, Party};
use crate::api::{
    AccountQuota, DataIntegrationJob, DataWorksAccount, DataWorksAccountSpec, DataworksVersion, Edition, JobStatus,
    Network, RERUN_ANNOTATION, RERUN_FORCE_ANNOTATION, Signature,
};
use crate::dataworks::{AccessKey, Endpoint, Scheme, Service, Version};
use crate::lease::Role;
use crate::plan::Observed;
use crate::plan::observed::{Account, Annotations, Key, Object};
use crate::quota::Limits;

/// What a pass works on: the object as it is held here, and what a call to the cloud needs.
#[derive(Debug)]
pub struct Subject {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The object that the decision is made on.
    pub job: Arc<DataIntegrationJob>,
    /// All that the decision looks at.
    pub seen: Observed,
    /// How to call the cloud, if account and key allow it.
    pub access: Option<Access>,
}

/// How to call the cloud.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where, and how.
    pub service: Service,
    /// As whom.
    pub key: AccessKey,
    /// On whose budget.
    pub budget: BudgetKey,
    /// Whose credentials the key came from.
    pub account: Arc<DataWorksAccount>,
}

/// Observes one object. `None`: it is not known here (any more), it cannot be read, or its account's key is being asked for.
pub async fn observe(ctx: &Context, key: &ObjectKey) -> Result<Option<Subject>, Error> {
    let Some(job) = ctx.objects.job(key) else { return Ok(None) };
    let Some(uid) = job.uid() else { return Ok(None) };
    let account = ctx.objects.account(&key.namespace, &job.spec.account_ref.name);
    let (view, service) = usable(ctx, account.as_ref());
    let (key_view, access) = match (&account, service) {
        (Some(Ok(account)), Some(service)) => match key_of(ctx, account, service).await? {
            Some(found) => found,
            None if is_last_word(ctx, &uid) => (Key::Missing("a key is being asked for".to_owned()), None),
            None => return Ok(None),
        },
        (_, _) => (Key::Missing(String::new()), None),
    };
    let missing = !matches!((&view, &key_view), (Account::Found { .. }, Key::Ready { .. }));
    let facts = remember(ctx, &uid, &job, missing);
    let mut record = job.status.clone().unwrap_or_default();
    let conditions = std::mem::take(&mut record.conditions);
    if record.uid.as_ref().is_some_and(|of| *of != uid) {
        record = JobStatus::default(); // a copy of another object's status is no history
    }
    let budget = access.as_ref().map(|a| &a.budget);
    let (turn, hold) = ctx.turns.standing(budget, &uid);
    let turn_at = ctx.turns.expected(budget, &uid);
    let (holder, lease_transitions) = match &*ctx.role.borrow() {
        Role::Leader { holder, transitions, .. } => (holder.clone(), *transitions),
        Role::Follower | Role::Lost => (String::new(), 0),
    };
    let cloud_offset = access.as_ref().map(|a| ctx.memory.offset(a.service.endpoint.host())).unwrap_or_default();
    let never_sent = record.pending_start.as_ref().is_some_and(|p| p.attempt <= 1 && facts.never_sent.contains(&p.id));
    let mut seen = Observed {
        object: Object {
            generation: job.metadata.generation.unwrap_or_default(),
            deleting: job.metadata.deletion_timestamp.is_some(),
            uid,
        },
        spec: job.spec.clone(),
        annotations: annotations_of(&job),
        record,
        conditions,
        account: view,
        key: key_view,
        missing_since: facts.missing_since,
        reading: facts.reading,
        call_at: facts.call.at,
        unrecorded: facts.unrecorded,
        never_sent,
        turn,
        turn_at,
        hold,
        cloud_offset,
        jitter: ctx.clock.jitter(),
        fresh_nonce: ctx.clock.nonce(),
        holder,
        lease_transitions,
        settings: ctx.settings,
    };
    drop_foreign_look(ctx, &mut seen);
    tell_account(ctx, key, &job, &seen);
    Ok(Some(Subject { key: key.clone(), job, seen, access }))
}

fn annotations_of(job: &DataIntegrationJob) -> Annotations {
    let annotation = |name: &str| job.annotations().get(name).cloned();
    Annotations { rerun: annotation(RERUN_ANNOTATION), force: annotation(RERUN_FORCE_ANNOTATION) }
}

/// The account that the job names.
pub(super) fn account_of(key: &ObjectKey, job: &DataIntegrationJob) -> ObjectKey {
    ObjectKey { namespace: key.namespace.clone(), name: job.spec.account_ref.name.clone() }
}

/// The account learns of a key that a pass of a job saw first.
fn tell_account(ctx: &Context, key: &ObjectKey, job: &DataIntegrationJob, seen: &Observed) {
    if seen.account != Account::Absent {
        ctx.accounts.saw(&account_of(key, job), &seen.credentials_version());
    }
}

/// What another account or key was shown, or refused, says nothing of this one.
fn drop_foreign_look(ctx: &Context, seen: &mut Observed) {
    let version = seen.credentials_version();
    let same = ctx.memory.update(&seen.object.uid, |facts| {
        let same = facts.credentials_version == version;
        if !same {
            facts.reading = None;
            facts.credentials_version.clone_from(&version);
        }
        same
    });
    if !same {
        seen.reading = None;
    }
}

/// The same object after an action: the process's own memory is read again, nothing else.
pub fn refresh(ctx: &Context, subject: &Subject) -> Observed {
    let uid = &subject.seen.object.uid;
    let facts = ctx.memory.facts(uid);
    let budget = subject.access.as_ref().map(|a| &a.budget);
    let (turn, hold) = ctx.turns.standing(budget, uid);
    let host = subject.access.as_ref().map(|a| a.service.endpoint.host());
    Observed {
        reading: facts.reading,
        call_at: facts.call.at,
        turn,
        turn_at: ctx.turns.expected(budget, uid),
        hold,
        cloud_offset: host.map(|h| ctx.memory.offset(h)).unwrap_or_default(),
        ..subject.seen.clone()
    }
}

fn remember(ctx: &Context, uid: &str, job: &DataIntegrationJob, missing: bool) -> Facts {
    let now = ctx.clock.now();
    ctx.memory.update(uid, |facts| {
        if let Some(status) = &job.status {
            facts.call.meet(status, now);
        }
        facts.missing_since = if missing { facts.missing_since.or(Some(now)) } else { None };
        facts.clone()
    })
}

pub(super) fn usable(
    ctx: &Context,
    account: Option<&Result<Arc<DataWorksAccount>, String>>,
) -> (Account, Option<Service>) {
    let account = match account {
        None => return (Account::Absent, None),
        Some(Err(problem)) => return (Account::Invalid(format!("this operator cannot read it ({problem})")), None),
        Some(Ok(account)) => account,
    };
    let spec = &account.spec;
    let endpoint = match (&spec.region_id, &spec.endpoint) {
        (Some(region), _) => Endpoint::of_region(region, spec.network == Network::Vpc),
        (None, Some(url)) => Endpoint::parse(url, &ctx.hosts),
        (None, None) => return (Account::Invalid("it has neither regionId nor endpoint".to_owned()), None),
    };
    match endpoint {
        Ok(endpoint) => {
            let uid: String = account.uid().unwrap_or_default().chars().take(8).collect();
            let version = format!("{uid}.{}", account.metadata.generation.unwrap_or_default());
            let service = service(spec, endpoint);
            let (region, how) = (service.endpoint.identity(), service.to_string());
            let projects = spec.allowed_projects.clone();
            (Account::Found { region, version, service: how, projects }, Some(service))
        }
        Err(problem) => (Account::Invalid(problem.to_string()), None),
    }
}

fn service(spec: &DataWorksAccountSpec, endpoint: Endpoint) -> Service {
    let scheme = match spec.signature {
        Signature::HmacSha1 => Scheme::Rpc,
        Signature::Acs3HmacSha256 => Scheme::Acs3,
    };
    let version = match spec.dataworks_version {
        DataworksVersion::V2020 => Version::V2020,
        DataworksVersion::V2024 => Version::V2024,
    };
    Service { endpoint, version, scheme }
}

/// The end of this process is no time to wait for a key: what it alone knows of a start is recorded without one.
fn is_last_word(ctx: &Context, uid: &str) -> bool {
    ctx.stop.is_cancelled() && ctx.memory.facts(uid).is_open()
}

/// `None`: the key is being asked for.
pub(super) async fn key_of(
    ctx: &Context,
    account: &Arc<DataWorksAccount>,
    service: Service,
) -> Result<Option<(Key, Option<Access>)>, Error> {
    Ok(match ctx.credentials.key(account, &service.endpoint).await? {
        KeyView::Missing(why) => Some((Key::Missing(why), None)),
        KeyView::Refused(error) => Some((Key::Refused(error), None)),
        KeyView::Pending => None,
        KeyView::Ready(AccountKey { key, version, owner }) => {
            let budget = budget_of(&service, owner);
            let party = Party::of(account, limits(account));
            ctx.turns.state(&budget, &party, || ctx.objects.account_uid(&party.key).as_ref() == Some(&party.uid));
            let id = key.id.clone();
            Some((Key::Ready { id, version }, Some(Access { service, key, budget, account: account.clone() })))
        }
    })
}

/// The cloud counts over all hosts of a region.
fn budget_of(service: &Service, owner: String) -> BudgetKey {
    BudgetKey { place: service.endpoint.identity(), owner }
}

/// What the edition allows, lowered or corrected by `quota`. Source: the quota table of the page "Use OpenAPI".
fn limits(account: &DataWorksAccount) -> Limits {
    let AccountQuota { reads_per_second, writes_per_second, calls_per_day } =
        account.spec.quota.clone().unwrap_or_default();
    let day = calls_per_day.and_then(|n| u32::try_from(n).ok());
    let shared = reads_per_second.into_iter().chain(writes_per_second).min().map_or(5.0, f64::from);
    match account.spec.edition {
        Edition::Basic => Limits::shared(shared, Some(day.unwrap_or(100))),
        Edition::Standard | Edition::Professional => Limits::shared(shared, day),
        Edition::Enterprise => Limits {
            calls_per_day: day,
            ..Limits::split(reads_per_second.map_or(50.0, f64::from), writes_per_second.map_or(20.0, f64::from))
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_region_is_one_budget_over_all_its_hosts() {
        let of = |region, vpc| {
            let endpoint = Endpoint::of_region(region, vpc).unwrap();
            budget_of(&Service { endpoint, version: Version::V2020, scheme: Scheme::Rpc }, "id".to_owned())
        };
        assert_eq!(of("cn-shanghai", false), of("cn-shanghai", true));
        assert_ne!(of("cn-shanghai", false), of("cn-beijing", false));
    }
}
